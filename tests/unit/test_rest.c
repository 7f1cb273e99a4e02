/*
 * test_rest.c - where codecs let a flow end: conversations of real programs, byte by
 * byte. rest() is sure only between two messages, never while a reply is
 * outstanding, nor in a transaction; and it is sure often enough to be of use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec_harness.h"
#include "codec_run.h"
#include "transcripts_mysql.h"
#include "transcripts_redis.h"

#pragma GCC diagnostic ignored "-Wunused-variable"	/* not all of these are played */
#include "postgres_transcripts.h"

/* Where a flow was at rest, by what comes next. */
struct rests {
	unsigned inside;		/* a step: between two messages of it, if it has several */
	unsigned before_reply;		/* the client has spoken, the backend comes next */
	unsigned before_more;		/* the backend has spoken, and goes on */
	unsigned between;		/* the backend has spoken, the client comes next */
	unsigned turns;			/* how often that was so, at rest or not */
};

static struct rests
play(const struct codec *codec, const struct step *steps, size_t n)
{
	struct rests r = { 0 };
	struct run run;

	run_start(&run, codec, NULL);
	for (size_t i = 0; i + 1 < n && steps[i].data != NULL && steps[i + 1].data != NULL; i++) {
		const uint8_t *data = steps[i].data;
		const enum side from = steps[i].from, next = steps[i + 1].from;

		for (size_t k = 0; k < steps[i].len; k++) {
			run_feed(&run, from, data + k, 1);
			if (k + 1 < steps[i].len && codec->rest(run.state) == REST_SURE)
				r.inside++;
		}
		r.turns += from == BACKEND && next == CLIENT;
		if (codec->rest(run.state) != REST_SURE)
			continue;
		r.before_reply += from == CLIENT && next == BACKEND;
		r.before_more += from == BACKEND && next == BACKEND;
		r.between += from == BACKEND && next == CLIENT;
	}
	run_end(&run);
	return r;
}

struct row {
	const char *name;
	const struct codec *codec;
	const struct step *steps;
	size_t n;
	struct rests wanted;
};

#define ROW(codec, steps, ...) { #steps, codec, steps, sizeof(steps) / sizeof((steps)[0]), { __VA_ARGS__ } }

/* Zeros first: what must not be. Other numbers there have their reason beside them. */
static const struct row rows[] = {
	ROW(&codec_redis, redis_plain, 0, 0, 0, 11, 11),
	ROW(&codec_redis, redis_transactions, 0, 0, 0, 7, 14),		/* not behind MULTI */
	ROW(&codec_redis, redis_resp3, 1, 0, 2, 20, 23),		/* before a push */
	ROW(&codec_redis, redis_subscriber, 0, 0, 1, 4, 4),		/* before a message */
	ROW(&codec_redis, redis_silence, 2, 0, 0, 9, 12),		/* behind a command that gets no reply */
	ROW(&codec_redis, redis_login, 0, 0, 0, 6, 6),
	ROW(&codec_redis, redis_py, 0, 0, 0, 2, 2),
	ROW(&codec_redis, node_redis, 0, 0, 0, 3, 3),
	ROW(&codec_mysql, mysql_pymysql, 0, 0, 0, 11, 12),
	ROW(&codec_mysql, mysql_transaction, 0, 0, 0, 5, 9),
	ROW(&codec_mysql, mysql_load_data, 0, 0, 0, 4, 7),
	ROW(&codec_mysql, mysql_statements, 2, 0, 0, 18, 19),		/* behind COM_STMT_CLOSE, which gets no reply */
	ROW(&codec_mysql, mysql_multi, 0, 0, 0, 3, 4),
	ROW(&codec_mysql, mysql_libmariadb, 0, 0, 0, 7, 13),
	ROW(&codec_mysql, mysql_mysql2, 2, 0, 0, 10, 12),
	ROW(&codec_mysql, mysql_mariadb_js, 2, 0, 0, 12, 13),
	ROW(&codec_postgres, transaction, 0, 0, 0, 3, 6),
	ROW(&codec_postgres, batches, 0, 0, 0, 3, 4),
	ROW(&codec_postgres, copy_extended, 0, 0, 0, 5, 7),
	ROW(&codec_postgres, copy_failed, 0, 0, 0, 3, 5),
	ROW(&codec_postgres, notifications, 0, 0, 1, 3, 3),		/* before a notification */
	ROW(&codec_postgres, function_call, 0, 0, 0, 2, 2),
	ROW(&codec_postgres, cursor, 0, 0, 0, 1, 6),
	ROW(&codec_postgres, pipeline, 0, 0, 0, 3, 3),
	ROW(&codec_postgres, early_copy, 0, 0, 0, 4, 5),
	ROW(&codec_postgres, scram, 0, 0, 0, 2, 4),
	ROW(&codec_postgres, standby, 0, 1, 1, 8, 8),			/* replication has no replies */
	ROW(&codec_postgres, logical, 0, 2, 6, 7, 7),
};

static void
test_flows_rest_only_where_nothing_is_outstanding(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		const struct rests r = play(row->codec, row->steps, row->n);

		if (memcmp(&r, &row->wanted, sizeof(r)) != 0)
			fail_msg("%s: at rest inside %u, before a reply %u, before more %u, between %u of %u", row->name, r.inside, r.before_reply,
			    r.before_more, r.between, r.turns);
	}
}

/* A WebSocket: not inside the upgrade, a frame, or a message of several, and not once a side has said goodbye. */
static void
test_a_websocket_rests_between_messages(void **state)
{
	static const struct {
		enum side from;
		const char *bytes;
		size_t len;
		enum codec_rest then;
	} says[] = {
		{ CLIENT, "\x81\x82\0\0\0\0hi", 8, REST_SURE },
		{ BACKEND, "\x01\x02he", 4, REST_NONE },
		{ BACKEND, "\x89\0", 2, REST_NONE },		/* a ping inside it */
		{ BACKEND, "\x80\x01y", 3, REST_SURE },
		{ CLIENT, "\x88\x80\0\0\0\0", 6, REST_NONE },
	};
	static const char request[] = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
	static const char reply[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
	struct run run;

	(void)state;
	run_start(&run, &codec_websocket, NULL);
	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		run_feed(&run, CLIENT, request + i, 1);
		assert_int_equal(run.codec->rest(run.state), REST_NONE);
	}
	for (size_t i = 0; i < sizeof(reply) - 1; i++) {
		assert_int_equal(run.codec->rest(run.state), REST_NONE);
		run_feed(&run, BACKEND, reply + i, 1);
	}
	assert_int_equal(run.codec->rest(run.state), REST_SURE);
	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++)
		for (size_t k = 0; k < says[i].len; k++) {
			run_feed(&run, says[i].from, says[i].bytes + k, 1);
			assert_int_equal(run.codec->rest(run.state), k + 1 < says[i].len ? REST_NONE : says[i].then);
		}
	run_end(&run);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flows_rest_only_where_nothing_is_outstanding),
		cmocka_unit_test(test_a_websocket_rests_between_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
