/*
 * backend_checks.c - which backends pass their checks.
 *
 * Each address of a backend is up or down by its own checks, the first of which
 * decides alone; after that it takes health_rise or health_fall in a row. A
 * backend is up while one of its addresses is. The checks themselves are made by
 * worker/health.c.
 */
#include <assert.h>
#include <stdio.h>

#include "relay/backend_parts.h"
#include "relay/shared.h"
#include "stent/clock.h"
#include "stent/events.h"
#include "stent/log.h"

#define WANTED_US (60 * US_PER_S)	/* how long an address that only flows found is checked */

enum backend_is
backends_health(struct backends *b, size_t place, const struct address *a, bool *wanted)
{
	enum backend_is is = BACKEND_UP;
	struct backend_address *at;
	struct backend_state *s;

	*wanted = false;
	if (!__atomic_load_n(&b->has_checks, __ATOMIC_RELAXED))
		return BACKEND_UP;
	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	s = b->list[place];
	if (b->has_checks && s->is_in_use) {
		at = backends_take_address(s, a);
		is = at != NULL ? at->is : BACKEND_UP;		/* without memory it is tried */
		if (at != NULL && !at->is_listed) {
			*wanted = at->wanted_us == 0;
			at->wanted_us = clock_us();
		}
	}
	pthread_mutex_unlock(&b->lock);
	return is;
}

/* Checks decide about it. */
static bool
is_checked(const struct backend_address *a)
{
	return a->is_listed || a->wanted_us != 0;
}

static void
forget_old(struct backend_state *s, int64_t now_us)
{
	for (size_t i = s->n; i-- > 0;) {
		struct backend_address *at = &s->at[i];

		if (at->wanted_us != 0 && now_us - at->wanted_us > WANTED_US)
			at->wanted_us = 0;
		if (!is_checked(at) && at->flows == 0) {
			at->is = BACKEND_UNKNOWN;
			backends_drop_address(s, at);
		}
	}
}

size_t
backends_list(struct backends *b, size_t place, const struct address *found, size_t n, struct address *ret, size_t max)
{
	struct backend_state *s;
	size_t k = 0;

	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	s = b->list[place];
	for (size_t i = 0; i < s->n; i++)
		s->at[i].is_listed = false;
	for (size_t i = 0; i < n; i++) {
		struct backend_address *at = backends_take_address(s, &found[i]);

		if (at != NULL)
			at->is_listed = true;
	}
	forget_old(s, clock_us());
	/* With flows, too, as on_unhealthy may close them. */
	for (size_t i = 0; i < s->n && k < max; i++)
		if (is_checked(&s->at[i]) || s->at[i].flows > 0)
			ret[k++] = s->at[i].address;
	assert(k <= max && k <= s->n);
	pthread_mutex_unlock(&b->lock);
	return k;
}

static void
judge(struct backend_address *at, const struct backend_check *r)
{
	const enum backend_is found = r->passed ? BACKEND_UP : BACKEND_DOWN;

	assert(r->rise > 0 && r->fall > 0 && at->streak >= 0);
	at->checked_us = clock_us();
	at->took_us = r->took_us;
	snprintf(at->result, sizeof(at->result), "%s", r->text);
	if (at->is == found) {
		at->streak = 0;
		return;
	}
	at->streak++;
	if (at->is != BACKEND_UNKNOWN && at->streak < (r->passed ? r->rise : r->fall))
		return;
	at->is = found;
	at->streak = 0;
}

/* Up while an address is; unknown until all have been checked. */
static enum backend_is
sum(const struct backend_state *s)
{
	bool is_unknown = false;

	for (size_t i = 0; i < s->n; i++) {
		if (!is_checked(&s->at[i]))
			continue;
		if (s->at[i].is == BACKEND_UP)
			return BACKEND_UP;
		is_unknown |= s->at[i].is == BACKEND_UNKNOWN;
	}
	return is_unknown ? BACKEND_UNKNOWN : BACKEND_DOWN;
}

struct check_change
backends_checked(struct backends *b, size_t place, const struct address *a, const struct backend_check *r)
{
	struct check_change c = { BACKEND_UNKNOWN, BACKEND_UNKNOWN, BACKEND_UNKNOWN, BACKEND_UNKNOWN };
	struct backend_address *at = NULL;
	struct backend_state *s;

	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	s = b->list[place];
	if (a != NULL)
		at = backends_find_address(s, a);
	if (at != NULL) {
		c.address_was = at->is;
		judge(at, r);
		c.address_is = at->is;
	}
	if ((a == NULL || at != NULL) && b->has_checks) {
		c.backend_is = sum(s);
		c.backend_was = backends_change(s, c.backend_is, c.backend_is == BACKEND_DOWN ? r->text : "");
	}
	pthread_mutex_unlock(&b->lock);
	return c;
}

/* --- for worker/health.c --- */

void
relay_shared_checks_fd(struct relay_shared *s, int fd)
{
	__atomic_store_n(&s->checks_fd, fd, __ATOMIC_RELAXED);
}

size_t
relay_backend_addresses(struct relay_shared *s, const struct route *route, size_t backend, const struct address *found, size_t n,
    struct address *ret, size_t max)
{
	return backends_list(s->routes[route->slot]->backends, route->backend_place[backend], found, n, ret, max);
}

static void
say_backend(const struct route *route, size_t backend, const struct check_change *c, const char *text)
{
	const char *name = route->backend[backend].text;

	if (c->backend_is == c->backend_was || c->backend_is == BACKEND_UNKNOWN)
		return;
	log_say(c->backend_is == BACKEND_DOWN ? LEVEL_WARN : LEVEL_INFO, "route %s: backend %s is %s by its check (%s)", route->name, name,
	    backend_is_text(c->backend_is), text);
	if (c->backend_is == BACKEND_DOWN)
		events_say(EVENT_BACKEND_DOWN, (struct log_field[]){
		    LOG_TEXT("route", route->name), LOG_TEXT("backend", name), LOG_TEXT("reason", text),
		}, 3);
	else if (c->backend_was == BACKEND_DOWN)
		events_say(EVENT_BACKEND_UP, (struct log_field[]){ LOG_TEXT("route", route->name), LOG_TEXT("backend", name) }, 2);
}

bool
relay_backend_checked(struct relay_shared *s, const struct route *route, size_t backend, const struct address *a,
    const struct backend_check *found)
{
	const struct check_change c = backends_checked(s->routes[route->slot]->backends, route->backend_place[backend], a, found);

	say_backend(route, backend, &c, found->text);
	return c.address_is == BACKEND_DOWN && c.address_was != BACKEND_DOWN;
}
