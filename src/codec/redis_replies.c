/*
 * redis_replies.c - follows what a Redis server sends: RESP2 and RESP3.
 *
 * Only the end of a reply matters, its type, and the first letters of one that
 * is a single line. So no tree is kept: an aggregate of n adds to the number of
 * values still to come, which is 0 between two replies. A streamed aggregate,
 * whose length is not known, puts that number aside until its end mark. Bodies
 * are skipped, lines are searched for their end.
 */
#include <string.h>

#include "codec/redis.h"
#include "stent/promise.h"

#define ENDLESS UINT32_MAX	/* values_left inside a streamed aggregate */

enum reply_state { S_TYPE, S_LINE, S_LENGTH, S_BODY };

enum shape { SHAPE_NONE, SHAPE_LINE, SHAPE_BULK, SHAPE_CHUNK, SHAPE_LIST, SHAPE_END };

/* What each type byte means. An attribute is not a value, but comes before one. */
static const struct {
	uint8_t shape;
	uint8_t values;	/* for each that its length counts */
	uint8_t is_value;
} types[128] = {
	['+'] = { SHAPE_LINE, 0, 1 },
	['-'] = { SHAPE_LINE, 0, 1 },
	[':'] = { SHAPE_LINE, 0, 1 },
	['_'] = { SHAPE_LINE, 0, 1 },
	['#'] = { SHAPE_LINE, 0, 1 },
	[','] = { SHAPE_LINE, 0, 1 },
	['('] = { SHAPE_LINE, 0, 1 },
	['$'] = { SHAPE_BULK, 0, 1 },
	['!'] = { SHAPE_BULK, 0, 1 },
	['='] = { SHAPE_BULK, 0, 1 },
	[';'] = { SHAPE_CHUNK, 0, 1 },
	['*'] = { SHAPE_LIST, 1, 1 },
	['~'] = { SHAPE_LIST, 1, 1 },
	['>'] = { SHAPE_LIST, 1, 1 },
	['%'] = { SHAPE_LIST, 2, 1 },
	['|'] = { SHAPE_LIST, 2, 0 },
	['.'] = { SHAPE_END, 0, 1 },
};

static void
value_ends(struct redis *s)
{
	s->reply.state = S_TYPE;
	s->reply.chunked = false;
	promise_void(s->reply.values_left > 0);
	if (s->reply.values_left != ENDLESS && --s->reply.values_left == 0)
		redis_reply_came(s);
}

/* The length of a list has been read: its values come next. */
static void
list_begins(struct redis *s, uint8_t type)
{
	const struct redis_number *n = &s->reply.number;
	uint64_t values = n->negative ? 0 : n->value * types[type].values;

	promise_void(types[type].shape == SHAPE_LIST && s->reply.values_left > 0 && s->reply.depth <= REDIS_STREAMS_MAX);
	s->reply.state = S_TYPE;
	if (n->streamed) {
		if (s->reply.depth == REDIS_STREAMS_MAX) {
			redis_reply_passthrough(s, "streamed replies nested too deeply");
			return;
		}
		/* Its end mark counts as a value, but an attribute is none. */
		s->reply.outer[s->reply.depth++] = s->reply.values_left == ENDLESS ? ENDLESS :
		    s->reply.values_left + !types[type].is_value;
		s->reply.values_left = ENDLESS;
		return;
	}
	if (n->value > INT32_MAX || (s->reply.values_left != ENDLESS &&
	    s->reply.values_left + values > INT32_MAX)) {
		redis_reply_passthrough(s, "a reply that is too large");
		return;
	}
	if (s->reply.values_left != ENDLESS)
		s->reply.values_left += (uint32_t)values;
	if (types[type].is_value)
		value_ends(s);
}

static void
stream_ends(struct redis *s)
{
	if (s->reply.depth == 0 || s->reply.values_left != ENDLESS) {
		redis_reply_passthrough(s, "replies that are not RESP");
		return;
	}
	promise_void(s->reply.depth <= REDIS_STREAMS_MAX && s->reply.outer[s->reply.depth - 1] > 0);
	s->reply.values_left = s->reply.outer[--s->reply.depth];
	value_ends(s);
}

static void
bulk_begins(struct redis *s)
{
	const struct redis_number *n = &s->reply.number;

	promise(types[s->reply.type & 0x7f].shape == (s->reply.chunked ? SHAPE_CHUNK : SHAPE_BULK));
	if (n->streamed && !s->reply.chunked) {
		s->reply.chunked = true;
		s->reply.state = S_TYPE;
	} else if (n->streamed || (s->reply.chunked && n->negative)) {
		redis_reply_passthrough(s, "replies that are not RESP");
	} else if (n->negative || (s->reply.chunked && n->value == 0)) {
		value_ends(s);
	} else {
		s->reply.left = n->value + 2;
		s->reply.state = S_BODY;
	}
}

static const uint8_t *
read_line(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
	const uint8_t *stop = nl != NULL ? nl : end;
	bool cr = stop > p ? stop[-1] == '\r' : s->reply.number.cr;

	promise_or(s->reply.head_len <= REDIS_HEAD_MAX, end);
	if (s->reply.values_left == 1)
		while (p < stop && s->reply.head_len < REDIS_HEAD_MAX)
			s->reply.head[s->reply.head_len++] = (char)*p++;
	s->reply.number.cr = cr;
	if (nl == NULL)
		return end;
	if (!cr)
		redis_reply_passthrough(s, "replies that are not RESP");
	else if (s->reply.type == '.')
		stream_ends(s);
	else
		value_ends(s);
	return nl + 1;
}

/* A bulk string that is here in one piece is read in one step. */
static const uint8_t *
quick_bulk(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	size_t len;
	const uint8_t *body = redis_number_quick(p, end, &len);

	if (body == NULL || (size_t)(end - body) < len + 2)
		return p;
	value_ends(s);
	return body + len + 2;
}

static const uint8_t *
read_type(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	uint8_t type = *p & 0x7f, shape = *p < 0x80 ? types[type].shape : SHAPE_NONE;

	if (shape == SHAPE_NONE || (shape == SHAPE_CHUNK) != s->reply.chunked) {
		redis_reply_passthrough(s, "replies that are not RESP");
		return p;
	}
	if (s->reply.values_left == 0) {
		promise_dear(s->reply.depth == 0 && !s->reply.chunked);
		s->reply.values_left = 1;
		s->reply.head_len = 0;
		s->reply.word.len = 0;
		s->reply.reply_type = type;
	} else if (s->reply.values_left == 1 && s->reply.reply_type == '|') {
		s->reply.reply_type = type;	/* of the value after the attribute */
	}
	s->reply.naming = s->reply.naming && shape == SHAPE_BULK;
	s->reply.type = type;
	s->reply.number = (struct redis_number){ 0 };
	if (shape == SHAPE_LINE || shape == SHAPE_END) {
		s->reply.state = S_LINE;
		return p + 1 < end ? read_line(s, p + 1, end) : end;
	}
	s->reply.state = S_LENGTH;
	return shape == SHAPE_BULK && !s->reply.naming ? quick_bulk(s, p + 1, end) : p + 1;
}

static const uint8_t *
read_length(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	uint8_t type = s->reply.type & 0x7f;

	promise(s->reply.values_left > 0 && types[type].shape >= SHAPE_BULK && types[type].shape <= SHAPE_LIST);
	switch (redis_number_read(&s->reply.number, &p, end)) {
	case NUMBER_MORE:
		break;
	case NUMBER_BAD:
		redis_reply_passthrough(s, "replies that are not RESP");
		break;
	case NUMBER_DONE:
		if (types[type].shape != SHAPE_LIST) {
			bulk_begins(s);
		} else {
			s->reply.naming = s->reply.values_left == 1 &&
			    (type == '>' || (type == '*' && redis_may_get_messages(s)));
			list_begins(s, type);
		}
	}
	return p;
}

static const uint8_t *
read_body(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	promise(s->reply.values_left > 0 && !(s->reply.chunked && s->reply.naming));
	p = redis_bulk_read(&s->reply.left, s->reply.naming ? &s->reply.word : NULL, p, end);
	if (s->reply.left > 0)
		return p;
	s->reply.naming = false;
	if (s->reply.chunked)
		s->reply.state = S_TYPE;
	else
		value_ends(s);
	return p;
}

static const uint8_t *(*const readers[])(struct redis *s, const uint8_t *p,
    const uint8_t *end) = {
	[S_TYPE] = read_type,
	[S_LINE] = read_line,
	[S_LENGTH] = read_length,
	[S_BODY] = read_body,
};

_Static_assert(sizeof(readers) / sizeof(readers[0]) == S_BODY + 1, "a reader for each state");

const uint8_t *
redis_reply_read(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	promise_or(s->reply.state <= S_BODY, end);
	while (p < end && (s->passthrough == NULL || s->pings_due > 0)) {
		if (s->reply.state == S_TYPE)
			p = read_type(s, p, end);
		else
			p = readers[s->reply.state](s, p, end);
		if (redis_reply_boundary(s))
			break;
	}
	return p;
}

bool
redis_reply_boundary(const struct redis *s)
{
	return s->reply.state == S_TYPE && s->reply.values_left == 0;
}

uint64_t
redis_reply_skippable(const struct redis *s)
{
	if (s->reply.state != S_BODY || s->reply.left <= 2 || s->reply.naming)
		return 0;
	return s->reply.left - 2;
}

void
redis_reply_skipped(struct redis *s, uint64_t n)
{
	promise_void(n == 0 || (s->reply.state == S_BODY && n + 2 <= s->reply.left && !s->reply.naming));
	s->reply.left -= n;
}
