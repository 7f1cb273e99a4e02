/*
 * line.c - any protocol of text lines, with a heartbeat and a reply from the
 * settings (heartbeat_send, heartbeat_expect).
 *
 * A heartbeat goes to a side only at the start of a line of the stream toward
 * it. It is a ping where a reply is set, else one-way. While a reply is due,
 * each line is compared with it from its first byte on, and held back as far
 * as it matches; only the length of what is held is kept. A reply written
 * without LF is the whole line, whether LF or CR LF ends it. The application
 * must not use the same text itself: then replies need not come in order. At
 * most PINGS_DUE_MAX are due, so that a peer that never replies is not pinged
 * forever. What a peer sends after a one-way heartbeat is passed on, since it
 * looks like any other line. A client's line that begins with the first byte
 * of TLS (STARTTLS) leads to passthrough, once no reply is due.
 */
#include <string.h>

#include "codec/codecs.h"
#include "stent/promise.h"

#define PINGS_DUE_MAX 100
#define EXPECT_MAX (CODEC_STATE_MAX - 2)	/* held bytes must fit a step's scratch */
#define TLS_HANDSHAKE 0x16

struct stream {			/* what one side sends */
	uint16_t held;		/* bytes of a reply that are held back, with the CR after it */
	uint8_t due;		/* replies due from this side */
	bool inside;		/* the last byte emitted did not end a line */
	bool fin;
};

struct line {
	const struct codec_settings *settings;
	struct stream stream[2];
	bool is_tls;
};

_Static_assert(PINGS_DUE_MAX <= UINT8_MAX, "`due` counts them");
_Static_assert(EXPECT_MAX + 1 <= UINT16_MAX, "`held` counts its bytes and a CR");

static bool
line_configure(void *state, const struct codec_settings *settings)
{
	struct line *l = state;

	promise(settings != NULL);
	/* A reply that is due is recognized by the text of the settings. */
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (l->stream[s].due > 0 || l->stream[s].held > 0)
			return false;
	l->settings = settings;
	return true;
}

/* The reply has its own line end; else CR LF or LF may follow it. */
static bool
is_whole_line(const struct codec_bytes *expect)
{
	promise_or(expect->len > 0, false);	/* without a text no reply is due */
	return expect->data[expect->len - 1] == '\n';
}

enum reply_match { REPLY_NOT, REPLY_PARTIAL, REPLY_WHOLE };

/* Whether the next byte continues the reply of which `held` bytes have come. */
static enum reply_match
match_reply(const struct codec_bytes *expect, size_t held, uint8_t c)
{
	promise_or(expect->len > 0 && held <= expect->len + 1, REPLY_NOT);	/* all of it, and a CR */
	if (held < expect->len) {
		if (c != expect->data[held])
			return REPLY_NOT;
		return held + 1 == expect->len && is_whole_line(expect) ? REPLY_WHOLE : REPLY_PARTIAL;
	}
	if (c == '\n')
		return REPLY_WHOLE;
	return c == '\r' && held == expect->len ? REPLY_PARTIAL : REPLY_NOT;
}

static void
emit_held(struct stream *s, const struct codec_bytes *expect, size_t n, struct codec_out *out)
{
	size_t of_text = n < expect->len ? n : expect->len;

	if (n == 0)
		return;
	promise_void(n <= s->held && !s->inside && s->due > 0);
	promise_void(n <= expect->len + 1 && of_text > 0);
	codec_emit_copy(out, expect->data, of_text);
	if (n > of_text)
		codec_emit_copy(out, "\r", 1);
	s->inside = n > of_text || expect->data[of_text - 1] != '\n';
	s->held -= (uint16_t)n;
}

/*
 * What is held is not the reply. A reply of several lines may begin again
 * within it: then only what is before that is emitted.
 */
static void
fall_back(struct stream *s, const struct codec_bytes *expect, struct codec_out *out)
{
	const size_t of_text = s->held < expect->len ? s->held : expect->len;
	const uint16_t before = s->held;
	size_t n;

	for (n = 1; n < of_text; n++)
		if (expect->data[n - 1] == '\n' && s->held == of_text &&
		    memcmp(expect->data + n, expect->data, of_text - n) == 0)
			break;
	emit_held(s, expect, n < of_text ? n : s->held, out);
	promise(s->held < before);	/* it goes on */
}

/* At the start of a line, with a reply due. False: the line is not the reply. */
static bool
take_reply(struct stream *s, const struct codec_bytes *expect, uint8_t c, struct codec_out *out)
{
	switch (match_reply(expect, s->held, c)) {
	case REPLY_PARTIAL:
		s->held++;
		return true;
	case REPLY_WHOLE:
		promise_or(s->due > 0, false);
		out->left_out += s->held + 1u;
		s->held = 0;
		s->due--;
		out->replies++;
		return true;
	default:
		return false;
	}
}

/* Emits the rest of this line, or as much of it as has come. */
static size_t
pass_line(struct stream *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const uint8_t *lf = memchr(buf, '\n', len);
	size_t n = lf != NULL ? (size_t)(lf - buf) + 1 : len;

	codec_emit(out, buf, n);
	s->inside = lf == NULL;
	return n;
}

/* Passthrough, once no reply is due: then nothing is held. */
static void
check_passthrough(const struct line *l, struct codec_out *out)
{
	if (!l->is_tls)
		return;
	for (int side = CLIENT; side <= BACKEND; side++)
		if (l->stream[side].due > 0 && !l->stream[side].fin)
			return;
	promise(l->stream[CLIENT].held == 0 && l->stream[BACKEND].held == 0);
	out->passthrough = "TLS";
}

static size_t
line_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct line *l = state;
	struct stream *s = &l->stream[from];
	const struct codec_bytes *expect = &l->settings->heartbeat_expect[from];
	const size_t before = s->held + codec_accounted(out);
	size_t n = 0;

	promise(s->due <= PINGS_DUE_MAX && (s->held == 0 || (s->due > 0 && !s->inside)));
	while (n < len && out->passthrough == NULL && codec_out_has_room(out)) {
		if (!s->inside && s->due > 0 && take_reply(s, expect, buf[n], out)) {
			n++;
		} else if (s->held > 0) {
			fall_back(s, expect, out);
			continue;	/* the byte may match now */
		} else {
			if (!s->inside && from == CLIENT && buf[n] == TLS_HANDSHAKE)
				l->is_tls = true;
			n += pass_line(s, buf + n, len - n, out);
		}
		check_passthrough(l, out);
	}
	promise(before + n == s->held + codec_accounted(out));	/* every byte is emitted, held, or of a reply */
	return n;
}

static void
line_finish(void *state, enum side from, struct codec_out *out)
{
	struct line *l = state;
	struct stream *s = &l->stream[from];

	emit_held(s, &l->settings->heartbeat_expect[from], s->held, out);
	promise(s->held == 0);
	s->fin = true;
	check_passthrough(l, out);
}

static const char *
line_why_none(const void *state, enum side to)
{
	const struct line *l = state;
	const struct codec_bytes *send = &l->settings->heartbeat_send[to];
	const struct codec_bytes *expect = &l->settings->heartbeat_expect[to];
	const struct stream *from = &l->stream[side_other(to)], *s = &l->stream[to];

	if (send->len == 0 || send->len > CODEC_HEARTBEAT_MAX || expect->len > EXPECT_MAX)
		return "no text is set for this side";
	if (l->is_tls)
		return "TLS";
	if (from->fin)
		return "the other side has closed";
	if (from->inside)
		return "inside a line";
	if (expect->len > 0 && (s->fin || s->due >= PINGS_DUE_MAX))
		return "too many replies are missing";
	return NULL;
}

static unsigned
line_may_heartbeat(const void *state, enum side to)
{
	const struct line *l = state;

	if (line_why_none(state, to) != NULL)
		return 0;
	return l->settings->heartbeat_expect[to].len > 0 ? HEARTBEAT_PING : HEARTBEAT_ONEWAY;
}

static size_t
line_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	struct line *l = state;
	const struct codec_bytes *send = &l->settings->heartbeat_send[to];

	promise_or((line_may_heartbeat(state, to) & kind) != 0, 0);	/* between two lines, with room for its reply */
	promise_or(send->len > 0 && send->len <= CODEC_HEARTBEAT_MAX, 0);
	if (kind == HEARTBEAT_PING)
		l->stream[to].due++;
	promise(l->stream[to].due <= PINGS_DUE_MAX);
	memcpy(buf, send->data, send->len);
	return send->len;
}

/* Between lines; whether a reply is outstanding is not known. */
static enum codec_rest
line_rest(const void *state)
{
	const struct line *l = state;

	return !l->is_tls && (l->stream[CLIENT].inside || l->stream[BACKEND].inside) ? REST_NONE : REST_UNSURE;
}

const struct codec codec_line = {
	.name = "line",
	.traits = CODEC_TAKES_TEXTS,
	.summary = "text lines: sends heartbeat_send, expects heartbeat_expect",
	.state_size = sizeof(struct line),
	.leg = {
		[CLIENT] = { .kinds = HEARTBEAT_ONEWAY | HEARTBEAT_PING, .interval_ms = 60000 },
		[BACKEND] = { .kinds = HEARTBEAT_ONEWAY | HEARTBEAT_PING, .interval_ms = 60000 },
	},
	.configure = line_configure,
	.feed = line_feed,
	.finish = line_finish,
	.may_heartbeat = line_may_heartbeat,
	.why_none = line_why_none,
	.heartbeat = line_heartbeat,
	.rest = line_rest,
};
