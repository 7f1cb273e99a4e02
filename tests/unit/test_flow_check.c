/*
 * test_flow_check.c - flows whose memory was changed: that flow is reset on both sides, without a byte of what was read meanwhile;
 * the log says what, where and in which state; the flow beside it goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "relay/dial_state.h"
#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/require.h"
#include "relay_world.h"
#include "tls_world.h"
#include "transport/tls_bio.h"

/* own: what clients are shown; NULL: they come without TLS. */
static void
set_up(const struct identity *own)
{
	struct config *settings;
	char text[1024];
	int n;

	log_to_file();
	n = snprintf(text, sizeof(text), "[route a]\nlisten = 127.0.0.1:1\nbackend = 127.0.0.1:%d\nprotocol = tcp\n", open_backend());
	if (own != NULL)
		snprintf(text + n, sizeof(text) - (size_t)n, "client.tls = require\nclient.tls_cert = %s\nclient.tls_key = %s\n", own->cert, own->key);
	assert_int_equal(config_read(&settings, tls_world_file("stent.ini", text, strlen(text)), stderr), 0);
	world_begin(settings);
}

/* The flow is reset on both sides, without a byte, and only it; the log says what was violated, where, and in which state. */
static void
is_ended_alone(struct pair broken, struct pair other, const char *violated, const char *where, const char *in_state)
{
	char text[8192], buf[64];
	const char *log;

	assert_int_equal(hear(broken.server, buf, sizeof(buf)), -ECONNRESET);
	assert_int_equal(hear(broken.client, buf, sizeof(buf)), -ECONNRESET);
	turn();
	assert_int_equal(ended, 1);
	assert_int_equal(counters[0]->flows_ended[REASON_INTERNAL], 1);
	if (other.client >= 0)
		passes(other, "it goes on");
	log = logged(text, sizeof(text));
	assert_non_null(strstr(log, "internal error"));
	assert_non_null(strstr(log, where));
	assert_non_null(strstr(log, violated));
	assert_non_null(strstr(log, in_state));
	assert_non_null(strstr(log, "reason=internal"));
}

/* --- flows whose memory was changed --- */

static struct flow *
newest(void)
{
	return TAILQ_LAST(&relay->flows, flow_list);
}

/* What is changed in an open flow is found by the next event, or when the flow is looked at again (look). */
static void
try_open(void (*change)(struct flow *f), bool look, const char *violated, const char *where)
{
	struct pair broken, other;
	struct route *route;

	set_up(NULL);
	route = &config->routes[0];
	other = open_flow(route);
	broken = open_flow(route);
	passes(other, "hello");
	passes(broken, "good bytes");
	change(newest());
	if (look)
		flow_work(newest());
	else
		assert_int_equal(send(broken.client, "XX", 2, 0), 2);
	is_ended_alone(broken, other, violated, where, "state=open");
	end_pair(broken);
	end_pair(other);
	world_end();
}

static void
claim_a_fin(struct flow *f)
{
	f->leg[BACKEND].shut = true;
}

static void
kill_a_leg(struct flow *f)
{
	f->leg[BACKEND].dead = true;
}

static void
claim_to_retire(struct flow *f)
{
	f->retires = true;	/* there is no record of it */
}

static void
test_bytes_behind_our_fin(void **state)
{
	(void)state;
	try_open(claim_a_fin, false, "!l->shut", "pump.c:");
}

static void
test_an_open_flow_with_a_dead_leg(void **state)
{
	(void)state;
	try_open(kill_a_leg, false, "!to->dead", "flow_events.c:");
}

static void
test_a_flow_that_retires_without_a_record(void **state)
{
	(void)state;
	try_open(claim_to_retire, true, "r != NULL", "retire.c:");
}

static void
lose_the_ending(struct flow *f)
{
	f->state = FLOW_ENDING;
	f->ending = NULL;
}

static void
test_an_ending_flow_without_its_ending(void **state)
{
	struct pair p;

	(void)state;
	set_up(NULL);
	p = open_flow(&config->routes[0]);
	passes(p, "good bytes");
	lose_the_ending(newest());
	flow_work(newest());
	is_ended_alone(p, (struct pair){ -1, -1 }, "e != NULL", "flow.c:", "state=ending");
	end_pair(p);
	world_end();
}

/* Its backend has accepted, but the event that tells of it finds more attempts than there may be. */
static void
test_a_dial_with_too_many_attempts(void **state)
{
	struct pair broken, other;

	(void)state;
	set_up(NULL);
	other = open_flow(&config->routes[0]);
	broken.client = open_client(&config->routes[0]);
	assert_int_equal(newest()->state, FLOW_CONNECTING);
	newest()->dial->n_parallel = ATTEMPTS_PARALLEL_MAX + 1;
	broken.server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(broken.server >= 0);
	is_ended_alone(broken, other, "n_parallel", "dial.c:", "state=connecting");
	end_pair(broken);
	end_pair(other);
	world_end();
}

/* A client with TLS: its flow is open when this returns. */
static struct pair
open_tls_flow(struct transport *t, struct tls_context *context)
{
	const int64_t began_us = clock_us();
	struct pair p = { .client = open_client(&config->routes[0]), .server = -1 };

	assert_int_equal(fcntl(p.client, F_SETFL, O_NONBLOCK), 0);
	transport_init(t, p.client);
	assert_int_equal(transport_start_tls(t, context, NULL), 0);
	while (p.server < 0 && clock_us() - began_us < LONGEST_US) {
		const int r = transport_handshake(t);

		assert_true(r == 0 || r == -EAGAIN);
		turn();
		p.server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	assert_true(p.server >= 0);
	return p;
}

/* A record would follow the close_notify. Nothing of it is written, and the other leg is reset, too. */
static void
test_tls_that_writes_behind_its_end(void **state)
{
	char error[TLS_ERROR_MAX], buf[64];
	struct tls_context *context = tls_context_new(&(struct tls_settings){ .mode = TLS_INSECURE }, false, NULL, error);
	struct identity own;
	struct transport t;
	struct pair p;

	(void)state;
	identity_make(&own, &(struct identity_spec){ .name = "own", .names = "DNS:localhost" });
	set_up(&own);
	p = open_tls_flow(&t, context);
	assert_int_equal(send(p.server, "hello", 5, 0), 5);
	for (const int64_t began_us = clock_us(); transport_read(&t, buf, sizeof(buf)) != 5;) {
		assert_true(clock_us() - began_us < LONGEST_US);
		turn();
	}
	newest()->leg[CLIENT].transport.tls->shut = true;
	assert_int_equal(send(p.server, "XX", 2, 0), 2);
	is_ended_alone(p, (struct pair){ -1, -1 }, "!t->shut", "tls_engine.c:", "state=open");
	transport_close(&t, TRANSPORT_RESET);
	close(p.server);
	world_end();
	tls_context_release(context);
	identity_free(&own);
}

/* The TLS of a leg tells the first thing that was not true, and is not used any more. */
static void
test_tls_that_is_broken_is_not_used(void **state)
{
	struct tls t = { .fd = -1, .n_first = 9 };

	(void)state;
	tls_check(&t);
	assert_true(t.broken && t.failed);
	assert_non_null(strstr(t.cause, "tls_engine.c:"));
	assert_non_null(strstr(t.cause, "t->records != NULL"));
	assert_true(tls_bytes_add(&t.unsent, (const uint8_t *)"abc", 3));
	assert_int_equal(tls_bio_flush(&t), -EPROTO);		/* not even what was encrypted before */
	assert_null(t.unsent.data);
	free(t.cause);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_behind_our_fin),
		cmocka_unit_test(test_an_open_flow_with_a_dead_leg),
		cmocka_unit_test(test_a_flow_that_retires_without_a_record),
		cmocka_unit_test(test_an_ending_flow_without_its_ending),
		cmocka_unit_test(test_a_dial_with_too_many_attempts),
		cmocka_unit_test(test_tls_that_writes_behind_its_end),
		cmocka_unit_test(test_tls_that_is_broken_is_not_used),
	};

	int failed;

	signal(SIGPIPE, SIG_IGN);
	tls_world_begin();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	tls_world_end();
	return failed;
}
