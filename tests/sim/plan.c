/* plan.c - draws the plan of a world from its seed. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

const char *const fault_names[FAULT_KINDS] = {
	[FAULT_CUT] = "cut", [FAULT_GONE] = "gone", [FAULT_REBOOT] = "reboot", [FAULT_FORGET] = "forget", [FAULT_STOP] = "stop",
	[FAULT_PAUSE] = "pause", [FAULT_LOSS] = "loss", [FAULT_NAMES] = "names", [FAULT_FREEZE] = "freeze", [FAULT_PIPES] = "pipes",
	[FAULT_DESCRIPTORS] = "descriptors", [FAULT_RELOAD] = "reload",
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
		f->for_us = rnd_scale(100 * MS, 2 * p->timeout_ms * MS);	/* else it counts as dead, which is no fault */
		break;
	case FAULT_FREEZE:
	case FAULT_DESCRIPTORS:
		f->for_us = rnd_scale(100 * MS, 30 * SECONDS);
		break;
	default:
		break;
	}
}

void
plan_draw(struct plan *p, uint64_t seed, int64_t length_us, int only)
{
	size_t n_speeches = 0;

	memset(p, 0, sizeof(*p));
	while (speeches[n_speeches] != NULL)
		n_speeches++;
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
	p->names = rnd_chance(3000);
	p->n_talks = (size_t)rnd_scale(1, TALKS_MAX);
	for (size_t i = 0; i < p->n_talks; i++) {
		p->talks[i].at_us = (int64_t)rnd_below((uint64_t)length_us);
		p->talks[i].for_us = rnd_scale(MS, length_us);
		p->talks[i].speech = rnd_below(n_speeches);
		p->talks[i].client = 1 + rnd_below(p->n_clients);
	}
	p->n_faults = rnd_chance(2000) ? 0 : (size_t)rnd_scale(1, 20);
	for (size_t i = 0; i < p->n_faults; i++)
		draw_fault(&p->faults[i], p, only);
}

int64_t
plan_bound_us(const struct plan *p)
{
	const int64_t probes_us = (p->idle_s + (int64_t)p->interval_s * (p->probes + 1)) * SECONDS;

	/* Bytes that were sent last may delay the first probe by a retransmission's wait. */
	return 2 * probes_us + 10 * SECONDS;
}

void
plan_print(const struct plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_talks; i++)
		n += !p->talks[i].left_out;
	printf("seed %llu: %zu talks, %zu clients, %zu servers, %d workers, keepalive %ds/%ds/%d, heartbeats %lld ms, replies %lld ms\n",
	    (unsigned long long)p->seed, n, p->n_clients, p->n_servers, p->workers, p->idle_s, p->interval_s, p->probes,
	    (long long)p->heartbeat_ms, (long long)p->timeout_ms);
	for (size_t i = 0; i < p->n_faults; i++)
		if (!p->faults[i].left_out)
			printf("  fault %zu: %s of host %zu after %.3f s for %.3f s\n", i, fault_names[p->faults[i].kind], p->faults[i].host,
			    (double)p->faults[i].at_us / SECONDS, (double)p->faults[i].for_us / SECONDS);
}
