/*
 * test_detect.c - `detect` in a simulated world: the real schedule of
 * heartbeats (heartbeat.c), the real judgement of silence (lateness.c) and the
 * real values (detect_rules.c), over a model of two kernels and of a path that
 * loses packets.
 *
 * What lives through an hour of that must not be taken for dead; what dies in
 * it is found in time. Steps of 10 ms; numbers from a generator, so each run is
 * the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "config/make.h"
#include "stent/codec.h"
#include "stent/config.h"
#include "stent/heartbeat.h"
#include "stent/lateness.h"

#define MS INT64_C(1000)
#define S (1000 * MS)
#define STEP (10 * MS)
#define RTT (50 * MS)
#define RTO (200 * MS + RTT)	/* the first distance of retransmissions; its minimum is 200 ms */
#define RTO_MAX (120 * S)
#define HOUR (3600 * S)
#define NEVER INT64_MAX

static uint64_t seed;

static unsigned
percent(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)((seed >> 33) % 100);
}

/* The path to a peer, and what may happen to it. */
struct path {
	unsigned loss;			/* percent of packets, each way */
	int64_t outage_us, pause_us;	/* it is cut for outage, whole for pause, and so on; 0: never */
	int64_t dead_us;		/* from then on nothing passes */
	int64_t hung_us;		/* from then on the peer's program does nothing; its kernel does */
};

static bool
passes(const struct path *p, int64_t now)
{
	if (now >= p->dead_us)
		return false;
	if (p->outage_us > 0 && now % (p->outage_us + p->pause_us) >= p->pause_us)
		return false;
	return percent() >= p->loss;
}

/* Bytes of one direction that are sent again until they are acknowledged. */
struct flight {
	int64_t began_us, next_us, distance_us;	/* began 0: nothing is under way */
	unsigned times;
	bool arrived;
};

struct leg {
	struct keepalive k;
	struct heartbeat_policy hp;
	struct lateness_policy lp;
	struct heartbeat_leg h;
	struct flight ping, reply;
	int64_t rx_us, tx_us, ack_us;	/* last bytes from it, to it, and its last acknowledgement */
	int64_t probe_us, watch_us, again_us;
	int64_t user_timeout_us;
	unsigned probes, owed;
	unsigned kind;			/* of its heartbeats: HEARTBEAT_ONEWAY has no reply, only an acknowledgement */
	uint32_t sent, retransmitted;
};

static void
begin(struct leg *l, int64_t detect_ms)
{
	*l = (struct leg){
		.k = detect_keepalive(detect_ms),
		.hp = { .interval_us = detect_ms * MS / 5, .timeout_us = detect_ms * MS / 5, .preferred = HEARTBEAT_PING, .misses = DETECT_CHANCES },
		.rx_us = 1, .tx_us = 1, .ack_us = 1, .kind = HEARTBEAT_PING,
	};
	l->user_timeout_us = (l->k.idle_s + l->k.interval_s * l->k.probes) * S;
	l->lp = (struct lateness_policy){ .detect_us = detect_ms * MS, .idle_us = l->k.idle_s * S, .interval_us = l->k.interval_s * S, .chances = DETECT_CHANCES };
	l->probe_us = l->watch_us = l->k.idle_s * S;
	heartbeat_init(&l->h, 1, (uint32_t)percent() * 10);
	heartbeat_replied(&l->h, 1, 1);		/* it has replied before */
}

static void
heard(struct leg *l, int64_t now)
{
	l->ack_us = now;
	l->probes = 0;
}

/* The kernel sends a probe; its answer is there at once, as the times are long. */
static void
probe(struct leg *l, const struct path *p, int64_t now)
{
	l->probes++;
	if (passes(p, now) && passes(p, now))
		heard(l, now);
}

/* The kernel's timer: tcp_keepalive_timer() of Linux. True: it gives the peer up. */
static bool
keepalive(struct leg *l, const struct path *p, int64_t now)
{
	if (now < l->probe_us)
		return false;
	l->probe_us = now + l->k.idle_s * S;
	if (l->ping.began_us != 0)
		return false;
	if (now - l->ack_us < l->k.idle_s * S) {
		l->probe_us = l->ack_us + l->k.idle_s * S;
		return false;
	}
	if (now - l->ack_us >= l->user_timeout_us && l->probes > 0)
		return true;
	probe(l, p, now);
	l->probe_us = now + l->k.interval_s * S;
	return false;
}

/*
 * One more transmission of what is under way, if it is time. rto_max: TCP_RTO_MAX_MS, as on our side, or the kernel's default.
 * TCP_THIN_LINEAR_TIMEOUTS, which does nothing with BBR, is left out.
 */
static bool
transmits(struct flight *f, int64_t rto_max_us, int64_t now)
{
	if (f->began_us == 0 || now < f->next_us)
		return false;
	/* The second is a tail loss probe, which doubles nothing. */
	if (f->times > 1)
		f->distance_us *= 2;
	if (f->distance_us > rto_max_us)
		f->distance_us = rto_max_us;
	f->next_us = now + f->distance_us;
	f->times++;
	return true;
}

static void
send_flight(struct flight *f, int64_t now)
{
	if (f->began_us == 0)
		*f = (struct flight){ .began_us = now, .next_us = now, .distance_us = RTO };
}

/* Our bytes to the peer. True: TCP_USER_TIMEOUT is over. */
static bool
ping(struct leg *l, const struct path *p, int64_t now)
{
	struct flight *f = &l->ping;

	if (f->began_us != 0 && now - f->began_us >= l->user_timeout_us)
		return true;
	if (!transmits(f, l->k.retransmit_ms * MS, now))
		return false;
	l->sent++;
	l->retransmitted += f->times > 1;
	if (!passes(p, now))
		return false;
	if (l->owed == 0)
		l->reply.began_us = 0;	/* it acknowledges what came before */
	if (!f->arrived && l->kind == HEARTBEAT_PING && now < p->hung_us) {
		l->owed++;
		send_flight(&l->reply, now);
	}
	f->arrived = true;
	if (passes(p, now)) {
		heard(l, now);
		f->began_us = 0;
	}
	return false;
}

/* The peer's bytes to us: they acknowledge as well. */
static void
reply(struct leg *l, const struct path *p, int64_t now)
{
	if (!transmits(&l->reply, RTO_MAX, now) || !passes(p, now))
		return;
	heard(l, now);
	if (l->ping.arrived)
		l->ping.began_us = 0;
	if (l->owed > 0) {
		l->rx_us = now;
		heartbeat_replied(&l->h, l->owed, now);
	}
	l->owed = 0;
	if (passes(p, now))
		l->reply.began_us = 0;
}

static bool
beat(struct leg *l, int64_t now)
{
	struct heartbeat_policy hp = l->hp;
	const struct heartbeat_facts facts = {
		.legal = l->kind, .route_allows = true, .other_alive = true, .reply_awaited = l->h.oldest_ping_us != 0,
		.busy = l->ping.began_us != 0, .stuck = l->ping.began_us != 0, .rx_us = l->rx_us, .tx_us = l->tx_us, .other_app_us = now,
	};
	struct heartbeat_outcome o;

	if (now < l->again_us || now < heartbeat_due_us(&l->h, &hp, l->rx_us, l->tx_us))
		return false;
	if (l->h.misses + 1U >= hp.misses)
		hp.misses = lateness_misses(hp.misses, hp.timeout_us, l->sent, l->retransmitted);
	o = heartbeat_decide(&l->h, &hp, &facts, now);
	l->again_us = o.again_us;
	if (o.verdict != HEARTBEAT_SEND)
		return o.verdict == HEARTBEAT_DEAD;
	heartbeat_sent(&l->h, o.kind, now, (uint32_t)percent() * 10);
	l->tx_us = now;
	send_flight(&l->ping, now);
	return false;
}

static bool
watch(struct leg *l, const struct path *p, int64_t now)
{
	const struct lateness_facts f = {
		.silent_us = now - (l->rx_us > l->ack_us ? l->rx_us : l->ack_us),
		.unanswered = l->probes + (l->ping.began_us != 0 && l->ping.times > 0 ? l->ping.times - 1 : 0),
	};
	struct lateness_policy lp = l->lp;
	enum lateness verdict;

	if (now < l->watch_us)
		return false;
	if (l->ping.began_us != 0 && l->ping.times > 1) {
		const unsigned in_a_row = l->ping.times - 1;

		lp.detect_us *= lateness_stretch(l->sent, l->retransmitted, in_a_row - 1);
		if (lp.detect_us > l->lp.detect_us)
			l->user_timeout_us = (l->k.idle_s + l->k.interval_s * l->k.probes) * S * LATENESS_STRETCH;
	}
	verdict = lateness_judge(&lp, &f, &l->watch_us);
	l->watch_us += now;
	if (verdict == LATENESS_PROBE && l->ping.began_us == 0)
		l->probe_us = now;	/* the kernel's timer runs at once */
	(void)p;
	return verdict == LATENESS_DEAD;
}

/* Until the leg is found dead, or the end: when. */
static int64_t
live(struct leg *l, const struct path *p, bool beats, int64_t end)
{
	for (int64_t now = STEP; now < end; now += STEP) {
		if (keepalive(l, p, now) || ping(l, p, now) || watch(l, p, now))
			return now;
		reply(l, p, now);
		if (beats && beat(l, now))
			return now;
	}
	return NEVER;
}

static const int64_t times_ms[] = { 6000, 9000, 20000, 40000, 300000 };
#define N_TIMES (sizeof(times_ms) / sizeof(times_ms[0]))

static void
expect_no_death(const struct path *p, unsigned flows)
{
	for (size_t t = 0; t < N_TIMES; t++)
		for (unsigned i = 0; i < flows; i++) {
			struct leg l;
			int64_t at;

			seed = t * 1000 + i;
			begin(&l, times_ms[t]);
			at = live(&l, p, i % 2 == 1, HOUR);
			if (at != NEVER)
				fail_msg("detect %d ms, flow %u: dead after %d ms; misses %u, sent %u, again %u, silent %d ms, under way for %d ms",
				    (int)times_ms[t], i, (int)(at / MS), l.h.misses, l.sent, l.retransmitted, (int)((at - l.ack_us) / MS),
				    l.ping.began_us != 0 ? (int)((at - l.ping.began_us) / MS) : 0);
		}
}

static void
test_a_fifth_of_all_packets_lost_for_an_hour_is_no_death(void **state)
{
	(void)state;
	expect_no_death(&(struct path){ .loss = 20, .dead_us = NEVER, .hung_us = NEVER }, 40);
}

static void
test_outages_of_a_third_for_an_hour_are_no_death(void **state)
{
	(void)state;
	for (size_t t = 0; t < N_TIMES; t++)
		for (unsigned i = 0; i < 10; i++) {
			const struct path p = {
				.outage_us = times_ms[t] * MS / 3, .pause_us = times_ms[t] * MS / 3 + (int64_t)(percent() * 50) * MS, .dead_us = NEVER, .hung_us = NEVER,
			};
			struct leg l;
			int64_t at;

			seed = t * 1000 + i;
			begin(&l, times_ms[t]);
			at = live(&l, &p, i % 2 == 1, HOUR);
			if (at != NEVER)
				fail_msg("detect %d ms, flow %u: dead after %d ms", (int)times_ms[t], i, (int)(at / MS));
		}
}

/* Nothing but the acknowledgements of the kernel comes back, and one in three heartbeats has to be sent again. */
static void
test_a_fifth_lost_each_way_is_no_death_with_one_way_heartbeats(void **state)
{
	const struct path p = { .loss = 20, .dead_us = NEVER, .hung_us = NEVER };

	(void)state;
	for (unsigned i = 0; i < 150; i++) {
		struct leg l;
		int64_t at;

		seed = i;
		begin(&l, 9000);
		l.kind = HEARTBEAT_ONEWAY;
		l.hp.preferred = HEARTBEAT_ONEWAY;
		at = live(&l, &p, true, HOUR);
		if (at != NEVER)
			fail_msg("flow %u: dead after %d ms; sent %u, again %u, silent %d ms", i, (int)(at / MS), l.sent, l.retransmitted,
			    (int)((at - l.ack_us) / MS));
	}
}

/* Dies at some moment: found within the time of detect, and not before four fifths of it. */
static void
expect_found(bool hangs, bool beats)
{
	for (size_t t = 0; t < N_TIMES; t++)
		for (unsigned i = 0; i < 200; i++) {
			const int64_t detect_us = times_ms[t] * MS, at_us = 3 * detect_us + detect_us * i / 200;
			const struct path p = { .dead_us = hangs ? NEVER : at_us, .hung_us = hangs ? at_us : NEVER };
			struct leg l;
			int64_t found_us;

			seed = t * 1000 + i;
			begin(&l, times_ms[t]);
			found_us = live(&l, &p, beats, at_us + 2 * detect_us) - at_us;
			if (found_us > detect_us + 4 * STEP || found_us < detect_us * 3 / 5)
				fail_msg("detect %d ms, death %u: found after %d ms", (int)times_ms[t], i, (int)(found_us / MS));
		}
}

static void
test_a_dead_host_is_found_in_time(void **state)
{
	(void)state;
	expect_found(false, false);
}

static void
test_a_dead_host_is_found_in_time_while_heartbeats_are_under_way(void **state)
{
	(void)state;
	expect_found(false, true);
}

static void
test_a_hung_program_is_found_in_time(void **state)
{
	(void)state;
	expect_found(true, true);
}

/* Bytes that are sent just before the kernel's probes would have ended do not make the death unknown for as long again. */
static void
test_bytes_sent_late_do_not_hide_a_death(void **state)
{
	(void)state;
	for (size_t t = 0; t < N_TIMES; t++) {
		const struct lateness_policy p = { .detect_us = times_ms[t] * MS, .idle_us = S, .interval_us = S, .chances = DETECT_CHANCES };
		int64_t again_us;

		assert_int_equal(lateness_judge(&p, &(struct lateness_facts){ p.detect_us - STEP, 9 }, &again_us), LATENESS_PROBE);
		assert_int_equal(again_us, STEP);
		assert_int_equal(lateness_judge(&p, &(struct lateness_facts){ p.detect_us, 9 }, &again_us), LATENESS_DEAD);
		/* A machine that slept has left its peer no chance. */
		assert_int_equal(lateness_judge(&p, &(struct lateness_facts){ 10 * p.detect_us, 3 }, &again_us), LATENESS_PROBE);
		assert_int_equal(lateness_judge(&p, &(struct lateness_facts){ S, 0 }, &again_us), LATENESS_NONE);
	}
}

static void
test_a_path_that_loses_packets_is_given_more_time_to_acknowledge(void **state)
{
	(void)state;
	assert_int_equal(lateness_stretch(1000, 99, 0), 1);
	assert_int_equal(lateness_stretch(1000, 360, 0), LATENESS_STRETCH);
	assert_int_equal(lateness_stretch(1000, 360, 11), LATENESS_STRETCH);
	/* What is sent again right now does not tell a lossy path from a dead host: not on a flow that has sent little. */
	assert_int_equal(lateness_stretch(1, 0, 0), 1);
	assert_int_equal(lateness_stretch(13, 12, 11), 1);
	assert_int_equal(lateness_stretch(12, 11, 11), 1);
	assert_int_equal(lateness_stretch(14, 13, 11), 1);	/* one may be chance */
	assert_int_equal(lateness_stretch(0, 0, 0), 1);		/* a kernel that does not count */
}

static void
test_a_dead_host_behind_a_lossy_path_is_found_in_twice_the_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		const int64_t at_us = 900 * S + i * 90 * MS;
		const struct path p = { .loss = 20, .dead_us = at_us, .hung_us = NEVER };
		struct leg l;
		int64_t found_us;

		seed = i;
		begin(&l, 9000);
		found_us = live(&l, &p, true, HOUR) - at_us;
		assert_true(found_us >= 0 && found_us <= LATENESS_STRETCH * 9 * S + 4 * STEP);
	}
}

static void
test_a_path_that_loses_packets_is_given_more_replies_to_miss(void **state)
{
	(void)state;
	assert_int_equal(lateness_misses(4, 8 * S, 1000, 0), 4);
	assert_int_equal(lateness_misses(4, 8 * S, 1000, 99), 4);
	assert_int_equal(lateness_misses(4, 8 * S, 1000, 100), 4 * LATENESS_LOSSY);
	assert_int_equal(lateness_misses(4, 2 * S, 1000, 100), 103);	/* LATENESS_REPLY_US */
	assert_int_equal(lateness_misses(4, S / 1000, 1000, 100), UINT16_MAX);
	assert_int_equal(lateness_misses(0, 2 * S, 1000, 100), 0);
	assert_int_equal(lateness_misses(4, 2 * S, 3, 1), 4);		/* one may be chance */
	assert_int_equal(lateness_misses(4, 2 * S, 0, 0), 4);		/* a kernel that does not count */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fifth_of_all_packets_lost_for_an_hour_is_no_death),
		cmocka_unit_test(test_a_fifth_lost_each_way_is_no_death_with_one_way_heartbeats),
		cmocka_unit_test(test_outages_of_a_third_for_an_hour_are_no_death),
		cmocka_unit_test(test_a_dead_host_is_found_in_time),
		cmocka_unit_test(test_a_dead_host_is_found_in_time_while_heartbeats_are_under_way),
		cmocka_unit_test(test_a_hung_program_is_found_in_time),
		cmocka_unit_test(test_bytes_sent_late_do_not_hide_a_death),
		cmocka_unit_test(test_a_path_that_loses_packets_is_given_more_replies_to_miss),
		cmocka_unit_test(test_a_path_that_loses_packets_is_given_more_time_to_acknowledge),
		cmocka_unit_test(test_a_dead_host_behind_a_lossy_path_is_found_in_twice_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
