/*
 * test_http.c - HTTP/1.1 exchanges: bytes pass exactly, and whatever two
 * programs could disagree about leads to passthrough. Streams of events are
 * in test_http_events.c, bytes sent early in test_http_early.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "script.h"

#define GET "GET /x?y=1 HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK(headers) "HTTP/1.1 200 OK\r\n" headers "\r\n"
#define EVENTS OK("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n")

/* Exchanges of a connection that is kept alive, pairwise: request, response. */
static const char *const exchanges[][2] = {
	{ GET, OK("Content-Length: 5\r\n") "abcde" },
	{ "HEAD / HTTP/1.1\r\n\r\n", OK("Content-Length: 5\r\n") },
	{ "HEAD / HTTP/1.1\r\n\r\n", OK("Transfer-Encoding: chunked\r\n") },
	{ GET, "HTTP/1.1 204 No Content\r\n\r\n" },
	{ GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n" },
	{ GET, OK("content-length:\t0  \r\nCONTENT-LENGTH: 0\r\n") },
	{ "\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\n", OK("Content-Length: 0\r\n") },
	{ "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"
	    "3;n=\"v\"\r\nabc\r\n0A \r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n",
	    OK("Transfer-Encoding:chunked\r\n") "5;x\r\nabcde\r\n1 \t;y\r\nf\r\n1 \r\ng\r\n000\r\nTrailer: 1\r\nAnother: 2\r\n\r\n" },
	{ GET, "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\nHTTP/1.1 102 \r\n\r\n" OK("Content-Length: 1\r\n") "x" },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab" },
	{ "POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx", OK("Content-Length: 0\r\n") },
	{ "OPTIONS * HTTP/1.1\r\nUpgrade: h2c, websocket\r\n\r\n", OK("Upgrade: h2c\r\nContent-Length: 0\r\n") },
	{ "M-SEARCH / HTTP/1.1\r\nX-Empty:\r\nX-Odd: \xff \"a,b\"\r\n\r\n", OK("Content-Length: 0\r\n") },
	{ GET, OK("Content-Type: text/plain\r\n") "data: x\n\nuntil the end\r\n" },
};

static void
test_exchanges_of_all_sorts(void **state)
{
	struct script s = { 0 };
	struct tally tally;
	size_t n = sizeof(exchanges) / sizeof(exchanges[0]);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		script_say(&s, CLIENT, exchanges[i][0]);
		script_say(&s, BACKEND, exchanges[i][1]);
	}
	script_fin(&s, BACKEND);
	tally = script_check(&s, "exchanges of all sorts", &codec_http, NULL, NULL);
	assert_true(tally.skipped > 0);
	for (int to = 0; to < 2; to++)
		for (int kind = 1; kind < 8; kind++)
			assert_int_equal(tally.moments[to][kind], 0);
	script_check(&s, "exchanges of all sorts", &codec_websocket, NULL, NULL);
	script_free(&s);
}

static void
test_continue_and_early_responses(void **state)
{
	struct script s = { 0 };

	(void)state;
	script_say(&s, CLIENT, "POST / HTTP/1.1\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n");
	script_say(&s, BACKEND, "HTTP/1.1 100 Continue\r\n\r\n");
	script_say(&s, CLIENT, "abc");
	script_say(&s, BACKEND, "HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno");
	script_say(&s, CLIENT, "def");
	script_say(&s, CLIENT, "POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	script_say(&s, BACKEND, "HTTP/1.1 100 Continue\r\n\r\n");
	script_say(&s, BACKEND, OK("Content-Length: 0\r\n"));	/* the body comes all the same */
	script_say(&s, CLIENT, "abc");
	script_say(&s, CLIENT, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
	script_say(&s, BACKEND, OK("Transfer-Encoding: chunked\r\n") "1\r\na\r\n");
	script_say(&s, CLIENT, "1\r\nb\r\n");
	script_say(&s, BACKEND, "1\r\nb\r\n");
	script_say(&s, CLIENT, "0\r\n");
	script_say(&s, BACKEND, "0\r\nT: 1");
	script_say(&s, CLIENT, "T: 2\r\n\r\n");
	script_say(&s, BACKEND, "\r\n\r\n");
	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, OK("Content-Length: 1\r\n") "z");
	script_check(&s, "continue and early replies", &codec_http, NULL, NULL);
	script_free(&s);
}

/* ---- passthrough ---- */

static void
check_lost(const char *client, const char *backend, const char *why)
{
	struct script s = { 0 };

	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, OK("Content-Length: 1\r\n") "z");
	script_say(&s, CLIENT, client);
	if (*backend != '\0')
		script_say(&s, BACKEND, backend);
	script_say(&s, CLIENT, "and more from the client\r\n\r\n");
	script_say(&s, BACKEND, "and more from the backend\r\n\r\n");
	script_check(&s, why, &codec_http, NULL, why);
	script_free(&s);
}

static void
test_requests_that_make_it_let_go(void **state)
{
	(void)state;
	check_lost("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", "", "tunnel (CONNECT)");
	check_lost(GET GET, "", "pipelined requests");
	check_lost("\x16\3\1\2", "", "TLS");
	check_lost("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "HTTP/2");
	check_lost("SSH-2.0-x\r\n", "", "not HTTP/1");
	check_lost("OPTIONS sip:a SIP/2.0\r\n", "", "not HTTP/1");
	check_lost("DESCRIBE rtsp://h RTSP/1.0\r\n", "", "not HTTP/1");
	check_lost("GET /\r\n", "", "not HTTP/1");
	check_lost("{\"method\":1}\n", "", "not HTTP/1");
	check_lost("GET / HTTP/1.1\n", "", "malformed HTTP head");
	check_lost("GET / HTTP/1.1\r\nA: b\n", "", "malformed HTTP head");
	check_lost("GET / HTTP/1.1\r\nA : b\r\n", "", "malformed HTTP head");
	check_lost("GET / HTTP/1.1\r\nA: b\rc\r\n", "", "malformed HTTP head");
	check_lost("GET / HTTP/1.1\r\nA: b\r\n folded\r\n", "", "folded header line");
	check_lost("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "",
	    "Content-Length beside Transfer-Encoding");
	check_lost("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "",
	    "two Content-Lengths that differ");
	check_lost("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", "", "Content-Length is not a number");
	check_lost("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", "", "Content-Length is not a number");
	check_lost("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", "", "Content-Length is not a number");
	check_lost("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "",
	    "Content-Length is not a number");
	check_lost("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "", "Transfer-Encoding without chunked");
	check_lost("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "",
	    "chunked is not the last Transfer-Encoding");
	check_lost("POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", "", "Transfer-Encoding with parameters");
	check_lost("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "", "Transfer-Encoding in HTTP/1.0");
}

#define POST_CHUNKED "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

static void
test_bodies_that_make_it_let_go(void **state)
{
	(void)state;
	check_lost(POST_CHUNKED "x", "", "bad chunk size");
	check_lost(POST_CHUNKED "\r\n", "", "bad chunk size");
	check_lost(POST_CHUNKED ";a\r\n", "", "bad chunk size");
	check_lost(POST_CHUNKED "-1\r\n", "", "bad chunk size");
	check_lost(POST_CHUNKED "ffffffffffffffff\r\n", "", "bad chunk size");
	check_lost(POST_CHUNKED "00000000000000001\r\n", "", "bad chunk size");
	check_lost(POST_CHUNKED "5 0\r\n", "", "bad chunk size");	/* 5 to one reader, 80 to another */
	check_lost(POST_CHUNKED "5\t x\r\n", "", "bad chunk size");
	check_lost(POST_CHUNKED "1\nab", "", "bad chunk size");
	check_lost(POST_CHUNKED "1;a\nab", "", "bad chunk extension");
	check_lost(POST_CHUNKED "1\ra", "", "bad end of a chunk size");
	check_lost(POST_CHUNKED "1\r\nab", "", "bad end of a chunk");
	check_lost(POST_CHUNKED "1\r\na\rb", "", "bad end of a chunk");
	check_lost(POST_CHUNKED "0\r\n\n", "", "bad trailer");
	check_lost(POST_CHUNKED "0\r\na: b\n", "", "bad trailer");
	check_lost(POST_CHUNKED "0\r\n\rx", "", "bad trailer");
}

static void
test_responses_that_make_it_let_go(void **state)
{
	(void)state;
	check_lost(GET, "ICY 200 OK\r\n\r\n", "not HTTP/1");
	check_lost(GET, "\r\nHTTP/1.1 200 OK\r\n\r\n", "not HTTP/1");
	check_lost(GET, "HTTP/1.1 20 OK\r\n\r\n", "malformed HTTP head");
	check_lost(GET, "HTTP/1.1 099 OK\r\n\r\n", "malformed HTTP head");
	check_lost(GET, "HTTP/1.1 2000\r\n\r\n", "malformed HTTP head");
	check_lost(GET, "HTTP/1.1 204 No\r\n\r\nbody", "a response without a request");
	check_lost(GET, OK("Content-Length: 1\r\n") "xy", "a response without a request");
	check_lost(GET, OK("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
	    "Content-Length beside Transfer-Encoding");
	check_lost(GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0\r\n\r\n", "upgrade to another protocol");
	check_lost("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
	    "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "a response in place of 100-continue");
	check_lost("POST / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 9\r\n\r\n", WS_ACCEPT,
	    "101 before the request has ended");
}

static void
test_a_backend_that_speaks_first(void **state)
{
	struct script s = { 0 };

	(void)state;
	script_say(&s, BACKEND, "220 mail ESMTP\r\n");
	script_say(&s, CLIENT, GET);
	script_check(&s, "speaks first", &codec_http, NULL, "a response without a request");
	script_free(&s);
}

/* ---- payload that need not be seen ---- */

static void
start_response(struct run *r, const char *head)
{
	run_start(r, &codec_http, NULL);
	run_say(r, CLIENT, GET);
	run_say(r, BACKEND, head);
}

static void
test_length_and_end_are_counted(void **state)
{
	struct run r;

	(void)state;
	start_response(&r, OK("Content-Length: 1000000000000\r\n"));
	assert_int_equal(r.codec->skippable(r.state, BACKEND), 1000000000000);
	run_end(&r);
	start_response(&r, OK(""));
	assert_int_equal(r.codec->skippable(r.state, BACKEND), UINT64_MAX);
	run_end(&r);
	start_response(&r, OK("Transfer-Encoding: chunked\r\n") "FF\r\n");
	assert_int_equal(r.codec->skippable(r.state, BACKEND), 255);
	run_end(&r);
}

/* ---- the upgrade ---- */

static void
test_websocket_is_handed_over(void **state)
{
	struct script s = { 0 };
	struct tally tally;
	struct run r;

	(void)state;
	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, OK("Content-Length: 3\r\n") "abc");
	script_say(&s, CLIENT, WS_REQUEST);
	script_say(&s, BACKEND, WS_ACCEPT);
	script_frame(&s, BACKEND, 0x81, "hello", 5);
	script_frame(&s, CLIENT, 0x81, "hello", 5);
	tally = script_check(&s, "upgrade", &codec_http, NULL, NULL);
	assert_true(tally.replies[CLIENT] > 0 && tally.replies[BACKEND] > 0);
	script_free(&s);

	run_start(&r, &codec_http, NULL);
	run_say(&r, CLIENT, WS_REQUEST);
	assert_null(r.codec->actual(r.state));
	run_say(&r, BACKEND, WS_ACCEPT);
	assert_ptr_equal(r.codec->actual(r.state), &codec_websocket);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	run_end(&r);
}

/* Heads are matched as they pass: their size changes nothing. */
static void
test_a_megabyte_of_head(void **state)
{
	char *value = malloc(1 << 20);
	struct run r;

	(void)state;
	memset(value, 'v', 1 << 20);
	run_start(&r, &codec_http, NULL);
	run_say(&r, CLIENT, "GET /");
	run_feed(&r, CLIENT, value, 1 << 20);
	run_say(&r, CLIENT, " HTTP/1.1\r\nX: ");
	run_feed(&r, CLIENT, value, 1 << 20);
	run_say(&r, CLIENT, "\r\n\r\n");
	run_say(&r, BACKEND, EVENTS "3\r\n:x\n\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_end(&r);
	free(value);
	assert_true(codec_http.state_size <= 184);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchanges_of_all_sorts),
		cmocka_unit_test(test_continue_and_early_responses),
		cmocka_unit_test(test_requests_that_make_it_let_go),
		cmocka_unit_test(test_bodies_that_make_it_let_go),
		cmocka_unit_test(test_responses_that_make_it_let_go),
		cmocka_unit_test(test_a_backend_that_speaks_first),
		cmocka_unit_test(test_length_and_end_are_counted),
		cmocka_unit_test(test_websocket_is_handed_over),
		cmocka_unit_test(test_a_megabyte_of_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
