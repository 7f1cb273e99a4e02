/* life.c - the surroundings of the program under test: hosts, paths, conversations, and what happens to them. */
#include "life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "fiber.h"
#include "idle.h"
#include "judge.h"
#include "kernel.h"
#include "memory.h"
#include "names.h"
#include "program.h"

#define TABLE 100000		/* of a middlebox that is not full */

static const struct plan *plan;
static void on_hush(void *arg);

static struct happening hush = { .fn = on_hush };
static struct happening fault_begins[FAULTS_MAX], fault_ends[FAULTS_MAX], talk_begins[TALKS_MAX];
static struct planned_fault *faults;
static bool is_active[FAULTS_MAX];

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
	case FAULT_HANG:
	case FAULT_STALL:
		return HARM_STOPPED;
	case FAULT_LOSS:
		return HARM_LOSS;
	default:
		return UNHARMED;
	}
}

static void
stop_host(size_t host, bool on)
{
	struct host *h = &hosts[host];

	if (on == (h->stopped_us != 0))
		return;
	if (!on && world_us - h->stopped_us > h->longest_stop_us)
		h->longest_stop_us = world_us - h->stopped_us;
	h->stopped_us = on ? world_us : 0;
	for_all_parties(host, party_stop, on);
}

/* Faults of a host may overlap: what those that last now do to it, and to conversations that begin there. */
static void
refresh(size_t host)
{
	struct path *path = &hosts[host].path;
	const unsigned loss = path->usual_loss;

	bool stops = false;

	hosts[host].harm = UNHARMED;
	hosts[host].refuses = hosts[host].spoils_tls = path->is_cut = false;
	path->loss = loss;
	for (size_t i = 0; i < plan->n_faults; i++) {
		if (!is_active[i] || faults[i].host != host)
			continue;
		path->is_cut |= faults[i].kind == FAULT_CUT;
		hosts[host].refuses |= faults[i].kind == FAULT_REFUSE;
		hosts[host].spoils_tls |= faults[i].kind == FAULT_TLS;
		stops |= faults[i].kind == FAULT_STOP || faults[i].kind == FAULT_HANG;
		if (faults[i].kind == FAULT_LOSS)
			path->loss = 2000;	/* a death is none to complain of */
		if (harm_of(&faults[i]) != UNHARMED)
			hosts[host].harm = (int)harm_of(&faults[i]);
	}
	stop_host(host, stops);
	host_note_away(&hosts[host]);
}

static void
forget_all(size_t host)
{
	struct talk *t;

	talks_harmed(&hosts[host], HARM_FORGOTTEN);
	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++)
			if (t->party[s].tcp != NULL && t->party[s].tcp->host == &hosts[host] && t->party[s].tcp->state == TCP_S_OPEN)
				party_doomed(&t->party[s]);
	middlebox_forget_all(&hosts[host].path);
}

/* So many flows as there are now, or fewer: then the oldest are forgotten, and those that come later get no place. */
static void
fill_table(struct path *path, bool refuses)
{
	path->box.refuses_new = refuses;
	path->box.room = refuses || path->n_table == 0 ? path->n_table : rnd_below(path->n_table) + 1;
	if (path->box.room == 0)
		path->box.room = 1;
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
			forget_all(f->host);
		return;
	case FAULT_TABLE:
		fill_table(path, f->with_icmp);
		break;
	case FAULT_STALL:
		if (f->for_us > hosts[f->host].longest_stop_us)
			hosts[f->host].longest_stop_us = f->for_us;
		/* fall through */
	case FAULT_PAUSE:
		for_all_parties(f->host, party_pause, true);
		break;
	case FAULT_NAMES:
		names_settings.server_is_down = true;
		break;
	case FAULT_FREEZE:
		fibers_stop(world_us + f->for_us);
		return;
	case FAULT_KILL:
		judge_expect("admin-kill");
		program_kill_flows();
		return;
	case FAULT_MEMORY:
		judge_expect("memory");
		if (rnd_chance(5000)) {
			memory_short(1000);	/* so there is none for a backlog, and mostly for a new flow */
			break;
		}
		memory_fail(rnd_below(200), f->with_icmp ? 1 + (size_t)rnd_below(20) : 1);
		return;
	case FAULT_PIPES:
		call_faults.no_pipes = true;
		break;
	case FAULT_DESCRIPTORS:
		judge_expect("limit");
		call_faults.descriptor_limit = calls_open() + 4;
		break;
	case FAULT_RELOAD:
		program_reload();
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
	case FAULT_TABLE:
		hosts[f->host].path.box.room = TABLE;
		hosts[f->host].path.box.refuses_new = false;
		break;
	case FAULT_PAUSE:
	case FAULT_STALL:
		for_all_parties(f->host, party_pause, false);
		break;
	case FAULT_NAMES:
		names_settings.server_is_down = false;
		break;
	case FAULT_MEMORY:
		memory_short(0);
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
	p->box.room = TABLE;
	p->box.resets = rnd_chance(4000);
	p->box.counts = rnd_chance(7000) ? COUNTS_ALL : COUNTS_PAYLOAD;
	/* A ping may wait for those of other flows that are on trial, and within a message for another interval. */
	if (p->box.counts == COUNTS_PAYLOAD)
		p->box.idle_us = (5 * plan->heartbeat_ms + 3 * plan->timeout_ms) * MS + 20 * SECONDS;
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
			server_listen(speeches[i], &hosts[1 + plan->n_clients + s], (uint16_t)(PROGRAM_BACKEND_PORT + i));
	tcp_settings.mss = (size_t)(const int64_t[]){ 536, 1460, 9000, 32000 }[rnd_below(4)];
	tcp_settings.out_room = (size_t)rnd_scale(16 * 1024, 512 * 1024);
	tcp_settings.in_room = (size_t)rnd_scale(16 * 1024, 512 * 1024);
	if (rnd_chance(1000))		/* soon full */
		tcp_settings.in_room = 4096;
	/* More than the program reads in one turn of a flow. */
	if (rnd_chance(2000))
		tcp_settings.out_room = tcp_settings.in_room = TCP_LARGE;
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

	at.port = (uint16_t)(PROGRAM_PORT + t->speech);
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
	if (p->hush_us > 0)
		happen_at(&hush, world_us + SECONDS + p->hush_at_us);
	faults = p->faults;
	for (size_t i = 0; i < p->n_faults; i++) {
		fault_begins[i] = (struct happening){ .fn = begin_fault, .arg = &p->faults[i] };
		fault_ends[i] = (struct happening){ .fn = end_fault, .arg = &p->faults[i] };
		if (!p->faults[i].left_out)
			happen_at(&fault_begins[i], world_us + SECONDS + p->faults[i].at_us);
	}
}

/* Until then nobody speaks; replies, acknowledgements and heartbeats go on. */
static void
on_hush(void *arg)
{
	const int64_t until_us = world_us + plan->hush_us;

	(void)arg;
	story("nobody says anything for %lld s", (long long)(plan->hush_us / SECONDS));
	talks_hush(until_us);
	idle_hush(until_us);
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

static void
live(void)
{
	const int64_t last_us = world_us + (plan->drain_us > 0 ? plan->drain_us : plan->length_us + 30 * MINUTES);

	world_run(world_us + SECONDS * 9 / 10, NULL);
	idle_empty();
	while (world_us < last_us && what_is_wrong() == NULL) {
		world_run(world_us + 5 * SECONDS, NULL);
		judge_check();
		if (plan->drain_us == 0 && world_us > last_us - 29 * MINUTES && all_over())
			break;
	}
	for (struct talk *t = TAILQ_FIRST(&talks); t != NULL && what_is_wrong() == NULL; t = TAILQ_NEXT(t, link)) {
		t->was_ended = true;	/* by the drain that follows */
		if (!talk_is_over(t) && plan->drain_us == 0)
			talk_print(t);
	}
	story("the operator stops it");
	judge_expect("drain");
	program_drain();
	world_run(world_us + MINUTES, program_has_ended);
	if (!program_has_ended() && what_is_wrong() == NULL)
		wrong("ends", "it does not stop");
	if (what_is_wrong() == NULL)
		world_run(world_us + 10 * SECONDS, NULL);
	if (what_is_wrong() == NULL)
		judge_ends();
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
	judge_begin(plan);
	on_log_line = judge_line;
	on_forgotten = judge_forgotten;
	on_pushed_out = talks_pushed_out;
	on_lost = judge_lost;
	on_tcp_reset = kernel_judge_reset;
	if (plan->max_flows < 1000)
		judge_expect(plan->evicts ? "evicted" : "limit");
	if (plan->max_flows < 1000)
		judge_expect("limit");
	if (plan->max_age_s > 0)
		judge_expect("max-age");
	program_start(plan);
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
	on_forgotten = NULL;
	on_pushed_out = NULL;
	on_lost = NULL;
	on_tcp_reset = NULL;
	happen_not(&hush);
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
