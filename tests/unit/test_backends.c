/* test_backends.c - what is known of backends, and the order in which they are tried. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "relay/backend_state.h"
#include "relay/balance.h"
#include "relay/shared.h"

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

/* The addresses of one name are put in order as backends are. */
static void
test_addresses_of_a_name_are_balanced(void **state)
{
	static const char *const balances[] = { "--balance=first", "--balance=least-flows", "--balance=hash-client" };
	struct sockaddr_storage at[4], first = { 0 };
	size_t moved = 0, others = 0;

	(void)state;
	for (size_t k = 0; k < 3; k++) {
		struct backends *b = backends_new();
		struct route_shared shared = { .backends = b };
		struct relay_shared *all = calloc(1, sizeof(*all) + sizeof(all->routes[0]));
		struct relay relay = { .shared = all };
		struct config *c = NULL;
		struct flow f = { .relay = &relay };
		struct address busy = address(0x0a000001);

		assert_int_equal(config_from_args(&c, "127.0.0.1:1", "db1:5432", (char *[]){ (char *)(uintptr_t)balances[k] }, 1, stderr), 0);
		assert_int_equal(backends_adopt(b, c->routes), 0);
		backends_use(b, c->routes);
		all->n_routes = 1;
		all->routes[0] = &shared;
		f.route = c->routes;
		assert_true(backends_count(b, 0, &busy));
		for (uint32_t client = 0; client < 100; client++) {
			f.client = address(0xc0000200 + client);
			for (uint32_t i = 0; i < 4; i++) {
				at[i] = (struct sockaddr_storage){ .ss_family = AF_INET };
				((struct sockaddr_in *)&at[i])->sin_addr.s_addr = htonl(0x0a000001 + i);
			}
			balance_addresses(&f, 0, at, 4);
			if (k == 0)
				assert_int_equal(((struct sockaddr_in *)&at[0])->sin_addr.s_addr, htonl(0x0a000001));
			else if (k == 1)		/* the one with a flow comes last */
				assert_int_equal(((struct sockaddr_in *)&at[3])->sin_addr.s_addr, htonl(0x0a000001));
			if (k == 2 && client == 0)
				first = at[0];
			moved += k == 2 && memcmp(&at[0], &first, sizeof(first)) != 0;
			others += k == 1 && ((struct sockaddr_in *)&at[0])->sin_addr.s_addr != htonl(0x0a000002);
		}
		balance_addresses(&f, 0, at, 1);
		backends_uncount(b, 0, &busy);
		backends_free(b);
		config_release(c);
		free(all);
	}
	assert_in_range(moved, 50, 99);		/* clients are spread */
	assert_in_range(others, 50, 99);	/* and those with as few flows take turns */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_stay_right_while_the_list_changes),
		cmocka_unit_test(test_what_is_not_in_use_is_unknown),
		cmocka_unit_test(test_the_hash_spreads_clients_and_moves_few),
		cmocka_unit_test(test_addresses_of_a_name_are_balanced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
