/*
 * test_relay_memory.c - a relay whose memory runs out, at each allocation in turn.
 *
 * One conversation runs through a relay over and over: a backlog, heartbeats, a
 * half-close. Each time another allocation fails, of the relay's own and of
 * libevent's; first only that one, then all that follow until the flow has
 * ended. Whatever fails: what arrives is the beginning of what was sent, a FIN
 * comes only after the whole, the flow ends, and no descriptor is left open
 * (nor memory: the leak checker watches).
 */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "relay/ending.h"
#include "relay/retire.h"
#include "relay/shared.h"
#include "tls_world.h"

#define DATA (1024 * 1024)	/* more than the kernel's buffers of our sockets take */
#define BUFFERS (16 * 1024)
#define QUIET_US (6 * US_PER_MS)	/* nothing is sent: heartbeats come */
#define PAUSE_US (15 * US_PER_MS)	/* nothing is read: bytes are kept */
#define RETIRE_US (3 * US_PER_MS)	/* flows are to end ... */
#define RETIRED_US (25 * US_PER_MS)	/* ... by then, in the middle of what is said */
#define CROWD 63		/* with so many timers the next one needs a larger heap */
#define OPENSSL_STEP 23		/* it allocates thousands of times; tests/e2e/test_tls_faults.py --long takes each one */
#define LONGEST_US (5 * US_PER_S)

static struct {
	long left;	/* allocations before one fails; < 0: none does */
	bool for_good;
	bool failed;
} fault = { .left = -1 };

static bool
fails(void)
{
	if (fault.left < 0 || (fault.left > 0 && fault.left-- > 0))
		return false;
	fault.failed = true;
	if (!fault.for_good)
		fault.left = -1;
	return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *
__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

/* One end of the conversation. */
struct end {
	int fd;
	const uint8_t *data;	/* what it sends */
	size_t sent, got;
	bool shut, fin, reset;
};

struct world {
	struct event_base *base;
	struct relay *relay;
	struct relay_shared *shared;
	struct relay_counters **counters;
	int opened, ended;
	int64_t began_us;
	struct end client, server;
	struct timer others[CROWD];	/* of no flows: they fill the heap of timers */
	size_t n_others;
	bool has_retired;
};

static bool retires;		/* the relay drains while the flow is open */
static struct config *config;
static int listener, tls_listener;
static char backend[32], behind_hole[64], tls_backend[32];
static uint8_t data[2][DATA];

static int
count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void
set_small(int fd)
{
	const int size = BUFFERS;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int
listen_somewhere(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	set_small(fd);
	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *)at, len), 0);
	assert_int_equal(listen(fd, 10), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static void
on_end(void *arg, unsigned slot)
{
	(void)slot;
	((struct world *)arg)->ended++;
}

/* Takes what came; what is not a heartbeat ("!", which the data does not hold) is compared. */
static void
hear(struct end *e, const struct end *other)
{
	uint8_t buf[32 * 1024];
	ssize_t n;

	if (e->fd < 0 || e->fin || e->reset)
		return;
	n = recv(e->fd, buf, sizeof(buf), MSG_DONTWAIT);
	e->fin = n == 0;
	e->reset = n < 0 && errno != EAGAIN;
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] == '!') {
			assert_int_equal(buf[++i], '\n');	/* one write of two bytes, never cut on loopback */
			continue;
		}
		assert_true(e->got < other->sent);
		assert_int_equal(buf[i], other->data[e->got]);
		e->got++;
	}
}

static void
speak(struct end *e)
{
	ssize_t n;

	if (e->fd < 0 || e->shut || e->reset)
		return;
	n = send(e->fd, e->data + e->sent, DATA - e->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		e->sent += (size_t)n;
	else if (n < 0 && errno != EAGAIN)
		e->reset = true;
	if (e->sent == DATA)
		e->shut = shutdown(e->fd, SHUT_WR) == 0;
}

static bool
is_done(const struct end *e)
{
	return e->reset || (e->fin && e->shut);
}

static void
drop(struct end *e)
{
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
}

static void
open_flow(struct world *w)
{
	const struct address nobody = { .family = AF_UNIX };
	struct sockaddr_in at;
	const int server = listen_somewhere(&at);
	int fd;

	w->client.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	set_small(w->client.fd);
	assert_int_equal(connect(w->client.fd, (struct sockaddr *)&at, sizeof(at)), 0);
	fd = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(server);
	w->opened++;
	relay_open(w->relay, fd, &config->routes[0], &nobody, ADMITTED);
}

/* The second route, where there is one, is the backend of the first. */
static void
accept_inner(struct world *w)
{
	const struct address nobody = { .family = AF_UNIX };
	int fd;

	if (config->n_routes < 2)
		return;
	fd = accept4(tls_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	w->opened++;
	relay_open(w->relay, fd, &config->routes[1], &nobody, ADMITTED);
}

/* Fills the heap of timers, without a fault, so that it must grow at the first timer that is set while bytes flow. */
static void
crowd(struct world *w, size_t n)
{
	const long left = fault.left;

	fault.left = -1;
	for (; w->n_others < n; w->n_others++)
		assert_int_equal(timer_arm(w->relay->timers, &w->others[w->n_others], w->began_us + (int64_t)3600 * US_PER_S), 0);
	fault.left = left;
}

/* As in a drain: each flow is told that it has to end. */
static void
retire_all(struct world *w)
{
	struct flow *f;

	w->has_retired = true;
	TAILQ_FOREACH(f, &w->relay->flows, link)
		flow_retire(f, REASON_DRAIN, w->began_us + RETIRED_US);
}

static void
converse(struct world *w)
{
	while (w->ended < w->opened && clock_us() - w->began_us < LONGEST_US) {
		event_base_loop(w->base, EVLOOP_NONBLOCK);
		relay_work(w->relay);
		accept_inner(w);
		if (retires && !w->has_retired && clock_us() - w->began_us > RETIRE_US)
			retire_all(w);
		if (w->server.fd < 0 && !w->server.reset)
			w->server.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (clock_us() - w->began_us > QUIET_US) {
			crowd(w, CROWD);
			speak(&w->client);
			speak(&w->server);
		}
		if (clock_us() - w->began_us > PAUSE_US) {
			hear(&w->client, &w->server);
			hear(&w->server, &w->client);
		}
		if (is_done(&w->client))
			drop(&w->client);
		if (w->server.fd >= 0 && is_done(&w->server)) {
			drop(&w->server);
			w->server.reset = true;	/* not to be accepted again */
		}
	}
}

/* As in a worker; without epoll, libevent would use a backend that is not edge-triggered. */
static struct event_base *
new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base = NULL;

	if (cfg == NULL)
		return NULL;
	if (event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE) == 0)
		base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	return base;
}

/* A flow, with the fault that is set. False: nothing failed. */
static bool
run_once(void)
{
	struct world w = { .client = { -1, data[0], 0, 0, false, false, false },
	    .server = { -1, data[1], 0, 0, false, false, false } };
	const int before = count_descriptors();
	int late;

	w.base = new_base();
	w.shared = relay_shared_new(config);
	w.counters = w.shared != NULL ? counters_new(relay_shared_room(w.shared)) : NULL;
	w.relay = w.base != NULL && w.counters != NULL ? relay_new(w.base, config, w.shared, w.counters, 0, on_end, &w) : NULL;
	w.began_us = clock_us();
	if (w.relay != NULL) {
		crowd(&w, CROWD - 1);
		open_flow(&w);
		converse(&w);
		assert_int_equal(w.ended, w.opened);
		if (w.client.fin)
			assert_int_equal(w.client.got, DATA);
		if (w.server.fin)
			assert_int_equal(w.server.got, DATA);
	}
	fault.left = -1;
	drop(&w.client);
	drop(&w.server);
	relay_free(w.relay);
	if (w.counters != NULL) {
		const struct relay_counters *c = w.counters[0];

		assert_true(c == NULL || c->flows_open == 0);
		counters_free(w.counters, relay_shared_room(w.shared));
	}
	relay_shared_free(w.shared);
	if (w.base != NULL)
		event_base_free(w.base);
	while ((late = accept(listener, NULL, NULL)) >= 0 || (late = accept(tls_listener, NULL, NULL)) >= 0)
		close(late);
	assert_int_equal(count_descriptors(), before);
	return fault.failed;
}

/* Each step-th allocation in turn, with the settings that were read. */
static void
fail_each_of(bool for_good, long step)
{
	long n = 0;

	do {
		fault.failed = false;
		fault.for_good = for_good;
		fault.left = n;
		n += step;
	} while (run_once());
	assert_true(n > 20);
}

static void
fail_each(const char *to, char *protocol, char *heartbeat, bool for_good)
{
	char *options[] = { protocol, heartbeat, "--user_timeout=20ms",
	    to == backend ? "--connect_timeout=4ms" : "--connect_timeout=1s",	/* its timer has fired when bytes flow */
	    "--failover_after=1ms", "--balance=least-flows", "--retry_after=1ms", "--connect_retry=6ms",
	    "--heartbeat_send=!\\n" };
	const size_t n_options = strcmp(protocol, "--protocol=line") == 0 ? 9 : 8;

	assert_int_equal(config_from_args(&config, "127.0.0.1:1", to, options, n_options, stderr), 0);
	fail_each_of(for_good, 1);
	config_release(config);
}

static void
test_plain_flows(void **state)
{
	(void)state;
	fail_each(backend, "--protocol=tcp", "--client.idle_timeout=1h", false);
	fail_each(backend, "--protocol=tcp", "--client.idle_timeout=1h", true);
}

static void
test_flows_with_heartbeats(void **state)
{
	(void)state;
	fail_each(backend, "--protocol=line", "--heartbeat=2ms", false);
	fail_each(backend, "--protocol=line", "--heartbeat=2ms", true);
}

/* And its flow is cut off, or ends before. */
static void
test_flows_that_retire(void **state)
{
	(void)state;
	retires = true;
	fail_each(backend, "--protocol=tcp", "--client.idle_timeout=1h", false);
	fail_each(backend, "--protocol=tcp", "--client.idle_timeout=1h", true);
	fail_each(behind_hole, "--protocol=tcp", "--client.idle_timeout=1h", false);
	fail_each(backend, "--protocol=line", "--heartbeat=2ms", false);
	retires = false;
}

/* The timer is set for the first time by what is sent: in the middle of a feed. */
static void
test_flows_with_a_codec_alone(void **state)
{
	(void)state;
	fail_each(backend, "--protocol=line", "--heartbeat=off", false);
	fail_each(backend, "--protocol=line", "--heartbeat=off", true);
}

/* The first backend does not answer: the second is tried in parallel, and gets the flow. */
static void
test_flows_that_fail_over(void **state)
{
	(void)state;
	fail_each(behind_hole, "--protocol=tcp", "--client.idle_timeout=1h", false);
	fail_each(behind_hole, "--protocol=tcp", "--client.idle_timeout=1h", true);
}

/* One route begins TLS and another, its backend, ends it. What OpenSSL allocates fails, too. */
static void
test_flows_with_tls(void **state)
{
	struct identity own;
	char text[1024];

	(void)state;
	tls_world_begin();
	identity_make(&own, &(struct identity_spec){ .name = "own", .names = "DNS:localhost" });
	snprintf(text, sizeof(text), "[defaults]\nuser_timeout = 20ms\nprotocol = tcp\n[route outer]\nlisten = 127.0.0.1:1\n"
	    "backend = %s\nbackend.tls = verify\nbackend.tls_ca = %s\nbackend.tls_name = localhost\n[route inner]\n"
	    "listen = 127.0.0.1:2\nbackend = %s\nclient.tls = require\nclient.tls_cert = %s\nclient.tls_key = %s\n",
	    tls_backend, own.cert, backend, own.cert, own.key);
	assert_int_equal(config_read(&config, tls_world_file("stent.ini", text, strlen(text)), stderr), 0);
	fail_each_of(false, OPENSSL_STEP);
	fail_each_of(true, OPENSSL_STEP);
	config_release(config);
	identity_free(&own);
	tls_world_end();
}

/* Its queue holds one, and is full: a SYN to it is dropped. */
static void
dig_hole(struct sockaddr_in *at)
{
	const int hole = listen_somewhere(at);

	assert_int_equal(listen(hole, 0), 0);
	for (int i = 0; i < 2; i++) {
		const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		(void)connect(fd, (struct sockaddr *)at, sizeof(*at));
	}
}

static void
fill_data(void)
{
	for (size_t i = 0; i < DATA; i++) {
		data[0][i] = i % 61 == 60 ? '\n' : (uint8_t)('A' + i % 59);
		data[1][i] = i % 53 == 52 ? '\n' : (uint8_t)('A' + i % 47);
	}
}

/* [only|without PATTERN]: some of the tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_flows),
		cmocka_unit_test(test_flows_with_heartbeats),
		cmocka_unit_test(test_flows_that_retire),
		cmocka_unit_test(test_flows_with_a_codec_alone),
		cmocka_unit_test(test_flows_that_fail_over),
		cmocka_unit_test(test_flows_with_tls),
	};
	struct sockaddr_in at, hole;

	if (argc > 2 && strcmp(argv[1], "only") == 0)
		cmocka_set_test_filter(argv[2]);
	else if (argc > 2)
		cmocka_set_skip_filter(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
	fill_data();
	listener = listen_somewhere(&at);
	snprintf(backend, sizeof(backend), "127.0.0.1:%d", ntohs(at.sin_port));
	tls_listener = listen_somewhere(&at);
	snprintf(tls_backend, sizeof(tls_backend), "127.0.0.1:%d", ntohs(at.sin_port));
	dig_hole(&hole);
	snprintf(behind_hole, sizeof(behind_hole), "127.0.0.1:%d, %s", ntohs(hole.sin_port), backend);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
