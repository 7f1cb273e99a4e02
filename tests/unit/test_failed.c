/* test_failed.c - which addresses are passed over, and for how long. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/failed.h"
#include "stent/clock.h"

#define S ((int64_t)US_PER_S)

static const struct failure silent = { .retry_after_us = 2 * S }, refused = { .retry_after_us = 2 * S, .has_refused = true };

static struct address
address(uint16_t port)
{
	return (struct address){ .family = AF_INET, .port = port, .ip = { 192, 0, 2, 1 } };
}

static void
test_an_address_is_passed_over_for_longer_each_time(void **state)
{
	const struct address a = address(1), b = address(2);
	struct failed all = { .lock = PTHREAD_MUTEX_INITIALIZER };
	int64_t now = 1000 * S;

	(void)state;
	assert_false(failed_pass_over(&all, &a, false, S, now));
	for (int64_t s = 2; s <= 128; s *= 2) {
		const int64_t most = s < 32 ? s : 32;

		failed_add(&all, &a, &silent, now);
		failed_add(&all, &a, &silent, now);		/* two flows at once count as one */
		assert_true(failed_pass_over(&all, &a, false, S, now + most * S - 1));
		assert_int_equal(failed_retry_at(&all, &a, false, now), now + most * S);
		assert_false(failed_pass_over(&all, &b, false, S, now));
		now += most * S;
		assert_int_equal(failed_retry_at(&all, &a, false, now), 0);
	}
	failed_forget(&all, &a, now);
	failed_add(&all, &a, &silent, now);
	assert_int_equal(failed_retry_at(&all, &a, false, now), now + 2 * S);		/* it had accepted a connection */
	now += 100 * S;
	failed_add(&all, &a, &silent, now);
	assert_int_equal(failed_retry_at(&all, &a, false, now), now + 2 * S);		/* nor does a failure count for ever */
}

static void
test_one_flow_tries_it_when_its_time_has_come(void **state)
{
	const struct address a = address(1);
	struct failed all = { .lock = PTHREAD_MUTEX_INITIALIZER };
	int64_t now = 1000 * S;

	(void)state;
	failed_add(&all, &a, &silent, now);
	now += 2 * S;
	assert_false(failed_pass_over(&all, &a, false, 5 * S, now));
	assert_true(failed_pass_over(&all, &a, false, 5 * S, now));
	failed_add(&all, &a, &silent, now + S);			/* it failed, too */
	failed_add(&all, &a, &silent, now + S);			/* and one that had nowhere else to go */
	assert_int_equal(failed_retry_at(&all, &a, false, now + S), now + 5 * S);
	now += 5 * S;
	assert_false(failed_pass_over(&all, &a, false, 5 * S, now));
	now += 5 * S;						/* that flow left without a result */
	assert_false(failed_pass_over(&all, &a, false, 5 * S, now));
	failed_forget(&all, &a, now);
	assert_false(failed_pass_over(&all, &a, false, 5 * S, now));
	assert_false(failed_pass_over(&all, &a, false, 5 * S, now));
}

static void
test_a_refusal_is_passed_over_only_where_others_are_as_good(void **state)
{
	const struct address a = address(1);
	struct failed all = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const int64_t now = 1000 * S;

	(void)state;
	failed_add(&all, &a, &refused, now);
	assert_false(failed_pass_over(&all, &a, false, S, now));
	assert_true(failed_pass_over(&all, &a, true, S, now));
}

static void
test_jitter_takes_a_fifth_at_most(void **state)
{
	const struct address a = address(1);
	struct failed all = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const int64_t now = 1000 * S;

	(void)state;
	failed_add(&all, &a, &(struct failure){ .retry_after_us = 10 * S, .jitter = 1 }, now);
	assert_int_equal(failed_retry_at(&all, &a, false, now), now + 8 * S);
}

static void
test_the_latest_failures_are_kept(void **state)
{
	struct failed all = { .lock = PTHREAD_MUTEX_INITIALIZER };
	int64_t now = 1000 * S;

	(void)state;
	for (uint16_t i = 1; i <= FAILED_MAX + 1; i++) {
		const struct address a = address(i);

		failed_add(&all, &a, &silent, now += 1000);
	}
	for (uint16_t i = 1; i <= FAILED_MAX + 1; i++) {
		const struct address a = address(i);

		assert_int_equal(failed_pass_over(&all, &a, false, S, now), i > 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_is_passed_over_for_longer_each_time),
		cmocka_unit_test(test_one_flow_tries_it_when_its_time_has_come),
		cmocka_unit_test(test_a_refusal_is_passed_over_only_where_others_are_as_good),
		cmocka_unit_test(test_jitter_takes_a_fifth_at_most),
		cmocka_unit_test(test_the_latest_failures_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
