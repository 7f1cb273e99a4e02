/*
 * test_dns_query.c - facts about one question to the name servers: which is asked when, over what, and whose word counts.
 * The servers are real sockets; all timers run HASTE times as fast.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "name_server.h"
#include "stent/dns_query.h"

#define HASTE 20
#define SERVERS 2

int __real_event_add(struct event *ev, const struct timeval *tv);
int __wrap_event_add(struct event *ev, const struct timeval *tv);

int
__wrap_event_add(struct event *ev, const struct timeval *tv)
{
	const int64_t us = tv != NULL ? ((int64_t)tv->tv_sec * 1000000 + tv->tv_usec) / HASTE : 0;
	const struct timeval soon = { .tv_sec = us / 1000000, .tv_usec = us % 1000000 };

	return __real_event_add(ev, tv != NULL ? &soon : NULL);
}

static struct event_base *base;
static struct name_server server[SERVERS];
static struct resolv_conf conf;
static struct dns_servers *servers;
static struct dns_query *query;
static struct dns_addresses found;
static enum dns_verdict verdict;
static int calls;

static int
set_up(void **state)
{
	(void)state;
	base = event_base_new();
	memset(&conf, 0, sizeof(conf));
	conf.n_servers = SERVERS;
	for (size_t i = 0; i < SERVERS; i++) {
		if (!name_server_open(&server[i], base, AF_INET))
			return -1;
		server[i].udp = SAYS_ADDRESSES;
		server[i].n = server[i].n_tcp = 1;
		conf.server[i] = server[i].at;
	}
	servers = dns_servers_new(base, &conf);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < SERVERS; i++)
		name_server_close(&server[i]);
	dns_servers_unref(servers);
	event_base_free(base);
	return 0;
}

static void
on_done(void *arg, enum dns_type type, enum dns_verdict v, const struct dns_addresses *f)
{
	assert_ptr_equal(arg, &calls);
	assert_true(type == DNS_A || type == DNS_AAAA);
	calls++;
	verdict = v;
	found = (struct dns_addresses){ 0 };
	if (f != NULL)
		found = *f;
	event_base_loopbreak(base);
}

/* Asks, and waits for the end. */
static enum dns_verdict
ask(const char *name, enum dns_type type)
{
	calls = 0;
	assert_int_equal(dns_query_start(&query, servers, name, type, on_done, &calls), 0);
	assert_int_equal(calls, 0);
	while (calls == 0)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(calls, 1);
	return verdict;
}

#define NAME "www.example.test"		/* so many letters are not all in lower case by chance */

/* A message that does not fit is asked for again over TCP, and that has all addresses. */
static void
test_a_truncated_reply_is_repeated_over_tcp(void **state)
{
	(void)state;
	server[0].udp = SAYS_TRUNCATED;
	server[0].n = 2;
	server[0].tcp = SAYS_ADDRESSES;
	server[0].n_tcp = 40;
	assert_int_equal(ask(NAME, DNS_AAAA), DNS_FOUND);
	assert_int_equal(found.n, 40);
	assert_int_equal(found.at[39][15], 40);
	assert_int_equal(server[0].asked, 1);
	assert_int_equal(server[0].asked_tcp, 1);
	assert_int_equal(server[1].asked, 0);
}

static void
test_a_reply_over_tcp_may_come_in_any_pieces(void **state)
{
	(void)state;
	server[0].udp = SAYS_TRUNCATED;
	server[0].n = 0;
	server[0].tcp = SAYS_BYTE_BY_BYTE;
	server[0].n_tcp = 3;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 3);
	assert_int_equal(found.at[2][0], 10);
	assert_int_equal(found.at[2][3], 3);
}

/* Whatever fails over TCP: the addresses that fitted into the first reply are used, and no other server is asked. */
static void
test_what_fitted_is_used_when_tcp_fails(void **state)
{
	static const enum says failures[] = { SAYS_FIN, SAYS_HALF, SAYS_SERVFAIL, SAYS_WRONG_ID, SAYS_TRUNCATED, SAYS_NOTHING };

	(void)state;
	conf.n_servers = 1;
	dns_servers_unref(servers);
	servers = dns_servers_new(base, &conf);
	server[0].udp = SAYS_TRUNCATED;
	server[0].n = 2;
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		server[0].tcp = failures[i];
		assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
		assert_int_equal(found.n, 2);
		assert_int_equal(server[0].asked_tcp, i + 1);
	}
	name_server_shut_tcp(&server[0]);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 2);
}

/* Where nothing fitted, the next server is asked. */
static void
test_the_next_server_is_asked_when_tcp_fails(void **state)
{
	(void)state;
	server[0].udp = SAYS_TRUNCATED;
	server[0].n = 0;
	server[0].tcp = SAYS_FIN;
	server[1].n = 5;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 5);
	server[0].tcp = SAYS_NOTHING;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 5);
	name_server_shut_tcp(&server[0]);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 5);
}

/* Over TCP as well, there may be no such address. */
static void
test_none_over_tcp(void **state)
{
	(void)state;
	server[0].udp = SAYS_TRUNCATED;
	server[0].n = 0;
	server[0].tcp = SAYS_NO_SUCH_NAME;
	assert_int_equal(ask(NAME, DNS_A), DNS_NONE);
	assert_int_equal(server[1].asked, 0);
}

/* A server that does not repeat the spelling is asked again as it is written, and from then on only so. */
static void
test_a_server_that_does_not_repeat_the_spelling(void **state)
{
	(void)state;
	server[0].udp = SAYS_IN_LOWER_CASE;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 2);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 3);
	assert_int_equal(server[1].asked, 0);
}

/* The same for one that knows the name in one spelling only. */
static void
test_a_server_that_knows_one_spelling(void **state)
{
	(void)state;
	server[0].udp = SAYS_IF_AS_WRITTEN;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 2);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 3);
}

/* "No such name" is asked for twice, and then believed: the other server is not asked. */
static void
test_no_such_name(void **state)
{
	(void)state;
	server[0].udp = SAYS_NO_SUCH_NAME;
	assert_int_equal(ask(NAME, DNS_A), DNS_NONE);
	assert_int_equal(server[0].asked, 2);
	assert_int_equal(server[1].asked, 0);
}

static void
test_a_server_that_cannot_say_is_passed_over(void **state)
{
	(void)state;
	server[0].udp = SAYS_SERVFAIL;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 2);
	server[1].udp = SAYS_SERVFAIL;
	assert_int_equal(ask(NAME, DNS_A), DNS_FAILED);
}

/* A server that is silent is asked twice, between the others; the one that replied comes first for a while. */
static void
test_silence_and_the_detour(void **state)
{
	(void)state;
	server[0].udp = SAYS_NOTHING;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 1);
	assert_int_equal(server[1].asked, 1);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[0].asked, 1);
	assert_int_equal(server[1].asked, 2);
	server[1].udp = SAYS_NOTHING;
	assert_int_equal(ask(NAME, DNS_A), DNS_FAILED);
	assert_int_equal(server[0].asked, 3);
	assert_int_equal(server[1].asked, 4);
}

/* A reply that comes after the next server was asked counts. */
static void
test_a_late_reply_counts(void **state)
{
	(void)state;
	server[0].udp = server[1].udp = SAYS_NOTHING;
	calls = 0;
	assert_int_equal(dns_query_start(&query, servers, NAME, DNS_A, on_done, &calls), 0);
	while (server[1].asked == 0)
		event_base_loop(base, EVLOOP_ONCE);
	server[0].udp = SAYS_ADDRESSES;		/* its second question is the first one again */
	while (calls == 0)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(verdict, DNS_FOUND);
	assert_int_equal(server[0].asked, 2);
}

/* Where nobody listens, or there is no way to, the next one is asked at once. */
static void
test_servers_that_are_not_there(void **state)
{
	(void)state;
	name_server_shut_udp(&server[0]);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[1].asked, 1);
	((struct sockaddr_in *)&conf.server[0])->sin_addr.s_addr = htonl(INADDR_BROADCAST);
	dns_servers_unref(servers);
	servers = dns_servers_new(base, &conf);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(server[1].asked, 2);
	conf.n_servers = 1;
	dns_servers_unref(servers);
	servers = dns_servers_new(base, &conf);
	assert_int_equal(ask(NAME, DNS_A), DNS_FAILED);
}

static void
test_a_wrong_id_is_ignored(void **state)
{
	(void)state;
	server[0].udp = SAYS_WRONG_ID;
	server[1].n = 7;
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 7);
}

static void
test_a_server_with_an_ipv6_address(void **state)
{
	struct name_server six;

	(void)state;
	assert_true(name_server_open(&six, base, AF_INET6));
	six.udp = SAYS_TRUNCATED;
	six.tcp = SAYS_ADDRESSES;
	six.n_tcp = 2;
	conf.server[0] = six.at;
	dns_servers_unref(servers);
	servers = dns_servers_new(base, &conf);
	assert_int_equal(ask(NAME, DNS_A), DNS_FOUND);
	assert_int_equal(found.n, 2);
	name_server_close(&six);
}

static void
test_an_invalid_name(void **state)
{
	(void)state;
	assert_int_equal(dns_query_start(&query, servers, "a..test", DNS_A, on_done, &calls), -EINVAL);
}

/* Of a question that was cancelled nothing is heard, whatever state it was in. */
static void
test_a_cancelled_question(void **state)
{
	(void)state;
	calls = 0;
	server[0].udp = SAYS_TRUNCATED;
	server[0].tcp = SAYS_NOTHING;
	assert_int_equal(dns_query_start(&query, servers, NAME, DNS_A, on_done, &calls), 0);
	dns_query_cancel(query);
	assert_int_equal(dns_query_start(&query, servers, NAME, DNS_A, on_done, &calls), 0);
	while (server[0].asked_tcp == 0)
		event_base_loop(base, EVLOOP_ONCE);
	dns_query_cancel(query);
	for (int i = 0; i < 10; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(calls, 0);
	dns_query_cancel(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_truncated_reply_is_repeated_over_tcp),
		TEST(test_a_reply_over_tcp_may_come_in_any_pieces),
		TEST(test_what_fitted_is_used_when_tcp_fails),
		TEST(test_the_next_server_is_asked_when_tcp_fails),
		TEST(test_none_over_tcp),
		TEST(test_a_server_that_does_not_repeat_the_spelling),
		TEST(test_a_server_that_knows_one_spelling),
		TEST(test_no_such_name),
		TEST(test_a_server_that_cannot_say_is_passed_over),
		TEST(test_silence_and_the_detour),
		TEST(test_a_late_reply_counts),
		TEST(test_servers_that_are_not_there),
		TEST(test_a_wrong_id_is_ignored),
		TEST(test_a_server_with_an_ipv6_address),
		TEST(test_an_invalid_name),
		TEST(test_a_cancelled_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
