/*
 * http.c - HTTP/1.1 exchanges, and the WebSocket that one of them may become:
 * the codecs `http`, `sse` (the same by another name) and `websocket`.
 *
 * Each direction is at the start of a message, in its head, or in its body
 * (http_head.c, http_body.c). At most one request is open, so both directions
 * share one head. After a 101 to WebSocket, websocket.c takes over the state.
 * Heartbeats before an upgrade (rows `http` and `sse` only) are one-way to the
 * client: a comment in a stream of server-sent events (http_events.c); and
 * early, opt-in: a leading zero of the next chunk's size, or the next byte of
 * "HTTP/1." while a whole request waits for its response.
 *
 * From the first byte that is not understood, a direction is passed on unread;
 * passthrough follows once the other direction is settled.
 */
#include <assert.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/http.h"

enum part { PART_START, PART_HEAD, PART_BODY };

struct exchange {
	struct http_head head;		/* the one being read, of either side */
	struct http_body body[2];	/* by the side that sends it */
	struct http_events events;	/* where the text of a response of events stands */
	uint8_t part[2];
	uint8_t prefix;			/* bytes of "HTTP/1." that the client got early */
	bool is_open;			/* a request has been read, and its response has not ended */
	bool is_head;			/* ... it was HEAD */
	bool expects;			/* ... it has Expect; neither 100 nor its body has come yet */
	bool wants_upgrade;		/* ... it has Upgrade */
	bool wants_websocket;		/* ... to websocket */
	bool has_early_frames;		/* ... and the client did not wait for the response: */
	struct ws_early early_frames;
};

struct http {
	const char *passthrough;	/* reason to become passthrough; NULL: none */
	bool is_blind[2];	/* bytes from that side are passed on unread */
	bool is_finished[2];	/* that side has sent its FIN */
	bool is_websocket;
	bool heartbeats_http;	/* heartbeats before an upgrade: not in the row `websocket` */
	bool sends_comments;	/* comments to the client */
	bool sends_early[2];	/* early heartbeats to that side */
	uint32_t nonce;		/* random: for heartbeats after an upgrade */
	const struct codec_settings *settings;	/* NULL in the row `websocket` */
	union {
		struct exchange exchange;
		struct ws ws;
	};
};

_Static_assert(sizeof(struct http) <= 184, "memory of idle flows counts");

static const char version_prefix[HTTP_EARLY_MAX] = "HTTP/1.";
#define AFTER_UPGRADE "bytes after a request to upgrade"

static bool
configure_websocket(void *state, const struct codec_settings *settings)
{
	(void)state;	/* zeros are right, and no setting applies */
	(void)settings;
	return true;
}

static bool
configure_http(void *state, const struct codec_settings *settings)
{
	struct http *h = state;

	h->heartbeats_http = true;
	h->settings = settings;
	/* Comments and early heartbeats exclude each other: a reader that needs the latter may not know comments. */
	h->sends_comments = settings->heartbeats[CLIENT] && settings->kind[CLIENT] != HEARTBEAT_EARLY;
	for (enum side to = CLIENT; to <= BACKEND; to++)
		h->sends_early[to] = settings->kind[to] == HEARTBEAT_EARLY;
	return true;
}

static void
seed(void *state, uint64_t random)
{
	struct http *h = state;

	h->nonce = (uint32_t)random;
}

/* A request's head has ended. */
static const char *
open_exchange(struct http *h)
{
	struct exchange *x = &h->exchange;
	unsigned upgrade = FACT_UPGRADE_WS | FACT_UPGRADE_H2C | FACT_UPGRADE_OTHER;

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
	struct exchange *x = &h->exchange;
	unsigned facts = x->head.facts;
	const struct ws_early early = x->early_frames;

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
	struct exchange *x = &h->exchange;
	unsigned status = x->head.status;
	const char *why;

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
start_message(struct exchange *x, enum side from, uint8_t c)
{
	if (from == CLIENT && x->is_open)
		return x->wants_upgrade ? AFTER_UPGRADE : "pipelined requests";
	if (from == BACKEND && !x->is_open)
		return c == 0x16 ? "TLS" : "a response without a request";
	http_head_start(&x->head, from == CLIENT);
	x->part[from] = PART_HEAD;
	return NULL;
}

static void
end_body(struct exchange *x, enum side from)
{
	if (x->part[from] != PART_BODY || !http_body_is_done(&x->body[from]))
		return;
	x->part[from] = PART_START;
	assert(from == CLIENT || x->is_open);
	if (from == BACKEND)
		x->is_open = false;
}

/* The head, without the bytes of it that the client got early. */
static size_t
feed_head(struct http *h, enum side from, const uint8_t *buf, size_t len, struct codec_out *out,
    const char **why)
{
	struct exchange *x = &h->exchange;
	bool is_sent = from == BACKEND && x->prefix > 0;
	size_t n = http_head_feed(&x->head, buf, is_sent && len > x->prefix ? x->prefix : len, why);

	if (is_sent) {
		assert(n <= x->prefix);
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
feed_early_frames(struct exchange *x, const uint8_t *buf, size_t len, struct codec_out *out, const char **why)
{
	const size_t n = ws_feed_early(&x->early_frames, buf, len, why);

	x->has_early_frames = true;
	codec_emit(out, buf, n);
	if (*why != NULL)
		*why = AFTER_UPGRADE;
	return n;
}

static size_t
feed_exchange(struct http *h, enum side from, const uint8_t *buf, size_t len,
    struct codec_out *out, const char **why)
{
	struct exchange *x = &h->exchange;
	size_t n;

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
		end_body(x, from);
		return n;
	}
}

static bool
is_early(const void *state, enum side to)
{
	const struct http *h = state;

	return !h->is_websocket && (h->exchange.body[side_other(to)].promised ||
	    (to == CLIENT && h->exchange.prefix > 0));
}

/* The bytes from that side need not be changed any more. */
static bool
is_settled(const struct http *h, enum side from)
{
	if (h->is_blind[from])
		return true;
	if (!h->is_websocket)
		return !is_early(h, side_other(from));
	return h->is_finished[from] || ws_is_settled(&h->ws, from);
}

/* The bytes from that side are not understood from here on. */
static void
stop_reading(struct http *h, enum side from, const char *why, struct codec_out *out)
{
	if (h->is_websocket)
		ws_release(&h->ws, from, out);
	h->is_blind[from] = true;
	if (h->passthrough == NULL)
		h->passthrough = why;
}

/*
 * Passthrough when both directions are settled, or when what came is not what
 * was sent early: waiting would not help, and the relay resets the flow.
 */
static void
check_passthrough(const struct http *h, struct codec_out *out)
{
	bool is_broken = (h->is_blind[CLIENT] && is_early(h, BACKEND)) ||
	    (h->is_blind[BACKEND] && is_early(h, CLIENT));

	if (h->passthrough != NULL && (is_broken || (is_settled(h, CLIENT) && is_settled(h, BACKEND))))
		out->passthrough = h->passthrough;
}

static size_t
feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct http *h = state;
	size_t done = 0;

	while (done < len && out->passthrough == NULL && codec_out_has_room(out)) {
		const char *why = NULL;

		if (h->is_blind[from]) {
			codec_emit(out, buf + done, len - done);
			done = len;
		} else if (h->is_websocket) {
			done += ws_feed(&h->ws, from, buf + done, len - done, out, &why);
		} else {
			done += feed_exchange(h, from, buf + done, len - done, out, &why);
		}
		if (why != NULL)
			stop_reading(h, from, why, out);
		check_passthrough(h, out);
	}
	return done;
}

static void
finish(void *state, enum side from, struct codec_out *out)
{
	struct http *h = state;

	if (h->is_websocket)
		ws_release(&h->ws, from, out);
	h->is_finished[from] = true;
	check_passthrough(h, out);
}

static uint64_t
skippable(const void *state, enum side from)
{
	const struct http *h = state;

	if (h->is_blind[from])
		return UINT64_MAX;
	if (h->is_websocket)
		return ws_skippable(&h->ws, from);
	return h->exchange.part[from] == PART_BODY ? http_body_skippable(&h->exchange.body[from]) : 0;
}

static void
skipped(void *state, enum side from, uint64_t n)
{
	struct http *h = state;

	if (h->is_blind[from])
		return;
	if (h->is_websocket) {
		ws_skipped(&h->ws, from, n);
		return;
	}
	if (from == CLIENT && n > 0)
		h->exchange.expects = false;
	http_body_skipped(&h->exchange.body[from], n);
	end_body(&h->exchange, from);
}

/* The bytes from that side stand between two chunks. */
static bool
at_chunk(const struct exchange *x, enum side from)
{
	return x->part[from] == PART_BODY && http_body_at_chunk(&x->body[from]);
}

/* A whole request waits for the first byte of its response. */
static bool
awaits_response(const struct exchange *x)
{
	return x->is_open && x->part[BACKEND] == PART_START && x->part[CLIENT] == PART_START;
}

/* A response whose body is a stream of events is under way. */
static bool
is_in_events(const struct http *h)
{
	return !h->is_websocket && h->exchange.part[BACKEND] == PART_BODY && h->exchange.body[BACKEND].is_events;
}

/* Why no comment may go into the stream of events now; NULL: one may. */
static const char *
why_no_comment(const struct http *h)
{
	const struct http_body *b = &h->exchange.body[BACKEND];

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

static unsigned
may_heartbeat_exchange(const struct http *h, enum side to)
{
	const struct exchange *x = &h->exchange;
	enum side from = side_other(to);
	const struct http_body *b = &x->body[from];

	if (!h->heartbeats_http)
		return 0;
	if (to == CLIENT && is_in_events(h))
		return why_no_comment(h) == NULL ? HEARTBEAT_ONEWAY : 0;
	if (!h->sends_early[to] || (to == BACKEND && x->expects))
		return 0;	/* a body that waits for 100-continue may never come */
	if (at_chunk(x, from))
		return b->early < HTTP_EARLY_MAX ? HEARTBEAT_EARLY : 0;
	return to == CLIENT && awaits_response(x) && x->prefix < HTTP_EARLY_MAX ? HEARTBEAT_EARLY : 0;
}

static unsigned
may_heartbeat(const void *state, enum side to)
{
	const struct http *h = state;

	if (h->passthrough != NULL || h->is_finished[side_other(to)])
		return 0;
	if (!h->is_websocket)
		return may_heartbeat_exchange(h, to);
	if (h->is_finished[to])
		return 0;	/* it sent its FIN without a Close, and cannot reply to a ping */
	return ws_may_heartbeat(&h->ws, to);
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

static const char *
why_none_in_exchange(const struct http *h, enum side to)
{
	const struct exchange *x = &h->exchange;

	if (!h->heartbeats_http)
		return "before the upgrade";
	if (may_heartbeat_exchange(h, to) != 0)
		return NULL;
	if (h->sends_early[to])
		return "no byte is certain to come next";
	if (to == BACKEND)
		return "HTTP has none for a server";
	if (is_in_events(h))
		return why_no_comment(h);
	if (x->part[BACKEND] == PART_BODY)
		return why_no_events(&x->head);
	return x->is_open ? "request under way" : "no request under way";
}

static const char *
why_none(const void *state, enum side to)
{
	const struct http *h = state;

	if (h->passthrough != NULL)
		return h->passthrough;
	if (!h->is_websocket)
		return why_none_in_exchange(h, to);
	if (h->is_finished[to])
		return "half-closed";
	return ws_why_none(&h->ws, to);
}

/* Inside a message of several frames, or an event. */
static bool
may_wait(const void *state, enum side to)
{
	const struct http *h = state;

	if (h->is_websocket)
		return ws_in_message(&h->ws, to);
	return to == CLIENT && is_in_events(h) && http_events_place(&h->exchange.events) == PLACE_IN_EVENT;
}

static bool
ends_at_fin(const void *state, enum side to)
{
	const struct http *h = state;
	const enum side from = side_other(to);

	return !h->is_websocket && h->exchange.part[from] == PART_BODY &&
	    http_body_ends_at_fin(&h->exchange.body[from]);
}

static bool
awaits_reply(const void *state, enum side by, bool pinged)
{
	const struct http *h = state;

	(void)pinged;
	return h->is_websocket && h->passthrough == NULL && ws_awaits_reply(&h->ws, by);
}

/* Before an upgrade the client gets heartbeats only in a stream of events. */
static bool
receive_only(const void *state, enum side to)
{
	const struct http *h = state;

	return to == CLIENT && !h->is_websocket;
}

static size_t
heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	struct http *h = state;
	struct exchange *x = &h->exchange;

	if (h->is_websocket)
		return ws_heartbeat(&h->ws, to, kind, buf);
	if (kind == HEARTBEAT_ONEWAY)
		return http_body_comment(&x->body[BACKEND], &x->events, &h->settings->comment, buf);
	if (at_chunk(x, side_other(to))) {
		http_body_send_zero(&x->body[side_other(to)]);
		buf[0] = '0';
	} else {
		assert(to == CLIENT && x->prefix < HTTP_EARLY_MAX);
		buf[0] = (uint8_t)version_prefix[x->prefix++];
	}
	return 1;
}

/* A stream of events stands between two of them; its request has been sent whole. */
static bool
is_between_events(const struct http *h)
{
	const struct exchange *x = &h->exchange;
	const struct http_body *b = &x->body[BACKEND];
	const enum http_place place = http_events_place(&x->events);

	return is_in_events(h) && x->part[CLIENT] == PART_START && (place == PLACE_START || place == PLACE_BETWEEN_EVENTS) &&
	    (http_body_ends_at_fin(b) || (http_body_at_chunk(b) && !b->promised));
}

static enum codec_rest
rest(const void *state)
{
	const struct http *h = state;
	const struct exchange *x = &h->exchange;

	if (h->passthrough != NULL || h->is_blind[CLIENT] || h->is_blind[BACKEND])
		return REST_UNSURE;
	if (h->is_websocket)
		return ws_is_at_rest(&h->ws) ? REST_SURE : REST_NONE;
	if (is_between_events(h))
		return REST_SURE;
	if (x->is_open || x->part[CLIENT] != PART_START || x->part[BACKEND] != PART_START || x->prefix > 0)
		return REST_NONE;
	return REST_SURE;
}

/* At rest, a stream of events in chunks gets its last chunk. In other cases it must not look complete. */
static size_t
last_chunk(const struct http *h, enum side to, const struct codec_close_info *info, uint8_t *buf)
{
	static const char text[] = "0\r\n\r\n";

	if (to != CLIENT || !info->at_rest || !is_in_events(h) || http_body_ends_at_fin(&h->exchange.body[BACKEND]))
		return 0;
	memcpy(buf, text, sizeof(text) - 1);
	return sizeof(text) - 1;
}

static size_t
close_message(void *state, enum side to, const struct codec_close_info *info,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	struct http *h = state;

	if (h->passthrough != NULL)
		return 0;
	if (!h->is_websocket)
		return last_chunk(h, to, info, buf);
	return ws_close_message(&h->ws, to, info, buf);
}

/* A side that sent a Close may close its socket with heartbeats unread, which is a reset. */
static bool
said_goodbye(const void *state, enum side from)
{
	const struct http *h = state;

	return h->is_websocket && ws_sent_close(&h->ws, from);
}

/* After the upgrade the flow is one of the row `websocket`, with its heartbeats. */
static const struct codec *
actual(const void *state)
{
	const struct http *h = state;

	return h->is_websocket ? &codec_websocket : NULL;
}

#define ALL_KINDS (HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY)
#define HTTP_ROW(row_name, what) { \
	.name = row_name, \
	.client_speaks = true, \
	.summary = what, \
	.alpn = { "http/1.1", "http/1.1" }, \
	.traits = CODEC_HAS_COMMENTS, \
	.state_size = sizeof(struct http), \
	.leg = { \
		[CLIENT] = { ALL_KINDS, HEARTBEAT_ONEWAY, 25000 }, \
		[BACKEND] = { ALL_KINDS, HEARTBEAT_PING, 25000 },	/* after an upgrade */ \
	}, \
	.configure = configure_http, \
	.seed = seed, \
	.feed = feed, \
	.finish = finish, \
	.skippable = skippable, \
	.skipped = skipped, \
	.may_heartbeat = may_heartbeat, \
	.why_none = why_none, \
	.may_wait = may_wait, \
	.said_goodbye = said_goodbye, \
	.heartbeat = heartbeat, \
	.awaits_reply = awaits_reply, \
	.receive_only = receive_only, \
	.actual = actual, \
	.is_early = is_early, \
	.ends_at_fin = ends_at_fin, \
	.rest = rest, \
	.close_message = close_message, \
}

const struct codec codec_http = HTTP_ROW("http", "HTTP/1.1: event streams, WebSocket after an upgrade");
const struct codec codec_sse = HTTP_ROW("sse", "server-sent events: the same as http");

const struct codec codec_websocket = {
	.name = "websocket",
	.client_speaks = true,
	.summary = "WebSocket (RFC 6455), from its HTTP/1.1 request on",
	.alpn = { "http/1.1", "http/1.1" },
	.state_size = sizeof(struct http),
	.leg = {
		[CLIENT] = { HEARTBEAT_ONEWAY | HEARTBEAT_PING, HEARTBEAT_PING, 25000 },
		[BACKEND] = { HEARTBEAT_ONEWAY | HEARTBEAT_PING, HEARTBEAT_PING, 25000 },
	},
	.configure = configure_websocket,
	.seed = seed,
	.feed = feed,
	.finish = finish,
	.skippable = skippable,
	.skipped = skipped,
	.may_heartbeat = may_heartbeat,
	.why_none = why_none,
	.may_wait = may_wait,
	.said_goodbye = said_goodbye,
	.heartbeat = heartbeat,
	.awaits_reply = awaits_reply,
	.is_early = is_early,
	.ends_at_fin = ends_at_fin,
	.rest = rest,
	.close_message = close_message,
};
