/* test_name_files.c - facts about /etc/hosts and /etc/resolv.conf. */
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

#include "stent/name_files.h"

static FILE *
file_of(const char *text)
{
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");	/* which reads it only */

	assert_non_null(f);
	return f;
}

static const struct resolv_conf *
read_resolv(const char *text, const char *hostname)
{
	static struct resolv_conf c;
	FILE *f = *text != '\0' ? file_of(text) : NULL;

	memset(&c, 0xee, sizeof(c));
	resolv_conf_read(&c, f, hostname);
	if (f != NULL)
		fclose(f);
	return &c;
}

static const char *
address(const struct sockaddr_storage *ss)
{
	static char text[INET6_ADDRSTRLEN + 24];
	char ip[INET6_ADDRSTRLEN];
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

	if (ss->ss_family == AF_INET)
		snprintf(text, sizeof(text), "%s %u", inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip)), ntohs(in->sin_port));
	else
		snprintf(text, sizeof(text), "%s%%%u %u", inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip)),
		    in6->sin6_scope_id, ntohs(in6->sin6_port));
	return text;
}

static void
test_name_servers(void **state)
{
	static const struct {
		const char *text, *server, *unread;
	} rows[] = {
		{ "", "127.0.0.1 53", "" },
		{ "nameserver\n", "127.0.0.1 53", "" },
		{ "# nameserver 10.0.0.1\n; nameserver 10.0.0.2\n", "127.0.0.1 53", "" },
		{ "nameserver 10.0.0.3", "10.0.0.3 53", "" },
		{ "  nameserver\t10.0.0.3  # ours\r\n", "10.0.0.3 53", "" },
		{ "nameserver 10.0.0.3:5353\n", "10.0.0.3 5353", "" },
		{ "nameserver fd00::1\n", "fd00::1%0 53", "" },
		{ "nameserver [fd00::1]\n", "fd00::1%0 53", "" },
		{ "nameserver [fd00::1]:5353\n", "fd00::1%0 5353", "" },
		{ "nameserver fe80::1%lo\n", "fe80::1%1 53", "" },
		{ "nameserver fe80::1%7\n", "fe80::1%7 53", "" },
		{ "nameserver nobody\n", "127.0.0.1 53", "nobody" },
		{ "nameserver 10.0.0:5353\nnameserver 10.0.0.3:0\nnameserver [::1\nnameserver 10.0.0.4\n", "10.0.0.4 53", "10.0.0:5353" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct resolv_conf *c = read_resolv(rows[i].text, "host");

		assert_int_equal(c->n_servers, 1);
		assert_string_equal(address(&c->server[0]), rows[i].server);
		assert_string_equal(c->unread, rows[i].unread);
	}
	assert_int_equal(read_resolv("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n", "host")->n_servers, 3);
}

/* What is read twice is the same in every byte. */
static void
test_files_can_be_compared(void **state)
{
	static const char text[] = "nameserver bad\nnameserver 10.0.0.1\nsearch a b\n";
	struct resolv_conf first;

	(void)state;
	memcpy(&first, read_resolv(text, "host"), sizeof(first));
	assert_memory_equal(&first, read_resolv(text, "host"), sizeof(first));
}

/* All the names that are tried, with a blank between them. */
static const char *
candidates(const char *text, const char *name)
{
	static char all[2000];
	char one[DNS_NAME_MAX + 1];

	all[0] = '\0';
	for (size_t i = 0; resolv_conf_candidate(read_resolv(text, "db1.corp.example"), name, i, one); i++) {
		assert_true(i < 10);
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i > 0 ? " " : "", one);
	}
	return all;
}

static void
test_the_search(void **state)
{
	static const struct {
		const char *text, *name, *tried;
	} rows[] = {
		{ "search a b.c\n", "db", "db.a db.b.c db" },
		{ "search a b.c\n", "db.x", "db.x db.x.a db.x.b.c" },
		{ "search a b.c\n", "db.", "db" },
		{ "search a b.c\n", "db.x.", "db.x" },
		{ "search a\noptions ndots:5\n", "db.x", "db.x.a db.x" },
		{ "search a\noptions timeout:1 ndots:0 rotate\n", "db", "db db.a" },
		{ "search a\noptions ndots:99\n", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.a" },
		{ "search a\noptions ndots:x ndots\n", "db.x", "db.x db.x.a" },
		{ "search a b\ndomain c.\n", "db", "db.c db" },
		{ "search .\n", "db", "db" },
		{ "search\n", "db", "db" },
		{ "", "db", "db.corp.example db" },
	};
	char domains[RESOLV_SEARCH_MAX + 100] = "search", one[DNS_NAME_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(candidates(rows[i].text, rows[i].name), rows[i].tried);
	/* One that would be too long is left out; so is what does not fit into the list. */
	memset(domains + 6, 'x', sizeof(domains) - 7);
	domains[6] = domains[8] = domains[8 + 252] = ' ';
	assert_true(resolv_conf_candidate(read_resolv(domains, "host"), "db", 0, one));
	assert_string_equal(one, "db.x");
	assert_true(resolv_conf_candidate(read_resolv(domains, "host"), "db", 1, one));
	assert_string_equal(one, "db");
	assert_false(resolv_conf_candidate(read_resolv(domains, "host"), "db", 2, one));
}

static const char *
found_in(const char *text, const char *name)
{
	static char all[2000];
	struct sockaddr_storage at[3];
	FILE *f = file_of(text);
	int n = hosts_find(f, name, at, 3);

	fclose(f);
	assert_true(n >= 0);
	all[0] = '\0';
	for (int i = 0; i < n; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i > 0 ? ", " : "", address(&at[i]));
	return all;
}

static void
test_hosts(void **state)
{
	static const char text[] =
	    "127.0.0.1 localhost\n::1 localhost ip6-localhost\n# 10.0.0.1 db\n"
	    "\t10.0.0.2\tDb.example db # not other\n\n10.0.0.2 db\nfe80::1%lo db\n10.0.0 bad\nnobody bad\n10.0.0.9 bad other\n10.0.0.10";

	(void)state;
	assert_string_equal(found_in(text, "localhost"), "127.0.0.1 0, ::1%0 0");
	assert_string_equal(found_in(text, "db"), "10.0.0.2 0, fe80::1%1 0");	/* each once */
	assert_string_equal(found_in(text, "DB.Example."), "10.0.0.2 0");
	assert_string_equal(found_in(text, "bad"), "10.0.0.9 0");
	assert_string_equal(found_in(text, "other"), "10.0.0.9 0");
	assert_string_equal(found_in(text, "example"), "");
	assert_string_equal(found_in(text, "10.0.0.2"), "");
	assert_string_equal(found_in("1.1.1.1 x\n1.1.1.2 x\n1.1.1.3 x\n1.1.1.4 x\n", "x"), "1.1.1.1 0, 1.1.1.2 0, 1.1.1.3 0");
}

static void
test_localhost(void **state)
{
	(void)state;
	assert_true(name_is_localhost("localhost"));
	assert_true(name_is_localhost("LocalHost."));
	assert_true(name_is_localhost("db.localhost"));
	assert_false(name_is_localhost("mylocalhost"));
	assert_false(name_is_localhost("localhost.example"));
	assert_false(name_is_localhost("host"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name_servers),
		cmocka_unit_test(test_files_can_be_compared),
		cmocka_unit_test(test_the_search),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_localhost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
