/* test_worker.c - what becomes of a socket that a worker is given. */
#include <errno.h>
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

	worker_refuse(w, r->fd, r->route, r->client, REASON_MEMORY);
}

static void
test_a_socket_that_cannot_be_given_stays_the_callers_and_is_counted_when_refused(void **state)
{
	char *const words[] = { "--control=off", "--admin=off", "--workers=1", "--log_level=error" };
	const struct address nobody = { .family = AF_UNIX };
	struct relay_counters counters;
	struct config *config;
	struct refusal r;
	struct worker *w;
	int pair[2];
	char byte;

	(void)state;
	assert_int_equal(config_from_args(&config, "127.0.0.1:1", "127.0.0.1:2", words, 4, stderr), 0);
	assert_int_equal(worker_start(&w, config, 0), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);

	out_of_memory = true;
	assert_int_equal(worker_give(w, pair[0], &config->routes[0], &nobody), -ENOMEM);
	out_of_memory = false;
	assert_int_equal(worker_flows(w), 0);
	assert_int_equal(send(pair[1], "x", 1, 0), 1);		/* still open */

	r = (struct refusal){ pair[0], &config->routes[0], &nobody };
	worker_call(w, refuse, &r);
	worker_read_stats(w, &counters);
	assert_int_equal(counters.flows_total, 1);
	assert_int_equal(counters.flows_ended[REASON_MEMORY], 1);
	assert_int_equal(counters.flows_open, 0);
	assert_true(recv(pair[1], &byte, 1, 0) <= 0 && errno != EAGAIN);
	close(pair[1]);
	worker_stop(w);
	config_free(config);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_socket_that_cannot_be_given_stays_the_callers_and_is_counted_when_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
