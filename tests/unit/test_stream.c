/* test_stream.c - facts about readers of events: which they get, what a slow one loses, and how many there may be. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/stream.h"
#include "fake_server.h"
#include "stent/events.h"
#include "stent/log.h"

#define READERS_MAX 32
#define QUEUE_MAX 4096
#define MANY 3000		/* events of 1 KiB: more than a reader's buffer and its socket's */

static struct server server;
static struct event_base *base;
static struct stream *stream;
static char text[8 * 1024 * 1024];

static int
set_up(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);	/* as the program does */
	fake_server_init(&server);
	base = event_base_new();
	return stream_start(&stream, &server, base);
}

static int
tear_down(void **state)
{
	(void)state;
	stream_free(stream);
	event_base_free(base);
	return 0;
}

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* The reader's end of a new one's socket; or -errno, with why. */
static int
add(const char *request, char why[STREAM_WHY_MAX])
{
	int fds[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	r = stream_add_reader(stream, request, fds[0], why);
	if (r == 0)
		return fds[1];
	close(fds[0]);
	close(fds[1]);
	return r;
}

static void
say(enum event_kind kind, const char *route, const char *word)
{
	const struct log_field fields[] = { { .name = "route", .text = route }, { .name = "word", .text = word } };

	events_say(kind, fields + (route == NULL), route == NULL ? 1 : 2);
}

/* All that this reader can be given. */
static const char *
receive(int fd)
{
	size_t len = 0;
	ssize_t n;

	for (int idle = 0; idle < 3;) {
		turn();
		n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
		if (n > 0)
			len += (size_t)n;
		idle = n > 0 ? 0 : idle + 1;
	}
	text[len] = '\0';
	return text;
}

static size_t
count(const char *in, const char *what)
{
	size_t n = 0;

	for (const char *p = strstr(in, what); p != NULL; p = strstr(p + 1, what))
		n++;
	return n;
}

static void
test_each_gets_what_it_asked_for(void **state)
{
	char why[STREAM_WHY_MAX];
	const int all = add("events", why), of_route = add("events route=pg", why), kinds = add("events kind=limit,reload", why);
	const char *got;

	(void)state;
	assert_true(all >= 0 && of_route >= 0 && kinds >= 0);
	say(EVENT_FLOW_BEGIN, "pg", "one");
	say(EVENT_FLOW_BEGIN, "other", "two");
	say(EVENT_LIMIT, NULL, "three");
	got = receive(all);
	assert_non_null(strstr(got, "one"));
	assert_non_null(strstr(got, "two"));
	assert_non_null(strstr(got, "three"));
	got = receive(of_route);
	assert_int_equal(count(got, "\n"), 1);
	assert_non_null(strstr(got, "one"));
	got = receive(kinds);
	assert_int_equal(count(got, "\n"), 1);
	assert_non_null(strstr(got, "three"));
	close(all);
	close(of_route);
	close(kinds);
}

/* Without a reader events are not even gathered; with one of a kind, that kind alone. */
static void
test_what_is_wanted_follows_the_readers(void **state)
{
	char why[STREAM_WHY_MAX];
	struct stream_figures figures;
	int fd;

	(void)state;
	assert_false(events_want(EVENT_LIMIT));
	fd = add("events kind=limit", why);
	assert_true(events_want(EVENT_LIMIT));
	assert_false(events_want(EVENT_RELOAD));
	assert_int_equal(send(fd, "anything", 8, 0), 8);	/* a reader says nothing; it may */
	turn();
	assert_true(events_want(EVENT_LIMIT));
	close(fd);
	turn();
	assert_false(events_want(EVENT_LIMIT));
	stream_read_figures(stream, &figures);
	assert_int_equal(figures.readers, 0);
}

static void
test_a_wrong_request(void **state)
{
	char why[STREAM_WHY_MAX];

	(void)state;
	assert_int_equal(add("events kind=nonsense", why), -EINVAL);
	assert_non_null(strstr(why, "\"nonsense\" is not a kind"));
	assert_int_equal(add("events route=nonsense", why), -EINVAL);
	assert_non_null(strstr(why, "no route \"nonsense\""));
	assert_int_equal(add("events nonsense", why), -EINVAL);
	assert_non_null(strstr(why, "route=NAME"));
	assert_int_equal(stream_add_reader(stream, "events kind=limit", -1, why), 0);	/* checked only */
	assert_false(events_want(EVENT_LIMIT));
}

static void
test_a_limit_of_readers(void **state)
{
	char why[STREAM_WHY_MAX];
	int fds[READERS_MAX];

	(void)state;
	for (size_t i = 0; i < READERS_MAX; i++) {
		fds[i] = add("events", why);
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(add("events", why), -EBUSY);
	assert_non_null(strstr(why, "limit"));
	close(fds[7]);
	turn();
	fds[7] = add("events", why);
	assert_true(fds[7] >= 0);
	for (size_t i = 0; i < READERS_MAX; i++)
		close(fds[i]);
	turn();
}

/* One that does not read loses events, and is told how many when it reads again; another beside it loses none. */
static void
test_a_slow_reader_is_told_what_it_lost(void **state)
{
	char why[STREAM_WHY_MAX], word[1024];
	const int slow = add("events", why), quick = add("events", why);
	struct stream_figures figures;
	size_t n_quick = 0, n_slow;
	const char *got, *lost;

	(void)state;
	memset(word, 'w', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	for (size_t i = 0; i < MANY; i++) {
		say(EVENT_LIMIT, "pg", word);
		if (i % 50 == 49)
			n_quick += count(receive(quick), "\"limit\"");
	}
	assert_int_equal(n_quick, MANY);
	stream_read_figures(stream, &figures);
	assert_true(figures.lost > 0 && figures.lost < MANY);
	got = receive(slow);
	n_slow = count(got, "\"limit\"");
	lost = strstr(got, "{\"event\":\"lost\",\"count\":");
	assert_non_null(lost);
	assert_int_equal(n_slow + (size_t)atoi(lost + 24), MANY);
	assert_int_equal((size_t)atoi(lost + 24), figures.lost);
	say(EVENT_LIMIT, "pg", "again");
	got = receive(slow);
	assert_int_equal(count(got, "\n"), 1);
	close(slow);
	close(quick);
	turn();
}

/* What the queue of the workers could not hold, every reader has lost. */
static void
test_a_full_queue(void **state)
{
	char why[STREAM_WHY_MAX];
	const int fd = add("events", why);
	const char *got;

	(void)state;
	for (size_t i = 0; i < QUEUE_MAX + 10; i++)
		say(EVENT_LIMIT, NULL, "x");
	got = receive(fd);
	assert_non_null(strstr(got, "{\"event\":\"lost\",\"count\":10}"));
	close(fd);
	turn();
}

/* The socket of a slow reader breaks while it is written to. */
static void
test_a_slow_reader_that_goes(void **state)
{
	char why[STREAM_WHY_MAX], word[1024];
	const int fd = add("events", why);
	struct stream_figures figures;

	(void)state;
	memset(word, 'w', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	for (size_t i = 0; i < 500; i++)
		say(EVENT_LIMIT, NULL, word);
	turn();
	close(fd);
	turn();
	turn();
	stream_read_figures(stream, &figures);
	assert_int_equal(figures.readers, 0);
	assert_false(events_want(EVENT_LIMIT));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_gets_what_it_asked_for),
		TEST(test_what_is_wanted_follows_the_readers),
		TEST(test_a_wrong_request),
		TEST(test_a_limit_of_readers),
		TEST(test_a_slow_reader_is_told_what_it_lost),
		TEST(test_a_full_queue),
		TEST(test_a_slow_reader_that_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
