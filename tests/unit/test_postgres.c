/*
 * test_postgres.c - the PostgreSQL codec: recorded conversations in every cut
 * and with every heartbeat, and the moments that were found dangerous one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec/postgres.h"
#include "codec_harness.h"
#include "postgres_bytes.h"
#include "postgres_transcripts.h"

static const struct codec_settings even_in_transaction = {
	.heartbeats = { true, true }, .while_busy = { true, true }, .kind = { 0, HEARTBEAT_ONEWAY }, .in_transaction = true,
};

/* ---- recorded conversations ---- */

static struct tally
check(const char *name, const struct step *steps, size_t n, const struct codec_settings *settings)
{
	const struct transcript t = { .name = name, .codec = &codec_postgres, .steps = steps, .n_steps = n,
	    .settings = settings };

	return codec_check(&t);
}

#define CHECK(steps, settings) check(#steps, (steps), sizeof(steps) / sizeof((steps)[0]), (settings))

/* Sessions in which both sides may get one-way heartbeats and the server may be pinged. */
#define TEST_SESSION(name, settings)							\
	static void									\
	test_##name(void **state)							\
	{										\
		struct tally t = CHECK(name, settings);					\
											\
		(void)state;								\
		assert_true(t.moments[CLIENT][HEARTBEAT_ONEWAY] > 0);				\
		assert_true(t.moments[BACKEND][HEARTBEAT_ONEWAY] > 0);				\
		assert_true(t.moments[BACKEND][HEARTBEAT_PING] > 0);				\
		assert_true(t.replies[BACKEND] >= t.moments[BACKEND][HEARTBEAT_PING]);	\
	}

TEST_SESSION(transaction, &on)
TEST_SESSION(batches, &on)
TEST_SESSION(copy_extended, &even_in_transaction)
TEST_SESSION(copy_failed, &on)
TEST_SESSION(notifications, &on)
TEST_SESSION(function_call, &on)
TEST_SESSION(cursor, &even_in_transaction)
TEST_SESSION(pipeline, &even_in_transaction)
TEST_SESSION(early_copy, &on)
TEST_SESSION(scram, &on)
TEST_SESSION(refused_encryption, &on)
TEST_SESSION(standby, &on)
TEST_SESSION(logical, &on)

static void
test_transaction_with_heartbeats_in_it(void **state)
{
	struct tally t = CHECK(transaction, &even_in_transaction);

	(void)state;
	assert_true(t.moments[BACKEND][HEARTBEAT_PING] > CHECK(transaction, &on).moments[BACKEND][HEARTBEAT_PING]);
}

static void
test_a_refused_login_gets_no_heartbeat(void **state)
{
	struct tally t = CHECK(wrong_password, &on);

	(void)state;
	assert_int_equal(t.moments[CLIENT][HEARTBEAT_ONEWAY], 0);
	assert_int_equal(t.moments[BACKEND][HEARTBEAT_ONEWAY], 0);
}

/* ---- one moment at a time ---- */

static void
test_heartbeats_begin_with_the_first_ready_for_query(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_postgres, &on);
	FEED(&r, CLIENT, STARTUP);
	FEED(&r, BACKEND, AUTH_OK DATETIMES KEY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, READY);
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, DATETIMES);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, FLUSH);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_PING, SYNC);
	FEED(&r, BACKEND, READY);
	assert_int_equal(r.replies[BACKEND], 1);
	run_end(&r);
}

static void
test_none_to_a_server_that_waits_in_a_transaction(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, DONE READY_T);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, ERROR READY_E);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);

	start(&r, &even_in_transaction);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, DONE READY_T);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, FLUSH);
	run_end(&r);
}

/* By default: a ping at rest, no one-way, and nothing to either side while a statement runs. */
static void
test_by_default_silence_is_kept_while_a_statement_runs(void **state)
{
	static const struct codec_settings defaults = { .heartbeats = { true, true } };
	struct run r;

	(void)state;
	start(&r, &defaults);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_PING);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	FEED(&r, BACKEND, DONE READY);
	FEED(&r, CLIENT, PARSE);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

/* The server drops what comes behind a failed batch, a Query too, until the Sync. */
static void
test_a_query_inside_a_failed_batch_gets_no_ready(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, PARSE);
	FEED(&r, BACKEND, ERROR);
	FEED(&r, CLIENT, SELECT PARSE EXECUTE);
	assert_int_equal(run_may_heartbeat(&r, BACKEND) & HEARTBEAT_PING, 0);
	FEED(&r, CLIENT, SYNC);
	FEED(&r, BACKEND, READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, DONE READY_T);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* A Flush that is read behind the query stops the server's timer; a Sync starts it. */
static void
test_the_timer_of_a_transaction_is_started_again(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, FLUSH);
	FEED(&r, BACKEND, DONE READY_T);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, SYNC);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, READY_T);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* All that the client has pipelined is before the Flush, also a query that opens a transaction after one that does not. */
static void
expect_a_timer_started_behind(const char *pipelined, size_t len)
{
	struct run r;

	start(&r, &on);
	run_feed(&r, CLIENT, pipelined, len);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, FLUSH);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, BACKEND, DONE READY_T);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, SYNC);
	FEED(&r, BACKEND, READY_T);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

static void
test_the_timer_of_a_pipelined_transaction_is_started_again(void **state)
{
	static const char two_queries[] = SELECT SELECT;
	static const char two_batches[] = PARSE EXECUTE SYNC PARSE EXECUTE SYNC;

	(void)state;
	expect_a_timer_started_behind(two_queries, sizeof(two_queries) - 1);
	expect_a_timer_started_behind(two_batches, sizeof(two_batches) - 1);
}

/* With nothing more under way and no transaction open there is no timer to start. */
static void
test_no_timer_is_started_outside_a_transaction(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT SELECT);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, FLUSH);
	FEED(&r, BACKEND, DONE READY DONE READY);
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, FLUSH);
	run_end(&r);
}

/* ... and the client's own next message starts it as well as ours. */
static void
test_the_clients_next_message_starts_the_timer(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, DONE READY_T DONE READY_T);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

static void
test_no_sync_into_a_batch_without_its_own(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, PARSE EXECUTE FLUSH);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, BACKEND, "1\0\0\0\4" ERROR);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, CLIENT, SYNC);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, BACKEND, READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

static void
test_the_client_may_speak_in_the_same_instant(void **state)
{
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	before = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, READY DONE READY_T);
	EXPECT_GOT(&r, CLIENT, before, DONE READY_T);
	assert_int_equal(r.replies[BACKEND], 1);
	run_end(&r);
}

/* A server that hangs is pinged again and again; if it wakes up, all its replies are taken out. */
static void
test_many_pings_may_wait_for_their_replies(void **state)
{
	static const char some[] = READY READY DATETIMES READY;
	char all[85 * (sizeof(some) - 1)];
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	before = r.got[CLIENT].len;
	for (int i = 0; i < 255; i++) {
		assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	}
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, CLIENT, SELECT);
	for (int i = 0; i < 85; i++)
		memcpy(all + i * (sizeof(some) - 1), some, sizeof(some) - 1);
	run_feed(&r, BACKEND, all, sizeof(all));	/* more pieces than fit one call */
	assert_int_equal(r.got[CLIENT].len, before + 85 * (sizeof(DATETIMES) - 1));
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(r.replies[BACKEND], 255);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

static void
test_what_comes_before_our_answer_is_forwarded(void **state)
{
	static const char news[] = "A\0\0\0\x0e\0\0\0\1ch\0hi\0" "N\0\0\0\5\0" DATETIMES;
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	before = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, BACKEND, news);
	FEED(&r, BACKEND, READY);
	expect_got(&r, CLIENT, before, news, sizeof(news) - 1);
	run_end(&r);
}

static void
test_a_servers_last_words_are_forwarded(void **state)
{
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	before = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, BACKEND, ERROR);
	run_fin(&r, BACKEND);
	EXPECT_GOT(&r, CLIENT, before, ERROR);
	assert_null(r.passthrough);
	run_end(&r);
}

/* asyncpg lost rows when anything came between two of CopyData. */
static void
test_none_to_the_client_in_copy_out(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	FEED(&r, BACKEND, COPY_OUT);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	FEED(&r, BACKEND, COPY_DATA COPY_DONE DONE);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	FEED(&r, BACKEND, READY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	run_end(&r);
}

/* A Sync gets no reply there, poolers wait for ever behind a Flush, and clients know no other messages. */
static void
test_no_ask_in_a_copy(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT COPY_DATA COPY_DONE);	/* before the server has said that it copies */
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, BACKEND, COPY_IN);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	FEED(&r, CLIENT, PARSE EXECUTE SYNC);
	FEED(&r, BACKEND, COPY_IN);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	FEED(&r, CLIENT, COPY_DATA COPY_DONE);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);	/* triggers may run now */
	FEED(&r, CLIENT, SYNC);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

/* Rows of a COPY that had failed already are nothing that the server replies. */
static void
test_the_end_of_a_copy_that_failed_counts_for_nothing(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT COPY_DATA COPY_DONE);
	FEED(&r, BACKEND, ERROR READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, COPY_IN ERROR READY);
	FEED(&r, CLIENT, COPY_DATA COPY_DONE);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	FEED(&r, CLIENT, PARSE EXECUTE SYNC);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

/*
 * Nobody can say whether the copy had read the Sync behind Execute: another
 * ReadyForQuery may come or not. It would come before the results of what the
 * client sends next.
 */
static void
test_no_ask_while_a_failure_leaves_the_count_open(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, PARSE EXECUTE SYNC);
	FEED(&r, BACKEND, COPY_IN ERROR READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, CLIENT, SELECT SELECT);
	FEED(&r, BACKEND, DONE READY DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

#define TIMED_OUT "E\0\0\0\x20" "SFATAL\0" "VFATAL\0" "C57P05\0" "Midle\0" "\0"
#define TERMINATED "E\0\0\0\x23" "SВАЖНО\0" "VFATAL\0" "C57P01\0" "Mno\0" "\0"
#define NO_SERVER "E\0\0\0\x27" "SFATAL\0" "C08P01\0" "Mquery_wait_timeout\0" "\0"
#define NO_SERVER_NOW "E\0\0\0\x2c" "SERROR\0" "VERROR\0" "C58000\0" "Mcheckout timeout\0" "\0"
#define TOO_MANY "E\0\0\0\x1e" "SFEHLER\0" "VERROR\0" "C53300\0" "Mx\0" "\0"
#define BEHIND_ITS_END "E\0\0\0\x1c" "SFEHLER\0" "\0" "VERROR\0" "C53300\0" "\0"

/* A Sync is replied to by these bytes, cut in two at each place, and the FIN: all is as the server meant it. */
static void
reply_to_sync(const char *reply, size_t len, bool reaches, bool is_own_end)
{
	for (size_t cut = 0; cut < len; cut++) {
		struct run r;
		size_t before;

		start(&r, &on);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
		before = r.got[CLIENT].len;
		if (cut > 0)
			run_feed(&r, BACKEND, reply, cut);
		run_feed(&r, BACKEND, reply + cut, len - cut);
		expect_got(&r, CLIENT, before, reply, reaches ? len : 0);
		assert_int_equal(codec_postgres.said_goodbye(r.state, BACKEND), is_own_end);
		assert_true((r.refused == NULL) == is_own_end);
		assert_true(!is_own_end || (run_may_heartbeat(&r, CLIENT) | run_may_heartbeat(&r, BACKEND)) == 0);
		if (!reaches) {		/* the session goes on */
			FEED(&r, CLIENT, SELECT);
			FEED(&r, BACKEND, READY DONE READY);
			EXPECT_GOT(&r, CLIENT, before, DONE READY);
		}
		run_fin(&r, BACKEND);
		assert_null(r.passthrough);
		run_end(&r);
	}
}

static void
test_an_error_in_place_of_our_answer(void **state)
{
	(void)state;
#define REPLY(text, ...) reply_to_sync((text), sizeof(text) - 1, __VA_ARGS__)
	REPLY(TIMED_OUT, true, true);
	REPLY(TERMINATED, true, true);
	REPLY(NO_SERVER, true, false);		/* as PgBouncer says it */
	REPLY(NO_SERVER_NOW, false, false);
	REPLY(TOO_MANY, false, false);
	REPLY(BEHIND_ITS_END, true, false);
#undef REPLY
}

/* Half an error at the end is the server's all the same. */
static void
test_half_an_error_in_place_of_our_answer(void **state)
{
	(void)state;
	for (size_t cut = 1; cut < sizeof(TIMED_OUT) - 1; cut++) {
		struct run r;
		size_t before;

		start(&r, &on);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
		before = r.got[CLIENT].len;
		run_feed(&r, BACKEND, TIMED_OUT, cut);
		run_fin(&r, BACKEND);
		expect_got(&r, CLIENT, before, TIMED_OUT, cut);
		run_end(&r);
	}
}

/* A peer that drops a Sync: the ReadyForQuery behind the client's result is the client's. */
static void
test_a_sync_that_was_dropped_costs_no_answer(void **state)
{
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, CLIENT, SELECT);
	before = r.got[CLIENT].len;
	FEED(&r, BACKEND, DONE READY);
	EXPECT_GOT(&r, CLIENT, before, DONE READY);
	assert_non_null(r.refused);
	assert_null(r.passthrough);
	run_end(&r);
}

/* Whether a session still gets heartbeats to its client after a statement, cut in two at each place. */
static bool
gets_heartbeats_after(const char *statement, size_t len)
{
	bool gets_heartbeats = true;

	for (size_t cut = 1; cut < len; cut++) {
		struct run r;

		start(&r, &on);
		run_feed(&r, CLIENT, statement, cut);
		run_feed(&r, CLIENT, statement + cut, len - cut);
		FEED(&r, CLIENT, SYNC);
		FEED(&r, BACKEND, DONE READY READY);
		gets_heartbeats = run_may_heartbeat(&r, CLIENT) != 0;
		assert_true(gets_heartbeats == (codec_postgres.why_none(r.state, CLIENT) == NULL));
		run_end(&r);
	}
	return gets_heartbeats;
}

/* pgjdbc, waiting for notifications, takes no ParameterStatus. */
static void
test_none_to_a_client_that_listens(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool gets_heartbeats;
	} t[] = {
#define STATEMENT(bytes, gets_heartbeats) { (bytes), sizeof(bytes) - 1, (gets_heartbeats) }
		STATEMENT("Q\0\0\0\x0eLISTEN ch\0", false),
		STATEMENT("Q\0\0\0\x14;/**/listen\"ch\"\0", false),
		STATEMENT("P\0\0\0\x11\0Listen ch\0\0\0", false),
		STATEMENT("Q\0\0\0\x0cxlisten\0", true),
		STATEMENT("Q\0\0\0\x10unlisten ch\0", true),
		STATEMENT("Q\0\0\0\x12listeners lis\0", true),
#undef STATEMENT
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		assert_true(gets_heartbeats_after(t[i].bytes, t[i].len) == t[i].gets_heartbeats);

	/* A function may have done it. */
	start(&r, &on);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	FEED(&r, BACKEND, "A\0\0\0\x0b\0\0\0\1c\0\0");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

static void
test_none_to_a_client_that_calls_functions_by_their_number(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, "F\0\0\0\x0e\0\0\0\1\0\0\0\0\0\0");
	FEED(&r, BACKEND, "V\0\0\0\x08\xff\xff\xff\xff" READY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
test_ledger_counts_what_it_cannot_keep_in_order(void **state)
{
	struct pg_ledger l = { 0 };

	(void)state;
	for (int i = 0; i < 20000; i++) {
		pg_ledger_extended(&l);
		pg_ledger_sync(&l);
	}
	assert_int_equal(l.spilled, 0);
	for (int i = 0; i < 1000; i++) {
		pg_ledger_query(&l);
		pg_ledger_sync(&l);
	}
	assert_true(l.spilled > 0);
	pg_ledger_extended(&l);
	for (int i = 0; i < 22000; i++) {
		assert_true(pg_ledger_is_due(&l));
		pg_ledger_ready(&l);
	}
	assert_false(pg_ledger_is_due(&l));
	assert_false(pg_ledger_is_idle(&l));	/* the batch that is still open */
	pg_ledger_sync(&l);
	pg_ledger_ready(&l);
	assert_true(pg_ledger_is_idle(&l));
	assert_false(l.unsure);
}

/* All in one go: what fails decides whether the Query gets a reply. */
static void
test_a_query_pipelined_into_a_batch_is_counted_as_the_server_reads_it(void **state)
{
	static const struct {
		const char *reply;
		size_t len;
	} t[] = {
#define BYTES(s) { (s), sizeof(s) - 1 }
		BYTES(ERROR READY),						/* of Parse: Query and Execute are dropped */
		BYTES("1\0\0\0\4" ERROR READY READY),				/* of Query: its batch and the Sync behind it are not */
		BYTES("1\0\0\0\4" DONE READY DONE READY),
		BYTES("1\0\0\0\4" DONE READY ERROR READY),
#undef BYTES
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct run r;

		start(&r, &on);
		FEED(&r, CLIENT, PARSE SELECT EXECUTE SYNC);
		run_feed(&r, BACKEND, t[i].reply, t[i].len - 1);
		assert_int_equal(run_may_heartbeat(&r, BACKEND) & HEARTBEAT_PING, 0);
		run_feed(&r, BACKEND, t[i].reply + t[i].len - 1, 1);
		assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
		run_end(&r);
	}
}

static void
test_ledger_is_unsure_of_a_copy_among_what_it_only_counted(void **state)
{
	struct pg_ledger l = { 0 };

	(void)state;
	for (int i = 0; i < 1000; i++) {
		pg_ledger_query(&l);
		pg_ledger_sync(&l);
	}
	pg_ledger_copy_in(&l);
	assert_true(l.unsure);
}

/* "copy a from stdin; copy b from stdin" with all rows sent at once. */
static void
test_ledger_takes_several_copies_of_one_query(void **state)
{
	struct pg_ledger l = { 0 };

	(void)state;
	pg_ledger_query(&l);
	pg_ledger_copy_end(&l);
	pg_ledger_copy_end(&l);
	pg_ledger_extended(&l);
	pg_ledger_sync(&l);
	pg_ledger_copy_in(&l);
	pg_ledger_copy_in(&l);
	assert_false(l.copying);
	pg_ledger_ready(&l);
	assert_true(pg_ledger_is_due(&l));
	pg_ledger_ready(&l);
	assert_true(pg_ledger_is_idle(&l));
	assert_false(l.unsure);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transaction),
		cmocka_unit_test(test_transaction_with_heartbeats_in_it),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_copy_extended),
		cmocka_unit_test(test_copy_failed),
		cmocka_unit_test(test_notifications),
		cmocka_unit_test(test_function_call),
		cmocka_unit_test(test_cursor),
		cmocka_unit_test(test_pipeline),
		cmocka_unit_test(test_early_copy),
		cmocka_unit_test(test_scram),
		cmocka_unit_test(test_refused_encryption),
		cmocka_unit_test(test_standby),
		cmocka_unit_test(test_logical),
		cmocka_unit_test(test_a_refused_login_gets_no_heartbeat),
		cmocka_unit_test(test_heartbeats_begin_with_the_first_ready_for_query),
		cmocka_unit_test(test_none_to_a_server_that_waits_in_a_transaction),
		cmocka_unit_test(test_by_default_silence_is_kept_while_a_statement_runs),
		cmocka_unit_test(test_a_query_inside_a_failed_batch_gets_no_ready),
		cmocka_unit_test(test_the_timer_of_a_transaction_is_started_again),
		cmocka_unit_test(test_the_timer_of_a_pipelined_transaction_is_started_again),
		cmocka_unit_test(test_no_timer_is_started_outside_a_transaction),
		cmocka_unit_test(test_the_clients_next_message_starts_the_timer),
		cmocka_unit_test(test_no_sync_into_a_batch_without_its_own),
		cmocka_unit_test(test_the_client_may_speak_in_the_same_instant),
		cmocka_unit_test(test_many_pings_may_wait_for_their_replies),
		cmocka_unit_test(test_what_comes_before_our_answer_is_forwarded),
		cmocka_unit_test(test_a_servers_last_words_are_forwarded),
		cmocka_unit_test(test_none_to_the_client_in_copy_out),
		cmocka_unit_test(test_no_ask_in_a_copy),
		cmocka_unit_test(test_the_end_of_a_copy_that_failed_counts_for_nothing),
		cmocka_unit_test(test_no_ask_while_a_failure_leaves_the_count_open),
		cmocka_unit_test(test_an_error_in_place_of_our_answer),
		cmocka_unit_test(test_half_an_error_in_place_of_our_answer),
		cmocka_unit_test(test_a_sync_that_was_dropped_costs_no_answer),
		cmocka_unit_test(test_none_to_a_client_that_listens),
		cmocka_unit_test(test_none_to_a_client_that_calls_functions_by_their_number),
		cmocka_unit_test(test_ledger_counts_what_it_cannot_keep_in_order),
		cmocka_unit_test(test_a_query_pipelined_into_a_batch_is_counted_as_the_server_reads_it),
		cmocka_unit_test(test_ledger_is_unsure_of_a_copy_among_what_it_only_counted),
		cmocka_unit_test(test_ledger_takes_several_copies_of_one_query),
	};

	return cmocka_run_group_tests_name("postgres", tests, NULL, NULL);
}
