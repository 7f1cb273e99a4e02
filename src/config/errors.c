/*
 * errors.c - the list of errors of a settings file.
 *
 * They are found in several passes (reading, values, cross checks) and printed
 * sorted by line. A text may quote the file, so bytes that would act on a
 * terminal are shown as \xHH.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/errors.h"
#include "stent/utf8.h"

/* Takes text, NULL: there was no memory for it. */
static void
keep(struct errors *e, int line, bool is_warning, char *text)
{
	struct error *list = e->list;

	if ((e->n & (e->n - 1)) == 0)	/* full: there is room for a power of two */
		list = realloc(list, (e->n > 0 ? 2 * e->n : 1) * sizeof(*list));
	if (list != NULL)
		e->list = list;
	if (list == NULL || text == NULL) {
		e->failed = -ENOMEM;
		free(text);
		return;
	}
	list[e->n] = (struct error){ .line = line, .order = e->n, .is_warning = is_warning, .text = text };
	e->n++;
}

__attribute__((format(printf, 1, 0)))
static char *
compose(const char *fmt, va_list ap)
{
	char *text;

	return vasprintf(&text, fmt, ap) < 0 ? NULL : text;
}

int
errors_add(struct errors *e, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	keep(e, line, false, compose(fmt, ap));
	va_end(ap);
	return -EINVAL;
}

static bool
is_known(const struct errors *e, int line, const char *text)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->list[i].is_warning && e->list[i].line == line && strcmp(e->list[i].text, text) == 0)
			return true;
	return false;
}

void
errors_warn(struct errors *e, int line, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = compose(fmt, ap);
	va_end(ap);
	if (text != NULL && is_known(e, line, text))
		free(text);
	else
		keep(e, line, true, text);
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

static void
sort(struct errors *e)
{
	if (e->n > 1)
		qsort(e->list, e->n, sizeof(*e->list), compare);
}

static void
forget(struct errors *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->list[i].text);
	free(e->list);
	e->list = NULL;
	e->n = 0;
}

static void
print(const struct errors *e, const struct error *one, FILE *out)
{
	utf8_print(e->path, out);
	if (e->words == NULL)
		fprintf(out, ":%d", one->line);
	fputs(one->is_warning ? ": warning: " : ": ", out);
	utf8_print(one->text, out);
}

int
errors_print(struct errors *e, FILE *out)
{
	size_t n_errors = 0;

	for (size_t i = 0; i < e->n; i++)
		n_errors += !e->list[i].is_warning;
	if (n_errors == 0 && e->failed == 0)
		return 0;
	sort(e);
	for (size_t i = 0; i < e->n; i++) {
		print(e, &e->list[i], out);
		putc('\n', out);
	}
	forget(e);
	return e->failed != 0 ? e->failed : -EINVAL;
}

char **
errors_take_warnings(struct errors *e, size_t *n)
{
	char **texts = e->n > 0 ? calloc(e->n, sizeof(*texts)) : NULL;

	*n = 0;
	sort(e);
	for (size_t i = 0; i < e->n && texts != NULL; i++) {
		size_t len;
		FILE *out = open_memstream(&texts[*n], &len);

		if (out == NULL)
			continue;
		print(e, &e->list[i], out);
		if (fclose(out) == 0 && texts[*n] != NULL)
			(*n)++;
		else
			free(texts[*n]);
	}
	forget(e);
	return texts;
}

void
errors_note_file(struct errors *e, const char *path)
{
	char **files = reallocarray(e->files, e->n_files + 1, sizeof(*files));

	if (files != NULL) {
		e->files = files;
		files[e->n_files] = strdup(path);
	}
	if (files == NULL || files[e->n_files] == NULL)
		e->failed = -ENOMEM;
	else
		e->n_files++;
}

char **
errors_take_files(struct errors *e, size_t *n)
{
	char **files = e->files;

	*n = e->n_files;
	e->files = NULL;
	e->n_files = 0;
	return files;
}

void
errors_clear_files(struct errors *e)
{
	for (size_t i = 0; i < e->n_files; i++)
		free(e->files[i]);
	free(e->files);
	e->files = NULL;
	e->n_files = 0;
}
