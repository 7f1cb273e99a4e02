/*
 * lateness.h - judges a leg with `detect` that is silent. Pure: times and what
 * the kernel knows are arguments. Why there is more than the kernel's own
 * probes: src/relay/detect.c.
 */
#ifndef STENT_LATENESS_H
#define STENT_LATENESS_H

#include <stdint.h>

#define LATENESS_LOSSY 10	/* see lateness_misses() */
#define LATENESS_REPLY_US INT64_C(206000000)	/* 0.2 s (2^10 - 1) and a round trip */
#define LATENESS_STRETCH 2	/* see lateness_stretch() */

struct lateness_policy {
	int64_t detect_us;	/* a leg that is silent for this time is dead */
	int64_t idle_us, interval_us;	/* of the kernel's probes */
	unsigned chances;	/* to answer, at least, before it is */
};

struct lateness_facts {
	int64_t silent_us;	/* since its last byte or acknowledgement */
	unsigned unanswered;	/* probes and retransmissions in a row */
};

enum lateness {
	LATENESS_NONE,		/* it is not late */
	LATENESS_PROBE,		/* it is late: one more probe, unless bytes are under way, which are retransmitted */
	LATENESS_DEAD,
};

/* *again_us: when to look again, from now. */
enum lateness lateness_judge(const struct lateness_policy *p, const struct lateness_facts *f, int64_t *again_us);

/*
 * How many missing replies mean that a program hangs, of a peer whose kernel answers; one is missing after each_us. A reply that
 * was lost comes late: its sender waits for 0.2 s, then for twice as long after each further loss, and later replies wait behind
 * it. So where every tenth packet or more had to be sent again in the life of the flow, ten times as many may be missing, and
 * replies for LATENESS_REPLY_US at least: 11 transmissions, of which a fifth lost leaves one reply in 49 million out. sent:
 * packets with data, retransmitted: of these. A limit of 0 stays 0 (none).
 */
unsigned lateness_misses(unsigned misses, int64_t each_us, uint32_t sent, uint32_t retransmitted);

/*
 * How many times the time of detect is waited for an acknowledgement of bytes under way. On such a path the kernel has measured
 * long round trips, so the first retransmissions are 0.5 s and more apart, the others 1 s at least (the least TCP_RTO_MAX_MS):
 * about 11 in 9 s. With a fifth lost each way, all of them are lost for one heartbeat in 75,000. What is sent again now,
 * in_a_row, says nothing of the path: the peer may be dead. A machine that is cut off from a clean path keeps its time.
 */
unsigned lateness_stretch(uint32_t sent, uint32_t retransmitted, uint32_t in_a_row);

#endif
