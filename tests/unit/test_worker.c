/* test_worker.c - sockets given to a worker, and the listing of its flows. */
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "stent/log.h"
#include "stent/worker.h"

static _Thread_local bool out_of_memory;	/* of this thread alone */

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *
__wrap_realloc(void *p, size_t n)
{
	return out_of_memory ? NULL : __real_realloc(p, n);
}

struct refusal {
	int fd;
	const struct route *route;
	const struct address *client;
};

static void
refuse(struct worker *w, void *arg)
{
	const struct refusal *r = arg;

	worker_refuse(w, r->fd, r->route, r->client, ADMISSION_MEMORY);
}

static void
test_a_socket_that_cannot_be_given_stays_the_callers_and_is_counted_when_refused(void **state)
{
	char *const words[] = { "--control=off", "--admin=off", "--workers=1", "--log_level=error" };
	const struct address nobody = { .family = AF_UNIX };
	struct relay_counters counters;
	struct config *config;
	struct relay_shared *shared;
	struct refusal r;
	struct worker *w;
	int pair[2];
	char byte;

	(void)state;
	assert_int_equal(config_from_args(&config, "127.0.0.1:1", "127.0.0.1:2", words, 4, stderr), 0);
	shared = relay_shared_new(config);
	assert_non_null(shared);
	assert_int_equal(worker_start(&w, config, shared, 0), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);

	out_of_memory = true;
	assert_int_equal(worker_give(w, pair[0], &config->routes[0], &nobody, ADMITTED), -ENOMEM);
	out_of_memory = false;
	assert_int_equal(worker_flows(w), 0);
	assert_int_equal(send(pair[1], "x", 1, 0), 1);		/* still open */

	r = (struct refusal){ pair[0], &config->routes[0], &nobody };
	worker_call(w, refuse, &r);
	worker_read_stats(w, 0, &counters);
	assert_int_equal(counters.flows_total, 1);
	assert_int_equal(counters.flows_ended[REASON_MEMORY], 1);
	assert_int_equal(counters.flows_open, 0);
	assert_true(recv(pair[1], &byte, 1, 0) <= 0 && errno != EAGAIN);
	close(pair[1]);
	worker_stop(w);
	relay_shared_free(shared);
	config_release(config);
}

/* --- listing --- */

#define FLOWS 200

struct seen {
	uint64_t id[FLOWS];
	size_t n;
};

/* Slow enough for a listing of many slices. */
static void
see(struct flow_info *info, void *arg)
{
	struct seen *s = arg;

	usleep(50);
	assert_true(s->n < FLOWS);
	assert_true(s->n == 0 || info->id > s->id[s->n - 1]);	/* none twice */
	s->id[s->n++] = info->id;
}

static void
on_end(void *arg, unsigned slot)
{
	(void)arg;
	(void)slot;
}

/* Flows that wait for a backend for ever, as the loop does not run. Returns the other ends. */
static void
open_flows(struct relay *r, const struct route *route, int *ends, size_t n)
{
	const struct address nobody = { .family = AF_UNIX };

	for (size_t i = 0; i < n; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
		relay_open(r, pair[0], route, &nobody, ADMITTED);
		ends[i] = pair[1];
	}
}

static int
listen_somewhere(char text[32])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(fd, 2 * FLOWS), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	snprintf(text, 32, "127.0.0.1:%d", ntohs(at.sin_port));
	return fd;
}

static struct event_base *
new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base;

	assert_non_null(cfg);
	assert_int_equal(event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE), 0);
	base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	assert_non_null(base);
	return base;
}

static void
test_a_listing_continues_where_it_stopped_whatever_comes_and_goes(void **state)
{
	char *const words[] = { "--control=off", "--admin=off", "--workers=1", "--log_level=error" };
	struct event_base *base = new_base();
	struct relay_counters **counters;
	struct seen seen = { .n = 0 };
	int ends[FLOWS + 5], server;
	struct config *config;
	char backend[32];
	struct relay_shared *shared;
	struct relay *r;
	size_t first;

	(void)state;
	server = listen_somewhere(backend);
	assert_int_equal(config_from_args(&config, "127.0.0.1:1", backend, words, 4, stderr), 0);
	shared = relay_shared_new(config);
	assert_non_null(shared);
	counters = counters_new(relay_shared_room(shared));
	assert_non_null(counters);
	r = relay_new(base, config, shared, counters, 0, on_end, NULL);
	assert_non_null(r);
	open_flows(r, &config->routes[0], ends, FLOWS);

	assert_true(relay_list_flows(r, true, see, &seen));
	first = seen.n;
	assert_in_range(first, 1, FLOWS / 2);		/* a part only */
	assert_true(relay_kill(r, seen.id[0], REASON_ADMIN_KILL));
	assert_true(relay_kill(r, seen.id[first - 1] + 1, REASON_ADMIN_KILL));	/* the next one */
	open_flows(r, &config->routes[0], ends + FLOWS, 5);
	while (relay_list_flows(r, false, see, &seen))
		;
	assert_int_equal(seen.n, FLOWS - 1);
	assert_int_equal(seen.id[first], seen.id[first - 1] + 2);

	seen.n = 0;
	assert_true(relay_list_flows(r, true, see, &seen));
	first = seen.n;
	(void)relay_kill_all(r, REASON_ADMIN_KILL);
	assert_false(relay_list_flows(r, false, see, &seen));
	assert_int_equal(seen.n, first);

	relay_free(r);
	counters_free(counters, relay_shared_room(shared));
	relay_shared_free(shared);
	config_release(config);
	event_base_free(base);
	for (size_t i = 0; i < FLOWS + 5; i++)
		close(ends[i]);
	close(server);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_listing_continues_where_it_stopped_whatever_comes_and_goes),
		cmocka_unit_test(test_a_socket_that_cannot_be_given_stays_the_callers_and_is_counted_when_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
