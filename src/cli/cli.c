/*
 * cli.c - the table of commands, and how one is found and called.
 *
 * A new command is a row here and a file of its own. --help is answered here
 * for all of them.
 */
#include <errno.h>
#include <string.h>

#include "cli/ask.h"
#include "stent/cli.h"
#include "stent/nearest.h"

const struct command commands[] = {
	{ "run", "[-c FILE]", "relay in the foreground",
	  "Relays as the settings say until SIGTERM or SIGINT; then accepts no more, gives\n"
	  "the open flows drain_timeout to end, and stops (a second signal: at once).\n"
	  "SIGUSR1 opens the log file again.\n"
	  "\n"
	  "  -c, --config FILE   the settings file (default " CLI_CONFIG_PATH ")\n",
	  cli_run },
	{ "relay", "LISTEN BACKEND [--KEY=VALUE ...]", "one route without a settings file",
	  "Relays from LISTEN to BACKEND as `stent run` does. Any key of the settings is\n"
	  "an option (stent help keys).\n"
	  "\n"
	  "  stent relay :6432 db1:5432 --protocol=postgres --log_level=debug\n",
	  cli_relay },
	{ "demo", "[--web]", "see one flow die and one live",
	  "A clock that speaks WebSocket, a forgetful middlebox and three clients inside\n"
	  "this process: no network, no root, about 30 seconds. Exit status 0 when it went\n"
	  "as told.\n"
	  "\n"
	  "  --web   also show it on a page on loopback, which stays until Ctrl-C\n",
	  cli_demo },
	{ "check", "[-c FILE]", "read the settings, print what they mean, or every error",
	  "Prints the settings with every default filled in, as a file that means the\n"
	  "same. Exit status 2 when the file is wrong: each error is told with its line.\n"
	  "\n"
	  "  -c, --config FILE   the settings file (default " CLI_CONFIG_PATH ")\n",
	  cli_check },
	{ "status", "[-c FILE]", "what a running stent is and has done",
	  "  --json              the same as JSON\n"
	  ASK_HELP,
	  cli_status },
	{ "top", "[--sort KEY] [-c FILE]", "the open flows, live",
	  "Shows the open flows with both legs, anew each second; q quits. When the output\n"
	  "is no terminal: one listing.\n"
	  "\n"
	  "  --sort KEY          age, new, bytes, quiet or rtt\n"
	  "  --once              one listing, also on a terminal\n"
	  ASK_HELP,
	  cli_top },
	{ "kill", "ID [-c FILE]", "end one flow",
	  "Ends the flow with this id (stent top shows it): both sides get the protocol's\n"
	  "farewell where it has one, else a reset; the log says admin-kill.\n"
	  "\n"
	  ASK_HELP,
	  cli_kill },
	{ "drain", "[--now] [-c FILE]", "accept no more, let the open flows end, stop",
	  "As SIGTERM does. Returns at once.\n"
	  "\n"
	  "  --now               do not wait for the open flows\n"
	  ASK_HELP,
	  cli_drain },
	{ "healthcheck", "[-c FILE]", "exit status 0 when a stent runs and does not drain, else 1",
	  "For Docker's HEALTHCHECK and for scripts. One that is full (max_flows, or no\n"
	  "descriptors) is healthy: to start it anew would end the flows it has.\n"
	  "\n"
	  ASK_HELP,
	  cli_healthcheck },
	{ "help", "[COMMAND | keys]", "tell about a command, or about every key of the settings",
	  "  stent help                    this program's commands\n"
	  "  stent help COMMAND            one command, as stent COMMAND --help\n"
	  "  stent help keys               every key of the settings file\n"
	  "  stent help keys --markdown    the same as Markdown, for docs/settings.md\n",
	  cli_help },
	{ 0 },
};

static const struct command *
find_command(const char *name)
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
	c = find_command(argv[1]);
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
