/*
 * http_events.c - where the text of a stream of server-sent events stands, and
 * the comment that may be inserted there (HTML standard, 9.2.6).
 *
 * An LF may still come after a CR, so a CR counts as a line end only in a stream
 * that has shown that it ends its lines with CR alone. The comment's lines end
 * as those of the stream do, for readers that cut it at CR LF CR LF.
 *
 * Between two events an empty line follows the comment: some readers cut the
 * stream at empty lines, look at how each piece begins, and would lose an event
 * joined to a comment. To others (httpx-sse and the SDKs made from it) an empty
 * line is one more event, without data, once the stream has named an id: then
 * there is none, unless a text in the settings has one. Within an event there is
 * never one, since it would end the event.
 */
#include <stdio.h>

#include "codec/http.h"
#include "stent/promise.h"

enum line_end { END_UNKNOWN, END_LF, END_CRLF, END_CR };

static const char *const line_ends[] = {
	[END_UNKNOWN] = "\n", [END_LF] = "\n", [END_CRLF] = "\r\n", [END_CR] = "\r",
};

/* What the current line is, by its first bytes so far. */
enum line_kind { LINE_EMPTY, LINE_I, LINE_ID, LINE_COMMENT, LINE_OTHER };

static void
end_line(struct http_events *e, uint8_t c)
{
	if (e->line == LINE_EMPTY)
		e->is_open = false;
	else if (e->line != LINE_COMMENT)
		e->is_open = true;
	e->line = LINE_EMPTY;
	e->is_behind_cr = c == '\r';
	if (c == '\n')
		e->line_end = END_LF;
}

static void
add_to_line(struct http_events *e, uint8_t c)
{
	if (e->line == LINE_EMPTY)
		e->line = c == ':' ? LINE_COMMENT : c == 'i' ? LINE_I : LINE_OTHER;
	else if (e->line == LINE_I)
		e->line = c == 'd' ? LINE_ID : LINE_OTHER;
	else if (e->line == LINE_ID) {
		e->has_ids |= c == ':';
		e->line = LINE_OTHER;
	}
}

static void
take(struct http_events *e, uint8_t c)
{
	promise_dear(!e->is_behind_cr || e->line == LINE_EMPTY);
	if (e->is_behind_cr) {
		e->is_behind_cr = false;
		e->line_end = c == '\n' ? END_CRLF : END_CR;
		if (c == '\n')
			return;		/* the second byte of the line end */
	}
	if (c == '\n' || c == '\r')
		end_line(e, c);
	else
		add_to_line(e, c);
}

static size_t
rest_of_line(const uint8_t *buf, size_t len)
{
	size_t n = 0;

	while (n < len && buf[n] != '\n' && buf[n] != '\r')
		n++;
	return n;
}

void
http_events_feed(struct http_events *e, const uint8_t *buf, size_t len)
{
	size_t n = 0;

	promise(e->line <= LINE_OTHER && e->line_end <= END_CR);
	e->has_begun |= len > 0;
	while (n < len) {
		if (e->line >= LINE_COMMENT)
			n += rest_of_line(buf + n, len - n);
		if (n < len)
			take(e, buf[n++]);
	}
}

enum http_place
http_events_place(const struct http_events *e)
{
	promise(e->has_begun || (e->line == LINE_EMPTY && !e->is_open && !e->is_behind_cr));
	if (!e->has_begun)
		return PLACE_START;
	if (e->line != LINE_EMPTY || (e->is_behind_cr && e->line_end != END_CR))
		return PLACE_IN_LINE;
	return e->is_open ? PLACE_IN_EVENT : PLACE_BETWEEN_EVENTS;
}

size_t
http_events_comment(const struct http_events *e, const struct codec_bytes *text, char buf[HTTP_COMMENT_MAX])
{
	const bool is_auto = text->len == 0;
	const bool has_empty_line = is_auto ? !e->has_ids : text->len > 1 && text->data[text->len - 2] == '\n';
	const size_t n = is_auto ? 1 : text->len - (has_empty_line ? 2 : 1);
	const char *end = line_ends[e->line_end <= END_CR ? e->line_end : END_UNKNOWN];

	promise_or(http_events_place(e) != PLACE_IN_LINE && n <= CODEC_COMMENT_MAX, 0);
	promise(is_auto || (text->data[0] == ':' && text->data[text->len - 1] == '\n'));	/* else it would be part of an event */
	return (size_t)snprintf(buf, HTTP_COMMENT_MAX, "%.*s%s%s", (int)n, is_auto ? ":" : (const char *)text->data,
	    end, has_empty_line && http_events_place(e) != PLACE_IN_EVENT ? end : "");
}
