/*
 * backends.c - what a flow adds to what is known of its backend, and events: a
 * backend is down when a flow could connect to none of its addresses, and up
 * again with the next flow that could. The workers share what they know of it.
 */
#include <assert.h>
#include <errno.h>

#include "relay/dial_state.h"
#include "relay/ending.h"
#include "relay/shared.h"
#include "stent/events.h"

bool
relay_backend_is_down(const struct relay_shared *s, size_t slot, size_t backend)
{
	return backends_is_down(s->routes[slot]->backends, backend);
}

int
relay_backend_facts(struct relay_shared *s, const struct route *route, size_t backend, struct backend_facts *ret)
{
	const int64_t now_us = clock_us();
	const int r = backends_facts(s->routes[route->slot]->backends, backend, ret);

	for (size_t i = 0; i < ret->n && r == 0; i++) {
		const struct target t = { .at = route->backend[backend].addr, .address = ret->at[i].address };
		struct address key;
		const int64_t at_us = failed_retry_at(&s->failed, target_key(&t, &key), route->balance != BALANCE_FIRST, now_us);

		ret->at[i].retry_ms = at_us > now_us ? (at_us - now_us) / US_PER_MS : 0;
	}
	return r;
}

const struct endpoint *
flow_backend(const struct flow *f)
{
	for (size_t i = 0; i < f->route->n_backend; i++)
		if (f->route->backend_place[i] == f->place)
			return &f->route->backend[i];
	return NULL;
}

void
backend_joined(struct flow *f)
{
	assert(!f->is_counted);
	f->is_counted = backends_count(relay_route(f)->backends, f->place, &f->backend);
}

void
backend_left(struct flow *f)
{
	if (f->is_counted)
		backends_uncount(relay_route(f)->backends, f->place, &f->backend);
	f->is_counted = false;
}

void
backend_failed(struct flow *f, size_t backend, enum close_reason reason)
{
	if (backends_set(relay_route(f)->backends, f->route->backend_place[backend], BACKEND_DOWN, reason_text(reason)) == BACKEND_DOWN)
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
	if (backends_set(relay_route(f)->backends, f->route->backend_place[backend], BACKEND_UP, "") != BACKEND_DOWN)
		return;
	events_say(EVENT_BACKEND_UP, (struct log_field[]){
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("backend", f->route->backend[backend].text),
	}, 2);
}
