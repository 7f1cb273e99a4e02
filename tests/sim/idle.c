/*
 * idle.c - what an idle flow costs.
 *
 * In some worlds nobody says anything for hours. The program then does what its settings call for, and no more: a heartbeat
 * is a few wake-ups and calls, a plain flow none; and it holds no more memory and descriptors than when the silence began.
 */
#include "idle.h"

#include <string.h>

#include "calls.h"
#include "memory.h"

#define SETTLE_US (5 * MINUTES)		/* after that an idle flow is idle in each kernel, too */
#define WAKEUPS 6			/* of the program, for each interval of a leg */
#define OWN_WAKEUPS 1.3			/* a second: the operator's, and its own timers */
#define CALLS 4				/* for each wake-up */
#define FLOW_BYTES 1100			/* of memory, for each idle flow */
#define TLS_BYTES 4096			/* ... and each of its legs with TLS */
#define ROUTE_BYTES 2300		/* counters of a route at a worker; they stay when its flows have ended */
#define WORKER_BYTES (12 * 1024)	/* tables that grow with the first flows */
#define OWN_BYTES (16 * 1024)
#define OWN_DESCRIPTORS 64

static const struct plan *plan;

/* While nobody says anything. */
static struct {
	int64_t from_us, until_us;	/* until_us 0: not now */
	int64_t began_us;		/* since when it is measured */
	bool is_measured;
	size_t n, n_beaten;		/* flows, and those of a protocol with heartbeats */
	size_t calls, wakeups, bytes, descriptors;
	size_t empty_bytes, empty_descriptors;	/* without a flow */
} idle;

void
idle_begin(const struct plan *p)
{
	plan = p;
	memset(&idle, 0, sizeof(idle));
}

/* Conversations whose both sides are connected; n_beaten: those of a protocol with heartbeats. */
static size_t
count_flows(size_t *n_beaten)
{
	const struct talk *t;
	size_t n = 0;

	*n_beaten = 0;
	TAILQ_FOREACH(t, &talks, link)
		if (!t->was_logged && t->party[CLIENT].tcp != NULL && t->party[BACKEND].tcp != NULL) {
			n++;
			*n_beaten += t->speech->heartbeat != NULL;
		}
	return n;
}

/* What n idle flows may need of memory. */
static size_t
most_bytes(size_t n)
{
	const size_t workers = (size_t)plan->workers;
	size_t routes = 0, tls_legs = 0;
	const struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND && !t->was_logged; s++)
			tls_legs += t->party[s].tcp != NULL && t->speech->secrecy[s] != 0;
	while (speeches[routes] != NULL)
		routes++;
	routes *= workers;
	return n * FLOW_BYTES + tls_legs * TLS_BYTES + (talks_begun < routes ? talks_begun : routes) * ROUTE_BYTES + workers * WORKER_BYTES + OWN_BYTES;
}

void
idle_empty(void)
{
	idle.empty_bytes = memory_used();
	idle.empty_descriptors = calls_open();
}

void
idle_hush(int64_t until_us)
{
	idle.from_us = world_us + SETTLE_US;
	idle.until_us = until_us;
	idle.is_measured = false;
}

/*
 * For each heartbeat of a leg: the timer, the reply, the look at what is not acknowledged yet. Where none is legal now, or the other
 * side has given no sign of life lately, a leg is looked at again after a part of the interval (heartbeat_again_us()).
 */
static double
wakeups_an_hour(size_t n_flows, size_t n_beaten)
{
	const double interval_s = plan->detect_s > 0 ? plan->detect_s / 3.0 : (double)plan->heartbeat_ms / 1000;

	return (double)n_beaten * 2 * WAKEUPS * 3600 / interval_s + (double)n_flows * 2 + OWN_WAKEUPS * 3600;
}

void
idle_check(void)
{
	size_t n_beaten;
	const size_t n = count_flows(&n_beaten), wakeups = calls_wakeups - idle.wakeups, calls = calls_count - idle.calls;
	const double hours = (double)(world_us - idle.began_us) / (60.0 * MINUTES), most = wakeups_an_hour(idle.n, idle.n_beaten) * (hours + 0.1);

	if (idle.until_us == 0 || world_us < idle.from_us)
		return;
	if (!idle.is_measured) {
		idle.is_measured = true;
		idle.began_us = world_us;
		idle.calls = calls_count;
		idle.wakeups = calls_wakeups;
		idle.n = n;
		idle.n_beaten = n_beaten;
		idle.bytes = memory_used();
		idle.descriptors = calls_open();
		story("%zu flows are idle: %zu bytes of memory, %zu descriptors, %d workers", n, idle.bytes - idle.empty_bytes,
		    idle.descriptors - idle.empty_descriptors, plan->workers);
		if (idle.bytes > idle.empty_bytes + most_bytes(n))
			wrong("bounded", "%zu bytes for %zu idle flows", idle.bytes - idle.empty_bytes, n);
		if (idle.descriptors > idle.empty_descriptors + 2 * n + OWN_DESCRIPTORS)
			wrong("bounded", "%zu descriptors for %zu idle flows", idle.descriptors - idle.empty_descriptors, n);
		return;
	}
	if (call_faults.spurious == 0 && call_faults.interrupted == 0 && (double)wakeups > most)
		wrong("bounded", "%zu flows, %zu of them with heartbeats, were idle for %.2f h: %zu wake-ups, and not %.0f at most", idle.n,
		    idle.n_beaten, hours, wakeups, most);
	if (call_faults.spurious == 0 && call_faults.interrupted == 0 && (double)calls > most * CALLS)
		wrong("bounded", "%zu flows, %zu of them with heartbeats, were idle for %.2f h: %zu calls, and not %.0f at most", idle.n, idle.n_beaten,
		    hours, calls, most * CALLS);
	if (memory_used() > idle.bytes + OWN_BYTES)
		wrong("bounded", "%zu idle flows need %zu bytes more than %.2f h before", n, memory_used() - idle.bytes, hours);
	if (calls_open() > idle.descriptors)
		wrong("bounded", "%zu idle flows need %zu descriptors more than %.2f h before", n, calls_open() - idle.descriptors, hours);
	if (world_us + 5 * SECONDS < idle.until_us)
		return;
	story("%zu flows were idle for %.2f h: %zu wake-ups, %zu calls, of %.0f and %.0f at most", idle.n, hours, wakeups, calls, most, most * CALLS);
	idle.until_us = 0;
}
