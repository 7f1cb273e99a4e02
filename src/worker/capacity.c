/*
 * capacity.c - is there room for one more flow: in the process, and in its route.
 *
 * With when_full = evict a table that is full for the moment lets its clients
 * wait in the kernel's queue, as flows are about to go; but not for long, since
 * the clients of all routes wait with them.
 */
#include "stent/clock.h"
#include "stent/evict.h"
#include "stent/log.h"
#include "worker/listener.h"

#define WAIT_MAX_US (50 * US_PER_MS)
#define TOLD_EVERY_US (60 * US_PER_S)

static void
wake(void *arg, int index)
{
	struct acceptor *a = arg;

	worker_make_room(a->workers[index], index == 0);
}

static int
open_flows(const struct acceptor *a)
{
	int n = 0;

	for (size_t i = 0; i < a->n_workers; i++)
		n += worker_flows(a->workers[i]);
	return n;
}

static enum evict_room
look(struct acceptor *a, unsigned slot, int open, int max_flows, bool evicts)
{
	const struct evict_caller caller = { wake, a };

	if (open < max_flows)
		return EVICT_ROOM;
	return evicts ? evict_look(a->shared, slot, open, max_flows, &caller) : EVICT_FULL;
}

static bool
may_wait(struct acceptor *a)
{
	const int64_t now_us = clock_us();

	if (a->wait_until_us == 0)
		a->wait_until_us = now_us + WAIT_MAX_US;
	return now_us < a->wait_until_us;
}

bool
capacity_look(struct acceptor *a, const struct route *route, enum admission *cause)
{
	const bool is_limited = route->max_flows > 0;
	const enum evict_room all = look(a, EVICT_ALL, open_flows(a), a->max_flows, a->evicts);
	const enum evict_room own = is_limited && all == EVICT_ROOM ? look(a, route->slot, relay_shared_open(a->shared, route->slot),
	    route->max_flows, route->when_full == WHEN_FULL_EVICT) : EVICT_ROOM;

	*cause = all != EVICT_ROOM ? ADMISSION_MAX_FLOWS : own != EVICT_ROOM ? ADMISSION_ROUTE_MAX_FLOWS : ADMITTED;
	if (*cause != ADMITTED && (all == EVICT_WAIT || own == EVICT_WAIT) && may_wait(a))
		return false;
	if (*cause == ADMITTED)
		a->wait_until_us = 0;
	return true;
}

static void
prepare(struct acceptor *a, const struct route *route, int open, int max_flows)
{
	const struct evict_caller caller = { wake, a };
	const int64_t now_us = clock_us();

	if (!evict_prepare(a->shared, route != NULL ? route->slot : EVICT_ALL, open, max_flows, &caller) ||
	    (a->evict_told_us != 0 && now_us - a->evict_told_us < TOLD_EVERY_US))
		return;
	a->evict_told_us = now_us;
	log_say(LEVEL_WARN, "%s%s%smax_flows = %d is almost reached: idle flows end, to make room for new ones (when_full = evict)",
	    route != NULL ? "route " : "", route != NULL ? route->name : "", route != NULL ? ": " : "", max_flows);
}

void
capacity_take(struct acceptor *a, const struct route *route)
{
	if (a->evicts)
		prepare(a, NULL, open_flows(a), a->max_flows);
	if (route->max_flows > 0 && route->when_full == WHEN_FULL_EVICT)
		prepare(a, route, relay_shared_open(a->shared, route->slot), route->max_flows);
}
