/*
 * test_mysql.c - the MySQL codec: conversations of real clients with a real
 * server in every way in which they may be cut, with heartbeats in every place, and each state in
 * which a heartbeat would do harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec_harness.h"
#include "transcripts_mysql.h"

#define ONEWAY HEARTBEAT_ONEWAY
#define BOTH (HEARTBEAT_ONEWAY | HEARTBEAT_PING)

static const struct codec_settings in_transaction = {
	.heartbeats = { true, true },
	.in_transaction = true,
	.while_busy = { true, true },
	.kind = { 0, HEARTBEAT_ONEWAY },
};

/* One-way heartbeats at rest, and while a statement runs. */
static const struct codec_settings all_kinds = {
	.heartbeats = { true, true },
	.while_busy = { true, true },
	.kind = { 0, HEARTBEAT_ONEWAY },
};

static struct tally
check(const char *name, const struct step *steps, size_t n, const struct codec_settings *settings,
    const char *lost)
{
	struct transcript t = { .name = name, .codec = &codec_mysql, .steps = steps, .n_steps = n,
		.settings = settings, .passthrough = lost };

	return codec_check(&t);
}

#define CHECK(array, settings, lost) check(#array, array, sizeof(array) / sizeof(array[0]), settings, lost)

/* --- conversations --- */

static void
heartbeats_everywhere(struct tally t)
{
	assert_true(t.moments[BACKEND][HEARTBEAT_ONEWAY] > 20);
	assert_true(t.moments[BACKEND][HEARTBEAT_PING] > 5);
	assert_int_equal(t.replies[BACKEND], t.moments[BACKEND][HEARTBEAT_PING]);
	assert_int_equal(t.moments[CLIENT][HEARTBEAT_ONEWAY] + t.moments[CLIENT][HEARTBEAT_PING], 0);
}

static void
test_heartbeats_of_both_kinds_go_between_commands(void **state)
{
	(void)state;
	heartbeats_everywhere(CHECK(mysql_pymysql, &all_kinds, NULL));
	heartbeats_everywhere(CHECK(mysql_libmariadb, &all_kinds, NULL));
	heartbeats_everywhere(CHECK(mysql_mysql2, &all_kinds, NULL));
	heartbeats_everywhere(CHECK(mysql_mariadb_js, &all_kinds, NULL));
	heartbeats_everywhere(CHECK(mysql_statements, &all_kinds, NULL));
	heartbeats_everywhere(CHECK(mysql_multi, &all_kinds, NULL));
}

/* While a statement runs MariaDB takes unread bytes for a sign of its client's life. */
static void
test_by_default_silence_is_kept_while_a_statement_runs(void **state)
{
	struct tally by_default = CHECK(mysql_statements, NULL, NULL), busy = CHECK(mysql_statements, &all_kinds, NULL);

	(void)state;
	assert_true(by_default.moments[BACKEND][HEARTBEAT_PING] > 5);
	assert_true(by_default.moments[BACKEND][HEARTBEAT_ONEWAY] > 5);
	assert_true(busy.moments[BACKEND][HEARTBEAT_ONEWAY] > 2 * by_default.moments[BACKEND][HEARTBEAT_ONEWAY]);
}

static void
test_a_file_is_loaded_whole(void **state)
{
	struct tally t = CHECK(mysql_load_data, &all_kinds, NULL);

	(void)state;
	assert_true(t.moments[BACKEND][HEARTBEAT_PING] > 0);
}

static void
test_heartbeats_in_transactions_are_opt_in(void **state)
{
	struct tally without = CHECK(mysql_transaction, &all_kinds, NULL);
	struct tally with = CHECK(mysql_transaction, &in_transaction, NULL);

	(void)state;
	assert_true(without.moments[BACKEND][HEARTBEAT_ONEWAY] > 0);
	assert_true(with.moments[BACKEND][HEARTBEAT_ONEWAY] > without.moments[BACKEND][HEARTBEAT_ONEWAY]);
}

static void
test_logins_are_followed(void **state)
{
	(void)state;
	assert_int_equal(CHECK(mysql_refused, &all_kinds, NULL).moments[BACKEND][HEARTBEAT_ONEWAY], 0);
	CHECK(mysql_switch, &all_kinds, NULL);
}

static void
test_passthrough_where_no_heartbeat_is_possible(void **state)
{
	(void)state;
	assert_int_equal(CHECK(mysql_compressed, &all_kinds, "compression").moments[BACKEND][HEARTBEAT_ONEWAY], 0);
	assert_int_equal(CHECK(mysql_tls, &all_kinds, "TLS").moments[BACKEND][HEARTBEAT_ONEWAY], 0);
	CHECK(mysql_replica, &all_kinds, "replication");
}

/* --- single moments: a login, then packets --- */

#define CAPS_DEFAULT 0x200u			/* protocol 4.1 */
#define CAPS_LOCAL 0x280u			/* and LOAD DATA LOCAL */

static size_t piece = SIZE_MAX;	/* bytes that arrive together */

static void
send_packet(struct run *r, enum side from, uint8_t seq, const void *payload, size_t len)
{
	uint8_t *p = malloc(len + 4);

	if (p == NULL)
		abort();
	p[0] = (uint8_t)len;
	p[1] = (uint8_t)(len >> 8);
	p[2] = (uint8_t)(len >> 16);
	p[3] = seq;
	memcpy(p + 4, payload, len);
	for (size_t at = 0, n; at < len + 4; at += n) {
		n = len + 4 - at < piece ? len + 4 - at : piece;
		run_feed(r, from, p + at, n);
	}
	free(p);
}

#define SEND(r, from, seq, text) send_packet(r, from, seq, text, sizeof(text) - 1)
#define OK_AUTOCOMMIT "\0\0\0\2\0\0\0"
#define OK_IN_TRANS "\0\0\0\1\0\0\0"
#define OK_NO_AUTOCOMMIT "\0\0\0\0\0\0\0"
#define ERROR "\377\50\4#42000no"

#define GREETING(caps) "\n10.11\0\1\0\0\0saltsalt\0" caps "\10\2\0\377\201\25\0\0\0\0\0\0\35\0\0\0"
#define UNKNOWN_COMMAND "\377\27\4#08S01unknown command (code=25)"

static void
greet(struct run *r, const struct codec_settings *settings)
{
	run_start(r, &codec_mysql, settings);
	SEND(r, BACKEND, 0, GREETING("\376\377"));
}

static void
finish_login(struct run *r, uint32_t caps)
{
	uint8_t login[40] = { (uint8_t)caps, (uint8_t)(caps >> 8), (uint8_t)(caps >> 16), (uint8_t)(caps >> 24) };

	send_packet(r, CLIENT, 1, login, sizeof(login));
	assert_int_equal(run_may_heartbeat(r, BACKEND), 0);
	SEND(r, BACKEND, 2, OK_AUTOCOMMIT);
}

static void
log_in(struct run *r, const struct codec_settings *settings, uint32_t caps)
{
	greet(r, settings);
	finish_login(r, caps);
}

/* To a server that names the capabilities of ProxySQL. */
static void
log_in_at_proxy(struct run *r, const struct codec_settings *settings)
{
	run_start(r, &codec_mysql, settings);
	SEND(r, BACKEND, 0, GREETING("\17\262"));
	finish_login(r, CAPS_DEFAULT);
}

static unsigned
kinds(struct run *r)
{
	return run_may_heartbeat(r, BACKEND);
}

static void
test_no_heartbeat_before_the_login_is_done(void **state)
{
	struct run r;

	(void)state;
	greet(&r, &all_kinds);
	assert_int_equal(kinds(&r), 0);
	run_end(&r);
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	assert_int_equal(kinds(&r), BOTH);
	SEND(&r, CLIENT, 0, "\21user\0\0");		/* CHANGE_USER: once more */
	assert_int_equal(kinds(&r), 0);
	SEND(&r, BACKEND, 1, "\376other_plugin\0salt");
	assert_int_equal(kinds(&r), 0);
	SEND(&r, CLIENT, 2, "hash");
	assert_int_equal(kinds(&r), 0);
	SEND(&r, BACKEND, 3, OK_AUTOCOMMIT);
	assert_int_equal(kinds(&r), BOTH);
	SEND(&r, CLIENT, 0, "\21user\0\0");
	SEND(&r, BACKEND, 1, ERROR);			/* refused: the old user goes on */
	assert_int_equal(kinds(&r), BOTH);
	assert_null(r.passthrough);
	run_end(&r);
	greet(&r, &all_kinds);
	SEND(&r, CLIENT, 1, "\0\2\0\0" "0123456789012345678901234567");
	SEND(&r, BACKEND, 2, ERROR);			/* the login itself: the server hangs up */
	assert_int_equal(kinds(&r), 0);
	assert_null(r.passthrough);
	run_end(&r);
}

static void
test_a_running_statement_gets_oneway_heartbeats_only(void **state)
{
	struct run r;

	(void)state;
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	SEND(&r, CLIENT, 0, "\3load data local infile 'x' into table t");	/* but the client cannot */
	assert_int_equal(kinds(&r), ONEWAY);
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(kinds(&r), BOTH);
	SEND(&r, CLIENT, 0, "\1");
	assert_int_equal(kinds(&r), 0);			/* QUIT */
	run_end(&r);
}

/* The server would read a heartbeat into the file. */
static void
test_no_heartbeat_behind_what_may_load_a_file(void **state)
{
	static const char *const suspects[] = {
		"\3load data local infile 'x' into table t", "\3LOAD XML LOCAL INFILE 'x'",
		"\3execute s", "\3select 1;Execute Immediate @x", "\3call p()",
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof(suspects) / sizeof(suspects[0]); i++) {
		log_in(&r, &all_kinds, CAPS_LOCAL);
		send_packet(&r, CLIENT, 0, suspects[i], strlen(suspects[i]));
		assert_int_equal(kinds(&r), 0);
		SEND(&r, BACKEND, 1, "\373file");
		assert_int_equal(kinds(&r), 0);
		SEND(&r, CLIENT, 2, "1\n2\n");
		assert_int_equal(kinds(&r), 0);
		SEND(&r, CLIENT, 3, "");
		assert_int_equal(kinds(&r), 0);		/* the next result may be another file */
		SEND(&r, BACKEND, 4, OK_AUTOCOMMIT);
		assert_int_equal(kinds(&r), BOTH);
		run_end(&r);
	}
}

static void
test_a_prepared_suspect_stays_one(void **state)
{
	struct run r;

	(void)state;
	log_in(&r, &all_kinds, CAPS_LOCAL);
	SEND(&r, CLIENT, 0, "\26select 1");
	SEND(&r, BACKEND, 1, "\0\1\0\0\0\0\0\0\0\0\0\0");
	SEND(&r, CLIENT, 0, "\27\1\0\0\0\0\1\0\0\0");
	assert_int_equal(kinds(&r), ONEWAY);
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	SEND(&r, CLIENT, 0, "\26load data local infile 'x' into table t");
	SEND(&r, BACKEND, 1, "\0\2\0\0\0\0\0\0\0\0\0\0");
	assert_int_equal(kinds(&r), BOTH);
	SEND(&r, CLIENT, 0, "\27\2\0\0\0\0\1\0\0\0");
	assert_int_equal(kinds(&r), 0);
	run_end(&r);
}

/* What is longer than is searched may hold anything. */
static void
test_a_long_statement_is_suspect(void **state)
{
	static char text[8000];
	struct run r;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[0] = 3;
	log_in(&r, &all_kinds, CAPS_LOCAL);
	send_packet(&r, CLIENT, 0, text, sizeof(text));
	assert_int_equal(kinds(&r), 0);
	run_end(&r);
	log_in(&r, &all_kinds, CAPS_LOCAL);
	send_packet(&r, CLIENT, 0, text, 4000);
	assert_int_equal(kinds(&r), ONEWAY);
	run_end(&r);
}

/* 16 MiB and more: the packet goes on in the next. */
static void
test_no_heartbeat_inside_a_continued_command(void **state)
{
	static char text[0xffffff];
	struct run r;

	(void)state;
	text[0] = 3;
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	send_packet(&r, CLIENT, 0, text, sizeof(text));
	assert_int_equal(kinds(&r), 0);
	SEND(&r, CLIENT, 1, "the rest");
	assert_int_equal(kinds(&r), ONEWAY);
	SEND(&r, BACKEND, 2, "\1");
	SEND(&r, BACKEND, 3, "\3def");
	SEND(&r, BACKEND, 4, "\376\0\0\2\0");
	text[0] = '\376';				/* a row that begins like EOF */
	send_packet(&r, BACKEND, 5, text, sizeof(text));
	SEND(&r, BACKEND, 6, "");
	assert_int_equal(kinds(&r), ONEWAY);
	SEND(&r, BACKEND, 7, "\376\0\0\2\0");
	assert_int_equal(kinds(&r), BOTH);
	run_end(&r);
}

/* An idle transaction holds locks: the server's own limit shall end it. One at work is not idle. */
static void
test_no_heartbeats_in_a_transaction_unless_configured(void **state)
{
	struct run r;

	(void)state;
	for (int on = 0; on < 2; on++) {
		log_in(&r, on ? &in_transaction : &all_kinds, CAPS_DEFAULT);
		SEND(&r, CLIENT, 0, "\3begin");
		SEND(&r, BACKEND, 1, OK_IN_TRANS);
		assert_int_equal(kinds(&r), on ? BOTH : 0);
		SEND(&r, CLIENT, 0, "\3bogus");
		assert_int_equal(kinds(&r), ONEWAY);
		SEND(&r, BACKEND, 1, ERROR);		/* has no status */
		assert_int_equal(kinds(&r), on ? BOTH : 0);
		SEND(&r, CLIENT, 0, "\3commit");
		SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
		assert_int_equal(kinds(&r), BOTH);
		SEND(&r, CLIENT, 0, "\3bogus");
		SEND(&r, BACKEND, 1, ERROR);
		assert_int_equal(kinds(&r), BOTH);
		SEND(&r, CLIENT, 0, "\3set autocommit=0");
		SEND(&r, BACKEND, 1, OK_NO_AUTOCOMMIT);
		assert_int_equal(kinds(&r), BOTH);
		SEND(&r, CLIENT, 0, "\3insert into t values (1), (1)");
		SEND(&r, BACKEND, 1, ERROR);		/* one may be open now */
		assert_int_equal(kinds(&r), on ? BOTH : 0);
		run_end(&r);
	}
}

static void
test_passthrough_for_the_unknown(void **state)
{
	static const struct {
		const char *why;
		char command;
	} unknown[] = {
		{ "replication", 0x12 }, { "replication", 0x15 }, { "replication", 0x1e },
		{ "unknown", 0x0f }, { "unknown", 0x40 }, { "unknown", (char)0xfe },
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		log_in(&r, &all_kinds, CAPS_DEFAULT);
		send_packet(&r, CLIENT, 0, &unknown[i].command, 1);
		assert_non_null(r.passthrough);
		assert_non_null(strstr(r.passthrough, unknown[i].why));
		run_end(&r);
	}
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	SEND(&r, CLIENT, 3, "\3select 1");		/* not the first packet of a command */
	assert_non_null(r.passthrough);
	run_end(&r);
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);		/* no heartbeat went out that could have drawn it */
	assert_string_equal(r.passthrough, "a packet without a command");
	run_end(&r);
	run_start(&r, &codec_mysql, &all_kinds);
	run_feed(&r, CLIENT, "\26\3\1\0\5hello", 10);
	assert_string_equal(r.passthrough, "TLS");
	run_end(&r);
	run_start(&r, &codec_mysql, &all_kinds);
	run_feed(&r, BACKEND, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	assert_null(r.passthrough);				/* the first packet would be 5 MB long: not a heartbeat meanwhile */
	assert_int_equal(kinds(&r), 0);
	run_end(&r);
}

static void
test_too_many_commands_without_a_reply_end_it(void **state)
{
	struct run r;

	(void)state;
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	for (int i = 0; i < 32 * 32; i++)
		SEND(&r, CLIENT, 0, "\3select 1");
	assert_null(r.passthrough);
	for (int i = 0; i < 32 * 32; i++)
		SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(kinds(&r), BOTH);
	for (int i = 0; i < 16; i++) {
		SEND(&r, CLIENT, 0, "\3select 1");
		SEND(&r, CLIENT, 0, "\16");
	}
	assert_null(r.passthrough);
	SEND(&r, CLIENT, 0, "\3select 1");
	assert_non_null(r.passthrough);
	run_end(&r);
}

/* --- locks at rest --- */

/* The server's limit on idle sessions shall free them, and no status flag shows them. */
static void
test_a_session_that_may_hold_locks_is_left_alone(void **state)
{
	static const struct {
		const char *takes, *frees;
	} locks[] = {
		{ "\3lock  tables t\n write", "\3Unlock Tables" },
		{ "\3LOCK TABLE t READ", "\3unlock\ttable" },
		{ "\3flush tables with read lock", "\3unlock tables" },
		{ "\3flush tables t for export", "\3unlock tables" },
		{ "\3select get_lock('a', 10)", "\3do release_lock('a')" },
		{ "\3do GET_LOCK('a', 1), GET_LOCK('b', 1)", "\3select release_all_locks()" },
		{ "\26select get_lock(?, 1)", "\37" },
		{ "\3backup stage start", "\3backup stage end" },
		{ "\3backup lock t", "\3backup unlock" },
		{ "\3lock instance for backup", "\3unlock instance" },
		{ "\3handler t open", "\3handler t close" },
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]); i++) {
		log_in(&r, NULL, CAPS_DEFAULT);
		for (int round = 0; round < 2; round++) {
			send_packet(&r, CLIENT, 0, locks[i].takes, strlen(locks[i].takes));
			SEND(&r, BACKEND, 1, "\0\1\0\0\0\0\0\0\0\0\0\0");
			assert_int_equal(kinds(&r), 0);
			assert_string_equal(codec_mysql.why_none(r.state, BACKEND), "the session may hold locks");
			send_packet(&r, CLIENT, 0, locks[i].frees, strlen(locks[i].frees));
			SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
			assert_int_equal(kinds(&r), BOTH);
			assert_null(codec_mysql.why_none(r.state, BACKEND));
		}
		run_end(&r);
		log_in(&r, &in_transaction, CAPS_DEFAULT);
		send_packet(&r, CLIENT, 0, locks[i].takes, strlen(locks[i].takes));
		SEND(&r, BACKEND, 1, "\0\1\0\0\0\0\0\0\0\0\0\0");
		assert_int_equal(kinds(&r), BOTH);	/* as wanted */
		run_end(&r);
	}
}

static void
test_a_lock_is_freed_as_often_as_it_was_taken(void **state)
{
	struct run r;

	(void)state;
	piece = 1;
	log_in(&r, NULL, CAPS_DEFAULT);
	SEND(&r, CLIENT, 0, "\3do get_lock('a',1), get_lock('a',1)");
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	SEND(&r, CLIENT, 0, "\3do release_lock('a')");
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(kinds(&r), 0);
	SEND(&r, CLIENT, 0, "\21user\0\0");		/* CHANGE_USER frees all */
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(kinds(&r), BOTH);
	piece = SIZE_MAX;
	run_end(&r);
}

/* Words that look alike. */
static void
test_what_takes_no_lock(void **state)
{
	static const char *const none[] = {
		"\3select * from t lock in share mode", "\3alter table t add a int, lock=none", "\3unlock tables",
		"\3create procedure p() begin declare exit handler for sqlexception begin end; open c; end",
		"\3select is_used_lock('a')", "\3select is_free_lock('a')",
	};
	struct run r;

	(void)state;
	log_in(&r, NULL, CAPS_DEFAULT);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		send_packet(&r, CLIENT, 0, none[i], strlen(none[i]));
		SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
		assert_int_equal(kinds(&r), BOTH);
	}
	run_end(&r);
}

/* --- replies to heartbeats --- */

#define STATISTICS "Uptime: 4  Threads: 1"

/* Bytes of the client since the last call. */
static size_t
new_bytes(const struct run *r, size_t *seen)
{
	const size_t n = r->got[CLIENT].len - *seen;

	*seen = r->got[CLIENT].len;
	return n;
}

static void
test_the_answer_is_one_packet_with_its_number(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	log_in(&r, NULL, CAPS_DEFAULT);
	seen = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	SEND(&r, CLIENT, 0, "\3select 1");		/* in the same instant */
	SEND(&r, BACKEND, 1, STATISTICS);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_int_equal(new_bytes(&r, &seen), 0);
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(new_bytes(&r, &seen), 11);
	assert_null(r.refused);
	run_end(&r);
}

/* The server's own: killed, idle for too long. Not our reply, but the client's to read. */
static void
test_last_words_are_the_client_s(void **state)
{
	static const struct {
		uint8_t seq;
		const char *words;
	} last[] = { { 0, "\377\50\4#42000no" }, { 0, "\377\277\17#HY000idle" }, { 1, "\377\277\17#HY000idle" } };
	struct run r;
	size_t seen;

	(void)state;
	for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++) {
		for (int kind = 0; kind <= HEARTBEAT_PING; kind++) {
			if (kind == HEARTBEAT_PING && last[i].seq == 1)
				continue;	/* below */
			log_in(&r, &all_kinds, CAPS_DEFAULT);
			seen = r.got[CLIENT].len;
			if (kind != 0)
				run_heartbeat(&r, BACKEND, (enum heartbeat_kind)kind);
			assert_false(codec_mysql.said_goodbye(r.state, BACKEND));
			send_packet(&r, BACKEND, last[i].seq, last[i].words, strlen(last[i].words));
			assert_int_equal(new_bytes(&r, &seen), 4 + strlen(last[i].words));
			assert_true(codec_mysql.said_goodbye(r.state, BACKEND));
			assert_false(codec_mysql.said_goodbye(r.state, CLIENT));
			assert_int_equal(kinds(&r), 0);
			assert_null(r.passthrough);
			assert_null(r.refused);
			run_end(&r);
		}
	}
}

/* A server that shuts down says so to a ping (TiDB), and serves on for a while. That is no word against pings. */
static void
test_a_ping_at_a_server_that_shuts_down(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	log_in(&r, NULL, CAPS_DEFAULT);
	seen = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	SEND(&r, BACKEND, 1, "\377\35\4#08S01Server shutdown in progress");
	assert_int_equal(new_bytes(&r, &seen), 0);
	assert_null(r.refused);
	assert_int_equal(kinds(&r), 0);
	SEND(&r, CLIENT, 0, "\3select 1");
	run_end(&r);
	log_in(&r, NULL, CAPS_DEFAULT);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	SEND(&r, CLIENT, 0, "\3select 1");
	seen = r.got[CLIENT].len;
	SEND(&r, BACKEND, 1, "\377\35\4#08S01Server shutdown in progress");
	assert_int_equal(new_bytes(&r, &seen), 40);	/* the client waits for a word, and there will be none more */
	assert_true(codec_mysql.said_goodbye(r.state, BACKEND));
	run_end(&r);
}

static void
test_who_said_goodbye(void **state)
{
	struct run r;

	(void)state;
	log_in(&r, NULL, CAPS_DEFAULT);
	SEND(&r, CLIENT, 0, "\1");
	assert_true(codec_mysql.said_goodbye(r.state, CLIENT));
	assert_false(codec_mysql.said_goodbye(r.state, BACKEND));
	run_end(&r);
	log_in(&r, NULL, CAPS_DEFAULT);
	SEND(&r, CLIENT, 0, "\3select sleep(9)");
	SEND(&r, BACKEND, 1, "\377\207\7#70100Connection was killed");
	assert_true(codec_mysql.said_goodbye(r.state, BACKEND));
	assert_int_equal(kinds(&r), 0);
	run_end(&r);
	run_start(&r, &codec_mysql, NULL);
	SEND(&r, BACKEND, 0, "\377\20\4Too many connections");
	assert_true(codec_mysql.said_goodbye(r.state, BACKEND));
	run_end(&r);
}

/* Whatever comes in place of the statistics would be taken for the reply to the next command. */
static void
test_what_replies_to_a_ping_is_taken_out_and_ends_heartbeats(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} replies[] = {
		{ ERROR, sizeof(ERROR) - 1 }, { UNKNOWN_COMMAND, sizeof(UNKNOWN_COMMAND) - 1 },
		{ OK_AUTOCOMMIT, sizeof(OK_AUTOCOMMIT) - 1 }, { "\376\0\0\2\0", 5 }, { "", 0 }, { "\1", 1 },
	};
	struct run r;
	size_t seen;

	(void)state;
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		for (piece = 1; piece < 12; piece++) {
			log_in(&r, NULL, CAPS_DEFAULT);
			seen = r.got[CLIENT].len;
			run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
			send_packet(&r, BACKEND, 1, replies[i].data, replies[i].len);
			assert_int_equal(new_bytes(&r, &seen), 0);
			assert_int_equal(r.replies[BACKEND], 1);
			assert_non_null(r.refused);
			assert_int_equal(kinds(&r), 0);		/* nor a one-way one */
			assert_string_equal(codec_mysql.why_none(r.state, BACKEND), "the server refused a heartbeat");
			SEND(&r, CLIENT, 0, "\3select 1");
			SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
			assert_int_equal(new_bytes(&r, &seen), 11);
			assert_null(r.passthrough);
			run_end(&r);
		}
	}
	piece = SIZE_MAX;
}

/* A server that takes no notice of it: the client's own result is not ours. */
static void
test_a_result_is_no_reply_to_a_ping(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	for (piece = 1; piece < 12; piece++) {
		log_in(&r, NULL, CAPS_DEFAULT);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
		SEND(&r, CLIENT, 0, "\3select 1, ...");
		seen = r.got[CLIENT].len;
		SEND(&r, BACKEND, 1, "\55");		/* 45 columns, as a text might begin */
		assert_int_equal(new_bytes(&r, &seen), 5);
		assert_non_null(r.refused);
		assert_int_equal(r.replies[BACKEND], 0);
		run_end(&r);
	}
	piece = SIZE_MAX;
}

/* Sphinx does so. */
static void
test_what_replies_to_a_one_way_heartbeat_is_taken_out(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	for (piece = 1; piece < 12; piece++) {
		log_in_at_proxy(&r, &all_kinds);
		seen = r.got[CLIENT].len;
		for (int i = 0; i < 3; i++)
			run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
		for (int i = 0; i < 3; i++) {
			SEND(&r, BACKEND, 1, UNKNOWN_COMMAND);
			assert_int_equal(new_bytes(&r, &seen), 0);
			assert_int_equal(kinds(&r), 0);
			assert_non_null(r.refused);
		}
		SEND(&r, CLIENT, 0, "\3select 1");
		SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
		assert_int_equal(new_bytes(&r, &seen), 11);
		assert_null(r.passthrough);
		run_end(&r);
	}
	piece = SIZE_MAX;
}

/* The client's next query is on its way already: only the first reply can be ours, and only if no query draws it. */
static void
test_what_replies_to_a_one_way_heartbeat_behind_a_query(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	for (piece = 1; piece < 12; piece++) {
		log_in_at_proxy(&r, &all_kinds);
		run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
		SEND(&r, CLIENT, 0, "\3select 1");
		seen = r.got[CLIENT].len;
		SEND(&r, BACKEND, 1, UNKNOWN_COMMAND);
		assert_int_equal(new_bytes(&r, &seen), 0);
		assert_non_null(r.refused);
		SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
		assert_int_equal(new_bytes(&r, &seen), 11);
		run_end(&r);
		log_in_at_proxy(&r, &all_kinds);
		run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
		seen = r.got[CLIENT].len;
		for (int i = 0; i < 2; i++) {
			SEND(&r, CLIENT, 0, "\3select 1");
			if (i == 0)
				SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
		}
		SEND(&r, BACKEND, 1, UNKNOWN_COMMAND);	/* another has got its own reply meanwhile */
		assert_int_equal(new_bytes(&r, &seen), 11 + 4 + sizeof(UNKNOWN_COMMAND) - 1);
		assert_null(r.refused);
		run_end(&r);
	}
	piece = SIZE_MAX;
}

/* Galera refuses every query by that number while a node is not ready. */
static void
test_an_error_of_a_real_server_is_the_client_s(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	SEND(&r, CLIENT, 0, "\3select 1");
	seen = r.got[CLIENT].len;
	SEND(&r, BACKEND, 1, UNKNOWN_COMMAND);
	assert_int_equal(new_bytes(&r, &seen), 4 + sizeof(UNKNOWN_COMMAND) - 1);
	assert_null(r.refused);
	run_end(&r);
}

static void
test_a_proxy_is_pinged_as_clients_do(void **state)
{
	struct run r;
	size_t seen;

	(void)state;
	log_in_at_proxy(&r, NULL);
	assert_int_equal(kinds(&r), HEARTBEAT_PING);
	seen = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_memory_equal(r.got[BACKEND].data + r.got[BACKEND].len - 5, "\1\0\0\0\16", 5);
	SEND(&r, CLIENT, 0, "\3select 1");
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(new_bytes(&r, &seen), 0);
	assert_int_equal(r.replies[BACKEND], 1);
	SEND(&r, BACKEND, 1, OK_AUTOCOMMIT);
	assert_int_equal(new_bytes(&r, &seen), 11);
	assert_null(r.refused);
	run_end(&r);
	log_in_at_proxy(&r, &all_kinds);
	assert_int_equal(kinds(&r), BOTH);		/* one-way was chosen */
	SEND(&r, CLIENT, 0, "\3select sleep(9)");
	assert_int_equal(kinds(&r), 0);			/* ProxySQL closes, whatever was chosen */
	run_end(&r);
}

/* COM_STATISTICS visits each session of the server. */
static void
test_pings_are_rarer_where_there_are_thousands_of_sessions(void **state)
{
	static const struct codec_settings ping = { .heartbeats = { true, true }, .kind = { 0, HEARTBEAT_PING } };
	struct run r;

	(void)state;
	for (int chosen = 0; chosen < 2; chosen++) {
		log_in(&r, chosen ? &ping : NULL, CAPS_DEFAULT);
		for (int round = 0; round < 2; round++) {
			assert_int_equal(kinds(&r), BOTH);
			run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
			piece = 1 + 5 * (size_t)round;
			SEND(&r, BACKEND, 1, "Uptime: 123  Threads: 3456  Questions: 99999");
			for (int i = 0; i < 3 && !chosen; i++) {
				assert_int_equal(kinds(&r), ONEWAY);
				run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
			}
		}
		assert_int_equal(kinds(&r), BOTH);
		piece = SIZE_MAX;
		run_end(&r);
	}
}

/* --- close message --- */

static size_t
close_message(struct run *r, enum side to, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	static const struct codec_close_info o = { .dead = BACKEND, .reason = "backend-keepalive-timeout", .idle_ms = 120900 };

	return codec_mysql.close_message(r->state, to, &o, buf);
}

static void
test_close_message_replies_to_an_open_command(void **state)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX + 1];
	struct run r;
	size_t n;

	(void)state;
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	assert_int_equal(close_message(&r, CLIENT, buf), 0);
	SEND(&r, CLIENT, 0, "\3select 1");
	n = close_message(&r, CLIENT, buf);
	assert_int_equal(n, buf[0] + 4u);
	assert_memory_equal(buf + 3, "\1\377\35\4#08S01stent: ", 17);
	buf[n] = '\0';
	assert_non_null(strstr((char *)buf + 4, "backend-keepalive-timeout"));
	assert_non_null(strstr((char *)buf + 4, "120.9 s"));
	SEND(&r, BACKEND, 1, "\1");
	assert_int_equal(close_message(&r, CLIENT, buf), 0);	/* definitions of columns are to come */
	SEND(&r, BACKEND, 2, "\3def");
	SEND(&r, BACKEND, 3, "\376\0\0\2\0");
	SEND(&r, BACKEND, 4, "\1" "1");
	assert_true(close_message(&r, CLIENT, buf) > 0);	/* between two rows */
	assert_int_equal(buf[3], 5);
	run_feed(&r, BACKEND, "\5\0\0", 3);
	assert_int_equal(close_message(&r, CLIENT, buf), 0);	/* inside a packet */
	run_end(&r);
}

static void
test_close_message_to_the_server_is_quit(void **state)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct run r;

	(void)state;
	greet(&r, &all_kinds);
	assert_int_equal(close_message(&r, BACKEND, buf), 0);
	run_end(&r);
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	assert_int_equal(close_message(&r, BACKEND, buf), 5);
	assert_memory_equal(buf, "\1\0\0\0\1", 5);
	SEND(&r, CLIENT, 0, "\3select sleep(100)");
	assert_int_equal(close_message(&r, BACKEND, buf), 0);
	run_end(&r);
}

static void
test_heartbeats_are_these_bytes(void **state)
{
	struct run r;

	(void)state;
	log_in(&r, &all_kinds, CAPS_DEFAULT);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	assert_memory_equal(r.got[BACKEND].data + r.got[BACKEND].len - 9, "\5\0\0\0\31\376\377\377\377", 9);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_memory_equal(r.got[BACKEND].data + r.got[BACKEND].len - 5, "\1\0\0\0\11", 5);
	run_end(&r);
	assert_true(codec_mysql.state_size <= 192);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heartbeats_of_both_kinds_go_between_commands),
		cmocka_unit_test(test_by_default_silence_is_kept_while_a_statement_runs),
		cmocka_unit_test(test_a_file_is_loaded_whole),
		cmocka_unit_test(test_heartbeats_in_transactions_are_opt_in),
		cmocka_unit_test(test_logins_are_followed),
		cmocka_unit_test(test_passthrough_where_no_heartbeat_is_possible),
		cmocka_unit_test(test_no_heartbeat_before_the_login_is_done),
		cmocka_unit_test(test_a_running_statement_gets_oneway_heartbeats_only),
		cmocka_unit_test(test_no_heartbeat_behind_what_may_load_a_file),
		cmocka_unit_test(test_a_prepared_suspect_stays_one),
		cmocka_unit_test(test_a_long_statement_is_suspect),
		cmocka_unit_test(test_no_heartbeat_inside_a_continued_command),
		cmocka_unit_test(test_no_heartbeats_in_a_transaction_unless_configured),
		cmocka_unit_test(test_passthrough_for_the_unknown),
		cmocka_unit_test(test_too_many_commands_without_a_reply_end_it),
		cmocka_unit_test(test_a_session_that_may_hold_locks_is_left_alone),
		cmocka_unit_test(test_a_lock_is_freed_as_often_as_it_was_taken),
		cmocka_unit_test(test_what_takes_no_lock),
		cmocka_unit_test(test_the_answer_is_one_packet_with_its_number),
		cmocka_unit_test(test_last_words_are_the_client_s),
		cmocka_unit_test(test_a_ping_at_a_server_that_shuts_down),
		cmocka_unit_test(test_who_said_goodbye),
		cmocka_unit_test(test_what_replies_to_a_ping_is_taken_out_and_ends_heartbeats),
		cmocka_unit_test(test_a_result_is_no_reply_to_a_ping),
		cmocka_unit_test(test_what_replies_to_a_one_way_heartbeat_is_taken_out),
		cmocka_unit_test(test_what_replies_to_a_one_way_heartbeat_behind_a_query),
		cmocka_unit_test(test_an_error_of_a_real_server_is_the_client_s),
		cmocka_unit_test(test_a_proxy_is_pinged_as_clients_do),
		cmocka_unit_test(test_pings_are_rarer_where_there_are_thousands_of_sessions),
		cmocka_unit_test(test_close_message_replies_to_an_open_command),
		cmocka_unit_test(test_close_message_to_the_server_is_quit),
		cmocka_unit_test(test_heartbeats_are_these_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
