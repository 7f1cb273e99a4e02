/*
 * admission.c - which clients may have a flow. The rules, in their order: a
 * client in `deny` may not; where there is an `allow`, one that is not in it may
 * not; then the limits of each client (clients.c).
 *
 * A route without such settings costs a new flow three comparisons. Else the
 * clients of the route are behind a lock, for as long as a look into a
 * table takes: at the begin and at the end of a flow.
 */
#include "stent/admission.h"

#include <assert.h>
#include <sys/socket.h>

#include "relay/shared.h"

_Static_assert(ADMISSION_COUNT <= 16, "a flow has four bits for it");

static bool
is_denied(const struct route *route, const struct address *client)
{
	if (route->deny.text != NULL && cidr_set_has(&route->deny.set, client))
		return true;
	return route->allow.text != NULL && !cidr_set_has(&route->allow.set, client);
}

enum admission
admission_enter(struct relay_shared *s, const struct route *route, const struct address *client)
{
	if (client->family != AF_INET && client->family != AF_INET6)
		return ADMITTED;
	if (is_denied(route, client))
		return ADMISSION_DENIED;
	if (route->max_flows_per_client == 0 && route->accept_rate.flows == 0)
		return ADMITTED;
	return clients_enter(&s->routes[route->slot]->clients, route, client, clock_us());
}

void
admission_leave(struct relay_shared *s, unsigned slot, const struct address *client)
{
	clients_leave(&s->routes[slot]->clients, client, clock_us());
}

void
admission_undo(struct relay_shared *s, const struct route *route, const struct address *client, enum admission admitted)
{
	if (client->family != AF_INET && client->family != AF_INET6)
		return;
	if (route->max_flows_per_client > 0 || route->accept_rate.flows > 0)
		clients_undo(&s->routes[route->slot]->clients, route, client, admitted == ADMITTED_COUNTED);
}

enum admission
flow_admit(struct flow *f)
{
	const enum admission a = admission_enter(f->relay->shared, f->route, &f->client);

	assert(f->admission == ADMITTED);
	f->admission = (uint8_t)(a & 15);
	if (admission_is_refused(a))
		counter_add(&counters_of(f)->refusals[a], 1);
	return a;
}

void
flow_leave(struct flow *f)
{
	if (f->admission == ADMITTED_COUNTED)
		admission_leave(f->relay->shared, f->route->slot, &f->client);
	f->admission = ADMITTED;
}
