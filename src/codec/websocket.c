/*
 * websocket.c - WebSocket frames (RFC 6455), and our pings and pongs between them.
 *
 * A frame's head is gathered until it is whole (at most 14 bytes), then its
 * payload is counted; data payload is never looked at. A gathered head is
 * emitted when it is whole: until then nothing of that frame has gone out, so
 * the receiver still stands between two frames and may be beaten.
 *
 * Which pong is ours. Our ping carries a token that no program would choose: our
 * name and a serial, in ASCII. A pong is held back whole, 18 bytes, when
 * it is as long as a token and such a ping is unanswered; it is taken out when
 * it carries an unanswered serial, whatever its mask: there are clients that
 * do not mask their pongs, or in name only, and servers that do. Our ping drew
 * that fault, and the other side must not end the session for it. Another stent in the same chain may ping
 * with the very same token at the same time: then the two pongs are alike,
 * one is taken here and one there, and nobody can tell that they were swapped.
 *
 * "An endpoint MAY elect to send a Pong frame for only the most recently
 * processed Ping frame" (5.5.3). Hence:
 *   - A pong of ours answers all our pings before its own. Those may still be
 *     answered one by one, so their serials stay known, in a window of 32.
 *   - While the peer owes an answer to the application's own ping we do not
 *     ask: it might answer ours and leave the application waiting.
 *   - An application's ping that goes out behind ours may swallow the answer
 *     to ours in the same way. That is one answer missed of a peer that is
 *     seen to live; the next ping of ours makes up for it.
 * The application's last ping is remembered by a hash of its payload. Pings
 * with equal payloads are taken for answered at the first pong; if that is
 * wrong, it only lets us ask a little early.
 *
 * A tell is an empty pong nobody asked for. It is not sent while the receiver
 * waits for a pong of its own: it would take ours for it, and believe in a
 * peer that may be dead.
 *
 * Masking is there to keep a hostile script from choosing the bytes that a
 * browser puts on the wire (10.3). Our payloads are chosen by us alone, so any
 * key does: one fixed key for pings and Close, zeros for the empty pong.
 */
#include <stdio.h>
#include <string.h>

#include "codec/http.h"

enum state { S_HEAD, S_DATA, S_CONTROL };

enum opcode { OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE = 8, OP_PING, OP_PONG };

#define OPCODES_KNOWN (1u << OP_CONTINUATION | 1u << OP_TEXT | 1u << OP_BINARY | \
	1u << OP_CLOSE | 1u << OP_PING | 1u << OP_PONG)
#define FIN 0x80
#define MASKED 0x80
#define CONTROL_MAX 125
#define WINDOW 32	/* pings whose pongs are still known; the width of ws_asks.open */

#define HASH_START 2166136261u	/* FNV-1a */
#define HASH_PRIME 16777619u

#define CLOSE_GOING_AWAY 1001

static const uint8_t our_key[4] = { 0x5b, 0xe9, 0x37, 0xc4 };
/* Behind it the serial, 6 bits a character: all printable, so nobody who takes a payload for text changes it. */
static const uint8_t token_start[WS_TOKEN - 4] = { 's', 't', 'e', 'n', 't', '-', 'h', 'b' };
#define SERIAL_FIRST '0'	/* the character for 0 */
#define SERIAL_MASK 0xffffffu	/* what four of them can tell */

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

static bool
may_be_ours(const struct ws *ws, enum side from, const uint8_t *head)
{
	return head[0] == (FIN | OP_PONG) && ws->asks[from].open != 0 && (head[1] & ~MASKED) == WS_TOKEN;
}

static size_t
head_size(const uint8_t *head)
{
	return 2 + length_size(head) + (is_masked(head) ? 4 : 0);
}

/* How many bytes must lie together before a frame that begins so can be judged. */
static size_t
bytes_needed(const struct ws *ws, enum side from, const uint8_t *head)
{
	return head_size(head) + (may_be_ours(ws, from, head) ? WS_TOKEN : 0);
}

/* Why no frame may begin so; NULL: it may. */
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
	if (is_masked(head) != (from == CLIENT))
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

/* Takes the pong for a token of ours out of the books. False: it is none. */
static bool
take_answer(struct ws_asks *a, const uint8_t *token, struct codec_out *out)
{
	uint32_t serial, back;

	if (memcmp(token, token_start, sizeof(token_start)) != 0)
		return false;
	serial = 0;
	for (size_t i = sizeof(token_start); i < WS_TOKEN; i++) {
		if (token[i] < SERIAL_FIRST || token[i] >= SERIAL_FIRST + 64)
			return false;
		serial = serial << 6 | (uint32_t)(token[i] - SERIAL_FIRST);
	}
	back = (a->next - 1 - serial) & SERIAL_MASK;
	if (back >= WINDOW || (a->open >> back & 1) == 0)
		return false;
	a->open &= ~(1u << back);
	if (a->next - a->answered > back)
		a->answered = a->next - back;
	out->answers++;
	return true;
}

static void
hash_payload(struct ws_stream *s, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->hash = (s->hash ^ p[i] ^ s->key[s->at++ & 3]) * HASH_PRIME;
}

/* A control frame of the application has passed whole. */
static void
end_control(struct ws *ws, enum side from)
{
	const struct ws_stream *s = &ws->stream[from];
	struct ws_asks *a = &ws->asks[s->opcode == OP_PING ? side_other(from) : from];

	if (s->opcode == OP_PING) {
		a->app_open = true;
		a->app_hash = s->hash;
	} else if (s->opcode == OP_PONG && a->app_hash == s->hash) {
		a->app_open = false;
	}
}

/* A frame's head lies at `head`, whole and without fault: the frame begins. */
static void
begin_frame(struct ws_stream *s, const uint8_t *head, uint64_t length)
{
	size_t size = head_size(head);

	s->opcode = head[0] & 0x0f;
	s->left = length;
	s->state = (s->opcode & 8) != 0 ? S_CONTROL : S_DATA;
	if (s->state == S_DATA) {
		s->in_message = (head[0] & FIN) == 0;
		return;
	}
	if (s->opcode == OP_CLOSE)
		s->is_closed = s->said_close = true;
	s->hash = HASH_START;
	s->at = 0;
	memset(s->key, 0, sizeof(s->key));
	if (is_masked(head))
		memcpy(s->key, head + size - 4, sizeof(s->key));
}

/* Notes len more bytes of payload; the end of the frame is noted even without any. */
static void
count_payload(struct ws *ws, enum side from, const uint8_t *buf, size_t len)
{
	struct ws_stream *s = &ws->stream[from];

	if (s->state == S_CONTROL)
		hash_payload(s, buf, len);
	s->left -= len;
	if (s->left > 0)
		return;
	if (s->state == S_CONTROL)
		end_control(ws, from);
	s->state = S_HEAD;
}

enum verdict { VERDICT_FRAME, VERDICT_OURS, VERDICT_FAULT };

/* bytes_needed() bytes lie at `head`. A pong that is as long as ours is whole. */
static enum verdict
judge(struct ws *ws, enum side from, const uint8_t *head, struct codec_out *out, const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t n = length_size(head);
	uint64_t length = n > 0 ? read_number(head + 2, n) : head[1] & 0x7f;
	uint8_t token[WS_TOKEN];

	if (may_be_ours(ws, from, head)) {
		const uint8_t *payload = head + head_size(head);
		const uint8_t *key = payload - 4;

		if (take_answer(&ws->asks[from], payload, out))
			return VERDICT_OURS;
		for (size_t i = 0; i < WS_TOKEN && is_masked(head); i++)
			token[i] = payload[i] ^ key[i % 4];
		if (is_masked(head) && take_answer(&ws->asks[from], token, out))
			return VERDICT_OURS;
	}
	*why = head_fault(s, from, head, length);
	if (*why != NULL)
		return VERDICT_FAULT;
	begin_frame(s, head, length);
	return VERDICT_FRAME;
}

/* The start of a frame is cut: gathers one byte more of it. */
static void
gather(struct ws *ws, enum side from, uint8_t c, struct codec_out *out, const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t size;

	s->held[s->n_held++] = c;
	if (s->n_held < 2 || s->n_held < bytes_needed(ws, from, s->held))
		return;
	switch (judge(ws, from, s->held, out, why)) {
	case VERDICT_FRAME:
		/* a pong that proved not to be ours is held with its payload */
		size = head_size(s->held);
		codec_emit_copy(out, s->held, s->n_held);
		count_payload(ws, from, s->held + size, s->n_held - size);
		s->n_held = 0;
		break;
	case VERDICT_OURS:
		s->n_held = 0;
		break;
	case VERDICT_FAULT:
		break;	/* ws_release() lets go of what is held */
	}
}

/* At the start of a frame: takes all of it that lies here. */
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
		return needed;
	case VERDICT_FAULT:
		return 0;
	case VERDICT_FRAME:
		break;
	}
	size = head_size(buf);
	run = s->left < len - size ? (size_t)s->left : len - size;
	codec_emit(out, buf, size + run);
	count_payload(ws, from, buf + size, run);
	return size + run;
}

size_t
ws_feed(struct ws *ws, enum side from, const uint8_t *buf, size_t len, struct codec_out *out,
    const char **why)
{
	struct ws_stream *s = &ws->stream[from];
	size_t n = 0, run;

	while (n < len && *why == NULL && codec_out_has_room(out)) {
		if (s->state == S_HEAD) {
			n += take_frame(ws, from, buf + n, len - n, out, why);
			continue;
		}
		run = s->left < len - n ? (size_t)s->left : len - n;
		codec_emit(out, buf + n, run);
		count_payload(ws, from, buf + n, run);
		n += run;
	}
	return n;
}

void
ws_release(struct ws *ws, enum side from, struct codec_out *out)
{
	struct ws_stream *s = &ws->stream[from];

	if (s->n_held > 0)
		s->is_closed = true;	/* within a frame that will not go on: nothing of ours may follow */
	codec_emit_copy(out, s->held, s->n_held);
	s->n_held = 0;
}

bool
ws_is_settled(const struct ws *ws, enum side from)
{
	return ws->stream[from].n_held == 0 && ws->asks[from].answered == ws->asks[from].next;
}

uint64_t
ws_unseen(const struct ws *ws, enum side from)
{
	return ws->stream[from].state == S_DATA ? ws->stream[from].left : 0;
}

void
ws_skipped(struct ws *ws, enum side from, uint64_t n)
{
	struct ws_stream *s = &ws->stream[from];

	s->left -= n;
	if (s->left == 0)
		s->state = S_HEAD;
}

unsigned
ws_may_beat(const struct ws *ws, enum side to)
{
	enum side from = side_other(to);
	const struct ws_asks *a = &ws->asks[to];
	unsigned kinds = 0;

	if (ws->stream[from].state != S_HEAD || ws->stream[from].is_closed || ws->stream[to].is_closed)
		return 0;
	if (!ws->asks[from].app_open)
		kinds |= BEAT_TELL;
	if (!a->app_open && a->next - a->answered < WINDOW)
		kinds |= BEAT_ASK;
	return kinds;
}

bool
ws_owes(const struct ws *ws, enum side by)
{
	const struct ws_asks *a = &ws->asks[by];

	if (ws->stream[by].is_closed || ws->stream[side_other(by)].is_closed)
		return false;
	return a->app_open || a->answered != a->next;
}

bool
ws_said_goodbye(const struct ws *ws, enum side from)
{
	return ws->stream[from].said_close;
}

/* Writes a control frame, masked toward the backend. */
static size_t
write_frame(uint8_t *buf, enum side to, enum opcode opcode, const void *payload, size_t len)
{
	const uint8_t *p = payload;
	static const uint8_t no_key[4];
	const uint8_t *key = to == BACKEND && len > 0 ? our_key : no_key;
	size_t n = 2;

	buf[0] = (uint8_t)(FIN | opcode);
	buf[1] = (uint8_t)(len | (to == BACKEND ? MASKED : 0));
	if (to == BACKEND) {
		memcpy(buf + n, key, 4);
		n += 4;
	}
	for (size_t i = 0; i < len; i++)
		buf[n + i] = p[i] ^ key[i % 4];
	return n + len;
}

size_t
ws_beat(struct ws *ws, enum side to, enum beat_kind kind, uint8_t buf[CODEC_BEAT_MAX])
{
	struct ws_asks *a = &ws->asks[to];
	uint8_t token[WS_TOKEN];

	if (kind == BEAT_TELL)
		return write_frame(buf, to, OP_PONG, "", 0);
	memcpy(token, token_start, sizeof(token_start));
	for (size_t i = 0; i < 4; i++)
		token[sizeof(token_start) + i] = (uint8_t)(SERIAL_FIRST + (a->next >> (18 - 6 * i) & 63));
	a->open = a->open << 1 | 1;
	a->next++;
	return write_frame(buf, to, OP_PING, token, sizeof(token));
}

size_t
ws_farewell(struct ws *ws, enum side to, const struct codec_obituary *o,
    uint8_t buf[CODEC_FAREWELL_MAX])
{
	struct ws_stream *s = &ws->stream[side_other(to)];
	char payload[CONTROL_MAX + 1] = { CLOSE_GOING_AWAY >> 8, (char)(CLOSE_GOING_AWAY & 0xff) };

	if (s->state != S_HEAD || s->is_closed)
		return 0;
	s->is_closed = true;
	snprintf(payload + 2, sizeof(payload) - 2, "stent: %s, %s quiet for %lld s", o->reason,
	    side_name(o->dead), (long long)(o->quiet_ms / 1000));
	return write_frame(buf, to, OP_CLOSE, payload, 2 + strlen(payload + 2));
}
