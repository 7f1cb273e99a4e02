/*
 * http_exchange.c - one exchange of HTTP/1.1: a request, its response, the upgrade that may follow; and its heartbeats.
 *
 * Each direction is at the start of a message, in its head, or in its body
 * (http_head.c, http_body.c). At most one request is open, so both directions
 * share one head. After a 101 to WebSocket, websocket.c takes over the state.
 */
#include <string.h>

#include "codec/http.h"
#include "stent/promise.h"

static const char version_prefix[HTTP_EARLY_MAX] = "HTTP/1.";
_Static_assert(sizeof("HTTP/1.") - 1 == HTTP_EARLY_MAX, "each early byte is one of it");
#define AFTER_UPGRADE "bytes after a request to upgrade"

/* A request's head has ended. */
static const char *
open_exchange(struct http *h)
{
	struct http_exchange *x = &h->exchange;
	unsigned upgrade = FACT_UPGRADE_WS | FACT_UPGRADE_H2C | FACT_UPGRADE_OTHER;

	promise(x->head.is_request && !x->is_open && http_body_is_done(&x->body[CLIENT]));
	if (x->head.method == METHOD_CONNECT)
		return "tunnel (CONNECT)";
	x->is_open = true;
	x->is_head = x->head.method == METHOD_HEAD;
	x->expects = (x->head.facts & FACT_EXPECT) != 0;
	x->wants_upgrade = (x->head.facts & upgrade) != 0;
	x->wants_websocket = (x->head.facts & FACT_UPGRADE_WS) != 0;
	x->has_early_frames = false;
	memset(&x->early_frames, 0, sizeof(x->early_frames));
	return http_body_start(&x->body[CLIENT], &x->head);
}

/* 101: from here on both directions speak another protocol. */
static const char *
upgrade(struct http *h)
{
	struct http_exchange *x = &h->exchange;
	unsigned facts = x->head.facts;
	const struct ws_early early = x->early_frames;

	promise_or(!h->is_websocket && x->is_open, NULL);
	promise(early.stream.n_held == early.stream.n_passed);	/* all of it has gone out */
	if ((facts & (FACT_UPGRADE_H2C | FACT_UPGRADE_OTHER)) == FACT_UPGRADE_H2C)
		return "upgrade to h2c (HTTP/2)";
	if ((facts & (FACT_UPGRADE_H2C | FACT_UPGRADE_OTHER)) != 0)
		return "upgrade to another protocol";
	if ((facts & FACT_UPGRADE_WS) == 0 || (facts & FACT_WS_ACCEPT) == 0 || !x->wants_websocket)
		return "101 that is not a WebSocket handshake";
	if (x->part[CLIENT] != PART_START)
		return "101 before the request has ended";
	memset(&h->ws, 0, sizeof(h->ws));
	h->ws.nonce = h->nonce;
	h->ws.stream[CLIENT] = early.stream;
	h->ws.pings[BACKEND] = early.pings;
	h->is_websocket = true;
	return NULL;
}

/* A response's head has ended. */
static const char *
read_response(struct http *h)
{
	struct http_exchange *x = &h->exchange;
	unsigned status = x->head.status;
	const char *why;

	promise(!x->head.is_request && x->is_open && x->prefix == 0);	/* what was sent early of it has come */
	promise(http_body_is_done(&x->body[BACKEND]));
	if (status == 101)
		return upgrade(h);
	if (status < 200) {	/* interim: the final one is still to come */
		if (status == 100)
			x->expects = false;	/* the body comes now */
		http_body_none(&x->body[BACKEND]);
		return NULL;
	}
	if (x->has_early_frames)
		return AFTER_UPGRADE;
	if (x->expects && !http_body_is_done(&x->body[CLIENT]))
		return "a response in place of 100-continue";
	why = http_body_start(&x->body[BACKEND], &x->head);
	memset(&x->events, 0, sizeof(x->events));
	if (why == NULL && (x->is_head || status == 204 || status == 304))
		http_body_none(&x->body[BACKEND]);
	if (why == NULL && http_body_is_done(&x->body[BACKEND]))
		x->is_open = false;
	if (!h->sends_comments || status > 299)
		x->body[BACKEND].is_events = false;	/* then its bytes need not be read */
	return why;
}

/* The first byte of a message, or of an empty line before a request (RFC 9112, 2.2). */
static const char *
start_message(struct http_exchange *x, enum side from, uint8_t c)
{
	promise(x->part[from] == PART_START && http_body_is_done(&x->body[from]));
	if (from == CLIENT && x->is_open)
		return x->wants_upgrade ? AFTER_UPGRADE : "pipelined requests";
	if (from == BACKEND && !x->is_open)
		return c == 0x16 ? "TLS" : "a response without a request";
	promise(x->part[side_other(from)] != PART_HEAD);	/* they share one head */
	http_head_start(&x->head, from == CLIENT);
	x->part[from] = PART_HEAD;
	return NULL;
}

void
http_exchange_end_body(struct http_exchange *x, enum side from)
{
	if (x->part[from] != PART_BODY || !http_body_is_done(&x->body[from]))
		return;
	x->part[from] = PART_START;
	promise(from == CLIENT || x->is_open);
	if (from == BACKEND)
		x->is_open = false;
}

/* The head, without the bytes of it that the client got early. */
static size_t
feed_head(struct http *h, enum side from, const uint8_t *buf, size_t len, struct codec_out *out,
    const char **why)
{
	struct http_exchange *x = &h->exchange;
	bool is_sent = from == BACKEND && x->prefix > 0;
	size_t n;

	promise_or(x->part[from] == PART_HEAD && x->head.is_request == (from == CLIENT), 0);
	promise_or(x->prefix <= HTTP_EARLY_MAX, 0);
	n = http_head_feed(&x->head, buf, is_sent && len > x->prefix ? x->prefix : len, why);

	if (is_sent) {
		promise_or(n <= x->prefix, 0);
		x->prefix -= (uint8_t)n;
		out->early += (unsigned)n;
	} else {
		codec_emit(out, buf, n);
	}
	if (*why != NULL || !http_head_is_done(&x->head))
		return n;
	x->part[from] = PART_START;
	*why = from == CLIENT ? open_exchange(h) : read_response(h);
	if (*why == NULL && !h->is_websocket && !http_body_is_done(&x->body[from]))
		x->part[from] = PART_BODY;
	return n;
}

/*
 * The client may send frames at once after its request to upgrade to WebSocket. They are followed as if the response
 * were a 101; any other response leads to passthrough.
 */
static size_t
feed_early_frames(struct http_exchange *x, const uint8_t *buf, size_t len, struct codec_out *out, const char **why)
{
	const size_t n = ws_feed_early(&x->early_frames, buf, len, why);

	promise(x->is_open && x->wants_websocket && x->part[CLIENT] == PART_START);
	promise_or(n <= len && (n == len || *why != NULL), 0);
	x->has_early_frames = true;
	codec_emit(out, buf, n);
	if (*why != NULL)
		*why = AFTER_UPGRADE;
	return n;
}

size_t
http_exchange_feed(struct http *h, enum side from, const uint8_t *buf, size_t len,
    struct codec_out *out, const char **why)
{
	struct http_exchange *x = &h->exchange;
	size_t n;

	promise_or(!h->is_websocket && x->part[from] <= PART_BODY, 0);
	promise(!x->is_open || x->part[CLIENT] != PART_HEAD);	/* its request has been read */
	promise(x->is_open || x->part[BACKEND] == PART_START);
	switch (x->part[from]) {
	case PART_START:
		if (from == CLIENT && x->has_early_frames)
			return feed_early_frames(x, buf, len, out, why);
		if (from == CLIENT && (*buf == '\r' || *buf == '\n')) {
			codec_emit(out, buf, 1);
			return 1;
		}
		if (from == CLIENT && x->is_open && x->wants_websocket)
			return feed_early_frames(x, buf, len, out, why);
		*why = start_message(x, from, *buf);
		return 0;
	case PART_HEAD:
		return feed_head(h, from, buf, len, out, why);
	default:
		if (from == CLIENT)
			x->expects = false;
		n = http_body_feed(&x->body[from], from == BACKEND ? &x->events : NULL, buf, len, out, why);
		http_exchange_end_body(x, from);
		return n;
	}
}

/* ---- its heartbeats ---- */

/* The bytes from that side stand between two chunks. */
static bool
at_chunk(const struct http_exchange *x, enum side from)
{
	return x->part[from] == PART_BODY && http_body_at_chunk(&x->body[from]);
}

/* A whole request waits for the first byte of its response. */
static bool
awaits_response(const struct http_exchange *x)
{
	return x->is_open && x->part[BACKEND] == PART_START && x->part[CLIENT] == PART_START;
}

/* A response whose body is a stream of events is under way. */
bool
http_exchange_is_in_events(const struct http *h)
{
	return !h->is_websocket && h->exchange.part[BACKEND] == PART_BODY && h->exchange.body[BACKEND].is_events;
}

/* Why no comment may go into the stream of events now; NULL: one may. */
static const char *
why_no_comment(const struct http *h)
{
	const struct http_body *b = &h->exchange.body[BACKEND];

	promise_or(h->settings != NULL && http_exchange_is_in_events(h), "");
	if (!http_body_ends_at_fin(b) && !http_body_at_chunk(b))
		return "in the middle of a chunk";
	switch (http_events_place(&h->exchange.events)) {
	case PLACE_START:
		return h->settings->comment_at_start ? NULL : "no event has come yet";
	case PLACE_IN_LINE:
		return "in the middle of a line";
	default:
		return NULL;
	}
}

unsigned
http_exchange_may_heartbeat(const struct http *h, enum side to)
{
	const struct http_exchange *x = &h->exchange;
	enum side from = side_other(to);
	const struct http_body *b = &x->body[from];

	if (!h->heartbeats_http)
		return 0;
	if (to == CLIENT && http_exchange_is_in_events(h))
		return why_no_comment(h) == NULL ? HEARTBEAT_ONEWAY : 0;
	if (!h->sends_early[to] || (to == BACKEND && x->expects))
		return 0;	/* a body that waits for 100-continue may never come */
	if (at_chunk(x, from))
		return b->early < HTTP_EARLY_MAX ? HEARTBEAT_EARLY : 0;
	return to == CLIENT && awaits_response(x) && x->prefix < HTTP_EARLY_MAX ? HEARTBEAT_EARLY : 0;
}

/* Why a response gets no comments at all. */
static const char *
why_no_events(const struct http_head *head)
{
	if ((head->facts & (FACT_EVENTS | FACT_TYPE_OTHER)) != FACT_EVENTS || head->status > 299)
		return "the response is not an event stream";
	if ((head->facts & (FACT_ENCODED | FACT_CODING_OTHER)) != 0)
		return "compressed event stream";
	return "event stream with a Content-Length";
}

const char *
http_exchange_why_none(const struct http *h, enum side to)
{
	const struct http_exchange *x = &h->exchange;

	if (!h->heartbeats_http)
		return "before the upgrade";
	if (http_exchange_may_heartbeat(h, to) != 0)
		return NULL;
	if (h->sends_early[to])
		return "no byte is certain to come next";
	if (to == BACKEND)
		return "HTTP has none for a server";
	if (http_exchange_is_in_events(h))
		return why_no_comment(h);
	if (x->part[BACKEND] == PART_BODY)
		return why_no_events(&x->head);
	return x->is_open ? "request under way" : "no request under way";
}

/* A stream of events stands between two of them; its request has been sent whole. */
bool
http_exchange_is_between_events(const struct http *h)
{
	const struct http_exchange *x = &h->exchange;
	const struct http_body *b = &x->body[BACKEND];
	const enum http_place place = http_events_place(&x->events);

	return http_exchange_is_in_events(h) && x->part[CLIENT] == PART_START && (place == PLACE_START || place == PLACE_BETWEEN_EVENTS) &&
	    (http_body_ends_at_fin(b) || (http_body_at_chunk(b) && !b->promised));
}

/* At rest, a stream of events in chunks gets its last chunk. In other cases it must not look complete. */
size_t
http_exchange_last_chunk(const struct http *h, enum side to, const struct codec_close_info *info, uint8_t *buf)
{
	static const char text[] = "0\r\n\r\n";

	if (to != CLIENT || !info->at_rest || !http_exchange_is_in_events(h) || http_body_ends_at_fin(&h->exchange.body[BACKEND]))
		return 0;
	memcpy(buf, text, sizeof(text) - 1);
	return sizeof(text) - 1;
}

size_t
http_exchange_heartbeat(struct http *h, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	struct http_exchange *x = &h->exchange;

	promise_or((http_exchange_may_heartbeat(h, to) & kind) != 0, 0);
	if (kind == HEARTBEAT_ONEWAY)
		return http_body_comment(&x->body[BACKEND], &x->events, &h->settings->comment, buf);
	if (at_chunk(x, side_other(to))) {
		http_body_send_zero(&x->body[side_other(to)]);
		buf[0] = '0';
	} else {
		promise_or(to == CLIENT && awaits_response(x) && x->prefix < HTTP_EARLY_MAX, 0);
		buf[0] = (uint8_t)version_prefix[x->prefix++];
	}
	return 1;
}
