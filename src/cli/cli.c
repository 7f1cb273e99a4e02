/*
 * cli.c - the table of commands, and how one is found and called.
 *
 * A new command is a row here and a file of its own. Help, man page and
 * completion are made from the rows. --help is handled here for all of them.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "stent/cli.h"
#include "stent/config.h"
#include "stent/nearest.h"

#define FLAG(n, field, text) { .name = n, .offset = offsetof(struct cli_values, field), .help = text }
#define CONFIG(text) { .name = "--config", .alias = "-c", .value = "FILE", \
	.offset = offsetof(struct cli_values, config), .help = text " (default $" CONFIG_ENV " or " CONFIG_PATH ")" }
/* Of the commands that talk to a running stent. */
#define WHERE CONFIG("read the path of the control socket from this settings file"), \
	{ .name = "--control", .value = "PATH", .offset = offsetof(struct cli_values, control), \
	  .help = "path of the control socket" }
#define JSON FLAG("--json", json, "print JSON")
#define TEXT(n, v, field, text) { .name = n, .value = v, .offset = offsetof(struct cli_values, field), .help = text }
#define SORT { .name = "--sort", .value = "KEY", .words = top_orders, .offset = offsetof(struct cli_values, sort), \
	.help = "order of the flows" }
/* Which flows are meant. */
#define FILTERS TEXT("--route", "NAME", route, "of this route"), TEXT("--client", "ADDRESS", client, "of this client"), \
	TEXT("--backend", "ADDRESS", backend, "to this backend"), TEXT("--protocol", "NAME", protocol, "of this protocol"), \
	TEXT("--idle-over", "TIME", idle_over, "silent on both sides for so long"), \
	TEXT("--reason", "TEXT", reason, "a leg gets no heartbeats, for a reason that contains this")
#define OPTIONS(...) (const struct cli_option[]){ __VA_ARGS__, { 0 } }

const struct command commands[] = {
	{ "run", "", "relay in the foreground",
	  "Relays until a signal. SIGTERM or SIGINT: no new flows (but see drain = serve);\n"
	  "the open ones end within drain_timeout, one after the other, each behind a\n"
	  "message; then it stops (at once on a second signal).\n"
	  "SIGHUP reads the settings again (stent reload), SIGUSR1 reopens the log file.\n",
	  OPTIONS(CONFIG("the settings file")), cli_run },
	{ "relay", "LISTEN BACKEND [--KEY=VALUE ...]", "one route without a settings file",
	  "Relays from LISTEN to BACKEND as `stent run` does. Any key of the settings can\n"
	  "be given as an option (stent help keys).\n"
	  "\n"
	  "  stent relay :6432 db1:5432 --protocol=postgres --log_level=debug\n",
	  NULL, cli_relay },
	{ "demo", "", "watch one flow die and one survive",
	  "A WebSocket server, a middlebox that drops idle connections, and three clients\n"
	  "in one process: no network, no root, about 30 seconds. Exit status 0 when it\n"
	  "ended as expected.\n",
	  OPTIONS(FLAG("--web", web, "also show it on a web page on loopback, until Ctrl-C")), cli_demo },
	{ "check", "", "check a settings file; print all settings, or every error",
	  "Prints the settings as a file with every default filled in. Exit status 2 when\n"
	  "the file is wrong; then every error is printed with its line.\n",
	  OPTIONS(CONFIG("the settings file"), FLAG("--explain", explain,
	    "print instead the routing and firewall rules that they need, as commands")), cli_check },
	{ "doctor", "[HOST:PORT]", "measure when a path forgets quiet flows, and what keeps them",
	  "Opens flows to a server, leaves each quiet for a time (with nothing sent, with\n"
	  "TCP probes, with heartbeats of --protocol), and finds from when on they are\n"
	  "forgotten and how. Prints the settings that follow. Ctrl-C ends it early with\n"
	  "what is known. It takes three to six times the limit that it finds. Without\n"
	  "--protocol or --send no byte is sent.\n"
	  "\n"
	  "  stent doctor ws.example.com:80 --protocol=websocket --path=/chat\n"
	  "  stent doctor db1:7000 --send='\\n'\n",
	  OPTIONS(TEXT("--max", "TIME", max, "the longest quiet time (default 20m; 2m with --quick)"),
	    FLAG("--quick", quick, "few flows, and times from 1 s on: for short limits"),
	    TEXT("--protocol", "NAME", protocol, "heartbeats of websocket, redis or line (default: none)"),
	    TEXT("--path", "PATH", path, "of the WebSocket request (default /)"),
	    TEXT("--send", "TEXT", send, "heartbeat of line, as heartbeat_send in the settings"),
	    TEXT("--expect", "TEXT", expect, "its reply, as heartbeat_expect in the settings"),
	    TEXT("--listen", "ADDRESS", listen, "be the other end instead: accept and keep every client"), JSON), cli_doctor },
	{ "status", "", "a running stent on one screen, by route",
	  "Of the whole and of each route: flows, how many are protected by heartbeats on\n"
	  "both legs, on one, or by TCP probes alone, bytes, heartbeats, replies, missed\n"
	  "replies, and sides found dead; backends that are down, routes that are paused,\n"
	  "and whether the last reload failed.\n",
	  OPTIONS(JSON, WHERE), cli_status },
	{ "top", "", "the open flows, live",
	  "Lists the open flows with both legs, refreshed every second. Its keys order,\n"
	  "filter and follow flows, and end one after a question; they are shown below the\n"
	  "list, with what is known of the selected flow. It waits for a stent that goes\n"
	  "away. When the output is not a terminal, it prints one listing.\n",
	  OPTIONS(SORT, FLAG("--once", once, "print one listing, also on a terminal"), WHERE), cli_top },
	{ "events", "", "what happens, a line of JSON each, as it happens",
	  "Runs until stent ends. The kinds: flow-begin, flow-end (all that its log line\n"
	  "has), heartbeat-missed, suspect (half of the time to a side's death is over),\n"
	  "recovered, passthrough, backend-down, backend-up, limit, reload. A reader that\n"
	  "is too slow loses events: {\"event\":\"lost\",\"count\":N}.\n"
	  "\n"
	  "  stent events --kind suspect,flow-end --route pg\n",
	  OPTIONS({ .name = "--route", .value = "NAME", .offset = offsetof(struct cli_values, route),
	    .help = "only of this route" }, { .name = "--kind", .value = "KINDS", .offset = offsetof(struct cli_values, kind),
	    .help = "only of these kinds, separated by commas" }, WHERE), cli_events },
	{ "flows", "", "the open flows, filtered",
	  "All that is given must apply. An address is an IP with its port or without, or\n"
	  "its beginning that ends in a dot or colon.\n"
	  "\n"
	  "  stent flows --route pg --idle-over 5m --sort idle\n",
	  OPTIONS(SORT, FILTERS, JSON, WHERE), cli_flows },
	{ "kill", "[ID]", "end flows",
	  "Ends the flow with this id (see stent top), or all that the options choose, and\n"
	  "says how many: both sides get the protocol's close message where it has one,\n"
	  "else a reset; the log has reason=admin-kill.\n"
	  "\n"
	  "  stent kill --route pg --idle-over 1h\n",
	  OPTIONS(FILTERS, JSON, WHERE), cli_kill },
	{ "log", "LEVEL", "log more or less, from now on",
	  "LEVEL is error, warn, info or debug, as log_level in the settings.\n",
	  OPTIONS(JSON, WHERE), cli_log },
	{ "reload", "", "read the settings again, for open flows too",
	  "New settings are used by new flows at once, and by open ones within a second,\n"
	  "on their sockets: no flow ends, no client is refused. Prints what has changed,\n"
	  "and what needs a restart. When anything is wrong, every error is printed,\n"
	  "nothing changes, and the exit status is 2. SIGHUP does the same.\n",
	  OPTIONS(FLAG("--dry-run", dry_run, "only print what would change"), JSON, WHERE), cli_reload },
	{ "pause", "ROUTE", "new clients of a route wait; open flows continue",
	  "For the time that a database takes to fail over. New clients wait in the queue\n"
	  "of the listener, at most net.core.somaxconn of them, and are let through in\n"
	  "their order by stent resume. stent status shows how many wait.\n",
	  OPTIONS({ .name = "--for", .value = "DURATION", .offset = offsetof(struct cli_values, duration),
	    .help = "resume by itself after this time, such as 60s" }, JSON, WHERE), cli_pause },
	{ "resume", "ROUTE", "let the clients of a paused route through", NULL,
	  OPTIONS(JSON, WHERE), cli_resume },
	{ "drain", "", "accept no new flows, let the open ones end, stop",
	  "The same as SIGTERM, and returns at once.\n",
	  OPTIONS(FLAG("--now", now, "do not wait for the open flows"), JSON, WHERE), cli_drain },
	{ "redirect", "install | remove | show", "firewall rules that bring connections to stent",
	  "One nftables table of this network namespace. install replaces it in one step,\n"
	  "remove leaves nothing behind. CAP_NET_ADMIN is needed for this step alone.\n"
	  "\n"
	  "  stent redirect install --port 5432 --to 6432 --uid 65534\n",
	  OPTIONS(TEXT("--port", "LIST", redirect.port, "destination ports and ranges, separated by commas"),
	    TEXT("--to", "PORT", redirect.to, "the port that stent listens on"),
	    TEXT("--uid", "LIST", redirect.uid, "users whose connections are left alone: that of stent"),
	    TEXT("--gid", "LIST", redirect.gid, "groups whose connections are left alone"),
	    TEXT("--cgroup", "CGROUP", redirect.cgroup, "a cgroup whose connections are left alone"),
	    TEXT("--cidr", "LIST", redirect.cidr, "only to these networks; without it to all but loopback"),
	    TEXT("--except", "LIST", redirect.except, "not to these networks"),
	    FLAG("--out", redirect.out, "connections of programs in this namespace (the default)"),
	    FLAG("--in", redirect.in, "connections that come in from other machines"),
	    { .name = "--mode", .value = "MODE", .words = redirect_modes, .offset = offsetof(struct cli_values, redirect.mode),
	      .help = "tproxy: for transparent = on" },
	    TEXT("--name", "NAME", redirect.name, "name of the table (default stent)"), JSON), cli_redirect },
	{ "healthcheck", "", "exit status 0 when stent runs and is not draining, else 1",
	  "For Docker's HEALTHCHECK and for scripts. A stent at its limit (max_flows or\n"
	  "descriptors) is healthy: a restart would end its flows. With --ready also 1\n"
	  "while a route has no backend that is not known to be down, as /readyz.\n",
	  OPTIONS(FLAG("--ready", ready, "is it ready for new clients"), JSON, WHERE), cli_healthcheck },
	{ "help", "[COMMAND | keys]", "help on a command, or on every key of the settings",
	  "On a command, the same as `stent COMMAND --help`. JSON without a topic is the\n"
	  "whole reference: commands, options, keys and protocols.\n",
	  OPTIONS({ .name = "--format", .value = "FORMAT", .words = help_formats,
	    .offset = offsetof(struct cli_values, format), .help = "output format" }), cli_help },
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
report_unknown(const char *name)
{
	const char *what = name[0] == '-' ? "option" : "command";
	struct nearest n;

	nearest_start(&n, name);
	for (const struct command *c = commands; c->name != NULL; c++)
		nearest_offer(&n, c->name);
	nearest_offer(&n, "--help");
	nearest_offer(&n, "--version");
	if (nearest_best(&n) != NULL)
		cli_error("stent: unknown %s \"%s\"; did you mean \"%s\"?", what, name, nearest_best(&n));
	else
		cli_error("stent: unknown %s \"%s\"; `stent help` lists them all", what, name);
	return CLI_WRONG;
}

static bool
is_help_option(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static bool
has_help_option(int argc, char **argv)
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
		return report_unknown(argv[1]);
	if (has_help_option(argc - 1, argv + 1)) {
		cli_print_help(c, stdout);
		return CLI_DONE;
	}
	return c->run(argc - 1, argv + 1);
}

int
cli_main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* Output may be buffered until now: a full disk is a failure too. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		cli_error("stent: cannot write: %s", strerror(errno));
		return status == CLI_DONE ? CLI_FAILED : status;
	}
	return status;
}
