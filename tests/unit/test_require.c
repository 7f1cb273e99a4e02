/*
 * test_require.c - a flow of which something is not true that must be. It is reset on both sides, without a byte of what
 * was read meanwhile; the log says what, where and in which state; the flow beside it goes on.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec/http.h"
#include "codec/mysql.h"
#include "codec/postgres.h"
#include "codec/redis.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay_world.h"
#include "stent/codec.h"

/* Behaves until it sees an 'X'. */
static enum { TAKES_TOO_MUCH, TAKES_NOTHING, BREAKS_A_PROMISE } mutation;

static size_t
feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	(void)state;
	(void)from;
	if (memchr(buf, 'X', len) == NULL) {
		codec_emit(out, buf, len);
		return len;
	}
	if (mutation == BREAKS_A_PROMISE) {
		codec_emit(out, buf, len);
		promise(mutation == TAKES_NOTHING);
		promise(memchr(buf, 'X', len) == NULL);		/* the first one is what the log has */
		return len;
	}
	return mutation == TAKES_TOO_MUCH ? len + 1 : 0;
}

static bool
configure(void *state, const struct codec_settings *settings)
{
	(void)state;
	(void)settings;
	return true;
}

static unsigned
may_heartbeat(const void *state, enum side to)
{
	(void)state;
	(void)to;
	return 0;
}

static const struct codec mutant = {
	.name = "mutant", .state_size = 8, .configure = configure, .feed = feed, .may_heartbeat = may_heartbeat,
};

static void
set_up(void)
{
	struct config *settings;
	char backend[32];

	log_to_file();
	snprintf(backend, sizeof(backend), "127.0.0.1:%d", open_backend());
	assert_int_equal(config_from_args(&settings, "127.0.0.1:1", backend, NULL, 0, stderr), 0);
	world_begin(settings);
}

/* The flow of `codec` passes `first`; what comes behind it breaks it. */
static void
try_codec(const struct codec *codec, const char *first, const char *violated, const char *where)
{
	char text[8192], buf[64];
	struct route *route;
	struct pair broken, other;
	const char *log;

	set_up();
	route = &config->routes[0];
	other = open_flow(route);
	route->codec = codec;		/* for the next flow */
	broken = open_flow(route);
	passes(other, "hello");
	if (first[0] != '\0')
		passes(broken, first);
	assert_int_equal(send(broken.client, "XX", 2, 0), 2);
	assert_int_equal(hear(broken.server, buf, sizeof(buf)), -ECONNRESET);
	assert_int_equal(hear(broken.client, buf, sizeof(buf)), -ECONNRESET);
	turn();
	assert_int_equal(ended, 1);
	assert_int_equal(counters[0]->flows_ended[REASON_INTERNAL], 1);
	passes(other, "it goes on");
	assert_false(promise_is_broken());
	log = logged(text, sizeof(text));
	assert_non_null(strstr(log, "internal error"));
	assert_non_null(strstr(log, where));
	if (strstr(log, violated) == NULL)
		print_message("%s", log);
	assert_non_null(strstr(log, violated));
	assert_non_null(strstr(log, "state=open"));
	assert_non_null(strstr(log, "backend_heartbeats="));
	snprintf(buf, sizeof(buf), "bytes=%zu", strlen(first));
	assert_non_null(strstr(log, buf));
	assert_string_equal(reason_text(REASON_INTERNAL), "internal");
	assert_non_null(strstr(log, "reason=internal"));
	end_pair(broken);
	end_pair(other);
	world_end();
}

static void
try_mutation(const char *violated, const char *where)
{
	try_codec(&mutant, "good bytes", violated, where);
}

static void
test_a_codec_that_consumes_more_than_there_is(void **state)
{
	(void)state;
	mutation = TAKES_TOO_MUCH;
	try_mutation("used <= len", "session.c:");
}

static void
test_a_codec_that_does_not_go_on(void **state)
{
	(void)state;
	mutation = TAKES_NOTHING;
	try_mutation("used > 0", "session.c:");
}

/* What it had emitted before is not sent either. */
static void
test_a_codec_that_breaks_a_promise(void **state)
{
	(void)state;
	mutation = BREAKS_A_PROMISE;
	try_mutation("mutation == TAKES_NOTHING", "test_require.c:");
}

/* Each codec as it is, but an 'X' finds its state as it must never be. */
static const struct codec *intact;
static void (*corrupt)(void *state);

static size_t
feed_corrupted(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	if (memchr(buf, 'X', len) != NULL)
		corrupt(state);
	return intact->feed(state, from, buf, len, out);
}

#define LINE_HELD 8	/* where in its state the file has these */
#define AUTO_SEEN 40

static void
line_holds_what_is_not_due(void *state)
{
	((uint8_t *)state)[LINE_HELD] = 1;
}

static void
auto_has_seen_too_much(void *state)
{
	((uint8_t *)state)[AUTO_SEEN] = 200;
}

static void
http_is_nowhere(void *state)
{
	((struct http *)state)->exchange.part[CLIENT] = PART_BODY + 1;
}

static void
frame_without_a_head(void *state)
{
	struct http *h = state;

	h->is_websocket = true;
	h->ws = (struct ws){ .stream[CLIENT].left = 5 };
}

static void
redis_is_nowhere(void *state)
{
	((struct redis *)state)->command.state = 99;
}

static void
mysql_head_is_too_long(void *state)
{
	((struct mysql *)state)->packet[CLIENT].got = MYSQL_HEAD + 1;
}

static void
postgres_reads_past_the_end(void *state)
{
	((struct pg *)state)->stream[CLIENT].look = 5;
}

static void
test_each_codec_with_a_corrupted_state(void **state)
{
	static const struct {
		const struct codec *codec;
		void (*corrupt)(void *state);
		const char *first, *violated, *where;
	} tries[] = {
		{ &codec_line, line_holds_what_is_not_due, "a line\n", "s->due > 0", "line.c:" },
		{ &codec_auto, auto_has_seen_too_much, "GE", "<= LOOK_MAX", "auto.c:" },
		{ &codec_http, http_is_nowhere, "GET / HTTP/1.1\r\n", "<= PART_BODY", "http_exchange.c:" },
		{ &codec_websocket, frame_without_a_head, "GET / HTTP/1.1\r\n", "s->left == 0", "websocket.c:" },
		{ &codec_redis, redis_is_nowhere, "PING\r\n", "<= S_INLINE", "redis_commands.c:" },
		{ &codec_mysql, mysql_head_is_too_long, "", "<= MYSQL_HEAD", "mysql.c:" },
		{ &codec_postgres, postgres_reads_past_the_end, "", "s->look <= s->left", "postgres.c:" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct codec corrupted = *tries[i].codec;

		intact = tries[i].codec;
		corrupt = tries[i].corrupt;
		corrupted.feed = feed_corrupted;
		try_codec(&corrupted, tries[i].first, tries[i].violated, tries[i].where);
	}
}

/* A heartbeat where none is legal is not written, whichever codec is asked for it. */
static void
test_no_heartbeat_where_none_is_legal(void **state)
{
	static const struct codec *const codecs[] = { &codec_line, &codec_http, &codec_websocket, &codec_redis, &codec_mysql, &codec_postgres };
	static const struct codec_settings settings = { .heartbeats = { true, true } };
	uint64_t memory[CODEC_STATE_MAX / sizeof(uint64_t)];
	uint8_t buf[CODEC_HEARTBEAT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
		memset(memory, 0, sizeof(memory));
		assert_true(codecs[i]->configure(memory, &settings));
		assert_int_equal(codecs[i]->may_heartbeat(memory, BACKEND), 0);
		assert_int_equal(codecs[i]->heartbeat(memory, BACKEND, HEARTBEAT_PING, buf), 0);
		assert_true(promise_is_broken());
		(void)promise_take();
	}
}

/* The engine finds a leg that cannot be: its flow ends, and gets nothing. */
static void
test_a_leg_whose_heartbeats_are_corrupted(void **state)
{
	char text[8192], buf[64];
	struct pair broken;
	struct flow *f;
	struct verdict v;
	int64_t again_us;

	(void)state;
	set_up();
	config->routes[0].codec = &codec_line;
	config->routes[0].leg[BACKEND].heartbeat_ms = 25000;
	broken = open_flow(&config->routes[0]);
	passes(broken, "a line\n");
	f = TAILQ_FIRST(&relay->flows);
	f->session->heartbeat[BACKEND].timeout_from_us = 1;	/* a reply is due, and no ping was sent */
	v = heartbeats_tick(f, clock_us(), &again_us);
	assert_int_equal(v.kind, CUT_OFF);
	assert_int_equal(v.reason, REASON_INTERNAL);
	assert_int_equal(hear(broken.server, buf, sizeof(buf)), -ECONNRESET);
	assert_int_equal(counters[0]->flows_ended[REASON_INTERNAL], 1);
	assert_non_null(strstr(logged(text, sizeof(text)), "heartbeat.c:"));
	end_pair(broken);
	world_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_codec_that_consumes_more_than_there_is),
		cmocka_unit_test(test_a_codec_that_does_not_go_on),
		cmocka_unit_test(test_a_codec_that_breaks_a_promise),
		cmocka_unit_test(test_each_codec_with_a_corrupted_state),
		cmocka_unit_test(test_no_heartbeat_where_none_is_legal),
		cmocka_unit_test(test_a_leg_whose_heartbeats_are_corrupted),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
