/*
 * line.c - lines of a home-grown protocol, with a heartbeat and an answer that the
 * operator wrote down (heartbeat_send, heartbeat_expect).
 *
 * A heartbeat goes to a side only where the stream toward it stands at the start of
 * a line: nothing sent yet, or LF the last byte. With an answer set for that
 * side the heartbeat is an ask, without one a tell.
 *
 * Answers are known by their text alone. While one is due from a side, each
 * line of that side is compared from its first byte on and held back as far as
 * it agrees; once it is the whole answer it is taken out, else it goes on at
 * the first byte that differs. An answer written without LF at its end is the
 * line of that text, whether LF or CR LF ends it: so a line that merely begins
 * like the answer is never torn in two. What is held is the start of a text
 * that is known, hence only its length is kept.
 *
 * In a protocol that is not known nobody can tell whose answer comes first. So
 * the answer must be one that the application never sees: then the order does
 * not matter. When the application asks the very same, two replies are alike,
 * and it gets one of them. No more than ASKED_MAX may be due, so that a peer
 * that never replies is not asked for ever.
 *
 * A heartbeat without an answer set for it is one that nobody should answer. If the
 * peer does all the same ("unknown command"), its line is passed on: it looks
 * like any other of the application's own, which may come unasked at any time,
 * and taking out one of those would be worse than one too many. The operator
 * who sees such lines sets heartbeat_expect to them, or chooses another text.
 *
 * A line that starts with TLS's first byte is TLS beginning (STARTTLS). From
 * there on no byte may be added, and as soon as nothing is held or due, the
 * codec lets go.
 */
#include <string.h>

#include "codec/codecs.h"

#define ASKED_MAX 100
#define EXPECT_MAX (CODEC_STATE_MAX - 2)	/* held bytes must fit a step's scratch */
#define TLS_HANDSHAKE 0x16

struct stream {			/* what one side sends */
	uint16_t held;		/* bytes of the answer that came and are held back; CR behind it counts */
	uint8_t due;		/* replies that this side owes us */
	bool inside;		/* what was emitted last is not the end of a line */
	bool fin;
};

struct line {
	const struct codec_settings *settings;
	struct stream stream[2];
	bool is_tls;
};

static bool
line_configure(void *state, const struct codec_settings *settings)
{
	struct line *l = state;

	/* A reply that is under way is known by its text. */
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (l->stream[s].due > 0 || l->stream[s].held > 0)
			return false;
	l->settings = settings;
	return true;
}

/* The answer has its own line end; else CR LF or LF may follow it. */
static bool
is_whole_line(const struct codec_bytes *expect)
{
	return expect->data[expect->len - 1] == '\n';
}

enum fit { FIT_NOT, FIT_SO_FAR, FIT_WHOLE };

/* Does the next byte fit the answer of which `held` bytes have come? */
static enum fit
fits(const struct codec_bytes *expect, size_t held, uint8_t c)
{
	if (held < expect->len) {
		if (c != expect->data[held])
			return FIT_NOT;
		return held + 1 == expect->len && is_whole_line(expect) ? FIT_WHOLE : FIT_SO_FAR;
	}
	if (c == '\n')
		return FIT_WHOLE;
	return c == '\r' && held == expect->len ? FIT_SO_FAR : FIT_NOT;
}

static void
emit_held(struct stream *s, const struct codec_bytes *expect, size_t n, struct codec_out *out)
{
	size_t of_text = n < expect->len ? n : expect->len;

	if (n == 0)
		return;
	codec_emit_copy(out, expect->data, of_text);
	if (n > of_text)
		codec_emit_copy(out, "\r", 1);
	s->inside = n > of_text || expect->data[of_text - 1] != '\n';
	s->held -= (uint16_t)n;
}

/*
 * What is held is not the answer. If the answer has several lines, one further
 * down may be its beginning: up to there it goes.
 */
static void
fall_back(struct stream *s, const struct codec_bytes *expect, struct codec_out *out)
{
	const size_t of_text = s->held < expect->len ? s->held : expect->len;
	size_t n;

	for (n = 1; n < of_text; n++)
		if (expect->data[n - 1] == '\n' && s->held == of_text &&
		    memcmp(expect->data + n, expect->data, of_text - n) == 0)
			break;
	emit_held(s, expect, n < of_text ? n : s->held, out);
}

/* At the start of a line, with an answer due. False: the line is none, or no more than begins like one. */
static bool
take_answer(struct stream *s, const struct codec_bytes *expect, uint8_t c, struct codec_out *out)
{
	switch (fits(expect, s->held, c)) {
	case FIT_SO_FAR:
		s->held++;
		return true;
	case FIT_WHOLE:
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

/* Nothing is held unless an answer is due. */
static void
let_go(const struct line *l, struct codec_out *out)
{
	if (!l->is_tls)
		return;
	for (int side = CLIENT; side <= BACKEND; side++)
		if (l->stream[side].due > 0 && !l->stream[side].fin)
			return;
	out->passthrough = "TLS";
}

static size_t
line_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct line *l = state;
	struct stream *s = &l->stream[from];
	const struct codec_bytes *expect = &l->settings->heartbeat_expect[from];
	size_t n = 0;

	while (n < len && out->passthrough == NULL && codec_out_has_room(out)) {
		if (!s->inside && s->due > 0 && take_answer(s, expect, buf[n], out)) {
			n++;
		} else if (s->held > 0) {
			fall_back(s, expect, out);
			continue;	/* the byte may fit now */
		} else {
			if (!s->inside && from == CLIENT && buf[n] == TLS_HANDSHAKE)
				l->is_tls = true;
			n += pass_line(s, buf + n, len - n, out);
		}
		let_go(l, out);
	}
	return n;
}

static void
line_finish(void *state, enum side from, struct codec_out *out)
{
	struct line *l = state;
	struct stream *s = &l->stream[from];

	emit_held(s, &l->settings->heartbeat_expect[from], s->held, out);
	s->fin = true;
	let_go(l, out);
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
		return "the other side has ended";
	if (from->inside)
		return "inside a line";
	if (expect->len > 0 && (s->fin || s->due >= ASKED_MAX))
		return "too many replies have not come";
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

	if (kind == HEARTBEAT_PING)
		l->stream[to].due++;
	memcpy(buf, send->data, send->len);
	return send->len;
}

const struct codec codec_line = {
	.name = "line",
	.traits = CODEC_TAKES_TEXTS,
	.summary = "lines of a protocol of one's own: the texts of heartbeat_send and heartbeat_expect",
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
};
