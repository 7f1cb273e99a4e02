/*
 * http_head.c - reads the head of an HTTP/1.1 message as it passes.
 *
 * Nothing of a head is stored: it may be a megabyte long, and the relay has
 * forwarded it already. Each byte goes to the reader of the current state,
 * which names the next. A few header names and values are matched as they come
 * (words.h); values of other headers are skipped a run at a time.
 *
 * It is stricter than most servers (RFC 9112): no bare CR or LF, no folded
 * lines, no two lengths that differ. Programs are known to disagree about where
 * such messages end, and a proxy that inserts bytes between messages must know
 * that for certain.
 */
#include <string.h>

#include "codec/http.h"
#include "stent/promise.h"

enum head_state {
	S_METHOD, S_TARGET, S_VERSION, S_MINOR, S_STATUS_GAP, S_STATUS, S_STATUS_END,
	S_LINE_END, S_LINE_LF, S_NAME_START, S_NAME, S_NUMBER, S_WORDS, S_SKIP, S_LAST_LF, S_DONE,
};

static const char malformed[] = "malformed HTTP head";
static const char not_http[] = "not HTTP/1";
static const char prefix[] = "HTTP/1.";

static const char *const methods[] = {
	[METHOD_HEAD] = "HEAD", [METHOD_CONNECT] = "CONNECT", [METHOD_PRI] = "PRI",
};

enum word { WORD_CHUNKED, WORD_IDENTITY, WORD_WEBSOCKET, WORD_H2C, WORD_EVENTS, WORD_OTHER };

static const char *const words[] = {
	[WORD_CHUNKED] = "chunked", [WORD_IDENTITY] = "identity", [WORD_WEBSOCKET] = "websocket",
	[WORD_H2C] = "h2c", [WORD_EVENTS] = "text/event-stream",
};

enum header {
	HEADER_LENGTH, HEADER_CODING, HEADER_UPGRADE, HEADER_EXPECT, HEADER_TYPE, HEADER_ENCODING,
	HEADER_WS_ACCEPT, HEADER_OTHER,
};

static const char *const headers[] = {
	[HEADER_LENGTH] = "content-length", [HEADER_CODING] = "transfer-encoding",
	[HEADER_UPGRADE] = "upgrade", [HEADER_EXPECT] = "expect", [HEADER_TYPE] = "content-type",
	[HEADER_ENCODING] = "content-encoding", [HEADER_WS_ACCEPT] = "sec-websocket-accept",
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

_Static_assert(COUNT(methods) == METHOD_OTHER && COUNT(methods) <= WORDS_MAX, "a name for each method that matters");
_Static_assert(COUNT(headers) == HEADER_OTHER && COUNT(headers) <= WORDS_MAX, "... and for each header");
_Static_assert(COUNT(words) == WORD_OTHER && COUNT(words) <= WORDS_MAX, "... and for each word of a value");

static bool
is_token(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static uint8_t
lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static const char *
read_method(struct http_head *h, uint8_t c)
{
	if (c == ' ' && h->word.len > 0) {
		h->method = (uint8_t)words_end(&h->word, methods, COUNT(methods));
		h->state = S_TARGET;
	} else if (is_token(c)) {
		words_add(&h->word, methods, COUNT(methods), c);
	} else {
		return c == 0x16 && h->word.len == 0 ? "TLS" : not_http;
	}
	return NULL;
}

static const char *
read_target(struct http_head *h, uint8_t c)
{
	if (c == ' ') {
		h->state = S_VERSION;
		h->at = 0;
	} else if (c < ' ' || c == 0x7f) {
		return not_http;
	}
	return NULL;
}

static const char *
read_version(struct http_head *h, uint8_t c)
{
	promise_dear(h->at < sizeof(prefix) - 1);
	if (c != (uint8_t)prefix[h->at])
		return h->is_request && h->method == METHOD_PRI ? "HTTP/2" : not_http;
	if (prefix[++h->at] == '\0')
		h->state = S_MINOR;
	return NULL;
}

static const char *
read_minor(struct http_head *h, uint8_t c)
{
	if (c < '0' || c > '9')
		return not_http;
	h->minor = (uint8_t)(c - '0');
	h->state = h->is_request ? S_LINE_END : S_STATUS_GAP;
	return NULL;
}

static const char *
read_status_gap(struct http_head *h, uint8_t c)
{
	h->state = S_STATUS;
	h->at = 0;
	return c == ' ' ? NULL : malformed;
}

static const char *
read_status(struct http_head *h, uint8_t c)
{
	promise_or(h->at < 3 && !h->is_request, malformed);
	if (c < '0' || c > '9' || (h->at == 0 && c == '0'))
		return malformed;
	h->status = (uint16_t)(h->status * 10 + (c - '0'));
	if (++h->at == 3)
		h->state = S_STATUS_END;
	return NULL;
}

static const char *
read_status_end(struct http_head *h, uint8_t c)
{
	if (c != ' ' && c != '\r')
		return malformed;
	h->state = c == ' ' ? S_SKIP : S_LINE_LF;
	return NULL;
}

static const char *
read_line_end(struct http_head *h, uint8_t c)
{
	h->state = S_LINE_LF;
	return c == '\r' ? NULL : malformed;
}

static const char *
read_line_lf(struct http_head *h, uint8_t c)
{
	h->state = S_NAME_START;
	return c == '\n' ? NULL : malformed;
}

static const char *
read_name_start(struct http_head *h, uint8_t c)
{
	if (c == '\r') {
		h->state = S_LAST_LF;
		return NULL;
	}
	if (is_blank(c))
		return "folded header line";
	if (!is_token(c))
		return malformed;
	words_start(&h->word, COUNT(headers));
	words_add(&h->word, headers, COUNT(headers), lower(c));
	h->state = S_NAME;
	return NULL;
}

/* What the presence of a header means, and the state that reads its value. */
static const struct {
	uint16_t fact;
	uint8_t state;
} on_header[] = {
	[HEADER_LENGTH] = { 0, S_NUMBER },
	[HEADER_CODING] = { FACT_CODING, S_WORDS },
	[HEADER_UPGRADE] = { 0, S_WORDS },
	[HEADER_EXPECT] = { FACT_EXPECT, S_SKIP },
	[HEADER_TYPE] = { 0, S_WORDS },
	[HEADER_ENCODING] = { 0, S_WORDS },
	[HEADER_WS_ACCEPT] = { FACT_WS_ACCEPT, S_SKIP },
	[HEADER_OTHER] = { 0, S_SKIP },
};

static const char *
read_name(struct http_head *h, uint8_t c)
{
	if (is_token(c)) {
		if (h->word.matching != 0)
			words_add(&h->word, headers, COUNT(headers), lower(c));
		return NULL;
	}
	if (c != ':')
		return malformed;
	h->header = (uint8_t)words_end(&h->word, headers, COUNT(headers));
	promise_or(h->header <= HEADER_OTHER, malformed);
	h->facts |= on_header[h->header].fact;
	h->state = on_header[h->header].state;
	h->number = 0;
	h->at = 0;
	h->is_past_word = false;
	words_start(&h->word, COUNT(words));
	return NULL;
}

/* At the end of the line of a number. */
static const char *
end_number(struct http_head *h)
{
	if (h->at == 0)
		return "Content-Length is not a number";
	if ((h->facts & FACT_LENGTH) != 0 && h->length != h->number)
		return "two Content-Lengths that differ";
	promise(h->number <= INT64_MAX);
	h->length = h->number;
	h->facts |= FACT_LENGTH;
	h->state = S_LINE_LF;
	return NULL;
}

static const char *
read_number(struct http_head *h, uint8_t c)
{
	if (c == '\r')
		return end_number(h);
	if (is_blank(c)) {
		h->is_past_word = h->at > 0;
		return NULL;
	}
	if (c < '0' || c > '9' || h->is_past_word || h->number > (uint64_t)INT64_MAX / 10 - 1)
		return "Content-Length is not a number";
	h->number = h->number * 10 + (uint64_t)(c - '0');
	h->at = 1;
	return NULL;
}

static const char *
end_coding(struct http_head *h, enum word w)
{
	promise((h->facts & FACT_CODING) != 0);
	if ((h->facts & FACT_CHUNKED) != 0)
		return "chunked is not the last Transfer-Encoding";
	h->facts |= w == WORD_CHUNKED ? FACT_CHUNKED : FACT_CODING_OTHER;
	return NULL;
}

/* A word of a header's value has ended. */
static const char *
end_word(struct http_head *h)
{
	const enum word w = words_end(&h->word, words, COUNT(words));

	promise_dear(on_header[h->header].state == S_WORDS);
	if (h->word.len == 0)
		return NULL;
	switch (h->header) {
	case HEADER_CODING:
		return end_coding(h, w);
	case HEADER_UPGRADE:
		h->facts |= w == WORD_WEBSOCKET ? FACT_UPGRADE_WS :
		    w == WORD_H2C ? FACT_UPGRADE_H2C : FACT_UPGRADE_OTHER;
		return NULL;
	case HEADER_TYPE:
		h->facts |= w == WORD_EVENTS ? FACT_EVENTS : FACT_TYPE_OTHER;
		return NULL;
	default:
		if (w != WORD_IDENTITY)
			h->facts |= FACT_ENCODED;
		return NULL;
	}
}

/* A comma-separated list of words; parameters after `;` are skipped. */
static const char *
read_words(struct http_head *h, uint8_t c)
{
	const char *why = NULL;

	if (is_blank(c)) {
		h->is_past_word = h->word.len > 0;
	} else if (c == '\r' || c == ',' || c == ';') {
		why = end_word(h);
		words_start(&h->word, COUNT(words));
		h->is_past_word = false;
		if (c == '\r')
			h->state = S_LINE_LF;
		else if (c == ';' && h->header == HEADER_CODING)
			why = "Transfer-Encoding with parameters";
		else if (c == ';')
			h->state = S_SKIP;
	} else if (c < ' ') {
		why = malformed;
	} else if (h->is_past_word) {
		h->word.matching = 0;	/* two words without a comma */
	} else if (h->word.matching != 0) {
		words_add(&h->word, words, COUNT(words), lower(c));
	}
	return why;
}

static const char *
read_skip(struct http_head *h, uint8_t c)
{
	if (c == '\r')
		h->state = S_LINE_LF;
	return c == '\n' ? malformed : NULL;
}

static const char *
read_last_lf(struct http_head *h, uint8_t c)
{
	h->state = S_DONE;
	return c == '\n' ? NULL : malformed;
}

_Static_assert(COUNT(on_header) == HEADER_OTHER + 1, "what each header means");

static const char *(*const readers[])(struct http_head *h, uint8_t c) = {
	[S_METHOD] = read_method, [S_TARGET] = read_target, [S_VERSION] = read_version,
	[S_MINOR] = read_minor, [S_STATUS_GAP] = read_status_gap, [S_STATUS] = read_status,
	[S_STATUS_END] = read_status_end, [S_LINE_END] = read_line_end, [S_LINE_LF] = read_line_lf,
	[S_NAME_START] = read_name_start, [S_NAME] = read_name, [S_NUMBER] = read_number,
	[S_WORDS] = read_words, [S_SKIP] = read_skip, [S_LAST_LF] = read_last_lf,
};

_Static_assert(COUNT(readers) == S_DONE, "a reader for each state but the last");

void
http_head_start(struct http_head *h, bool is_request)
{
	memset(h, 0, sizeof(*h));
	h->is_request = is_request;
	h->state = is_request ? S_METHOD : S_VERSION;
	words_start(&h->word, COUNT(methods));
}

/* A head that has been read whole: what the rest of the codec may rely on. */
static void
check_whole(const struct http_head *h)
{
	promise(h->is_request || (h->status >= 100 && h->status <= 999));
	promise(h->method <= METHOD_OTHER && h->minor <= 9);
	promise((h->facts & (FACT_CHUNKED | FACT_CODING_OTHER)) == 0 || (h->facts & FACT_CODING) != 0);
}

bool
http_head_is_done(const struct http_head *h)
{
	return h->state == S_DONE;
}

/* How many bytes of a skipped value come before the CR or LF. */
static size_t
skip_run(const uint8_t *buf, size_t len)
{
	const uint8_t *end = memchr(buf, '\r', len);

	if (end != NULL)
		len = (size_t)(end - buf);
	end = memchr(buf, '\n', len);
	return end != NULL ? (size_t)(end - buf) : len;
}

size_t
http_head_feed(struct http_head *h, const uint8_t *buf, size_t len, const char **why)
{
	size_t n = 0;

	promise_or(h->state <= S_DONE, 0);
	while (n < len && h->state != S_DONE) {
		if (h->state == S_SKIP) {
			n += skip_run(buf + n, len - n);
			if (n == len)
				break;
		}
		*why = readers[h->state](h, buf[n]);
		if (*why != NULL)
			break;
		n++;
	}
	if (h->state == S_DONE)
		check_whole(h);
	promise(n <= len);
	return n;
}
