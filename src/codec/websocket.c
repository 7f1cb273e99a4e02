/*
 * websocket.c - WebSocket frames (RFC 6455), with our pings and pongs between them.
 *
 * A frame's head is gathered and emitted when it is whole (at most 14 bytes);
 * until then the receiver is still between two frames and may get a heartbeat.
 * Then its payload is counted, and read only in control frames.
 *
 * A one-way heartbeat is an unsolicited empty pong. A side that waits for the
 * pong to a ping of its own gets none: it would take ours for that pong, and a
 * dead peer for alive. A ping carries a token, by which its pong is recognized
 * (websocket_pongs.c).
 * Masking keys are zeros: our payloads cannot be chosen by a script (10.3), and
 * a server that forgets to unmask returns them unharmed.
 */
#include <stdio.h>
#include <string.h>

#include "codec/http.h"
#include "stent/promise.h"

enum frame_state { S_HEAD, S_DATA, S_CONTROL, S_DROP /* the rest of a pong for us */ };

enum opcode { OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE = 8, OP_PING, OP_PONG };

#define OPCODES_KNOWN (1u << OP_CONTINUATION | 1u << OP_TEXT | 1u << OP_BINARY | \
	1u << OP_CLOSE | 1u << OP_PING | 1u << OP_PONG)
#define FIN 0x80
#define MASKED 0x80
#define CONTROL_MAX 125

#define HASH_START 2166136261u	/* FNV-1a */
#define HASH_PRIME 16777619u

#define CLOSE_GOING_AWAY 1001

_Static_assert(2 + 4 + CONTROL_MAX <= CODEC_HEARTBEAT_MAX && CODEC_HEARTBEAT_MAX <= CODEC_CLOSE_MESSAGE_MAX, "any control frame of ours fits");
_Static_assert(WS_TOKEN <= CONTROL_MAX && CONTROL_MAX <= UINT8_MAX, "`at` counts the payload of a control frame");
_Static_assert(WS_HOLD >= 2 + 8 + 4, "a head is held whole");

static bool
is_masked(const uint8_t *head)
{
	return (head[1] & MASKED) != 0;
}

static uint64_t
read_number(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

static size_t
length_size(const uint8_t *head)
{
	unsigned length = head[1] & 0x7f;

	return length == 126 ? 2 : length == 127 ? 8 : 0;
}

/* A pong that may be for a ping of ours: the start of its payload decides. */
static bool
may_be_ours(const struct ws *ws, enum side from, const uint8_t *head)
{
	return head[0] == (FIN | OP_PONG) && ws->pings[from].has_pinged && length_size(head) == 0 &&
	    ws->stream[from].n_passed == 0;
}

/* How much of its payload is needed for that. */
static size_t
judged_len(const uint8_t *head)
{
	const size_t length = head[1] & ~MASKED;

	return length < WS_TOKEN ? length : WS_TOKEN;
}

static size_t
head_size(const uint8_t *head)
{
	return 2 + length_size(head) + (is_masked(head) ? 4 : 0);
}

/* How many bytes must be gathered before a frame with this head can be judged. */
static size_t
bytes_needed(const struct ws *ws, enum side from, const uint8_t *head)
{
	return head_size(head) + (may_be_ours(ws, from, head) ? judged_len(head) : 0);
}

/* Why a frame may not begin like this; NULL: it may. */
static const char *
head_fault(const struct ws_stream *s, enum side from, const uint8_t *head, uint64_t length)
{
	unsigned opcode = head[0] & 0x0f;
	bool is_control = (opcode & 8) != 0;
	static const uint64_t least[] = { [0] = 0, [2] = 126, [8] = 65536 };

	if ((OPCODES_KNOWN >> opcode & 1) == 0)
		return "WebSocket: unknown opcode";
	if ((head[0] & (is_control ? 0x70 : 0x30)) != 0)
		return "WebSocket: reserved bit set";
	if (opcode != OP_PONG && is_masked(head) != (from == CLIENT))	/* wrongly masked pongs exist, and do no harm */
		return from == CLIENT ? "WebSocket: unmasked frame from the client" :
		    "WebSocket: masked frame from the backend";
	if (is_control && (head[0] & FIN) == 0)
		return "WebSocket: control frame in fragments";
	if (is_control && length > CONTROL_MAX)
		return "WebSocket: control frame too long";
	if (length < least[length_size(head)] || length > INT64_MAX)
		return "WebSocket: bad length";
	if (!is_control && (opcode == OP_CONTINUATION) != s->in_message)
		return "WebSocket: fragment out of order";
	return NULL;
}

/* Payload of a control frame: hashed; of a Close the status code is kept. */
static void
read_control(struct ws_stream *s, const uint8_t *p, size_t n)
{
	promise(s->at + n <= CONTROL_MAX);
	for (size_t i = 0; i < n; i++) {
		const uint8_t c = p[i] ^ s->key[s->at & 3];

		if (s->opcode != OP_CLOSE)
			s->hash = (s->hash ^ c) * HASH_PRIME;
		else if (s->at < 2)
			s->hash = s->hash << 8 | c;
		s->at++;
	}
}

/* A Close whose code says that its sender did not accept what it got. */
static const char *
complaint_of(uint32_t code)
{
	switch (code) {
	case 1002:
		return "Close 1002 (protocol error)";
	case 1003:
		return "Close 1003 (unsupported data)";
	case 1007:
		return "Close 1007 (invalid payload)";
	case 1008:
		return "Close 1008 (policy violation)";
	case 1011:
		return "Close 1011 (internal error)";
	default:
		return NULL;
	}
}

/* A control frame of the application has passed whole. */
static void
end_control(struct ws *ws, enum side from, struct codec_out *out)
{
	const struct ws_stream *s = &ws->stream[from];

	promise(s->opcode >= OP_CLOSE && s->opcode <= OP_PONG && s->left == 0);
	if (s->opcode == OP_PING)
		ws_note_app_ping(&ws->pings[side_other(from)], s->hash);
	else if (s->opcode == OP_PONG)
		ws_note_app_pong(&ws->pings[from], s->hash);
	else
		out->complaint = complaint_of(s->hash);
}

/* A frame begins, with a whole and valid head. */
static void
begin_frame(struct ws_stream *s, const uint8_t *head, uint64_t length)
{
	size_t size = head_size(head);

	promise_dear(s->state == S_HEAD && s->left == 0 && length <= INT64_MAX);
	s->opcode = head[0] & 0x0f;
	s->left = length;
	s->state = (s->opcode & 8) != 0 ? S_CONTROL : S_DATA;
	if (s->state == S_DATA) {
		s->in_message = (head[0] & FIN) == 0;
		return;
	}
	if (s->opcode == OP_CLOSE)
		s->is_closed = s->sent_close = true;
	s->hash = s->opcode == OP_CLOSE ? 0 : HASH_START;
	s->at = 0;
	memset(s->key, 0, sizeof(s->key));
	if (is_masked(head))
		memcpy(s->key, head + size - 4, sizeof(s->key));
}

/* Counts len more bytes of payload; len may be 0 at the end of the frame. */
static void
count_payload(struct ws *ws, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct ws_stream *s = &ws->stream[from];

	if (s->state == S_CONTROL)
		read_control(s, buf, len);
	promise_void(len <= s->left);
	promise_dear(s->state != S_HEAD);
	s->left -= len;
	if (s->left > 0)
		return;
	if (s->state == S_CONTROL)
		end_control(ws, from, out);
	s->state = S_HEAD;
}

enum verdict { VERDICT_FRAME, VERDICT_OURS, VERDICT_FAULT };

static bool
take_ours(struct ws *ws, enum side from, const uint8_t *head, struct codec_out *out)
{
	const uint8_t *payload = head + head_size(head);
	const size_t len = head[1] & ~MASKED, n = judged_len(head);
	uint8_t plain[WS_TOKEN];

	if (ws_take_pong(&ws->pings[from], ws->nonce, payload, len, out))
		return true;
	for (size_t i = 0; i < n && is_masked(head); i++)
		plain[i] = payload[i] ^ (payload - 4)[i % 4];
	return is_masked(head) && ws_take_pong(&ws->pings[from], ws->nonce, plain, len, out);
}

/* bytes_needed() bytes are at `head`. Of a pong for us they are consumed, and the rest of it will be dropped. */
static enum verdict
judge(struct ws *ws, enum side from, const uint8_t *head, struct codec_out *out, const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t n = length_size(head);
	uint64_t length = n > 0 ? read_number(head + 2, n) : head[1] & 0x7f;

	if (may_be_ours(ws, from, head) && take_ours(ws, from, head, out)) {
		promise_or(judged_len(head) <= length, VERDICT_FAULT);
		s->left = length - judged_len(head);
		s->state = s->left > 0 ? S_DROP : S_HEAD;
		return VERDICT_OURS;
	}
	*why = head_fault(s, from, head, length);
	if (*why != NULL)
		return VERDICT_FAULT;
	begin_frame(s, head, length);
	return VERDICT_FRAME;
}

/* The start of a frame is cut: gathers one more byte of it. */
static void
gather(struct ws *ws, enum side from, uint8_t c, struct codec_out *out, const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t size;

	promise_void(s->state == S_HEAD && s->n_held < sizeof(s->held));
	s->held[s->n_held++] = c;
	if (s->n_held < 2 || s->n_held < bytes_needed(ws, from, s->held))
		return;
	switch (judge(ws, from, s->held, out, why)) {
	case VERDICT_FRAME:
		/* a pong that proved not to be for us is held with its payload */
		size = head_size(s->held);
		promise_void(size <= s->n_held && s->n_passed <= s->n_held);
		codec_emit_copy(out, s->held + s->n_passed, s->n_held - s->n_passed);
		count_payload(ws, from, s->held + size, s->n_held - size, out);
		s->n_held = s->n_passed = 0;
		break;
	case VERDICT_OURS:
		promise(s->n_passed == 0);	/* nothing of it has gone out */
		out->left_out += s->n_held;
		s->n_held = 0;
		break;
	case VERDICT_FAULT:
		break;	/* ws_release() emits what is held */
	}
}

/* At the start of a frame: takes all of it that is here. */
static size_t
take_frame(struct ws *ws, enum side from, const uint8_t *buf, size_t len, struct codec_out *out,
    const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t needed = len >= 2 ? bytes_needed(ws, from, buf) : 2, size, run;

	if (s->n_held > 0 || len < needed) {
		gather(ws, from, *buf, out, why);
		return 1;
	}
	switch (judge(ws, from, buf, out, why)) {
	case VERDICT_OURS:
		out->left_out += needed;
		return needed;
	case VERDICT_FAULT:
		return 0;
	case VERDICT_FRAME:
		break;
	}
	size = head_size(buf);
	promise_or(size <= len, 0);
	run = s->left < len - size ? (size_t)s->left : len - size;
	codec_emit(out, buf, size + run);
	count_payload(ws, from, buf + size, run, out);
	return size + run;
}

size_t
ws_feed(struct ws *ws, enum side from, const uint8_t *buf, size_t len, struct codec_out *out,
    const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t n = 0, run;

	promise_or(s->state <= S_DROP && s->n_held <= sizeof(s->held) && s->n_passed <= s->n_held, 0);
	promise(s->state == S_HEAD ? s->left == 0 : s->n_held == 0 && s->left > 0);
	while (n < len && *why == NULL && codec_out_has_room(out)) {
		if (s->state == S_HEAD) {
			n += take_frame(ws, from, buf + n, len - n, out, why);
			continue;
		}
		run = s->left < len - n ? (size_t)s->left : len - n;
		if (s->state != S_DROP)
			codec_emit(out, buf + n, run);
		else
			out->left_out += run;
		count_payload(ws, from, buf + n, run, out);
		n += run;
	}
	return n;
}

void
ws_release(struct ws *ws, enum side from, struct codec_out *out)
{
	struct ws_stream *s = &ws->stream[from];

	promise_void(s->n_passed <= s->n_held && s->n_held <= sizeof(s->held));
	if (s->n_held > 0)
		s->is_closed = true;	/* inside a frame that will not go on: no heartbeat may follow */
	codec_emit_copy(out, s->held + s->n_passed, s->n_held - s->n_passed);
	s->n_held = s->n_passed = 0;
}

size_t
ws_held(const struct ws *ws, enum side from)
{
	return ws->stream[from].n_held - ws->stream[from].n_passed;
}

bool
ws_is_settled(const struct ws *ws, enum side from)
{
	return ws->stream[from].n_held == ws->stream[from].n_passed && ws->stream[from].state != S_DROP &&
	    ws->pings[from].settled == ws->pings[from].next;
}

uint64_t
ws_skippable(const struct ws *ws, enum side from)
{
	return ws->stream[from].state == S_DATA ? ws->stream[from].left : 0;
}

void
ws_skipped(struct ws *ws, enum side from, uint64_t n)
{
	struct ws_stream *s = &ws->stream[from];

	promise_void(n == 0 || (s->state == S_DATA && n <= s->left));
	s->left -= n;
	if (n > 0 && s->left == 0)
		s->state = S_HEAD;
}

size_t
ws_feed_early(struct ws_early *e, const uint8_t *buf, size_t len, const char **why)
{
	struct ws ws = { .stream[CLIENT] = e->stream, .pings[BACKEND] = e->pings };
	struct codec_out passed;
	size_t n = 0;

	promise(e->stream.n_held == e->stream.n_passed);
	while (n < len && *why == NULL && !promise_is_broken()) {
		codec_out_clear(&passed);
		n += ws_feed(&ws, CLIENT, buf + n, len - n, &passed, why);
	}
	e->stream = ws.stream[CLIENT];
	e->stream.n_passed = e->stream.n_held;
	e->pings = ws.pings[BACKEND];
	return n;
}

/* No part of an unfinished frame from that side has gone out. */
static bool
is_between_frames(const struct ws_stream *s)
{
	return s->state == S_HEAD && s->n_passed == 0;
}

unsigned
ws_may_heartbeat(const struct ws *ws, enum side to)
{
	enum side from = side_other(to);
	const struct ws_pings *a = &ws->pings[to];
	unsigned kinds = 0;

	if (!is_between_frames(&ws->stream[from]) || ws->stream[from].is_closed || ws->stream[to].is_closed)
		return 0;
	if (!ws->pings[from].app_open)
		kinds |= HEARTBEAT_ONEWAY;
	if (!ws_app_comes_first(a) && ws_has_room_for_ping(a))
		kinds |= HEARTBEAT_PING;
	return kinds;
}

const char *
ws_why_none(const struct ws *ws, enum side to)
{
	if (ws->stream[CLIENT].is_closed || ws->stream[BACKEND].is_closed)
		return "closing handshake";
	if (!is_between_frames(&ws->stream[side_other(to)]))
		return "inside a frame";
	return ws_may_heartbeat(ws, to) == 0 ? "the application's own ping comes first" : NULL;
}

bool
ws_in_message(const struct ws *ws, enum side to)
{
	return ws->stream[side_other(to)].in_message;
}

bool
ws_awaits_reply(const struct ws *ws, enum side by)
{
	const struct ws_pings *a = &ws->pings[by];

	if (ws->stream[by].is_closed || ws->stream[side_other(by)].is_closed)
		return false;
	return a->settled != a->next && !ws_app_comes_first(a);
}

bool
ws_sent_close(const struct ws *ws, enum side from)
{
	return ws->stream[from].sent_close;
}

bool
ws_is_at_rest(const struct ws *ws)
{
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const struct ws_stream *from = &ws->stream[s];

		if (!is_between_frames(from) || from->n_held > 0 || from->in_message || from->is_closed || from->sent_close)
			return false;
	}
	return true;
}

/* Writes a control frame, masked toward the backend by a key of zeros. */
static size_t
write_frame(uint8_t *buf, enum side to, enum opcode opcode, const void *payload, size_t len)
{
	size_t n = 2;

	promise_or(len <= CONTROL_MAX, 0);
	buf[0] = (uint8_t)(FIN | opcode);
	buf[1] = (uint8_t)(len | (to == BACKEND ? MASKED : 0));
	if (to == BACKEND) {
		memset(buf + n, 0, 4);
		n += 4;
	}
	memcpy(buf + n, payload, len);
	return n + len;
}

size_t
ws_heartbeat(struct ws *ws, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	struct ws_pings *a = &ws->pings[to];
	uint8_t token[WS_TOKEN];

	promise_or((ws_may_heartbeat(ws, to) & kind) != 0, 0);	/* between two frames, before a Close */
	if (kind == HEARTBEAT_ONEWAY) {
		if (ws_app_comes_first(a))
			a->app_waits++;
		return write_frame(buf, to, OP_PONG, "", 0);
	}
	ws_begin_ping(a, ws->nonce, token);
	return write_frame(buf, to, OP_PING, token, sizeof(token));
}

size_t
ws_close_message(struct ws *ws, enum side to, const struct codec_close_info *info,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	struct ws_stream *s = &ws->stream[side_other(to)];
	char payload[CONTROL_MAX + 1] = { CLOSE_GOING_AWAY >> 8, (char)(CLOSE_GOING_AWAY & 0xff) };

	if (!is_between_frames(s) || s->is_closed)
		return 0;
	s->is_closed = true;
	snprintf(payload + 2, sizeof(payload) - 2, "stent: %s, %s idle for %lld s", info->reason,
	    side_name(info->dead), (long long)(info->idle_ms / 1000));
	return write_frame(buf, to, OP_CLOSE, payload, 2 + strlen(payload + 2));
}
