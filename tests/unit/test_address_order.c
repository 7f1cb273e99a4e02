/* test_address_order.c - the examples of RFC 6724, section 10.2, and what this machine's routes make of addresses. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "stent/address_order.h"

/* NULL: no address. */
static struct sockaddr_storage
at(const char *ip)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	if (ip != NULL && inet_pton(AF_INET, ip, &in->sin_addr) == 1) {
		ss.ss_family = AF_INET;
	} else if (ip != NULL) {
		assert_int_equal(inet_pton(AF_INET6, ip, &in6->sin6_addr), 1);
		ss.ss_family = AF_INET6;
	}
	return ss;
}

static void
test_the_better_of_two(void **state)
{
	static const struct {
		const char *better, *from, *worse, *worse_from;
	} rows[] = {
		{ "2001:db8:1::1", "2001:db8:1::2", "198.51.100.121", "169.254.13.78" },	/* the scope matches */
		{ "198.51.100.121", "198.51.100.117", "2001:db8:1::1", "fe80::1" },
		{ "2001:db8:1::1", "2001:db8:1::2", "10.1.2.3", "10.1.2.4" },		/* precedence */
		{ "198.51.100.121", "198.51.100.117", "2001:db8:1::1", "2002:c633:6401::2" },	/* the label matches */
		{ "198.51.100.121", "198.51.100.1", "2002:c633:6401::1", "2002:c633:6401::2" },
		{ "198.51.100.1", "10.0.0.1", "fd11::1", "fd11::2" },
		{ "fd11::1", "fd11::2", "2001:db8:1::1", NULL },			/* there is a route */
		{ "10.0.0.1", "10.0.0.2", "2001:db8:1::1", NULL },
		{ "fe80::1", "fe80::2", "2001:db8:1::1", "2001:db8:1::2" },		/* smaller scope */
		{ "::1", "::1", "127.0.0.1", "127.0.0.1" },
	};
	static const struct {
		const char *a, *from_a, *b, *from_b;
	} equals[] = {
		{ "10.0.0.1", "10.0.0.9", "198.51.100.1", "10.0.0.9" },		/* so name servers can spread load */
		{ "2001:db8:1::1", "2001:db8:1::2", "2001:db8:ffff::1", "2001:db8:1::2" },
		{ "10.0.0.1", NULL, "2001:db8:1::1", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct sockaddr_storage a = at(rows[i].better), fa = at(rows[i].from), b = at(rows[i].worse), fb = at(rows[i].worse_from);

		assert_true(address_compare(&a, &fa, &b, &fb) < 0);
		assert_true(address_compare(&b, &fb, &a, &fa) > 0);
	}
	for (size_t i = 0; i < sizeof(equals) / sizeof(equals[0]); i++) {
		const struct sockaddr_storage a = at(equals[i].a), fa = at(equals[i].from_a), b = at(equals[i].b), fb = at(equals[i].from_b);

		assert_int_equal(address_compare(&a, &fa, &b, &fb), 0);
	}
}

/* 255.255.255.255 is nobody's: connect() refuses it without SO_BROADCAST. */
static void
test_those_without_a_route_go_last(void **state)
{
	struct sockaddr_storage list[] = { at("255.255.255.255"), at("127.0.0.3"), at("127.0.0.2"), at("127.0.0.1") };
	const struct sockaddr_storage sorted[] = { at("127.0.0.3"), at("127.0.0.2"), at("127.0.0.1"), at("255.255.255.255") };

	(void)state;
	address_order(list, 4);
	assert_memory_equal(list, sorted, sizeof(list));
	address_order(list, 1);
	address_order(list, 0);
	assert_memory_equal(list, sorted, sizeof(list));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_better_of_two),
		cmocka_unit_test(test_those_without_a_route_go_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
