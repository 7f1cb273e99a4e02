/*
 * fuzz_expand.c - environment variables in values: the first line of the input is the variable A, the rest a value.
 *
 * A value is expanded, or there is an error of one line that says what to do. What came out has no byte that neither
 * the value nor the variable had, and none of the value's own text is lost where it has no reference.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/expand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy up to the first NUL. */
static char *
text_of(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);

	if (text == NULL)
		abort();
	return text;
}

static void
judge_value(const char *expanded, const char *text, const char *variable)
{
	if (strstr(text, "${") == NULL)
		assert(strcmp(expanded, text) == 0);
	for (const char *p = expanded; *p != '\0'; p++)
		assert(strchr(text, *p) != NULL || strchr(variable, *p) != NULL);
}

static void
judge_error(struct errors *errors)
{
	char *messages = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&messages, &n);

	if (out == NULL)
		abort();
	assert(errors_print(errors, out) == -EINVAL);
	fclose(out);
	assert(strstr(messages, "; ") != NULL && strncmp(messages, "f:1: ", 5) == 0);
	free(messages);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct type plain;
	static const struct key key = { .name = "x", .type = &plain };
	const uint8_t *end = memchr(data, '\n', size);
	const size_t first = end != NULL ? (size_t)(end - data) : 0;
	struct errors errors = { .path = "f" };
	const struct spot spot = { .errors = &errors, .line = 1, .name = "x" };
	char *variable = text_of(data, first), *text = text_of(data + first, size - first), *expanded = NULL;
	int r;

	if (clearenv() != 0 || setenv("A", variable, 1) != 0)
		abort();
	r = expand_value(&expanded, &key, text, &spot);
	assert((r == 0) == (expanded != NULL) && (r == 0 || r == -EINVAL) && errors.n == (r == 0 ? 0 : 1));
	if (r == 0)
		judge_value(expanded, text, variable);
	else
		judge_error(&errors);
	free(expanded);
	free(variable);
	free(text);
	return 0;
}
