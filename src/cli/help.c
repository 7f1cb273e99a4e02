/* help.c - `stent help`: the commands, one of them, or the keys of the settings. */
#include <string.h>

#include "stent/cli.h"
#include "stent/config.h"
#include "stent/nearest.h"

static void
print_commands(FILE *out)
{
	fputs("stent keeps TCP connections alive: it stands between clients and a backend,\n"
	    "passes every byte on unchanged, and puts heartbeats into both sides.\n\n"
	    "Usage: stent COMMAND ...\n\n", out);
	for (const struct command *c = commands; c->name != NULL; c++)
		fprintf(out, "  %-12s %s\n", c->name, c->summary);
	fputs("\n"
	    "stent COMMAND --help tells about one of them, stent help keys about every key\n"
	    "of the settings file, stent --version which stent this is.\n", out);
}

void
cli_print_help(const struct command *c, FILE *out)
{
	if (c == NULL) {
		print_commands(out);
		return;
	}
	fprintf(out, "Usage: stent %s%s%s\n\n%s\n", c->name, *c->args != '\0' ? " " : "", c->args, c->summary);
	if (c->help != NULL)
		fprintf(out, "\n%s", c->help);
}

static int
tell_unknown(const char *topic)
{
	struct nearest n;

	nearest_start(&n, topic);
	nearest_offer(&n, "keys");
	for (const struct command *c = commands; c->name != NULL; c++)
		nearest_offer(&n, c->name);
	if (nearest_best(&n) != NULL)
		cli_tell("stent help: there is no help on \"%s\"; did you mean \"%s\"?", topic, nearest_best(&n));
	else
		cli_tell("stent help: there is no help on \"%s\"; `stent help` tells what there is", topic);
	return CLI_WRONG;
}

int
cli_help(int argc, char **argv)
{
	bool markdown = false;
	const struct cli_option options[] = {
		{ "--markdown", NULL, NULL, &markdown },
		{ 0 },
	};
	int words = cli_options(argc, argv, options, 1);

	if (words < 0)
		return CLI_WRONG;
	if (words == 0) {
		cli_print_help(NULL, stdout);
		return CLI_DONE;
	}
	if (strcmp(argv[1], "keys") == 0) {
		config_print_keys(stdout, markdown);
		return CLI_DONE;
	}
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, argv[1]) == 0) {
			cli_print_help(c, stdout);
			return CLI_DONE;
		}
	}
	return tell_unknown(argv[1]);
}
