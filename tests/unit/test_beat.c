/* test_beat.c - facts about the rhythm of the heartbeats of one leg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stent/beat.h"
#include "stent/codec.h"

#define S 1000000LL

static const struct beat_policy asking = {
	.interval_us = 25 * S, .timeout_us = 30 * S, .kind = BEAT_ASK, .preferred = BEAT_ASK, .misses = 3,
};
static const struct beat_facts all_well = { .legal = BEAT_ASK | BEAT_TELL, .other_alive = true };

/* Sends the first beat of a leg that began at 0; returns when. */
static int64_t
send_first(struct beat_leg *b)
{
	int64_t now, again;
	unsigned kind;

	beat_init(b, &asking, 0, 0);
	now = beat_due_us(b, &asking, 0, 0);
	assert_int_equal(beat_decide(b, &asking, &all_well, now, &kind, &again), BEAT_SEND);
	beat_sent(b, &asking, kind, now, 0);
	return now;
}

/* A beat goes out after the interval, not when the deadline of the last one would have been. */
static void
test_an_answered_leg_is_looked_at_after_its_interval(void **state)
{
	struct beat_leg b = { 0 };
	const int64_t sent = send_first(&b), look = beat_look_us(&b, &asking, 0, sent, sent);

	(void)state;
	assert_int_equal(sent, 25 * S);
	assert_int_equal(look, sent + 25 * S);
	beat_answered(&b, 1, sent + 1000);
	assert_int_equal(beat_due_us(&b, &asking, sent + 1000, sent), look);
}

/* One whose answer is late is looked at again and again, so that the answer is seen an interval later at most. */
static void
test_a_leg_that_waits_is_looked_at_until_its_deadline(void **state)
{
	struct beat_leg b = { 0 };
	const int64_t sent = send_first(&b);

	(void)state;
	assert_int_equal(beat_look_us(&b, &asking, 0, sent, sent + 25 * S), sent + 30 * S);
	assert_int_equal(beat_due_us(&b, &asking, 0, sent), sent + 30 * S);
}

/* Without an ask under way to look is to be due. */
static void
test_a_quiet_leg_is_looked_at_when_it_is_due(void **state)
{
	struct beat_leg b = { 0 };

	(void)state;
	beat_init(&b, &asking, 0, 512);		/* half the jitter */
	assert_int_equal(beat_due_us(&b, &asking, 0, 0), 22500000);
	assert_int_equal(beat_look_us(&b, &asking, 7 * S, 3 * S, 8 * S), 25500000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_answered_leg_is_looked_at_after_its_interval),
		cmocka_unit_test(test_a_leg_that_waits_is_looked_at_until_its_deadline),
		cmocka_unit_test(test_a_quiet_leg_is_looked_at_when_it_is_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
