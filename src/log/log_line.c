/*
 * log_line.c - formats a line of the log.
 *
 * Values come from peers and files, and must not start a new line, control a
 * terminal or break the JSON: control characters, marks that change the
 * direction of text, and invalid UTF-8 are escaped; other characters are kept.
 *
 * A line consists of pieces that are written whole or not at all (a character,
 * a number with its name). The first that does not fit cuts the line: what
 * follows is left out, a reserve (TAIL_ROOM) is used to close open quotes and
 * to mark the line as cut. Cut JSON is still valid JSON.
 */
#include "log/log_line.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "stent/utf8.h"

#define TAIL_ROOM 32	/* kept for `","cut":true}` and a newline */

static const char *const level_names[] = {
	[LEVEL_ERROR] = "error", [LEVEL_WARN] = "warn", [LEVEL_INFO] = "info", [LEVEL_DEBUG] = "debug",
};

/* Writes a piece, whole or not at all. */
static bool
put(struct log_line *l, const char *data, size_t len)
{
	if (l->cut || l->len + len > LOG_LINE_MAX - TAIL_ROOM) {
		l->cut = true;
		return false;
	}
	memcpy(l->data + l->len, data, len);
	l->len += len;
	return true;
}

static bool
put_text(struct log_line *l, const char *text)
{
	return put(l, text, strlen(text));
}

/* Closes a line; always fits, due to the reserve. */
static void
put_tail(struct log_line *l, const char *text)
{
	size_t len = strlen(text);

	memcpy(l->data + l->len, text, len);
	l->len += len;
}

/* Escapes the character at s into buf; returns the length of the escape, 0 if it needs none. */
static size_t
escape(enum log_format format, bool quoted, const char *s, size_t *taken, char buf[8])
{
	static const char short_from[] = "\n\r\t", short_to[] = "nrt";
	uint32_t code = 0;
	size_t len = utf8_read(s, &code);
	const char *known;

	*taken = len > 0 ? len : 1;
	if (len == 0)	/* JSON cannot represent a raw byte */
		return (size_t)(format == FORMAT_JSON ? snprintf(buf, 8, "\\ufffd") :
		    snprintf(buf, 8, "\\x%02x", (unsigned char)*s));
	if (code == '\\' || (code == '"' && quoted))
		return (size_t)snprintf(buf, 8, "\\%c", (char)code);
	if (!utf8_is_harmful(code))
		return 0;
	known = memchr(short_from, (int)code, sizeof(short_from) - 1);
	if (code < 0x80 && known != NULL)
		return (size_t)snprintf(buf, 8, "\\%c", short_to[known - short_from]);
	return (size_t)snprintf(buf, 8, format == FORMAT_TEXT && code < 0x80 ? "\\x%02x" : "\\u%04x",
	    code & 0xffff);
}

static void
put_escaped(struct log_line *l, enum log_format format, bool quoted, const char *text)
{
	char buf[8];
	size_t taken;

	for (const char *s = text; *s != '\0' && !l->cut; s += taken) {
		size_t len = escape(format, quoted, s, &taken, buf);

		put(l, len > 0 ? buf : s, len > 0 ? len : taken);
	}
}

static void
put_quoted(struct log_line *l, enum log_format format, const char *text)
{
	if (!put_text(l, "\""))
		return;
	put_escaped(l, format, true, text);
	put_tail(l, "\"");
}

/* In text lines a value is quoted only if its end would be ambiguous. */
static bool
needs_quotes(const char *text)
{
	for (const char *s = text; *s != '\0'; s++)
		if (*s <= ' ' || *s >= 0x7f || *s == '"' || *s == '\\' || *s == '=')
			return true;
	return text[0] == '\0' || strcmp(text, "-") == 0;
}

static size_t
number_text(const struct log_field *f, char *buf, size_t size)
{
	uint64_t ms = f->number < 0 ? -(uint64_t)f->number : (uint64_t)f->number;

	if (f->kind == FIELD_INT)
		return (size_t)snprintf(buf, size, "%" PRId64, f->number);
	return (size_t)snprintf(buf, size, "%s%" PRIu64 ".%03" PRIu64, f->number < 0 ? "-" : "",
	    ms / 1000, ms % 1000);
}

/* Name and number are one piece: half a number would be a wrong number. A name too long for it is left out. */
static void
put_number(struct log_line *l, const char *format, const struct log_field *f)
{
	char number[32], piece[128];
	int len;

	number_text(f, number, sizeof(number));
	len = snprintf(piece, sizeof(piece), format, f->name, number);
	if (len > 0 && (size_t)len < sizeof(piece))
		put(l, piece, (size_t)len);
	else
		l->cut = true;
}

static void
put_field_as_text(struct log_line *l, const struct log_field *f)
{
	char key[64];
	int len;

	if (f->kind != FIELD_TEXT) {
		put_number(l, " %s=%s", f);
		return;
	}
	if ((len = snprintf(key, sizeof(key), " %s=", f->name)) < 0 || (size_t)len >= sizeof(key)) {
		l->cut = true;
		return;
	}
	put(l, key, (size_t)len);
	if (f->text == NULL)
		put_text(l, "-");
	else if (needs_quotes(f->text))
		put_quoted(l, FORMAT_TEXT, f->text);
	else
		put_escaped(l, FORMAT_TEXT, true, f->text);
}

static void
put_field_as_json(struct log_line *l, const char *name, const char *text)
{
	char key[64];
	int len = snprintf(key, sizeof(key), ",\"%s\":%s", name, text == NULL ? "null" : "\"");

	if (len < 0 || (size_t)len >= sizeof(key)) {
		l->cut = true;
		return;
	}
	if (!put(l, key, (size_t)len) || text == NULL)
		return;
	put_escaped(l, FORMAT_JSON, true, text);
	put_tail(l, "\"");
}

/* The time of day, formatted once per second and thread. */
static const char *
second_text(time_t second)
{
	static _Thread_local time_t known = -1;
	static _Thread_local char text[24];
	struct tm tm;

	if (second != known && gmtime_r(&second, &tm) != NULL) {
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		known = second;
	}
	return text;
}

static void
begin(struct log_line *l, const struct log_line_head *h)
{
	char head[96];
	unsigned ms = (unsigned)(h->time.tv_nsec / 1000000) % 1000;

	l->len = 0;
	l->cut = false;
	if (h->format == FORMAT_JSON)
		snprintf(head, sizeof(head), "{\"time\":\"%s.%03uZ\"%s%s%s", second_text(h->time.tv_sec), ms,
		    h->unleveled ? "" : ",\"level\":\"", h->unleveled ? "" : level_names[h->level], h->unleveled ? "" : "\"");
	else if (h->untimed)
		snprintf(head, sizeof(head), "%s ", level_names[h->level]);
	else
		snprintf(head, sizeof(head), "%s.%03uZ %s ", second_text(h->time.tv_sec), ms,
		    level_names[h->level]);
	put_text(l, head);
}

static void
end(struct log_line *l, enum log_format format)
{
	if (l->cut)
		put_tail(l, format == FORMAT_JSON ? ",\"cut\":true" : " [cut]");
	put_tail(l, format == FORMAT_JSON ? "}\n" : "\n");
}

void
log_line_sentence(struct log_line *l, const struct log_line_head *h, const char *sentence)
{
	begin(l, h);
	if (h->format == FORMAT_JSON)
		put_field_as_json(l, "message", sentence);
	else
		put_escaped(l, FORMAT_TEXT, false, sentence);
	end(l, h->format);
}

void
log_line_event(struct log_line *l, const struct log_line_head *h, const char *event,
    const struct log_field *fields, size_t n)
{
	bool json = h->format == FORMAT_JSON;

	begin(l, h);
	if (json)
		put_field_as_json(l, "event", event);
	else
		put_escaped(l, FORMAT_TEXT, false, event);
	for (size_t i = 0; i < n && !l->cut; i++) {
		if (!json)
			put_field_as_text(l, &fields[i]);
		else if (fields[i].kind == FIELD_TEXT)
			put_field_as_json(l, fields[i].name, fields[i].text);
		else
			put_number(l, ",\"%s\":%s", &fields[i]);
	}
	end(l, h->format);
}
