/*
 * life.c - the program under test, its surroundings, and the oracles that
 * judge what it logs.
 *
 * The program runs as fibers: its main thread as `stent run` would, from
 * settings in STENT_CONFIG, and its workers. An oracle that needs to know how a
 * flow ended reads the program's log, as an operator would.
 */
#include "life.h"

#include <assert.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "fiber.h"
#include "names.h"
#include "stent/config.h"
#include "stent/log.h"
#include "stent/server.h"

#define FIRST_PORT 7000
#define SERVER_PORT 5000

static const struct timeval every = { .tv_sec = 1 };
static const struct plan *plan;
static struct server *server;
static struct event *operator_timer;
static bool wants_reload, wants_drain, has_ended;
static unsigned reloads;
static struct happening fault_begins[FAULTS_MAX], fault_ends[FAULTS_MAX], talk_begins[TALKS_MAX];
static struct planned_fault *faults;
static bool is_active[FAULTS_MAX];

/* --- the settings --- */

static void
write_route(FILE *out, size_t i)
{
	fprintf(out, "[route %s]\nlisten = 0.0.0.0:%zu\nprotocol = %s\nbackend = ", speeches[i]->name, FIRST_PORT + i,
	    speeches[i]->protocol != NULL ? speeches[i]->protocol : speeches[i]->name);
	if (plan->names)
		fprintf(out, "server:%zu\n", SERVER_PORT + i);
	for (size_t s = 0; s < plan->n_servers && !plan->names; s++)
		fprintf(out, "%s10.0.0.%zu:%zu", s > 0 ? ", " : "", 2 + plan->n_clients + s, SERVER_PORT + i);
	fprintf(out, "\n%s", speeches[i]->keys != NULL ? speeches[i]->keys : "");
}

static void
set_settings(void)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fprintf(out, "[stent]\nworkers = %d\nlog_format = json\nlog_level = info\ncontrol = off\nadmin = off\nuser = off\ndrain_timeout = 5s\n"
	    "max_flows = %d\n", plan->workers, reloads % 2 ? 9000 : 10000);
	fprintf(out, "[defaults]\nkeepalive = %ds/%ds/%d\nheartbeat = %lldms\nheartbeat_timeout = %lldms\n", plan->idle_s, plan->interval_s,
	    plan->probes, (long long)(reloads % 2 ? plan->heartbeat_ms / 2 + 500 : plan->heartbeat_ms), (long long)plan->timeout_ms);
	for (size_t i = 0; speeches[i] != NULL; i++)
		write_route(out, i);
	fclose(out);
	setenv("STENT_CONFIG", text, 1);
	free(text);
}

/* --- the program --- */

static void
on_operator(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (wants_reload) {
		wants_reload = false;
		reloads++;
		set_settings();
		if (server_reload(server, stderr, NULL, NULL) != 0)
			wrong("reload", "the settings were refused");
	}
	if (wants_drain) {
		wants_drain = false;
		server_drain(server);
	}
	(void)event_add(operator_timer, &every);
}

static void
run_program(void *arg)
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
	has_ended = true;
}

/* --- oracles on the log --- */

static bool
parse_address(const char *text, struct address *ret)
{
	unsigned a, b, c, d, port;

	if (text == NULL || sscanf(text, "%u.%u.%u.%u:%u", &a, &b, &c, &d, &port) != 5)
		return false;
	*ret = (struct address){ .family = AF_INET, .port = (uint16_t)port, .ip = { (uint8_t)a, (uint8_t)b, (uint8_t)c, (uint8_t)d } };
	return true;
}

static const char *
member(const json_t *line, const char *name)
{
	const char *text = json_string_value(json_object_get(line, name));

	return text != NULL ? text : "";
}

static bool
is_death(const char *reason)
{
	return strstr(reason, "-timeout") != NULL || strstr(reason, "-unreachable") != NULL;
}

/* A side that the program calls dead must be harmed, or have been. */
static void
judge_death(const struct talk *t, const char *reason)
{
	const enum side s = strncmp(reason, "client-", 7) == 0 ? CLIENT : BACKEND;
	const struct party *p = &t->party[s];

	if (s == BACKEND && p->host == NULL)
		return;			/* no flow was open yet */
	if (p->harm == UNHARMED)
		wrong("honest", "talk %ld (%s): %s, but nothing has happened to the %s%s", t->number, t->speech->name, reason,
		    s == CLIENT ? "client" : "server", p->host == NULL ? ", which has not been reached" : "");
}

static void
judge_end(const json_t *line)
{
	const char *reason = member(line, "reason");
	struct address client;
	struct talk *t;

	if (!parse_address(member(line, "client"), &client))
		return;
	t = talk_of(&client);
	if (t == NULL)
		return;
	t->was_logged = true;
	snprintf(t->reason, sizeof(t->reason), "%s", reason);
	story("stent ends talk %ld (%s): %s", t->number, t->speech->name, reason);
	if (is_death(reason))
		judge_death(t, reason);
	if (strcmp(reason, "drain") == 0 || strcmp(reason, "admin-kill") == 0 || strcmp(reason, "limit") == 0 || strcmp(reason, "max-age") == 0)
		t->was_ended = true;
	if (strcmp(reason, "memory") == 0)
		wrong("bounded", "out of memory");
}

static void
take_line(const char *text)
{
	json_t *line = json_loads(text, 0, NULL);
	const char *event = member(line, "event");

	if (line == NULL) {
		wrong("log", "not JSON: %s", text);
		return;
	}
	if (strcmp(event, "flow end") == 0)
		judge_end(line);
	else if (strcmp(event, "protocol passthrough") == 0)
		wrong("legal", "passthrough: %s", text);
	else if (strcmp(member(line, "level"), "error") == 0 || strcmp(event, "heartbeat missed") == 0 || strcmp(event, "heartbeat refused") == 0)
		story("stent: %.180s", text);
	json_decref(line);
}

/* --- faults --- */

static void
for_all_parties(size_t host, void (*fn)(struct party *, bool), bool on)
{
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++)
			if (t->party[s].tcp != NULL && t->party[s].tcp->host == &hosts[host])
				fn(&t->party[s], on);
}

static enum harm
harm_of(const struct planned_fault *f)
{
	switch (f->kind) {
	case FAULT_CUT:
		return HARM_CUT;
	case FAULT_GONE:
		return HARM_GONE;
	case FAULT_REBOOT:
		return HARM_REBOOTED;
	case FAULT_STOP:
		return HARM_STOPPED;
	case FAULT_LOSS:
		return HARM_LOSS;
	default:
		return UNHARMED;
	}
}

/* Faults of a host may overlap: what those that last now do to it, and to conversations that begin there. */
static void
refresh(size_t host)
{
	struct path *path = &hosts[host].path;
	const unsigned loss = path->usual_loss;

	hosts[host].harm = UNHARMED;
	path->is_cut = false;
	path->loss = loss;
	for (size_t i = 0; i < plan->n_faults; i++) {
		if (!is_active[i] || faults[i].host != host)
			continue;
		path->is_cut |= faults[i].kind == FAULT_CUT;
		if (faults[i].kind == FAULT_LOSS)
			path->loss = 2000;	/* a death is none to complain of */
		if (harm_of(&faults[i]) != UNHARMED)
			hosts[host].harm = (int)harm_of(&faults[i]);
	}
}

static void
begin_fault(void *arg)
{
	struct planned_fault *f = arg;
	struct path *path = &hosts[f->host].path;

	story("fault: %s of %s for %.3f s", fault_names[f->kind], hosts[f->host].name, (double)f->for_us / SECONDS);
	is_active[f - faults] = true;
	refresh(f->host);
	if (harm_of(f) != UNHARMED)
		talks_harmed(&hosts[f->host], harm_of(f));
	switch (f->kind) {
	case FAULT_GONE:
	case FAULT_REBOOT:
		host_vanish(&hosts[f->host], f->kind == FAULT_GONE && f->with_icmp);
		break;
	case FAULT_FORGET:
		if (path->box.exists)
			talks_harmed(&hosts[f->host], HARM_FORGOTTEN);
		middlebox_forget_all(path);
		return;
	case FAULT_STOP:
		for_all_parties(f->host, party_stop, true);
		break;
	case FAULT_PAUSE:
		for_all_parties(f->host, party_pause, true);
		break;
	case FAULT_NAMES:
		names_settings.server_is_down = true;
		break;
	case FAULT_FREEZE:
		fibers_stop(world_us + f->for_us);
		return;
	case FAULT_PIPES:
		call_faults.no_pipes = true;
		break;
	case FAULT_DESCRIPTORS:
		call_faults.descriptor_limit = calls_open() + 4;
		break;
	case FAULT_RELOAD:
		wants_reload = true;
		return;
	default:
		break;
	}
	happen_at(&fault_ends[f - faults], world_us + f->for_us);
}

static void
end_fault(void *arg)
{
	struct planned_fault *f = arg;

	story("fault over: %s of %s", fault_names[f->kind], hosts[f->host].name);
	is_active[f - faults] = false;
	refresh(f->host);
	switch (f->kind) {
	case FAULT_REBOOT:
		talks_forget(&hosts[f->host]);
		host_return(&hosts[f->host]);
		break;
	case FAULT_GONE:
		host_return(&hosts[f->host]);
		break;
	case FAULT_STOP:
		for_all_parties(f->host, party_stop, false);
		break;
	case FAULT_PAUSE:
		for_all_parties(f->host, party_pause, false);
		break;
	case FAULT_NAMES:
		names_settings.server_is_down = false;
		break;
	case FAULT_PIPES:
		call_faults.no_pipes = false;
		break;
	case FAULT_DESCRIPTORS:
		call_faults.descriptor_limit = 0;
		break;
	default:
		break;
	}
}

/* --- the world --- */

static void
draw_path(struct path *p)
{
	p->delay_us = rnd_scale(20, 150 * MS);
	p->jitter_us = rnd_chance(5000) ? p->delay_us / 2 : 0;
	p->loss = p->usual_loss = rnd_chance(5000) ? 0 : (unsigned)rnd_scale(1, 100);
	p->reorder = rnd_chance(7000) ? 0 : (unsigned)rnd_scale(1, 500);
	p->doubled = rnd_chance(9000) ? 0 : 50;
	/* What a middlebox forgets by itself is longer than what the settings keep alive; faults make one forget at once. */
	p->box.exists = rnd_chance(4000);
	p->box.idle_us = 3 * (plan->idle_s * SECONDS + plan->heartbeat_ms * MS) + MINUTES;
	p->box.room = 100000;
	p->box.resets = rnd_chance(4000);
	p->box.counts = COUNTS_ALL;
}

static void
make_hosts(void)
{
	char name[24];

	(void)host_add("stent");
	for (size_t i = 0; i < plan->n_clients + plan->n_servers; i++) {
		snprintf(name, sizeof(name), "%s%zu", i < plan->n_clients ? "client" : "server", i < plan->n_clients ? i + 1 : i + 1 - plan->n_clients);
		draw_path(&host_add(name)->path);
	}
	for (size_t s = 0; s < plan->n_servers; s++)
		for (size_t i = 0; speeches[i] != NULL; i++)
			server_listen(speeches[i], &hosts[1 + plan->n_clients + s], (uint16_t)(SERVER_PORT + i));
	tcp_settings.mss = (size_t)(const int64_t[]){ 536, 1460, 9000, 32000 }[rnd_below(4)];
	tcp_settings.out_room = (size_t)rnd_scale(16 * 1024, 512 * 1024);
	tcp_settings.in_room = (size_t)rnd_scale(16 * 1024, 512 * 1024);
	tcp_settings.delays_acks = rnd_chance(5000);
	call_faults.spurious = rnd_chance(5000) ? 0 : (unsigned)rnd_scale(1, 1000);
	call_faults.interrupted = rnd_chance(7000) ? 0 : (unsigned)rnd_scale(1, 100);
	call_faults.shortened = rnd_chance(5000) ? 0 : (unsigned)rnd_scale(1, 1000);
}

static void
begin_talk(void *arg)
{
	const struct planned_talk *t = arg;
	struct address at = hosts[0].address;

	at.port = (uint16_t)(FIRST_PORT + t->speech);
	if (!hosts[t->client].is_gone)
		(void)talk_begin(speeches[t->speech], &hosts[t->client], at, t->for_us);
}

static void
set_all_up(struct plan *p)
{
	for (size_t i = 0; i < p->n_talks; i++) {
		talk_begins[i] = (struct happening){ .fn = begin_talk, .arg = &p->talks[i] };
		if (!p->talks[i].left_out)
			happen_at(&talk_begins[i], world_us + SECONDS + p->talks[i].at_us);
	}
	faults = p->faults;
	for (size_t i = 0; i < p->n_faults; i++) {
		fault_begins[i] = (struct happening){ .fn = begin_fault, .arg = &p->faults[i] };
		fault_ends[i] = (struct happening){ .fn = end_fault, .arg = &p->faults[i] };
		if (!p->faults[i].left_out)
			happen_at(&fault_begins[i], world_us + SECONDS + p->faults[i].at_us);
	}
}

/* A side that is dead is told of in time, and so is the end of a conversation. */
static void
check_told(void)
{
	const int64_t bound_us = plan_bound_us(plan);
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++) {
			const struct party *p = &t->party[s], *o = &t->party[!s];
			int64_t since_us;

			if ((p->harm != HARM_GONE && p->harm != HARM_CUT) || o->harm != UNHARMED || o->tcp == NULL || o->is_paused || o->is_stopped)
				continue;
			since_us = p->host->gone_us > p->harmed_us ? p->host->gone_us : p->harmed_us;
			if (p->host->is_gone && world_us - since_us > bound_us && !t->was_logged)
				wrong("told", "talk %ld (%s): the %s has been gone for %.1f s", t->number, t->speech->name, s == CLIENT ? "client" : "server",
				    (double)(world_us - since_us) / SECONDS);
		}
}

static bool
all_over(void)
{
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		if (!talk_is_over(t))
			return false;
	return true;
}

static bool
program_has_ended(void)
{
	return has_ended;
}

static void
live(void)
{
	const int64_t last_us = world_us + plan->length_us + 30 * MINUTES;

	while (world_us < last_us && what_is_wrong() == NULL) {
		world_run(world_us + 5 * SECONDS, NULL);
		check_told();
		if (world_us > last_us - 29 * MINUTES && all_over())
			break;
	}
	for (struct talk *t = TAILQ_FIRST(&talks); t != NULL && what_is_wrong() == NULL; t = TAILQ_NEXT(t, link)) {
		t->was_ended = true;	/* by the drain that follows */
		if (!talk_is_over(t))
			talk_print(t);
	}
	wants_drain = true;
	world_run(world_us + MINUTES, program_has_ended);
	if (!has_ended && what_is_wrong() == NULL)
		wrong("ends", "it does not stop");
	if (what_is_wrong() == NULL)
		world_run(world_us + 10 * SECONDS, NULL);
	if (what_is_wrong() == NULL)
		talks_check();
}

const char *
life_run(const struct plan *p, struct life *ret)
{
	static struct plan copy;
	static char why[400];
	bool abandoned;

	copy = *p;
	plan = &copy;
	world_begin(p->seed);
	make_hosts();
	calls_begin(&hosts[0]);
	on_log_line = take_line;
	(void)fiber_start(run_program, NULL);
	set_all_up(&copy);
	live();
	abandoned = what_is_wrong() != NULL;
	if (abandoned)
		fibers_abandon();
	else
		fibers_end();
	calls_end(abandoned);
	*ret = (struct life){ .talks = talks_begun, .messages = talks_heard_messages, .calls = calls_count, .happenings = world_happenings(),
		.story = story_hash() };
	for (size_t i = 0; i < copy.n_faults; i++) {
		happen_not(&fault_begins[i]);
		happen_not(&fault_ends[i]);
	}
	talks_end();
	network_end();
	snprintf(why, sizeof(why), "%s", what_is_wrong() != NULL ? what_is_wrong() : "");
	world_end();
	return why[0] != '\0' ? why : NULL;
}
