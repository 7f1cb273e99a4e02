/*
 * backends.c - which backends of a route answer, as events: a backend is down
 * when a flow could connect to none of its addresses, and up again with the
 * next flow that could. The workers share what they know of it.
 */
#include "relay/ending.h"
#include "relay/shared.h"
#include "stent/events.h"

#define KNOWN 64		/* backends of a route; of later ones nothing is told */

bool
relay_backend_is_down(const struct relay_shared *s, size_t slot, size_t backend)
{
	return backend < KNOWN && (__atomic_load_n(&s->routes[slot]->backends_down, __ATOMIC_RELAXED) & UINT64_C(1) << backend) != 0;
}

void
backend_failed(struct flow *f, size_t backend, enum close_reason reason)
{
	struct route_shared *r = relay_route(f);
	const uint64_t bit = backend < KNOWN ? UINT64_C(1) << backend : 0;

	if ((__atomic_load_n(&r->backends_down, __ATOMIC_RELAXED) & bit) == bit ||
	    (__atomic_fetch_or(&r->backends_down, bit, __ATOMIC_RELAXED) & bit) != 0)
		return;
	events_say(EVENT_BACKEND_DOWN, (struct log_field[]){
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("backend", f->route->backend[backend].text),
	    LOG_TEXT("reason", reason_text(reason)),
	}, 3);
}

void
backend_answered(struct flow *f, size_t backend)
{
	struct route_shared *r = relay_route(f);
	const uint64_t bit = backend < KNOWN ? UINT64_C(1) << backend : 0;

	if ((__atomic_load_n(&r->backends_down, __ATOMIC_RELAXED) & bit) == 0 ||
	    (__atomic_fetch_and(&r->backends_down, ~bit, __ATOMIC_RELAXED) & bit) == 0)
		return;
	events_say(EVENT_BACKEND_UP, (struct log_field[]){
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("backend", f->route->backend[backend].text),
	}, 2);
}
