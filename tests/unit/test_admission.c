/* test_admission.c - networks of clients, and the limits of each client. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "relay/clients.h"
#include "stent/cidr.h"
#include "stent/clock.h"

static struct address
address(const char *text)
{
	struct address a = { .port = 1 };

	a.family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(a.family, text, a.ip), 1);
	return a;
}

static void
add(struct cidr_set *s, const char *text)
{
	struct cidr_range range;
	const char *why;

	assert_int_equal(cidr_parse(&range, text, &why), 0);
	assert_int_equal(cidr_set_add(s, &range), 0);
}

static bool
has(const struct cidr_set *s, const char *text)
{
	const struct address a = address(text);

	return cidr_set_has(s, &a);
}

static void
test_a_network_has_its_first_and_last_address(void **state)
{
	struct cidr_set s = { 0 };

	(void)state;
	add(&s, "10.1.0.0/16");
	add(&s, "192.0.2.7");
	add(&s, "2001:db8::/33");
	cidr_set_close(&s);
	assert_true(has(&s, "10.1.0.0") && has(&s, "10.1.255.255") && has(&s, "192.0.2.7"));
	assert_false(has(&s, "10.0.255.255") || has(&s, "10.2.0.0") || has(&s, "192.0.2.6") || has(&s, "192.0.2.8"));
	assert_true(has(&s, "2001:db8::") && has(&s, "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"));
	assert_false(has(&s, "2001:db8:8000::") || has(&s, "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"));
	cidr_set_clear(&s);
}

static void
test_families_are_apart_and_mapped_networks_are_ipv4(void **state)
{
	const struct address unix_client = { .family = AF_UNIX };
	struct cidr_set s = { 0 };

	(void)state;
	add(&s, "::/0");
	cidr_set_close(&s);
	assert_true(has(&s, "::1") && !has(&s, "0.0.0.0") && !has(&s, "255.255.255.255"));
	assert_false(cidr_set_has(&s, &unix_client));
	add(&s, "::ffff:10.0.0.0/104");
	cidr_set_close(&s);
	assert_true(has(&s, "10.255.0.1") && !has(&s, "11.0.0.0"));
	cidr_set_clear(&s);
	assert_false(has(&s, "::1"));
}

static void
test_ranges_that_overlap_or_touch_are_one(void **state)
{
	struct cidr_set s = { 0 };
	char text[32];

	(void)state;
	add(&s, "10.0.0.0/8");
	for (int i = 0; i < 256; i++) {
		snprintf(text, sizeof(text), "10.7.%d.0/24", i);
		add(&s, text);
		snprintf(text, sizeof(text), "11.%d.0.0/16", 255 - i);
		add(&s, text);
	}
	add(&s, "255.255.255.255");
	add(&s, "::");
	cidr_set_close(&s);
	assert_int_equal(s.n, 3);
	assert_true(has(&s, "10.0.0.0") && has(&s, "11.255.255.255") && !has(&s, "12.0.0.0") && has(&s, "::"));
	cidr_set_clear(&s);
}

static void
test_each_of_many_is_found(void **state)
{
	struct cidr_set s = { 0 };
	char text[32];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		snprintf(text, sizeof(text), "10.%d.%d.4/31", (i * 7919) % 10000 / 256, (i * 7919) % 10000 % 256);
		add(&s, text);
	}
	cidr_set_close(&s);
	assert_int_equal(s.n, 10000);
	for (int i = 0; i < 10000; i++)
		for (int k = 3; k <= 6; k++) {
			snprintf(text, sizeof(text), "10.%d.%d.%d", i / 256, i % 256, k);
			assert_int_equal(has(&s, text), k == 4 || k == 5);
		}
	cidr_set_clear(&s);
}

static void
test_what_is_no_network(void **state)
{
	static const char *const bad[] = { "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/ 8", "10.0.0.0/8x", "10.0.0.0/0008",
		"10.0.0.0/8/8", "10.0.0", "10.0.0.1/31", "::1/127", "::/129", "fe80::1%lo", "all", " 10.0.0.0" };
	struct cidr_range range;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = NULL;

		assert_int_equal(cidr_parse(&range, bad[i], &why), -EINVAL);
		assert_non_null(why);
	}
}

/* --- the limits of each client --- */

static enum admission
enter(struct client_table *t, const struct route *route, const char *text, int64_t now_us)
{
	const struct address a = address(text);

	return clients_enter(t, route, &a, now_us);
}

static void
leave(struct client_table *t, const char *text)
{
	const struct address a = address(text);

	clients_leave(t, &a, US_PER_S);
}

static void
test_flows_are_counted_by_client(void **state)
{
	const struct route route = { .max_flows_per_client = 2 };
	struct client_table t;

	(void)state;
	clients_init(&t);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(enter(&t, &route, "192.0.2.1", US_PER_S), ADMITTED_COUNTED);
		assert_int_equal(enter(&t, &route, i == 0 ? "2001:db8::1" : "2001:db8::ffff:2", US_PER_S), ADMITTED_COUNTED);
	}
	assert_int_equal(enter(&t, &route, "192.0.2.1", US_PER_S), ADMISSION_MAX_FLOWS_PER_CLIENT);
	assert_int_equal(enter(&t, &route, "2001:db8:0:0:9::1", US_PER_S), ADMISSION_MAX_FLOWS_PER_CLIENT);
	assert_int_equal(enter(&t, &route, "2001:db8:0:1::1", US_PER_S), ADMITTED_COUNTED);
	leave(&t, "192.0.2.1");
	assert_int_equal(enter(&t, &route, "192.0.2.1", US_PER_S), ADMITTED_COUNTED);
	leave(&t, "2001:db8:0:1::1");
	for (int i = 0; i < 2; i++) {
		leave(&t, "192.0.2.1");
		leave(&t, "2001:db8::5");
	}
	assert_int_equal(t.n, 0);		/* nobody is remembered */
	clients_free(&t);
}

/* Those of one second, of the second after it, and how many could come at once after a pause. */
static void
test_a_rate_holds_over_time_and_its_burst_at_once(void **state)
{
	const struct route route = { .accept_rate = { .flows = 10, .per_ms = 1000, .burst = 30 } };
	struct client_table t;
	int64_t now_us = US_PER_S;
	int admitted = 0;

	(void)state;
	clients_init(&t);
	for (int i = 0; i < 100; i++)
		admitted += enter(&t, &route, "192.0.2.1", now_us) == ADMITTED;
	assert_int_equal(admitted, 30);
	for (int i = 0; i < 10000; i++)	/* ten seconds of a client that never pauses */
		admitted += enter(&t, &route, "192.0.2.1", now_us += 1000) == ADMITTED;
	assert_in_range(admitted, 129, 130);
	assert_int_equal(enter(&t, &route, "192.0.2.2", now_us), ADMITTED);
	now_us += 3 * US_PER_S;
	assert_int_equal(enter(&t, &route, "192.0.2.3", now_us), ADMITTED);
	assert_int_equal(t.n, 1);		/* the others may come with a whole burst again */
	clients_free(&t);
}

/* A client that came too fast by a slow rate is not held to it when the settings have a faster one. */
static void
test_a_faster_rate_counts_at_once(void **state)
{
	const struct route slow = { .accept_rate = { .flows = 1, .per_ms = 3600 * 1000, .burst = 5 } };
	const struct route fast = { .accept_rate = { .flows = 10, .per_ms = 1000, .burst = 1 } };
	struct client_table t;

	(void)state;
	clients_init(&t);
	for (int i = 0; i < 6; i++)
		assert_int_equal(enter(&t, &slow, "192.0.2.1", US_PER_S), i < 5 ? ADMITTED : ADMISSION_ACCEPT_RATE);
	assert_int_equal(enter(&t, &fast, "192.0.2.1", US_PER_S), ADMISSION_ACCEPT_RATE);
	assert_int_equal(enter(&t, &fast, "192.0.2.1", US_PER_S + US_PER_S / 10), ADMITTED);
	clients_free(&t);
}

static void
test_a_million_addresses_do_not_fill_the_memory(void **state)
{
	const struct route route = { .accept_rate = { .flows = 1, .per_ms = 3600 * 1000, .burst = 1 }, .max_flows_per_client = 1 };
	struct client_table t;
	char text[64];

	(void)state;
	clients_init(&t);
	assert_int_equal(enter(&t, &route, "192.0.2.1", US_PER_S), ADMITTED_COUNTED);
	for (unsigned i = 0; i < 1000000; i++) {
		snprintf(text, sizeof(text), "2001:db8:%x:%x::1", i >> 16, i & 0xffff);
		assert_int_equal(enter(&t, &route, text, US_PER_S), ADMITTED_COUNTED);
		leave(&t, text);
		assert_true(t.n <= CLIENTS_WITHOUT_FLOWS + 2);
	}
	assert_int_equal(enter(&t, &route, "192.0.2.1", US_PER_S), ADMISSION_MAX_FLOWS_PER_CLIENT);	/* with flows nobody is forgotten */
	clients_sweep(&t, INT64_C(2) * 3600 * US_PER_S);
	assert_int_equal(t.n, 1);
	leave(&t, "192.0.2.1");
	clients_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_network_has_its_first_and_last_address),
		cmocka_unit_test(test_families_are_apart_and_mapped_networks_are_ipv4),
		cmocka_unit_test(test_ranges_that_overlap_or_touch_are_one),
		cmocka_unit_test(test_each_of_many_is_found),
		cmocka_unit_test(test_what_is_no_network),
		cmocka_unit_test(test_flows_are_counted_by_client),
		cmocka_unit_test(test_a_rate_holds_over_time_and_its_burst_at_once),
		cmocka_unit_test(test_a_faster_rate_counts_at_once),
		cmocka_unit_test(test_a_million_addresses_do_not_fill_the_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
