/*
 * quote.c - texts in quotes, and their escapes.
 *
 * A settings file contains no control bytes, and a terminal is sent none. A text
 * with such bytes, a comma or the beginning of a comment is written in quotes.
 * What is printed reads back as the same bytes.
 */
#include "config/quote.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stent/utf8.h"

/* Of a hexadecimal digit. */
static unsigned
digit_value(char c)
{
	return (unsigned)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

/*
 * Reads one escape after its backslash; returns how many characters it has,
 * 0: not an escape. \012 would be one byte in C and three here, so it is refused.
 */
static size_t
read_escape(const char *p, uint8_t *byte)
{
	static const char letters[] = "nrt0\\\"", bytes[] = "\n\r\t\0\\\"";
	const char *letter = *p != '\0' ? strchr(letters, *p) : NULL;

	if (*p == '0' && isdigit((unsigned char)p[1]))
		return 0;
	if (letter != NULL) {
		*byte = (uint8_t)bytes[letter - letters];
		return 1;
	}
	if (*p != 'x' || !isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]))
		return 0;
	*byte = (uint8_t)(digit_value(p[1]) << 4 | digit_value(p[2]));
	return 3;
}

int
quote_unescape(uint8_t *data, size_t *len, const char *text, const struct spot *spot)
{
	bool quoted = *text == '"';
	const char *p = text + (quoted ? 1 : 0);
	size_t n;

	for (*len = 0; *p != '\0' && !(quoted && *p == '"'); (*len)++) {
		if (*p != '\\') {
			data[*len] = (uint8_t)*p++;
			continue;
		}
		n = read_escape(p + 1, &data[*len]);
		if (n == 0)
			return spot_error(spot, "\"\\%.3s\" is not an escape; use one of \\n \\r \\t \\0 \\xHH \\\\ \\\"", p + 1);
		p += 1 + n;
	}
	assert(*len <= strlen(text));	/* no escape is longer than it is written */
	if (quoted && *p == '\0')
		return spot_error(spot, "%s has no closing quote; write one (a \" ;\" inside is a comment: write \\x3b)",
		    text);
	if (quoted && p[1] != '\0')
		return spot_error(spot, "%s has text after the closing quote; write a quote inside as \\\"", text);
	return 0;
}

void
quote_print(const uint8_t *data, size_t len, FILE *out)
{
	static const char letters[] = "nrt\\\"", escaped[] = "\n\r\t\\\"";

	putc('"', out);
	for (size_t i = 0; i < len; i++) {
		const uint8_t c = data[i];
		const char *letter = c != 0 ? strchr(escaped, c) : NULL;

		if (letter != NULL)
			fprintf(out, "\\%c", letters[letter - escaped]);
		else if (c < 0x20 || c >= 0x7f || c == ';')	/* ; could begin a comment */
			fprintf(out, "\\x%02x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

int
quote_read(char **ret, const char *text, const struct spot *spot)
{
	uint8_t *data = malloc(strlen(text) + 1);
	size_t len = strlen(text);
	int r = 0;

	if (data == NULL)
		return -ENOMEM;
	if (*text == '"')
		r = quote_unescape(data, &len, text, spot);
	else
		memcpy(data, text, len);
	if (r == 0 && memchr(data, '\0', len) != NULL)
		r = spot_error(spot, "%s contains a NUL byte, which a path or name cannot; remove it", text);
	if (r < 0) {
		free(data);
		return r;
	}
	data[len] = '\0';
	*ret = (char *)data;
	return 0;
}

static bool
needs_quotes(const char *text)
{
	size_t n = 1;

	if (*text == '\0' || strchr("\" \t", *text) != NULL || strchr(" \t", text[strlen(text) - 1]) != NULL ||
	    strpbrk(text, ";,") != NULL)
		return true;
	for (; *text != '\0' && n > 0; text += n)
		n = utf8_fit(text);
	return n == 0;
}

void
quote_print_path(const char *path, FILE *out)
{
	if (needs_quotes(path))
		quote_print((const uint8_t *)path, strlen(path), out);
	else
		fputs(path, out);
}
