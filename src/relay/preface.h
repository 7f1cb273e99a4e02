/* preface.h - what comes before the relay: a PROXY header, TLS, and what a protocol says to begin it. */
#ifndef STENT_RELAY_PREFACE_H
#define STENT_RELAY_PREFACE_H

#include "relay/flow.h"
#include "relay/verdict.h"

struct codec;
struct negotiation;
struct preface;

const struct negotiation *preface_negotiation(const struct route *route);	/* how TLS begins */
bool preface_is_needed(const struct route *route);
struct preface *preface_new(const struct flow *f);	/* NULL: out of memory */
void preface_free(struct preface *p);			/* NULL is fine */
/* The preface of a flow that has one now, whatever it waits for; else NULL. */
struct preface *flow_preface(const struct flow *f);

struct verdict preface_start(struct flow *f);
struct verdict preface_event(struct flow *f, enum side s, short what);
struct verdict preface_dialled(struct flow *f);		/* the backend is connected */
struct verdict preface_tick(struct flow *f, int64_t now_us, int64_t *again_us);	/* when to call again */

/* The name that the backend's certificate must have, and SNI: as set, or the host that was dialled. NULL: there is none. */
const char *preface_backend_name(const struct flow *f, char text[ADDRESS_TEXT_MAX]);
/* No backend is dialled before the client has sent its PROXY header, or its first byte. */
bool preface_awaits_client(const struct preface *p);
/* The client has sent at least a byte. */
bool preface_client_spoke(const struct preface *p);
/* Why it failed, in the operator's words; "" if it did not. */
const char *preface_cause(const struct preface *p);

/*
 * The flow ends before the relay began: tells the client why, where the protocol can. True: something was sent to it,
 * which a reset would discard.
 */
bool preface_refuse(struct flow *f, struct preface *p);

/* The relay begins: brings the codec to where the stream is. */
void preface_hand_over(const struct flow *f, const struct preface *p, const struct codec *codec, void *codec_state);

#endif
