/*
 * utf8.h - checks texts from outside before they are shown: none of their bytes
 * may control a terminal, or change the direction of the text that follows.
 */
#ifndef STENT_UTF8_H
#define STENT_UTF8_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Length of the UTF-8 character that s begins with, 0 if it is invalid (RFC 3629: shortest form, no surrogates). */
static inline size_t
utf8_read(const char *text, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *s = (const unsigned char *)text;
	const size_t len = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 :
	    (s[0] & 0xf8) == 0xf0 ? 4 : 0;

	if (len == 0)
		return 0;
	*code = len == 1 ? s[0] : s[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)	/* stops at the NUL too */
			return 0;
		*code = *code << 6 | (s[i] & 0x3fU);
	}
	if (*code < least[len] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
		return 0;
	return len;
}

/* A control character (C0, DEL, C1), a line separator, or a mark that changes the direction of text. */
static inline bool
utf8_is_harmful(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c || code == 0x200e || code == 0x200f ||
	    code == 0x2028 || code == 0x2029 || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

/* Length of the first character if it may be shown as it is; 0: escape the first byte. */
static inline size_t
utf8_fit(const char *text)
{
	uint32_t code = 0;
	const size_t len = utf8_read(text, &code);

	return utf8_is_harmful(code) ? 0 : len;
}

/* Bytes that may not be shown become \xHH. */
static inline void
utf8_print(const char *text, FILE *out)
{
	while (*text != '\0') {
		size_t fit = 0;

		for (size_t len; text[fit] != '\0' && (len = utf8_fit(text + fit)) > 0; fit += len)
			;
		fwrite(text, 1, fit, out);
		text += fit;
		if (*text != '\0')
			fprintf(out, "\\x%02x", (unsigned char)*text++);
	}
}

/* A line, of which what is formatted may come from outside; without memory for it, nothing. */
static inline void
utf8_print_line(const char *before, const char *fmt, va_list ap, FILE *out) __attribute__((format(printf, 2, 0)));

static inline void
utf8_print_line(const char *before, const char *fmt, va_list ap, FILE *out)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		return;
	fputs(before, out);
	utf8_print(text, out);
	putc('\n', out);
	free(text);
}

#endif
