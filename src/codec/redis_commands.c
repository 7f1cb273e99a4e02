/*
 * redis_commands.c - follows what a Redis client sends.
 *
 * A command is an array of bulk strings, or an "inline" line of words. Each ends
 * exactly where the server sees its end: lengths are trusted, argument bytes are
 * skipped, and only the first words of a command are read, as long as they may
 * be the name of one that matters. What the server would refuse with a protocol
 * error leads to passthrough.
 *
 * The states are a table; each reader takes what it can of the bytes that are
 * here, and returns where it stopped.
 */
#include <string.h>

#include "codec/redis.h"
#include "stent/promise.h"

#define SHORTEST 4	/* letters of the shortest command that matters */
#define ANY_FIRST 20	/* the row for all other commands */

enum command_state {
	S_START,	/* between two commands */
	S_TLS,		/* the first byte of all was 0x16: is this TLS? */
	S_COUNT,	/* array length */
	S_BULK,		/* "$" */
	S_LENGTH,	/* its length */
	S_BODY,		/* its bytes, CR LF included */
	S_INLINE,	/* blanks or a word of a line */
};

/* Words that matter, by the kind that the words before them gave; NULL: any other. The first row that matches counts. */
#define WORD(after, kind, text) { after, kind, sizeof(text) - 1, text }

static const struct {
	uint8_t after;
	uint8_t kind;
	uint8_t len;
	const char *text;
} words[] = {
	WORD(KIND_NONE, KIND_MULTI, "MULTI"),
	WORD(KIND_NONE, KIND_EXEC, "EXEC"),
	WORD(KIND_NONE, KIND_EXEC, "DISCARD"),
	WORD(KIND_NONE, KIND_CLIENT, "CLIENT"),
	WORD(KIND_NONE, KIND_ASKING, "ASKING"),
	WORD(KIND_NONE, KIND_HELLO, "HELLO"),
	WORD(KIND_NONE, KIND_RESET, "RESET"),
	WORD(KIND_NONE, KIND_QUIT, "QUIT"),
	WORD(KIND_NONE, KIND_MONITOR, "MONITOR"),
	WORD(KIND_NONE, KIND_SYNC, "SYNC"),
	WORD(KIND_NONE, KIND_SYNC, "PSYNC"),
	WORD(KIND_NONE, KIND_SYNC, "DFLY"),	/* Dragonfly's */
	WORD(KIND_NONE, KIND_CLUSTER, "CLUSTER"),
	WORD(KIND_NONE, KIND_SCRIPT, "SCRIPT"),
	WORD(KIND_NONE, KIND_SUBSCRIBE, "SUBSCRIBE"),
	WORD(KIND_NONE, KIND_SUBSCRIBE, "PSUBSCRIBE"),
	WORD(KIND_NONE, KIND_SUBSCRIBE, "SSUBSCRIBE"),
	WORD(KIND_NONE, KIND_UNSUBSCRIBE, "UNSUBSCRIBE"),
	WORD(KIND_NONE, KIND_UNSUBSCRIBE, "PUNSUBSCRIBE"),
	WORD(KIND_NONE, KIND_SUNSUBSCRIBE, "SUNSUBSCRIBE"),
	[ANY_FIRST] = { KIND_NONE, KIND_PLAIN, 0, NULL },
	WORD(KIND_CLUSTER, KIND_SYNC, "SYNCSLOTS"),	/* slots move by a replication of their own */
	{ KIND_CLUSTER, KIND_PLAIN, 0, NULL },
	WORD(KIND_SCRIPT, KIND_SCRIPT_DEBUG, "DEBUG"),
	{ KIND_SCRIPT, KIND_PLAIN, 0, NULL },
	WORD(KIND_SCRIPT_DEBUG, KIND_PLAIN, "NO"),
	{ KIND_SCRIPT_DEBUG, KIND_DEBUGGER, 0, NULL },
	WORD(KIND_CLIENT, KIND_CLIENT_REPLY, "REPLY"),
	WORD(KIND_CLIENT, KIND_CLIENT_CACHING, "CACHING"),
	{ KIND_CLIENT, KIND_CLIENT_OTHER, 0, NULL },
	WORD(KIND_CLIENT_REPLY, KIND_CLIENT_REPLY_ON, "ON"),
	WORD(KIND_CLIENT_REPLY, KIND_CLIENT_REPLY_OFF, "OFF"),
	WORD(KIND_CLIENT_REPLY, KIND_CLIENT_REPLY_SKIP, "SKIP"),
	{ KIND_CLIENT_REPLY, KIND_CLIENT_OTHER, 0, NULL },
};

enum redis_number_end
redis_number_read(struct redis_number *n, const uint8_t **at, const uint8_t *end)
{
	const uint8_t *p = *at;

	promise_dear(n->digits <= 18 && !(n->streamed && n->negative));
	while (p < end) {
		uint8_t c = *p++;

		if (c >= '0' && c <= '9' && !n->cr && !n->streamed && n->digits < 18) {
			n->value = n->value * 10 + (c - '0');
			n->digits++;
		} else if (c == '\r' && !n->cr && (n->digits > 0 || n->streamed)) {
			n->cr = true;
		} else if (c == '\n' && n->cr) {
			*at = p;
			return NUMBER_DONE;
		} else if (c == '-' && n->digits == 0 && !n->negative && !n->streamed) {
			n->negative = true;
		} else if (c == '?' && n->digits == 0 && !n->negative && !n->streamed) {
			n->streamed = true;
		} else {
			*at = p;
			return NUMBER_BAD;
		}
	}
	*at = p;
	return NUMBER_MORE;
}

const uint8_t *
redis_number_quick(const uint8_t *p, const uint8_t *end, size_t *value)
{
	size_t n = 0, digits = 0;

	while (p < end && *p >= '0' && *p <= '9' && digits++ < 8)
		n = n * 10 + (*p++ - '0');
	if (end - p < 2 || digits == 0 || p[0] != '\r' || p[1] != '\n')
		return NULL;
	*value = n;
	return p + 2;
}

void
redis_word_add(struct redis_word *w, const uint8_t *bytes, size_t len)
{
	promise_dear(w->len <= REDIS_WORD_MAX);
	for (size_t i = 0; i < len && w->len < REDIS_WORD_MAX; i++) {
		uint8_t c = bytes[i];

		w->text[w->len++] = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
	}
}

const uint8_t *
redis_bulk_read(uint64_t *left, struct redis_word *w, const uint8_t *p, const uint8_t *end)
{
	const size_t n = *left < (size_t)(end - p) ? (size_t)*left : (size_t)(end - p);

	promise_or(n > 0, end);		/* else it was over */
	if (w != NULL && *left > 2)
		redis_word_add(w, p, n < *left - 2 ? n : (size_t)*left - 2);
	*left -= n;
	return p + n;
}

bool
redis_word_is(const struct redis_word *w, const char *text)
{
	return strlen(text) == w->len && memcmp(w->text, text, w->len) == 0;
}

/* True while the next word may still change what kind of command this is. */
static bool
wants_word(const struct redis *s)
{
	switch (s->command.kind) {
	case KIND_NONE:
	case KIND_CLUSTER:
	case KIND_SCRIPT:
	case KIND_SCRIPT_DEBUG:
	case KIND_CLIENT:
	case KIND_CLIENT_REPLY:
		return true;
	default:
		return false;
	}
}

static void
word_ends(struct redis *s)
{
	const struct redis_word *w = &s->command.word;
	size_t i = 0;

	if (s->command.kind == KIND_NONE && w->len < SHORTEST)
		i = ANY_FIRST;	/* GET, SET: no need to search */
	for (; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].after == s->command.kind && (words[i].text == NULL ||
		    (words[i].len == w->len && memcmp(words[i].text, w->text, w->len) == 0))) {
			s->command.kind = words[i].kind;
			break;
		}
	promise_dear(i < sizeof(words) / sizeof(words[0]) && s->command.kind != KIND_NONE);	/* each table of words has a row for all others */
	s->command.word.len = 0;
}

static void
command_ends(struct redis *s)
{
	enum redis_kind kind = s->command.kind;
	uint32_t argc = s->command.argc;

	promise_dear(s->command.state != S_START && s->command.args_left == 0);
	promise_dear(kind < KIND_COUNT && (kind == KIND_NONE || argc > 0));
	s->started = true;
	s->command.state = S_START;
	s->command.kind = KIND_NONE;
	s->command.argc = 0;
	s->command.word.len = 0;
	redis_command_sent(s, kind == KIND_NONE ? KIND_EMPTY : kind, argc);
}

static const uint8_t *
read_start(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	uint8_t c = *p;
	bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

	(void)end;
	s->command.number = (struct redis_number){ 0 };
	s->command.quote = QUOTE_NO_WORD;
	if (c == '*') {
		s->command.state = S_COUNT;
		return p + 1;
	}
	if (c == 0x16 && !s->started) {
		s->command.state = S_TLS;
		return p + 1;
	}
	s->command.state = S_INLINE;
	if (!letter && strchr(" \t\r\n\"'", c) == NULL)
		s->passthrough = "a command that is neither an array nor a line of words";
	return p;
}

static const uint8_t *
read_tls(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	(void)end;
	s->passthrough = *p == 0x03 ? "TLS" : "a command that is neither an array nor a line of words";
	return p;
}

static const uint8_t *
read_count(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	struct redis_number *n = &s->command.number;
	enum redis_number_end r = redis_number_read(n, &p, end);

	if (r == NUMBER_BAD || n->streamed || n->value > INT32_MAX) {
		s->passthrough = "a command that is not RESP";
	} else if (r == NUMBER_DONE) {
		if (n->negative || n->value == 0) {
			command_ends(s);
			return p;
		}
		promise_dear(s->command.kind == KIND_NONE && s->command.word.len == 0);
		s->command.argc = s->command.args_left = (uint32_t)n->value;
		s->command.state = S_BULK;
	}
	return p;
}

static void
argument_ends(struct redis *s)
{
	if (wants_word(s))
		word_ends(s);
	s->command.state = S_BULK;
	promise_void(s->command.args_left > 0 && s->command.args_left <= s->command.argc);
	if (--s->command.args_left == 0)
		command_ends(s);
}

/* An argument is mostly here in one piece: then it is read in one step. */
static const uint8_t *
read_bulk(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	size_t len;
	const uint8_t *body = *p == '$' ? redis_number_quick(p + 1, end, &len) : NULL;

	if (body != NULL && (size_t)(end - body) >= len + 2) {
		if (wants_word(s))
			redis_word_add(&s->command.word, body, len);
		argument_ends(s);
		return body + len + 2;
	}
	s->command.number = (struct redis_number){ 0 };
	s->command.state = S_LENGTH;
	if (*p != '$')
		s->passthrough = "a command that is not RESP";
	return p + 1;
}

static const uint8_t *
read_length(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	struct redis_number *n = &s->command.number;
	enum redis_number_end r = redis_number_read(n, &p, end);

	if (r == NUMBER_BAD || n->streamed || n->negative) {
		s->passthrough = "a command that is not RESP";
	} else if (r == NUMBER_DONE) {
		s->command.left = n->value + 2;
		s->command.state = S_BODY;
	}
	return p;
}

static const uint8_t *
read_body(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	p = redis_bulk_read(&s->command.left, wants_word(s) ? &s->command.word : NULL, p, end);
	if (s->command.left == 0)
		argument_ends(s);
	return p;
}

static void
inline_word_ends(struct redis *s)
{
	if (s->command.quote != QUOTE_NO_WORD && wants_word(s))
		word_ends(s);
	s->command.word.len = 0;
	s->command.quote = QUOTE_NO_WORD;
}

static void
inline_word_add(struct redis *s, uint8_t c)
{
	if (wants_word(s))
		redis_word_add(&s->command.word, &c, 1);
}

/* Outside quotes. A quote may also begin inside a word. */
static void
read_inline_plain(struct redis *s, uint8_t c)
{
	if (c == ' ' || c == '\t' || c == '\r') {
		inline_word_ends(s);
		return;
	}
	if (s->command.quote == QUOTE_NO_WORD)
		s->command.argc++;
	s->command.quote = c == '"' ? QUOTE_DOUBLE : c == '\'' ? QUOTE_SINGLE : QUOTE_PLAIN;
	if (s->command.quote == QUOTE_PLAIN)
		inline_word_add(s, c);
}

/* In single quotes a backslash escapes only the quote, in double quotes whatever follows. */
static void
read_inline_quoted(struct redis *s, uint8_t c)
{
	const bool is_double = s->command.quote == QUOTE_DOUBLE;

	if (c == '\\') {
		s->command.quote = is_double ? QUOTE_DOUBLE_ESCAPE : QUOTE_SINGLE_ESCAPE;
		if (wants_word(s))
			s->passthrough = "an inline command with an escape in its name";
	} else if (c == (is_double ? '"' : '\'')) {
		s->command.quote = QUOTE_CLOSED;
	} else {
		inline_word_add(s, c);
	}
}

static void
read_inline_byte(struct redis *s, uint8_t c)
{
	switch (s->command.quote) {
	case QUOTE_DOUBLE:
	case QUOTE_SINGLE:
		read_inline_quoted(s, c);
		break;
	case QUOTE_DOUBLE_ESCAPE:
		s->command.quote = QUOTE_DOUBLE;
		break;
	case QUOTE_SINGLE_ESCAPE:
		if (c != '\\')		/* which may escape a quote itself */
			s->command.quote = QUOTE_SINGLE;
		break;
	case QUOTE_CLOSED:
		if (c != ' ' && c != '\t' && c != '\r')
			s->passthrough = "an inline command whose quotes do not match";
		else
			inline_word_ends(s);
		break;
	default:
		read_inline_plain(s, c);
	}
}

/*
 * The server splits a line at blanks outside quotes. Its words are read as the
 * server reads them, unless the name of the command contains an escape.
 */
static const uint8_t *
read_inline(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	promise(s->command.quote <= QUOTE_CLOSED && s->command.args_left == 0);
	while (p < end && s->passthrough == NULL) {
		uint8_t c = *p++;

		if (c == '\n') {
			if (s->command.quote >= QUOTE_DOUBLE && s->command.quote != QUOTE_CLOSED) {
				s->passthrough = "an inline command whose quotes do not match";
				return p;
			}
			inline_word_ends(s);
			command_ends(s);
			return p;
		}
		if (c < ' ' && c != '\t' && c != '\r')
			s->passthrough = "a command that is neither an array nor a line of words";
		else
			read_inline_byte(s, c);
	}
	return p;
}

static const uint8_t *(*const readers[])(struct redis *s, const uint8_t *p,
    const uint8_t *end) = {
	[S_START] = read_start,
	[S_TLS] = read_tls,
	[S_COUNT] = read_count,
	[S_BULK] = read_bulk,
	[S_LENGTH] = read_length,
	[S_BODY] = read_body,
	[S_INLINE] = read_inline,
};

_Static_assert(sizeof(readers) / sizeof(readers[0]) == S_INLINE + 1, "a reader for each state");

void
redis_commands_read(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	promise_void(s->command.state <= S_INLINE);
	while (p < end && s->passthrough == NULL) {
		if (s->command.state == S_BULK)
			p = read_bulk(s, p, end);
		else
			p = readers[s->command.state](s, p, end);
	}
}

bool
redis_command_boundary(const struct redis *s)
{
	return s->started && s->command.state == S_START;
}

/* The CR LF after an argument is read, as it ends the argument. */
uint64_t
redis_command_skippable(const struct redis *s)
{
	if (s->command.state != S_BODY || s->command.left <= 2)
		return 0;
	if (wants_word(s) && s->command.word.len < REDIS_WORD_MAX)
		return 0;
	return s->command.left - 2;
}

void
redis_command_skipped(struct redis *s, uint64_t n)
{
	promise_void(n == 0 || (s->command.state == S_BODY && n + 2 <= s->command.left));
	s->command.left -= n;
}
