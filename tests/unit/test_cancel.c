/*
 * test_cancel.c - facts about cancel requests: each arrives whole on a connection of its own; only so many run at a time, the others
 * wait; those that cannot be sent are dropped, and nothing of them stays. Time runs HASTE times as fast.
 */
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "relay/ending.h"
#include "relay/shared.h"
#include "stent/clock.h"
#include "stent/log.h"

#define REQUEST "cancel it"
#define MANY 400		/* more than run and wait */
#define HASTE 50

int __real_event_add(struct event *ev, const struct timeval *tv);
int __wrap_event_add(struct event *ev, const struct timeval *tv);
int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);

int
__wrap_event_add(struct event *ev, const struct timeval *tv)
{
	const int64_t us = tv != NULL ? ((int64_t)tv->tv_sec * US_PER_S + tv->tv_usec) / HASTE : 0;
	const struct timeval soon = { .tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S };

	return __real_event_add(ev, tv != NULL ? &soon : NULL);
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	const int r = __real_clock_gettime(clock, t);
	const int64_t ns = (t->tv_sec % 1000000 * INT64_C(1000000000) + t->tv_nsec) * HASTE;

	*t = (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	return r;
}

static struct event_base *base;
static struct relay relay;	/* what cancel.c needs of it */
static struct relay_counters **counters;
static struct config *config;
static struct flow flow;
static int listener, backend_leg;

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static int
set_up(void **state)
{
	const struct log_settings quiet = { .target = TARGET_FILE, .path = "/dev/null", .level = LEVEL_ERROR };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	char backend[32];

	(void)state;
	assert_true(log_open(&quiet) >= 0);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(listener, MANY), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	snprintf(backend, sizeof(backend), "127.0.0.1:%d", ntohs(at.sin_port));
	assert_int_equal(config_from_args(&config, "127.0.0.1:1", backend, NULL, 0, stderr), 0);
	base = event_base_new();
	counters = counters_new(1);
	counters_prepare(counters, 1, 0);
	memset(&relay, 0, sizeof(relay));
	relay.base = base;
	relay.timers = timers_new(base);
	relay.counters = counters;
	TAILQ_INIT(&relay.cancels.running);
	TAILQ_INIT(&relay.cancels.waiting);
	backend_leg = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(backend_leg, (struct sockaddr *)&at, len), 0);
	memset(&flow, 0, sizeof(flow));
	flow.relay = &relay;
	flow.route = config->routes;
	transport_init(&flow.leg[BACKEND].transport, backend_leg);
	close(accept(listener, NULL, NULL));
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	cancel_free_all(&relay);
	assert_int_equal(relay.cancels.n_running, 0);
	assert_int_equal(relay.cancels.n_waiting, 0);
	assert_int_equal(counters[0]->cancels, 0);
	timers_free(relay.timers);
	counters_free(counters, 1);
	event_base_free(base);
	config_release(config);
	close(backend_leg);
	close(listener);
	return 0;
}

static void
cancel(void)
{
	cancel_send(&relay, &flow, (const uint8_t *)REQUEST, sizeof(REQUEST) - 1);
}

/* The next connection to the backend; -1: there is none. */
static int
accept_next(void)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	turn();
	return poll(&p, 1, 0) == 1 ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
}

static void
assert_request(int fd)
{
	char buf[64];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (int i = 0; i < 100 && poll(&p, 1, 0) == 0; i++)
		turn();
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), sizeof(REQUEST) - 1);
	assert_memory_equal(buf, REQUEST, sizeof(REQUEST) - 1);
}

static void
turn_until_ended(void)
{
	for (int i = 0; i < 1000 && relay.cancels.n_running > 0; i++)
		turn();
	assert_int_equal(relay.cancels.n_running, 0);
}

/* The connection stays until the backend has closed: what it says is read and of no interest. */
static void
test_a_request_arrives(void **state)
{
	int fd;

	(void)state;
	cancel();
	assert_int_equal(counters[0]->cancels, 1);
	fd = accept_next();
	assert_true(fd >= 0);
	assert_request(fd);
	assert_int_equal(send(fd, "an error", 8, 0), 8);
	turn();
	turn();
	assert_int_equal(relay.cancels.n_running, 1);
	close(fd);
	turn_until_ended();
}

static void
test_others_wait_their_turn(void **state)
{
	int fds[RELAY_CANCELS + 10];

	(void)state;
	for (int i = 0; i < RELAY_CANCELS + 10; i++)
		cancel();
	assert_int_equal(relay.cancels.n_running, RELAY_CANCELS);
	assert_int_equal(relay.cancels.n_waiting, 10);
	for (int i = 0; i < RELAY_CANCELS; i++) {
		fds[i] = accept_next();
		assert_true(fds[i] >= 0);
	}
	assert_int_equal(accept_next(), -1);
	for (int i = 0; i < 10; i++) {
		assert_request(fds[i]);
		close(fds[i]);
	}
	for (int i = 0; i < 100 && relay.cancels.n_waiting > 0; i++)
		turn();
	assert_int_equal(relay.cancels.n_waiting, 0);
	for (int i = 0; i < 10; i++) {
		fds[RELAY_CANCELS + i] = accept_next();
		assert_request(fds[RELAY_CANCELS + i]);
	}
	for (int i = 10; i < RELAY_CANCELS + 10; i++)
		close(fds[i]);
	turn_until_ended();
}

/* The lists are bounded. What is in them at the end of the worker is freed. */
static void
test_too_many_are_dropped(void **state)
{
	(void)state;
	for (int i = 0; i < MANY; i++)
		cancel();
	assert_int_equal(relay.cancels.n_running, RELAY_CANCELS);
	assert_int_equal(relay.cancels.dropped, MANY - RELAY_CANCELS - relay.cancels.n_waiting);
	assert_true(relay.cancels.dropped > 0);
}

/* A backend that takes the request and never closes: the request is given up, and the next one starts. */
static void
test_a_backend_that_does_not_close(void **state)
{
	int fd;

	(void)state;
	cancel();
	fd = accept_next();
	assert_request(fd);
	for (int i = 0; i < 12 && relay.cancels.n_running > 0; i++)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(relay.cancels.n_running, 0);
	close(fd);
}

static void
test_a_backend_that_is_gone(void **state)
{
	(void)state;
	close(listener);
	cancel();
	turn_until_ended();		/* it refuses */
	listener = -1;
}

/* The flow's backend leg was reset: then what was to be cancelled has ended. */
static void
test_a_flow_whose_backend_is_gone(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	const int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	setsockopt(unconnected, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	transport_init(&flow.leg[BACKEND].transport, unconnected);
	cancel();
	assert_int_equal(relay.cancels.n_running + relay.cancels.n_waiting, 0);
	close(unconnected);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_arrives),
		TEST(test_others_wait_their_turn),
		TEST(test_too_many_are_dropped),
		TEST(test_a_backend_that_does_not_close),
		TEST(test_a_backend_that_is_gone),
		TEST(test_a_flow_whose_backend_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
