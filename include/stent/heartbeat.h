/*
 * heartbeat.h - the engine: when a leg gets a heartbeat, and when its peer is
 * judged dead. Pure: the clock and all that is known of the flow are arguments.
 * Its functions are heartbeat_*; the relay uses them in heartbeats_* (src/relay/heartbeats.c).
 *
 * A leg is due when one of its directions has been idle for its interval; for
 * kinds that the peer does not reply to (oneway, early) only the direction to
 * it counts. A due leg gets a heartbeat if the protocol allows it (the codec
 * knows), the other side is known to be alive, and no bytes to it are unsent.
 */
#ifndef STENT_HEARTBEAT_H
#define STENT_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#define HEARTBEAT_UNREAD_MAX 1000	/* limit of heartbeats without a byte from the peer, where the kernel does not show whether it reads */

/* Why a leg that is due gets no heartbeat. */
enum heartbeat_hold {
	HEARTBEAT_HOLD_NONE,
	HEARTBEAT_HOLD_STATE,	/* none is legal in the protocol's state: the codec knows why */
	HEARTBEAT_HOLD_BUSY,	/* bytes to it are unsent or unacknowledged */
	HEARTBEAT_HOLD_UNREAD,	/* the peer does not read what it was sent */
	HEARTBEAT_HOLD_OTHER,	/* the other side is not known to be alive */
	HEARTBEAT_HOLD_LIMIT,	/* the other side's application has been idle for heartbeat_limit */
	HEARTBEAT_HOLD_REFUSED,	/* this peer refused one: no more on this flow */
	HEARTBEAT_HOLD_ROUTE,	/* peers of other flows of the route did */
	HEARTBEAT_HOLD_TRIAL,	/* other flows of the route try the kind first */
	HEARTBEAT_HOLD_MUTE,	/* the peer never replied, and the protocol has no one-way kind now */
	HEARTBEAT_HOLD_REPLY,	/* waiting for a reply */
	HEARTBEAT_HOLD_MESSAGE,	/* waiting for the end of the message that is being sent to it */
};

/* The heartbeats of one leg. Zeroed, then heartbeat_init(). */
struct heartbeat_leg {
	int64_t last_us;	/* when the last heartbeat went out, or the flow began */
	int64_t timeout_from_us;	/* the reply timeout runs from here; 0: it does not run */
	int64_t oldest_ping_us;	/* when the oldest unreplied ping was sent; 0: all have their reply */
	int64_t trial_us;	/* when the first heartbeat of the kind on trial (not ping) went out */
	uint32_t sent;
	uint32_t pings;		/* of sent, the pings */
	uint32_t replied;
	uint32_t rtt_us, srtt_us, worst_us;	/* round trip of replies: last, smoothed, worst */
	uint16_t unread;	/* heartbeats since the peer's last byte */
	uint16_t misses;	/* replies missed in a row */
	uint8_t hold;		/* enum heartbeat_hold: why none went out when the leg was last due */
	uint8_t accepted;	/* kinds that this peer has accepted; a set of enum heartbeat_kind */
	uint8_t last_kind;	/* that was sent; 0: none yet */
	uint8_t on_trial;	/* a set of kinds: ping, and at most one other */
	uint16_t jitter;	/* of the next one: how much of JITTER_PERCENT its gap is shortened by, 0..1023 of 1024 */
	bool refused;		/* the peer refused a heartbeat: it gets no more */
	bool mute;		/* the peer was pinged and never replied: it is not pinged again */
};

/* What the settings and the codec want of a leg. */
struct heartbeat_policy {
	int64_t interval_us;	/* 0: no heartbeats */
	int64_t timeout_us;	/* for a reply */
	int64_t limit_us;	/* heartbeats stop when the other application has been idle for this long; 0: never */
	unsigned kind;		/* configured kind; 0: auto */
	unsigned preferred;	/* the codec's kind for auto */
	unsigned misses;	/* limit in a row, then the peer is dead; 0: never */
};

struct codec_limits;
/* Narrows it to what the two sides agreed on: heartbeats are as frequent as one expects, and end when the other is taken for dead. */
void heartbeat_limit_policy(struct heartbeat_policy *p, const struct codec_limits *limits);

/* What the relay knows when a leg is due. */
struct heartbeat_facts {
	unsigned legal;		/* kinds that the codec allows now */
	bool reply_awaited;	/* a reply to us may still come from this peer */
	bool route_allows;	/* the kinds that are legal are not all off on the route */
	bool unread;		/* the kernel shows that the peer does not read */
	bool blind;		/* the kernel does not show whether it reads */
	bool receive_only;	/* this peer sends nothing now: its silence does not mean that it does not read */
	bool busy;		/* bytes to it are unsent, or not acknowledged in time */
	bool stuck;		/* bytes under way, to it or from it, may delay a reply */
	bool other_alive;	/* the other side gave a sign of life recently */
	int64_t other_app_us;	/* last bytes of the other side's application */
	int64_t rx_us, tx_us;	/* last bytes from this leg's peer, and to it */
	bool may_wait;		/* legal now, but better after the message that is being sent to the peer */
};

enum heartbeat_verdict {
	HEARTBEAT_WAIT,		/* nothing now */
	HEARTBEAT_SEND,		/* send one, then call heartbeat_sent() */
	HEARTBEAT_DEAD,		/* the peer missed too many replies */
};

void heartbeat_init(struct heartbeat_leg *h, int64_t now_us, uint32_t random);

/* When this leg is due, for a heartbeat or the timeout of a reply; INT64_MAX: never. rx_us, tx_us: the last bytes from and to the peer. */
int64_t heartbeat_due_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t rx_us, int64_t tx_us);

/*
 * True for a due leg for which nothing can be done: no heartbeat is legal and no reply is awaited. Only bytes of the
 * application change that. heartbeat_impossible_us(): when to check again.
 */
bool heartbeat_is_impossible(const struct heartbeat_leg *h, unsigned legal, bool reply_awaited);
int64_t heartbeat_impossible_us(const struct heartbeat_policy *p, int64_t now_us);

/* What to do for a leg. */
struct heartbeat_outcome {
	enum heartbeat_verdict verdict;
	unsigned kind;		/* HEARTBEAT_SEND: of the heartbeat */
	int64_t again_us;	/* HEARTBEAT_WAIT: when to check again, or earlier */
	bool missed;		/* a reply has just been missed; h->misses says how many in a row */
	bool went_mute;		/* a ping timed out and the peer has never replied: it is no longer pinged */
};

/* When to check a leg again that is held for h->hold. */
int64_t heartbeat_again_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t now_us);

/* How long the leg is idle before its next heartbeat: 80..100 % of the interval. */
int64_t heartbeat_gap_us(const struct heartbeat_leg *h, const struct heartbeat_policy *p);

/* Decides for a due leg, if it is not heartbeat_is_impossible(). */
struct heartbeat_outcome heartbeat_decide(struct heartbeat_leg *h, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us);

/* random: any number, spreads the next heartbeat over 80..100 % of the interval. */
void heartbeat_sent(struct heartbeat_leg *h, unsigned kind, int64_t now_us, uint32_t random);
/* n replies came. Returns the kind that was on trial and is now accepted; 0: none was. */
unsigned heartbeat_replied(struct heartbeat_leg *h, unsigned n, int64_t now_us);

/* The peer reacted to a heartbeat with something other than a reply: it gets no more. */
void heartbeat_refused(struct heartbeat_leg *h);

/*
 * How long a heartbeat is on trial; if the peer closes in this time, the heartbeat is blamed. One second, or half the
 * interval if that is shorter. With was_accepted (the peer has accepted that kind before) at most a tenth of the
 * interval: some closes fall within this time by chance.
 */
int64_t heartbeat_trial_us(const struct heartbeat_policy *p, bool was_accepted);
/* Ends the trial of a kind other than ping when its time is over: it is accepted. Returns that kind; 0: none. */
unsigned heartbeat_settle_trial(struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t now_us);
/*
 * A ping is on trial until it is replied to: a pooler may hold it until a server is free. True: the trial ends undecided
 * now, as the peer has sent other bytes but no reply, or ten timeouts have passed.
 */
bool heartbeat_end_ping_trial(struct heartbeat_leg *h, const struct heartbeat_policy *p, int64_t rx_us, int64_t now_us);

/* How old a sign of life may be to show that its side is alive. */
int64_t heartbeat_sign_max_age_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us);

#endif
