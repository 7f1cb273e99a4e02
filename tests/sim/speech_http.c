/*
 * speech_http.c - HTTP/1.1: requests one after the other, with bodies of each
 * form, 100 (Continue), and event streams in chunks or up to the connection's
 * end. The path says how the server is to respond.
 *
 * A heartbeat is a comment toward the client, in an event stream alone: at the
 * start of a line, after the first byte, with an empty line after it only
 * between two events.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

#define PIECE_MAX 20000

enum form { NONE, SIZED, CHUNKED, TO_END, FORMS };

static const char *const form_names[FORMS] = { "none", "sized", "chunked", "to-end" };
enum style { LF, CRLF, CR };
static const char *const line_ends[] = { "\n", "\r\n", "\r" };

/* Where the text of an event stream stands, by the HTML standard. */
struct text {
	bool has_begun, is_open;	/* an event has begun */
	bool is_behind_cr, has_ids;
	uint8_t style;			/* enum style */
	char line[4];			/* its first bytes */
	unsigned n;
};

struct http {
	uint8_t form;			/* of the body that is said or heard; enum form */
	bool is_events, is_packed;
	bool in_body;
	size_t left;			/* of a sized one */
	unsigned pieces;		/* still to be said */
	struct text text;
	/* The client's. */
	bool is_due;			/* a response */
	bool awaits_100;
	bool says_body;
	/* The server's. */
	uint8_t answer;			/* enum form: what is asked for */
	bool is_asked;			/* a request has come whole */
	unsigned zeros;			/* heard before the next chunk */
	bool closes;			/* after the response */
	uint8_t line_end;
	size_t at;			/* in the text of the event that is said */
	unsigned event;
};

static uint8_t scratch[PIECE_MAX + 64];

static void
say_text(struct party *p, const char *text)
{
	party_say(p, text, strlen(text));
}

static size_t
some_len(void)
{
	return (size_t)rnd_scale(1, rnd_chance(300) ? PIECE_MAX : 300);
}

/* A piece of a chunked body. */
static void
say_chunk(struct party *p, const uint8_t *bytes, size_t len)
{
	static uint8_t chunk[sizeof(scratch) + 64];
	const char *extension = rnd_chance(300) ? ";a=b" : "";
	size_t n = (size_t)snprintf((char *)chunk, 32, rnd_chance(500) ? "%04zX%s\r\n" : "%zx%s\r\n", len, extension);

	memcpy(chunk + n, bytes, len);
	memcpy(chunk + n + len, "\r\n", 2);
	party_say(p, chunk, n + len + 2);
}

static void
fill(size_t len)
{
	uint8_t b = (uint8_t)rnd();

	for (size_t i = 0; i < len; i++)
		scratch[i] = b = (uint8_t)(b * 5 + 1);
}

/* The next piece of a body that is no event stream. False: that was the last. */
static bool
say_piece(struct party *p)
{
	struct http *h = p->state;
	size_t len = some_len();

	if (h->form == SIZED && len > h->left)
		len = h->left;
	fill(len);
	if (h->form != CHUNKED) {
		party_say(p, scratch, len);
		h->left -= h->form == SIZED ? len : 0;
		return h->form == SIZED ? h->left > 0 : --h->pieces > 0;
	}
	if (h->pieces-- > 0) {
		say_chunk(p, scratch, len);
		return true;
	}
	say_text(p, rnd_chance(500) ? "0\r\nX-Trailer: x\r\n\r\n" : "0\r\n\r\n");
	return false;
}

static void
draw_body(struct http *h, enum form form)
{
	h->form = (uint8_t)form;
	h->left = form == SIZED ? some_len() * (rnd_chance(1000) ? 10 : 1) : 0;
	h->pieces = (unsigned)rnd_scale(1, 10);
}

static void
write_length(const struct http *h, char *head, size_t size)
{
	if (h->form == SIZED)
		snprintf(head, size, "Content-Length: %zu\r\n", h->left);
	else
		snprintf(head, size, "%s", h->form == CHUNKED ? "Transfer-Encoding: chunked\r\n" : "");
}

/* --- the client --- */

static void
say_request(struct party *p)
{
	struct http *h = p->state;
	const enum form answer = (enum form)rnd_below(FORMS);
	const bool is_events = answer >= CHUNKED && rnd_chance(7000);
	char head[300], length[60] = "";

	draw_body(h, rnd_chance(7000) ? NONE : rnd_chance(5000) ? SIZED : CHUNKED);
	write_length(h, length, sizeof(length));
	h->says_body = h->form != NONE;
	h->awaits_100 = h->says_body && rnd_chance(2000);
	h->is_due = true;
	h->in_body = false;
	snprintf(head, sizeof(head), "%s /talk/%07ld/%s%s HTTP/1.1\r\nHost: x\r\n%s%s\r\n", h->form == NONE ? "GET" : "POST", p->talk->number,
	    form_names[answer], is_events ? "/events" : "", length, h->awaits_100 ? "Expect: 100-continue\r\n" : "");
	say_text(p, head);
}

static void
begin(struct party *p)
{
	if (p->side != CLIENT)
		return;
	say_request(p);
	party_think(p, rnd_scale(10, SECONDS));
}

static void
client_act(struct party *p)
{
	struct http *h = p->state;
	const bool wants_end = world_us >= p->talk->stops_us && !h->says_body;

	if (p->says_fin)
		return;
	if (wants_end && (!h->is_due || rnd_chance(2000))) {
		if (rnd_chance(1000))
			party_abort(p);
		else if (rnd_chance(1000))
			party_finish(p);
		else
			party_quit(p);
		return;
	}
	if (h->says_body && !h->awaits_100)
		h->says_body = say_piece(p);
	else if (!h->is_due && !h->says_body)
		say_request(p);
	party_think(p, rnd_scale(10, !h->says_body && rnd_chance(2000) ? 20 * MINUTES : 2 * SECONDS));
}

static void
take_text(struct text *t, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const uint8_t c = bytes[i];

		t->has_begun = true;
		if (c == '\n' && t->is_behind_cr) {
			t->is_behind_cr = false;
			t->style = CRLF;
			continue;
		}
		if (c == '\n' || t->is_behind_cr)
			t->style = t->is_behind_cr ? CR : LF;
		t->is_behind_cr = c == '\r';
		if (c != '\n' && c != '\r') {
			if (t->n < sizeof(t->line))
				t->line[t->n++] = (char)c;
			continue;
		}
		if (t->n == 0 || t->line[0] != ':')
			t->is_open = t->n > 0;
		t->has_ids |= t->n >= 3 && memcmp(t->line, "id:", 3) == 0;
		t->n = 0;
	}
}

static void
hear_head(struct party *p, const char *head, size_t len)
{
	struct http *h = p->state;
	const char *at;

	if (memmem(head, len, " 100 ", 5) != NULL) {
		h->awaits_100 = false;
		return;
	}
	if (memmem(head, len, " 103 ", 5) != NULL)
		return;
	h->in_body = true;
	h->text = (struct text){ 0 };
	h->is_events = memmem(head, len, "event-stream", 12) != NULL;
	h->is_packed = memmem(head, len, "gzip", 4) != NULL;
	at = memmem(head, len, "Content-Length: ", 16);
	/* Its own body has been said whole by then: the server waits for it. */
	h->form = (uint8_t)(at != NULL ? SIZED : memmem(head, len, "chunked", 7) != NULL ? CHUNKED : TO_END);
	h->left = at != NULL ? strtoul(at + 16, NULL, 10) : 0;
	if ((h->form == SIZED && h->left == 0) || memmem(head, len, " 204 ", 5) != NULL)
		h->is_due = h->in_body = false;
}

static void
client_hear(struct party *p, const uint8_t *message, size_t len)
{
	struct http *h = p->state;
	const uint8_t *data;

	if (!h->in_body) {
		hear_head(p, (const char *)message, len);
		return;
	}
	if (h->form == SIZED) {
		h->left -= len;
		h->is_due = h->in_body = h->left > 0;
	} else if (h->form == CHUNKED && message[0] == '0' && strtoul((const char *)message, NULL, 16) == 0) {
		h->is_due = h->in_body = false;
	} else if (h->form == CHUNKED) {
		data = (const uint8_t *)memchr(message, '\n', len) + 1;
		take_text(&h->text, data, (size_t)(message + len - data) - 2);
	} else {
		take_text(&h->text, message, len);
	}
}

/* --- the server --- */

static void
say_response(struct party *p)
{
	struct http *h = p->state;
	char head[300], length[60] = "";

	draw_body(h, (enum form)h->answer);
	if (rnd_chance(300))
		say_text(p, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
	write_length(h, length, sizeof(length));
	h->closes = h->form == TO_END || rnd_chance(300);
	h->is_packed = h->is_events && rnd_chance(1000);
	h->line_end = (uint8_t)(rnd_chance(6000) ? 0 : rnd_below(3));
	h->at = h->event = 0;
	h->in_body = h->form != NONE;
	snprintf(head, sizeof(head), "HTTP/1.%c %s\r\n%s%s%s%s\r\n", h->form == TO_END && rnd_chance(5000) ? '0' : '1',
	    h->form == NONE ? "204 No Content" : "200 OK", h->is_events ? "Content-Type: text/event-stream\r\n" : "", length,
	    h->is_packed ? "Content-Encoding: gzip\r\n" : "", h->closes ? "Connection: close\r\n" : "");
	say_text(p, head);
}

/* Some of the text of an event, cut anywhere; often a whole one. False: that was the last. */
static bool
say_events(struct party *p)
{
	struct http *h = p->state;
	const char *end = line_ends[h->line_end];
	char text[200], id[30] = "";
	size_t len, n;

	if (h->event % 3 == 2 && p->talk->number % 2 == 0)
		snprintf(id, sizeof(id), "id: %u%s", h->event, end);
	len = (size_t)snprintf(text, sizeof(text), "%sdata: %.*s%sdata: more%s%s", id, (int)(h->event % 40), "0123456789012345678901234567890123456789",
	    end, end, end);
	n = rnd_chance(8000) ? len - h->at : (size_t)rnd_between(1, (int64_t)(len - h->at));
	if (h->form == CHUNKED)
		say_chunk(p, (const uint8_t *)text + h->at, n);
	else
		party_say(p, text + h->at, n);
	h->at += n;
	if (h->at < len)
		return true;
	h->at = 0;
	h->event++;
	return --h->pieces > 0;
}

static void
end_response(struct party *p)
{
	struct http *h = p->state;

	h->in_body = false;
	if (!h->closes)
		return;
	if (rnd_chance(5000))
		party_finish(p);
	else
		party_quit(p);
}

static void
server_act(struct party *p)
{
	struct http *h = p->state;
	bool goes_on;

	if (p->says_fin)
		return;
	if (!h->is_asked && !h->in_body) {
		party_quit(p);		/* an idle connection */
		return;
	}
	if (h->is_asked) {
		h->is_asked = false;
		say_response(p);
		goes_on = h->in_body;
	} else if (!h->is_events || h->is_packed) {
		goes_on = say_piece(p);
	} else {
		goes_on = say_events(p);
		if (!goes_on && h->form == CHUNKED)
			say_text(p, "0\r\n\r\n");
	}
	if (!goes_on)
		end_response(p);
	if (p->tcp == NULL)
		return;
	if (goes_on)
		party_think(p, rnd_scale(10, h->is_events && rnd_chance(2000) ? 10 * MINUTES : SECONDS));
	else if (rnd_chance(300))
		party_think(p, rnd_scale(MS, 10 * MINUTES));
}

static void
hear_request(struct party *p, const char *head, size_t len)
{
	struct http *h = p->state;
	const char *at = memmem(head, len, "Content-Length: ", 16);

	for (int f = 0; f < FORMS; f++)
		if (memmem(head, len < 40 ? len : 40, form_names[f], strlen(form_names[f])) != NULL)
			h->answer = (uint8_t)f;
	h->is_events = memmem(head, len, "/events", 7) != NULL;
	h->form = (uint8_t)(at != NULL ? SIZED : memmem(head, len, "Transfer-Encoding", 17) != NULL ? CHUNKED : NONE);
	h->left = at != NULL ? strtoul(at + 16, NULL, 10) : 0;
	if (memmem(head, len, "Expect", 6) != NULL)
		say_text(p, "HTTP/1.1 100 Continue\r\n\r\n");
	h->says_body = h->form != NONE;		/* that of the request is awaited */
}

static void
server_hear(struct party *p, const uint8_t *message, size_t len)
{
	struct http *h = p->state;

	if (p->says_fin)
		return;
	happen_not(&p->think);			/* it does not close an idle connection now */
	if (!h->says_body) {
		hear_request(p, (const char *)message, len);
	} else if (h->form == SIZED) {
		h->left -= len;
		h->says_body = h->left > 0;
	} else {
		h->says_body = strtoul((const char *)message, NULL, 16) != 0;
	}
	if (h->says_body)
		return;
	h->is_asked = true;
	party_think(p, rnd_chance(300) ? rnd_scale(MS, 5 * MINUTES) : rnd_between(5, 300));
}

/* --- both --- */

static void
hear(struct party *p, const uint8_t *message, size_t len)
{
	((struct http *)p->state)->zeros = 0;
	if (p->side == CLIENT)
		client_hear(p, message, len);
	else
		server_hear(p, message, len);
}

/* The comment that may come there, with the stream's own line ends; NULL: none may. */
static const char *
comment_at(const struct text *t, char comment[8])
{
	const bool has_empty_line = !t->is_open && !t->has_ids;

	if (!t->has_begun || t->n > 0 || (t->is_behind_cr && t->style != CR))
		return NULL;
	snprintf(comment, 8, ":%s%s", line_ends[t->style], has_empty_line ? line_ends[t->style] : "");
	return comment;
}

/* A zero before the size of the next chunk, of seven at most; the first bytes of the response, which need not be all of them. */
static long
early(struct party *p, const uint8_t *bytes, size_t len)
{
	struct http *h = p->state;

	if (p->side == CLIENT && h->is_due && !h->in_body && len < 8 && memcmp(bytes, "HTTP/1.", len < 7 ? len : 7) == 0)
		return 0;
	if (bytes[0] != '0' || h->form != CHUNKED || !(p->side == CLIENT ? h->in_body : h->says_body))
		return -1;
	if (party_other(p)->said.n == 0)
		return len > 7 ? -1 : 0;	/* some may be those of the chunk that is to come */
	if (++h->zeros > 7)
		wrong("legal", "talk %ld: more than seven zeros", p->talk->number);
	return 1;
}

static long
heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	struct http *h = p->state;
	char comment[8], expected[20];
	size_t n;

	if (p->talk->speech == &speech_http_early)
		return early(p, bytes, len);

	if (p->side != CLIENT || !h->in_body || !h->is_events || h->is_packed || comment_at(&h->text, comment) == NULL)
		return -1;
	if (h->form == CHUNKED)
		snprintf(expected, sizeof(expected), "%zx\r\n%s\r\n", strlen(comment), comment);
	else
		snprintf(expected, sizeof(expected), "%s", comment);
	n = strlen(expected);
	if (memcmp(bytes, expected, len < n ? len : n) != 0)
		return -1;
	return len < n ? 0 : (long)n;
}

static long
number(const uint8_t *bytes, size_t len)
{
	const uint8_t *at = memmem(bytes, len, "/talk/", 6);

	if (at == NULL || bytes + len - at < 14)
		return len < 60 ? -2 : -1;
	return strtol((const char *)at + 6, NULL, 10);
}

/* An event stream that the program ends between two events is whole: its last chunk. */
static long
goodbye(struct party *p, const uint8_t *bytes, size_t len)
{
	static const char last[] = "0\r\n\r\n";

	if (p->side != CLIENT || memcmp(bytes, last, len < 5 ? len : 5) != 0)
		return -1;
	return len < 5 ? 0 : 5;
}

const struct speech speech_http = { .name = "http", .state_size = sizeof(struct http), .begin = begin, .hear = { hear, hear }, .act = { client_act, server_act },
	.heartbeat = heartbeat, .goodbye = goodbye, .number = number };
const struct speech speech_http_auto = { .name = "http_auto", .protocol = "auto", .state_size = sizeof(struct http), .begin = begin,
	.hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .number = number };
/* Heartbeats are bytes that come anyway. */
const struct speech speech_http_early = { .name = "http_early", .protocol = "http", .keys = "heartbeat_kind = early\n",
	.state_size = sizeof(struct http), .begin = begin, .hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .number = number };
const struct speech speech_http_tls = { .name = "http_tls", .protocol = "http", .secrecy = { SECURE_DIRECT, SECURE_DIRECT }, .state_size = sizeof(struct http),
	.begin = begin, .hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .number = number };
