/*
 * test_line.c - protocols of text lines: heartbeats between lines only,
 * replies taken out whole, look-alikes left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec_harness.h"

#define BYTES(text) { (uint8_t *)(uintptr_t)(text), sizeof(text) - 1 }

/* The backend replies with a whole line, the client with a text that any line end may follow. */
static const struct codec_settings pinging = {
	.heartbeats = { true, true },
	.heartbeat_send = { BYTES("hb?\n"), BYTES("PING\n") },
	.heartbeat_expect = { BYTES("alive"), BYTES("PONG 1\n") },
};
static const struct codec_settings telling = {
	.heartbeats = { true, true },
	.heartbeat_send = { BYTES("\r\n"), BYTES("# still here\n") },
};
/* A reply of three lines, whose first two are alike. */
static const struct codec_settings poem = {
	.heartbeats = { true, true },
	.heartbeat_send = { { NULL, 0 }, BYTES("VERSE\n") },
	.heartbeat_expect = { { NULL, 0 }, BYTES("a\na\nb\n") },
};

static const struct step look_alikes[] = {
	STEP(CLIENT, "GET a\r\n"), STEP(BACKEND, "PON\n"), STEP(BACKEND, "PONG 12\nPONG\nP\n\n"),
	STEP(CLIENT, "alive and well\nalive\r \nal\n"), STEP(BACKEND, "PONG 2\nxPONG 1\n"),
	STEP(CLIENT, "\n"), STEP(BACKEND, "PPPONG 1\n"), FIN(CLIENT), STEP(BACKEND, "bye, without an end"),
};
static const struct step verses[] = {
	STEP(CLIENT, "READ\n"), STEP(BACKEND, "a\n"), STEP(BACKEND, "x\na\na\n"), STEP(BACKEND, "c\nb\n"),
	STEP(CLIENT, "READ\n"), STEP(BACKEND, "a\na\na\nab\n"),
};
static const struct step starts_tls[] = {
	STEP(CLIENT, "STARTTLS\n"), STEP(BACKEND, "go ahead\n"), STEP(CLIENT, "\x16\x03\x01\x00\x05hello"),
	STEP(BACKEND, "\x16\x03\x03\n\nPONG\n"), STEP(CLIENT, "\x17\x03\x03\n"),
};

#define LINE(n, array, how, why) { .name = "line " n, .codec = &codec_line, \
	.settings = (how), TRANSCRIPT_STEPS(array), .passthrough = (why) }

static void
test_replies_are_taken_and_look_alikes_are_not(void **unused)
{
	static const struct transcript t = LINE("look-alikes", look_alikes, &pinging, NULL);
	struct tally tally = codec_check(&t);

	(void)unused;
	for (int side = CLIENT; side <= BACKEND; side++) {
		assert_true(tally.moments[side][HEARTBEAT_PING] > 10);
		assert_int_equal(tally.replies[side], tally.moments[side][HEARTBEAT_PING]);
		assert_int_equal(tally.moments[side][HEARTBEAT_ONEWAY], 0);
	}
}

static void
test_without_a_reply_it_is_oneway(void **unused)
{
	static const struct transcript t = LINE("telling", look_alikes, &telling, NULL);
	struct tally tally = codec_check(&t);

	(void)unused;
	for (int side = CLIENT; side <= BACKEND; side++) {
		assert_true(tally.moments[side][HEARTBEAT_ONEWAY] > 10);
		assert_int_equal(tally.moments[side][HEARTBEAT_PING], 0);
	}
}

/* "a a a b": the reply begins in the second line of what looked like it. */
static void
test_answer_of_several_lines(void **unused)
{
	static const struct transcript t = LINE("verses", verses, &poem, NULL);
	struct tally tally = codec_check(&t);

	(void)unused;
	assert_true(tally.replies[BACKEND] > 0);
	assert_int_equal(tally.moments[CLIENT][HEARTBEAT_ONEWAY], 0);
}

static void
test_answer_behind_its_own_beginning(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &poem);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	for (const char *p = "a\na\na\nb\nc\n"; *p != '\0'; p++)
		run_feed(&r, BACKEND, p, 1);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_int_equal(r.got[CLIENT].len, 4);
	assert_memory_equal(r.got[CLIENT].data, "a\nc\n", 4);
	run_end(&r);
}

static void
test_tls_ends_it(void **unused)
{
	static const struct transcript t = LINE("starttls", starts_tls, &pinging, "TLS");

	(void)unused;
	codec_check(&t);
}

/* The client's first line is under way: the backend must get no heartbeat, the client may. */
static void
test_heartbeats_only_between_lines(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &telling);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	run_feed(&r, CLIENT, "GE", 2);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_feed(&r, CLIENT, "T\r", 2);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_feed(&r, CLIENT, "\n", 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	assert_int_equal(run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY), 13);
	assert_memory_equal(r.got[BACKEND].data, "GET\r\n# still here\n", 18);
	run_end(&r);
}

/* A line that begins like the reply is held, and the receiver still stands between two lines. */
static void
test_held_bytes_come_at_the_first_that_differs(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &pinging);
	run_feed(&r, BACKEND, "PONG", 4);
	assert_int_equal(r.got[CLIENT].len, 4);		/* no ping was sent: nothing is held */
	run_feed(&r, BACKEND, "\n", 1);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	run_feed(&r, BACKEND, "PONG", 4);
	assert_int_equal(r.got[CLIENT].len, 5);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_PING);
	run_feed(&r, BACKEND, "!", 1);
	assert_int_equal(r.got[CLIENT].len, 10);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_feed(&r, BACKEND, "\nPONG 1\n", 8);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_memory_equal(r.got[CLIENT].data, "PONG\nPONG!\n", 11);
	assert_int_equal(r.got[CLIENT].len, 11);
	run_feed(&r, BACKEND, "PONG 1\n", 7);		/* one too many: the application's own */
	assert_int_equal(r.got[CLIENT].len, 18);
	run_end(&r);
}

static void
test_a_mute_peer_is_not_pinged_for_ever(void **unused)
{
	struct run r;
	int n;

	(void)unused;
	run_start(&r, &codec_line, &pinging);
	for (n = 0; n < 1000 && run_may_heartbeat(&r, BACKEND) != 0; n++)
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_int_equal(n, 100);
	run_feed(&r, BACKEND, "PONG 1\n", 7);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_PING);
	run_fin(&r, BACKEND);				/* it will reply no more */
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
expect_why(struct run *r, enum side to, const char *words)
{
	assert_int_equal(run_may_heartbeat(r, to), 0);
	assert_non_null(codec_line.why_none(r->state, to));
	assert_non_null(strstr(codec_line.why_none(r->state, to), words));
}

static void
test_it_says_why_there_is_none(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &pinging);
	assert_null(codec_line.why_none(r.state, BACKEND));
	run_feed(&r, CLIENT, "GE", 2);
	expect_why(&r, BACKEND, "inside a line");
	run_feed(&r, CLIENT, "T\n\x16", 3);
	expect_why(&r, BACKEND, "TLS");
	run_end(&r);
	run_start(&r, &codec_line, &poem);
	expect_why(&r, CLIENT, "no text");
	while (run_may_heartbeat(&r, BACKEND) != 0)
		run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	expect_why(&r, BACKEND, "replies");
	run_end(&r);
}

/* It looks like any other line of the application's. */
static void
test_a_reply_to_a_tell_passes(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &telling);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	run_feed(&r, BACKEND, "unknown command\n", 16);
	assert_int_equal(r.got[CLIENT].len, 16);
	assert_null(r.refused);
	run_end(&r);
}

/* No text, no heartbeat; and the stream is still followed. */
static void
test_a_side_without_a_text_gets_none(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &poem);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_PING);
	run_end(&r);
	run_start(&r, &codec_line, NULL);
	assert_int_equal(run_may_heartbeat(&r, CLIENT) | run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* A reply that is under way is known by the former text: the new settings wait for it. */
static void
test_changed_settings(void **unused)
{
	struct run r;

	(void)unused;
	run_start(&r, &codec_line, &pinging);
	run_heartbeat(&r, BACKEND, HEARTBEAT_PING);
	assert_false(codec_line.configure(r.state, &telling));
	run_feed(&r, BACKEND, "PONG 1\n", 7);
	assert_int_equal(r.replies[BACKEND], 1);
	assert_true(codec_line.configure(r.state, &telling));
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	assert_memory_equal(r.got[BACKEND].data + 5, "# still here\n", 13);
	run_end(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replies_are_taken_and_look_alikes_are_not),
		cmocka_unit_test(test_without_a_reply_it_is_oneway),
		cmocka_unit_test(test_answer_of_several_lines),
		cmocka_unit_test(test_answer_behind_its_own_beginning),
		cmocka_unit_test(test_tls_ends_it),
		cmocka_unit_test(test_heartbeats_only_between_lines),
		cmocka_unit_test(test_held_bytes_come_at_the_first_that_differs),
		cmocka_unit_test(test_a_mute_peer_is_not_pinged_for_ever),
		cmocka_unit_test(test_it_says_why_there_is_none),
		cmocka_unit_test(test_a_reply_to_a_tell_passes),
		cmocka_unit_test(test_a_side_without_a_text_gets_none),
		cmocka_unit_test(test_changed_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
