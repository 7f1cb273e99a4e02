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

#define BEAT_UNREAD_MAX 1000	/* beats without one byte from the peer: then they stop */

/* The beats of one leg. Zeroed, then beat_init(). */
struct beat_leg {
	int64_t last_us;	/* when the last beat went out, or the flow began */
	int64_t asked_us;	/* the answer that is waited for is due timeout_us after this; 0: none is waited for */
	int64_t since_us;	/* when the oldest ask without an answer went out; 0: there is none */
	int64_t gap_us;		/* quiet time until the next: the interval less its jitter */
	uint32_t sent;
	uint32_t answered;
	uint32_t rtt_us, srtt_us, worst_us;	/* round trip of answers: last, smoothed, worst */
	uint16_t unread;	/* beats since the peer's last byte */
	uint8_t misses;		/* answers missed in a row */
	bool refused;		/* the peer does not bear heartbeats: it gets no more */
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
	bool owed;		/* an answer may still come from this peer, to us or to the other side's own question */
	bool listens;		/* this peer has nothing to say: its silence does not mean that it does not read */
	bool busy;		/* bytes wait to be sent, or were sent and are not acknowledged in time */
	bool stuck;		/* bytes are on their way, to it or from it, that keep an answer from coming */
	bool other_alive;	/* the other side has proved itself lately */
	int64_t other_app_us;	/* last sign of the other side's application */
	int64_t rx_us;		/* last bytes from this leg's peer */
};

enum beat_verdict {
	BEAT_WAIT,		/* nothing now */
	BEAT_SEND,		/* *kind goes out now; then call beat_sent() */
	BEAT_DEAD,		/* the peer missed its answers */
};

void beat_init(struct beat_leg *b, const struct beat_policy *p, int64_t now_us, uint32_t random);

/* When this leg is due: for a beat, or for the answer to one; INT64_MAX: never. rx_us, tx_us: the last bytes from and to the peer. */
int64_t beat_due_us(const struct beat_leg *b, const struct beat_policy *p, int64_t rx_us, int64_t tx_us);

/*
 * A due leg of which nothing can come: no beat is legal and no answer is owed.
 * Only bytes of the application change that, and they move its stamps. When to look again.
 */
bool beat_is_hopeless(const struct beat_leg *b, unsigned legal, bool owed);
int64_t beat_hopeless_us(const struct beat_policy *p, int64_t now_us);

/* For any other leg that is due. *again_us: when to look again, at the latest. */
enum beat_verdict beat_decide(struct beat_leg *b, const struct beat_policy *p, const struct beat_facts *f,
    int64_t now_us, unsigned *kind, int64_t *again_us);

/* random: any number, spreads the next beat over 80..100 % of the interval. */
void beat_sent(struct beat_leg *b, const struct beat_policy *p, unsigned kind, int64_t now_us, uint32_t random);
void beat_refused(struct beat_leg *b);
void beat_answered(struct beat_leg *b, unsigned n, int64_t now_us);

/* How long ago a sign of life may be and still vouch for its side. */
int64_t beat_vouch_us(int64_t probe_idle_us, int64_t probe_interval_us, int64_t interval_us);

#endif
