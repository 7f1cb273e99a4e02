/*
 * program.c - the program under test: its main thread, as `stent run` would do,
 * from settings in STENT_CONFIG, and what operators do with it.
 */
#include "program.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "judge.h"
#include "memory.h"
#include "stent/config.h"
#include "stent/log.h"
#include "stent/server.h"

static const struct timeval every = { .tv_sec = 1 };
static const struct plan *plan;
static struct server *server;
static struct event *operator_timer;
static bool wants_reload, wants_drain, wants_kill, has_ended;
static unsigned reloads;

/* --- the settings --- */

static void
write_tls(FILE *out, const struct speech *s)
{
	if (s->secrecy[CLIENT] != SECURE_NOT)
		fprintf(out, "client.tls = %s\nclient.tls_cert = %s\nclient.tls_key = %s\n", s->may_be_plain ? "accept" : "require",
		    secure_certificate_file(), secure_certificate_file());
	if (s->secrecy[BACKEND] != SECURE_NOT)
		fprintf(out, "backend.tls = verify\nbackend.tls_ca = %s\nbackend.tls_name = server.sim\n", secure_ca_file());
}

static void
write_route(FILE *out, size_t i)
{
	fprintf(out, "[route %s]\nlisten = 0.0.0.0:%zu\nprotocol = %s\nbackend = ", speeches[i]->name, PROGRAM_PORT + i,
	    speeches[i]->protocol != NULL ? speeches[i]->protocol : speeches[i]->name);
	if (speeches[i]->is_own_backend)
		fprintf(out, "10.0.0.1:%d\n", PROGRAM_OWN_PORT);
	else if (plan->names)
		fprintf(out, "server:%zu\n", PROGRAM_BACKEND_PORT + i);
	for (size_t s = 0; s < plan->n_servers && !plan->names && !speeches[i]->is_own_backend; s++)
		fprintf(out, "%s10.0.0.%zu:%zu", s > 0 ? ", " : "", 2 + plan->n_clients + s, PROGRAM_BACKEND_PORT + i);
	fprintf(out, "\n%s", speeches[i]->keys != NULL ? speeches[i]->keys : "");
	write_tls(out, speeches[i]);
}

static void
set_settings(void)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out, "[stent]\nworkers = %d\nlog_format = json\nlog_level = info\ncontrol = off\nadmin = off\nuser = off\nsandbox = off\ndrain_timeout = 5s\n"
	    "max_flows = %d\nwhen_full = %s\ndrain = %s\n", plan->workers, plan->max_flows - (int)(reloads % 2), plan->evicts ? "evict" : "refuse",
	    plan->serves_while_draining ? "serve" : "refuse");
	fprintf(out, "[defaults]\n");
	if (plan->detect_s > 0)
		fprintf(out, "detect = %ds\n", plan->detect_s);
	else
		fprintf(out, "keepalive = %ds/%ds/%d\nheartbeat = %lldms\nheartbeat_timeout = %lldms\n", plan->idle_s, plan->interval_s, plan->probes,
		    (long long)(reloads % 2 ? plan->heartbeat_ms / 2 + 500 : plan->heartbeat_ms), (long long)plan->timeout_ms);
	if (plan->max_age_s > 0)
		fprintf(out, "max_age = %ds\n", plan->max_age_s);
	for (size_t i = 0; speeches[i] != NULL; i++)
		write_route(out, i);
	fclose(out);
	setenv("STENT_CONFIG", text, 1);
	free(text);
}

/* --- the program --- */

static void
kill_some(struct flow_info *info, void *arg)
{
	(void)arg;
	if (rnd_chance(3000))
		(void)flow_info_kill(info, REASON_ADMIN_KILL);
}

static void
on_operator(evutil_socket_t fd, short what, void *arg)
{
	char *text = NULL;
	size_t len;
	FILE *errors;

	(void)fd;
	(void)what;
	(void)arg;
	if (wants_reload) {
		wants_reload = false;
		reloads++;
		set_settings();
		errors = open_memstream(&text, &len);
		if (server_reload(server, errors, NULL, NULL) != 0 && !memory_has_failed())
			wrong("reload", "the settings were refused");
		fclose(errors);
		free(text);
	}
	if (wants_kill) {
		wants_kill = false;
		for (size_t i = 0; i < server_workers(server); i++)
			worker_each_flow(server_worker(server, i), kill_some, NULL);
	}
	if (wants_drain) {
		wants_drain = false;
		server_drain(server);
	}
	(void)event_add(operator_timer, &every);
}

static void
run(void *arg)
{
	struct event_base *base;
	struct config *config;

	(void)arg;
	set_settings();
	if (config_read(&config, NULL, stderr) != 0) {
		wrong("start", "the settings were refused");
		return;
	}
	(void)log_open(&config->log);
	base = event_base_new();
	if (server_start(&server, config, base) != 0) {
		wrong("start", "it did not start");
		return;
	}
	operator_timer = evtimer_new(base, on_operator, NULL);
	(void)event_add(operator_timer, &every);
	if (server_run(server) != 0)
		wrong("start", "it did not run");
	event_free(operator_timer);
	server_free(server);
	event_base_free(base);
	log_close();
	config_release(config);
	memory_check();
	secure_check();
	has_ended = true;
}

/* --- from outside --- */

void
program_start(const struct plan *p)
{
	plan = p;
	(void)fiber_start(run, NULL);
}

bool
program_has_ended(void)
{
	return has_ended;
}

void
program_reload(void)
{
	wants_reload = true;
}

void
program_kill_flows(void)
{
	wants_kill = true;
}

void
program_drain(void)
{
	wants_drain = true;
}
