/*
 * test_negotiation.c - TLS from the first byte; and how the negotiations keep
 * their contract is in negotiation_run.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "negotiation_run.h"

static void
expect_end(struct negotiation_run *r, bool client_tls, bool backend_tls)
{
	assert_int_equal(r->want, NEGOTIATION_DONE);
	assert_int_equal(r->tls[CLIENT], client_tls);
	assert_int_equal(r->tls[BACKEND], backend_tls);
	assert_int_equal(r->got[CLIENT].len + r->got[BACKEND].len, 0);
	negotiation_run_end(r);
}

static void
test_a_client_that_must_or_must_not_is_not_read(void **state)
{
	static const struct negotiation_settings must = { .client = CLIENT_MUST_TLS }, both = { .client = CLIENT_MUST_TLS, .backend = true },
	    backend = { .client = CLIENT_PLAIN, .backend = true };
	struct negotiation_run r;

	(void)state;
	negotiation_run_start(&r, &negotiation_direct, &must);
	expect_end(&r, true, false);
	negotiation_run_start(&r, &negotiation_direct, &both);
	expect_end(&r, true, true);
	negotiation_run_start(&r, &negotiation_direct, &backend);
	expect_end(&r, false, true);
}

static void
test_a_client_that_may_is_known_by_its_first_byte(void **state)
{
	static const struct negotiation_settings may = { .client = CLIENT_MAY_TLS, .backend = true };
	static const char *const first[] = { "\x16\3\1", "GET / HTTP/1.1\r\n", "\x15", "" };
	struct negotiation_run r;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		const size_t len = strlen(first[i]);

		negotiation_run_start(&r, &negotiation_direct, &may);
		assert_int_equal(r.want, NEGOTIATION_READ);
		assert_int_equal(r.side, CLIENT);
		assert_false(r.dialled);
		negotiation_run_feed(&r, CLIENT, first[i], len);
		if (len == 0)
			negotiation_run_fin(&r, CLIENT);
		assert_int_equal(r.unread[CLIENT].len + r.hello[CLIENT], len);
		expect_end(&r, i == 0, true);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_client_that_must_or_must_not_is_not_read),
		cmocka_unit_test(test_a_client_that_may_is_known_by_its_first_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
