/* ending.h - how a flow ends, and what is logged then. */
#ifndef STENT_RELAY_ENDING_H
#define STENT_RELAY_ENDING_H

#include "relay/flow.h"
#include "stent/config.h"
#include "stent/log.h"

/* ending.c */
struct ending {
	enum side dead, to;	/* to: the surviving peer, which is notified */
	enum on_dead how;
	bool forced;		/* neither side is dead: see waits_for */
	bool at_rest;		/* ... and the flow is between two messages */
	bool hurried;		/* ... and it no longer takes longer for a peer that reads slowly */
	bool notified;		/* close message and FIN were sent to `to` */
	bool waits_for[2];	/* forced: the side was notified and has not closed yet */
	bool reset[2];		/* how to close the legs at the end */
	struct preface *preface;	/* of a flow that never opened, for its cause; owned; NULL: it did */
	size_t left;		/* bytes not delivered at the last check */
	int64_t progress_us;	/* when that last decreased */
};

void ending_begin(struct ending *e, enum side dead, enum on_dead how);	/* one side is dead */
void ending_begin_forced(struct ending *e, const bool notified[2], bool at_rest);
/*
 * Sends the protocol's close message and a FIN to side s; at rest, a protocol that has none gets the FIN. False: not
 * legal now; it gets a reset instead.
 */
bool ending_notify(struct flow *f, enum side s, bool at_rest);
/* True: all is done, close the legs as e->reset says. */
bool ending_check(struct flow *f, struct ending *e, int64_t now_us);

/* cancel.c */
void cancel_send(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len);
void cancel_free_all(struct relay *r);

/* suspect.c */
void suspect_forget(struct relay *r, const struct flow *f);	/* it is gone from the list of flows */

/* backends.c */
void backend_failed(struct flow *f, size_t backend, enum close_reason reason);	/* at none of its addresses an answer */
void backend_answered(struct flow *f, size_t backend);
void backend_joined(struct flow *f);		/* it is connected to f->backend */
void backend_left(struct flow *f);
const struct endpoint *flow_backend(const struct flow *f);	/* NULL: the settings do not name it any more */

/* listing.c, end_log.c */
void flow_describe(const struct flow *f, struct flow_info *info);
void begin_log(const struct flow *f);
void end_log(const struct flow *f);
enum log_level end_log_level(enum close_reason r);
const char *flow_cause(const struct flow *f);	/* why TLS failed on it, or it was denied, in words; "": the reason says all */

/* refusals.c */
int refusals_init(struct relay *r);	/* 0 or -ENOMEM */
void refusals_free(struct relay *r);	/* logs what was only counted so far */
bool refusal_log(struct flow *f);	/* logs a flow that never opened; false: it was only counted, for a later line */

/* reason.c */
enum close_reason reason_on_side(enum close_reason client_reason, enum side s);
/* t: the socket, for what the kernel still knows about it; NULL: it never connected. */
enum close_reason reason_from_errno(enum side s, int err, const struct transport *t, bool was_stalled);

#endif
