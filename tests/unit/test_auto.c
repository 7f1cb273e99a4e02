/*
 * test_auto.c - the protocol is found by its first bytes, at the same byte
 * however they are cut, and its codec goes on as if it had been there from the
 * start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec_harness.h"
#include "postgres_bytes.h"
#include "postgres_transcripts.h"
#include "transcripts_mysql.h"
#include "transcripts_redis.h"

#define BYTES(text) (text), sizeof(text) - 1

/* ---- what is found, and where ---- */

static const struct {
	enum side from;
	const char *bytes;
	size_t len;
	size_t decided_at;	/* bytes needed */
	const char *codec;	/* found; NULL: passthrough ... */
	const char *why;	/* ... for this reason */
} beginnings[] = {
	{ CLIENT, BYTES("GET / HTTP/1.1\r\n"), 5, "http", NULL },
	{ CLIENT, BYTES("GET http://example/ HTTP/1.1\r\n"), 9, "http", NULL },
	{ CLIENT, BYTES("POST /v1/chat HTTP/1.1\r\n"), 6, "http", NULL },
	{ CLIENT, BYTES("OPTIONS * HTTP/1.1\r\n"), 9, "http", NULL },
	{ CLIENT, BYTES("OPTIONS sip:a@b SIP/2.0\r\n"), 11, NULL, "SIP" },
	{ CLIENT, BYTES("OPTIONS rtsp://a RTSP/1.0\r\n"), 12, NULL, "RTSP" },
	{ CLIENT, BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 12, NULL, "HTTP/2" },
	{ CLIENT, BYTES("CONNECT db:443 HTTP/1.1\r\n"), 8, NULL, "HTTP tunnels" },
	{ CLIENT, BYTES("CONNECT\naccept-version:1.2\n\n"), 8, NULL, "STOMP" },
	{ CLIENT, BYTES("\0\0\0\x29\0\3\0\0user\0postgres\0"), 7, "postgres", NULL },
	{ CLIENT, BYTES("\0\0\1\x29\0\3\0\2user\0postgres\0"), 7, "postgres", NULL },
	{ CLIENT, BYTES("\0\0\0\x08\x04\xd2\x16\x2f"), 7, "postgres", NULL },
	{ CLIENT, BYTES("\0\0\0\x08\x04\xd2\x16\x30"), 7, "postgres", NULL },
	{ CLIENT, BYTES("\0\0\0\x10\x04\xd2\x16\x2e\0\0\1\2\0\0\3\4"), 8, "postgres", NULL },
	{ CLIENT, BYTES("\0\0\0\x23\0\x12\0\3\0\0\0\1"), 7, NULL, "Kafka" },
	{ CLIENT, BYTES("*1\r\n$4\r\nPING\r\n"), 5, "redis", NULL },
	{ CLIENT, BYTES("*12\r\n$4\r\nMSET\r\n"), 6, "redis", NULL },
	{ CLIENT, BYTES("*123\r\n$4\r\nMSET\r\n"), 7, "redis", NULL },
	{ CLIENT, BYTES("PING\r\n"), 5, "redis", NULL },
	{ CLIENT, BYTES("ping\n"), 5, "redis", NULL },
	{ CLIENT, BYTES("PINGS\r\n"), 5, NULL, "no known protocol" },
	{ CLIENT, BYTES("set a \"b c\"\r\n"), 4, "redis", NULL },
	{ CLIENT, BYTES("Subscribe c\r\n"), 10, "redis", NULL },
	{ CLIENT, BYTES("SUBSCRIBE sip:a@b SIP/2.0\r\n"), 13, NULL, "SIP" },
	{ CLIENT, BYTES("GET k\r\n"), 5, "redis", NULL },
	{ CLIENT, BYTES("GET http_k\r\n"), 9, "redis", NULL },
	{ CLIENT, BYTES("\x16\3\1\2\0\1\0"), 2, NULL, "TLS" },
	{ CLIENT, BYTES("SSH-2.0-OpenSSH_9.2\r\n"), 4, NULL, "SSH" },
	{ CLIENT, BYTES("\x10\x1c\0\4MQTT\4"), 8, NULL, "MQTT" },
	{ CLIENT, BYTES("\x10\x9c\1\0\4MQTT\5"), 9, NULL, "MQTT" },
	{ CLIENT, BYTES("AMQP\0\0\x9\1"), 4, NULL, "AMQP" },
	{ CLIENT, BYTES("\x80\0\0\0\0\0\0\0"), 3, NULL, "memcached" },
	{ CLIENT, BYTES("get key\r\n"), 4, "redis", NULL },		/* unless the reply says memcached */
	{ CLIENT, BYTES("gets key\r\n"), 5, NULL, "memcached" },
	{ CLIENT, BYTES("0\x0c\2\1\1`\7\2\1\3\4\0\x80\0"), 6, NULL, "LDAP" },
	{ CLIENT, BYTES("0\x84\0\0\0\x0c\2\1\1`"), 10, NULL, "LDAP" },
	{ CLIENT, BYTES("NICK me\r\n"), 5, NULL, "IRC" },
	{ CLIENT, BYTES("<?xml version='1.0'?>"), 5, NULL, "XMPP" },
	{ CLIENT, BYTES("\4\0\0\0\5\0\0\0\0"), 7, NULL, "Cassandra" },
	{ CLIENT, BYTES("\x12\1\0\x2f\0\0\1\0"), 6, NULL, "TDS" },
	{ CLIENT, BYTES("\x33\0\0\0\1\0\0\0\0\0\0\0\xdd\7\0\0\0\0\0\0"), 16, NULL, "MongoDB" },
	{ CLIENT, BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), 6, NULL, "PROXY header" },
	{ CLIENT, BYTES("\r\n\r\n\0\r\nQUIT\n!\x11"), 12, NULL, "PROXY header" },
	{ CLIENT, BYTES("hallo\n"), 3, NULL, "no known protocol" },
	{ CLIENT, BYTES("GOT it\n"), 3, NULL, "no known protocol" },
	{ CLIENT, BYTES("*x\r\n"), 3, NULL, "no known protocol" },
	{ CLIENT, BYTES("\x33\0\0\0\1\0\0\0\0\0\0\0\xdd\7\0\1"), 16, NULL, "no known protocol" },
	{ BACKEND, BYTES("\x4a\0\0\0\n8.0.36\0"), 6, "mysql", NULL },
	{ BACKEND, BYTES("\x5a\0\0\0\n5.5.5-10.11.19-MariaDB\0"), 6, "mysql", NULL },
	{ BACKEND, BYTES("SSH-2.0-OpenSSH_9.2\r\n"), 4, NULL, "SSH" },
	{ BACKEND, BYTES("220 mail ESMTP\r\n"), 4, NULL, "SMTP or FTP" },
	{ BACKEND, BYTES("* OK ready\r\n"), 4, NULL, "IMAP" },
	{ BACKEND, BYTES("INFO {\"server_id\":1}\r\n"), 6, NULL, "NATS" },
	{ BACKEND, BYTES("\xff\xfd\x18"), 2, NULL, "Telnet" },
	{ BACKEND, BYTES("GET / HTTP/1.1\r\n"), 2, NULL, "no known protocol" },
	{ BACKEND, BYTES("\x47\0\0\0\xff\x10\4"), 5, NULL, "no known protocol" },
};

static const struct codec *
actual(const struct run *r)
{
	const struct codec *inner = r->codec->actual != NULL ? r->codec->actual(r->state) : NULL;

	return inner != NULL || r->codec == &codec_auto ? inner : r->codec;
}

static void
test_decides_at_the_first_byte_that_is_enough(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
		struct run r;
		size_t n = 0;

		run_start(&r, &codec_auto, NULL);
		while (n < beginnings[i].len && r.passthrough == NULL && actual(&r) == NULL) {
			assert_int_equal(run_may_heartbeat(&r, CLIENT) | run_may_heartbeat(&r, BACKEND), 0);
			run_feed(&r, beginnings[i].from, beginnings[i].bytes + n++, 1);
			assert_int_equal(r.got[side_other(beginnings[i].from)].len, n);	/* nothing is kept waiting */
		}
		if (n != beginnings[i].decided_at)
			fail_msg("beginning %zu (%s) decided at byte %zu, not %zu", i, beginnings[i].bytes, n, beginnings[i].decided_at);
		if (beginnings[i].codec != NULL) {
			assert_null(r.passthrough);
			assert_string_equal(actual(&r)->name, beginnings[i].codec);
		} else if (r.passthrough == NULL || strstr(r.passthrough, beginnings[i].why) == NULL) {
			fail_msg("beginning %zu: passthrough: %s", i, r.passthrough != NULL ? r.passthrough : "nothing");
		}
		run_end(&r);
	}
}

static void
test_decides_the_same_in_every_cut(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
		const struct step steps[] = { { beginnings[i].from, beginnings[i].bytes, beginnings[i].len } };
		char name[32];
		const struct transcript t = { .name = name, .codec = &codec_auto, TRANSCRIPT_STEPS(steps),
		    .passthrough = beginnings[i].why };

		snprintf(name, sizeof(name), "beginning-%zu", i);
		if (beginnings[i].codec == NULL)
			codec_check(&t);
	}
}

/* Every codec of the table has room in the state of this one. */
static void
test_each_codec_fits(void **unused)
{
	(void)unused;
	for (size_t i = 0; codec_at(i) != NULL; i++)
		if (codec_at(i) != &codec_auto)
			assert_true(codec_at(i)->state_size + sizeof(void *) <= codec_auto.state_size);
}

/* ---- once it is found ---- */

#define TALK(array, inner) { #array, &(inner), array, sizeof(array) / sizeof((array)[0]) }

static const struct step upgrade[] = {
	STEP(CLIENT, "GET /plain HTTP/1.1\r\nHost: h\r\n\r\n"),
	STEP(BACKEND, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"),
	STEP(BACKEND, "7\r\ndata: 1\r\n2\r\n\n\n\r\n0\r\n\r\n"),
	STEP(CLIENT, "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"),
	STEP(BACKEND, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
	STEP(BACKEND, "\x81\5hello"), STEP(CLIENT, "\x81\x85\1\2\3\4igoji"), STEP(BACKEND, "\x81\1!"),
};

static const struct talk {
	const char *name;
	const struct codec *inner;
	const struct step *steps;
	size_t n_steps;
} talks[] = {
	TALK(upgrade, codec_http), TALK(notifications, codec_postgres), TALK(scram, codec_postgres),
	TALK(refused_encryption, codec_postgres), TALK(standby, codec_postgres),
	TALK(mysql_transaction, codec_mysql),
	TALK(redis_transactions, codec_redis), TALK(redis_resp3, codec_redis),
};

static struct tally
play(const struct talk *talk, const struct codec *codec)
{
	const struct transcript t = { .name = talk->name, .codec = codec, .peer = codec_peer_of(talk->inner),
	    .steps = talk->steps, .n_steps = talk->n_steps };

	return codec_check(&t);
}

static void
test_goes_on_as_the_codec_itself_would(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		struct tally mine = play(&talks[i], &codec_auto), theirs = play(&talks[i], talks[i].inner);
		unsigned moments = 0;

		for (int side = CLIENT; side <= BACKEND; side++) {
			for (int kind = HEARTBEAT_ONEWAY; kind <= HEARTBEAT_EARLY; kind <<= 1) {
				assert_int_equal(mine.moments[side][kind], theirs.moments[side][kind]);
				moments += mine.moments[side][kind];
			}
			assert_int_equal(mine.replies[side], theirs.replies[side]);
		}
		assert_int_equal(mine.skipped > 0, theirs.skipped > 0);
		assert_true(moments > 0);
	}
}

static void
feed_text(struct run *r, enum side from, const char *text)
{
	run_feed(r, from, text, strlen(text));
}

static void
test_names_the_codec_behind_the_codec(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	assert_null(actual(&r));
	for (size_t i = 0; i < sizeof(upgrade) / sizeof(upgrade[0]); i++) {
		run_feed(&r, upgrade[i].from, upgrade[i].data, upgrade[i].len);
		assert_string_equal(actual(&r)->name, i < 4 ? "http" : "websocket");
	}
	run_end(&r);
}

static void
test_hands_on_close_message_and_cancel(void **unused)
{
	static const struct codec_close_info dead = { CLIENT, "client-keepalive-timeout", 1000 };
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	assert_null(r.codec->close_message);
	assert_null(r.codec->cancel);
	assert_null(r.codec->is_early);
	for (size_t i = 0; i < sizeof(upgrade) / sizeof(upgrade[0]); i++)
		run_feed(&r, upgrade[i].from, upgrade[i].data, upgrade[i].len);
	assert_true(r.codec->close_message(r.state, BACKEND, &dead, buf) > 2);
	assert_int_equal(buf[0], 0x88);		/* Close */
	run_end(&r);
}

/* Early bytes of HTTP: the first of a response that is due. */
static void
test_early_bytes_are_handed_on(void **unused)
{
	static const struct codec_settings early = { .heartbeats = { true, true }, .kind = { HEARTBEAT_EARLY, 0 } };
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, &early);
	feed_text(&r, CLIENT, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_EARLY);
	run_heartbeat(&r, CLIENT, HEARTBEAT_EARLY);
	assert_true(r.codec->is_early(r.state, CLIENT));
	feed_text(&r, BACKEND, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_false(r.codec->is_early(r.state, CLIENT));
	assert_memory_equal(r.got[CLIENT].data, "HTTP/1.1 204", 12);
	run_end(&r);
}

/* The side that was first decides, whatever the other says meanwhile; that is not lost on the codec. */
static void
test_other_side_speaks_while_it_looks(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	feed_text(&r, CLIENT, "*1\r\n");
	feed_text(&r, BACKEND, "-NOAUTH\r\n");
	assert_null(r.passthrough);
	feed_text(&r, CLIENT, "$4\r\nPING\r\n");
	assert_string_equal(actual(&r)->name, "redis");
	assert_int_equal(r.got[CLIENT].len, 9);
	run_end(&r);
	run_start(&r, &codec_auto, NULL);
	feed_text(&r, CLIENT, "GET ");
	feed_text(&r, BACKEND, "HTTP/1.1 408 Too Late\r\n");
	feed_text(&r, CLIENT, "/");
	assert_string_equal(r.passthrough, "a response without a request");	/* says the codec that has read it */
	assert_int_equal(r.got[CLIENT].len, 23);
	run_end(&r);
	run_start(&r, &codec_auto, NULL);
	feed_text(&r, CLIENT, "*1\r");
	feed_text(&r, BACKEND, "this is more than can be kept of it while nobody knows");
	assert_string_equal(r.passthrough, "no known protocol");
	assert_int_equal(r.got[CLIENT].len, 54);
	run_end(&r);
}

/* What the codec that was found says is passed on: PostgreSQL's has most to say. */
static void
test_passes_on_what_the_codec_says(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	assert_string_equal(r.codec->why_none(r.state, CLIENT), "protocol not detected yet");
	FEED(&r, CLIENT, STARTUP);
	FEED(&r, BACKEND, LOGIN);
	assert_null(r.codec->why_none(r.state, CLIENT));
	FEED(&r, CLIENT, "Q\0\0\0\x0eLISTEN ch\0");
	FEED(&r, BACKEND, DONE READY);
	assert_string_equal(r.codec->why_none(r.state, CLIENT), "the client waits for notifications");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_true(r.codec->awaits_reply == NULL || r.codec->awaits_reply(r.state, BACKEND, true));
	FEED(&r, BACKEND, READY);
	assert_int_equal(r.replies[BACKEND], 1);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	FEED(&r, BACKEND, "E\0\0\0\x14" "SFATAL\0" "C57P05\0" "\0");
	assert_null(r.refused);
	assert_true(r.codec->said_goodbye(r.state, BACKEND));
	assert_false(r.codec->said_goodbye(r.state, CLIENT));
	FEED(&r, CLIENT, TERMINATE);
	assert_true(r.codec->said_goodbye(r.state, CLIENT));
	run_end(&r);
}

static void
test_an_end_before_it_is_known_ends_the_search(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	feed_text(&r, CLIENT, "GE");
	run_fin(&r, CLIENT);
	assert_string_equal(r.passthrough, "it ended before its protocol was detected");
	assert_int_equal(r.got[BACKEND].len, 2);
	run_end(&r);
}

/* A health check opens and closes. And a client that says its last first may still hear a server. */
static void
test_an_end_without_a_byte_is_no_passthrough(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	run_fin(&r, CLIENT);
	assert_null(r.passthrough);
	feed_text(&r, BACKEND, "220 ");
	assert_string_equal(r.passthrough, "no heartbeats for SMTP or FTP");
	run_end(&r);
	run_start(&r, &codec_auto, NULL);
	run_fin(&r, BACKEND);
	run_fin(&r, CLIENT);
	assert_null(r.passthrough);
	run_end(&r);
}

/* It looks like HTTP and is not: the codec that was found says so. */
static void
test_a_wrong_guess_is_passthrough(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_auto, NULL);
	feed_text(&r, CLIENT, "GET /\r\n");
	assert_non_null(r.passthrough);
	assert_memory_equal(r.got[BACKEND].data, "GET /\r\n", 7);
	run_end(&r);
}

/* A line of words that somebody typed: whose commands they are shows in the reply. */
static void
test_a_typed_command_is_a_guess(void **unused)
{
	static const struct {
		const char *typed, *reply, *why;	/* reason of passthrough; NULL: none */
	} guesses[] = {
		{ "set a \"b c\"\r\n", "+OK\r\n", NULL },
		{ "get key\r\n", "$5\r\nvalue\r\n", NULL },
		{ "GET key\r\n", "$-1\r\n", NULL },
		{ "HELLO 3\r\n", "%1\r\n+proto\r\n:3\r\n", NULL },
		{ "get key\r\n", "VALUE key 0 1\r\nx\r\nEND\r\n", "memcached" },
		{ "set key 0 0 5\r\nhello\r\n", "STORED\r\n", "memcached" },
		{ "quit\r\n", "BYE\r\n", "memcached" },
		{ "INFO\n", "it works\n", "no known protocol" },
		{ "TIME\r\n", ":irc.example 451 * :You have not registered\r\n", "RESP" },
		{ "watch tube\r\n", "WATCHING 2\r\n", "no known protocol" },
		{ "subscribe /events HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n", "no known protocol" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(guesses) / sizeof(guesses[0]); i++) {
		struct run r;

		run_start(&r, &codec_auto, NULL);
		feed_text(&r, CLIENT, guesses[i].typed);
		assert_int_equal(run_may_heartbeat(&r, CLIENT) | run_may_heartbeat(&r, BACKEND), 0);
		assert_non_null(r.codec->why_none(r.state, BACKEND));
		feed_text(&r, BACKEND, guesses[i].reply);
		assert_int_equal(r.got[CLIENT].len, strlen(guesses[i].reply));
		if (guesses[i].why == NULL) {
			assert_null(r.passthrough);
			assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_PING);
			assert_null(r.codec->why_none(r.state, BACKEND));
		} else if (r.passthrough == NULL || strstr(r.passthrough, guesses[i].why) == NULL) {
			fail_msg("talk %zu: passthrough: %s", i, r.passthrough != NULL ? r.passthrough : "nothing");
		}
		run_end(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decides_at_the_first_byte_that_is_enough),
		cmocka_unit_test(test_decides_the_same_in_every_cut),
		cmocka_unit_test(test_each_codec_fits),
		cmocka_unit_test(test_goes_on_as_the_codec_itself_would),
		cmocka_unit_test(test_names_the_codec_behind_the_codec),
		cmocka_unit_test(test_hands_on_close_message_and_cancel),
		cmocka_unit_test(test_early_bytes_are_handed_on),
		cmocka_unit_test(test_other_side_speaks_while_it_looks),
		cmocka_unit_test(test_passes_on_what_the_codec_says),
		cmocka_unit_test(test_an_end_before_it_is_known_ends_the_search),
		cmocka_unit_test(test_an_end_without_a_byte_is_no_passthrough),
		cmocka_unit_test(test_a_wrong_guess_is_passthrough),
		cmocka_unit_test(test_a_typed_command_is_a_guess),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
