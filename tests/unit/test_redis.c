/*
 * test_redis.c - the Redis codec: conversations with a real server in every
 * way in which they may be cut and beaten, and each state in which a beat
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

#define TELL BEAT_TELL
#define BOTH (BEAT_TELL | BEAT_ASK)

static const struct codec_settings pushes = {
	.heartbeats = { true, true },
	.kind = { BEAT_TELL, BEAT_TELL },
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
test_commands_are_told_and_asked_between(void **state)
{
	struct tally t = CHECK(redis_plain, NULL);

	(void)state;
	assert_true(t.moments[BACKEND][BEAT_TELL] > 20);
	assert_true(t.moments[BACKEND][BEAT_ASK] > 10);
	assert_int_equal(t.answers[BACKEND], t.moments[BACKEND][BEAT_ASK]);
	assert_int_equal(t.moments[CLIENT][BEAT_TELL], 0);
	assert_true(t.skipped > 500);	/* the long value, both ways */
}

static void
test_other_conversations_stay_whole(void **state)
{
	(void)state;
	assert_true(CHECK(redis_transactions, NULL).moments[BACKEND][BEAT_ASK] > 0);
	assert_true(CHECK(redis_resp3, NULL).moments[BACKEND][BEAT_ASK] > 20);
	assert_true(CHECK(redis_resp3, &pushes).moments[CLIENT][BEAT_TELL] > 20);
	assert_true(CHECK(redis_subscriber, NULL).moments[BACKEND][BEAT_TELL] > 0);
	assert_true(CHECK(redis_silence, NULL).moments[BACKEND][BEAT_TELL] > 0);
	assert_true(CHECK(redis_silence, &pushes).moments[CLIENT][BEAT_TELL] > 0);
	assert_true(CHECK(redis_login, NULL).moments[BACKEND][BEAT_ASK] > 0);
	assert_true(CHECK(redis_monitor, NULL).moments[BACKEND][BEAT_TELL] > 0);
	assert_true(CHECK(redis_py, NULL).moments[BACKEND][BEAT_ASK] > 0);
	assert_true(CHECK(node_redis, &pushes).moments[CLIENT][BEAT_TELL] > 0);
}

static void
test_replication_stays_whole(void **state)
{
	struct tally t = CHECK(redis_replica, &pushes);

	(void)state;
	assert_int_equal(t.moments[CLIENT][BEAT_TELL], 0);
	assert_true(t.moments[BACKEND][BEAT_TELL] > 0);		/* before PSYNC */
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
	assert_true(CHECK(streamed, &pushes).moments[BACKEND][BEAT_ASK] > 0);
}

/* --- single moments --- */

/* Commands are sent and answered in turn: "command|reply|command|reply...". */
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

/* What may go to the backend after this talk. */
static unsigned
kinds_after(const char *text)
{
	struct run r;
	unsigned kinds;

	start(&r, NULL, text);
	assert_null(r.lost);
	kinds = run_may_beat(&r, BACKEND);
	run_end(&r);
	return kinds;
}

static const char *
lost_after(const char *text)
{
	struct run r;
	const char *lost;

	start(&r, NULL, text);
	lost = r.lost;
	run_end(&r);
	return lost;
}

static void
test_nothing_before_the_first_command(void **state)
{
	(void)state;
	assert_int_equal(kinds_after(""), 0);	/* it might be TLS */
	assert_int_equal(kinds_after("GET k"), 0);
	assert_int_equal(kinds_after("GET k\r\n"), TELL);
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n"), BOTH);
}

static void
test_no_beat_inside_a_command(void **state)
{
	static const char whole[] = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

	(void)state;
	for (size_t n = 1; n < sizeof(whole) - 1; n++) {
		struct run r;

		start(&r, NULL, "GET k\r\n|$1\r\nv\r\n");
		run_feed(&r, CLIENT, whole, n);
		assert_int_equal(run_may_beat(&r, BACKEND), 0);
		run_end(&r);
	}
}

/* An empty line uses up these flags: the reply that must not come would come, the key would not be tracked. */
static void
test_no_beat_behind_a_one_shot_flag(void **state)
{
	(void)state;
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n|CLIENT REPLY SKIP\r\n"), 0);
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n|CLIENT REPLY SKIP\r\nGET k\r\n") & TELL, TELL);
	assert_int_equal(kinds_after("client caching yes\r\n|+OK\r\n"), 0);
	assert_int_equal(kinds_after("CLIENT CACHING NO\r\n|+OK\r\n|CLIENT ID\r\n|:7\r\n"), 0);	/* still */
	assert_int_equal(kinds_after("CLIENT CACHING YES\r\n|+OK\r\n|GET k\r\n|$1\r\nv\r\n"), BOTH);
	assert_int_equal(kinds_after("ASKING\r\n|+OK\r\n"), 0);
	assert_int_equal(kinds_after("ASKING\r\n|+OK\r\n|GET k\r\n|$1\r\nv\r\n"), BOTH);
	/* The skipped command itself may be one of CLIENT's, which leaves CACHING standing. */
	assert_int_equal(kinds_after("CLIENT CACHING YES\r\n|+OK\r\n|CLIENT REPLY SKIP\r\nCLIENT ID\r\n"), 0);
	/* So does the client's own empty line use it up. */
	assert_int_equal(kinds_after("ASKING\r\n|+OK\r\n|\r\n"), BOTH);
}

static void
test_asks_only_where_one_reply_is_certain(void **state)
{
	(void)state;
	assert_int_equal(kinds_after("GET k\r\nGET k\r\n|$1\r\nv\r\n"), TELL);		/* one is outstanding */
	assert_int_equal(kinds_after("GET k\r\n|-NOAUTH Authentication required.\r\n"), TELL);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n"), TELL);			/* QUEUED, one element more */
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|EXEC\r\n|*0\r\n"), BOTH);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|EXEC\r\n|*-1\r\n"), BOTH);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|DISCARD\r\n|+OK\r\n"), BOTH);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|EXEC\r\n|-EXECABORT Transaction discarded\r\n"), BOTH);
	assert_int_equal(kinds_after("MULTI\r\n|+OK\r\n|DISCARD\r\n|-NOPERM no\r\n"), TELL);
	assert_int_equal(kinds_after("MULTI\r\nEXEC\r\nMULTI\r\n|+OK\r\n*0\r\n+OK\r\n"), TELL);
	assert_int_equal(kinds_after("SUBSCRIBE c\r\n|*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), TELL);
	assert_int_equal(kinds_after("MONITOR\r\n|+OK\r\n"), TELL);
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n|CLIENT REPLY OFF\r\n"), TELL);
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n|CLIENT REPLY OFF\r\nGET k\r\nCLIENT REPLY ON\r\n|+OK\r\n"), BOTH);
	assert_int_equal(kinds_after("RESET\r\n|+RESET\r\n"), TELL);			/* logged out, perhaps */
	assert_int_equal(kinds_after("RESET\r\n|+RESET\r\n|GET k\r\n|$1\r\nv\r\n"), BOTH);
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n+more\r\n"), TELL);		/* unasked for */
	assert_int_equal(kinds_after("QUIT\r\n"), 0);
}

/* A master takes a beat for a sign of the replica, which is to speak for itself. */
static void
test_none_on_a_replication_link(void **state)
{
#define PSYNC "REPLCONF capa eof\r\n|+OK\r\n|PSYNC ? -1\r\n"

	(void)state;
	assert_int_equal(kinds_after("REPLCONF capa eof\r\n|+OK\r\n"), BOTH);
	assert_int_equal(kinds_after(PSYNC), 0);
	assert_int_equal(kinds_after(PSYNC "|+FULLRESYNC x 0\r\n\n\n$3\r\nRDB|\n\n"), 0);
	assert_int_equal(kinds_after(PSYNC "|+CONTINUE\r\n|*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n"), 0);
	assert_int_equal(kinds_after("SYNC\r\n"), 0);
}

/* CLIENT REPLY OFF may have been refused: then what follows is answered after all. */
static void
test_an_error_after_silence_ends_asking(void **state)
{
	(void)state;
	assert_int_equal(kinds_after("GET k\r\n|$1\r\nv\r\n|CLIENT REPLY SKIP\r\nGET k\r\nGET k\r\n|-NOPERM no\r\n"), TELL);
}

static void
test_resp3_subscriptions_are_counted(void **state)
{
#define HELLO "HELLO 3\r\n|%1\r\n+proto\r\n:3\r\n|"
#define CONFIRM(c) ">3\r\n$9\r\nsubscribe\r\n$1\r\n" c "\r\n:1\r\n"

	(void)state;
	assert_int_equal(kinds_after(HELLO), BOTH);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n"), TELL);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n|" CONFIRM("a")), TELL);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n|" CONFIRM("a") CONFIRM("b")), BOTH);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a b\r\n|" CONFIRM("a") ">3\r\n$7\r\nmessage\r\n+a\r\n+m\r\n" CONFIRM("b")), BOTH);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|-NOPERM no\r\n"), TELL);
	assert_int_equal(kinds_after(HELLO "UNSUBSCRIBE\r\n"), TELL);
	/* In RESP2 again, and still subscribed: PING is answered by an array there. */
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|" CONFIRM("a") "|HELLO 2\r\n|*2\r\n+proto\r\n:2\r\n"), TELL);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|" CONFIRM("a") "|HELLO 3\r\n|%1\r\n+proto\r\n:3\r\n"), BOTH);
	assert_int_equal(kinds_after(HELLO "HELLO 2\r\n|*2\r\n+proto\r\n:2\r\n"), BOTH);
	assert_int_equal(kinds_after(HELLO "SUBSCRIBE a\r\n|" CONFIRM("a") "|RESET\r\n|+RESET\r\n|GET k\r\n|$1\r\nv\r\n"), BOTH);
	assert_int_equal(kinds_after(HELLO "PING\r\n|>2\r\n$10\r\ninvalidate\r\n_\r\n+PONG\r\n"), BOTH);
}

static void
test_it_lets_go_of_what_it_does_not_know(void **state)
{
	(void)state;
	assert_string_equal(lost_after("\x16\x03\x01"), "TLS");
	assert_non_null(lost_after("\x16\x04"));
	assert_non_null(lost_after("{\"json\": 1}\r\n"));
	assert_non_null(lost_after("*2\r\n:3\r\n"));
	assert_non_null(lost_after("*x\r\n"));
	assert_non_null(lost_after("*1\r\n$-1\r\n"));
	assert_non_null(lost_after("set 'quoted' 1\r\n"));
	assert_non_null(lost_after("MULTI\r\n|+OK\r\n|CLIENT REPLY OFF\r\n"));
	assert_non_null(lost_after("GET k\r\n|HTTP/1.1 400 Bad Request\r\n"));
	assert_non_null(lost_after("GET k\r\n|+no CR\n"));
	assert_non_null(lost_after("GET k\r\n|.\r\n"));
	assert_non_null(lost_after("GET k\r\n|;4\r\nHell\r\n"));
	assert_non_null(lost_after("GET k\r\n|*?\r\n*?\r\n*?\r\n*?\r\n"));
	assert_non_null(lost_after("GET k\r\n|*99999999999\r\n"));
	assert_null(lost_after("GET k\r\n|*?\r\n*?\r\n*?\r\n.\r\n.\r\n.\r\n"));
}

/* While an answer of ours is to come, doubt about the client's bytes waits for it. */
static void
test_doubt_waits_for_the_answer(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, "GET k\r\n|$1\r\nv\r\n");
	run_beat(&r, BACKEND, BEAT_ASK);
	run_feed(&r, CLIENT, "*x\r\n", 4);
	assert_null(r.lost);
	assert_int_equal(run_may_beat(&r, BACKEND), 0);
	run_feed(&r, BACKEND, "+PONG\r\n", 7);
	assert_non_null(r.lost);
	assert_int_equal(r.answers[BACKEND], 1);
	assert_int_equal(r.got[CLIENT].len, 7);		/* the value alone */
	run_end(&r);
}

static void
ask_and_hear(const char *reply, unsigned kinds, size_t got)
{
	struct run r;

	start(&r, NULL, "GET k\r\n|$1\r\nv\r\n");
	run_beat(&r, BACKEND, BEAT_ASK);
	run_feed(&r, BACKEND, reply, strlen(reply));
	assert_int_equal(r.answers[BACKEND], 1);
	assert_int_equal(run_may_beat(&r, BACKEND), kinds);
	assert_int_equal(r.got[CLIENT].len - 7, got);
	run_end(&r);
}

/* Each refusal of PING is written down in the server's log of access: one is enough. */
static void
test_a_refused_ping_is_not_repeated(void **state)
{
	(void)state;
	ask_and_hear("+PONG\r\n", BOTH, 0);
	ask_and_hear("-NOPERM this user has no permissions to run the 'ping' command\r\n", TELL, 0);
	ask_and_hear("-LOADING Redis is loading the dataset in memory\r\n", BOTH, 0);
	ask_and_hear("-MISCONF Redis is configured to save RDB snapshots\r\n", BOTH, 0);
	ask_and_hear(">2\r\n+a\r\n+b\r\n+PONG\r\n>2\r\n+c\r\n+d\r\n", BOTH, 24);
}

static void
test_another_reply_in_place_of_the_answer_passes(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, "GET k\r\n|$1\r\nv\r\n");
	run_beat(&r, BACKEND, BEAT_ASK);
	run_feed(&r, BACKEND, "+POxx\r\n", 7);
	assert_non_null(r.lost);
	assert_int_equal(r.got[CLIENT].len, 14);
	assert_memory_equal(r.got[CLIENT].data + 7, "+POxx\r\n", 7);
	run_end(&r);
}

/* --- to the client --- */

static unsigned
pushes_after(const struct codec_settings *settings, const char *text)
{
	struct run r;
	unsigned kinds;

	start(&r, settings, text);
	kinds = run_may_beat(&r, CLIENT);
	run_end(&r);
	return kinds;
}

static void
test_pushes_only_when_told_so_and_in_resp3(void **state)
{
	static const struct codec_settings asks = { .heartbeats = { true, true }, .kind = { 0, BEAT_ASK } };

	(void)state;
	assert_int_equal(pushes_after(&pushes, HELLO), TELL);
	assert_int_equal(pushes_after(NULL, HELLO), 0);
	assert_int_equal(pushes_after(&asks, HELLO), 0);
	assert_int_equal(pushes_after(&pushes, "GET k\r\n|$1\r\nv\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, "HELLO 2\r\n|*2\r\n+proto\r\n:2\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, "HELLO 3\r\n|-NOPROTO no\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "GET k\r\n|$4\r\nva"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "GET k\r\n"), TELL);
	assert_int_equal(pushes_after(&pushes, HELLO "HELLO 2\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "RESET\r\n|+RESET\r\n"), 0);
	assert_int_equal(pushes_after(&pushes, HELLO "GET k\r\n||1\r\n+k\r\n+v\r\n"), 0);	/* an attribute, not yet its reply */
	assert_int_equal(pushes_after(&pushes, HELLO "PSYNC x -1\r\n|+CONTINUE\r\n"), 0);
}

/* --- farewell --- */

static size_t
farewell_after(const char *text, uint8_t buf[CODEC_FAREWELL_MAX])
{
	static const struct codec_obituary o = { .dead = BACKEND, .reason = "backend-user-timeout", .quiet_ms = 75300 };
	struct run r;
	size_t n;

	start(&r, NULL, text);
	n = codec_redis.farewell(r.state, CLIENT, &o, buf);
	assert_int_equal(codec_redis.farewell(r.state, BACKEND, &o, buf + n), 0);
	run_end(&r);
	return n;
}

static void
test_farewell_answers_an_open_command(void **state)
{
	uint8_t buf[2 * CODEC_FAREWELL_MAX];
	size_t n = farewell_after("GET k\r\n", buf);

	(void)state;
	assert_true(n > 10);
	assert_memory_equal(buf, "-ERR stent: ", 12);
	assert_memory_equal(buf + n - 2, "\r\n", 2);
	buf[n] = '\0';
	assert_non_null(strstr((char *)buf, "backend-user-timeout"));
	assert_non_null(strstr((char *)buf, "75.3 s"));
	assert_true(farewell_after("BLPOP k 0\r\n", buf) > 0);
	assert_int_equal(farewell_after("GET k\r\n|$1\r\nv\r\n", buf), 0);		/* none is open */
	assert_int_equal(farewell_after("GET k\r\n|$4\r\nva", buf), 0);			/* half a reply was sent */
	assert_int_equal(farewell_after("GET k\r\nGET k\r\n|$4\r\nvalu\r\n", buf) > 0, 1);
	assert_int_equal(farewell_after("SUBSCRIBE c\r\n", buf), 0);
	assert_int_equal(farewell_after("PSYNC x -1\r\n", buf), 0);
}

static void
test_state_is_small(void **state)
{
	(void)state;
	assert_true(codec_redis.state_size <= 176);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands_are_told_and_asked_between),
		cmocka_unit_test(test_other_conversations_stay_whole),
		cmocka_unit_test(test_replication_stays_whole),
		cmocka_unit_test(test_streamed_replies_are_followed),
		cmocka_unit_test(test_nothing_before_the_first_command),
		cmocka_unit_test(test_no_beat_inside_a_command),
		cmocka_unit_test(test_no_beat_behind_a_one_shot_flag),
		cmocka_unit_test(test_asks_only_where_one_reply_is_certain),
		cmocka_unit_test(test_none_on_a_replication_link),
		cmocka_unit_test(test_an_error_after_silence_ends_asking),
		cmocka_unit_test(test_resp3_subscriptions_are_counted),
		cmocka_unit_test(test_it_lets_go_of_what_it_does_not_know),
		cmocka_unit_test(test_doubt_waits_for_the_answer),
		cmocka_unit_test(test_a_refused_ping_is_not_repeated),
		cmocka_unit_test(test_another_reply_in_place_of_the_answer_passes),
		cmocka_unit_test(test_pushes_only_when_told_so_and_in_resp3),
		cmocka_unit_test(test_farewell_answers_an_open_command),
		cmocka_unit_test(test_state_is_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
