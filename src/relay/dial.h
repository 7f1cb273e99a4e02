/* dial.h - connects the backend. */
#ifndef STENT_RELAY_DIAL_H
#define STENT_RELAY_DIAL_H

#include "relay/flow.h"
#include "relay/verdict.h"

struct preface;

/* preface: what goes on when the backend is connected; owned by the dial, also if this fails. NULL: the relay begins. */
struct verdict dial_start(struct flow *f, struct preface *preface);
bool dial_is_retried(const struct dial *d);	/* the client waits longer than for one round */
struct preface *dial_preface(const struct dial *d);
struct preface *dial_take_preface(struct dial *d);	/* it is the caller's now */
/* Denies the flow after DENIED_AFTER_US: a client that reconnects at once would keep us busy. */
struct verdict dial_deny(struct flow *f);
struct verdict dial_event(struct flow *f, bool may_have_failed);
struct verdict dial_tick(struct flow *f, int64_t now_us, int64_t *again_us);	/* when to call again */
void dial_free(struct dial *d);

#endif
