/*
 * test_websocket.c - WebSocket from its first request to its Close: exact for
 * all frames that RFC 6455 has, and each fact about our pings and pongs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec/http.h"
#include "script.h"

#define NONCE "va7uu7"	/* of RUN_SEED */

enum { TEXT = 0x81, BINARY = 0x82, CLOSE = 0x88, PING = 0x89, PONG = 0x8a,
	TEXT_PART = 0x01, PART = 0x00, LAST_PART = 0x80, RSV1 = 0x40 };

#define OUR_PING_LEN(to) ((size_t)((to) == BACKEND ? 6 : 2) + WS_TOKEN)

static uint8_t bulk[70000];

static void
shake_hands(struct script *s)
{
	script_say(s, CLIENT, WS_REQUEST);
	script_say(s, BACKEND, WS_ACCEPT);
}

/* A run whose handshake is done. */
static void
start(struct run *r)
{
	run_start(r, &codec_websocket, NULL);
	run_say(r, CLIENT, WS_REQUEST);
	run_say(r, BACKEND, WS_ACCEPT);
}

/* Pings a side; writes the pong that its program would send. */
static size_t
ping_side(struct run *r, enum side to, uint8_t pong[WS_HOLD])
{
	const struct codec_settings none = { .heartbeats = { true, true } };
	uint8_t reply[PEER_REPLY_MAX];
	size_t n;

	assert_true(run_may_heartbeat(r, to) & HEARTBEAT_PING);
	n = run_heartbeat(r, to, HEARTBEAT_PING);
	n = codec_peer_of(r->codec)->reply(&none, to, r->got[to].data + r->got[to].len - n, n, reply);
	assert_int_equal(n, OUR_PING_LEN(side_other(to)));
	memcpy(pong, reply, n);
	return n;
}

/* True: the frame that a side sends is taken out. */
static bool
is_taken(struct run *r, enum side from, const uint8_t *frame, size_t len)
{
	size_t before = r->got[side_other(from)].len;

	run_feed(r, from, frame, len);
	if (r->got[side_other(from)].len == before)
		return true;
	assert_true(run_ends(r, side_other(from), frame, len));
	return false;
}

/* Clients that do not mask their pongs, or in name only, and servers that do: our ping drew that fault. */
static void
test_our_pong_is_known_whatever_its_mask(void **state)
{
	uint8_t pong[WS_HOLD], wrong[WS_HOLD];
	struct run r;

	(void)state;
	start(&r);
	for (int i = 0; i < 2; i++) {
		(void)ping_side(&r, CLIENT, pong);
		wrong[0] = pong[0];
		wrong[1] = (uint8_t)(i == 0 ? WS_TOKEN : 0x80 | WS_TOKEN);	/* no mask; a mask that was not applied */
		memcpy(wrong + 2, "\1\2\3\4", 4);
		for (size_t k = 0; k < WS_TOKEN; k++)
			wrong[(i == 0 ? 2 : 6) + k] = pong[6 + k] ^ pong[2 + k % 4];
		assert_true(is_taken(&r, CLIENT, wrong, (i == 0 ? 2 : 6) + WS_TOKEN));
	}
	(void)ping_side(&r, BACKEND, pong);
	wrong[1] = 0x80 | WS_TOKEN;
	for (size_t k = 0; k < WS_TOKEN; k++)
		wrong[6 + k] = pong[2 + k] ^ wrong[2 + k % 4];
	assert_true(is_taken(&r, BACKEND, wrong, 6 + WS_TOKEN));
	assert_null(r.passthrough);
	run_end(&r);
}

/* ---- exact ---- */

static void
test_all_sorts_of_frames(void **state)
{
	static const size_t sizes[] = { 0, 1, 126 };
	struct script s = { 0 };
	struct tally tally;

	(void)state;
	shake_hands(&s);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		script_frame(&s, BACKEND, BINARY, bulk, sizes[i]);
		script_frame(&s, CLIENT, i % 2 == 0 ? BINARY : BINARY | RSV1, bulk, sizes[i]);
	}
	script_frame(&s, BACKEND, PING, bulk, 125);
	script_frame(&s, CLIENT, PONG, bulk, 125);
	script_frame(&s, CLIENT, CLOSE, "\x03\xe8", 2);
	script_frame(&s, BACKEND, CLOSE, "\x03\xe8", 2);
	script_fin(&s, BACKEND);
	tally = script_check(&s, "all sorts of frames", &codec_websocket, NULL, NULL);
	for (int to = 0; to < 2; to++) {
		assert_true(tally.moments[to][HEARTBEAT_ONEWAY] > 10);
		assert_true(tally.moments[to][HEARTBEAT_PING] > 10);
		assert_true(tally.replies[to] > 10);
	}
	assert_true(tally.skipped > 0);
	script_free(&s);
}

static void
test_fragments_with_control_frames_between(void **state)
{
	struct script s = { 0 };
	struct tally tally;

	(void)state;
	shake_hands(&s);
	for (int from = 0; from < 2; from++) {
		enum side side = (enum side)from;

		script_frame(&s, side, TEXT_PART | RSV1, "ab", 2);
		script_frame(&s, side, PING, "", 0);
		script_frame(&s, side_other(side), PONG, "", 0);
		script_frame(&s, side, PART, "", 0);
		script_frame(&s, side, PONG, "unasked 12 b", 12);
		script_frame(&s, side, LAST_PART, "cd", 2);
		script_frame(&s, side, PONG, "stent-hb\x70\0\0", 12);
	}
	tally = script_check(&s, "fragments", &codec_websocket, NULL, NULL);
	assert_true(tally.moments[CLIENT][HEARTBEAT_PING] > 5 && tally.moments[BACKEND][HEARTBEAT_PING] > 5);
	script_free(&s);
}

/* Lengths of 64 bits; payload that is forwarded unread, all of it. */
static void
test_long_payload_is_not_seen(void **state)
{
	uint8_t *frame = malloc(WS_FRAME_MAX(sizeof(bulk)));
	struct run r;

	(void)state;
	for (int from = 0; from < 2; from++) {
		enum side side = (enum side)from;
		size_t len = ws_frame(frame, side, BINARY, bulk, sizeof(bulk)), head = len - sizeof(bulk);

		start(&r);
		run_feed(&r, side, frame, head);
		assert_int_equal(r.codec->skippable(r.state, side), sizeof(bulk));
		assert_int_equal(run_may_heartbeat(&r, side_other(side)), 0);
		run_feed(&r, side, frame + head, 5);
		assert_int_equal(run_skip(&r, side, frame + head + 5, SIZE_MAX), sizeof(bulk) - 5);
		assert_int_equal(r.codec->skippable(r.state, side), 0);
		assert_true(run_may_heartbeat(&r, side_other(side)) & HEARTBEAT_PING);
		run_end(&r);
	}
	free(frame);
}

static void
test_frames_right_behind_the_heads(void **state)
{
	uint8_t text[512];
	struct script s = { 0 };
	size_t n = strlen(WS_ACCEPT);

	(void)state;
	script_say(&s, CLIENT, WS_REQUEST);
	memcpy(text, WS_ACCEPT, n);
	n += ws_frame(text + n, BACKEND, TEXT, "welcome", 7);
	n += ws_frame(text + n, BACKEND, PING, "early", 5);
	script_bytes(&s, BACKEND, text, n);
	script_frame(&s, CLIENT, PONG, "early", 5);
	script_check(&s, "frames behind the 101", &codec_websocket, NULL, NULL);
	script_check(&s, "frames behind the 101", &codec_http, NULL, NULL);
	script_free(&s);
}

/* A client need not wait for the 101. */
static void
test_frames_right_behind_the_request(void **state)
{
	static const struct codec *const codecs[] = { &codec_websocket, &codec_http, &codec_auto };
	uint8_t text[1024];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct script s = { 0 };
		struct tally tally;
		size_t n = strlen(WS_REQUEST);

		memcpy(text, WS_REQUEST, n);
		n += ws_frame(text + n, CLIENT, TEXT, "early", 5);
		n += ws_frame(text + n, CLIENT, PING, "ping", 4);
		script_bytes(&s, CLIENT, text, n);
		script_frame(&s, CLIENT, TEXT_PART, bulk, 200);
		script_say(&s, BACKEND, "HTTP/1.1 102 Processing\r\n\r\n");
		script_frame(&s, CLIENT, LAST_PART, "", 0);
		n = strlen(WS_ACCEPT);
		memcpy(text, WS_ACCEPT, n);
		n += ws_frame(text + n, BACKEND, TEXT, "welcome", 7);
		script_bytes(&s, BACKEND, text, n);
		script_frame(&s, BACKEND, PONG, "ping", 4);
		script_frame(&s, CLIENT, TEXT, "hello", 5);
		tally = script_check(&s, "frames behind the request", codecs[i], NULL, NULL);
		assert_true(tally.moments[CLIENT][HEARTBEAT_PING] > 5 && tally.moments[BACKEND][HEARTBEAT_PING] > 3);
		script_free(&s);
	}
}

/* The 101 comes in the middle of a frame, wherever that is cut: no heartbeat goes into it. */
static void
test_the_101_comes_within_an_early_frame(void **state)
{
	static const uint8_t ops[] = { TEXT, PING, PONG };
	uint8_t frame[WS_FRAME_MAX(300)], pong[WS_HOLD];

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(ops); i++) {
		const size_t len = ws_frame(frame, CLIENT, ops[i / 2], bulk, i % 2 == 0 ? 15 : ops[i / 2] == TEXT ? 300 : 0);

		for (size_t cut = 1; cut <= len; cut++) {
			struct run r;

			run_start(&r, &codec_websocket, NULL);
			run_say(&r, CLIENT, WS_REQUEST);
			run_feed(&r, CLIENT, frame, cut);
			assert_true(run_ends(&r, BACKEND, frame, cut));	/* at once */
			run_say(&r, BACKEND, WS_ACCEPT);
			assert_true(run_may_heartbeat(&r, CLIENT) & HEARTBEAT_PING);
			assert_true((run_may_heartbeat(&r, BACKEND) != 0) == (cut == len));
			ping_side(&r, CLIENT, pong);
			run_feed(&r, CLIENT, frame + cut, len - cut);
			assert_true(run_ends(&r, BACKEND, frame, len));
			assert_int_equal(run_may_heartbeat(&r, BACKEND), ops[i / 2] == PING ? HEARTBEAT_ONEWAY : HEARTBEAT_ONEWAY | HEARTBEAT_PING);
			assert_true(is_taken(&r, CLIENT, pong, 6 + WS_TOKEN));
			assert_null(r.passthrough);
			run_end(&r);
		}
	}
}

static void
test_other_requests_come_first(void **state)
{
	struct script s = { 0 };
	struct tally tally;

	(void)state;
	script_say(&s, CLIENT, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	script_say(&s, BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
	script_say(&s, CLIENT, WS_REQUEST);
	script_say(&s, BACKEND, "HTTP/1.1 401 No\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno");
	script_say(&s, CLIENT, WS_REQUEST);
	script_say(&s, BACKEND, "HTTP/1.1 102 Processing\r\n\r\n");
	script_say(&s, BACKEND, "HTTP/1.1 426 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n");
	script_say(&s, CLIENT, WS_REQUEST);
	script_say(&s, BACKEND, WS_ACCEPT);
	script_frame(&s, CLIENT, TEXT, "hello", 5);
	tally = script_check(&s, "other requests first", &codec_websocket, NULL, NULL);
	assert_true(tally.replies[CLIENT] > 0 && tally.replies[BACKEND] > 0);
	script_free(&s);
}

/* ---- passthrough ---- */

static void
check_lost(enum side from, const void *bytes, size_t len, const char *why)
{
	struct script s = { 0 };

	shake_hands(&s);
	script_frame(&s, BACKEND, TEXT, "hi", 2);
	s.fault = s.n;
	script_bytes(&s, from, bytes, len);
	script_frame(&s, CLIENT, TEXT, "more of it", 10);
	script_frame(&s, BACKEND, TEXT, "and more", 8);
	script_check(&s, why, &codec_websocket, NULL, why);
	script_free(&s);
}

#define LOST(from, text, why) check_lost(from, text, sizeof(text) - 1, "WebSocket: " why)

static void
test_frames_that_make_it_let_go(void **state)
{
	(void)state;
	LOST(BACKEND, "\x83\1a", "unknown opcode");
	LOST(CLIENT, "\x8b\x80\1\2\3\4", "unknown opcode");
	LOST(BACKEND, "\xc9\0", "reserved bit set");
	LOST(BACKEND, "\xa1\1a", "reserved bit set");
	LOST(CLIENT, "\x92\x80\1\2\3\4", "reserved bit set");
	LOST(BACKEND, "\x81\x81\1\2\3\4a", "masked frame from the backend");
	LOST(CLIENT, "\x81\1a", "unmasked frame from the client");
	LOST(BACKEND, "\x09\0", "control frame in fragments");
	LOST(BACKEND, "\x89\x7e\0\x7e" "123", "control frame too long");
	LOST(BACKEND, "\x8a\x7f\0\0\0\0\0\0\0\x0c" "123456789012", "bad length");
	LOST(BACKEND, "\x81\x7e\0\x7d" "123", "bad length");
	LOST(CLIENT, "\x82\xff\0\0\0\0\0\0\xff\xff\1\2\3\4", "bad length");
	LOST(BACKEND, "\x82\x7f\x80\0\0\0\0\0\0\0" "x", "bad length");
	LOST(BACKEND, "\x80\1a", "fragment out of order");
	LOST(BACKEND, "\x01\1a\x81\1b", "fragment out of order");
	LOST(CLIENT, "GET / HTTP/1.1\r\n\r\n", "unknown opcode");
}

static void
check_lost_in_handshake(const char *client, const char *backend, const char *why)
{
	struct script s = { 0 };

	script_say(&s, CLIENT, client);
	script_say(&s, BACKEND, backend);
	script_frame(&s, CLIENT, TEXT, "hello", 5);
	script_frame(&s, BACKEND, TEXT, "hello", 5);
	script_check(&s, why, &codec_websocket, NULL, why);
	script_check(&s, why, &codec_http, NULL, why);
	script_free(&s);
}

static void
test_handshakes_that_make_it_let_go(void **state)
{
	(void)state;
	check_lost_in_handshake(WS_REQUEST "early", WS_ACCEPT, "bytes after a request to upgrade");
	check_lost_in_handshake(WS_REQUEST "\x81\x80\1\2\3\4" "GET / HTTP/1.1\r\n\r\n", WS_ACCEPT, "bytes after a request to upgrade");
	check_lost_in_handshake(WS_REQUEST "\x81\x82\1\2\3\4" "a", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
	    "bytes after a request to upgrade");
	check_lost_in_handshake("GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "upgrade to h2c");
	check_lost_in_handshake("GET / HTTP/1.1\r\nUpgrade: websocket, foo\r\n\r\n",
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n", "upgrade to another protocol");
	check_lost_in_handshake("GET / HTTP/1.1\r\n\r\n", WS_ACCEPT, "101 that is not a WebSocket handshake");
	check_lost_in_handshake(WS_REQUEST, "HTTP/1.1 101 WebSocket Protocol Handshake\r\n"
	    "Upgrade: WebSocket\r\nSec-WebSocket-Origin: h\r\n\r\n0123456789abcdef\0text\xff",
	    "101 that is not a WebSocket handshake");
	check_lost_in_handshake("\x16\3\1\2\0\1\0\1\xfc\3\3", "\x16\3\3", "TLS");
	check_lost_in_handshake("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0", "HTTP/2");
}

/* Passthrough waits for a reply that is due in the other direction. */
static void
test_reply_is_taken_out_before_passthrough(void **state)
{
	uint8_t pong[WS_HOLD];
	struct run r;
	size_t n;

	(void)state;
	start(&r);
	n = ping_side(&r, BACKEND, pong);
	run_say(&r, CLIENT, "garbage");
	assert_null(r.passthrough);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	assert_int_equal(r.codec->skippable(r.state, CLIENT), UINT64_MAX);
	run_say(&r, CLIENT, "more");
	assert_true(run_ends(&r, BACKEND, "garbagemore", 11));
	assert_true(is_taken(&r, BACKEND, pong, n));
	assert_non_null(r.passthrough);
	run_end(&r);

	start(&r);	/* the reply never comes, but a FIN */
	n = ping_side(&r, BACKEND, pong);
	run_say(&r, CLIENT, "garbage");
	run_feed(&r, BACKEND, pong, n - 1);
	assert_null(r.passthrough);
	run_fin(&r, BACKEND);
	assert_non_null(r.passthrough);
	assert_true(run_ends(&r, CLIENT, pong, n - 1));
	run_end(&r);
}

/* ---- heartbeats ---- */

static void
test_heartbeats_as_they_are_on_the_wire(void **state)
{
	static const uint8_t to_backend[] = "\x89\x8f\0\0\0\0stent-" NONCE "aaa";	/* the same for who forgets to unmask */
	static const uint8_t to_client[] = "\x89\x0fstent-" NONCE "aab";
	uint8_t pong[WS_HOLD];
	struct run r;

	(void)state;
	start(&r);
	run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, CLIENT, "\x8a\0", 2));
	run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, BACKEND, "\x8a\x80\0\0\0\0", 6));
	assert_true(is_taken(&r, CLIENT, pong, ping_side(&r, CLIENT, pong)));
	assert_true(is_taken(&r, CLIENT, pong, ping_side(&r, CLIENT, pong)));
	assert_true(run_ends(&r, CLIENT, to_client, sizeof(to_client) - 1));
	assert_true(is_taken(&r, BACKEND, pong, ping_side(&r, BACKEND, pong)));
	assert_true(run_ends(&r, BACKEND, to_backend, sizeof(to_backend) - 1));
	assert_int_equal(r.replies[CLIENT], 2);
	assert_int_equal(r.replies[BACKEND], 1);
	run_end(&r);
}

static void
test_no_heartbeat_inside_a_frame_nor_after_a_close(void **state)
{
	struct run r;

	(void)state;
	start(&r);
	run_feed(&r, BACKEND, "\x01\2", 2);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_true(run_may_heartbeat(&r, BACKEND) & HEARTBEAT_PING);
	run_say(&r, BACKEND, "ab");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY | HEARTBEAT_PING);	/* between fragments */
	run_frame(&r, CLIENT, CLOSE, "\x03\xe8", 2);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);

	run_start(&r, &codec_websocket, NULL);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, CLIENT, WS_REQUEST);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_end(&r);
}

/* why_none() has a reason exactly where no heartbeat may go. */
static void
check_why(struct run *r, enum side to, const char *why)
{
	const char *said = r->codec->why_none(r->state, to);

	assert_true((said == NULL) == (run_may_heartbeat(r, to) != 0));
	if (why == NULL)
		assert_null(said);
	else
		assert_string_equal(said, why);
}

static void
test_why_there_is_none(void **state)
{
	static const struct codec *const codecs[] = { &codec_websocket, &codec_auto };
	struct run r;

	(void)state;
	run_start(&r, &codec_websocket, NULL);
	check_why(&r, CLIENT, "before the upgrade");
	run_say(&r, CLIENT, WS_REQUEST);
	check_why(&r, BACKEND, "before the upgrade");
	run_end(&r);
	for (size_t i = 0; i < 2; i++) {
		run_start(&r, codecs[i], NULL);
		run_say(&r, CLIENT, WS_REQUEST);
		run_say(&r, BACKEND, WS_ACCEPT);
		check_why(&r, CLIENT, NULL);
		run_feed(&r, BACKEND, "\x01\2", 2);
		check_why(&r, CLIENT, "inside a frame");
		check_why(&r, BACKEND, NULL);
		assert_false(r.codec->may_wait(r.state, BACKEND));
		run_say(&r, BACKEND, "ab");
		check_why(&r, CLIENT, NULL);
		assert_true(r.codec->may_wait(r.state, CLIENT));
		run_feed(&r, BACKEND, "\x80\0", 2);
		assert_false(r.codec->may_wait(r.state, CLIENT));
		run_frame(&r, CLIENT, PING, "a", 1);
		run_frame(&r, BACKEND, PING, "b", 1);
		check_why(&r, CLIENT, "the application's own ping comes first");
		run_frame(&r, CLIENT, PONG, "b", 1);
		check_why(&r, CLIENT, NULL);
		assert_false(r.codec->said_goodbye(r.state, CLIENT));
		run_frame(&r, CLIENT, CLOSE, "\x03\xe8", 2);
		check_why(&r, CLIENT, "closing handshake");
		check_why(&r, BACKEND, "closing handshake");
		assert_true(r.codec->said_goodbye(r.state, CLIENT) && !r.codec->said_goodbye(r.state, BACKEND));
		run_end(&r);
	}
}

/* A pong of ours is known by the letters of this flow; of pongs for one ping the first counts. */
static void
test_only_our_pong_is_taken(void **state)
{
	static const char other[] = "stent-va7ux7aaa";	/* of another flow */
	uint8_t pong[WS_HOLD], frame[WS_HOLD];
	struct run r;
	size_t n;

	(void)state;
	for (int to = 0; to < 2; to++) {
		enum side side = (enum side)to;

		start(&r);
		assert_false(is_taken(&r, side, frame, ws_frame(frame, side, PONG, "stent-" NONCE "aaa", 15)));	/* not pinged */
		n = ping_side(&r, side, pong);
		assert_false(is_taken(&r, side, frame, ws_frame(frame, side, PONG, "their own 15 b.", 15)));
		assert_false(is_taken(&r, side, frame, ws_frame(frame, side, PING, "stent-" NONCE "aaa", 15)));
		assert_true(is_taken(&r, side, pong, n));
		assert_int_equal(r.replies[side], 1);
		assert_true(is_taken(&r, side, pong, n));
		assert_true(is_taken(&r, side, frame, ws_frame(frame, side, PONG, "stent-" NONCE "ab7", 15)));
		assert_int_equal(r.replies[side], 1);
		assert_int_equal(r.strays[side], 2);
		ping_side(&r, side, pong);
		assert_false(is_taken(&r, side, frame, ws_frame(frame, side, PONG, other, 15)));
		run_end(&r);
	}
}

/* What peers have been seen to make of a ping's payload. */
static const struct mangled {
	const char *text;
	size_t len;
	bool is_sure;	/* it is nobody else's */
} mangled[] = {
	{ "", 0, false },
	{ "s", 1, false },
	{ "stent-va", 8, false },
	{ "stent-va7", 9, true },		/* three random letters */
	{ "stent-" NONCE "aa", 14, true },
	{ "STENT-VA7UU7AAA", 15, true },
	{ "Stent-va7uu7aaa\0", 16, true },	/* with a NUL behind it */
	{ "stent-va7uu7aaa, and more of what it has to say", 47, true },
	{ "stent-va7uu7\xff??", 15, true },
	{ "stent?va7?u7aaa", 15, false },
};

/* A peer of which nothing is known yet: what comes while only we wait is the reply. */
static void
test_a_mangled_pong_is_the_reply_where_only_we_wait(void **state)
{
	uint8_t pong[WS_HOLD], frame[WS_FRAME_MAX(64)];
	struct run r;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(mangled) / sizeof(mangled[0]); i++) {
		const struct mangled *m = &mangled[i / 2];
		const enum side side = (enum side)(i % 2);

		start(&r);
		for (unsigned pings = 1; pings <= 3; pings++) {
			ping_side(&r, side, pong);
			assert_true(is_taken(&r, side, frame, ws_frame(frame, side, PONG, m->text, m->len)));
			assert_int_equal(r.replies[side] + r.strays[side], pings);
		}
		assert_true((r.replies[side] > 0) == (m->len > 0));	/* an empty one may be unasked; a whole serial is always the first one's */
		run_end(&r);
	}
}

/* Where it may be the reply to the application's own ping it is passed on, unless it carries our token. */
static void
test_a_mangled_pong_is_never_taken_from_the_application(void **state)
{
	uint8_t pong[WS_HOLD], frame[WS_FRAME_MAX(64)];
	struct run r;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(mangled) / sizeof(mangled[0]); i++) {
		const struct mangled *m = &mangled[i / 2];
		const enum side side = (enum side)(i % 2);
		const size_t len = ws_frame(frame, side, PONG, m->text, m->len);

		start(&r);	/* its ping is open */
		ping_side(&r, side, pong);
		run_frame(&r, side_other(side), PING, "x", 1);
		assert_true(is_taken(&r, side, frame, len) == m->is_sure);
		run_end(&r);

		start(&r);	/* two of its pings were open, and one pong came, perhaps for both */
		run_frame(&r, side_other(side), PING, "x", 1);
		run_frame(&r, side_other(side), PING, "x", 1);
		run_frame(&r, side, PONG, "x", 1);
		ping_side(&r, side, pong);
		assert_true(is_taken(&r, side, frame, len) == m->is_sure);
		run_end(&r);

		start(&r);	/* the peer returns tokens whole */
		assert_true(is_taken(&r, side, pong, ping_side(&r, side, pong)));
		ping_side(&r, side, pong);
		assert_true(is_taken(&r, side, frame, len) == m->is_sure);
		run_end(&r);

		start(&r);	/* the peer sends unsolicited pongs */
		run_frame(&r, side, PONG, "", 0);
		ping_side(&r, side, pong);
		assert_true(is_taken(&r, side, frame, len) == m->is_sure);
		run_end(&r);
	}
}

/* Pings to a peer that mangles are settled by a pong that is passed on: neither replied to nor missed. */
static void
test_pings_whose_pong_is_unknown_are_settled(void **state)
{
	uint8_t pong[WS_HOLD];
	struct run r;

	(void)state;
	start(&r);
	ping_side(&r, BACKEND, pong);
	run_frame(&r, CLIENT, PING, "x", 1);
	assert_false(r.codec->awaits_reply(r.state, BACKEND, true));	/* it may reply to the application's only */
	run_frame(&r, BACKEND, PONG, "", 0);
	assert_int_equal(r.replies[BACKEND], 0);
	assert_false(r.codec->awaits_reply(r.state, BACKEND, true));
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	run_end(&r);
}

/*
 * Peers of all sorts, pinged by us and by the application in any order: a pong for a ping of the application's always
 * arrives, and none that carries our token does.
 */
static void
peer_replies(struct run *r, enum side peer, unsigned sort, bool is_ours, const uint8_t *payload, size_t len)
{
	uint8_t frame[WS_FRAME_MAX(32)], text[32];
	size_t n;
	bool is_taken_out;

	for (size_t i = 0; i < len; i++)
		text[i] = sort % 5 == 1 && payload[i] >= 'a' && payload[i] <= 'z' ? (uint8_t)(payload[i] - 32) : payload[i];
	if (sort % 5 > 1)
		len = sort % 5 == 2 ? 0 : sort % 5 == 3 && len > 4 ? 4 : sort % 5 == 4 && len > 10 ? 10 : len;
	n = ws_frame(frame, (sort & 32) != 0 ? side_other(peer) : peer, PONG, text, len);
	for (unsigned i = 0; i <= (sort >> 6 & 1); i++) {
		is_taken_out = is_taken(r, peer, frame, n);
		if (!is_ours)
			assert_false(is_taken_out);
		else if (len >= 10)
			assert_true(is_taken_out);
	}
}

static void
test_peers_of_all_sorts(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 1000; seed++) {
		struct { bool is_ours; uint8_t payload[WS_TOKEN]; } queue[64];
		const enum side peer = (enum side)(seed % 2), other = side_other(peer);
		unsigned random = seed * 2654435761u, n_queued = 0, n_app = 0;
		const unsigned sort = random >> 8 & 127, skips = random >> 16 & 3;	/* 1: only the last is replied to, 2: every second */
		struct run r;

		start(&r);
		for (int step = 0; step < 80; step++) {
			random = random * 1103515245u + 12345u;
			if ((random >> 16 & 3) == 0 && (run_may_heartbeat(&r, peer) & HEARTBEAT_PING) != 0) {
				run_heartbeat(&r, peer, HEARTBEAT_PING);
				queue[n_queued].is_ours = true;
				memcpy(queue[n_queued++].payload, r.got[peer].data + r.got[peer].len - WS_TOKEN, WS_TOKEN);
			} else if ((random >> 16 & 3) == 1 && (run_may_heartbeat(&r, peer) & HEARTBEAT_ONEWAY) != 0) {
				run_heartbeat(&r, peer, HEARTBEAT_ONEWAY);
			} else if ((random >> 16 & 3) == 2) {
				queue[n_queued].is_ours = false;
				memset(queue[n_queued].payload, 'a', WS_TOKEN);
				queue[n_queued].payload[WS_TOKEN - 1] = (uint8_t)('a' + n_app++ % 26);
				run_frame(&r, other, PING, queue[n_queued++].payload, WS_TOKEN);
			} else if ((random >> 16 & 3) == 3) {
				for (unsigned i = 0; i < n_queued; i++)
					if (skips == 1 ? i + 1 == n_queued : skips != 2 || i % 2 == 0)
						peer_replies(&r, peer, sort, queue[i].is_ours, queue[i].payload, WS_TOKEN);
				n_queued = 0;
			}
			if (n_queued == 64)
				n_queued = 0;
		}
		assert_null(r.passthrough);
		run_end(&r);
	}
}

/* Mangled or not, whole or cut anywhere, a pong is judged alike. */
static void
test_a_mangled_pong_may_arrive_cut_anywhere(void **state)
{
	uint8_t pong[WS_HOLD], frame[WS_FRAME_MAX(64)];
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof(mangled) / sizeof(mangled[0]); i++) {
		const size_t len = ws_frame(frame, CLIENT, PONG, mangled[i].text, mangled[i].len);

		for (size_t cut = 1; cut < len; cut++) {
			start(&r);
			ping_side(&r, CLIENT, pong);
			assert_true(is_taken(&r, CLIENT, frame, cut));
			assert_true(is_taken(&r, CLIENT, frame + cut, len - cut));
			run_frame(&r, CLIENT, TEXT, "hello", 5);
			assert_null(r.passthrough);
			run_end(&r);
		}
	}
}

/* The peer may reply only to the last of several pings, and the others may still come. */
static void
test_last_pong_settles_all(void **state)
{
	uint8_t pong[3][WS_HOLD];
	struct run r;
	size_t n = 0;

	(void)state;
	start(&r);
	for (int i = 0; i < 3; i++)
		n = ping_side(&r, BACKEND, pong[i]);
	assert_true(is_taken(&r, BACKEND, pong[2], n));
	assert_true(is_taken(&r, BACKEND, pong[0], n));
	assert_true(is_taken(&r, BACKEND, pong[1], n));
	assert_int_equal(r.replies[BACKEND], 3);
	run_end(&r);

	start(&r);
	ping_side(&r, BACKEND, pong[0]);
	assert_true(is_taken(&r, BACKEND, pong[1], ping_side(&r, BACKEND, pong[1])));
	run_say(&r, CLIENT, "garbage");
	assert_non_null(r.passthrough);	/* nothing is waited for */
	run_end(&r);
}

static void
test_window_of_unanswered_pings(void **state)
{
	uint8_t first[WS_HOLD], pong[WS_HOLD];
	struct run r;
	size_t n;

	(void)state;
	start(&r);
	n = ping_side(&r, CLIENT, first);
	for (int i = 1; i < 32; i++)
		ping_side(&r, CLIENT, pong);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	assert_true(is_taken(&r, CLIENT, first, n));
	ping_side(&r, CLIENT, pong);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	assert_true(is_taken(&r, CLIENT, pong, n));	/* replies all the others too */
	for (int i = 0; i < 32; i++)
		ping_side(&r, CLIENT, pong);
	run_end(&r);
}

/* A peer that replies only the last ping must not leave the application waiting. */
static void
test_no_ask_while_the_application_waits(void **state)
{
	uint8_t pong[WS_HOLD];
	struct run r;
	size_t n;

	(void)state;
	start(&r);
	assert_true(is_taken(&r, BACKEND, pong, ping_side(&r, BACKEND, pong)));
	n = ping_side(&r, BACKEND, pong);
	run_frame(&r, CLIENT, PING, "a", 1);
	run_frame(&r, CLIENT, PING, "b", 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_PING);	/* a one-way pong would be taken for its reply */
	run_frame(&r, BACKEND, PONG, "", 0);
	run_frame(&r, BACKEND, PONG, "c", 1);
	assert_true(is_taken(&r, BACKEND, pong, n));
	run_frame(&r, BACKEND, PONG, "a", 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	run_frame(&r, BACKEND, PONG, "b", 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	run_frame(&r, CLIENT, PING, "twelve bytes", 12);	/* as long as ours */
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	run_frame(&r, BACKEND, PONG, "twelve bytes", 12);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	run_end(&r);
}

/* Two of us in a row have different letters: each takes its own replies. */
static void
test_two_in_a_chain(void **state)
{
	uint8_t ping[WS_HOLD], pong[WS_HOLD], second[WS_HOLD];
	struct run outer, inner;
	size_t n;

	(void)state;
	run_start(&outer, &codec_websocket, NULL);
	run_seed(&outer, 12345);
	run_say(&outer, CLIENT, WS_REQUEST);
	run_say(&outer, BACKEND, WS_ACCEPT);
	start(&inner);
	n = ping_side(&inner, BACKEND, pong);
	ping_side(&outer, BACKEND, second);
	memcpy(ping, outer.got[BACKEND].data + outer.got[BACKEND].len - WS_HOLD, WS_HOLD);
	run_feed(&inner, CLIENT, ping, sizeof(ping));
	assert_memory_not_equal(pong, second, n);
	assert_false(is_taken(&inner, BACKEND, second, n));
	assert_true(is_taken(&inner, BACKEND, pong, n));
	assert_true(is_taken(&outer, BACKEND, second, n));
	assert_true(run_may_heartbeat(&inner, BACKEND) & HEARTBEAT_PING);
	run_end(&outer);
	run_end(&inner);
}

/* An application's ping without a reply must not end our pings for good, nor count against the peer. */
static void
test_an_unanswered_ping_of_the_application(void **state)
{
	uint8_t pong[WS_HOLD];
	struct run r;

	(void)state;
	start(&r);
	assert_true(is_taken(&r, BACKEND, pong, ping_side(&r, BACKEND, pong)));
	run_frame(&r, CLIENT, PING, "a", 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
		assert_false(r.codec->awaits_reply(r.state, BACKEND, true));
		run_heartbeat(&r, BACKEND, HEARTBEAT_ONEWAY);
	}
	ping_side(&r, BACKEND, pong);
	assert_true(r.codec->awaits_reply(r.state, BACKEND, true));
	run_frame(&r, CLIENT, PING, "b", 1);	/* behind ours: its reply may be for both */
	assert_false(r.codec->awaits_reply(r.state, BACKEND, true));
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY);
	run_frame(&r, BACKEND, PONG, "b", 1);
	assert_false(r.codec->awaits_reply(r.state, BACKEND, true));
	assert_int_equal(run_may_heartbeat(&r, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	assert_true(is_taken(&r, BACKEND, pong, WS_HOLD - 4));	/* it came after all */
	run_end(&r);
}

/* ---- the end ---- */

/* A Close may be the reaction to a ping: the codec names the fault, the relay knows the time. */
static void
test_a_close_that_complains(void **state)
{
	static const struct { const char *payload; size_t len; const char *says; } closes[] = {
		{ "\x03\xea", 2, "Close 1002 (protocol error)" },
		{ "\x03\xeftext", 6, "Close 1007 (invalid payload)" },
		{ "\x03\xf3", 2, "Close 1011 (internal error)" },
		{ "\x03\xe8", 2, NULL }, { "\x03\xe9gone", 6, NULL }, { "\x10\xe1", 2, NULL }, { "", 0, NULL },
	};
	uint8_t frame[WS_FRAME_MAX(8)];

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(closes) / sizeof(closes[0]); i++) {
		const enum side from = (enum side)(i % 2);
		const size_t len = ws_frame(frame, from, CLOSE, closes[i / 2].payload, closes[i / 2].len);

		for (size_t cut = 0; cut < len; cut++) {
			struct run r;

			start(&r);
			run_feed(&r, from, frame, cut);
			run_feed(&r, from, frame + cut, len - cut);
			if (closes[i / 2].says == NULL)
				assert_null(r.out->complaint);
			else
				assert_string_equal(r.out->complaint, closes[i / 2].says);
			assert_true(run_ends(&r, side_other(from), frame, len));
			run_end(&r);
		}
	}
}

static size_t
say_close_message(struct run *r, enum side to, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	struct codec_close_info o = { .dead = side_other(to), .idle_ms = 75400,
	    .reason = to == CLIENT ? "backend-user-timeout" : "client-heartbeat-timeout" };

	return r->codec->close_message(r->state, to, &o, buf);
}

static void
test_close_message(void **state)
{
	static const char to_client[] = "\x88\x3e\x03\xe9" "stent: backend-user-timeout, backend idle for 75 s";
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct run r;
	size_t n;

	(void)state;
	start(&r);
	run_feed(&r, BACKEND, "\x81", 1);	/* held: it has not begun for the client */
	n = say_close_message(&r, CLIENT, buf);
	assert_int_equal(n, 2 + (buf[1] & 0x7f));
	assert_int_equal(n, 2 + 2 + strlen(to_client + 4));
	assert_memory_equal(buf + 2, to_client + 2, n - 2);
	assert_int_equal(buf[0], 0x88);
	assert_int_equal(say_close_message(&r, CLIENT, buf), 0);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);

	start(&r);
	n = say_close_message(&r, BACKEND, buf);
	assert_true(n > 6 && buf[0] == 0x88 && buf[1] == (0x80 | (n - 6)));
	assert_int_equal(buf[6] ^ buf[2], 1001 >> 8);
	assert_int_equal(buf[7] ^ buf[3], 1001 & 0xff);
	assert_int_equal(buf[8] ^ buf[4], 's');
	run_end(&r);
}

static void
test_no_close_message_where_none_is_legal(void **state)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];
	struct run r;

	(void)state;
	run_start(&r, &codec_websocket, NULL);
	assert_int_equal(say_close_message(&r, CLIENT, buf), 0);
	run_end(&r);
	start(&r);
	run_feed(&r, BACKEND, "\x81\2a", 3);
	assert_int_equal(say_close_message(&r, CLIENT, buf), 0);	/* inside a frame */
	run_frame(&r, CLIENT, CLOSE, "", 0);
	assert_int_equal(say_close_message(&r, BACKEND, buf), 0);	/* its Close has gone there */
	run_end(&r);
}

static void
test_after_a_fin(void **state)
{
	struct run r;

	(void)state;
	start(&r);
	run_feed(&r, CLIENT, "\x8a", 1);
	run_fin(&r, CLIENT);
	assert_true(run_ends(&r, BACKEND, "\x8a", 1));
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
test_memory_of_an_idle_flow(void **state)
{
	(void)state;
	assert_true(codec_websocket.state_size <= 184);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_our_pong_is_known_whatever_its_mask),
		cmocka_unit_test(test_all_sorts_of_frames),
		cmocka_unit_test(test_fragments_with_control_frames_between),
		cmocka_unit_test(test_long_payload_is_not_seen),
		cmocka_unit_test(test_frames_right_behind_the_heads),
		cmocka_unit_test(test_frames_right_behind_the_request),
		cmocka_unit_test(test_the_101_comes_within_an_early_frame),
		cmocka_unit_test(test_other_requests_come_first),
		cmocka_unit_test(test_frames_that_make_it_let_go),
		cmocka_unit_test(test_handshakes_that_make_it_let_go),
		cmocka_unit_test(test_reply_is_taken_out_before_passthrough),
		cmocka_unit_test(test_heartbeats_as_they_are_on_the_wire),
		cmocka_unit_test(test_no_heartbeat_inside_a_frame_nor_after_a_close),
		cmocka_unit_test(test_why_there_is_none),
		cmocka_unit_test(test_only_our_pong_is_taken),
		cmocka_unit_test(test_a_mangled_pong_is_the_reply_where_only_we_wait),
		cmocka_unit_test(test_a_mangled_pong_is_never_taken_from_the_application),
		cmocka_unit_test(test_pings_whose_pong_is_unknown_are_settled),
		cmocka_unit_test(test_peers_of_all_sorts),
		cmocka_unit_test(test_a_mangled_pong_may_arrive_cut_anywhere),
		cmocka_unit_test(test_last_pong_settles_all),
		cmocka_unit_test(test_window_of_unanswered_pings),
		cmocka_unit_test(test_no_ask_while_the_application_waits),
		cmocka_unit_test(test_two_in_a_chain),
		cmocka_unit_test(test_an_unanswered_ping_of_the_application),
		cmocka_unit_test(test_a_close_that_complains),
		cmocka_unit_test(test_close_message),
		cmocka_unit_test(test_no_close_message_where_none_is_legal),
		cmocka_unit_test(test_after_a_fin),
		cmocka_unit_test(test_memory_of_an_idle_flow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
