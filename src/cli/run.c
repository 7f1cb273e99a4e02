/*
 * run.c - `stent run` and `stent relay`: relay in the foreground until a signal.
 *
 * SIGTERM and SIGINT drain, a second one stops at once; SIGHUP reads the settings
 * again, SIGUSR1 reopens the log file. The order of the start matters: everything that may need root (ports,
 * sockets, log file) is opened before root is given up; what a thread inherits
 * (no_new_privs, its capability sets) is set before there is one. The sandbox begins when everything is open, and
 * before the first client is accepted.
 */
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/machine.h"
#include "stent/admin.h"
#include "stent/cli.h"
#include "stent/config.h"
#include "stent/helper.h"
#include "stent/log.h"
#include "stent/sandbox.h"
#include "stent/server.h"
#include "stent/user.h"

struct process {
	struct event_base *base;
	struct server *server;
	struct admin *admin;
	struct helper *helper;		/* NULL: there is none */
	struct sandbox *sandbox;	/* the same */
	struct event *signals[5];
};

static void
on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct process *p = arg;

	(void)what;
	log_say(LEVEL_INFO, "%s received", sig == SIGTERM ? "SIGTERM" : "SIGINT");
	server_drain(p->server);
}

static void
on_reopen(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	(void)arg;
	log_reopen();
}

/* Errors go to the log, as nobody waits for an answer. */
static void
on_reload(evutil_socket_t sig, short what, void *arg)
{
	struct process *p = arg;
	char *text = NULL, *save = NULL;
	size_t size;
	FILE *errors = open_memstream(&text, &size);

	(void)sig;
	(void)what;
	log_say(LEVEL_INFO, "SIGHUP received");
	if (errors == NULL)
		return;
	(void)server_reload(p->server, errors, NULL, NULL);
	if (fclose(errors) == 0 && text != NULL)
		for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
			log_say(LEVEL_ERROR, "reload: %s", line);
	free(text);
}

static int
add_signals(struct process *p)
{
	static const struct {
		int number;
		event_callback_fn fn;
	} wanted[] = {
		{ SIGTERM, on_stop }, { SIGINT, on_stop }, { SIGUSR1, on_reopen }, { SIGHUP, on_reload },
	};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		p->signals[i] = evsignal_new(p->base, wanted[i].number, wanted[i].fn, p);
		if (p->signals[i] == NULL || event_add(p->signals[i], NULL) != 0)
			return -ENOMEM;
	}
	return 0;
}

/* Called when all that may need root is open. 0 or -errno. */
static int
give_up_root(struct process *p, const struct config *config)
{
	const char *user = config->user;
	uid_t uid;
	gid_t gid;
	int r;

	if (user_is_to_change(user, &uid, &gid)) {
		r = log_give(uid, gid);
		if (r != 0)
			log_say(LEVEL_WARN, "cannot give the log file to user %s: %s; it cannot be reopened", user,
			    strerror(-r));
	}
	r = user_become(user);
	if (r != 0)
		log_say(LEVEL_ERROR, "cannot become user %s: %s", user, strerror(-r));
	if (r == 0 && server_needs_transparent(config)) {
		r = server_keep_transparent(p->server);
		if (r != 0)
			log_say(LEVEL_ERROR, "cannot keep the capability for source = client: %s", strerror(-r));
	}
	return r;
}

/* Before there are threads. A failure is only logged: relaying works without. */
static void
confine(const struct config *config)
{
	uid_t uid;
	gid_t gid;
	const int r = user_confine(user_is_to_change(config->user, &uid, &gid), server_needs_transparent(config));

	if (r != 0)
		log_say(LEVEL_WARN, "cannot set no_new_privs, or drop capabilities: %s", strerror(-r));
}

/* The sandbox does not let this process start the program of on_event. */
static int
start_helper(struct process *p, const struct config *config)
{
	int r;

	if (!config->sandbox || config->on_event == NULL)
		return 0;
	r = helper_start(&p->helper, config->on_event, config->user);
	if (r != 0)
		log_say(LEVEL_ERROR, "on_event: cannot start the process that runs its program: %s", strerror(-r));
	return r;
}

static int
start_admin(struct process *p)
{
	const int r = admin_start(&p->admin, p->server, p->base);

	return r == 0 && p->helper != NULL ? admin_use_helper(p->admin, p->helper) : r;
}

static int
start(struct process *p, const struct config *config)
{
	int r;

	r = server_check_transparent(config);
	confine(config);
	if (r == 0)
		r = start_helper(p, config);
	p->base = event_base_new();
	if (p->base == NULL)
		return -ENOMEM;
	if (r == 0)
		r = add_signals(p);
	if (r == 0)
		r = server_start(&p->server, config, p->base);
	if (r == 0)
		r = start_admin(p);
	return r == 0 ? give_up_root(p, config) : r;
}

static void
warn_of_machine(const char *text)
{
	log_say(LEVEL_WARN, "%s", text);
}

/* Whoever starts it may see only stderr, and the log may be elsewhere. */
static int
start_or_explain(struct process *p, const struct config *config)
{
	const int r = start(p, config);

	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)	/* found where no operator is near: told here */
		log_say(LEVEL_ERROR, "did not start: %s", strerror(-r));
	if (r != 0 && config->log.target != TARGET_STDERR)
		cli_error("stent: did not start; %s%s says why", config->log.path != NULL ? "the log " : "syslog",
		    config->log.path != NULL ? config->log.path : "");
	return r;
}

/* Signals that come meanwhile have no effect: with libevent's handlers gone, one would end the process with its own status. */
static void
stop(struct process *p)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	admin_free(p->admin);
	helper_stop(p->helper);
	server_free(p->server);
	for (size_t i = 0; i < sizeof(p->signals) / sizeof(p->signals[0]); i++)
		if (p->signals[i] != NULL)
			event_free(p->signals[i]);
	if (p->base != NULL)
		event_base_free(p->base);
	libevent_global_shutdown();
}

static void
start_log_thread(void (*begin)(void *arg), void *arg)
{
	const int r = log_start_thread(begin, arg);

	if (r != 0)
		log_say(LEVEL_WARN, "no thread for the log: %s; a slow log may delay flows", strerror(-r));
}

static void
enter_worker(struct worker *w, void *arg)
{
	(void)w;
	sandbox_enter(arg, SANDBOX_WORKER);
}

static void
enter_log(void *arg)
{
	sandbox_enter(arg, SANDBOX_LOG);
}

/* The thread of the log is the last one that is started: the sandbox allows no other. */
static void
enter_sandbox(struct process *p, const struct config *config)
{
	p->sandbox = sandbox_new(config);
	if (p->sandbox == NULL) {
		start_log_thread(NULL, NULL);
		return;
	}
	for (size_t i = 0; i < server_workers(p->server); i++)
		worker_call(server_worker(p->server, i), enter_worker, p->sandbox);
	start_log_thread(enter_log, p->sandbox);
	sandbox_enter(p->sandbox, SANDBOX_MAIN);
	sandbox_say(p->sandbox);
}

/* Takes config over. Returns the exit status. */
static int
relay_until_stopped(struct config *config)
{
	struct process p = { 0 };
	int r = log_open(&config->log);

	if (r != 0)
		cli_error("stent: cannot open the log%s%s: %s", config->log.path != NULL ? " " : "",
		    config->log.path != NULL ? config->log.path : "", log_open_hint(-r));
	for (size_t i = 0; i < config->n_warnings && r == 0; i++)
		log_say(LEVEL_WARN, "%s", config->warnings[i]);
	if (r == 0)
		machine_warn(config, false, warn_of_machine);
	if (r == 0)
		r = start_or_explain(&p, config);
	if (r == 0)
		enter_sandbox(&p, config);
	if (r == 0)
		r = server_run(p.server);
	stop(&p);
	if (r == 0)
		log_say(LEVEL_INFO, "stopped");
	log_close();
	sandbox_free(p.sandbox);
	config_release(config);
	return r == 0 ? CLI_DONE : CLI_FAILED;
}

int
cli_run(int argc, char **argv)
{
	struct cli_values values = { 0 };
	struct config *config;

	if (cli_options(argc, argv, 0, &values) < 0 || config_read(&config, values.config, stderr) != 0)
		return CLI_WRONG;
	return relay_until_stopped(config);
}

int
cli_relay(int argc, char **argv)
{
	struct config *config;

	if (argc < 3 || argv[1][0] == '-' || argv[2][0] == '-') {
		cli_error("stent relay: needs LISTEN and BACKEND, as in: stent relay :6432 db1:5432");
		return CLI_WRONG;
	}
	if (config_from_args(&config, argv[1], argv[2], argv + 3, (size_t)argc - 3, stderr) != 0)
		return CLI_WRONG;
	return relay_until_stopped(config);
}
