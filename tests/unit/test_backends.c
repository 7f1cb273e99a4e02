/* test_backends.c - what is known of backends, and the order in which they are tried. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "relay/backend_state.h"
#include "relay/balance.h"

#define CLIENTS 10000

/* A route with the backends that are named in text, by comma. */
static struct config *
settings(const char *backends)
{
	struct config *c = NULL;

	assert_int_equal(config_from_args(&c, "127.0.0.1:1", backends, NULL, 0, stderr), 0);
	return c;
}

static struct address
address(uint32_t ip)
{
	struct address a = { .family = AF_INET, .port = 5432 };

	ip = htonl(ip);
	memcpy(a.ip, &ip, sizeof(ip));
	return a;
}

static void
test_counts_stay_right_while_the_list_changes(void **state)
{
	struct config *both = settings("db1:5432, db2:5432"), *second = settings("db2:5432");
	const struct address one = address(1), two = address(2), other = address(3);
	struct backends *b = backends_new();
	struct backend_facts facts;

	(void)state;
	assert_int_equal(backends_adopt(b, both->routes), 0);
	backends_use(b, both->routes);
	assert_true(backends_count(b, 0, &one));
	assert_true(backends_count(b, 1, &two));
	assert_true(backends_count(b, 1, &two));
	assert_true(backends_count(b, 1, &other));
	assert_int_equal(backends_adopt(b, second->routes), 0);
	backends_use(b, second->routes);
	assert_int_equal(second->routes[0].backend_place[0], 1);
	assert_int_equal(backends_facts(b, 1, &facts), -2);
	assert_int_equal(backends_facts(b, 0, &facts), 0);
	assert_int_equal(facts.flows, 3);
	assert_int_equal(facts.n, 2);
	backend_facts_clear(&facts);
	backends_uncount(b, 0, &one);			/* of the one that is gone */
	backends_uncount(b, 1, &two);
	backends_uncount(b, 1, &two);
	assert_int_equal(backends_facts(b, 0, &facts), 0);
	assert_int_equal(facts.flows, 1);
	assert_int_equal(facts.n, 1);
	backend_facts_clear(&facts);
	assert_int_equal(backends_adopt(b, both->routes), 0);
	backends_use(b, both->routes);			/* it is back, in its old place */
	assert_int_equal(backends_facts(b, 1, &facts), 0);
	assert_int_equal(facts.flows, 1);
	backend_facts_clear(&facts);
	backends_free(b);
	config_release(both);
	config_release(second);
}

static void
test_what_is_not_in_use_is_unknown(void **state)
{
	struct config *both = settings("db1:5432, db2:5432"), *second = settings("db2:5432");
	struct backends *b = backends_new();

	(void)state;
	assert_int_equal(backends_adopt(b, both->routes), 0);
	backends_use(b, both->routes);
	assert_int_equal(backends_set(b, 0, BACKEND_DOWN, "backend-refused"), BACKEND_UNKNOWN);
	assert_int_equal(backends_set(b, 0, BACKEND_DOWN, "backend-refused"), BACKEND_DOWN);
	assert_true(backends_is_down(b, 0));
	assert_false(backends_is_down(b, 1));
	assert_int_equal(backends_adopt(b, second->routes), 0);
	backends_use(b, second->routes);
	assert_int_equal(backends_set(b, 0, BACKEND_DOWN, "backend-refused"), BACKEND_DOWN);	/* nobody is told */
	backends_use(b, both->routes);
	assert_false(backends_is_down(b, 0));
	backends_free(b);
	config_release(both);
	config_release(second);
}

/* The backend of a client among n. */
static unsigned
best(const struct address *client, const char *const *names, unsigned n)
{
	unsigned at = 0;

	for (unsigned i = 1; i < n; i++)
		if (balance_hash(client, names[i], strlen(names[i])) < balance_hash(client, names[at], strlen(names[at])))
			at = i;
	return at;
}

static void
test_the_hash_spreads_clients_and_moves_few(void **state)
{
	static const char *const names[] = { "10.0.0.1:5432", "10.0.0.2:5432", "10.0.0.3:5432", "10.0.0.4:5432" };
	unsigned had[4] = { 0 }, got[3] = { 0 };

	(void)state;
	for (uint32_t i = 0; i < CLIENTS; i++) {
		const struct address client = address(0x0a010000 + i);
		const unsigned before = best(&client, names, 4), after = best(&client, names, 3);

		had[before]++;
		if (before < 3)
			assert_int_equal(after, before);
		else
			got[after]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(had[i], CLIENTS / 4 * 9 / 10, CLIENTS / 4 * 11 / 10);
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(got[i], had[3] / 3 * 8 / 10, had[3] / 3 * 12 / 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_stay_right_while_the_list_changes),
		cmocka_unit_test(test_what_is_not_in_use_is_unknown),
		cmocka_unit_test(test_the_hash_spreads_clients_and_moves_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
