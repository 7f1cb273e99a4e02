/* plan.c - draws the plan of a world from its seed. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#define SHARE_OF_TLS 800	/* of 10,000 conversations */

const char *const fault_names[FAULT_KINDS] = {
	[FAULT_CUT] = "cut", [FAULT_GONE] = "gone", [FAULT_REBOOT] = "reboot", [FAULT_FORGET] = "forget", [FAULT_STOP] = "stop",
	[FAULT_PAUSE] = "pause", [FAULT_STALL] = "stall", [FAULT_LOSS] = "loss", [FAULT_NAMES] = "names", [FAULT_FREEZE] = "freeze", [FAULT_PIPES] = "pipes",
	[FAULT_DESCRIPTORS] = "descriptors", [FAULT_RELOAD] = "reload", [FAULT_HANG] = "hang", [FAULT_REFUSE] = "refuse", [FAULT_KILL] = "kill",
	[FAULT_MEMORY] = "memory", [FAULT_TABLE] = "table", [FAULT_TLS] = "tls",
};

static void
draw_fault(struct planned_fault *f, const struct plan *p, int only)
{
	f->kind = only >= 0 ? (enum fault_kind)only : (enum fault_kind)rnd_below(FAULT_KINDS);
	f->at_us = (int64_t)rnd_below((uint64_t)p->length_us);
	f->for_us = rnd_scale(100 * MS, 10 * MINUTES);
	f->host = 1 + rnd_below(p->n_clients + p->n_servers);
	f->with_icmp = rnd_chance(3000);
	switch (f->kind) {
	case FAULT_PAUSE:
	case FAULT_STOP:
		f->for_us = rnd_scale(100 * MS, plan_stop_us(p) * 2 / 3);	/* else it counts as dead, which is no fault */
		break;
	case FAULT_FREEZE:
	case FAULT_DESCRIPTORS:
	case FAULT_MEMORY:
		f->for_us = rnd_scale(100 * MS, 30 * SECONDS);
		break;
	case FAULT_STALL:		/* long enough for three replies to be missed */
		f->for_us = rnd_scale(10 * SECONDS, 10 * MINUTES);
		break;
	default:
		break;
	}
}

/* Flows that are idle for hours: what they cost. */
static void
draw_hush(struct plan *p)
{
	p->hush_at_us = (int64_t)rnd_below((uint64_t)p->length_us) / 2 + p->length_us / 4;
	p->hush_us = p->heartbeat_ms > 10000 ? rnd_scale(60 * MINUTES, 240 * MINUTES) : 60 * MINUTES;
	p->n_faults = 0;
	p->drain_us = p->max_age_s = 0;
	p->max_flows = 10000;
	for (size_t i = 0; i < p->n_talks; i++)
		if (p->talks[i].at_us > p->hush_at_us)
			p->talks[i].at_us += p->hush_us;
		else if (p->talks[i].at_us + p->talks[i].for_us < p->hush_at_us && rnd_chance(8000))
			p->talks[i].for_us = p->length_us;	/* many are open */
	p->length_us += p->hush_us;
}

/* Handshakes cost more than all the rest of a short flow: so TLS is seldom. */
static size_t
draw_speech(const struct plan_limits *limits)
{
	const bool tls = !limits->no_tls && rnd_chance(SHARE_OF_TLS);
	size_t n = 0, chosen = 0;

	for (size_t i = 0; speeches[i] != NULL; i++) {
		const bool is_tls = speeches[i]->secrecy[CLIENT] != SECURE_NOT || speeches[i]->secrecy[BACKEND] != SECURE_NOT;

		if (limits->speech != NULL ? strcmp(speeches[i]->name, limits->speech) == 0 : is_tls == tls)
			chosen = rnd_below(++n) == 0 ? i : chosen;
	}
	return chosen;
}

void
plan_draw(struct plan *p, uint64_t seed, const struct plan_limits *limits)
{
	const int64_t length_us = limits->length_us;

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	p->length_us = length_us;
	p->n_clients = (size_t)rnd_between(1, 6);
	p->n_servers = (size_t)rnd_between(1, 3);
	p->workers = (int)rnd_between(1, 3);
	p->idle_s = (int)rnd_scale(2, 30);
	p->interval_s = (int)rnd_scale(1, 10);
	p->probes = (int)rnd_between(3, 6);
	p->heartbeat_ms = rnd_scale(1000, 60000);
	p->timeout_ms = rnd_scale(10000, 30000);
	if (rnd_chance(2500)) {		/* the rest follows from it: at most this */
		p->detect_s = (int)rnd_between(20, 120);
		p->idle_s = p->detect_s / 2;
		p->interval_s = p->detect_s / 6;
		p->probes = 3;
		p->heartbeat_ms = p->detect_s * INT64_C(500);
		p->timeout_ms = p->detect_s * INT64_C(166);
	}
	p->names = rnd_chance(3000);
	p->serves_while_draining = rnd_chance(3000);
	p->drain_us = rnd_chance(2000) ? rnd_between(SECONDS, length_us) : 0;
	p->max_age_s = rnd_chance(1500) ? (int)rnd_scale(60, 3600) : 0;
	p->n_talks = (size_t)rnd_scale(1, TALKS_MAX);
	p->max_flows = rnd_chance(1500) ? (int)rnd_scale(4, 8 + (int64_t)p->n_talks / 4) : 10000;	/* so that it is full at times */
	p->evicts = rnd_chance(7000);
	for (size_t i = 0; i < p->n_talks; i++) {
		p->talks[i].at_us = (int64_t)rnd_below((uint64_t)length_us);
		p->talks[i].for_us = rnd_scale(MS, length_us);
		p->talks[i].speech = draw_speech(limits);
		p->talks[i].client = 1 + rnd_below(p->n_clients);
	}
	p->n_faults = rnd_chance(2000) ? 0 : (size_t)rnd_scale(1, 20);
	for (size_t i = 0; i < p->n_faults; i++)
		draw_fault(&p->faults[i], p, limits->fault);
	if (limits->fault < 0 && rnd_chance(600))
		draw_hush(p);
}

int64_t
plan_patience_us(const struct plan *p)
{
	return (p->detect_s > 0 ? p->detect_s : p->idle_s + (int64_t)p->interval_s * p->probes) * SECONDS;
}

int64_t
plan_stumble_us(const struct plan *p)
{
	const int64_t third_us = plan_patience_us(p) / 3, probes_us = p->interval_s * (p->probes - 1) * SECONDS;

	/* An outage may begin when the first probe is due. */
	return p->detect_s > 0 || third_us < probes_us ? third_us : probes_us;
}

int64_t
plan_stop_us(const struct plan *p)
{
	/* Three missing replies, less a moment. */
	return p->detect_s > 0 ? p->detect_s * SECONDS / 3 : p->timeout_ms * MS * 29 / 10;
}

int64_t
plan_bound_us(const struct plan *p)
{
	const int64_t probes_us = (p->idle_s + (int64_t)p->interval_s * (p->probes + 1)) * SECONDS;

	if (p->detect_s > 0)		/* with the time of a look at it, and of the path */
		return (p->detect_s + 7) * SECONDS;
	/* Bytes that were sent last may delay the first probe by a retransmission's wait. */
	return 2 * probes_us + 10 * SECONDS;
}

void
plan_print(const struct plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_talks; i++)
		n += !p->talks[i].left_out;
	printf("seed %llu: %zu talks, %zu clients, %zu servers, %d workers, keepalive %ds/%ds/%d, heartbeats %lld ms, replies %lld ms, detect %d s, "
	    "max_age %d s, max_flows %d%s, drain after %.1f s\n",
	    (unsigned long long)p->seed, n, p->n_clients, p->n_servers, p->workers, p->idle_s, p->interval_s, p->probes,
	    (long long)p->heartbeat_ms, (long long)p->timeout_ms, p->detect_s, p->max_age_s, p->max_flows, p->evicts ? " (evict)" : "",
	    (double)p->drain_us / SECONDS);
	if (p->hush_us > 0)
		printf("  silence after %.3f s for %.3f s\n", (double)p->hush_at_us / SECONDS, (double)p->hush_us / SECONDS);
	for (size_t i = 0; i < p->n_faults; i++)
		if (!p->faults[i].left_out)
			printf("  fault %zu: %s of host %zu after %.3f s for %.3f s\n", i, fault_names[p->faults[i].kind], p->faults[i].host,
			    (double)p->faults[i].at_us / SECONDS, (double)p->faults[i].for_us / SECONDS);
}
