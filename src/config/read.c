/*
 * read.c - reads a settings file through inih, strictly.
 *
 * inih (55 was tried) cuts lines at its buffer's end and continues in the middle,
 * cuts section names to 49 bytes, takes an indented line as a continuation,
 * ignores what follows a ], takes : for =, does not report an empty section, and
 * gives its handlers no line number.
 *
 * So it gets its lines from next_line(), which reads whole physical lines,
 * counts them, strips their indentation and checks their form. A line that inih
 * would misread is an error here, and reaches inih as an empty line. The line
 * of what inih passes to on_pair() is the last one read.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "config/make.h"

#define QUOTED_MAX 60		/* bytes of a line in an error */
#define LINE_MAX_WANTED 4096	/* bytes; a heartbeat of 256 bytes in \xHH, a long list of backends */

struct source {
	FILE *file;
	struct parsed *parsed;
	int line;
	int failed;		/* -errno; reading ends then */
};

/* One physical line: what fits, and what kept it from being one. */
struct line {
	char *text;
	size_t len;		/* bytes kept */
	size_t whole;		/* bytes there are, without the line's end */
	bool has_nul;
};

/* False at the end of the file. Keeps at most max - 1 bytes; drops "\n" or "\r\n". */
static bool
read_line(struct line *l, FILE *f, size_t max)
{
	int c = EOF;

	l->len = l->whole = 0;
	l->has_nul = false;
	while ((c = getc_unlocked(f)) != EOF && c != '\n') {
		if (l->len + 1 < max)
			l->text[l->len++] = (char)c;
		l->whole++;
		l->has_nul |= c == '\0';
	}
	if (l->whole == l->len && l->len > 0 && l->text[l->len - 1] == '\r')
		l->whole = --l->len;
	l->text[l->len] = '\0';
	return c != EOF || l->whole > 0;
}

/* Where a comment, = or : stands first; the end of the text if none does. */
static const char *
first_mark(const char *text)
{
	const char *p = text;

	for (; *p != '\0'; p++)
		if (*p == '=' || *p == ':' || (*p == ';' && (p == text || isblank((unsigned char)p[-1]))))
			break;
	return p;
}

/* A key has no blank in it: what stands before the : of "listen 127.0.0.1:80" is none. */
static bool
is_one_word(const char *text, const char *end)
{
	while (end > text && isblank((unsigned char)end[-1]))
		end--;
	return end > text && (size_t)(end - text) <= strcspn(text, " \t");
}

/*
 * How much of a line an error may quote: errors are logged, so of a secret only its key. A key that is mistyped counts as
 * the one it is near to.
 */
static int
quotable(const char *text)
{
	const int len = (int)strcspn(text, " \t=:");
	char name[QUOTED_MAX + 1], meant[MEANT_MAX];
	const struct key *k;
	int side;

	snprintf(name, sizeof(name), "%.*s", len, text);
	k = key_read(name, SCOPE_PROCESS, &side);
	if (k == NULL && key_meant(name, true, false, meant) != NULL)
		k = key_read(meant, SCOPE_PROCESS, &side);
	return k != NULL && k->type->is_secret ? len : QUOTED_MAX;
}

static bool
is_comment(const char *text)
{
	return *text == ';' || *text == '#';
}

/*
 * [HEAD] and perhaps a comment. Never passed to inih, which would cut its name:
 * on_pair() uses the last parsed section.
 */
static void
take_section(struct source *s, const char *text)
{
	struct errors *errors = &s->parsed->errors;
	const char *end = strchr(text, ']'), *rest = "";
	char *copy, *head;
	int r;

	if (end == NULL) {
		errors_add(errors, s->line, "\"%.60s\" has no closing ]; write one, as in [route NAME]", text);
		end = text + strcspn(text, ";");
	} else {
		rest = end + 1 + strspn(end + 1, " \t");
	}
	if (*rest != '\0' && !is_comment(rest))
		errors_add(errors, s->line, "\"%.*s\" follows the section on the same line; write it on a line of its own", quotable(rest), rest);
	copy = strndup(text + 1, (size_t)(end - text) - 1);
	if (copy == NULL) {
		s->failed = -ENOMEM;
		return;
	}
	head = copy + strspn(copy, " \t");
	for (size_t len = strlen(head); len > 0 && isblank((unsigned char)head[len - 1]); len--)
		head[len - 1] = '\0';
	r = parsed_open(s->parsed, head, s->line);
	if (r < 0)
		s->failed = r;
	free(copy);
}

/* KEY = VALUE. Returns whether inih would read it as that. */
static bool
take_pair(struct source *s, const char *text)
{
	struct errors *errors = &s->parsed->errors;
	const char *mark = first_mark(text);

	if (*mark == '=' && mark > text)
		return true;
	if (*mark == '=')
		errors_add(errors, s->line, "no key before the =; write KEY = VALUE");
	else if (*mark == ':' && is_one_word(text, mark))
		errors_add(errors, s->line, "\"%.*s\" has : instead of =; write KEY = VALUE", quotable(text), text);
	else
		errors_add(errors, s->line, "\"%.*s\" has no =; write KEY = VALUE", quotable(text), text);
	return false;
}

/* False, after adding the error, when the line is not text that can be read. */
static bool
check_bytes(struct source *s, const struct line *l)
{
	struct errors *errors = &s->parsed->errors;

	if (l->has_nul) {
		errors_add(errors, s->line, "NUL byte in the line; save the file as plain UTF-8 text");
		return false;
	}
	for (size_t i = 0; i < l->len; i++) {
		unsigned char c = (unsigned char)l->text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			errors_add(errors, s->line, "control byte 0x%02x in the line; remove it", c);
			return false;
		}
	}
	if (l->whole > l->len) {
		errors_add(errors, s->line, "the line has %zu bytes, the limit is %zu; shorten it",
		    l->whole, l->len);
		return false;
	}
	return true;
}

/* Checks a line without its indentation; returns whether inih is to see it. */
static bool
take_line(struct source *s, const struct line *l, const char *text)
{
	if (!l->has_nul && (is_comment(text) || (*text == '\0' && l->whole == l->len)))
		return false;
	if (*text == '[' && check_bytes(s, l)) {
		take_section(s, text);
		return false;
	}
	if (*text != '[' && check_bytes(s, l) && take_pair(s, text))
		return true;
	parsed_spoil(s->parsed);
	return false;
}

/* inih's fgets(): one line a call; an empty one for each that is not for inih. */
static char *
next_line(char *buf, int size, void *stream)
{
	struct source *s = stream;
	struct line l = { .text = buf };
	const char *text = buf;
	size_t len;

	if (s->failed != 0 || !read_line(&l, s->file, (size_t)size - 1)) {
		if (ferror(s->file))
			s->failed = errno != 0 ? -errno : -EIO;
		return NULL;
	}
	s->parsed->last_line = ++s->line;
	if (s->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	text += strspn(text, " \t");
	assert(text >= buf && text <= buf + l.len);
	len = take_line(s, &l, text) ? strlen(text) : 0;
	memmove(buf, text, len);
	strcpy(buf + len, "\n");	/* read_line() left room */
	return buf;
}

static int
on_pair(void *user, const char *section, const char *name, const char *value)
{
	struct source *s = user;
	int r;

	(void)section;
	r = parsed_add(s->parsed, name, value, s->line);
	if (r < 0)
		s->failed = r;
	return 1;
}

int
parsed_read(struct parsed *d, FILE *file)
{
	struct source s = { .file = file, .parsed = d };
	int line;

#ifdef HAVE_INI_MAX_LINE
	ini_max_line = LINE_MAX_WANTED;
#endif
	errno = 0;
	line = ini_parse_stream(next_line, &s, on_pair, &s);
	if (s.failed != 0)
		return s.failed;
	if (line != 0)
		errors_add(&d->errors, line > 0 ? line : s.line, "syntax error; write KEY = VALUE");
	return 0;
}
