/* test_endpoint.c - tests of endpoints and addresses. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stent/endpoint.h"

enum { L = 1 << ENDPOINT_LISTEN, B = 1 << ENDPOINT_BACKEND, BOTH = L | B };

static const struct {
	const char *text;
	unsigned uses;			/* where it may stand */
	enum endpoint_kind kind;
	const char *host;
	const char *address;		/* as address_text() has it, of kinds with one */
} good[] = {
	{ "127.0.0.1:80", BOTH, ENDPOINT_ADDRESS, NULL, "127.0.0.1:80" },
	{ "0.0.0.0:65535", BOTH, ENDPOINT_ADDRESS, NULL, "0.0.0.0:65535" },
	{ "[::1]:1", BOTH, ENDPOINT_ADDRESS, NULL, "[::1]:1" },
	{ "[2001:db8::1]:5432", BOTH, ENDPOINT_ADDRESS, NULL, "[2001:db8::1]:5432" },
	{ "[fe80::1%1]:80", BOTH, ENDPOINT_ADDRESS, NULL, "[fe80::1]:80" },
	{ "[fe80::1%lo]:80", BOTH, ENDPOINT_ADDRESS, NULL, "[fe80::1]:80" },
	{ "[::ffff:192.0.2.1]:80", BOTH, ENDPOINT_ADDRESS, NULL, "192.0.2.1:80" },
	{ ":6432", L, ENDPOINT_ANY, NULL, "[::]:6432" },
	{ "db:5432", B, ENDPOINT_NAME, "db", NULL },
	{ "db1.example.com.:5432", B, ENDPOINT_NAME, "db1.example.com.", NULL },
	{ "my_service-2:1", B, ENDPOINT_NAME, "my_service-2", NULL },
	{ "1.2.3.4.example:1", B, ENDPOINT_NAME, "1.2.3.4.example", NULL },
	{ "unix:/run/x.sock", BOTH, ENDPOINT_UNIX, "/run/x.sock", "unix" },
	{ "unix:@stent", BOTH, ENDPOINT_UNIX, "@stent", "unix" },
	{ "fd:pg", L, ENDPOINT_FD, "pg", NULL },
	{ "original", B, ENDPOINT_ORIGINAL, NULL, NULL },
};

static const struct {
	const char *text;
	unsigned uses;
	const char *word;		/* in what is said of it */
} bad[] = {
	{ "", BOTH, "empty" }, { "db", BOTH, "no port" }, { "80", BOTH, "port without a host" }, { "/run/x.sock", BOTH, "unix:PATH" },
	{ "db:", BOTH, "no port" }, { "db:pg", BOTH, "not a number" }, { "db:-1", BOTH, "not a number" },
	{ "db:+1", BOTH, "not a number" }, { "db:0x50", BOTH, "not a number" }, { "db:100000", BOTH, "not a number" },
	{ "db:0", BOTH, "range" }, { "db:65536", BOTH, "range" }, { "127.0.0.1:0", BOTH, "range" },
	{ "127.1:80", BOTH, "IPv4" }, { "256.1.1.1:80", BOTH, "IPv4" }, { "1.2.3.4.5:80", BOTH, "IPv4" },
	{ "2130706433:80", BOTH, "IPv4" }, { "127.0.0.01:80", BOTH, "IPv4" },
	{ "::1:80", BOTH, "brackets" }, { "[::1]", BOTH, "no port" }, { "[::1]80", BOTH, "no port" },
	{ "[::1:80", BOTH, "closing ]" }, { "[db]:80", BOTH, "IPv6" }, { "[127.0.0.1]:80", BOTH, "IPv6" },
	{ "[]:80", BOTH, "IPv6" }, { "[fe80::1%nosuchif]:80", BOTH, "interface" }, { "[fe80::1%]:80", BOTH, "interface" },
	{ "*:80", BOTH, ":PORT" }, { "a b:80", BOTH, "space" }, { "http://db:80", BOTH, "URL" },
	{ "d..b:80", BOTH, "host name" }, { ".db:80", BOTH, "host name" }, { "d/b:80", BOTH, "host name" },
	{ "unix:", BOTH, "no path" }, { "unix:@", BOTH, "no path" },
	{ ":80", B, "no host" }, { "fd:pg", B, "listened on" }, { "fd:", L, "no name" },
	{ "original", L, "backend" }, { "db:80", L, "is a host name" }, { "localhost:80", L, "127.0.0.1" },
};

static void
test_good_endpoints(void **state)
{
	char buf[ADDRESS_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		for (int use = ENDPOINT_LISTEN; use <= ENDPOINT_BACKEND; use++) {
			struct endpoint ep;
			struct address a;
			const char *why = NULL;
			int r = endpoint_parse(&ep, good[i].text, (enum endpoint_use)use, &why);

			if ((good[i].uses & 1U << use) == 0) {
				assert_int_equal(r, -EINVAL);
				assert_non_null(why);
				continue;
			}
			if (r != 0)
				fail_msg("\"%s\" %s", good[i].text, why);
			assert_int_equal(ep.kind, good[i].kind);
			assert_string_equal(ep.text, good[i].text);
			if (good[i].host != NULL)
				assert_string_equal(ep.host, good[i].host);
			else
				assert_null(ep.host);
			a = address_from_sockaddr((struct sockaddr *)&ep.addr);
			if (good[i].address != NULL)
				assert_string_equal(address_text(&a, buf), good[i].address);
			assert_int_equal(ep.addr_len != 0, good[i].address != NULL);
			endpoint_clear(&ep);
		}
	}
}

static void
test_wrong_endpoints_say_what_to_do(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (int use = ENDPOINT_LISTEN; use <= ENDPOINT_BACKEND; use++) {
			struct endpoint ep;
			const char *why = NULL;

			if ((bad[i].uses & 1U << use) == 0)
				continue;
			if (endpoint_parse(&ep, bad[i].text, (enum endpoint_use)use, &why) != -EINVAL)
				fail_msg("\"%s\" was taken", bad[i].text);
			if (strstr(why, bad[i].word) == NULL || strstr(why, "; ") == NULL)
				fail_msg("\"%s\" %s", bad[i].text, why);
			assert_null(ep.text);
		}
	}
}

static void
test_unix_paths(void **state)
{
	char text[128] = "unix:";
	struct endpoint ep;
	const char *why;

	(void)state;
	memset(text + 5, 'p', 107);
	text[5] = '/';
	assert_int_equal(endpoint_parse(&ep, text, ENDPOINT_LISTEN, &why), 0);
	assert_int_equal(ep.addr_len, sizeof(struct sockaddr_un));	/* its NUL is the last byte */
	endpoint_clear(&ep);
	text[5 + 107] = 'p';
	assert_int_equal(endpoint_parse(&ep, text, ENDPOINT_LISTEN, &why), -EINVAL);

	assert_int_equal(endpoint_parse(&ep, "unix:@ab", ENDPOINT_LISTEN, &why), 0);
	assert_int_equal(ep.addr_len, offsetof(struct sockaddr_un, sun_path) + 3);
	assert_memory_equal(((struct sockaddr_un *)&ep.addr)->sun_path, "\0ab", 3);
	endpoint_clear(&ep);
}

static void
test_long_names(void **state)
{
	char text[300];
	struct endpoint ep;
	const char *why;

	(void)state;
	snprintf(text, sizeof(text), "%063d:80", 0);
	text[0] = 'a';
	assert_int_equal(endpoint_parse(&ep, text, ENDPOINT_BACKEND, &why), 0);
	endpoint_clear(&ep);
	snprintf(text, sizeof(text), "%064d:80", 0);
	text[0] = 'a';
	assert_int_equal(endpoint_parse(&ep, text, ENDPOINT_BACKEND, &why), -EINVAL);
	memset(text, 'a', sizeof(text));
	for (size_t i = 9; i < 254; i += 10)
		text[i] = '.';
	strcpy(text + 254, ":80");
	assert_int_equal(endpoint_parse(&ep, text, ENDPOINT_BACKEND, &why), -EINVAL);
	strcpy(text + 253, ":80");
	assert_int_equal(endpoint_parse(&ep, text, ENDPOINT_BACKEND, &why), 0);
	endpoint_clear(&ep);
}

static const struct {
	const char *a, *b;
	bool clash;
} pairs[] = {
	{ "127.0.0.1:80", "127.0.0.1:80", true },
	{ "127.0.0.1:80", "127.0.0.1:81", false },
	{ "127.0.0.1:80", "127.0.0.2:80", false },
	{ "0.0.0.0:80", "127.0.0.1:80", true },
	{ "0.0.0.0:80", "0.0.0.0:80", true },
	{ "0.0.0.0:80", "127.0.0.1:81", false },
	{ "0.0.0.0:80", "[::]:80", false },		/* one family each */
	{ "0.0.0.0:80", "[::1]:80", false },
	{ "[::]:80", "[::1]:80", true },
	{ "[::1]:80", "[0::1]:80", true },		/* the same, written otherwise */
	{ "[::ffff:127.0.0.1]:80", "127.0.0.1:80", true },
	{ "[::ffff:127.0.0.1]:80", "[::]:80", false },
	{ "[fe80::1%1]:80", "[fe80::1%2]:80", false },
	{ ":80", ":80", true },
	{ ":80", "127.0.0.1:80", true },
	{ ":80", "0.0.0.0:80", true },
	{ ":80", "[::]:80", true },
	{ ":80", ":81", false },
	{ "unix:/a", "unix:/a", true },
	{ "unix:/a", "unix:/b", false },
	{ "unix:@a", "unix:@a", true },
	{ "unix:a", "unix:@a", false },
	{ "fd:a", "fd:a", true },
	{ "fd:a", "fd:b", false },
	{ "fd:a", "unix:a", false },
	{ "unix:/a", ":80", false },
};

static void
test_clashes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct endpoint a, b;
		const char *why;

		assert_int_equal(endpoint_parse(&a, pairs[i].a, ENDPOINT_LISTEN, &why), 0);
		assert_int_equal(endpoint_parse(&b, pairs[i].b, ENDPOINT_LISTEN, &why), 0);
		if (endpoint_clash(&a, &b) != pairs[i].clash || endpoint_clash(&b, &a) != pairs[i].clash)
			fail_msg("%s and %s", pairs[i].a, pairs[i].b);
		endpoint_clear(&a);
		endpoint_clear(&b);
	}
}

static void
test_addresses(void **state)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(5432) };
	struct sockaddr sa = { .sa_family = AF_UNIX };
	struct address a;
	char buf[ADDRESS_TEXT_MAX];

	(void)state;
	assert_int_equal(sizeof(struct address), 20);
	inet_pton(AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &in6.sin6_addr);
	a = address_from_sockaddr((struct sockaddr *)&in6);
	assert_string_equal(address_text(&a, buf), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:5432");
	inet_pton(AF_INET6, "::ffff:192.0.2.1", &in6.sin6_addr);
	a = address_from_sockaddr((struct sockaddr *)&in6);
	assert_int_equal(a.family, AF_INET);
	assert_string_equal(address_text(&a, buf), "192.0.2.1:5432");
	a = address_from_sockaddr(&sa);
	assert_string_equal(address_text(&a, buf), "unix");
	sa.sa_family = AF_UNSPEC;
	a = address_from_sockaddr(&sa);
	assert_string_equal(address_text(&a, buf), "-");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_endpoints),
		cmocka_unit_test(test_wrong_endpoints_say_what_to_do),
		cmocka_unit_test(test_unix_paths),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_clashes),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
