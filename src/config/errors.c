/*
 * errors.c - the list of errors of a settings file.
 *
 * They are found in several passes (reading, values, cross checks) and told
 * sorted by line: the operator walks down the file once. A text may quote
 * the file, so bytes that would act on a terminal are shown as \xHH.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "config/errors.h"
#include "stent/utf8.h"

static int
keep(struct errors *e, int line, char *text)
{
	struct error *list = e->list;

	if ((e->n & (e->n - 1)) == 0)	/* full: there is room for a power of two */
		list = realloc(list, (e->n > 0 ? 2 * e->n : 1) * sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	list[e->n] = (struct error){ .line = line, .order = e->n, .text = text };
	e->list = list;
	e->n++;
	return 0;
}

int
errors_add(struct errors *e, int line, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0 || keep(e, line, text) < 0) {
		e->failed = -ENOMEM;
		if (n >= 0)
			free(text);
	}
	return -EINVAL;
}

const char *
errors_place(const struct errors *e, int line, char buf[PLACE_MAX])
{
	if (e->words != NULL)
		snprintf(buf, PLACE_MAX, "%s", e->words[line]);
	else
		snprintf(buf, PLACE_MAX, "line %d", line);
	return buf;
}

/* Those of one line stay in the order they were found in. */
static int
compare(const void *a, const void *b)
{
	const struct error *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

int
errors_tell(struct errors *e, FILE *out)
{
	int r = e->n > 0 ? -EINVAL : 0;

	if (e->n > 1)
		qsort(e->list, e->n, sizeof(*e->list), compare);
	for (size_t i = 0; i < e->n; i++) {
		utf8_print(e->path, out);
		if (e->words != NULL)
			fputs(": ", out);
		else
			fprintf(out, ":%d: ", e->list[i].line);
		utf8_print(e->list[i].text, out);
		putc('\n', out);
		free(e->list[i].text);
	}
	free(e->list);
	e->list = NULL;
	e->n = 0;
	return e->failed != 0 ? e->failed : r;
}
