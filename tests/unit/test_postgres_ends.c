/*
 * test_postgres_ends.c - the PostgreSQL codec and who is at its two ends:
 * poolers, standbys, what is no PostgreSQL, what is said to whom lives on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "postgres_bytes.h"

/* ---- poolers ---- */

static void
expect_no_heartbeats_to_backend(const char *login, size_t len, const char *note)
{
	struct codec_out *out = calloc(1, sizeof(*out));
	void *state = calloc(1, codec_postgres.state_size);

	assert_non_null(out);
	assert_non_null(state);
	(void)codec_postgres.configure(state, &on);
	codec_postgres.feed(state, CLIENT, (const uint8_t *)STARTUP, sizeof(STARTUP) - 1, out);
	codec_postgres.feed(state, BACKEND, (const uint8_t *)login, len, out);
	assert_null(out->passthrough);
	assert_non_null(out->note);
	assert_non_null(strstr(out->note, note));
	assert_int_equal(codec_postgres.may_heartbeat(state, BACKEND), 0);
	assert_int_equal(codec_postgres.may_heartbeat(state, CLIENT), ONEWAY);
	codec_out_clear(out);
	codec_postgres.feed(state, BACKEND, (const uint8_t *)DATETIMES, sizeof(DATETIMES) - 1, out);
	assert_null(out->note);
	free(state);
	free(out);
}

static void
test_a_pooler_is_known_by_its_process_number(void **state)
{
	static const char login[] = AUTH_OK DATETIMES "K\0\0\0\14\0\x40\0\1" "abcd" READY;

	(void)state;
	expect_no_heartbeats_to_backend(login, sizeof(login) - 1, "pooler");
}

static void
test_a_pooler_is_known_by_the_order_of_its_parameters(void **state)
{
	static const char login[] = AUTH_OK DATETIMES "S\0\0\0\x23standard_conforming_strings\0on\0"
	    "S\0\0\0\x16" "application_name\0\0" KEY READY;

	(void)state;
	expect_no_heartbeats_to_backend(login, sizeof(login) - 1, "pooler");
}

static void
test_a_server_without_a_process_number_is_left_alone(void **state)
{
	static const char login[] = AUTH_OK DATETIMES READY;

	(void)state;
	expect_no_heartbeats_to_backend(login, sizeof(login) - 1, "process number");
}

/* names: of a StartupMessage, each with its value; len: with the NUL that ends them. */
static void
expect_pooler_in_front(const char *names, size_t len, bool is_one)
{
	const uint8_t head[] = { 0, 0, 0, (uint8_t)(len + 8), 0, 3, 0, 0 };
	struct run r;

	run_start(&r, &codec_postgres, &on);
	run_feed(&r, CLIENT, head, sizeof(head));
	run_feed(&r, CLIENT, names, len);
	FEED(&r, BACKEND, LOGIN);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), is_one ? 0 : ONEWAY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	FEED(&r, BACKEND, DONE);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	FEED(&r, BACKEND, READY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), is_one ? 0 : ONEWAY);
	run_end(&r);
}

#define EXPECT_POOLER_IN_FRONT(names, is_one) expect_pooler_in_front((names), sizeof(names), (is_one))

/* PgBouncer and Pgpool-II at rest take a ParameterStatus for a query that has not ended. */
static void
test_a_pooler_in_front_is_known_by_its_startup_message(void **state)
{
	(void)state;
	/* PgBouncer */
	EXPECT_POOLER_IN_FRONT("database\0d\0user\0me\0", true);
	EXPECT_POOLER_IN_FRONT("database\0d\0client_encoding\0UTF8\0user\0me\0", true);
	EXPECT_POOLER_IN_FRONT("database\0d\0client_encoding\0UTF8\0datestyle\0ISO\0timezone\0UTC\0application_name\0a\0"
	    "user\0me\0", true);
	EXPECT_POOLER_IN_FRONT("database\0d\0replication\0true\0DateStyle\0ISO\0options\0-c x=1\0user\0me\0", true);
	/* Pgpool-II */
	EXPECT_POOLER_IN_FRONT("application_name\0psql\0database\0d\0user\0me\0", true);
	EXPECT_POOLER_IN_FRONT("DateStyle\0ISO\0TimeZone\0UTC\0client_encoding\0UTF8\0database\0d\0"
	    "extra_float_digits\0002\0user\0me\0", true);
	EXPECT_POOLER_IN_FRONT("client_encoding\0UTF8\0client_min_messages\0notice\0database\0d\0user\0me\0", true);
}

static void
test_a_client_is_no_pooler(void **state)
{
	(void)state;
	EXPECT_POOLER_IN_FRONT("user\0me\0", false);
	EXPECT_POOLER_IN_FRONT("user\0me\0database\0d\0", false);		/* libpq */
	EXPECT_POOLER_IN_FRONT("database\0d\0datestyle\0ISO\0", false);
	EXPECT_POOLER_IN_FRONT("client_encoding\0UTF8\0user\0me\0database\0d\0", false);	/* asyncpg */
	/* Neither the order of the one nor that of the other. */
	EXPECT_POOLER_IN_FRONT("database\0d\0application_name\0a\0timezone\0UTC\0user\0me\0", false);
	EXPECT_POOLER_IN_FRONT("database\0d\0database\0d\0application_name\0a\0user\0me\0", false);
	EXPECT_POOLER_IN_FRONT("client_min_messages\0notice\0client_encoding\0UTF8\0database\0d\0user\0me\0", false);
	EXPECT_POOLER_IN_FRONT("client_encoding_x\0a\0client_encoding\0UTF8\0database\0d\0user\0me\0", false);
	/* Go's pgx, in whatever order, with a name that is behind "user". */
	EXPECT_POOLER_IN_FRONT("database\0d\0work_mem\0004MB\0user\0me\0", false);
	EXPECT_POOLER_IN_FRONT("work_mem\0004MB\0database\0d\0user\0me\0", false);
	EXPECT_POOLER_IN_FRONT("database\0d\0user\0me\0work_mem\0004MB\0", false);
	EXPECT_POOLER_IN_FRONT("application_name\0a\0database\0d\0work_mem\0004MB\0user\0me\0", false);
}

/* ---- heartbeats to the client ---- */

static void
test_a_parameter_that_never_changes_is_repeated(void **state)
{
	static const char other[] = "S\0\0\0\x1eserver_encoding\0SQL_ASCII\0";
	struct run r;

	(void)state;
	run_start(&r, &codec_postgres, &on);
	FEED(&r, CLIENT, STARTUP);
	FEED(&r, BACKEND, AUTH_OK "S\0\0\0\x16" "application_name\0\0");
	FEED(&r, BACKEND, "S\0\0\0\x32server_version\0" "15.18 (Debian 15.18-0+deb12u1)\0");
	FEED(&r, BACKEND, KEY READY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);	/* a version this long is not kept */
	run_feed(&r, BACKEND, other, sizeof(other) - 1);
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, "S\0\0\0\x1eserver_encoding\0SQL_ASCII\0");
	FEED(&r, BACKEND, DATETIMES);
	FEED(&r, BACKEND, "S\0\0\0\x19server_encoding\0UTF8\0");
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, DATETIMES);
	FEED(&r, BACKEND, "S\0\0\0\x1ainteger_datetimes\0off\0");
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, "S\0\0\0\x1ainteger_datetimes\0off\0");
	FEED(&r, BACKEND, "S\0\0\0\x16" "Xnteger_datetimes\0");	/* a name alone */
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, "S\0\0\0\x1ainteger_datetimes\0off\0");
	run_end(&r);
}

/* ---- replication ---- */

#define REPORT(reply) "d\0\0\0\x26r\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5\0\0\0\6" "\0\0\0\7\0\0\0\10" reply
#define WAL_24_OF_64 "d\0\0\0\x35w" "\0\0\0\1\0\0\0\0" "\0\0\0\1\0\0\0\x40" "\0\0\0\7\0\0\0\x55" "abcdefghijklmnopqrstuvwx"
#define KEEPALIVE(end, reply) "d\0\0\0\x16k" "\0\0\0\1\0\0\0" end "\0\0\0\7\0\0\0\x55" reply

static void
test_each_end_of_a_replication_gets_its_peers_last_report(void **state)
{
	struct run r;

	(void)state;
	start_replication(&r);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, COPY_BOTH);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);	/* nothing was said that could be said again */
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, WAL_24_OF_64);
	FEED(&r, CLIENT, REPORT("\1"));
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, REPORT("\0"));
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, KEEPALIVE("\x18", "\0"));	/* as far as was sent */
	FEED(&r, BACKEND, KEEPALIVE("\x40", "\1"));
	EXPECT_HEARTBEAT(&r, CLIENT, HEARTBEAT_ONEWAY, KEEPALIVE("\x40", "\0"));
	FEED(&r, CLIENT, "d\0\0\0\x05h");	/* a feedback of another kind */
	EXPECT_HEARTBEAT(&r, BACKEND, HEARTBEAT_ONEWAY, REPORT("\0"));
	run_end(&r);
}

static void
test_a_replication_that_ends_is_left_alone(void **state)
{
	struct run r;

	(void)state;
	start_replication(&r);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, COPY_BOTH WAL_24_OF_64);
	FEED(&r, CLIENT, REPORT("\0"));
	FEED(&r, BACKEND, COPY_DONE);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), ONEWAY);
	FEED(&r, CLIENT, COPY_DONE);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

/* It would read a Flush as part of the stream that it is about to start, and die. */
static void
test_a_walsender_at_work_gets_no_heartbeats(void **state)
{
	struct run r;

	(void)state;
	start_replication(&r);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* ---- letting go ---- */

static void
expect_lost(const char *client, size_t client_len, const char *server, size_t server_len, const char *why)
{
	struct run r;

	run_start(&r, &codec_postgres, &on);
	snprintf(r.what, sizeof(r.what), "bytes that lead to passthrough: %s", why);
	run_feed(&r, CLIENT, client, client_len);
	if (server_len > 0)
		run_feed(&r, BACKEND, server, server_len);
	if (r.passthrough == NULL)
		run_fail(&r, "it did not");
	assert_non_null(strstr(r.passthrough, why));
	assert_int_equal(r.got[BACKEND].len, client_len);
	assert_int_equal(r.got[CLIENT].len, server_len);
	run_end(&r);
}

#define EXPECT_LOST(client, server, why) \
	expect_lost((client), sizeof(client) - 1, (server), sizeof(server) - 1, (why))

#define SSL_REQUEST "\0\0\0\10\4\xd2\x16\x2f"
#define GSS_REQUEST "\0\0\0\10\4\xd2\x16\x30"
#define CANCEL_REQUEST "\0\0\0\x10\4\xd2\x16\x2e\0\0\x10\1" "abcd"

static void
test_passthrough_has_a_precise_reason(void **state)
{
	(void)state;
	EXPECT_LOST(SSL_REQUEST, "S", "TLS");
	EXPECT_LOST(GSS_REQUEST, "G", "GSS encryption");
	EXPECT_LOST(SSL_REQUEST, "E", "refused");
	EXPECT_LOST("\x16\3\1\2\0\1\0\1", "", "TLS from the first byte");
	EXPECT_LOST("\0\0\0\x10\0\2\0\0abcdefgh", "", "version");
	EXPECT_LOST("GET / HTTP/1.1\r\n", "", "not PostgreSQL");
	EXPECT_LOST("\0", "E", "before the client");
	EXPECT_LOST(SSL_REQUEST STARTUP, "", "did not wait");
	EXPECT_LOST(STARTUP, LOGIN "Z\0\0\0\6II", "server sent a message of an impossible length");
	EXPECT_LOST(STARTUP, LOGIN "Z\0\0\0\5x", "unknown state");
	EXPECT_LOST(STARTUP, LOGIN "o\0\0\0\4", "server sent an unknown message");
	EXPECT_LOST(STARTUP "\xc5\0\0\0\4", "", "client sent an unknown message");
	EXPECT_LOST(STARTUP "Q\x80\0\0\0", "", "client sent a message of an impossible length");
	EXPECT_LOST(STARTUP, "Ecould not fork new process for connection\n", "impossible length");
}

static void
test_refused_encryption_goes_on_in_the_clear(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_postgres, &on);
	FEED(&r, CLIENT, GSS_REQUEST);
	FEED(&r, BACKEND, "N");
	FEED(&r, CLIENT, SSL_REQUEST);
	FEED(&r, BACKEND, "N");
	FEED(&r, CLIENT, STARTUP);
	FEED(&r, BACKEND, LOGIN);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	run_end(&r);
}

/* Its reply is due and must not reach the client: no passthrough before that. */
static void
test_it_does_not_let_go_of_an_answer(void **state)
{
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	before = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, CLIENT, "?what is this");
	assert_null(r.passthrough);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	FEED(&r, BACKEND, DATETIMES "Z\0\0");
	assert_null(r.passthrough);
	FEED(&r, BACKEND, "\0\5I" ERROR);
	assert_non_null(r.passthrough);
	EXPECT_GOT(&r, CLIENT, before, DATETIMES ERROR);
	run_end(&r);
}

static void
test_what_only_looked_like_an_answer_is_sent_after_all(void **state)
{
	struct run r;
	size_t before;

	(void)state;
	start(&r, &on);
	before = r.got[CLIENT].len;
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, BACKEND, "Z\0");
	EXPECT_GOT(&r, CLIENT, before, "");
	FEED(&r, BACKEND, "\0\1\0rest");
	EXPECT_GOT(&r, CLIENT, before, "Z\0\0\1\0rest");
	assert_non_null(r.passthrough);
	assert_int_equal(r.replies[BACKEND], 0);
	run_end(&r);
}

static void
test_a_cancel_request_gets_no_heartbeats(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_postgres, &on);
	FEED(&r, CLIENT, CANCEL_REQUEST);
	FEED(&r, CLIENT, "more");
	FEED(&r, BACKEND, "any");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_null(r.passthrough);
	run_end(&r);
}

/* It was killed while the server works for it: a heartbeat brings that to light. */
static void
test_a_half_closed_client_gets_heartbeats_while_work_goes_on(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT);
	run_fin(&r, CLIENT);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	FEED(&r, BACKEND, DONE READY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
test_terminate_ends_the_heartbeats(void **state)
{
	struct run r;

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, TERMINATE);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* ---- goodbyes ---- */

static size_t
close_message_for(struct run *r, enum side to, const char *reason, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	const struct codec_close_info o = { .dead = side_other(to), .idle_ms = 132499, .reason = reason };

	return codec_postgres.close_message(r->state, to, &o, buf);
}

static size_t
close_message(struct run *r, enum side to, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	return close_message_for(r, to, to == CLIENT ? "backend-user-timeout" : "client-keepalive-timeout", buf);
}

static void
test_the_client_gets_a_close_message(void **state)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct run r;
	size_t n;

	(void)state;
	start(&r, &on);
	n = close_message(&r, CLIENT, buf);
	assert_true(n > 60 && buf[0] == 'E' && buf[n - 1] == '\0' && buf[n - 2] == '\0');
	assert_int_equal((size_t)buf[3] << 8 | buf[4], n - 1);
	assert_memory_equal(buf + 5, "SFATAL\0VFATAL\0C08006\0Mterminating connection: stent found the "
	    "database server dead (backend-user-timeout, idle for 132.4 s)\0H", 123);
	close_message_for(&r, CLIENT, "admin-kill", buf);
	assert_memory_equal(buf + 5, "SFATAL\0VFATAL\0C57P01\0Mterminating connection: closed by stent "
	    "(admin-kill)\0H", 75);
	close_message_for(&r, CLIENT, "backend-idle", buf);
	assert_memory_equal(buf + 5, "SFATAL\0VFATAL\0C57P05\0Mterminating connection: idle for too l", 60);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, BACKEND, "Z\0\0");		/* ours, cut off: the client has seen nothing of it */
	assert_true(close_message(&r, CLIENT, buf) > 0);
	run_end(&r);

	start(&r, &on);
	FEED(&r, BACKEND, "D\0\0\1\0half a row");
	assert_int_equal(close_message(&r, CLIENT, buf), 0);
	run_end(&r);

	run_start(&r, &codec_postgres, &on);
	assert_int_equal(close_message(&r, CLIENT, buf), 0);
	FEED(&r, CLIENT, SSL_REQUEST);
	assert_int_equal(close_message(&r, CLIENT, buf), 0);
	FEED(&r, BACKEND, "N");
	FEED(&r, CLIENT, STARTUP);
	assert_true(close_message(&r, CLIENT, buf) > 0);
	run_end(&r);
}

static void
test_the_server_gets_a_close_message(void **state)
{
	static const char failed[] = "f\0\0\0\x3bstent found the client dead (client-keepalive-timeout)\0" TERMINATE;
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct run r;

	(void)state;
	start(&r, &on);
	assert_int_equal(close_message(&r, BACKEND, buf), sizeof(TERMINATE) - 1);
	assert_memory_equal(buf, TERMINATE, sizeof(TERMINATE) - 1);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, COPY_IN);
	assert_int_equal(close_message(&r, BACKEND, buf), sizeof(failed) - 1);
	assert_memory_equal(buf, failed, sizeof(failed) - 1);
	FEED(&r, CLIENT, "d\0\0\1\0half a row");
	assert_int_equal(close_message(&r, BACKEND, buf), 0);
	run_end(&r);

	run_start(&r, &codec_postgres, &on);
	FEED(&r, CLIENT, STARTUP);
	assert_int_equal(close_message(&r, BACKEND, buf), 0);
	run_end(&r);
}

static void
test_work_that_nobody_waits_for_is_cancelled(void **state)
{
	uint8_t buf[CODEC_HEARTBEAT_MAX];
	struct run r;

	(void)state;
	start(&r, &on);
	assert_int_equal(codec_postgres.cancel(r.state, buf), 0);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_int_equal(codec_postgres.cancel(r.state, buf), 0);
	FEED(&r, CLIENT, SELECT);
	assert_int_equal(codec_postgres.cancel(r.state, buf), 16);
	assert_memory_equal(buf, CANCEL_REQUEST, 16);
	FEED(&r, CLIENT, TERMINATE);	/* it does not want to hear of it, but wants it done */
	assert_int_equal(codec_postgres.cancel(r.state, buf), 0);
	run_end(&r);

	start(&r, &on);
	FEED(&r, CLIENT, PARSE EXECUTE FLUSH);
	assert_int_equal(codec_postgres.cancel(r.state, buf), 16);
	run_end(&r);
}

/* Protocol 3.2 has keys of up to 256 bytes; 32 is what servers give. */
static void
test_long_keys(void **state)
{
	static const char login[] = AUTH_OK DATETIMES "K\0\0\0\x28\0\0\x10\1" "abcdefghabcdefghabcdefghabcdefgh" READY;
	static const char longer[] = AUTH_OK DATETIMES "K\0\0\0\x29\0\0\x10\1" "abcdefghabcdefghabcdefghabcdefgh!" READY;
	static const char request[] = "\0\0\0\x2c\4\xd2\x16\x2e\0\0\x10\1" "abcdefghabcdefghabcdefghabcdefgh";
	uint8_t buf[CODEC_HEARTBEAT_MAX];
	struct run r;

	(void)state;
	for (int i = 0; i < 2; i++) {
		run_start(&r, &codec_postgres, &on);
		FEED(&r, CLIENT, STARTUP);
		run_feed(&r, BACKEND, i == 0 ? login : longer, (i == 0 ? sizeof(login) : sizeof(longer)) - 1);
		assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
		FEED(&r, CLIENT, SELECT);
		assert_int_equal(codec_postgres.cancel(r.state, buf), i == 0 ? sizeof(request) - 1 : 0);
		if (i == 0)
			assert_memory_equal(buf, request, sizeof(request) - 1);
		run_end(&r);
	}
}

/* ---- cost ---- */

static void
test_bodies_need_not_be_seen(void **state)
{
	struct run r;
	uint8_t row[300] = { 0 };

	(void)state;
	start(&r, &on);
	FEED(&r, CLIENT, SELECT);
	FEED(&r, BACKEND, "D\0\1\0\0");
	assert_int_equal(codec_postgres.skippable(r.state, BACKEND), 0x10000 - 4);
	assert_int_equal(run_skip(&r, BACKEND, row, sizeof(row)), sizeof(row));
	assert_int_equal(codec_postgres.skippable(r.state, BACKEND), 0x10000 - 4 - sizeof(row));
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(codec_postgres.skippable(r.state, CLIENT), 0);
	run_end(&r);
	assert_true(codec_postgres.state_size <= 256);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pooler_is_known_by_its_process_number),
		cmocka_unit_test(test_a_pooler_is_known_by_the_order_of_its_parameters),
		cmocka_unit_test(test_a_pooler_in_front_is_known_by_its_startup_message),
		cmocka_unit_test(test_a_client_is_no_pooler),
		cmocka_unit_test(test_a_server_without_a_process_number_is_left_alone),
		cmocka_unit_test(test_a_parameter_that_never_changes_is_repeated),
		cmocka_unit_test(test_each_end_of_a_replication_gets_its_peers_last_report),
		cmocka_unit_test(test_a_replication_that_ends_is_left_alone),
		cmocka_unit_test(test_a_walsender_at_work_gets_no_heartbeats),
		cmocka_unit_test(test_passthrough_has_a_precise_reason),
		cmocka_unit_test(test_refused_encryption_goes_on_in_the_clear),
		cmocka_unit_test(test_it_does_not_let_go_of_an_answer),
		cmocka_unit_test(test_what_only_looked_like_an_answer_is_sent_after_all),
		cmocka_unit_test(test_a_cancel_request_gets_no_heartbeats),
		cmocka_unit_test(test_a_half_closed_client_gets_heartbeats_while_work_goes_on),
		cmocka_unit_test(test_terminate_ends_the_heartbeats),
		cmocka_unit_test(test_the_client_gets_a_close_message),
		cmocka_unit_test(test_the_server_gets_a_close_message),
		cmocka_unit_test(test_work_that_nobody_waits_for_is_cancelled),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_bodies_need_not_be_seen),
	};

	return cmocka_run_group_tests_name("postgres_ends", tests, NULL, NULL);
}
