/*
 * judge.c - what the program's log tells is held against what the world knows.
 *
 * Told: a side that is dead is told of within its bound, by the leg that it is
 * on, and the survivor hears of it in a way that does not look like an orderly
 * end. Honest: a side that lives is not called dead, nor after an outage of less
 * than a third of the time that the settings give it; and no heartbeat goes out
 * for one that has been out of reach for longer than its bound. Stuck: what is
 * said is heard in the end. Bounded: calls are made for a cause.
 */
#include "judge.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "calls.h"
#include "fiber.h"
#include "idle.h"
#include "kernel.h"

#define STUCK_US (200 * SECONDS)
#define HEARS_LATE_US (60 * SECONDS)

static const struct plan *plan;
static char expected[8][24];		/* reasons of ends that may come at any time now */
static size_t n_expected;
static bool has_refused;		/* heartbeats are off on some flow, or route */
static struct {
	size_t calls;
	uint64_t segments;
} last;

void
judge_begin(const struct plan *p)
{
	plan = p;
	n_expected = 0;
	has_refused = false;
	memset(&last, 0, sizeof(last));
	idle_begin(p);
	kernel_begin();
}

static bool
is_expected(const char *reason)
{
	for (size_t i = 0; i < n_expected; i++)
		if (strcmp(expected[i], reason) == 0)
			return true;
	return false;
}

void
judge_expect(const char *reason)
{
	if (!is_expected(reason) && n_expected < sizeof(expected) / sizeof(expected[0]))
		snprintf(expected[n_expected++], sizeof(expected[0]), "%s", reason);
}

bool
judge_cancels_work(void)
{
	return is_expected("admin-kill") || is_expected("max-age");
}

static const char *
name_of(enum side s)
{
	return s == CLIENT ? "client" : "server";
}

static bool
has(const struct party *p, enum harm harm)
{
	return (p->harms & 1u << harm) != 0;
}

/* Whose conversation can only be judged loosely: it does not read, or its program stands. */
static bool
is_idling(const struct party *p)
{
	return p->is_paused || p->is_stopped || p->slow_us > 0;
}

/* --- the reasons of ends --- */

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

/* The longest time that this host was out of reach, so far. */
static int64_t
longest_us(const struct host *h)
{
	const int64_t now_us = h->away_us != 0 ? world_us - h->away_us : 0;

	return now_us > h->longest_away_us ? now_us : h->longest_away_us;
}

/* A side that the program calls dead must be harmed, or have been, in a way that lets it look dead. */
static void
judge_death(const struct talk *t, const char *reason)
{
	const enum side s = strncmp(reason, "client-", 7) == 0 ? CLIENT : BACKEND;
	const struct party *p = &t->party[s];
	const unsigned outages = 1u << HARM_CUT | 1u << HARM_GONE;
	const int64_t patience_us = plan_patience_us(plan);

	if (s == BACKEND && p->host == NULL)
		return;			/* no flow was open yet */
	if (strstr(reason, "heartbeat") != NULL)
		kernel_judge_missing(p);
	if (strstr(reason, "heartbeat") != NULL && p->slow_us > 0 && p->tcp != NULL && p->tcp->in.len > 0)
		return;			/* the heartbeat lies behind what it has not read yet: to stent, it has stopped */
	if (p->lost >= (unsigned)plan->probes)
		return;			/* each probe was lost, by bad luck */
	if (p->harms == 0)
		wrong("honest", "talk %ld (%s): %s, but nothing has happened to the %s", t->number, t->speech->name, reason, name_of(s));
	else if (p->harms == 1u << HARM_STOPPED && strstr(reason, "heartbeat") == NULL)
		wrong("honest", "talk %ld (%s): %s, but the kernel of the %s was alive", t->number, t->speech->name, reason, name_of(s));
	else if (p->harms == 1u << HARM_STOPPED && p->host->longest_stop_us < plan_stop_us(plan) && !p->is_stopped)
		wrong("honest", "talk %ld (%s): %s, but the %s was stopped for %.1f s at most", t->number, t->speech->name, reason, name_of(s),
		    (double)p->host->longest_stop_us / SECONDS);
	else if ((p->harms & ~outages) == 0 && p->host->path.usual_loss == 0 && longest_us(p->host) < plan_stumble_us(plan) &&
	    strstr(reason, "heartbeat") == NULL && strstr(reason, "unreachable") == NULL)
		wrong("honest", "talk %ld (%s): %s, but the %s was out of reach for %.1f s at most, of %.1f s", t->number, t->speech->name, reason,
		    name_of(s), (double)longest_us(p->host) / SECONDS, (double)patience_us / SECONDS);
}

/* A side that is said to have closed, or to have been reset, must have. */
static void
judge_leaving(const struct talk *t, const char *reason)
{
	const enum side s = strncmp(reason, "client-", 7) == 0 ? CLIENT : BACKEND;
	const struct party *p = &t->party[s], *o = &t->party[!s];
	const bool is_fin = strcmp(reason + strcspn(reason, "-"), "-fin") == 0;

	if (p->harms != 0 || o->harms != 0 || p->host == NULL)
		return;
	if (p->tcp != NULL && !p->said_fin && !p->expects_end)
		wrong("honest", "talk %ld (%s): %s, but the %s is there", t->number, t->speech->name, reason, name_of(s));
	else if (is_fin && p->follows && !o->follows && o->host != NULL)
		wrong("honest", "talk %ld (%s): %s, but the %s closed because the other side had", t->number, t->speech->name, reason, name_of(s));
}

/* A side whose TLS has failed must have done something to it. */
static void
judge_tls(const struct talk *t, const char *reason)
{
	const enum side s = strncmp(reason, "client-", 7) == 0 ? CLIENT : BACKEND;
	const struct party *p = &t->party[s];

	if (p->host != NULL && p->harms == 0 && !p->has_spoilt)
		wrong("harmless", "talk %ld (%s): %s, but the TLS of the %s was in order", t->number, t->speech->name, reason, name_of(s));
}

static void
judge_own_end(const struct talk *t, const char *reason)
{
	if (!is_expected(reason))
		wrong("harmless", "talk %ld (%s): %s, for no cause", t->number, t->speech->name, reason);
}

/* A FIN that was odd was one of the program's own. */
static void
check_fin(const struct talk *t, const struct party *p)
{
	if (p->odd_fin != NULL && !t->was_ended && p->harms == 0 && t->party[!p->side].harms == 0)
		wrong("exact", "talk %ld (%s): the %s heard a FIN, but %s", t->number, t->speech->name, name_of(p->side), p->odd_fin);
}

/*
 * An end for want of room, by age or in a drain comes between two messages, after a pause (src/relay/retire.c); one that cannot wait
 * for that is no FIN.
 */
static void
check_rest(const struct talk *t, const struct party *p)
{
	const struct party *o = &t->party[!p->side];
	const bool is_evicted = strcmp(t->reason, "evicted") == 0, knows_rest = strcmp(t->speech->name, "tcp") != 0;
	const int64_t pause_us = is_evicted ? 2 * SECONDS : knows_rest ? 0 : SECONDS;

	if (!(is_evicted || strcmp(t->reason, "max-age") == 0 || strcmp(t->reason, "drain") == 0) || !p->has_heard_end || p->harms != 0 || o->harms != 0)
		return;
	if (p->was_engaged && is_evicted)
		wrong("rest", "talk %ld (%s): %s, and the %s hears the end within a transaction", t->number, t->speech->name, t->reason,
		    name_of(p->side));
	else if (p->was_cut && knows_rest)
		wrong("rest", "talk %ld (%s): %s, with a FIN for the %s within a message", t->number, t->speech->name, t->reason, name_of(p->side));
	else if ((is_evicted || !p->heard_goodbye) && p->rested_us < pause_us)
		wrong("rest", "talk %ld (%s): %s, and the %s had said something %.3f s before", t->number, t->speech->name, t->reason, name_of(o->side),
		    (double)p->rested_us / SECONDS);
}

/* Who survives the other side's death must not take it for an orderly end: it hears a goodbye before the FIN, or a reset. */
static void
check_survivor(const struct talk *t, const struct party *p)
{
	const char *dead = p->side == CLIENT ? "backend-" : "client-";

	if (t->was_logged && p->heard_orderly && is_death(t->reason) && strncmp(t->reason, dead, strlen(dead)) == 0)
		wrong("told", "talk %ld (%s): %s, but the %s hears an orderly end", t->number, t->speech->name, t->reason, name_of(p->side));
}

void
judge_heard_end(struct party *p, bool is_fin)
{
	const struct talk *t = p->talk;
	const struct party *o = &t->party[!p->side];

	if (!p->has_heard_end && o->tcp != NULL && !p->expects_end && !o->expects_end && !p->says_fin && !o->says_fin) {
		p->has_heard_end = true;
		p->was_cut = is_fin && o->said.heard > 0;
		p->was_engaged = p->said.n == 0 && o->said.n == 0 && t->speech->is_engaged != NULL && t->party[BACKEND].host != NULL &&
		    t->speech->is_engaged(&t->party[BACKEND]);
		p->rested_us = o->said.n == 0 && o->said_us != 0 ? world_us - o->said_us : NEVER;
	}
	if (t->was_logged)
		check_rest(t, p);
	check_survivor(t, p);
}

static void
judge_end(const json_t *line)
{
	const char *reason = member(line, "reason"), *what = reason + strcspn(reason, "-");
	struct address client;
	struct talk *t;

	if (!parse_address(member(line, "client"), &client))
		return;
	t = talk_of(&client);
	if (t == NULL)
		return;
	if (t->was_logged)
		wrong("log", "talk %ld ends twice", t->number);
	t->was_logged = true;
	t->logged_us = world_us;
	snprintf(t->reason, sizeof(t->reason), "%s", reason);
	story("stent ends talk %ld (%s): %s", t->number, t->speech->name, reason);
	kernel_judge_end(t);
	if (is_death(reason))
		judge_death(t, reason);
	else if (strcmp(what, "-fin") == 0 || strcmp(what, "-reset") == 0)
		judge_leaving(t, reason);
	else if (strcmp(what, "-tls") == 0)
		judge_tls(t, reason);
	else if (strncmp(reason, "backend-", 8) != 0)
		judge_own_end(t, reason);
	if (is_expected(reason))
		t->was_ended = true;
	for (int s = CLIENT; s <= BACKEND; s++) {
		check_fin(t, &t->party[s]);
		check_rest(t, &t->party[s]);
		check_survivor(t, &t->party[s]);
	}
}

void
judge_line(const char *text)
{
	json_t *line = json_loads(text, 0, NULL);
	const char *event = member(line, "event");

	if (line == NULL) {
		wrong("log", "not JSON: %s", text);
		return;
	}
	if (strcmp(event, "flow end") == 0 || strcmp(event, "flow refused") == 0)
		judge_end(line);
	else if (strcmp(event, "protocol passthrough") == 0)
		wrong("legal", "passthrough: %s", text);
	else if (strcmp(member(line, "level"), "error") == 0 || strcmp(event, "heartbeat missed") == 0 || strcmp(event, "heartbeat refused") == 0)
		story("stent: %.180s", text);
	has_refused |= strcmp(event, "heartbeat refused") == 0;
	json_decref(line);
}

/* --- heartbeats --- */

void
judge_heartbeat(const struct party *p)
{
	const struct party *o = &p->talk->party[!p->side];
	/* The last acknowledgement may just have come; one probe may be missed; see heartbeat_sign_max_age_us(). */
	const int64_t bound_us = (plan->idle_s + plan->interval_s + 1) * SECONDS;
	const int64_t slack_us = 3 * SECONDS + 2 * p->host->path.delay_us;

	if (o->host == NULL || o->host->away_us == 0 || p->host->path.usual_loss > 0 || p->harms != 0 || is_idling(p) || plan->detect_s > 0)
		return;
	if (world_us - o->host->away_us > bound_us + slack_us)
		wrong("honest", "talk %ld (%s): a heartbeat for the %s, which has been out of reach for %.1f s", p->talk->number,
		    p->talk->speech->name, name_of(o->side), (double)(world_us - o->host->away_us) / SECONDS);
}

static struct party *
party_of(uint64_t id)
{
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++)
			if (t->party[s].id == id)
				return &t->party[s];
	return NULL;
}

void
judge_lost(uint64_t id, unsigned in_a_row)
{
	struct party *p = party_of(id);

	if (p != NULL && in_a_row > p->lost)
		p->lost = in_a_row;
}

void
judge_forgotten(uint64_t id, bool counts_payload)
{
	struct party *p = party_of(id), *o;

	if (p == NULL)
		return;
	o = &p->talk->party[!p->side];
	if (counts_payload && !p->talk->speech->is_kept) {	/* no heartbeats, or not at all times */
		party_harmed(p, HARM_FORGOTTEN);
		return;
	}
	if (p->tcp == NULL || o->tcp == NULL || p->harms != 0 || o->harms != 0 || p->talk->was_logged || has_refused || p->expects_end ||
	    is_idling(p) || is_idling(o)) {
		party_harmed(p, HARM_FORGOTTEN);
		return;
	}
	wrong("kept", "talk %ld (%s): the middlebox of the %s has forgotten it, as nothing came for too long", p->talk->number,
	    p->talk->speech->name, name_of(p->side));
}

/* --- what should have happened by now --- */

/* As wrong(), with the state of the conversation in the story. */
#define wrong_of(t, ...) (talk_print(t), wrong(__VA_ARGS__))

/* Since when the connection of this party cannot live on; 0: it can. */
static int64_t
dead_since_us(const struct party *p)
{
	if (p->doomed_us != 0)
		return p->doomed_us;
	return p->host != NULL && (has(p, HARM_GONE) || has(p, HARM_CUT)) ? p->host->away_us : 0;
}

static void
check_told(const struct talk *t, enum side s)
{
	const struct party *p = &t->party[s], *o = &t->party[!s];
	const int64_t since_us = dead_since_us(p);
	int64_t bound_us = plan_bound_us(plan);

	if (since_us == 0 || t->was_logged || o->tcp == NULL || o->harms != 0 || is_idling(o))
		return;
	if (world_us - fibers_stopped_until_us() < 5 * SECONDS)
		return;			/* the program stands still, or did just before */
	/* Probes of a window that was shut, and maybe still was to the program's machine, are rare. */
	if (p->slow_us > 0 || p->is_paused || (p->resumed_us != 0 && p->resumed_us > since_us - 5 * MINUTES))
		bound_us += 5 * MINUTES;
	if (world_us - since_us > bound_us && !kernel_is_delivering(p))
		wrong_of(t, "told", "talk %ld (%s): the %s has been dead for %.1f s", t->number, t->speech->name, name_of(s),
		    (double)(world_us - since_us) / SECONDS);
}

/* The program has ended the flow: its sides must know. */
static void
check_knows(const struct talk *t, enum side s)
{
	const struct party *p = &t->party[s];

	if (!t->was_logged || p->tcp == NULL || p->got_fin || p->harms != 0 || is_idling(p) || p->tcp->missed_reset || p->host->away_us != 0)
		return;
	/* What came before the end may be megabytes, on a slow path. */
	if (world_us - t->logged_us > HEARS_LATE_US && world_us - p->tcp->data_in_us > HEARS_LATE_US && world_us - p->resumed_us > HEARS_LATE_US)
		wrong("told", "talk %ld (%s): ended %.1f s ago (%s), and the %s was not told", t->number, t->speech->name,
		    (double)(world_us - t->logged_us) / SECONDS, t->reason, name_of(s));
}

/* What p has said, and its end, is heard by o. */
static void
check_heard(const struct talk *t, const struct party *p, const struct party *o)
{
	int64_t since_us = p->said.since_us > o->last_heard_us ? p->said.since_us : o->last_heard_us;

	if (since_us < o->resumed_us)
		since_us = o->resumed_us;
	if (p->harms != 0 || o->harms != 0 || is_idling(p) || is_idling(o) || o->tcp == NULL || t->was_logged)
		return;
	if ((p->said.n > 0 || (p->said_fin && !o->got_fin)) && world_us - since_us > STUCK_US)
		wrong_of(t, "stuck", "talk %ld (%s): the %s does not hear %s of the %s, for %.0f s", t->number, t->speech->name, name_of(o->side),
		    p->said.n > 0 ? "the bytes" : "the FIN", name_of(p->side), (double)(world_us - since_us) / SECONDS);
}

static bool
has_harmed_server(void)
{
	for (size_t i = 0; i < plan->n_faults; i++)
		if (!plan->faults[i].left_out)
			return true;
	return false;
}

static void
check_connected(const struct talk *t)
{
	const struct party *p = &t->party[CLIENT];

	if (t->party[BACKEND].host == NULL && !t->was_logged && p->tcp != NULL && p->tcp->state == TCP_S_OPEN && p->harms == 0 && !is_idling(p) &&
	    !has_harmed_server() && world_us - t->began_us > STUCK_US)
		wrong("stuck", "talk %ld (%s): the client has no server, after %.0f s", t->number, t->speech->name,
		    (double)(world_us - t->began_us) / SECONDS);
}

/* Calls are made for segments that come and go, for timers of flows, and for what is asked of it: not without end. */
static void
check_calls(size_t n_open)
{
	const size_t calls = calls_count - last.calls;
	const uint64_t segments = network_segments - last.segments;
	const uint64_t most = 2000 + 60 * segments + 60 * n_open;

	last.calls = calls_count;
	last.segments = network_segments;
	if (call_faults.spurious == 0 && calls > most)
		wrong("bounded", "%zu calls in 5 s, with %llu segments and %zu flows", calls, (unsigned long long)segments, n_open);
}

void
judge_check(void)
{
	size_t n_open = 0;
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link) {
		n_open += !t->was_logged;
		if (talk_is_over(t))
			continue;
		for (int s = CLIENT; s <= BACKEND && what_is_wrong() == NULL; s++) {
			check_told(t, (enum side)s);
			check_knows(t, (enum side)s);
			check_heard(t, &t->party[s], &t->party[!s]);
		}
		check_connected(t);
	}
	idle_check();
	check_calls(n_open);
	kernel_check();
}

void
judge_ends(void)
{
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND && world_us - t->began_us > 10 * SECONDS; s++)
			if (t->party[s].tcp != NULL && t->party[s].harms == 0 && !is_idling(&t->party[s]) && !t->party[s].tcp->missed_reset)
				wrong("ends", "talk %ld (%s): the %s was not told that it is over", t->number, t->speech->name, name_of((enum side)s));
}
