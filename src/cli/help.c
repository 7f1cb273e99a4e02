/* help.c - `stent help`: the commands, one of them, or the keys of the settings. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "stent/cli.h"
#include "stent/config.h"
#include "stent/nearest.h"

#define WIDTH 79
#define OPTION_COLUMN 22

static void
print_commands(FILE *out)
{
	fputs("stent is a transparent TCP proxy that keeps idle connections alive. It relays\n"
	    "every byte unchanged and sends heartbeats to both sides.\n\n", out);
	for (const struct command *c = commands; c->name != NULL; c++)
		fprintf(out, "  %-12s %s\n", c->name, c->summary);
	fputs("\n"
	    "Usage: stent COMMAND ...; see stent COMMAND --help, stent help keys or profiles\n", out);
}

/* Wraps a text between a column and the right margin. */
static void
print_at(int column, const char *text, FILE *out)
{
	int at = column;

	while (*text != '\0') {
		const int len = (int)strcspn(text, " ");

		if (at > column && at + 1 + len > WIDTH)
			at = fprintf(out, "\n%*s", column, "") - 1;
		else if (at > column)
			at += fprintf(out, " ");
		at += fprintf(out, "%.*s", len, text);
		text += len + strspn(text + len, " ");
	}
	putc('\n', out);
}

static void
print_option(const struct cli_option *o, FILE *out)
{
	char text[256];
	size_t len;
	int at = fprintf(out, "  %s%s%s%s%s", o->alias != NULL ? o->alias : "", o->alias != NULL ? ", " : "", o->name,
	    o->value != NULL ? " " : "", o->value != NULL ? o->value : "");

	len = (size_t)snprintf(text, sizeof(text), "%s", o->help);
	for (const char *const *w = o->words; w != NULL && *w != NULL && len < sizeof(text); w++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s",
		    w == o->words ? ": " : w[1] != NULL ? ", " : " or ", *w);
	fprintf(out, "%*s", OPTION_COLUMN - at, "");
	print_at(OPTION_COLUMN, text, out);
}

static void
print_usage(const struct command *c, FILE *out)
{
	int column = fprintf(out, "Usage: stent %s%s%s", c->name, *c->words != '\0' ? " " : "", c->words);

	for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++) {
		char text[64];
		const int len = snprintf(text, sizeof(text), " [%s%s%s]", o->alias != NULL ? o->alias : o->name,
		    o->value != NULL ? " " : "", o->value != NULL ? o->value : "");

		if (column + len > 79)
			column = fprintf(out, "\n     ") - 1;
		column += fprintf(out, "%s", text);
	}
	fprintf(out, "\n\n%s\n", c->summary);
}

void
cli_print_help(const struct command *c, FILE *out)
{
	if (c == NULL) {
		print_commands(out);
		return;
	}
	print_usage(c, out);
	if (c->help != NULL)
		fprintf(out, "\n%s", c->help);
	if (c->options != NULL)
		putc('\n', out);
	for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++)
		print_option(o, out);
}

/* --- as JSON: man pages and completions are made from it --- */

static json_t *
words_to_json(const char *const *words)
{
	json_t *list = json_array();

	for (; words != NULL && *words != NULL; words++)
		json_array_append_new(list, json_string(*words));
	return list;
}

static json_t *
options_to_json(const struct cli_option *o)
{
	json_t *list = json_array();

	for (; o != NULL && o->name != NULL; o++)
		json_array_append_new(list, json_pack("{ss, ss*, ss*, so, ss}", "name", o->name, "alias", o->alias,
		    "value", o->value, "words", words_to_json(o->words), "help", o->help));
	return list;
}

static int
print_reference(FILE *out)
{
	json_t *list = json_array();
	int r = 0;

	for (const struct command *c = commands; c->name != NULL; c++)
		if (json_array_append_new(list, json_pack("{ss, ss, ss, ss*, so}", "name", c->name, "words", c->words,
		    "summary", c->summary, "help", c->help, "options", options_to_json(c->options))) < 0)
			r = -ENOMEM;
	fprintf(out, "{\"version\": \"%s\", \"commands\": ", STENT_VERSION);
	if (list == NULL || json_dumpf(list, out, JSON_INDENT(1)) < 0)
		r = -ENOMEM;
	fputs(", \"settings\": ", out);
	config_print_keys(out, KEYS_JSON);
	fputs("}\n", out);
	json_decref(list);
	return r;
}

/* --- the command --- */

/* In the order of enum keys_format. */
const char *const help_formats[] = { "text", "markdown", "json", NULL };

static int
report_unknown(const char *topic)
{
	struct nearest n;

	nearest_start(&n, topic);
	nearest_offer(&n, "keys");
	nearest_offer(&n, "profiles");
	for (const struct command *c = commands; c->name != NULL; c++)
		nearest_offer(&n, c->name);
	if (nearest_best(&n) != NULL)
		cli_error("stent help: there is no help on \"%s\"; did you mean \"%s\"?", topic, nearest_best(&n));
	else
		cli_error("stent help: there is no help on \"%s\"; `stent help` lists the topics", topic);
	return CLI_WRONG;
}

/* On a command, or with topic NULL on all of them: there is text, and JSON of the whole. */
static int
help_on(const char *topic, enum keys_format format)
{
	const struct command *c = topic != NULL ? cli_find(topic) : NULL;

	if (topic != NULL && c == NULL)
		return report_unknown(topic);
	if (topic == NULL && format == KEYS_JSON)
		return print_reference(stdout) < 0 ? CLI_FAILED : CLI_DONE;
	if (format != KEYS_TEXT) {
		cli_error("stent help: --format=%s is for `stent help keys`%s", help_formats[format],
		    format == KEYS_JSON ? ", or for `stent help` without a topic" : "");
		return CLI_WRONG;
	}
	cli_print_help(c, stdout);
	return CLI_DONE;
}

static void
print_profiles(enum keys_format format)
{
	if (format == KEYS_JSON)
		fputs("[\n", stdout);
	config_print_profiles(stdout, format);
	if (format == KEYS_JSON)
		fputs("]\n", stdout);
}

int
cli_help(int argc, char **argv)
{
	struct cli_values values = { .format = help_formats[KEYS_TEXT] };
	int words = cli_options(argc, argv, 1, &values);
	enum keys_format format;

	if (words < 0)
		return CLI_WRONG;
	format = (enum keys_format)cli_word_at(help_formats, values.format);
	if (words > 0 && strcmp(argv[1], "keys") == 0) {
		config_print_keys(stdout, format);
		return CLI_DONE;
	}
	if (words == 0 || strcmp(argv[1], "profiles") != 0)
		return help_on(words > 0 ? argv[1] : NULL, format);
	print_profiles(format);
	return CLI_DONE;
}
