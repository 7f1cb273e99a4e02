/*
 * http.c - HTTP/1.1 exchanges, and the WebSocket that one of them may become:
 * the codecs `http`, `sse` (the same by another name) and `websocket`.
 *
 * Before an upgrade the state is that of one exchange (http_exchange.c), after a
 * 101 to WebSocket that of its frames (websocket.c).
 * Heartbeats before an upgrade (rows `http` and `sse` only) are one-way to the
 * client: a comment in a stream of server-sent events (http_events.c); and
 * early, opt-in: a leading zero of the next chunk's size, or the next byte of
 * "HTTP/1." while a whole request waits for its response.
 *
 * From the first byte that is not understood, a direction is passed on unread;
 * passthrough follows once the other direction is settled.
 */
#include <string.h>

#include "codec/codecs.h"
#include "codec/http.h"
#include "stent/promise.h"

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

/* Bytes of that side that were consumed and may still be emitted. */
static size_t
held(const struct http *h, enum side from)
{
	return h->is_websocket ? ws_held(&h->ws, from) : 0;
}

/* The bytes from that side are not understood from here on. */
static void
stop_reading(struct http *h, enum side from, const char *why, struct codec_out *out)
{
	if (h->is_websocket)
		ws_release(&h->ws, from, out);
	promise(!h->is_blind[from] && held(h, from) == 0);
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

	promise(h->passthrough != NULL || (!h->is_blind[CLIENT] && !h->is_blind[BACKEND]));
	if (h->passthrough != NULL && (is_broken || (is_settled(h, CLIENT) && is_settled(h, BACKEND))))
		out->passthrough = h->passthrough;
	promise(out->passthrough == NULL || (held(h, CLIENT) == 0 && held(h, BACKEND) == 0));
}

static size_t
feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct http *h = state;
	const size_t before = held(h, from) + codec_accounted(out);
	size_t done = 0;

	while (done < len && out->passthrough == NULL && codec_out_has_room(out)) {
		const char *why = NULL;

		if (h->is_blind[from]) {
			codec_emit(out, buf + done, len - done);
			done = len;
		} else if (h->is_websocket) {
			done += ws_feed(&h->ws, from, buf + done, len - done, out, &why);
		} else {
			done += http_exchange_feed(h, from, buf + done, len - done, out, &why);
		}
		if (why != NULL)
			stop_reading(h, from, why, out);
		check_passthrough(h, out);
	}
	promise(done <= len && before + done == held(h, from) + codec_accounted(out));	/* every byte is emitted, held, early or of a reply */
	return done;
}

static void
finish(void *state, enum side from, struct codec_out *out)
{
	struct http *h = state;

	if (h->is_websocket)
		ws_release(&h->ws, from, out);
	promise(held(h, from) == 0);
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
	promise_void(n == 0 || h->exchange.part[from] == PART_BODY);
	if (from == CLIENT && n > 0)
		h->exchange.expects = false;
	http_body_skipped(&h->exchange.body[from], n);
	http_exchange_end_body(&h->exchange, from);
}

static unsigned
may_heartbeat(const void *state, enum side to)
{
	const struct http *h = state;

	if (h->passthrough != NULL || h->is_finished[side_other(to)])
		return 0;
	if (!h->is_websocket)
		return http_exchange_may_heartbeat(h, to);
	if (h->is_finished[to])
		return 0;	/* it sent its FIN without a Close, and cannot reply to a ping */
	return ws_may_heartbeat(&h->ws, to);
}

static const char *
why_none(const void *state, enum side to)
{
	const struct http *h = state;

	if (h->passthrough != NULL)
		return h->passthrough;
	if (!h->is_websocket)
		return http_exchange_why_none(h, to);
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
	return to == CLIENT && http_exchange_is_in_events(h) && http_events_place(&h->exchange.events) == PLACE_IN_EVENT;
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

	promise_or(h->passthrough == NULL && !h->is_finished[side_other(to)], 0);
	return h->is_websocket ? ws_heartbeat(&h->ws, to, kind, buf) : http_exchange_heartbeat(h, to, kind, buf);
}

static enum codec_rest
rest(const void *state)
{
	const struct http *h = state;
	const struct http_exchange *x = &h->exchange;

	if (h->passthrough != NULL || h->is_blind[CLIENT] || h->is_blind[BACKEND])
		return REST_UNSURE;
	if (h->is_websocket)
		return ws_is_at_rest(&h->ws) ? REST_SURE : REST_NONE;
	if (http_exchange_is_between_events(h))
		return REST_SURE;
	if (x->is_open || x->part[CLIENT] != PART_START || x->part[BACKEND] != PART_START || x->prefix > 0)
		return REST_NONE;
	return REST_SURE;
}

static size_t
close_message(void *state, enum side to, const struct codec_close_info *info,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	struct http *h = state;

	if (h->passthrough != NULL)
		return 0;
	if (!h->is_websocket)
		return http_exchange_last_chunk(h, to, info, buf);
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
