/*
 * load.c - the load of the benchmark: one of the modes below, once, against a
 * relay that runs. Prints one JSON line.
 *
 * usage: load MODE --relay PORT --backend PORT [--pids P,P...] [--conns N]
 *             [--size BYTES] [--count N] [--seconds S] [--settle S] [--rate N]
 *             [--ws] [--raw-heartbeats] [--tls PEM [--tls-client] [--tls-backend] [--resume]] [--reverse]
 *
 * The load listens on the backend's port itself: start it before the relay is used.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "load.h"

static const struct {
	const char *name;
	void (*run)(const struct options *o);
	struct options preset;
} modes[] = {
	{ "rtt", mode_rtt, { .conns = 64, .size = 64, .count = 100000 } },
	{ "paced", mode_paced, { .conns = 64, .size = 64, .seconds = 5, .rate = 2000 } },
	{ "conn", mode_conn, { .conns = 64, .size = 64, .count = 8000 } },
	{ "bulk", mode_bulk, { .conns = 16, .size = 65536, .count = 4000000000 } },
	{ "idle", mode_idle, { .conns = 8000 } },
	{ "heartbeats", mode_heartbeats, { .conns = 8000, .seconds = 5, .settle = 2 } },
};

static const struct option long_options[] = {
	{ "relay", required_argument, NULL, 'r' },
	{ "backend", required_argument, NULL, 'b' },
	{ "pids", required_argument, NULL, 'p' },
	{ "conns", required_argument, NULL, 'c' },
	{ "size", required_argument, NULL, 's' },
	{ "count", required_argument, NULL, 'n' },
	{ "seconds", required_argument, NULL, 't' },
	{ "settle", required_argument, NULL, 'q' },
	{ "rate", required_argument, NULL, 'f' },
	{ "ws", no_argument, NULL, 'w' },
	{ "raw-heartbeats", no_argument, NULL, 'e' },
	{ "tls", required_argument, NULL, 'T' },
	{ "tls-client", no_argument, NULL, 'C' },
	{ "tls-backend", no_argument, NULL, 'B' },
	{ "resume", no_argument, NULL, 'R' },
	{ "reverse", no_argument, NULL, 'v' },
	{ NULL, 0, NULL, 0 },
};

static _Noreturn void
usage(void)
{
	fprintf(stderr, "usage: load rtt|paced|conn|bulk|idle|heartbeats --relay PORT --backend PORT [--pids P,P...]\n"
	    "            [--conns N] [--size BYTES] [--count N] [--seconds S] [--settle S] [--rate N]\n"
	    "            [--ws] [--raw-heartbeats] [--tls PEM [--tls-client] [--tls-backend] [--resume]] [--reverse]\n");
	exit(2);
}

static void
parse_pids(struct options *o, char *list)
{
	for (char *p = strtok(list, ","); p != NULL; p = strtok(NULL, ",")) {
		if (o->n_pids == MAX_PIDS)
			usage();
		o->pids[o->n_pids++] = atoi(p);
	}
}

static void
set_option(struct options *o, int c, char *value)
{
	switch (c) {
	case 'r': o->relay_port = atoi(value); break;
	case 'b': o->backend_port = atoi(value); break;
	case 'p': parse_pids(o, value); break;
	case 'c': o->conns = atoi(value); break;
	case 's': o->size = strtoul(value, NULL, 10); break;
	case 'n': o->count = strtoull(value, NULL, 10); break;
	case 't': o->seconds = atof(value); break;
	case 'q': o->settle = atof(value); break;
	case 'f': o->rate = atof(value); break;
	case 'w': o->ws = true; break;
	case 'e': o->raw_heartbeats = true; break;
	case 'T': o->tls = value; break;
	case 'C': o->tls_client = true; break;
	case 'B': o->tls_backend = true; break;
	case 'R': o->resume = true; break;
	case 'v': o->reverse = true; break;
	default: usage();
	}
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	struct options o;
	size_t i;
	int c;

	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (argc > 1 && strcmp(argv[1], modes[i].name) == 0)
			break;
	}
	if (i == sizeof(modes) / sizeof(modes[0]))
		usage();
	o = modes[i].preset;
	while ((c = getopt_long(argc - 1, argv + 1, "", long_options, NULL)) != -1)
		set_option(&o, c, optarg);
	if (o.relay_port == 0 || o.backend_port == 0 || o.conns <= 0)
		usage();
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (o.tls != NULL)
		tls_setup(o.tls, o.resume);
	modes[i].run(&o);
	return 0;
}
