/* test_reason.c - the table of close reasons: each has a text, and each errno its reason. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* cmocka.h needs the four above */
#include <cmocka.h>

#include "relay/ending.h"

/* Each text once, as LEG-WHAT where a leg is the cause. */
static void
test_every_reason_has_a_text_of_its_own(void **state)
{
	(void)state;
	for (int r = REASON_NONE; r < REASON_COUNT; r++) {
		assert_non_null(reason_text((enum close_reason)r));
		for (int other = REASON_NONE; other < r; other++)
			assert_string_not_equal(reason_text((enum close_reason)r), reason_text((enum close_reason)other));
	}
	assert_string_equal(reason_text(REASON_COUNT), reason_text(REASON_NONE));
}

static void
test_both_sides_have_the_same_texts(void **state)
{
	(void)state;
	for (int r = REASON_CLIENT_FIN; r < REASON_BACKEND_FIN; r++) {
		const char *client = reason_text((enum close_reason)r);
		const char *backend = reason_text(reason_on_side((enum close_reason)r, BACKEND));

		assert_memory_equal(client, "client-", 7);
		assert_memory_equal(backend, "backend-", 8);
		assert_string_equal(client + 7, backend + 8);
		assert_int_equal(reason_on_side((enum close_reason)r, CLIENT), r);
	}
}

static void
test_errors_find_their_reason(void **state)
{
	static const struct {
		int err;
		enum close_reason client, backend;
	} expected[] = {
		{ ECONNRESET, REASON_CLIENT_RESET, REASON_BACKEND_RESET },
		{ EPIPE, REASON_CLIENT_RESET, REASON_BACKEND_RESET },
		{ EHOSTUNREACH, REASON_CLIENT_UNREACHABLE, REASON_BACKEND_UNREACHABLE },
		{ ENETUNREACH, REASON_CLIENT_UNREACHABLE, REASON_BACKEND_UNREACHABLE },
		{ ETIMEDOUT, REASON_CLIENT_USER_TIMEOUT, REASON_BACKEND_USER_TIMEOUT },	/* no probe was sent */
		{ ENOMEM, REASON_MEMORY, REASON_MEMORY },
		{ EBADMSG, REASON_CLIENT_ERROR, REASON_BACKEND_ERROR },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		assert_int_equal(reason_from_errno(CLIENT, expected[i].err, NULL, false), expected[i].client);
		assert_int_equal(reason_from_errno(BACKEND, expected[i].err, NULL, false), expected[i].backend);
	}
}

/* A death is an end that no peer announced: the surviving peer is notified as on_dead says. */
static void
test_an_announced_end_is_no_death(void **state)
{
	static const enum close_reason deaths[] = {
		REASON_CLIENT_KEEPALIVE_TIMEOUT, REASON_CLIENT_USER_TIMEOUT, REASON_CLIENT_HEARTBEAT_TIMEOUT, REASON_CLIENT_UNREACHABLE,
	};
	int n = 0;

	(void)state;
	for (int r = REASON_NONE; r < REASON_COUNT; r++)
		n += reason_is_death((enum close_reason)r);
	assert_int_equal(n, 8);
	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
		assert_true(reason_is_death(deaths[i]));
		assert_true(reason_is_death(reason_on_side(deaths[i], BACKEND)));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_reason_has_a_text_of_its_own),
		cmocka_unit_test(test_both_sides_have_the_same_texts),
		cmocka_unit_test(test_errors_find_their_reason),
		cmocka_unit_test(test_an_announced_end_is_no_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
