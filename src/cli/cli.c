/*
 * cli.c - the table of commands, and how one is found and called.
 *
 * A new command is a row here and a file of its own. Help, man page and
 * completion are made from the rows. --help is answered here for all of them.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "stent/cli.h"
#include "stent/nearest.h"

#define FLAG(n, field, text) { .name = n, .offset = offsetof(struct cli_values, field), .help = text }
#define CONFIG(text) { .name = "--config", .alias = "-c", .value = "FILE", \
	.offset = offsetof(struct cli_values, config), .help = text " (default " CLI_CONFIG_PATH ")" }
/* Of the commands that talk to a running stent. */
#define WHERE CONFIG("find the control socket by this settings file"), \
	{ .name = "--control", .value = "PATH", .offset = offsetof(struct cli_values, control), \
	  .help = "or name the socket itself" }
#define OPTIONS(...) (const struct cli_option[]){ __VA_ARGS__, { 0 } }

const struct command commands[] = {
	{ "run", "", "relay in the foreground",
	  "Relays as the settings say until SIGTERM or SIGINT; then accepts no more, gives\n"
	  "the open flows drain_timeout to end, and stops (a second signal: at once).\n"
	  "SIGUSR1 opens the log file again.\n",
	  OPTIONS(CONFIG("the settings file")), cli_run },
	{ "relay", "LISTEN BACKEND [--KEY=VALUE ...]", "one route without a settings file",
	  "Relays from LISTEN to BACKEND as `stent run` does. Any key of the settings is\n"
	  "an option (stent help keys).\n"
	  "\n"
	  "  stent relay :6432 db1:5432 --protocol=postgres --log_level=debug\n",
	  NULL, cli_relay },
	{ "demo", "", "see one flow die and one live",
	  "A clock that speaks WebSocket, a forgetful middlebox and three clients inside\n"
	  "this process: no network, no root, about 30 seconds. Exit status 0 when it went\n"
	  "as told.\n",
	  OPTIONS(FLAG("--web", web, "also show it on a page on loopback, which stays until Ctrl-C")), cli_demo },
	{ "check", "", "read the settings, print what they mean, or every error",
	  "Prints the settings with every default filled in, as a file that means the\n"
	  "same. Exit status 2 when the file is wrong: each error is told with its line.\n",
	  OPTIONS(CONFIG("the settings file")), cli_check },
	{ "status", "", "what a running stent is and has done", NULL,
	  OPTIONS(FLAG("--json", json, "the same as JSON"), WHERE), cli_status },
	{ "top", "", "the open flows, live",
	  "Shows the open flows with both legs, anew each second; q quits. When the output\n"
	  "is no terminal: one listing.\n",
	  OPTIONS({ .name = "--sort", .value = "KEY", .words = top_orders, .offset = offsetof(struct cli_values, sort),
	    .help = "what stands first" }, FLAG("--once", once, "one listing, also on a terminal"), WHERE), cli_top },
	{ "kill", "ID", "end one flow",
	  "Ends the flow with this id (stent top shows it): both sides get the protocol's\n"
	  "farewell where it has one, else a reset; the log says admin-kill.\n",
	  OPTIONS(WHERE), cli_kill },
	{ "drain", "", "accept no more, let the open flows end, stop",
	  "As SIGTERM does. Returns at once.\n",
	  OPTIONS(FLAG("--now", now, "do not wait for the open flows"), WHERE), cli_drain },
	{ "healthcheck", "", "exit status 0 when a stent runs and does not drain, else 1",
	  "For Docker's HEALTHCHECK and for scripts. One that is full (max_flows, or no\n"
	  "descriptors) is healthy: to start it anew would end the flows it has.\n",
	  OPTIONS(WHERE), cli_healthcheck },
	{ "help", "[COMMAND | keys]", "tell about a command, or about every key of the settings",
	  "Of a command it tells what `stent COMMAND --help` does. JSON without a topic is\n"
	  "the whole reference: commands, options, keys and protocols.\n",
	  OPTIONS({ .name = "--format", .value = "FORMAT", .words = help_formats,
	    .offset = offsetof(struct cli_values, format), .help = "how to write the keys" }), cli_help },
	{ 0 },
};

const struct command *
cli_find(const char *name)
{
	for (const struct command *c = commands; c->name != NULL; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static int
tell_unknown(const char *name)
{
	const char *what = name[0] == '-' ? "option" : "command";
	struct nearest n;

	nearest_start(&n, name);
	for (const struct command *c = commands; c->name != NULL; c++)
		nearest_offer(&n, c->name);
	nearest_offer(&n, "--help");
	nearest_offer(&n, "--version");
	if (nearest_best(&n) != NULL)
		cli_tell("stent: unknown %s \"%s\"; did you mean \"%s\"?", what, name, nearest_best(&n));
	else
		cli_tell("stent: unknown %s \"%s\"; `stent help` tells them all", what, name);
	return CLI_WRONG;
}

static bool
is_help_option(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static bool
asks_for_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (is_help_option(argv[i]))
			return true;
	return false;
}

static int
dispatch(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		cli_print_help(NULL, stderr);
		return CLI_WRONG;
	}
	if (is_help_option(argv[1])) {
		cli_print_help(NULL, stdout);
		return CLI_DONE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("stent %s\n", STENT_VERSION);
		return CLI_DONE;
	}
	c = cli_find(argv[1]);
	if (c == NULL)
		return tell_unknown(argv[1]);
	if (asks_for_help(argc - 1, argv + 1)) {
		cli_print_help(c, stdout);
		return CLI_DONE;
	}
	return c->run(argc - 1, argv + 1);
}

int
cli_main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* What was printed may not have arrived: a full disk is a failure too. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		cli_tell("stent: cannot write: %s", strerror(errno));
		return status == CLI_DONE ? CLI_FAILED : status;
	}
	return status;
}
