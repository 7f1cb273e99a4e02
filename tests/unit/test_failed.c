/* test_failed.c - which addresses are tried last, and for how long. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/dial.h"

#define S ((int64_t)US_PER_S)

static struct address
address(uint16_t port)
{
	return (struct address){ .family = AF_INET, .port = port, .ip = { 192, 0, 2, 1 } };
}

static void
test_an_address_is_tried_last_for_longer_each_time(void **state)
{
	const struct address a = address(1), b = address(2);
	struct failed all = { 0 };
	int64_t now = 1000 * S;

	(void)state;
	assert_false(failed_lately(&all, &a, now));
	for (int64_t s = 2; s <= 128; s *= 2) {
		const int64_t most = s < 32 ? s : 32;

		failed_add(&all, &a, now);
		failed_add(&all, &a, now);		/* two flows at once count as one */
		assert_true(failed_lately(&all, &a, now + most * S - 1));
		assert_false(failed_lately(&all, &b, now));
		now += most * S;
		assert_false(failed_lately(&all, &a, now));
	}
	failed_forget(&all, &a, now);
	failed_add(&all, &a, now);
	assert_false(failed_lately(&all, &a, now + 2 * S));		/* it had accepted a connection */
	now += 100 * S;
	failed_add(&all, &a, now);
	assert_false(failed_lately(&all, &a, now + 2 * S));		/* nor does a failure count for ever */
}

static void
test_the_latest_failures_are_kept(void **state)
{
	struct failed all = { 0 };
	int64_t now = 1000 * S;

	(void)state;
	for (uint16_t i = 1; i <= FAILED_MAX + 1; i++) {
		const struct address a = address(i);

		failed_add(&all, &a, now += 1000);
	}
	for (uint16_t i = 1; i <= FAILED_MAX + 1; i++) {
		const struct address a = address(i);

		assert_int_equal(failed_lately(&all, &a, now), i > 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_is_tried_last_for_longer_each_time),
		cmocka_unit_test(test_the_latest_failures_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
