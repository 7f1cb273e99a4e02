/*
 * test_http_early.c - bytes sent early: zeros of the next chunk's size, and the
 * first bytes of a response. What then comes goes out less what was sent; what
 * does not fit ends in a reset.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "script.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
#define OK(headers) "HTTP/1.1 200 OK\r\n" headers "\r\n"
#define CHUNKED OK("Transfer-Encoding: chunked\r\n")

static const struct codec_settings early = {
	.heartbeats = { true, true }, .kind = { HEARTBEAT_EARLY, HEARTBEAT_EARLY },
};

/* A run whose settings are early; each text is one call to feed(). */
static void
start(struct run *r, const char *client, const char *backend)
{
	run_start(r, &codec_http, &early);
	run_say(r, CLIENT, client);
	if (*backend != '\0')
		run_say(r, BACKEND, backend);
}

/* Sends n bytes early to a side. */
static void
send_early(struct run *r, enum side to, int n)
{
	while (n-- > 0) {
		assert_int_equal(run_may_heartbeat(r, to), HEARTBEAT_EARLY);
		assert_int_equal(run_heartbeat(r, to, HEARTBEAT_EARLY), 1);
		assert_true(r->codec->is_early(r->state, to));
	}
}

static void
expect_end(const struct run *r, enum side to, const char *text)
{
	assert_true(run_ends(r, to, text, strlen(text)));
}

static void
test_transcripts(void **state)
{
	struct script s = { 0 };
	struct tally tally;

	(void)state;
	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, CHUNKED "5\r\nabcde\r\n");
	script_say(&s, BACKEND, "0000003\r\nabc\r\n");
	script_say(&s, BACKEND, "00000000000000a;x\r\n0123456789\r\n000\r\nX: 1\r\n\r\n");
	script_say(&s, CLIENT, POST);
	script_say(&s, CLIENT, "a\r\n0123456789\r\n");
	script_say(&s, CLIENT, "0\r\n\r\n");
	script_say(&s, BACKEND, "HTTP/1.1 103 Early Hints\r\n\r\n");
	script_say(&s, BACKEND, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx");
	script_say(&s, CLIENT, "HEAD / HTTP/1.1\r\n\r\n");
	script_say(&s, BACKEND, CHUNKED);
	tally = script_check(&s, "early", &codec_http, &early, NULL);
	assert_int_equal(tally.moments[CLIENT][HEARTBEAT_EARLY], 8);	/* places */
	assert_int_equal(tally.moments[BACKEND][HEARTBEAT_EARLY], 2);
	script_free(&s);
}

static void
test_none_unless_configured(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_http, NULL);
	run_say(&r, CLIENT, GET);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, CHUNKED);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
	run_start(&r, &codec_websocket, &early);
	run_say(&r, CLIENT, GET);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, CHUNKED);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
test_seven_zeros_a_gap(void **state)
{
	struct run r;

	(void)state;
	start(&r, GET, CHUNKED);
	send_early(&r, CLIENT, 7);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, "1f");
	assert_true(r.codec->is_early(r.state, CLIENT));	/* it may yet prove to be no size */
	expect_end(&r, CLIENT, "\r\n\r\n00000001f");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, "\r");
	assert_false(r.codec->is_early(r.state, CLIENT));
	run_say(&r, BACKEND, "\n0123456789012345678901234567890\r\n");
	send_early(&r, CLIENT, 7);
	run_say(&r, BACKEND, "0\r\n\r\n");
	expect_end(&r, CLIENT, "0\r\n0000000\r\n\r\n");
	assert_false(r.codec->is_early(r.state, CLIENT));
	run_end(&r);
}

/* Zeros of the real line cover those that were sent. */
static void
test_padded_size_comes_out_as_it_is(void **state)
{
	struct run r;

	(void)state;
	start(&r, GET, CHUNKED);
	send_early(&r, CLIENT, 3);
	run_say(&r, BACKEND, "00");
	assert_true(r.codec->is_early(r.state, CLIENT));
	run_say(&r, BACKEND, "00000000000001\r\na\r\n");
	assert_null(r.passthrough);
	expect_end(&r, CLIENT, "\r\n\r\n0000000000000001\r\na\r\n");
	run_end(&r);
}

/* 16 digits are what clients take. Nine real ones always fit. */
static void
test_size_too_long_for_zeros_is_a_reset(void **state)
{
	struct run r;

	(void)state;
	start(&r, GET, CHUNKED);
	send_early(&r, CLIENT, 7);
	run_say(&r, BACKEND, "fffffffff\r\n");
	assert_null(r.passthrough);
	assert_false(r.codec->is_early(r.state, CLIENT));
	run_end(&r);
	start(&r, GET, CHUNKED);
	send_early(&r, CLIENT, 7);
	run_say(&r, BACKEND, "fffffffff1\r\n");
	assert_string_equal(r.passthrough, "bad chunk size");
	assert_true(r.codec->is_early(r.state, CLIENT));
	run_end(&r);
}

static void
test_no_size_behind_zeros_is_a_reset(void **state)
{
	static const char *const no_sizes[] = { ";x\r\n", "x", "DELETE /x" };
	struct run r;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		start(&r, GET, CHUNKED);
		send_early(&r, CLIENT, 1);
		run_say(&r, BACKEND, no_sizes[i]);
		assert_string_equal(r.passthrough, "bad chunk size");
		assert_true(r.codec->is_early(r.state, CLIENT));
		run_end(&r);
	}
}

static void
test_zeros_to_the_backend(void **state)
{
	struct run r;

	(void)state;
	start(&r, POST, "");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);	/* the request has not ended */
	send_early(&r, BACKEND, 2);
	run_say(&r, CLIENT, "1\r\na\r\n0\r\n\r\n");
	expect_end(&r, BACKEND, "\r\n001\r\na\r\n0\r\n\r\n");
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	send_early(&r, CLIENT, 1);
	run_end(&r);
}

/* The server may refuse; then the client never sends it, but its next request. */
static void
test_no_zeros_before_a_body_that_waits_for_100_continue(void **state)
{
	struct run r;

	(void)state;
	start(&r, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", "");
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_say(&r, BACKEND, "HTTP/1.1 100 Continue\r\n\r\n");
	send_early(&r, BACKEND, 1);
	run_say(&r, CLIENT, "1\r\na\r\n0\r\n\r\n");
	expect_end(&r, BACKEND, "\r\n01\r\na\r\n0\r\n\r\n");
	run_end(&r);
}

static void
test_first_bytes_of_a_response(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_http, &early);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, CLIENT, "GET / HTTP/1.1\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, CLIENT, "\r\n");
	send_early(&r, CLIENT, 7);
	expect_end(&r, CLIENT, "HTTP/1.");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, "HTT");
	assert_true(r.codec->is_early(r.state, CLIENT));
	assert_int_equal(r.got[CLIENT].len, 7);
	run_say(&r, BACKEND, "P/1.");
	assert_false(r.codec->is_early(r.state, CLIENT));
	run_say(&r, BACKEND, "1 200 OK\r\nContent-Length: 0\r\n\r\n");
	expect_end(&r, CLIENT, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(r.got[CLIENT].len, strlen(OK("Content-Length: 0\r\n")));
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
test_another_response_than_http_is_a_reset(void **state)
{
	struct run r;

	(void)state;
	start(&r, GET, "");
	send_early(&r, CLIENT, 3);
	run_say(&r, BACKEND, "HTX");
	assert_string_equal(r.passthrough, "not HTTP/1");
	assert_true(r.codec->is_early(r.state, CLIENT));
	run_end(&r);

	start(&r, GET, "");	/* what was sent did come: no lie, no reset */
	send_early(&r, CLIENT, 2);
	run_say(&r, BACKEND, "HTX\r\n");
	assert_string_equal(r.passthrough, "not HTTP/1");
	assert_false(r.codec->is_early(r.state, CLIENT));
	expect_end(&r, CLIENT, "HTX\r\n");
	run_end(&r);
}

/* A FIN now would make this the whole response for a client. */
static void
test_fin_with_early_bytes_stays_early(void **state)
{
	static const char *const heads[] = { "", CHUNKED, CHUNKED "1\r\na\r\n" };
	struct run r;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		start(&r, GET, heads[i]);
		send_early(&r, CLIENT, 1);
		run_fin(&r, BACKEND);
		assert_true(r.codec->is_early(r.state, CLIENT));
		assert_null(r.passthrough);
		run_end(&r);
	}
	start(&r, GET GET, "");
	run_end(&r);
	start(&r, GET, "");
	send_early(&r, CLIENT, 1);
	run_say(&r, CLIENT, GET);	/* passthrough, and then the end */
	run_fin(&r, BACKEND);
	assert_true(r.codec->is_early(r.state, CLIENT));
	assert_null(r.passthrough);
	run_end(&r);
}

/* The client causes passthrough: first what was sent early is left out. */
static void
test_passthrough_waits_for_what_was_sent_early(void **state)
{
	struct run r;

	(void)state;
	start(&r, GET, "");
	send_early(&r, CLIENT, 4);
	run_say(&r, CLIENT, GET);
	assert_null(r.passthrough);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, CHUNKED);
	assert_string_equal(r.passthrough, "pipelined requests");
	assert_int_equal(r.got[CLIENT].len, strlen(CHUNKED));
	run_end(&r);
}

/* A reader that needs early bytes may not know comments. */
static void
test_no_comments_where_early_is_configured(void **state)
{
	struct run r;

	(void)state;
	start(&r, GET, OK("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"));
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_EARLY);
	run_say(&r, BACKEND, "1\r\na\r\n");
	send_early(&r, CLIENT, 2);	/* within a line */
	run_say(&r, BACKEND, "1\r\n\n\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_EARLY);
	run_end(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transcripts),
		cmocka_unit_test(test_none_unless_configured),
		cmocka_unit_test(test_seven_zeros_a_gap),
		cmocka_unit_test(test_padded_size_comes_out_as_it_is),
		cmocka_unit_test(test_size_too_long_for_zeros_is_a_reset),
		cmocka_unit_test(test_no_size_behind_zeros_is_a_reset),
		cmocka_unit_test(test_zeros_to_the_backend),
		cmocka_unit_test(test_no_zeros_before_a_body_that_waits_for_100_continue),
		cmocka_unit_test(test_first_bytes_of_a_response),
		cmocka_unit_test(test_another_response_than_http_is_a_reset),
		cmocka_unit_test(test_fin_with_early_bytes_stays_early),
		cmocka_unit_test(test_passthrough_waits_for_what_was_sent_early),
		cmocka_unit_test(test_no_comments_where_early_is_configured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
