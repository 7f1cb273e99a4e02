/*
 * beat.h - when a leg is beaten and when it is given up. Pure: the clock and
 * all that is known of the flow are arguments.
 *
 * A leg is due when one of its directions has been quiet for its interval; for
 * beats that draw no bytes from the peer (tell, ahead) only the direction to it
 * counts. Whether a beat then goes out depends on the laws: legal (the codec),
 * honest (the other side has proved itself alive), and never behind unsent bytes.
 */
#ifndef STENT_BEAT_H
#define STENT_BEAT_H

#include <stdbool.h>
#include <stdint.h>

#define BEAT_MISSES_AUTO 3	/* what heartbeat_misses = auto means */
#define BEAT_UNREAD_MAX 1000	/* beats without one byte from the peer, where the kernel does not tell whether it reads: then they stop */

/* Why a leg that is due gets no heartbeat. */
enum beat_hold {
	BEAT_HOLD_NONE,
	BEAT_HOLD_STATE,	/* none is legal in the protocol's state: the codec knows why */
	BEAT_HOLD_BUSY,		/* bytes are under way to it */
	BEAT_HOLD_UNREAD,	/* the peer does not read what it was sent */
	BEAT_HOLD_OTHER,	/* the other side gives no sign of life */
	BEAT_HOLD_LIMIT,	/* the other side's application has been silent for heartbeat_limit */
	BEAT_HOLD_REFUSED,	/* this peer reacted to one: no more on this flow */
	BEAT_HOLD_ROUTE,	/* other peers of the route did */
	BEAT_HOLD_TRIAL,	/* other flows of the route try first */
	BEAT_HOLD_MUTE,		/* the peer never replied, and the protocol has no one-way kind now */
	BEAT_HOLD_REPLY,	/* a reply is waited for */
	BEAT_HOLD_MESSAGE,	/* the end of the message that it is being sent is waited for */
};

/* The beats of one leg. Zeroed, then beat_init(). */
struct beat_leg {
	int64_t last_us;	/* when the last beat went out, or the flow began */
	int64_t asked_us;	/* the answer that is waited for is due timeout_us after this; 0: none is waited for */
	int64_t since_us;	/* when the oldest ask without an answer went out; 0: there is none */
	int64_t trial_us;	/* when the first heartbeat of the one-way kind on trial went out */
	uint32_t sent;
	uint32_t asks;		/* of those, the ones that are replied to */
	uint32_t answered;
	uint32_t rtt_us, srtt_us, worst_us;	/* round trip of answers: last, smoothed, worst */
	uint16_t unread;	/* beats since the peer's last byte */
	uint16_t misses;	/* answers missed in a row */
	uint8_t hold;		/* enum beat_hold: why none went out when the leg was last due */
	uint8_t borne;		/* kinds that this peer has borne; a set of enum beat_kind */
	uint8_t last_kind;	/* that was sent; 0: none yet */
	uint8_t trying;		/* kinds on trial, a set: pings, and at most one other */
	uint16_t jitter;	/* of the next one: 0..1023 of the most that its quiet time is less than the interval */
	bool refused;		/* the peer does not bear heartbeats: it gets no more */
	bool mute;		/* it was asked, and never replied: it is not asked again */
};

/* What the settings and the codec want of a leg. */
struct beat_policy {
	int64_t interval_us;	/* 0: no beats */
	int64_t timeout_us;	/* an answer is due within */
	int64_t limit_us;	/* the other application's silence after which beats end; 0: never */
	unsigned kind;		/* configured kind; 0: auto */
	unsigned preferred;	/* the codec's kind for auto */
	unsigned misses;	/* so many in a row: dead; 0: never */
};

/* What the relay knows when a leg is due. */
struct beat_facts {
	unsigned legal;		/* kinds that the codec allows now */
	bool owed;		/* an answer to us may still come from this peer */
	bool route_allows;	/* the kinds that are legal are not all off on the route */
	bool unread;		/* the kernel tells that the peer does not read */
	bool blind;		/* the kernel does not tell */
	bool listens;		/* this peer has nothing to say: its silence does not mean that it does not read */
	bool busy;		/* bytes wait to be sent, or were sent and are not acknowledged in time */
	bool stuck;		/* bytes are on their way, to it or from it, that keep an answer from coming */
	bool other_alive;	/* the other side has proved itself lately */
	int64_t other_app_us;	/* last sign of the other side's application */
	int64_t rx_us, tx_us;	/* last bytes from this leg's peer, and to it */
	bool may_wait;		/* a heartbeat is legal, but a better place is near: behind the message that is being sent to the peer */
};

enum beat_verdict {
	BEAT_WAIT,		/* nothing now */
	BEAT_SEND,		/* one goes out now; then call beat_sent() */
	BEAT_DEAD,		/* the peer missed its answers */
};

void beat_init(struct beat_leg *b, int64_t now_us, uint32_t random);

/* When this leg is due: for a beat, or for the answer to one; INT64_MAX: never. rx_us, tx_us: the last bytes from and to the peer. */
int64_t beat_due_us(const struct beat_leg *b, const struct beat_policy *p, int64_t rx_us, int64_t tx_us);

/*
 * A due leg of which nothing can come: no beat is legal and no answer is owed.
 * Only bytes of the application change that, and they move its stamps. When to look again.
 */
bool beat_is_hopeless(const struct beat_leg *b, unsigned legal, bool owed);
int64_t beat_hopeless_us(const struct beat_policy *p, int64_t now_us);

/* What is to be done for a leg. */
struct beat_outcome {
	enum beat_verdict verdict;
	unsigned kind;		/* BEAT_SEND: of the heartbeat */
	int64_t again_us;	/* BEAT_WAIT: when to look again, at the latest */
	bool missed;		/* a reply has just been missed; b->misses says how many in a row */
	bool went_mute;		/* a peer that never replied was given its time: it is asked no more */
};

/* When a leg that is held is looked at again: as seldom as that can change without its due time moving, too. */
int64_t beat_again_us(const struct beat_leg *b, const struct beat_policy *p, int64_t now_us);

/* How long the leg is quiet before its next heartbeat: 80..100 % of the interval. */
int64_t beat_gap_us(const struct beat_leg *b, const struct beat_policy *p);

/* For any other leg that is due. */
struct beat_outcome beat_decide(struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f, int64_t now_us);

/* random: any number, spreads the next beat over 80..100 % of the interval. */
void beat_sent(struct beat_leg *b, unsigned kind, int64_t now_us, uint32_t random);
/* Returns the kind that was on trial and is borne, as it was replied to; 0: none was. */
unsigned beat_answered(struct beat_leg *b, unsigned n, int64_t now_us);

/* The peer reacted to a heartbeat by something else than a reply: no more for it. */
void beat_refused(struct beat_leg *b);

/*
 * How long a heartbeat is on trial, and a close of its peer held against it: a
 * second, less for intervals below two. With is_borne, the peer has borne that
 * kind before: then a tenth of the interval, since closes fall there by chance, too.
 */
int64_t beat_trial_us(const struct beat_policy *p, bool is_borne);
/* The one-way kind on trial has had its time, and nothing spoke against it: it is borne. Returns that kind; 0: none yet. */
unsigned beat_settle_trial(struct beat_leg *b, const struct beat_policy *p, int64_t now_us);
/*
 * A ping is on trial until it has been replied to: a pooler may keep it waiting for a server, and its sender with it. True: it
 * is so no more, with no verdict, as the peer has passed it over or has had ten times the time for it.
 */
bool beat_drop_ask(struct beat_leg *b, const struct beat_policy *p, int64_t rx_us, int64_t now_us);

/* How long ago a sign of life may be and still vouch for its side. */
int64_t beat_vouch_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us);

#endif
