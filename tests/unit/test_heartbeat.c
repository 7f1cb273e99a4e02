/* test_heartbeat.c - when a leg gets heartbeats, and when its peer is dead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stent/heartbeat.h"
#include "stent/codec.h"
#include "stent/trial.h"
#include "stent/promise.h"

#define S 1000000LL

static const struct heartbeat_policy pinging = {
	.interval_us = 25 * S, .timeout_us = 30 * S, .limit_us = 3600 * S, .preferred = HEARTBEAT_PING, .misses = 3,
};
static const struct heartbeat_policy oneway = {
	.interval_us = 25 * S, .timeout_us = 30 * S, .limit_us = 3600 * S, .preferred = HEARTBEAT_ONEWAY,
};
static const struct heartbeat_facts all_well = { .legal = HEARTBEAT_PING | HEARTBEAT_ONEWAY, .route_allows = true, .other_alive = true };

/* Facts of a leg that was pinged, and whose peer last sent bytes at rx_us. */
static struct heartbeat_facts
waiting(int64_t rx_us)
{
	struct heartbeat_facts f = all_well;

	f.reply_awaited = true;
	f.rx_us = rx_us;
	f.other_app_us = 0;
	return f;
}

/* Decides at that time, and sends the heartbeat if any. Returns the kind, 0 for none, -1 for a dead peer. */
static int
decide(struct heartbeat_leg *b, const struct heartbeat_policy *p, const struct heartbeat_facts *f, int64_t now_us)
{
	const struct heartbeat_outcome o = heartbeat_decide(b, p, f, now_us);

	assert_false(promise_is_broken());
	switch (o.verdict) {
	case HEARTBEAT_SEND:
		heartbeat_sent(b, o.kind, now_us, 0);
		(void)heartbeat_settle_trial(b, p, now_us + heartbeat_trial_us(p, false));
		return (int)o.kind;
	case HEARTBEAT_DEAD:
		return -1;
	default:
		assert_true(o.again_us > now_us);
		return 0;
	}
}

/* A leg whose peer has replied before. */
static void
init(struct heartbeat_leg *b)
{
	heartbeat_init(b, 0, 0);
	heartbeat_replied(b, 1, 0);
}

/* Sends the first heartbeat of a leg that began at 0; returns when. */
static int64_t
send_first(struct heartbeat_leg *b, const struct heartbeat_policy *p)
{
	int64_t now;

	init(b);
	now = heartbeat_due_us(b, p, 0, 0);
	assert_int_equal(decide(b, p, &all_well, now), p->preferred);
	return now;
}

/* A heartbeat goes out after the interval, not at the timeout of the last one. */
static void
test_a_leg_with_a_reply_is_due_after_its_interval(void **state)
{
	struct heartbeat_leg b = { 0 };
	const int64_t sent = send_first(&b, &pinging);

	(void)state;
	assert_int_equal(sent, 25 * S);
	assert_int_equal(heartbeat_due_us(&b, &pinging, 0, sent), sent + 25 * S);
	heartbeat_replied(&b, 1, sent + 1000);
	assert_int_equal(heartbeat_due_us(&b, &pinging, sent + 1000, sent), sent + 25 * S);
}

/* 0..20 % earlier than its interval. */
static void
test_a_leg_is_due_when_one_direction_was_idle(void **state)
{
	struct heartbeat_leg b = { 0 };

	(void)state;
	heartbeat_init(&b, 0, 512);		/* half the jitter */
	assert_int_equal(heartbeat_due_us(&b, &pinging, 0, 0), 22500000);
	assert_int_equal(heartbeat_due_us(&b, &pinging, 7 * S, 3 * S), 25500000);
	assert_int_equal(heartbeat_due_us(&b, &pinging, 3 * S, 7 * S), 25500000);
	heartbeat_init(&b, 0, 1023);
	assert_in_range(heartbeat_due_us(&b, &pinging, 0, 0), 20 * S, 20 * S + 10000);
}

/* A one-way heartbeat brings no bytes from its peer: bytes to the peer serve as well. */
static void
test_a_oneway_leg_is_due_by_what_was_sent_to_it(void **state)
{
	struct heartbeat_leg b = { 0 };

	(void)state;
	heartbeat_init(&b, 0, 0);
	assert_int_equal(heartbeat_due_us(&b, &oneway, 0, 100 * S), 125 * S);
	assert_int_equal(heartbeat_due_us(&b, &oneway, 100 * S, 50 * S), 75 * S);
}

static void
test_a_silent_peer_is_dead_after_its_misses(void **state)
{
	struct heartbeat_leg b = { 0 };
	int64_t at = send_first(&b, &pinging);
	const struct heartbeat_facts f = waiting(0);

	(void)state;
	for (int miss = 1; miss < 3; miss++) {
		at += 30 * S;
		assert_int_equal(decide(&b, &pinging, &f, at), HEARTBEAT_PING);
		assert_int_equal(b.misses, miss);
	}
	assert_int_equal(decide(&b, &pinging, &f, at + 30 * S), -1);
}

static void
test_without_a_limit_of_misses_nobody_is_dead(void **state)
{
	struct heartbeat_policy p = pinging;
	struct heartbeat_leg b = { 0 };
	int64_t at;
	const struct heartbeat_facts f = waiting(0);

	(void)state;
	p.misses = 0;
	p.limit_us = 0;
	at = send_first(&b, &p);
	for (int i = 0; i < 300; i++)
		assert_int_equal(decide(&b, &p, &f, at += 30 * S), HEARTBEAT_PING);
}

/* A long message delays its reply, and so does a receiver that does not take what it sends. */
static void
test_no_miss_counts_while_the_peer_sends_or_is_blocked(void **state)
{
	struct heartbeat_leg b = { 0 };
	const int64_t sent = send_first(&b, &pinging);
	struct heartbeat_facts f = waiting(0);

	(void)state;
	assert_int_equal(decide(&b, &pinging, &f, sent + 30 * S), HEARTBEAT_PING);
	assert_int_equal(b.misses, 1);
	f.stuck = true;
	assert_int_equal(decide(&b, &pinging, &f, sent + 60 * S), HEARTBEAT_ONEWAY);
	assert_int_equal(b.misses, 1);
	f = waiting(sent + 61 * S);
	assert_int_equal(decide(&b, &pinging, &f, sent + 90 * S), HEARTBEAT_ONEWAY);
	assert_int_equal(b.misses, 0);
	assert_int_equal(decide(&b, &pinging, &f, sent + 120 * S), HEARTBEAT_PING);
	assert_int_equal(b.misses, 1);
}

/* After a FIN or a Close. */
static void
test_no_miss_counts_when_no_reply_is_awaited(void **state)
{
	struct heartbeat_policy p = pinging;
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = waiting(0);
	int64_t sent;

	(void)state;
	p.misses = 1;
	sent = send_first(&b, &p);
	f.reply_awaited = false;
	f.legal = 0;
	assert_int_equal(decide(&b, &p, &f, sent + 30 * S), 0);
	assert_int_equal(b.timeout_from_us, 0);
	assert_true(heartbeat_is_impossible(&b, f.legal, f.reply_awaited));
	assert_int_equal(heartbeat_impossible_us(&p, 100 * S), 100 * S + 25 * S / 2);
}

/* A long heartbeat_timeout does not leave the path idle for as long. */
static void
test_a_leg_that_awaits_a_reply_gets_oneway_heartbeats_meanwhile(void **state)
{
	struct heartbeat_policy p = pinging;
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = waiting(0);
	int64_t at;

	(void)state;
	p.timeout_us = 100 * S;
	at = send_first(&b, &p);
	for (int i = 1; i < 4; i++) {
		at = heartbeat_due_us(&b, &p, 0, at);
		assert_int_equal(at, (25 + i * 25) * S);
		assert_int_equal(decide(&b, &p, &f, at), HEARTBEAT_ONEWAY);
		assert_int_equal(b.misses, 0);
	}
	f.legal = HEARTBEAT_PING;	/* without a one-way kind it waits: one ping at a time */
	assert_int_equal(decide(&b, &p, &f, at + 10 * S), 0);
	assert_int_equal(decide(&b, &p, &f, 125 * S), HEARTBEAT_PING);
	assert_int_equal(b.misses, 1);
}

/* Within a message of several frames a heartbeat waits until that has paused for another interval. */
static void
test_a_heartbeat_waits_for_the_end_of_a_message(void **state)
{
	const struct heartbeat_policy *const policies[] = { &pinging, &oneway };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const struct heartbeat_policy *const p = policies[i];
		struct heartbeat_leg b = { 0 };
		struct heartbeat_facts f = all_well;
		struct heartbeat_outcome o;

		init(&b);
		f.may_wait = true;
		f.tx_us = 10 * S;
		f.rx_us = 10 * S;
		assert_int_equal(heartbeat_due_us(&b, p, f.rx_us, f.tx_us), 35 * S);
		o = heartbeat_decide(&b, p, &f, 35 * S);
		assert_int_equal(o.verdict, HEARTBEAT_WAIT);
		assert_int_equal(b.hold, HEARTBEAT_HOLD_MESSAGE);
		assert_true(o.again_us > 35 * S && o.again_us <= 60 * S);
		assert_int_equal(decide(&b, p, &f, 59 * S), 0);
		f.tx_us = 40 * S;	/* it goes on */
		assert_int_equal(decide(&b, p, &f, 60 * S), 0);
		assert_int_equal(decide(&b, p, &f, 90 * S), p->preferred);	/* it does not */
		f.may_wait = false;
		f.rx_us = f.tx_us = 91 * S;
		assert_int_equal(decide(&b, p, &f, heartbeat_due_us(&b, p, f.rx_us, f.tx_us)), p->preferred);
		assert_true(b.last_us <= 116 * S);
	}
}

/* Many peers reply to some requests of the application only: a reply due to it alone is no miss. */
static void
test_a_missing_reply_to_the_application_is_no_miss(void **state)
{
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = waiting(0);

	(void)state;
	f.legal = HEARTBEAT_ONEWAY;
	init(&b);
	for (int i = 0; i < 5; i++)
		assert_int_equal(decide(&b, &pinging, &f, (25 + 30 * i) * S), HEARTBEAT_ONEWAY);
	assert_int_equal(b.misses, 0);
}

/* Where the reply to a ping cannot be told from one to the application, its miss is forgotten. */
static void
test_a_reply_to_the_application_clears_the_misses(void **state)
{
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = waiting(0);

	(void)state;
	init(&b);
	for (int i = 0; i < 3; i++)
		assert_int_equal(decide(&b, &pinging, &f, (25 + 30 * i) * S), HEARTBEAT_PING);
	assert_int_equal(b.misses, 2);
	f = all_well;
	f.rx_us = 86 * S;
	assert_int_equal(decide(&b, &pinging, &f, 115 * S), HEARTBEAT_PING);
	assert_int_equal(b.misses, 0);
}

static void
test_no_heartbeat_behind_unsent_bytes(void **state)
{
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = all_well;

	(void)state;
	heartbeat_init(&b, 0, 0);
	f.busy = true;
	assert_int_equal(decide(&b, &pinging, &f, 25 * S), 0);
	f.busy = false;
	assert_int_equal(decide(&b, &pinging, &f, 26 * S), HEARTBEAT_PING);
}

static void
test_no_heartbeat_while_the_other_side_is_not_known_alive(void **state)
{
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = all_well;

	(void)state;
	heartbeat_init(&b, 0, 0);
	f.other_alive = false;
	assert_int_equal(decide(&b, &oneway, &f, 25 * S), 0);
	f.other_alive = true;
	assert_int_equal(decide(&b, &oneway, &f, 3600 * S), 0);	/* its application has been silent for the limit */
	f.other_app_us = S;
	assert_int_equal(decide(&b, &oneway, &f, 3600 * S), HEARTBEAT_ONEWAY);
}

/* Unread bytes reduce the window; a peer that reads all and sends nothing is left alone. */
static void
test_unread_heartbeats_do_not_pile_up(void **state)
{
	struct heartbeat_policy p = oneway;
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = all_well;
	int64_t now = 0;

	(void)state;
	p.limit_us = 0;
	heartbeat_init(&b, 0, 0);
	for (int i = 0; i < 70000; i++)
		assert_int_equal(decide(&b, &p, &f, now += 25 * S), HEARTBEAT_ONEWAY);
	f.unread = true;
	assert_int_equal(decide(&b, &p, &f, now += 25 * S), 0);
	assert_int_equal(b.hold, HEARTBEAT_HOLD_UNREAD);
	f.unread = false;
	assert_int_equal(decide(&b, &p, &f, now += 25 * S), HEARTBEAT_ONEWAY);
}

/* If the kernel shows no window, silence has to do, except for a reader of a stream, which sends nothing. */
static void
test_unread_heartbeats_do_not_pile_up_where_the_kernel_does_not_show_them(void **state)
{
	struct heartbeat_policy p = oneway;
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = all_well;
	int64_t now = 0;

	(void)state;
	p.limit_us = 0;
	f.blind = true;
	heartbeat_init(&b, 0, 0);
	for (int i = 0; i < HEARTBEAT_UNREAD_MAX; i++)
		assert_int_equal(decide(&b, &p, &f, now += 25 * S), HEARTBEAT_ONEWAY);
	assert_int_equal(decide(&b, &p, &f, now += 25 * S), 0);
	f.receive_only = true;
	assert_int_equal(decide(&b, &p, &f, now += 25 * S), HEARTBEAT_ONEWAY);
	f.receive_only = false;
	assert_int_equal(decide(&b, &p, &f, now += 25 * S), 0);
	f.rx_us = now;
	assert_int_equal(decide(&b, &p, &f, now += 25 * S), HEARTBEAT_ONEWAY);
}

/* Many healthy peers never reply. */
static void
test_a_peer_that_never_replied_gets_oneway_heartbeats(void **state)
{
	struct heartbeat_leg b = { 0 };
	struct heartbeat_facts f = all_well;
	struct heartbeat_outcome o;
	int64_t at;

	(void)state;
	heartbeat_init(&b, 0, 0);
	assert_int_equal(decide(&b, &pinging, &f, 25 * S), HEARTBEAT_PING);
	f.reply_awaited = true;
	o = heartbeat_decide(&b, &pinging, &f, 55 * S);
	assert_true(o.went_mute && !o.missed);
	assert_int_equal(o.verdict, HEARTBEAT_SEND);
	assert_int_equal(o.kind, HEARTBEAT_ONEWAY);
	for (at = 80 * S; at < 3000 * S; at += 25 * S) {
		assert_int_equal(decide(&b, &pinging, &f, at), HEARTBEAT_ONEWAY);
		assert_int_equal(b.misses, 0);
	}
	f.legal = HEARTBEAT_PING;
	assert_int_equal(decide(&b, &pinging, &f, at), 0);
	assert_int_equal(b.hold, HEARTBEAT_HOLD_MUTE);
	heartbeat_replied(&b, 1, at);	/* late, but it does reply: it is pinged again */
	f = all_well;
	assert_int_equal(decide(&b, &pinging, &f, at + 25 * S), HEARTBEAT_PING);
}

static void
test_more_misses_than_a_byte_counts(void **state)
{
	struct heartbeat_policy p = pinging;
	struct heartbeat_leg b = { 0 };
	const struct heartbeat_facts f = waiting(0);
	int64_t at;

	(void)state;
	p.misses = 1000;
	p.limit_us = 0;
	at = send_first(&b, &p);
	for (int i = 1; i < 1000; i++)
		assert_int_equal(decide(&b, &p, &f, at += 30 * S), HEARTBEAT_PING);
	assert_int_equal(decide(&b, &p, &f, at += 30 * S), -1);
}

/* A held leg is checked as seldom as possible. */
static void
test_a_leg_at_its_limit_is_checked_seldom(void **state)
{
	struct heartbeat_leg b = { 0 };
	struct heartbeat_outcome o;

	(void)state;
	heartbeat_init(&b, 0, 0);
	o = heartbeat_decide(&b, &oneway, &all_well, 4000 * S);
	assert_int_equal(o.verdict, HEARTBEAT_WAIT);
	assert_int_equal(b.hold, HEARTBEAT_HOLD_LIMIT);
	assert_true(o.again_us == INT64_MAX);		/* the relay checks it when the other side sends bytes */
}

static void
test_a_refused_leg_is_never_due(void **state)
{
	struct heartbeat_leg b = { 0 };

	(void)state;
	send_first(&b, &pinging);
	heartbeat_refused(&b);
	assert_int_equal(heartbeat_due_us(&b, &pinging, 0, 0), INT64_MAX);
}

/* A kind is accepted when some time has passed after its first heartbeat. */
static void
test_a_kind_is_on_trial_for_a_moment(void **state)
{
	struct heartbeat_policy p = oneway;
	struct heartbeat_leg b = { 0 };

	(void)state;
	assert_int_equal(heartbeat_trial_us(&p, false), S);
	heartbeat_init(&b, 0, 0);
	assert_int_equal(heartbeat_settle_trial(&b, &p, 100 * S), 0);
	heartbeat_sent(&b, HEARTBEAT_ONEWAY, 25 * S, 0);
	assert_int_equal(heartbeat_due_us(&b, &p, 0, 25 * S), 26 * S);
	assert_int_equal(heartbeat_settle_trial(&b, &p, 25 * S + 1), 0);
	assert_int_equal(heartbeat_settle_trial(&b, &p, 26 * S), HEARTBEAT_ONEWAY);
	assert_int_equal(b.accepted, HEARTBEAT_ONEWAY);
	heartbeat_sent(&b, HEARTBEAT_ONEWAY, 50 * S, 0);
	assert_int_equal(b.on_trial, 0);
	p.interval_us = S / 10;
	assert_int_equal(heartbeat_trial_us(&p, false), S / 20);
	assert_int_equal(heartbeat_trial_us(&p, true), S / 100);
}

/* A ping is accepted when it has been replied to: a pooler may hold it until a server is free. */
static void
test_a_ping_is_on_trial_until_its_reply(void **state)
{
	const struct heartbeat_policy p = pinging;
	struct heartbeat_leg b = { 0 };

	(void)state;
	heartbeat_init(&b, 0, 0);
	heartbeat_sent(&b, HEARTBEAT_PING, 25 * S, 0);
	assert_int_equal(heartbeat_settle_trial(&b, &p, 1000 * S), 0);
	assert_false(heartbeat_end_ping_trial(&b, &p, 0, 26 * S));
	heartbeat_sent(&b, HEARTBEAT_ONEWAY, 30 * S, 0);	/* one of another kind meanwhile */
	assert_int_equal(heartbeat_settle_trial(&b, &p, 32 * S), HEARTBEAT_ONEWAY);
	assert_int_equal(b.on_trial, HEARTBEAT_PING);
	assert_int_equal(heartbeat_replied(&b, 1, 200 * S), HEARTBEAT_PING);
	assert_int_equal(b.on_trial, 0);
	assert_int_equal(b.accepted, HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	heartbeat_sent(&b, HEARTBEAT_PING, 250 * S, 0);
	assert_int_equal(b.on_trial, 0);
	assert_int_equal(heartbeat_replied(&b, 1, 250 * S + 1), 0);
}

/* A ping without a reply does not keep other flows waiting for ever. */
static void
test_a_ping_that_is_not_replied_to_is_no_verdict(void **state)
{
	const struct heartbeat_policy p = pinging;
	struct heartbeat_leg b = { 0 };

	(void)state;
	heartbeat_init(&b, 0, 0);
	heartbeat_sent(&b, HEARTBEAT_PING, 25 * S, 0);
	assert_false(heartbeat_end_ping_trial(&b, &p, 0, 25 * S + 10 * p.timeout_us - 1));
	assert_true(heartbeat_end_ping_trial(&b, &p, 0, 25 * S + 10 * p.timeout_us));
	assert_false(heartbeat_end_ping_trial(&b, &p, 0, 1000 * S));
	assert_int_equal(b.accepted, 0);

	/* Nor one that the peer has ignored. */
	b = (struct heartbeat_leg){ 0 };
	heartbeat_sent(&b, HEARTBEAT_PING, 25 * S, 0);
	assert_false(heartbeat_end_ping_trial(&b, &p, 26 * S, 27 * S));
	b.mute = true;
	assert_true(heartbeat_end_ping_trial(&b, &p, 26 * S, 27 * S));
}

/* Few flows of a route try a kind at once, until some have accepted it. */
static void
test_few_flows_try_first(void **state)
{
	struct trial t = { 0 };

	(void)state;
	for (int i = 0; i < TRIAL_FLOWS; i++)
		assert_true(trial_begin(&t, HEARTBEAT_ONEWAY));
	assert_false(trial_begin(&t, HEARTBEAT_ONEWAY));
	assert_true(trial_begin(&t, HEARTBEAT_PING));		/* another kind */
	trial_undecided(&t, HEARTBEAT_ONEWAY);
	assert_true(trial_begin(&t, HEARTBEAT_ONEWAY));
	(void)trial_refused(&t, HEARTBEAT_ONEWAY);
	assert_false(trial_begin(&t, HEARTBEAT_ONEWAY));	/* two under way, one refused */
	t.kind[0].refused = 0;
	assert_true(trial_begin(&t, HEARTBEAT_ONEWAY));
	for (int i = 0; i < TRIAL_FLOWS; i++)
		trial_accepted(&t, HEARTBEAT_ONEWAY);
	for (int i = 0; i < 100; i++)
		assert_true(trial_begin(&t, HEARTBEAT_ONEWAY));
}

/* Three refusals end a kind, unless so many accept it that they may be chance. Without pings nothing else is tried. */
static void
test_a_kind_that_is_refused_is_off(void **state)
{
	struct trial t = { 0 };

	(void)state;
	for (int i = 1; i <= TRIAL_FLOWS; i++) {
		assert_int_equal(trial_allowed(&t, HEARTBEAT_ONEWAY | HEARTBEAT_PING), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
		assert_true(trial_begin(&t, HEARTBEAT_ONEWAY));
		assert_int_equal(trial_refused(&t, HEARTBEAT_ONEWAY), i == TRIAL_FLOWS);
	}
	assert_int_equal(trial_allowed(&t, HEARTBEAT_ONEWAY | HEARTBEAT_PING), HEARTBEAT_PING);
	for (int i = 0; i < TRIAL_FLOWS; i++)
		(void)trial_refused_after_accepted(&t, HEARTBEAT_PING);
	assert_int_equal(trial_allowed(&t, HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY), 0);

	t = (struct trial){ 0 };
	for (int i = 0; i < 10 * TRIAL_RATIO; i++) {
		assert_true(trial_begin(&t, HEARTBEAT_PING));
		trial_accepted(&t, HEARTBEAT_PING);
	}
	for (int i = 0; i < 10; i++)
		assert_false(trial_refused_after_accepted(&t, HEARTBEAT_PING));
	assert_true(trial_refused_after_accepted(&t, HEARTBEAT_PING));
}

/* The kind that the settings name, or the protocol's own; one-way where a ping is not legal. */
static void
test_the_kind_of_a_heartbeat(void **state)
{
	static const struct {
		unsigned set, preferred, legal;
		int kind;
	} rows[] = {
		{ 0, HEARTBEAT_PING, HEARTBEAT_PING | HEARTBEAT_ONEWAY, HEARTBEAT_PING },
		{ 0, HEARTBEAT_PING, HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY },
		{ 0, HEARTBEAT_ONEWAY, HEARTBEAT_PING | HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY },
		{ 0, HEARTBEAT_ONEWAY, HEARTBEAT_PING, HEARTBEAT_PING },
		{ HEARTBEAT_ONEWAY, HEARTBEAT_PING, HEARTBEAT_PING | HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY },
		{ HEARTBEAT_ONEWAY, HEARTBEAT_PING, HEARTBEAT_PING, 0 },
		{ HEARTBEAT_PING, HEARTBEAT_ONEWAY, HEARTBEAT_PING | HEARTBEAT_ONEWAY, HEARTBEAT_PING },
		{ HEARTBEAT_PING, HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY },
		{ HEARTBEAT_EARLY, HEARTBEAT_ONEWAY, HEARTBEAT_EARLY | HEARTBEAT_ONEWAY, HEARTBEAT_EARLY },
		{ HEARTBEAT_EARLY, HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY, 0 },
		{ HEARTBEAT_PING, HEARTBEAT_PING, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct heartbeat_policy p = {
			.interval_us = S, .timeout_us = S, .kind = rows[i].set, .preferred = rows[i].preferred,
		};
		const struct heartbeat_facts f = { .legal = rows[i].legal, .route_allows = true, .other_alive = true };
		struct heartbeat_leg b = { 0 };

		heartbeat_init(&b, 0, 0);
		assert_int_equal(decide(&b, &p, &f, S), rows[i].kind);
	}
}

/* Last, smoothed, worst; a late one counts with its full time. */
static void
test_round_trips(void **state)
{
	struct heartbeat_leg b = { 0 };
	int64_t at = send_first(&b, &pinging);
	const struct heartbeat_facts f = waiting(0);

	(void)state;
	heartbeat_replied(&b, 1, at + 8000);
	assert_int_equal(b.rtt_us, 8000);
	assert_int_equal(b.srtt_us, 8000);
	at += 25 * S;
	assert_int_equal(decide(&b, &pinging, &all_well, at), HEARTBEAT_PING);
	heartbeat_replied(&b, 1, at + 16000);
	assert_int_equal(b.rtt_us, 16000);
	assert_int_equal(b.srtt_us, 9000);
	assert_int_equal(b.worst_us, 16000);
	at += 25 * S;
	assert_int_equal(decide(&b, &pinging, &all_well, at), HEARTBEAT_PING);
	assert_int_equal(decide(&b, &pinging, &f, at + 30 * S), HEARTBEAT_PING);
	heartbeat_replied(&b, 1, at + 31 * S);
	assert_int_equal(b.rtt_us, 31 * S);
	assert_int_equal(b.worst_us, 31 * S);
	assert_int_equal(b.misses, 0);
	heartbeat_replied(&b, 1, at + 32 * S);	/* to the second ping: it counts, its time is not known */
	assert_int_equal(b.replied, 5);	/* with the one of send_first() */
	assert_int_equal(b.rtt_us, 31 * S);
}

static void
test_how_old_a_sign_of_life_may_be(void **state)
{
	(void)state;
	assert_int_equal(heartbeat_sign_max_age_us(60 * S, 10 * S, 25 * S), 71 * S);	/* one lost probe is waited for */
	assert_int_equal(heartbeat_sign_max_age_us(0, 0, 25 * S), 51 * S);
	assert_int_equal(heartbeat_sign_max_age_us(0, 0, 0), 61 * S);
}

/* What the sides agreed on narrows the settings, and never widens them. */
static void
test_limits_of_the_protocol(void **state)
{
	static const struct codec_limits none = { 0 }, agreed = { .interval_ms = 10000, .silence_ms = 45000 };
	struct heartbeat_policy p = { .interval_us = 25 * S, .limit_us = 0 };

	(void)state;
	heartbeat_limit_policy(&p, &none);
	assert_int_equal(p.interval_us, 25 * S);
	assert_int_equal(p.limit_us, 0);
	heartbeat_limit_policy(&p, &agreed);
	assert_int_equal(p.interval_us, 10 * S);
	assert_int_equal(p.limit_us, 45 * S);
	p = (struct heartbeat_policy){ .interval_us = 5 * S, .limit_us = 30 * S };
	heartbeat_limit_policy(&p, &agreed);
	assert_int_equal(p.interval_us, 5 * S);
	assert_int_equal(p.limit_us, 30 * S);
	p.interval_us = 0;			/* off */
	heartbeat_limit_policy(&p, &agreed);
	assert_int_equal(p.interval_us, 0);
}

static int
all_promises_are_kept(void **state)
{
	(void)state;
	return promise_is_broken() ? -1 : 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_leg_with_a_reply_is_due_after_its_interval),
		cmocka_unit_test(test_a_leg_is_due_when_one_direction_was_idle),
		cmocka_unit_test(test_a_oneway_leg_is_due_by_what_was_sent_to_it),
		cmocka_unit_test(test_a_silent_peer_is_dead_after_its_misses),
		cmocka_unit_test(test_without_a_limit_of_misses_nobody_is_dead),
		cmocka_unit_test(test_no_miss_counts_while_the_peer_sends_or_is_blocked),
		cmocka_unit_test(test_no_miss_counts_when_no_reply_is_awaited),
		cmocka_unit_test(test_a_leg_that_awaits_a_reply_gets_oneway_heartbeats_meanwhile),
		cmocka_unit_test(test_a_heartbeat_waits_for_the_end_of_a_message),
		cmocka_unit_test(test_a_missing_reply_to_the_application_is_no_miss),
		cmocka_unit_test(test_a_reply_to_the_application_clears_the_misses),
		cmocka_unit_test(test_no_heartbeat_behind_unsent_bytes),
		cmocka_unit_test(test_no_heartbeat_while_the_other_side_is_not_known_alive),
		cmocka_unit_test(test_unread_heartbeats_do_not_pile_up),
		cmocka_unit_test(test_unread_heartbeats_do_not_pile_up_where_the_kernel_does_not_show_them),
		cmocka_unit_test(test_a_peer_that_never_replied_gets_oneway_heartbeats),
		cmocka_unit_test(test_more_misses_than_a_byte_counts),
		cmocka_unit_test(test_a_leg_at_its_limit_is_checked_seldom),
		cmocka_unit_test(test_a_refused_leg_is_never_due),
		cmocka_unit_test(test_a_kind_is_on_trial_for_a_moment),
		cmocka_unit_test(test_a_ping_is_on_trial_until_its_reply),
		cmocka_unit_test(test_a_ping_that_is_not_replied_to_is_no_verdict),
		cmocka_unit_test(test_few_flows_try_first),
		cmocka_unit_test(test_a_kind_that_is_refused_is_off),
		cmocka_unit_test(test_the_kind_of_a_heartbeat),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_how_old_a_sign_of_life_may_be),
		cmocka_unit_test(test_limits_of_the_protocol),
	};

	return cmocka_run_group_tests(tests, NULL, all_promises_are_kept);
}
