/*
 * test_redis.c - the Redis codec: conversations with a real server in every
 * way in which they may be cut, with heartbeats in every place, and each state in which a heartbeat
 * would do harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec_harness.h"
#include "transcripts_redis.h"

#define ONEWAY HEARTBEAT_ONEWAY
#define PING HEARTBEAT_PING
#define BOTH (HEARTBEAT_ONEWAY | HEARTBEAT_PING)

static const struct codec_settings pushes = {
	.heartbeats = { true, true },
	.kind = { HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY },
	.while_busy = { true, false },
};
static const struct codec_settings telling = {
	.heartbeats = { true, true },
	.kind = { 0, HEARTBEAT_ONEWAY },
};
static const struct codec_settings busy = {
	.heartbeats = { true, true },
	.while_busy = { true, true },
};
static const struct codec_settings busy_telling = {
	.heartbeats = { true, true },
	.kind = { 0, HEARTBEAT_ONEWAY },
	.while_busy = { true, true },
};

static struct tally
check(const char *name, const struct step *steps, size_t n, const struct codec_settings *settings)
{
	struct transcript t = { .name = name, .codec = &codec_redis, .steps = steps, .n_steps = n,
		.settings = settings };

	return codec_check(&t);
}

#define CHECK(array, settings) check(#array, array, sizeof(array) / sizeof(array[0]), settings)

/* --- conversations --- */

static void
test_pings_go_between_commands(void **state)
{
	struct tally t = CHECK(redis_plain, NULL);

	(void)state;
	assert_true(t.moments[BACKEND][HEARTBEAT_PING] > 10);
	assert_int_equal(t.moments[BACKEND][HEARTBEAT_ONEWAY], 0);
	assert_int_equal(t.replies[BACKEND], t.moments[BACKEND][HEARTBEAT_PING]);
	assert_int_equal(t.moments[CLIENT][HEARTBEAT_ONEWAY], 0);
	assert_true(t.skipped > 500);	/* the long value, both ways */
	t = CHECK(redis_plain, &telling);
	assert_true(t.moments[BACKEND][HEARTBEAT_ONEWAY] > 10);
}

static void
test_other_conversations_stay_whole(void **state)
{
	(void)state;
	assert_true(CHECK(redis_transactions, NULL).moments[BACKEND][HEARTBEAT_PING] > 0);
	assert_true(CHECK(redis_resp3, NULL).moments[BACKEND][HEARTBEAT_PING] > 20);
	assert_true(CHECK(redis_resp3, &pushes).moments[CLIENT][HEARTBEAT_ONEWAY] > 20);
	assert_true(CHECK(redis_subscriber, &telling).moments[BACKEND][HEARTBEAT_ONEWAY] > 0);
	assert_true(CHECK(redis_silence, &telling).moments[BACKEND][HEARTBEAT_ONEWAY] > 0);
	assert_true(CHECK(redis_silence, &pushes).moments[CLIENT][HEARTBEAT_ONEWAY] > 0);
	assert_true(CHECK(redis_login, NULL).moments[BACKEND][HEARTBEAT_PING] > 0);
	assert_true(CHECK(redis_monitor, &telling).moments[BACKEND][HEARTBEAT_ONEWAY] > 0);
	assert_true(CHECK(redis_py, NULL).moments[BACKEND][HEARTBEAT_PING] > 0);
	assert_true(CHECK(node_redis, &pushes).moments[CLIENT][HEARTBEAT_ONEWAY] > 0);
}

/* A RESP2 subscriber's PING is replied to by an array, between arrays that are messages. */
static size_t
reply_of_subscriber(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	static const char array[] = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
	size_t n = codec_peer_of(&codec_redis)->reply(settings, side, heartbeat, len, reply);

	if (n > 0)
		memcpy(reply, array, n = sizeof(array) - 1);
	return n;
}

static bool
message_overtakes(enum side side, const uint8_t *message, size_t len)
{
	(void)side;
	return (len > 12 && memcmp(message, "*3\r\n$7\r\nmess", 12) == 0) ||
	    (len > 13 && memcmp(message, "*4\r\n$8\r\npmess", 13) == 0);
}

static void
test_a_subscriber_in_resp2_is_pinged(void **state)
{
	static const struct codec_peer subscriber = { .reply = reply_of_subscriber, .may_overtake = message_overtakes };
	static const struct step listener[] = {
		STEP(CLIENT, "SUBSCRIBE a b\r\n"),
		STEP(BACKEND, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
		STEP(BACKEND, "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"),
		STEP(BACKEND, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n"),
		STEP(CLIENT, "PSUBSCRIBE p*\r\n"),
		STEP(BACKEND, "*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:3\r\n"),
		STEP(BACKEND, "*4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$2\r\npp\r\n$4\r\npong\r\n"),
		STEP(CLIENT, "PING\r\n"),
		STEP(BACKEND, "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
		STEP(CLIENT, "PING stay\r\n"),
		STEP(BACKEND, "*2\r\n$4\r\npong\r\n$4\r\nstay\r\n"),
		STEP(CLIENT, "GET k\r\n"),
		STEP(BACKEND, "-ERR Can't execute 'get'\r\n"),
		STEP(CLIENT, "UNSUBSCRIBE a b\r\nPUNSUBSCRIBE p*\r\n"),
		STEP(BACKEND, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n"),
		STEP(BACKEND, "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n"),
		STEP(BACKEND, "*3\r\n$12\r\npunsubscribe\r\n$2\r\np*\r\n:0\r\n"),
		STEP(CLIENT, "LRANGE l 0 -1\r\n"),
		STEP(BACKEND, "*2\r\n$7\r\nmessage\r\n$1\r\na\r\n"),	/* a list's elements */
		STEP(CLIENT, "GET k\r\n"),
		STEP(BACKEND, "$1\r\nv\r\n"),
	};
	const struct transcript subscribed = { .name = "listener", .codec = &codec_redis, .peer = &subscriber,
		TRANSCRIPT_STEPS(listener) };
	const struct transcript recorded = { .name = "redis_subscriber", .codec = &codec_redis, .peer = &subscriber,
		TRANSCRIPT_STEPS(redis_subscriber) };
	struct tally t = codec_check(&subscribed);

	(void)state;
	assert_true(t.moments[BACKEND][HEARTBEAT_PING] > 100);
	assert_int_equal(t.replies[BACKEND], t.moments[BACKEND][HEARTBEAT_PING]);
	assert_true(codec_check(&recorded).moments[BACKEND][HEARTBEAT_PING] > 0);
	assert_true(CHECK(listener, NULL).moments[BACKEND][HEARTBEAT_PING] > 100);	/* some server may say +PONG */
}

static void
test_replication_stays_whole(void **state)
{
	struct tally t = CHECK(redis_replica, &pushes);

	(void)state;
	assert_int_equal(t.moments[CLIENT][HEARTBEAT_ONEWAY], 0);
	assert_true(t.moments[BACKEND][HEARTBEAT_ONEWAY] > 0);		/* before PSYNC */
}

/* What no present server sends, but the protocol has. */
static void
test_streamed_replies_are_followed(void **state)
{
	static const struct step streamed[] = {
		STEP(CLIENT, "HELLO 3\r\nGET a\r\nGET b\r\nGET c\r\nGET d\r\n"),
		STEP(BACKEND, "%1\r\n+server\r\n+redis\r\n"),
		STEP(BACKEND, "*?\r\n:1\r\n%?\r\n+a\r\n*2\r\n#t\r\n_\r\n.\r\n$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n.\r\n"),
		STEP(BACKEND, "|?\r\n+ttl\r\n:3600\r\n.\r\n$5\r\nvalue\r\n"),
		STEP(BACKEND, "|1\r\n+k\r\n(123456789012345678901234567890\r\n*2\r\n|1\r\n+x\r\n,1.5\r\n:1\r\n=8\r\ntxt:text\r\n"),
		STEP(BACKEND, "~2\r\n!5\r\nerror\r\n*0\r\n"),
		STEP(CLIENT, "PING\r\n"),
		STEP(BACKEND, "+PONG\r\n"),
	};

	(void)state;
	assert_true(CHECK(streamed, &pushes).moments[BACKEND][HEARTBEAT_PING] > 0);
}

/* --- single moments --- */

/* Commands and replies in turn: "command|reply|command|reply...". */
static void
talk(struct run *r, const char *text)
{
	enum side from = CLIENT;

	while (*text != '\0') {
		size_t n = strcspn(text, "|");

		if (n > 0)
			run_feed(r, from, text, n);
		from = side_other(from);
		text += n + (text[n] == '|');
	}
}

static void
start(struct run *r, const struct codec_settings *settings, const char *text)
{
	run_start(r, &codec_redis, settings);
	talk(r, text);
}

static unsigned
kinds_with(const struct codec_settings *settings, const char *text)
{
	struct run r;
	unsigned kinds;

	start(&r, settings, text);
	assert_null(r.passthrough);
	kinds = run_may_heartbeat(&r, BACKEND);
	assert_int_equal(kinds == 0, codec_redis.why_none(r.state, BACKEND) != NULL);
	run_end(&r);
	return kinds;
}

/* What may go to the backend after this talk by default, with empty lines configured, and while a command runs if configured. */
#define kinds_after(text) kinds_with(NULL, text)
#define oneway_after(text) kinds_with(&telling, text)
#define busy_after(text) kinds_with(&busy, text)

static const char *
lost_after(const char *text)
{
	struct run r;
	const char *lost;

	start(&r, NULL, text);
	lost = r.passthrough;
	run_end(&r);
	return lost;
}

#define GET "GET k\r\n|$1\r\nv\r\n|"

static void
test_nothing_before_the_first_command(void **state)
{
	(void)state;
	assert_int_equal(oneway_after(""), 0);	/* it might be TLS */
	assert_int_equal(oneway_after("GET k"), 0);
	assert_int_equal(oneway_after("GET k\r\n"), 0);	/* nor before a reply shows that this is RESP */
	assert_int_equal(oneway_after(GET), BOTH);
	assert_int_equal(kinds_after(GET), PING);
}

static void
test_no_heartbeat_inside_a_command(void **state)
{
	static const char whole[] = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

	(void)state;
	for (size_t n = 1; n < sizeof(whole) - 1; n++) {
		struct run r;

		start(&r, &pushes, GET);
		run_feed(&r, CLIENT, whole, n);
		assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
		run_end(&r);
	}
}

/* A client may have a read timeout while its command runs. */
static void
test_none_while_a_command_runs_unless_wanted(void **state)
{
	(void)state;
	assert_int_equal(oneway_after(GET "BLPOP l 0\r\n"), 0);
	assert_int_equal(kinds_with(&busy_telling, GET "BLPOP l 0\r\n"), BOTH);
	assert_int_equal(busy_after(GET "BLPOP l 0\r\n"), PING);
	assert_int_equal(busy_after("BLPOP l 0\r\n"), 0);		/* no reply has shown a login */
	assert_int_equal(busy_after(GET "MULTI\r\n"), 0);
	assert_int_equal(busy_after(GET "HELLO 3\r\n"), 0);
	assert_int_equal(busy_after(GET "SUBSCRIBE a\r\n"), 0);
}

/* Behind a command that runs all our PINGs wait in one place: a command of the client's is not to part them. */
static void
test_pings_behind_a_command_are_in_one_place(void **state)
{
	struct run r;

	(void)state;
	start(&r, &busy, GET "BLPOP l 0\r\n|");
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_false(codec_redis.awaits_reply(r.state, BACKEND, true));		/* it has to wait for its turn */
	talk(&r, "GET k\r\n");
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	talk(&r, "|*-1\r\n");
	assert_true(codec_redis.awaits_reply(r.state, BACKEND, true));
	talk(&r, "|+PONG\r\n+PONG\r\n$1\r\nv\r\n");
	assert_int_equal(r.replies[BACKEND], 2);
	assert_int_equal(r.got[CLIENT].len, 7 + 5 + 7);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), PING);
	run_end(&r);
}

/* Either kind uses up these flags: the reply that must not come would come, the key would not be tracked. */
static void
test_no_heartbeat_behind_a_one_shot_flag(void **state)
{
	(void)state;
	assert_int_equal(oneway_after(GET "CLIENT REPLY SKIP\r\n"), 0);
	assert_int_equal(oneway_after(GET "CLIENT REPLY SKIP\r\nGET k\r\n") & ONEWAY, ONEWAY);
	assert_int_equal(oneway_after("client caching yes\r\n|+OK\r\n"), 0);
	assert_int_equal(oneway_after("CLIENT CACHING NO\r\n|+OK\r\n|CLIENT ID\r\n|:7\r\n"), 0);	/* still */
	assert_int_equal(oneway_after("CLIENT CACHING YES\r\n|+OK\r\n|" GET), BOTH);
	assert_int_equal(oneway_after("ASKING\r\n|+OK\r\n"), 0);
	assert_int_equal(oneway_after("ASKING\r\n|+OK\r\n|" GET), BOTH);
	/* The skipped command itself may be one of CLIENT's, which leaves CACHING standing. */
	assert_int_equal(oneway_after("CLIENT CACHING YES\r\n|+OK\r\n|CLIENT REPLY SKIP\r\nCLIENT ID\r\n"), 0);
	/* So does the client's own empty line use it up. */
	assert_int_equal(oneway_after("ASKING\r\n|+OK\r\n|\r\n"), BOTH);
}

static void
test_pings_only_where_one_reply_is_certain(void **state)
{
	(void)state;
	assert_int_equal(kinds_after("GET k\r\nGET k\r\n|$1\r\nv\r\n"), 0);		/* one is outstanding */
	assert_int_equal(oneway_after("GET k\r\n|-NOAUTH Authentication required.\r\n"), ONEWAY);
	assert_int_equal(kinds_after("GET k\r\n|-NOAUTH Authentication required.\r\n"), 0);
	assert_int_equal(oneway_after("MULTI\r\n|+OK\r\n"), ONEWAY);			/* QUEUED, one element more */
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n"), 0);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|EXEC\r\n|*0\r\n"), PING);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|EXEC\r\n|*-1\r\n"), PING);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|DISCARD\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|EXEC\r\n|-EXECABORT Transaction discarded\r\n"), PING);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|DISCARD\r\n|-NOPERM no\r\n"), 0);
	assert_int_equal(kinds_after("MULTI\r\nEXEC\r\nMULTI\r\n|+OK\r\n*0\r\n+OK\r\n"), 0);
	assert_int_equal(kinds_after("WATCH k\r\n|+OK\r\n"), PING);
	assert_int_equal(oneway_after("MONITOR\r\n|+OK\r\n"), ONEWAY);
	assert_int_equal(kinds_after("MONITOR\r\n|+OK\r\n"), 0);
	assert_int_equal(oneway_after(GET "CLIENT REPLY OFF\r\n"), ONEWAY);
	assert_int_equal(kinds_after(GET "CLIENT REPLY OFF\r\nGET k\r\nCLIENT REPLY ON\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("RESET\r\n|+RESET\r\n"), 0);			/* logged out, perhaps */
	assert_int_equal(kinds_after("RESET\r\n|+RESET\r\n|" GET), PING);
	assert_int_equal(kinds_after(GET "|+more\r\n"), 0);				/* unasked for */
	assert_int_equal(oneway_after("QUIT\r\n|+OK\r\n"), 0);
}

static void
test_resp2_subscriptions_are_counted(void **state)
{
#define SUBSCRIBED(n) "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:" n "\r\n"
#define LEFT(n) "*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:" n "\r\n"

	(void)state;
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n"), 0);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|" SUBSCRIBED("1")), PING);	/* which proves a login, too */
	assert_int_equal(kinds_after("SUBSCRIBE c d\r\n|" SUBSCRIBED("1")), 0);
	assert_int_equal(kinds_after("GET k\r\nSUBSCRIBE c\r\n|$1\r\nv\r\n" SUBSCRIBED("1")), PING);
	/* An array that is the reply to a command sent before. */
	assert_int_equal(kinds_after("LRANGE l 0 9\r\nSUBSCRIBE c\r\n|" SUBSCRIBED("1")), 0);
	assert_int_equal(kinds_after("LRANGE l 0 9\r\nSUBSCRIBE c\r\n|" SUBSCRIBED("1") SUBSCRIBED("1")), PING);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|" SUBSCRIBED("1") "|UNSUBSCRIBE c\r\n|" LEFT("0") "|" GET), PING);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|" SUBSCRIBED("1") "|UNSUBSCRIBE c\r\nLRANGE l 0 9\r\n|" LEFT("0")), 0);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|" SUBSCRIBED("1") "|UNSUBSCRIBE c\r\nLRANGE l 0 9\r\n|" LEFT("0")
	    "*2\r\n$7\r\nmessage\r\n$1\r\nx\r\n"), PING);
	/* From all: with none left it was the last confirmation, else the reply after it decides. */
	assert_int_equal(kinds_after("SUBSCRIBE c d\r\n|" SUBSCRIBED("1") SUBSCRIBED("2") "|UNSUBSCRIBE\r\n|" LEFT("1")), 0);
	assert_int_equal(kinds_after("SUBSCRIBE c d\r\n|" SUBSCRIBED("1") SUBSCRIBED("2") "|UNSUBSCRIBE\r\n|" LEFT("1") LEFT("0")), PING);
	assert_int_equal(kinds_after("UNSUBSCRIBE\r\n|*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), PING);
	assert_int_equal(kinds_after("UNSUBSCRIBE\r\nPUNSUBSCRIBE\r\n|" LEFT("0")), 0);
	assert_int_equal(kinds_after("UNSUBSCRIBE\r\nPUNSUBSCRIBE\r\n|" LEFT("0") LEFT("0")), PING);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\nPSUBSCRIBE p\r\n|" SUBSCRIBED("1") SUBSCRIBED("2") "|UNSUBSCRIBE\r\nPING\r\n|"
	    LEFT("1")), 0);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\nPSUBSCRIBE p\r\n|" SUBSCRIBED("1") SUBSCRIBED("2") "|UNSUBSCRIBE\r\nPING\r\n|"
	    LEFT("1") "*2\r\n$4\r\npong\r\n$0\r\n\r\n"), PING);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|" SUBSCRIBED("1") "|UNSUBSCRIBE\r\nSUBSCRIBE d\r\n|" LEFT("0") SUBSCRIBED("1")), 0);
	assert_int_equal(kinds_after("SUBSCRIBE\r\n|-ERR wrong number of arguments\r\n|" GET), PING);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|-NOPERM no\r\n"), 0);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|SUBSCRIBE c\r\n|+QUEUED\r\n|EXEC\r\n|*1\r\n" SUBSCRIBED("1")), 0);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|" SUBSCRIBED("1") "|RESET\r\n|+RESET\r\n|" GET), PING);
	assert_int_equal(kinds_after(GET "CLIENT REPLY OFF\r\nSUBSCRIBE c\r\n|" SUBSCRIBED("1")), 0);
	assert_int_equal(kinds_after(GET "CLIENT REPLY SKIP\r\nSUBSCRIBE c\r\n|" SUBSCRIBED("1")), 0);
	assert_int_equal(oneway_after(GET "SSUBSCRIBE c\r\n|*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n"), BOTH);
	/* Its slot moved away. */
	assert_int_equal(kinds_after(GET "SSUBSCRIBE c\r\n|*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n"
	    "*3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n"), 0);
}

/* The debugger of scripts takes an empty line for an error, and PING for an unknown command. */
static void
test_a_debugger_is_left_alone(void **state)
{
	(void)state;
	assert_string_equal(lost_after(GET "SCRIPT DEBUG YES\r\n"), "SCRIPT DEBUG");
	assert_string_equal(lost_after(GET "*3\r\n$6\r\nscript\r\n$5\r\ndebug\r\n$4\r\nsync\r\n"), "SCRIPT DEBUG");
	assert_int_equal(kinds_after(GET "SCRIPT DEBUG NO\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after(GET "SCRIPT LOAD x\r\n|+sha\r\n"), PING);
}

/* Lines of words as somebody types them. */
static void
test_quotes_are_understood(void **state)
{
	(void)state;
	assert_int_equal(kinds_after("set a \"b c\"\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("set a 'b c'\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("set a \"b \\\" \\x22 c\"  \n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("set a 'it\\'s' \\ x\"y z\"\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("set a 'x\\\\' '\r\n|+OK\r\n"), PING);	/* the second backslash escapes the quote */
	assert_int_equal(kinds_after("set a \"\"\r\n|+OK\r\n"), PING);
	assert_int_equal(kinds_after("\"\"\r\n|-ERR unknown command\r\n|" GET), PING);	/* not an empty line */
	assert_int_equal(kinds_after("mul\"ti\"\r\n|+OK\r\n"), 0);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|'exec'\r\n|*0\r\n"), PING);
	assert_int_equal(kinds_after("'client' reply \"skip\"\r\n"), 0);
	assert_int_equal(kinds_after(GET "get \"a b\""), 0);
	assert_non_null(lost_after("set a \"b c\r\n"));			/* the server closes */
	assert_non_null(lost_after("set a 'b c\r\n"));
	assert_non_null(lost_after("set a 'b\\'\r\n"));
	assert_non_null(lost_after("set a \"b\"c\r\n"));
	assert_non_null(lost_after("\"\\x4dULTI\"\r\n"));
}

/* A master takes a heartbeat for a sign of the replica, which is to speak for itself. */
static void
test_none_on_a_replication_link(void **state)
{
#define PSYNC "REPLCONF capa eof\r\n|+OK\r\n|PSYNC ? -1\r\n"

	(void)state;
	assert_int_equal(oneway_after("REPLCONF capa eof\r\n|+OK\r\n"), BOTH);
	assert_int_equal(oneway_after(PSYNC), 0);
	assert_int_equal(oneway_after(PSYNC "|+FULLRESYNC x 0\r\n\n\n$3\r\nRDB|\n\n"), 0);
	assert_int_equal(oneway_after(PSYNC "|+CONTINUE\r\n|*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n"), 0);
	assert_int_equal(oneway_after(GET "SYNC\r\n"), 0);
	assert_int_equal(oneway_after(GET "CLUSTER SYNCSLOTS ESTABLISH x\r\n|+OK\r\n"), 0);
	assert_int_equal(kinds_after(GET "CLUSTER INFO\r\n|+x\r\n"), PING);
	assert_int_equal(oneway_after(GET "DFLY FLOW x\r\n|+OK\r\n"), 0);
}

/* CLIENT REPLY OFF may have been refused: then what follows gets replies after all. */
static void
test_an_error_after_silence_ends_asking(void **state)
{
	(void)state;
	assert_int_equal(oneway_after(GET "CLIENT REPLY SKIP\r\nGET k\r\nGET k\r\n|-NOPERM no\r\n"), ONEWAY);
	assert_int_equal(kinds_after(GET "CLIENT REPLY SKIP\r\nGET k\r\nGET k\r\n|$1\r\nv\r\n"), PING);
	assert_int_equal(kinds_after(GET "CLIENT REPLY SKIP\r\nGET k\r\n" GET "SADD k\r\n|-WRONGTYPE no\r\n"), PING);
	assert_int_equal(kinds_after("SADD k\r\nCLIENT REPLY SKIP\r\nGET k\r\nGET k\r\n|-WRONGTYPE no\r\n$1\r\nv\r\n"), PING);
}

static void
test_resp3_subscriptions_are_counted(void **state)
{
#define HELLO "HELLO 3\r\n|%1\r\n+proto\r\n:3\r\n|"
#define CONFIRM(c) ">3\r\n$9\r\nsubscribe\r\n$1\r\n" c "\r\n:1\r\n"

	(void)state;
	assert_int_equal(kinds_after(HELLO), PING);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n"), 0);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n|" CONFIRM("a")), 0);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n|" CONFIRM("a") CONFIRM("b")), PING);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n|" CONFIRM("a") ">3\r\n$7\r\nmessage\r\n+a\r\n+m\r\n" CONFIRM("b")), PING);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|-NOPERM no\r\n"), 0);
	assert_int_equal(kinds_after(HELLO "UNSUBSCRIBE\r\n"), 0);
	/* In RESP2 again, and still subscribed: PING gets an array there. */
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|" CONFIRM("a") "|HELLO 2\r\n|*2\r\n+proto\r\n:2\r\n"), 0);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|" CONFIRM("a") "|HELLO 3\r\n|%1\r\n+proto\r\n:3\r\n"), PING);
	assert_int_equal(kinds_after(HELLO "HELLO 2\r\n|*2\r\n+proto\r\n:2\r\n"), PING);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|" CONFIRM("a") "|RESET\r\n|+RESET\r\n|GET k\r\n|$1\r\nv\r\n"), PING);
	assert_int_equal(kinds_after(HELLO "PING\r\n|>2\r\n$10\r\ninvalidate\r\n_\r\n+PONG\r\n"), PING);
}

static void
test_passthrough_for_the_unknown(void **state)
{
	(void)state;
	assert_string_equal(lost_after("\x16\x03\x01"), "TLS");
	assert_non_null(lost_after("\x16\x04"));
	assert_non_null(lost_after("{\"json\": 1}\r\n"));
	assert_non_null(lost_after("*2\r\n:3\r\n"));
	assert_non_null(lost_after("*x\r\n"));
	assert_non_null(lost_after("*1\r\n$-1\r\n"));
	assert_non_null(lost_after("PING\r\n|:irc.example 451 * :You have not registered\r\n"));
	assert_non_null(lost_after("TIME\r\n|# a comment\r\n"));
	assert_non_null(lost_after("MULTI\r\n|+OK\r\n|CLIENT REPLY OFF\r\n"));
	assert_non_null(lost_after("GET k\r\n|HTTP/1.1 400 Bad Request\r\n"));
	assert_non_null(lost_after("GET k\r\n|+no CR\n"));
	assert_non_null(lost_after("GET k\r\n|.\r\n"));
	assert_non_null(lost_after("GET k\r\n|;4\r\nHell\r\n"));
	assert_non_null(lost_after("GET k\r\n|*?\r\n*?\r\n*?\r\n*?\r\n"));
	assert_non_null(lost_after("GET k\r\n|*99999999999\r\n"));
	assert_null(lost_after("GET k\r\n|*?\r\n*?\r\n*?\r\n.\r\n.\r\n.\r\n"));
}

/* While a reply is due, passthrough because of the client waits for it. */
static void
test_passthrough_waits_for_the_reply(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, GET);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	run_feed(&r, CLIENT, "*x\r\n", 4);
	assert_null(r.passthrough);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_feed(&r, BACKEND, "+PONG\r\n", 7);
	assert_non_null(r.passthrough);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_int_equal(r.got[CLIENT].len, 7);		/* the value alone */
	run_end(&r);
}

static void
ping_and_hear(const char *reply, const char *refused, size_t got)
{
	for (size_t cut = 0; cut < strlen(reply); cut++) {
		struct run r;

		start(&r, NULL, GET);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
		run_feed(&r, BACKEND, reply, cut);
		run_feed(&r, BACKEND, reply + cut, strlen(reply) - cut);
		assert_null(r.passthrough);
		assert_int_equal(r.replies[BACKEND], 1);
		assert_int_equal(r.got[CLIENT].len - 7, got);
		assert_int_equal(refused == NULL, r.refused == NULL);
		if (refused != NULL) {
			assert_non_null(strstr(r.refused, refused));
			assert_ptr_equal(codec_redis.why_none(r.state, BACKEND), r.refused);
		}
		talk(&r, "GET k\r\n|$1\r\nv\r\n");
		assert_int_equal(r.got[CLIENT].len - 14, got);
		assert_int_equal(run_may_heartbeat(&r, BACKEND), refused == NULL ? PING : 0);
		run_end(&r);
	}
}

/* Each refusal of PING is written down in the server's log of access: one is enough. */
static void
test_a_refused_ping_is_not_repeated(void **state)
{
	(void)state;
	ping_and_hear("+PONG\r\n", NULL, 0);
	ping_and_hear("$4\r\nPONG\r\n", NULL, 0);
	ping_and_hear("*2\r\n$4\r\npong\r\n$0\r\n\r\n", NULL, 0);
	ping_and_hear("-NOPERM this user has no permissions to run the 'ping' command\r\n", "no permission for PING", 0);
	ping_and_hear("-ERR unknown command 'PING'\r\n", "refused", 0);
	ping_and_hear("-request not supported\r\n", "refused", 0);
	ping_and_hear("-ERR upstream is down\r\n", NULL, 0);
	ping_and_hear("-LOADING Redis is loading the dataset in memory\r\n", NULL, 0);
	ping_and_hear("-MASTERDOWN Link with MASTER is down\r\n", NULL, 0);
	ping_and_hear("-BUSY Redis is busy running a script\r\n", NULL, 0);
	ping_and_hear("-MISCONF Redis is configured to save RDB snapshots\r\n", NULL, 0);
	ping_and_hear(">2\r\n+a\r\n+b\r\n+PONG\r\n>2\r\n+c\r\n+d\r\n", NULL, 24);
}

/* With nothing outstanding it is ours whatever it says: passed on, each later reply would be taken for the one before. */
static void
test_another_line_in_place_of_the_reply_is_taken_out(void **state)
{
	(void)state;
	ping_and_hear("+POxx\r\n", "unexpected reply", 0);
	ping_and_hear("+OK\r\n", "unexpected reply", 0);
	ping_and_hear(":1\r\n", "unexpected reply", 0);
}

/* But larger ones are not what PING draws: this is no state that is understood. */
static void
test_another_reply_in_place_of_the_reply_passes(void **state)
{
	static const char *const others[] = { "*2\r\n$4\r\npink\r\n$0\r\n\r\n", "$4\r\nPINK\r\n", "%1\r\n+a\r\n+b\r\n" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct run r;

		start(&r, NULL, GET);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
		run_feed(&r, BACKEND, others[i], strlen(others[i]));
		assert_non_null(r.passthrough);
		assert_int_equal(r.got[CLIENT].len, 7 + strlen(others[i]));
		assert_memory_equal(r.got[CLIENT].data + 7, others[i], strlen(others[i]));
		run_end(&r);
	}
}

static void
test_errors_in_a_row_are_a_refusal(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, GET);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(run_may_heartbeat(&r, BACKEND), PING);
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
		talk(&r, i == 1 ? "|+PONG\r\n" : "|-ERR upstream is down\r\n");
		assert_int_equal(r.refused != NULL, i == 3);
	}
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* Logged out meanwhile: it is pinged again once a command has succeeded. */
static void
test_logged_out_is_no_refusal(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, GET);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	talk(&r, "|-NOAUTH Authentication required.\r\n");
	assert_null(r.refused);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	talk(&r, "AUTH pw\r\n|+OK\r\n");
	assert_int_equal(run_may_heartbeat(&r, BACKEND), PING);
	run_end(&r);
}

/* --- replies to empty lines --- */

static void
test_a_reply_to_an_empty_line_is_taken_out(void **state)
{
	struct run r;

	(void)state;
	start(&r, &telling, GET);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	talk(&r, "|-invalid request\r\n");
	assert_non_null(r.refused);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	talk(&r, "|-invalid request\r\n");		/* the other one's */
	assert_int_equal(r.got[CLIENT].len, 7);
	talk(&r, GET "|-nothing was sent\r\n");
	assert_int_equal(r.got[CLIENT].len, 14 + 19);
	run_end(&r);
}

/* It crossed the client's next command: whose it was is seen too late, but there are no more. */
static void
test_a_reply_too_many_ends_empty_lines(void **state)
{
	struct run r;

	(void)state;
	start(&r, &telling, GET);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	talk(&r, "GET k\r\n|-invalid request\r\n");
	assert_null(r.refused);
	talk(&r, "|$1\r\nv\r\n");
	assert_non_null(r.refused);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(r.got[CLIENT].len, 7 + 18 + 7);
	run_end(&r);
}

static void
test_replies_that_may_be_the_client_s_own_pass(void **state)
{
	static const char *const talks[] = {
		GET "CLIENT REPLY OFF\r\n|",			/* refused? */
		"MONITOR\r\n|+OK\r\n|",
		GET "*1\r\n$",				/* a protocol error */
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct run r;
		size_t before;

		start(&r, &telling, i < 2 ? talks[i] : GET);
		run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
		if (i == 2)
			run_feed(&r, CLIENT, "*1\r\n$", 5);
		before = r.got[CLIENT].len;
		run_feed(&r, BACKEND, "-ERR no\r\n", 9);
		assert_int_equal(r.got[CLIENT].len, before + 9);
		run_end(&r);
	}
}

/* --- ends --- */

static void
test_goodbyes(void **state)
{
	static const struct {
		const char *talk;
		bool client, backend;
	} ends[] = {
		{ GET, false, false },
		{ GET "QUIT\r\n", true, true },
		{ "|-ERR max number of clients reached\r\n", false, true },
		{ "GET k\r\n|-DENIED Redis is running in protected mode\r\n", false, true },
		{ GET "GET k\r\n|-ERR max number of clients reached\r\n", false, false },	/* a script's, perhaps */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct run r;

		start(&r, NULL, ends[i].talk);
		assert_int_equal(codec_redis.said_goodbye(r.state, CLIENT), ends[i].client);
		assert_int_equal(codec_redis.said_goodbye(r.state, BACKEND), ends[i].backend);
		run_end(&r);
	}
}

static void
test_each_state_says_why_there_is_none(void **state)
{
	static const char *const states[][2] = {
		{ "", "no command" }, { GET "GET", "inside a command" }, { "GET k\r\n", "command running" },
		{ "GET k\r\n|-NOAUTH no\r\n", "no login" }, { "MULTI\r\n|+OK\r\n", "transaction" },
		{ "SYNC\r\n", "replication" }, { "MONITOR\r\n|+OK\r\n", "MONITOR" }, { "QUIT\r\n", "QUIT" },
		{ GET "CLIENT REPLY OFF\r\n", "CLIENT REPLY OFF" }, { "ASKING\r\n|+OK\r\n", "the next one" },
		{ GET "|+more\r\n", "counted" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		struct run r;

		start(&r, NULL, states[i][0]);
		assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
		if (strstr(codec_redis.why_none(r.state, BACKEND), states[i][1]) == NULL)
			fail_msg("%s: %s", states[i][0], codec_redis.why_none(r.state, BACKEND));
		assert_non_null(codec_redis.why_none(r.state, CLIENT));
		run_end(&r);
	}
}

/* --- to the client --- */

static unsigned
pushes_after(const struct codec_settings *settings, const char *text)
{
	struct run r;
	unsigned kinds;

	start(&r, settings, text);
	kinds = run_may_heartbeat(&r, CLIENT);
	run_end(&r);
	return kinds;
}

static void
test_pushes_only_if_configured_and_in_resp3(void **state)
{
	static const struct codec_settings pings = { .heartbeats = { true, true }, .kind = { 0, HEARTBEAT_PING } };

	(void)state;
	assert_int_equal(pushes_after(&pushes, HELLO), ONEWAY);
	assert_int_equal(pushes_after(NULL, HELLO), 0);
	assert_int_equal(pushes_after(&pings, HELLO), 0);
	assert_int_equal(pushes_after(&pushes, "GET k\r\n|$1\r\nv\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, "HELLO 2\r\n|*2\r\n+proto\r\n:2\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, "HELLO 3\r\n|-NOPROTO no\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "GET k\r\n|$4\r\nva"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "GET k\r\n"), ONEWAY);
	assert_int_equal(pushes_after(&pushes, HELLO "HELLO 2\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "RESET\r\n|+RESET\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "GET k\r\n||1\r\n+k\r\n+v\r\n"), 0);	/* an attribute, not yet its reply */
	assert_int_equal(pushes_after(&pushes, HELLO "PSYNC x -1\r\n|+CONTINUE\r\n"), 0);
}

/* --- close message --- */

static size_t
close_message_after(const char *text, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	static const struct codec_close_info o = { .dead = BACKEND, .reason = "backend-user-timeout", .idle_ms = 75300 };
	struct run r;
	size_t n;

	start(&r, NULL, text);
	n = codec_redis.close_message(r.state, CLIENT, &o, buf);
	assert_int_equal(codec_redis.close_message(r.state, BACKEND, &o, buf + n), 0);
	run_end(&r);
	return n;
}

static void
test_close_message_replies_to_an_open_command(void **state)
{
	uint8_t buf[2 * CODEC_CLOSE_MESSAGE_MAX];
	size_t n = close_message_after("GET k\r\n", buf);

	(void)state;
	assert_true(n > 10);
	assert_memory_equal(buf, "-ERR stent: ", 12);
	assert_memory_equal(buf + n - 2, "\r\n", 2);
	buf[n] = '\0';
	assert_non_null(strstr((char *)buf, "backend-user-timeout"));
	assert_non_null(strstr((char *)buf, "75.3 s"));
	assert_true(close_message_after("BLPOP k 0\r\n", buf) > 0);
	assert_int_equal(close_message_after("GET k\r\n|$1\r\nv\r\n", buf), 0);		/* none is open */
	assert_int_equal(close_message_after("GET k\r\n|$4\r\nva", buf), 0);			/* half a reply was sent */
	assert_int_equal(close_message_after("GET k\r\nGET k\r\n|$4\r\nvalu\r\n", buf) > 0, 1);
	assert_int_equal(close_message_after("SUBSCRIBE c\r\n", buf), 0);
	assert_int_equal(close_message_after("PSYNC x -1\r\n", buf), 0);
}

/* What was held back of a reply goes out when its sender ends: a close message would be part of it. */
static void
test_no_close_message_inside_a_reply_that_was_held(void **state)
{
	static const char *const begun[] = { "+", "+PON", "*2\r\n$4\r\npo", "$4\r\nPON" };
	const struct codec_close_info o = { .dead = BACKEND, .reason = "backend-reset" };
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(begun) / sizeof(begun[0]); i++) {
		struct run r;

		run_start(&r, &codec_redis, NULL);
		run_feed(&r, CLIENT, "GET k\r\n", 7);
		run_feed(&r, BACKEND, "$1\r\nv\r\n", 7);
		run_heartbeat(&r, BACKEND, PING);
		run_feed(&r, CLIENT, "GET k\r\n", 7);
		run_feed(&r, BACKEND, begun[i], strlen(begun[i]));
		run_fin(&r, BACKEND);
		assert_int_equal(r.got[CLIENT].len, 7 + strlen(begun[i]));
		assert_int_equal(codec_redis.close_message(r.state, CLIENT, &o, buf), 0);
		run_end(&r);
	}
}

static void
test_state_is_small(void **state)
{
	(void)state;
	assert_true(codec_redis.state_size <= 184);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pings_go_between_commands),
		cmocka_unit_test(test_other_conversations_stay_whole),
		cmocka_unit_test(test_a_subscriber_in_resp2_is_pinged),
		cmocka_unit_test(test_replication_stays_whole),
		cmocka_unit_test(test_streamed_replies_are_followed),
		cmocka_unit_test(test_nothing_before_the_first_command),
		cmocka_unit_test(test_no_heartbeat_inside_a_command),
		cmocka_unit_test(test_none_while_a_command_runs_unless_wanted),
		cmocka_unit_test(test_pings_behind_a_command_are_in_one_place),
		cmocka_unit_test(test_no_heartbeat_behind_a_one_shot_flag),
		cmocka_unit_test(test_pings_only_where_one_reply_is_certain),
		cmocka_unit_test(test_resp2_subscriptions_are_counted),
		cmocka_unit_test(test_a_debugger_is_left_alone),
		cmocka_unit_test(test_quotes_are_understood),
		cmocka_unit_test(test_none_on_a_replication_link),
		cmocka_unit_test(test_an_error_after_silence_ends_asking),
		cmocka_unit_test(test_resp3_subscriptions_are_counted),
		cmocka_unit_test(test_passthrough_for_the_unknown),
		cmocka_unit_test(test_passthrough_waits_for_the_reply),
		cmocka_unit_test(test_a_refused_ping_is_not_repeated),
		cmocka_unit_test(test_another_line_in_place_of_the_reply_is_taken_out),
		cmocka_unit_test(test_another_reply_in_place_of_the_reply_passes),
		cmocka_unit_test(test_errors_in_a_row_are_a_refusal),
		cmocka_unit_test(test_logged_out_is_no_refusal),
		cmocka_unit_test(test_a_reply_to_an_empty_line_is_taken_out),
		cmocka_unit_test(test_a_reply_too_many_ends_empty_lines),
		cmocka_unit_test(test_replies_that_may_be_the_client_s_own_pass),
		cmocka_unit_test(test_goodbyes),
		cmocka_unit_test(test_each_state_says_why_there_is_none),
		cmocka_unit_test(test_pushes_only_if_configured_and_in_resp3),
		cmocka_unit_test(test_close_message_replies_to_an_open_command),
		cmocka_unit_test(test_no_close_message_inside_a_reply_that_was_held),
		cmocka_unit_test(test_state_is_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
