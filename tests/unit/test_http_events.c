/*
 * test_http_events.c - comments into streams of server-sent events: they go
 * where no reader takes them for an event, or loses one by them, and nowhere else.
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
#include "codec/http.h"
#include "script.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define HEAD(headers) "HTTP/1.1 200 OK\r\n" headers "\r\n"
#define TYPE "Content-Type: text/event-stream\r\n"
#define CHUNKS "Transfer-Encoding: chunked\r\n"
#define CHUNKED HEAD(TYPE CHUNKS)
#define UNTIL_CLOSE "HTTP/1.0 200 OK\r\n" TYPE "\r\n"

#define TEXT(string) { .data = (uint8_t *)(uintptr_t)(string), .len = sizeof(string) - 1 }

static const struct codec_settings at_start = { .heartbeats = { true, true }, .comment_at_start = true };

static void
start(struct run *r, const struct codec_settings *settings, const char *head)
{
	run_start(r, &codec_http, settings);
	run_say(r, CLIENT, GET);
	assert_int_equal(run_may_heartbeat(r, CLIENT), 0);
	run_say(r, BACKEND, head);
}

static const char *
why_none(const struct run *r)
{
	return r->codec->why_none(r->state, CLIENT);
}

static bool
may_wait(const struct run *r)
{
	return r->codec->may_wait(r->state, CLIENT);
}

/* ---- places ---- */

static void
test_places(void **state)
{
	static const struct {
		const char *text;
		enum http_place place;
		const char *comment;	/* the automatic one */
	} rows[] = {
		{ "", PLACE_START, ":\n\n" },
		{ "\xef\xbb\xbf", PLACE_IN_LINE, NULL },
		{ "data: 1", PLACE_IN_LINE, NULL },
		{ "data: 1\n", PLACE_IN_EVENT, ":\n" },
		{ "data: 1\n\n", PLACE_BETWEEN_EVENTS, ":\n\n" },
		{ "data: 1\n\n\n", PLACE_BETWEEN_EVENTS, ":\n\n" },
		{ "data: 1\n\ndata", PLACE_IN_LINE, NULL },
		{ "data: 1\r\n", PLACE_IN_EVENT, ":\r\n" },
		{ "data: 1\r\n\r\n", PLACE_BETWEEN_EVENTS, ":\r\n\r\n" },
		{ "data: 1\r\n\r", PLACE_IN_LINE, NULL },
		{ "data: 1\r", PLACE_IN_LINE, NULL },	/* its LF may come */
		{ "data: 1\r\r", PLACE_BETWEEN_EVENTS, ":\r\r" },
		{ "data: 1\rdata: 2\r", PLACE_IN_EVENT, ":\r" },
		{ "data: 1\r\n\n", PLACE_BETWEEN_EVENTS, ":\n\n" },
		{ ": hello\n", PLACE_BETWEEN_EVENTS, ":\n\n" },	/* a comment opens no event */
		{ "data: 1\n: hello\n", PLACE_IN_EVENT, ":\n" },
		{ "retry: 5\n", PLACE_IN_EVENT, ":\n" },
		{ "id: 7\ndata: 1\n\n", PLACE_BETWEEN_EVENTS, ":\n" },
		{ "id: 7\ndata: 1\n\ndata: 2\r\n\r\n", PLACE_BETWEEN_EVENTS, ":\r\n" },
		{ "id\nidea: 1\ni: 1\ndata: id: 1\n:id: 1\n\n", PLACE_BETWEEN_EVENTS, ":\n\n" },
	};
	static const struct codec_bytes automatic = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const size_t len = strlen(rows[i].text);

		for (size_t cut = 0; cut <= len; cut++) {
			struct http_events e = { 0 };
			char buf[HTTP_COMMENT_MAX];

			http_events_feed(&e, (const uint8_t *)rows[i].text, cut);
			http_events_feed(&e, (const uint8_t *)rows[i].text + cut, len - cut);
			assert_int_equal(http_events_place(&e), rows[i].place);
			if (rows[i].comment == NULL)
				continue;
			assert_int_equal(http_events_comment(&e, &automatic, buf), strlen(rows[i].comment));
			assert_string_equal(buf, rows[i].comment);
		}
	}
}

static void
check_comment(const struct codec_bytes *text, const char *stream, const char *comment)
{
	struct http_events e = { 0 };
	char buf[HTTP_COMMENT_MAX];

	http_events_feed(&e, (const uint8_t *)stream, strlen(stream));
	assert_int_equal(http_events_comment(&e, text, buf), strlen(comment));
	assert_string_equal(buf, comment);
}

static void
test_the_text_of_the_settings(void **state)
{
	static const struct codec_bytes bare = TEXT(":\n"), spaced = TEXT(": ping\n\n");
	char longest[CODEC_COMMENT_MAX], expected[HTTP_COMMENT_MAX];
	const struct codec_bytes full = { .data = (uint8_t *)longest, .len = sizeof(longest) };

	(void)state;
	check_comment(&bare, "data: 1\n\n", ":\n");
	check_comment(&bare, "data: 1\r\n\r\n", ":\r\n");
	check_comment(&spaced, "data: 1\n\n", ": ping\n\n");
	check_comment(&spaced, "id: 1\r\n\r\n", ": ping\r\n\r\n");	/* as configured */
	check_comment(&spaced, "data: 1\n", ": ping\n");		/* it would end the event */
	memset(longest, ':', sizeof(longest));
	memset(longest + sizeof(longest) - 2, '\n', 2);
	snprintf(expected, sizeof(expected), "%.*s\r\n\r\n", (int)sizeof(longest) - 2, longest);
	check_comment(&full, "a\r\n\r\n", expected);
}

/* ---- in the bodies of responses ---- */

static void
test_chunks(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, CHUNKED);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_string_equal(why_none(&r), "no event has come yet");
	run_say(&r, BACKEND, "b\r\ndata: one\n\n");
	assert_string_equal(why_none(&r), "in the middle of a chunk");
	run_say(&r, BACKEND, "\r\n");
	assert_null(why_none(&r));
	assert_false(may_wait(&r));
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), 0);
	run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, CLIENT, "\n\n\r\n3\r\n:\n\n\r\n", 12));
	run_say(&r, BACKEND, "1");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, "\r\nd\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_string_equal(why_none(&r), "in the middle of a line");
	run_say(&r, BACKEND, "6\r\nata:2\n\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	assert_true(may_wait(&r));
	run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, CLIENT, "\n\r\n2\r\n:\n\r\n", 10));
	run_say(&r, BACKEND, "1\r\n\n\r\n");
	assert_false(may_wait(&r));
	run_say(&r, BACKEND, "0\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, "T: 1\r\n\r\n");
	assert_string_equal(why_none(&r), "no request under way");
	run_say(&r, CLIENT, GET);
	assert_string_equal(why_none(&r), "request under way");
	run_say(&r, BACKEND, CHUNKED "3\r\n:\n\n\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_end(&r);
}

static void
test_until_the_connection_closes(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, UNTIL_CLOSE);
	assert_string_equal(why_none(&r), "no event has come yet");
	assert_int_equal(r.codec->skippable(r.state, BACKEND), 0);
	run_say(&r, BACKEND, "data: 1\r\n\r\n");
	assert_true(r.codec->ends_at_fin(r.state, CLIENT));
	assert_false(r.codec->ends_at_fin(r.state, BACKEND));
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, CLIENT, "1\r\n\r\n:\r\n\r\n", 10));
	run_say(&r, BACKEND, "data: 2");
	assert_string_equal(why_none(&r), "in the middle of a line");
	run_say(&r, BACKEND, "\r");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_say(&r, BACKEND, "\n");
	assert_true(may_wait(&r));
	run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, CLIENT, "2\r\n:\r\n", 6));
	run_fin(&r, BACKEND);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_null(r.passthrough);
	run_end(&r);
}

/* In HTTP/1.1 too a response may have neither length nor chunks; HTTP/1.0 may say keep-alive and mean none. */
static void
test_other_bodies_without_an_end_of_their_own(void **state)
{
	static const char *const heads[] = {
		HEAD(TYPE), HEAD(TYPE "Connection: close\r\n"), "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" TYPE "\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" HEAD(TYPE), "HTTP/1.1 103 Early Hints\r\n" TYPE "\r\n" HEAD(TYPE),
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		start(&r, NULL, heads[i]);
		run_say(&r, BACKEND, ":\n\n");
		assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
		run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
		assert_true(run_ends(&r, CLIENT, "\n:\n\n:\n\n", 7));
		run_end(&r);
	}
}

static void
test_at_the_start_if_configured(void **state)
{
	struct run r;

	(void)state;
	start(&r, &at_start, CHUNKED);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_heartbeat(&r, CLIENT, HEARTBEAT_ONEWAY);
	assert_true(run_ends(&r, CLIENT, "\r\n\r\n3\r\n:\n\n\r\n", 12));
	run_say(&r, BACKEND, "1\r\nd\r\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
	start(&r, &at_start, UNTIL_CLOSE);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_end(&r);
}

static void
check_none(const char *head, const char *body, const char *why)
{
	struct run r;

	start(&r, &at_start, head);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	if (why != NULL)
		assert_string_equal(why_none(&r), why);
	for (; *body != '\0'; body++) {
		run_feed(&r, BACKEND, body, 1);
		assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
		assert_false(may_wait(&r));
	}
	assert_null(r.passthrough);
	run_end(&r);
}

static void
test_none_elsewhere(void **state)
{
	static const char no_events[] = "the response is not an event stream", zipped[] = "compressed event stream";

	(void)state;
	check_none(HEAD("Content-Type: text/plain\r\n" CHUNKS), "2\r\n\n\n\r\n", no_events);
	check_none(HEAD("Content-Type: application/x-ndjson\r\n"), "{}\n\n", no_events);
	check_none(HEAD("Content-Type: multipart/x-mixed-replace; boundary=b\r\n"), "--b\r\n\r\n", no_events);
	check_none(HEAD("Content-Type: application/grpc-web\r\n" CHUNKS), "2\r\n\n\n\r\n", no_events);
	check_none(HEAD("Content-Type: text/event-streams\r\n" CHUNKS), "2\r\n\n\n\r\n", no_events);
	check_none(HEAD("Content-Type: text/event-stream x\r\n" CHUNKS), "2\r\n\n\n\r\n", no_events);
	check_none(HEAD(TYPE "Content-Type: a/b\r\n" CHUNKS), "2\r\n\n\n\r\n", no_events);
	check_none("HTTP/1.1 503 Busy\r\n" TYPE CHUNKS "\r\n", "2\r\n\n\n\r\n", no_events);
	check_none(HEAD("X: y\r\n"), "\n\n", no_events);
	check_none(HEAD(TYPE "Content-Length: 9\r\n"), "data: 1\n\n", "event stream with a Content-Length");
	check_none(HEAD(TYPE "Content-Encoding: gzip\r\n" CHUNKS), "2\r\n\n\n\r\n", zipped);
	check_none(HEAD(TYPE "Content-Encoding: br\r\n"), "\n\n", zipped);
	check_none(HEAD(TYPE "Transfer-Encoding: gzip, chunked\r\n"), "2\r\n\n\n\r\n", zipped);
	check_none(HEAD(TYPE "Transfer-Encoding: gzip\r\n"), "\n\n", zipped);
	check_none("HTTP/1.1 204 No Content\r\n" TYPE "\r\n", "", "no request under way");
	check_none("HTTP/1.1 304 Not Modified\r\n" TYPE CHUNKS "\r\n", "", "no request under way");
	check_none(HEAD(TYPE CHUNKS) "2\r\n\n\n\r\n0", "\r\n\r\n", NULL);
}

static void
test_none_behind_a_head_request(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_http, &at_start);
	run_say(&r, CLIENT, "HEAD / HTTP/1.1\r\n\r\n");
	run_say(&r, BACKEND, UNTIL_CLOSE);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	assert_false(r.codec->ends_at_fin(r.state, CLIENT));
	run_say(&r, CLIENT, GET);	/* the connection goes on */
	run_say(&r, BACKEND, CHUNKED);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_end(&r);
}

/* A client that pipelines behind a stream without end, or a server that goes on behind a whole one. */
static void
test_passthrough_ends_the_comments(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, UNTIL_CLOSE "data: 1\n\n");
	run_say(&r, CLIENT, GET);
	assert_string_equal(r.passthrough, "pipelined requests");
	run_end(&r);
	start(&r, NULL, CHUNKED "5 0\r\n");
	assert_string_equal(r.passthrough, "bad chunk size");
	run_end(&r);
	start(&r, NULL, HEAD(TYPE "Content-Length: 5\r\n" CHUNKS));
	assert_string_equal(r.passthrough, "Content-Length beside Transfer-Encoding");
	run_end(&r);
}

static void
test_half_closed_client_still_gets_comments(void **state)
{
	struct run r;

	(void)state;
	start(&r, NULL, CHUNKED "2\r\n:\n\r\n");
	run_fin(&r, CLIENT);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	run_fin(&r, BACKEND);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
}

static void
test_heartbeats_off_lets_events_pass_skippable(void **state)
{
	static const struct codec_settings off = { .heartbeats = { false, true } };
	struct run r;

	(void)state;
	start(&r, &off, CHUNKED "5\r\n");
	assert_int_equal(r.codec->skippable(r.state, BACKEND), 5);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), 0);
	run_end(&r);
	start(&r, &off, UNTIL_CLOSE);
	assert_int_equal(r.codec->skippable(r.state, BACKEND), UINT64_MAX);
	run_end(&r);
}

/* protocol = auto hands over to it. */
static void
test_behind_auto(void **state)
{
	struct run r;

	(void)state;
	run_start(&r, &codec_auto, NULL);
	assert_null(r.codec->may_wait);
	run_say(&r, CLIENT, GET);
	run_say(&r, BACKEND, UNTIL_CLOSE "data: 1");
	assert_string_equal(why_none(&r), "in the middle of a line");
	assert_true(r.codec->ends_at_fin(r.state, CLIENT));
	run_say(&r, BACKEND, "\n");
	assert_int_equal(run_may_heartbeat(&r, CLIENT), HEARTBEAT_ONEWAY);
	assert_true(may_wait(&r));
	run_end(&r);
}

static void
test_transcripts(void **state)
{
	struct script s = { 0 };
	struct tally tally;

	(void)state;
	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
	    "Content-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n");
	script_say(&s, BACKEND, "b;x=y\r\ndata: one\n\n\r\n");
	script_say(&s, BACKEND, "7\r\ndata: t\r\n");
	script_say(&s, BACKEND, "5\r\nwo\n\n\n\r\n");
	script_say(&s, BACKEND, "1\r\n\n\r\n");
	script_say(&s, BACKEND, "000\r\nX: y\r\n\r\n");
	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, CHUNKED "3\r\n:x\n\r\n0\r\n\r\n");
	script_say(&s, CLIENT, GET);
	script_say(&s, BACKEND, UNTIL_CLOSE);
	script_say(&s, BACKEND, "data: one\r\n\r\n");
	script_say(&s, BACKEND, "data: two");
	script_fin(&s, BACKEND);
	script_check(&s, "events", &codec_sse, NULL, NULL);
	tally = script_check(&s, "events with and without chunks", &codec_http, NULL, NULL);
	assert_int_equal(tally.moments[CLIENT][HEARTBEAT_ONEWAY], 3 + 1 + 2);	/* a place each */
	assert_int_equal(tally.moments[CLIENT][HEARTBEAT_PING] + tally.moments[BACKEND][HEARTBEAT_ONEWAY], 0);
	script_free(&s);
}

/* ---- what readers make of it ---- */

enum reader { READER_STANDARD, READER_LIKE_HTTPX, READER_BY_BLOCKS };

/*
 * What a reader makes of a stream, as text. By the HTML standard; as httpx-sse
 * does, to which an empty line is an event once there was an id; or cutting at
 * the stream's empty lines, of which it takes those pieces that begin with "data:".
 */
struct reading {
	char out[4096];
	size_t n;
	char line[256], data[512], id[256];
	size_t n_line, n_data, n_id;
	bool has_data, has_id;
};

static void
write_out(struct reading *r, const char *bytes, size_t len)
{
	assert_true(r->n + len <= sizeof(r->out));
	memcpy(r->out + r->n, bytes, len);
	r->n += len;
}

static void
dispatch(struct reading *r, enum reader how)
{
	if (r->has_data || (how == READER_LIKE_HTTPX && r->has_id)) {
		write_out(r, r->data, r->n_data);
		write_out(r, "#", 1);
		write_out(r, r->id, r->n_id);
		write_out(r, "\n", 1);
	}
	r->has_data = false;
	r->n_data = 0;
}

static void
read_line(struct reading *r, enum reader how)
{
	const size_t n = r->n_line;

	r->n_line = 0;
	if (n == 0) {
		dispatch(r, how);
	} else if (n >= 5 && memcmp(r->line, "data:", 5) == 0) {
		r->has_data = true;
		memcpy(r->data + r->n_data, r->line + 5, n - 5);
		r->n_data += n - 5;
		r->data[r->n_data++] = '|';
	} else if (n > 3 && memcmp(r->line, "id:", 3) == 0) {
		r->has_id = true;
		r->n_id = n - 3;
		memcpy(r->id, r->line + 3, n - 3);
	}
}

static void
read_stream(struct reading *r, enum reader how, const uint8_t *p, size_t len)
{
	*r = (struct reading){ 0 };
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '\n' && i > 0 && p[i - 1] == '\r')
			continue;
		if (p[i] == '\n' || p[i] == '\r')
			read_line(r, how);
		else
			r->line[r->n_line++] = (char)p[i];
	}
}

static void
read_blocks(struct reading *r, const uint8_t *p, size_t len, const char *cut)
{
	const uint8_t *end = p + len;

	*r = (struct reading){ 0 };
	while (p < end) {
		const uint8_t *next = memmem(p, (size_t)(end - p), cut, strlen(cut));

		if (next == NULL)
			break;
		if (next - p >= 5 && memcmp(p, "data:", 5) == 0)
			write_out(r, (const char *)p, (size_t)(next - p));
		p = next + strlen(cut);
	}
}

static unsigned
roll(unsigned *random, unsigned n)
{
	*random = *random * 1103515245u + 12345u;
	return (*random >> 16) % n;
}

/* A stream of random pieces, cut at random, with a comment at random places. Returns its length. */
static size_t
run_random(struct run *r, unsigned seed, const char *const *pieces, unsigned n_pieces, size_t *head)
{
	unsigned random = seed * 2654435761u + 1;
	size_t sent = 0;

	start(r, seed % 2 == 0 ? &at_start : NULL, UNTIL_CLOSE);
	*head = r->got[CLIENT].len;
	for (int i = 0; i < 40; i++) {
		const char *piece = pieces[roll(&random, n_pieces)];
		const size_t len = strlen(piece), cut = len > 0 ? roll(&random, (unsigned)len) : 0;

		for (int half = 0; half < 2; half++) {
			if (run_may_heartbeat(r, CLIENT) != 0 && !(may_wait(r) && n_pieces == 4) && roll(&random, 3) == 0)
				run_heartbeat(r, CLIENT, HEARTBEAT_ONEWAY);
			if (half == 0 ? cut > 0 : cut < len)
				run_feed(r, BACKEND, piece + (half == 0 ? 0 : cut), half == 0 ? cut : len - cut);
		}
		sent += len;
	}
	return sent;
}

static void
compare_readings(const struct reading *a, const struct reading *b)
{
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->out, b->out, a->n);
}

static void
test_readers_see_the_same_events(void **state)
{
	static const char *const pieces[] = {
		"data:", "data:1", "data:22", "x", ":", ":c", "id:", "id:7", "event:e", "\n", "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n",
	};
	static struct reading sent, got;
	struct run r;
	size_t head, len, places = 0;

	(void)state;
	for (unsigned seed = 1; seed < 4000; seed++) {
		len = run_random(&r, seed, pieces, sizeof(pieces) / sizeof(pieces[0]), &head);
		places += r.n_marks[CLIENT];
		for (enum reader how = READER_STANDARD; how <= READER_LIKE_HTTPX; how++) {
			read_stream(&sent, how, r.in[BACKEND].data + r.in[BACKEND].len - len, len);
			read_stream(&got, how, r.got[CLIENT].data + head, r.got[CLIENT].len - head);
			compare_readings(&sent, &got);
		}
		run_end(&r);
	}
	assert_true(places > 1000);
}

static void
test_readers_by_blocks_lose_no_event(void **state)
{
	static const char *const pieces[2][4] = {
		{ "data:1\n\n", "data:2\ndata:3\n\n", "event:e\ndata:4\n\n", "data:5\n\n" },
		{ "data:1\r\n\r\n", "data:2\r\ndata:3\r\n\r\n", "event:e\r\ndata:4\r\n\r\n", "data:5\r\n\r\n" },
	};
	static struct reading sent, got;
	struct run r;
	size_t head, len;

	(void)state;
	for (unsigned seed = 1; seed < 1000; seed++) {
		const char *cut = seed % 4 < 2 ? "\n\n" : "\r\n\r\n";

		/* Before the first line nobody knows how lines end. */
		len = run_random(&r, seed | 1, pieces[seed % 4 >= 2], 4, &head);
		read_blocks(&sent, r.in[BACKEND].data + r.in[BACKEND].len - len, len, cut);
		read_blocks(&got, r.got[CLIENT].data + head, r.got[CLIENT].len - head, cut);
		compare_readings(&sent, &got);
		run_end(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_the_text_of_the_settings),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_until_the_connection_closes),
		cmocka_unit_test(test_other_bodies_without_an_end_of_their_own),
		cmocka_unit_test(test_at_the_start_if_configured),
		cmocka_unit_test(test_none_elsewhere),
		cmocka_unit_test(test_none_behind_a_head_request),
		cmocka_unit_test(test_passthrough_ends_the_comments),
		cmocka_unit_test(test_half_closed_client_still_gets_comments),
		cmocka_unit_test(test_heartbeats_off_lets_events_pass_skippable),
		cmocka_unit_test(test_behind_auto),
		cmocka_unit_test(test_transcripts),
		cmocka_unit_test(test_readers_see_the_same_events),
		cmocka_unit_test(test_readers_by_blocks_lose_no_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
