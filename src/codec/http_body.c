/*
 * http_body.c - follows the body of an HTTP/1.1 message to its end.
 *
 * A body is counted (Content-Length), cut into chunks, or lasts until the
 * connection ends. Payload is counted and not read, except that of
 * server-sent events (http_events.c).
 *
 * Early zeros: a chunk's size may have leading zeros, so these can be sent
 * before the size is known. If the size line then begins with zeros of its own,
 * that many are left out; else it follows untouched. Several clients refuse more
 * than 16 digits in all. A line that would exceed that, or is not a size line,
 * leaves `promised` set: what was sent cannot be taken back, and the
 * relay resets the flow.
 */
#include <stdio.h>
#include <string.h>

#include "codec/http.h"
#include "stent/promise.h"

enum body_state {
	S_NONE, S_COUNTED, S_UNTIL_CLOSE,
	S_SIZE, S_SIZE_BLANK, S_EXTENSION, S_SIZE_LF, S_DATA, S_DATA_CR, S_DATA_LF,
	S_TRAILER, S_TRAILER_LINE, S_TRAILER_LF, S_LAST_LF,
};

enum taken { KEEP, DROP, BAD };

#define DIGITS_MAX 16
#define CHUNK_FRAME 8	/* of a comment as a chunk: a size of two digits, two line ends, and a NUL */

_Static_assert(HTTP_EARLY_MAX < DIGITS_MAX, "behind early zeros a size has room for digits of its own");
_Static_assert(HTTP_COMMENT_MAX + CHUNK_FRAME <= CODEC_HEARTBEAT_MAX && HTTP_COMMENT_MAX <= 0xff, "the longest comment is a heartbeat");

static int
hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
start_chunk(struct http_body *b)
{
	promise(b->left == 0 && b->early == 0 && !b->promised);	/* nothing was sent early for a size that is over */
	b->state = S_SIZE;
	b->left = 0;
	b->digits = 0;
	b->digits_sent = 0;
	b->early = 0;
	b->promised = false;
}

/* A digit of the size line: a zero that was sent early is left out. */
static enum taken
take_digit(struct http_body *b, int value)
{
	promise_dear(b->digits <= DIGITS_MAX && b->digits <= b->digits_sent && b->digits_sent <= DIGITS_MAX);
	promise_dear(b->early <= HTTP_EARLY_MAX && b->early <= b->digits_sent - b->digits);
	if (b->digits == DIGITS_MAX || b->left >> 58 != 0)
		return BAD;
	b->digits++;
	b->left = b->left * 16 + (uint64_t)value;
	if (value == 0 && b->early > 0) {
		b->early--;
		return DROP;
	}
	if (b->digits_sent == DIGITS_MAX)
		return BAD;	/* the early zeros make it too long */
	b->digits_sent++;
	b->early = 0;
	return KEEP;
}

static enum taken
take_size(struct http_body *b, uint8_t c)
{
	int value = hex_value(c);

	promise_dear(!b->promised || b->digits_sent > 0);
	if (value >= 0)
		return take_digit(b, value);
	if (b->digits == 0 || (c != '\r' && c != ';' && c != ' ' && c != '\t'))
		return BAD;
	b->early = 0;
	b->promised = false;
	b->state = c == '\r' ? S_SIZE_LF : c == ';' ? S_EXTENSION : S_SIZE_BLANK;
	return KEEP;
}

/* After a blank some readers go on with the size, others do not: only what all of them read alike may follow. */
static enum taken
take_size_blank(struct http_body *b, uint8_t c)
{
	if (c == ' ' || c == '\t')
		return KEEP;
	b->state = c == '\r' ? S_SIZE_LF : S_EXTENSION;
	return c == '\r' || c == ';' ? KEEP : BAD;
}

static enum taken
take_extension(struct http_body *b, uint8_t c)
{
	if (c == '\r')
		b->state = S_SIZE_LF;
	return c == '\n' ? BAD : KEEP;
}

static enum taken
take_size_lf(struct http_body *b, uint8_t c)
{
	promise(b->digits > 0 && b->early == 0 && !b->promised);
	b->state = b->left > 0 ? S_DATA : S_TRAILER;
	return c == '\n' ? KEEP : BAD;
}

static enum taken
take_data_cr(struct http_body *b, uint8_t c)
{
	promise(b->left == 0);
	b->state = S_DATA_LF;
	return c == '\r' ? KEEP : BAD;
}

static enum taken
take_data_lf(struct http_body *b, uint8_t c)
{
	start_chunk(b);
	return c == '\n' ? KEEP : BAD;
}

static enum taken
take_trailer(struct http_body *b, uint8_t c)
{
	b->state = c == '\r' ? S_LAST_LF : S_TRAILER_LINE;
	return c == '\n' ? BAD : KEEP;
}

static enum taken
take_trailer_line(struct http_body *b, uint8_t c)
{
	if (c == '\r')
		b->state = S_TRAILER_LF;
	return c == '\n' ? BAD : KEEP;
}

static enum taken
take_trailer_lf(struct http_body *b, uint8_t c)
{
	b->state = S_TRAILER;
	return c == '\n' ? KEEP : BAD;
}

static enum taken
take_last_lf(struct http_body *b, uint8_t c)
{
	b->state = S_NONE;
	return c == '\n' ? KEEP : BAD;
}

static const struct {
	enum taken (*take)(struct http_body *b, uint8_t c);
	const char *why;	/* reason when it returns BAD */
} takers[] = {
	[S_SIZE] = { take_size, "bad chunk size" },
	[S_SIZE_BLANK] = { take_size_blank, "bad chunk size" },
	[S_EXTENSION] = { take_extension, "bad chunk extension" },
	[S_SIZE_LF] = { take_size_lf, "bad end of a chunk size" },
	[S_DATA_CR] = { take_data_cr, "bad end of a chunk" },
	[S_DATA_LF] = { take_data_lf, "bad end of a chunk" },
	[S_TRAILER] = { take_trailer, "bad trailer" },
	[S_TRAILER_LINE] = { take_trailer_line, "bad trailer" },
	[S_TRAILER_LF] = { take_trailer_lf, "bad trailer" },
	[S_LAST_LF] = { take_last_lf, "bad trailer" },
};

const char *
http_body_start(struct http_body *b, const struct http_head *head)
{
	unsigned facts = head->facts;

	promise(http_head_is_done(head) && http_body_is_done(b));
	memset(b, 0, sizeof(*b));
	if ((facts & FACT_CODING) != 0) {
		if ((facts & FACT_LENGTH) != 0)
			return "Content-Length beside Transfer-Encoding";
		if (head->minor == 0)
			return "Transfer-Encoding in HTTP/1.0";
		if ((facts & FACT_CHUNKED) != 0)
			start_chunk(b);
		else if (head->is_request)
			return "Transfer-Encoding without chunked";
		else
			b->state = S_UNTIL_CLOSE;
	} else if ((facts & FACT_LENGTH) != 0) {
		b->left = head->length;
		b->state = b->left > 0 ? S_COUNTED : S_NONE;
	} else {
		b->state = head->is_request ? S_NONE : S_UNTIL_CLOSE;
	}
	b->is_events = !head->is_request && (b->state == S_SIZE || b->state == S_UNTIL_CLOSE) &&
	    (facts & (FACT_CODING_OTHER | FACT_EVENTS | FACT_TYPE_OTHER | FACT_ENCODED)) == FACT_EVENTS;
	return NULL;
}

void
http_body_none(struct http_body *b)
{
	memset(b, 0, sizeof(*b));
}

bool
http_body_is_done(const struct http_body *b)
{
	return b->state == S_NONE;
}

static void
count_payload(struct http_body *b, uint64_t n)
{
	if (b->state == S_UNTIL_CLOSE || n == 0)
		return;
	promise_void(n <= b->left && (b->state == S_COUNTED || b->state == S_DATA));
	b->left -= n;
	if (b->left == 0)
		b->state = b->state == S_DATA ? S_DATA_CR : S_NONE;
}

/* How many of the next len bytes are payload. */
static size_t
payload_run(const struct http_body *b, size_t len)
{
	if (b->state == S_UNTIL_CLOSE)
		return len;
	if (b->state != S_COUNTED && b->state != S_DATA)
		return 0;
	return b->left < len ? (size_t)b->left : len;
}

size_t
http_body_feed(struct http_body *b, struct http_events *events, const uint8_t *buf, size_t len,
    struct codec_out *out, const char **why)
{
	size_t n = 0;

	promise_or(b->state <= S_LAST_LF && (!b->is_events || events != NULL), 0);
	while (n < len && b->state != S_NONE && codec_out_has_room(out)) {
		size_t run = payload_run(b, len - n);
		enum taken taken = KEEP;

		if (run > 0) {
			if (b->is_events)
				http_events_feed(events, buf + n, run);
			count_payload(b, run);
		} else {
			const char *bad = takers[b->state].why;

			promise_or(takers[b->state].take != NULL, n);	/* what is not payload is read byte by byte */
			taken = takers[b->state].take(b, buf[n]);
			run = 1;
			if (taken == BAD) {
				*why = bad;
				break;
			}
		}
		if (taken == KEEP)
			codec_emit(out, buf + n, run);
		else
			out->early++;
		n += run;
	}
	return n;
}

uint64_t
http_body_skippable(const struct http_body *b)
{
	if (b->is_events)
		return 0;
	switch (b->state) {
	case S_UNTIL_CLOSE:
		return UINT64_MAX;
	case S_COUNTED:
	case S_DATA:
		return b->left;
	default:
		return 0;
	}
}

void
http_body_skipped(struct http_body *b, uint64_t n)
{
	count_payload(b, n);
}

bool
http_body_at_chunk(const struct http_body *b)
{
	return b->state == S_SIZE && b->digits == 0;
}

bool
http_body_ends_at_fin(const struct http_body *b)
{
	return b->state == S_UNTIL_CLOSE;
}

size_t
http_body_comment(const struct http_body *b, const struct http_events *events, const struct codec_bytes *text,
    uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	char comment[HTTP_COMMENT_MAX];
	const size_t n = http_events_comment(events, text, comment);

	promise_or(b->is_events && n > 0 && n < sizeof(comment), 0);
	promise_or(b->state == S_UNTIL_CLOSE || http_body_at_chunk(b), 0);
	promise(b->early == 0 && !b->promised);	/* a stream gets comments or early bytes, not both */
	if (b->state == S_UNTIL_CLOSE) {
		memcpy(buf, comment, n);
		return n;
	}
	return (size_t)snprintf((char *)buf, CODEC_HEARTBEAT_MAX, "%zx\r\n%s\r\n", n, comment);
}

void
http_body_send_zero(struct http_body *b)
{
	promise_void(http_body_at_chunk(b) && b->early < HTTP_EARLY_MAX);
	promise(!b->is_events && b->digits_sent == b->early);
	b->early++;
	b->digits_sent++;
	b->promised = true;
}
