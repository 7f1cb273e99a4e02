/*
 * heartbeat.h - when a leg is beaten and when it is given up. Pure: the clock and
 * all that is known of the flow are arguments.
 *
 * A leg is due when one of its directions has been quiet for its interval; for
 * heartbeats that draw no bytes from the peer (tell, ahead) only the direction to it
 * counts. Whether a heartbeat then goes out depends on the laws: legal (the codec),
 * honest (the other side has proved itself alive), and never behind unsent bytes.
 */
#ifndef STENT_HEARTBEAT_H
#define STENT_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#define HEARTBEAT_MISSES_AUTO 3	/* what heartbeat_misses = auto means */
#define HEARTBEAT_UNREAD_MAX 1000	/* heartbeats without one byte from the peer, where the kernel does not tell whether it reads: then they stop */

/* Why a leg that is due gets no heartbeat. */
enum heartbeat_hold {
	HEARTBEAT_HOLD_NONE,
	HEARTBEAT_HOLD_STATE,	/* none is legal in the protocol's state: the codec knows why */
	HEARTBEAT_HOLD_BUSY,		/* bytes are under way to it */
	HEARTBEAT_HOLD_UNREAD,	/* the peer does not read what it was sent */
	HEARTBEAT_HOLD_OTHER,	/* the other side gives no sign of life */
	HEARTBEAT_HOLD_LIMIT,	/* the other side's application has been silent for heartbeat_limit */
	HEARTBEAT_HOLD_REFUSED,	/* this peer reacted to one: no more on this flow */
	HEARTBEAT_HOLD_ROUTE,	/* other peers of the route did */
	HEARTBEAT_HOLD_TRIAL,	/* other flows of the route try first */
	HEARTBEAT_HOLD_MUTE,		/* the peer never replied, and the protocol has no one-way kind now */
	HEARTBEAT_HOLD_REPLY,	/* a reply is waited for */
	HEARTBEAT_HOLD_MESSAGE,	/* the end of the message that it is being sent is waited for */
};

/* The heartbeats of one leg. Zeroed, then heartbeat_init(). */
struct heartbeat_leg {
	int64_t last_us;	/* when the last heartbeat went out, or the flow began */
	int64_t asked_us;	/* the answer that is waited for is due timeout_us after this; 0: none is waited for */
	int64_t since_us;	/* when the oldest ask without an answer went out; 0: there is none */
	int64_t trial_us;	/* when the first heartbeat of the one-way kind on trial went out */
	uint32_t sent;
	uint32_t pings;		/* of those, the ones that are replied to */
	uint32_t replied;
	uint32_t rtt_us, srtt_us, worst_us;	/* round trip of replies: last, smoothed, worst */
	uint16_t unread;	/* heartbeats since the peer's last byte */
	uint16_t misses;	/* replies missed in a row */
	uint8_t hold;		/* enum heartbeat_hold: why none went out when the leg was last due */
	uint8_t borne;		/* kinds that this peer has borne; a set of enum heartbeat_kind */
	uint8_t last_kind;	/* that was sent; 0: none yet */
	uint8_t trying;		/* kinds on trial, a set: pings, and at most one other */
	uint16_t jitter;	/* of the next one: 0..1023 of the most that its quiet time is less than the interval */
	bool refused;		/* the peer does not bear heartbeats: it gets no more */
	bool mute;		/* it was asked, and never replied: it is not asked again */
};

/* What the settings and the codec want of a leg. */
struct heartbeat_policy {
	int64_t interval_us;	/* 0: no heartbeats */
	int64_t timeout_us;	/* an answer is due within */
	int64_t limit_us;	/* the other application's silence after which heartbeats end; 0: never */
	unsigned kind;		/* configured kind; 0: auto */
	unsigned preferred;	/* the codec's kind for auto */
	unsigned misses;	/* so many in a row: dead; 0: never */
};

/* What the relay knows when a leg is due. */
struct heartbeat_facts {
	unsigned legal;		/* kinds that the codec allows now */
	bool reply_awaited;		/* an answer to us may still come from this peer */
	bool route_allows;	/* the kinds that are legal are not all off on the route */
	bool unread;		/* the kernel tells that the peer does not read */
	bool blind;		/* the kernel does not tell */
	bool receive_only;		/* this peer has nothing to say: its silence does not mean that it does not read */
	bool busy;		/* bytes wait to be sent, or were sent and are not acknowledged in time */
	bool stuck;		/* bytes are on their way, to it or from it, that keep an answer from coming */
	bool other_alive;	/* the other side has proved itself lately */
	int64_t other_app_us;	/* last sign of the other side's application */
	int64_t rx_us, tx_us;	/* last bytes from this leg's peer, and to it */
	bool may_wait;		/* a heartbeat is legal, but a better place is near: behind the message that is being sent to the peer */
};

enum heartbeat_verdict {
	HEARTBEAT_WAIT,		/* nothing now */
	HEARTBEAT_SEND,		/* one goes out now; then call heartbeat_sent() */
	HEARTBEAT_DEAD,		/* the peer missed its replies */
};

void heartbeat_init(struct heartbeat_leg *b, int64_t now_us, uint32_t random);

/* When this leg is due: for a heartbeat, or for the answer to one; INT64_MAX: never. rx_us, tx_us: the last bytes from and to the peer. */
int64_t heartbeat_due_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t rx_us, int64_t tx_us);

/*
 * A due leg of which nothing can come: no heartbeat is legal and no answer is owed.
 * Only bytes of the application change that, and they move its stamps. When to look again.
 */
bool heartbeat_is_impossible(const struct heartbeat_leg *b, unsigned legal, bool reply_awaited);
int64_t heartbeat_impossible_us(const struct heartbeat_policy *p, int64_t now_us);

/* What is to be done for a leg. */
struct heartbeat_outcome {
	enum heartbeat_verdict verdict;
	unsigned kind;		/* HEARTBEAT_SEND: of the heartbeat */
	int64_t again_us;	/* HEARTBEAT_WAIT: when to look again, at the latest */
	bool missed;		/* a reply has just been missed; b->misses says how many in a row */
	bool went_mute;		/* a peer that never replied was given its time: it is asked no more */
};

/* When a leg that is held is looked at again: as seldom as that can change without its due time moving, too. */
int64_t heartbeat_again_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t now_us);

/* How long the leg is quiet before its next heartbeat: 80..100 % of the interval. */
int64_t heartbeat_gap_us(const struct heartbeat_leg *b, const struct heartbeat_policy *p);

/* For any other leg that is due. */
struct heartbeat_outcome heartbeat_decide(struct heartbeat_leg *b, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us);

/* random: any number, spreads the next heartbeat over 80..100 % of the interval. */
void heartbeat_sent(struct heartbeat_leg *b, unsigned kind, int64_t now_us, uint32_t random);
/* Returns the kind that was on trial and is borne, as it was replied to; 0: none was. */
unsigned heartbeat_replied(struct heartbeat_leg *b, unsigned n, int64_t now_us);

/* The peer reacted to a heartbeat by something else than a reply: no more for it. */
void heartbeat_refused(struct heartbeat_leg *b);

/*
 * How long a heartbeat is on trial, and a close of its peer held against it: a
 * second, less for intervals below two. With is_borne, the peer has borne that
 * kind before: then a tenth of the interval, since closes fall there by chance, too.
 */
int64_t heartbeat_trial_us(const struct heartbeat_policy *p, bool is_borne);
/* The one-way kind on trial has had its time, and nothing spoke against it: it is borne. Returns that kind; 0: none yet. */
unsigned heartbeat_settle_trial(struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t now_us);
/*
 * A ping is on trial until it has been replied to: a pooler may keep it waiting for a server, and its sender with it. True: it
 * is so no more, with no verdict, as the peer has passed it over or has had ten times the time for it.
 */
bool heartbeat_drop_ask(struct heartbeat_leg *b, const struct heartbeat_policy *p, int64_t rx_us, int64_t now_us);

/* How long ago a sign of life may be and still vouch for its side. */
int64_t heartbeat_vouch_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us);

#endif
