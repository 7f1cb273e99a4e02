/*
 * test_resolve.c - facts about looking up a name: the search, both families, the cache. The two files are texts of the test,
 * the replies of name servers too, timers run HASTE times as fast, and the clock is the test's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "stent/dns_query.h"
#include "stent/log.h"
#include "stent/resolve.h"

#define HASTE 20
#define QUESTIONS_MAX 16

static const char *hosts, *resolv_conf;		/* NULL: there is no such file */
static int hosts_errno;
static int64_t now_s;
static struct event_base *base;
static struct resolver *resolver;

/* A question under way. */
static struct question {
	char name[DNS_NAME_MAX + 1];
	enum dns_type type;
	dns_done *done;
	void *arg;
	bool is_open;
} questions[QUESTIONS_MAX];
static size_t n_questions;
static int start_fails;

/* --- the machine --- */

FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);	/* its name where off_t has 64 bits by _FILE_OFFSET_BITS */
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __real_event_add(struct event *ev, const struct timeval *tv);
int __wrap_event_add(struct event *ev, const struct timeval *tv);
int __wrap_dns_query_start(struct dns_query **ret, struct dns_servers *s, const char *name, enum dns_type type, dns_done *done, void *arg);
void __wrap_dns_query_cancel(struct dns_query *q);

FILE *
__wrap_fopen(const char *path, const char *mode)
{
	const bool is_hosts = strcmp(path, "/etc/hosts") == 0;
	const char *text = is_hosts ? hosts : resolv_conf;

	(void)mode;
	errno = is_hosts ? hosts_errno : ENOENT;
	return text != NULL ? fmemopen((void *)(uintptr_t)text, strlen(text), "r") : NULL;
}

FILE *
__wrap_fopen64(const char *path, const char *mode)
{
	return __wrap_fopen(path, mode);
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	*t = (struct timespec){ .tv_sec = now_s };
	return 0;
}

int
__wrap_event_add(struct event *ev, const struct timeval *tv)
{
	const struct timeval soon = { .tv_usec = tv != NULL ? (tv->tv_sec * 1000000 + tv->tv_usec) / HASTE : 0 };

	return __real_event_add(ev, tv != NULL ? &soon : NULL);
}

int
__wrap_dns_query_start(struct dns_query **ret, struct dns_servers *s, const char *name, enum dns_type type, dns_done *done, void *arg)
{
	struct question *q = &questions[n_questions];

	assert_non_null(s);
	if (start_fails != 0)
		return start_fails;
	assert_true(n_questions < QUESTIONS_MAX);
	n_questions++;
	*q = (struct question){ .type = type, .done = done, .arg = arg, .is_open = true };
	snprintf(q->name, sizeof(q->name), "%s", name);
	*ret = (struct dns_query *)(void *)q;
	return 0;
}

void
__wrap_dns_query_cancel(struct dns_query *query)
{
	struct question *q = (struct question *)(void *)query;

	if (q != NULL)
		q->is_open = false;
}

/* A name server's reply to question i: n addresses, IP...01, IP...02 */
static void
reply(size_t i, enum dns_verdict verdict, unsigned n)
{
	struct dns_addresses found = { .n = n };
	struct question *q = &questions[i];

	assert_true(i < n_questions && q->is_open);
	for (unsigned k = 0; k < n; k++) {
		found.at[k][0] = q->type == DNS_A ? 10 : 0xfd;
		found.at[k][q->type == DNS_A ? 3 : 15] = (uint8_t)(k + 1);
	}
	q->is_open = false;
	q->done(q->arg, q->type, verdict, &found);
}

/* --- who asks --- */

struct asker {
	int calls;
	bool found;
	size_t n, n_v4, n_v6;
	struct in_addr v4;
};

static void
on_found(void *arg, const struct host_addresses *h)
{
	struct asker *a = arg;

	a->calls++;
	a->found = h != NULL;
	a->n = a->n_v4 = a->n_v6 = 0;
	for (size_t i = 0; h != NULL && i < h->n; i++) {
		a->n++;
		a->n_v4 += h->at[i].ss_family == AF_INET;
		a->n_v6 += h->at[i].ss_family == AF_INET6;
		if (h->at[i].ss_family == AF_INET)
			a->v4 = ((const struct sockaddr_in *)&h->at[i])->sin_addr;
	}
}

static struct lookup *
ask(struct asker *a, const char *name)
{
	*a = (struct asker){ 0 };
	return resolver_lookup(resolver, name, on_found, a);
}

static void
wait_for(const struct asker *a)
{
	for (int i = 0; i < 100 && a->calls == 0; i++)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(a->calls, 1);
}

static int
set_up(void **state)
{
	const struct log_settings quiet = { .target = TARGET_FILE, .path = "/dev/null", .level = LEVEL_ERROR };

	(void)state;
	hosts = "127.0.0.1 localhost\n";
	resolv_conf = "nameserver 127.0.0.1\nsearch a.test b.test\n";
	hosts_errno = ENOENT;
	start_fails = 0;
	now_s = 1000;
	n_questions = 0;
	base = event_base_new();
	resolver = resolver_new(base);
	return log_open(&quiet) < 0 || resolver == NULL ? -1 : 0;
}

static int
tear_down(void **state)
{
	(void)state;
	resolver_free(resolver);
	event_base_free(base);
	return 0;
}

/* --- facts --- */

static void
test_both_families_are_asked_for_and_used(void **state)
{
	struct asker a;

	(void)state;
	assert_non_null(ask(&a, "db.example"));
	assert_int_equal(n_questions, 2);
	assert_true(questions[0].type != questions[1].type);
	assert_string_equal(questions[0].name, "db.example");
	reply(0, DNS_FOUND, 2);
	assert_int_equal(a.calls, 0);
	reply(1, DNS_FOUND, 3);
	wait_for(&a);
	assert_int_equal(a.n, 5);
	assert_int_equal(a.n_v4 == 2 ? a.n_v6 : a.n_v4, 3);
	assert_int_equal(resolver_known(resolver, "db.example", 1000)->n, 5);
	now_s += 2;
	assert_null(resolver_known(resolver, "db.example", 1000));
	assert_non_null(resolver_known(resolver, "db.example", RESOLVER_ANY_AGE));
	assert_null(resolver_known(resolver, "other.example", 1000));
}

static size_t
question_of(enum dns_type type)
{
	return questions[0].type == type ? 0 : 1;
}

/* The other family may be asked of a server that never replies to it. */
static void
test_one_family_does_not_wait_for_the_other_for_long(void **state)
{
	struct asker a;

	(void)state;
	ask(&a, "db.example");
	reply(question_of(DNS_A), DNS_FOUND, 1);
	wait_for(&a);
	assert_int_equal(a.n_v4, 1);
	assert_int_equal(a.n_v6, 0);
	assert_int_equal(a.v4.s_addr, htonl(0x0a000001));
	assert_false(questions[question_of(DNS_AAAA)].is_open);		/* cancelled */
}

static void
test_the_search_list_is_followed_while_there_is_no_such_name(void **state)
{
	struct asker a;

	(void)state;
	ask(&a, "db");
	assert_string_equal(questions[0].name, "db.a.test");
	reply(0, DNS_NONE, 0);
	reply(1, DNS_NONE, 0);
	assert_int_equal(n_questions, 4);
	assert_string_equal(questions[2].name, "db.b.test");
	reply(2, DNS_NONE, 0);
	reply(3, DNS_FOUND, 1);
	wait_for(&a);
	assert_int_equal(a.n, 1);
}

static void
test_no_such_name(void **state)
{
	struct asker a, b;

	(void)state;
	ask(&a, "db");
	for (size_t i = 0; i < 6; i++)
		reply(i, DNS_NONE, 0);
	wait_for(&a);
	assert_false(a.found);
	ask(&b, "db");		/* not so soon again */
	wait_for(&b);
	assert_false(b.found);
	assert_int_equal(n_questions, 6);
	now_s += 3;
	lookup_cancel(ask(&b, "db"));
	assert_int_equal(n_questions, 8);
}

/* No server can answer: another name of the search would be another host. */
static void
test_the_search_ends_when_nobody_can_answer(void **state)
{
	struct asker a;

	(void)state;
	ask(&a, "db");
	reply(0, DNS_FAILED, 0);
	reply(1, DNS_NONE, 0);
	wait_for(&a);
	assert_false(a.found);
	assert_int_equal(n_questions, 2);
}

/* The addresses of one family are used although nobody can answer for the other. */
static void
test_one_family_fails(void **state)
{
	struct asker a;

	(void)state;
	ask(&a, "db.example");
	reply(0, DNS_FAILED, 0);
	reply(1, DNS_FOUND, 2);
	wait_for(&a);
	assert_int_equal(a.n, 2);
}

static void
test_lookups_of_one_name_share_their_questions(void **state)
{
	struct asker a, b, c;
	struct lookup *cancelled;

	(void)state;
	ask(&a, "db.example");
	ask(&b, "db.example");
	cancelled = ask(&c, "db.example");
	assert_int_equal(n_questions, 2);
	lookup_cancel(cancelled);
	reply(0, DNS_FOUND, 1);
	reply(1, DNS_NONE, 0);
	wait_for(&a);
	assert_int_equal(b.calls, 1);
	assert_int_equal(c.calls, 0);
}

/* What was known serves while the name server is silent, and after it has failed. */
static void
test_known_addresses_outlive_a_name_server(void **state)
{
	struct asker a, b;

	(void)state;
	ask(&a, "db.example");
	reply(0, DNS_FOUND, 1);
	reply(1, DNS_FOUND, 1);
	wait_for(&a);
	now_s += 60;
	ask(&b, "db.example");
	assert_int_equal(n_questions, 4);
	wait_for(&b);			/* PATIENCE_MS */
	assert_int_equal(b.n, 2);
	assert_non_null(resolver_known(resolver, "db.example", 1000));	/* it is overdue: no flow waits for it again */
	reply(2, DNS_FAILED, 0);
	reply(3, DNS_FAILED, 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ask(&b, "db.example");
	wait_for(&b);
	assert_int_equal(b.n, 2);
}

static void
test_the_hosts_file_comes_first(void **state)
{
	struct asker a;

	(void)state;
	hosts = "192.0.2.7 db\n2001:db8::7 db\n";
	ask(&a, "db");
	wait_for(&a);
	assert_int_equal(a.n, 2);
	assert_int_equal(a.v4.s_addr, inet_addr("192.0.2.7"));
	assert_int_equal(n_questions, 0);
}

static void
test_localhost_needs_no_file(void **state)
{
	struct asker a;

	(void)state;
	hosts = resolv_conf = NULL;
	ask(&a, "x.localhost");
	wait_for(&a);
	assert_int_equal(a.n_v4, 1);
	assert_int_equal(a.n_v6, 1);
}

/* A hosts file that is there and cannot be read may name the host: no server is asked. */
static void
test_a_hosts_file_that_cannot_be_read(void **state)
{
	struct asker a;

	(void)state;
	hosts = NULL;
	hosts_errno = EACCES;
	ask(&a, "db.example");
	wait_for(&a);
	assert_false(a.found);
	assert_int_equal(n_questions, 0);
}

/* resolv.conf is read again for each lookup; while it is missing or empty, its last contents count. */
static void
test_resolv_conf_may_change(void **state)
{
	static const char *const texts[] = { "nameserver 127.0.0.1\nsearch c.test\n", "", NULL, "nameserver nonsense\nsearch c.test\n" };
	static const char *const names[] = { "w", "x", "y", "z" };
	char expected[16];
	struct asker a;

	(void)state;
	lookup_cancel(ask(&a, "v"));
	assert_string_equal(questions[0].name, "v.a.test");
	for (size_t i = 0; i < 4; i++) {
		resolv_conf = texts[i];
		n_questions = 0;
		lookup_cancel(ask(&a, names[i]));
		snprintf(expected, sizeof(expected), "%s.c.test", names[i]);
		assert_string_equal(questions[0].name, expected);
	}
}

/* A question that cannot be asked ends the lookup; a name that cannot exist is not found. */
static void
test_a_question_that_cannot_be_asked(void **state)
{
	static const int errors[] = { -ENOMEM, -EINVAL };
	struct asker a;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start_fails = errors[i];
		ask(&a, i == 0 ? "db.example" : "db..example");
		wait_for(&a);
		assert_false(a.found);
	}
}

/* The end of a worker: questions are under way, and flows no longer wait. */
static void
test_the_end_with_questions_under_way(void **state)
{
	struct asker a;

	(void)state;
	lookup_cancel(ask(&a, "db.example"));
	resolver_free(resolver);
	assert_false(questions[0].is_open || questions[1].is_open);
	resolver = NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_families_are_asked_for_and_used),
		TEST(test_one_family_does_not_wait_for_the_other_for_long),
		TEST(test_the_search_list_is_followed_while_there_is_no_such_name),
		TEST(test_no_such_name),
		TEST(test_the_search_ends_when_nobody_can_answer),
		TEST(test_one_family_fails),
		TEST(test_lookups_of_one_name_share_their_questions),
		TEST(test_known_addresses_outlive_a_name_server),
		TEST(test_the_hosts_file_comes_first),
		TEST(test_localhost_needs_no_file),
		TEST(test_a_hosts_file_that_cannot_be_read),
		TEST(test_resolv_conf_may_change),
		TEST(test_a_question_that_cannot_be_asked),
		TEST(test_the_end_with_questions_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
