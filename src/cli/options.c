/*
 * options.c - reads the options of a command from its table.
 *
 * Not getopt, because its errors cannot suggest the nearest option.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stent/cli.h"
#include "stent/nearest.h"
#include "stent/utf8.h"

void
cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	utf8_print_line("", fmt, ap, stderr);
	va_end(ap);
}

static int
report_unknown(const struct command *c, const char *word)
{
	struct nearest n;

	assert(c->options != NULL);
	nearest_start(&n, word);
	for (const struct cli_option *o = c->options; o->name != NULL; o++)
		nearest_offer(&n, o->name);
	nearest_offer(&n, "--help");
	if (nearest_best(&n) != NULL)
		cli_error("stent %s: unknown option \"%s\"; did you mean \"%s\"?", c->name, word, nearest_best(&n));
	else
		cli_error("stent %s: unknown option \"%s\"; `stent %s --help` lists them all", c->name, word, c->name);
	return -EINVAL;
}

/* The option that a word names; *value: what follows its =, or NULL. */
static const struct cli_option *
find_option(const struct command *c, const char *word, const char **value)
{
	size_t len = strcspn(word, "=");

	*value = word[len] == '=' ? word + len + 1 : NULL;
	for (const struct cli_option *o = c->options; o->name != NULL; o++)
		if ((strlen(o->name) == len && strncmp(o->name, word, len) == 0) ||
		    (o->alias != NULL && strcmp(o->alias, word) == 0))
			return o;
	return NULL;
}

size_t
cli_word_at(const char *const *words, const char *word)
{
	size_t i = 0;

	while (words[i] != NULL && strcmp(words[i], word) != 0)
		i++;
	return i;
}

/* 0, or -EINVAL: the option has a list of words, and this is not one of them. */
static int
check_word(const struct command *c, const struct cli_option *o, const char *value)
{
	char list[128];
	size_t len = 0;

	if (o->words == NULL || o->words[cli_word_at(o->words, value)] != NULL)
		return 0;
	for (const char *const *w = o->words; *w != NULL && len < sizeof(list); w++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
		    w == o->words ? "" : w[1] != NULL ? ", " : " or ", *w);
	cli_error("stent %s: %s takes %s, not \"%s\"", c->name, o->name, list, value);
	return -EINVAL;
}

/* Of two values one would be lost without a word, such as a port that is not redirected then. */
static int
report_twice(const struct command *c, const struct cli_option *o)
{
	const char *how = strcmp(o->value, "LIST") == 0 ? ", with commas in its value" : "";

	cli_error("stent %s: %s is given twice; write it once%s", c->name, o->name, how);
	return -EINVAL;
}

/* Reads the option at argv[*i]; moves *i to its value when that is a word of its own. before: the values without options. */
static int
read_option(int argc, char **argv, int *i, const struct command *c, struct cli_values *values, const struct cli_values *before)
{
	const char *word = argv[*i], *value;
	const struct cli_option *o = find_option(c, word, &value);
	char *field;

	if (o == NULL)
		return report_unknown(c, word);
	field = (char *)values + o->offset;
	if (o->value == NULL) {
		*(bool *)field = true;
		if (value == NULL)
			return 0;
		cli_error("stent %s: %s takes no value; write it without", c->name, o->name);
		return -EINVAL;
	}
	if (value == NULL && *i + 1 < argc)
		value = argv[++*i];
	if (value == NULL || *value == '\0') {
		cli_error("stent %s: %s needs a value; write one after it", c->name, word);
		return -EINVAL;
	}
	if (*(const char **)(void *)field != *(const char *const *)(const void *)((const char *)before + o->offset))
		return report_twice(c, o);
	*(const char **)(void *)field = value;
	return check_word(c, o, value);
}

int
cli_options(int argc, char **argv, int max_words, struct cli_values *values)
{
	const struct command *c = cli_find(argv[0]);
	const struct cli_values before = *values;
	int words = 0;
	bool ended = false;

	assert(c != NULL);	/* it was found by this name */
	for (int i = 1; i < argc; i++) {
		if (!ended && strcmp(argv[i], "--") == 0) {
			ended = true;
		} else if (!ended && argv[i][0] == '-' && argv[i][1] != '\0') {
			if (read_option(argc, argv, &i, c, values, &before) < 0)
				return -EINVAL;
		} else if (words == max_words) {
			cli_error("stent %s: unexpected argument \"%s\"; see `stent %s --help`", argv[0],
			    argv[i], argv[0]);
			return -EINVAL;
		} else {
			argv[++words] = argv[i];
		}
	}
	return words;
}
