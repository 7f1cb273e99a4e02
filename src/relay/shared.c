/*
 * shared.c - what the relays of all workers share about the routes.
 *
 * A route is known by its name: each name has a slot, which it keeps when the
 * settings are replaced, also while it is missing from them, since flows may
 * outlive their route. Slots are only added, by the thread that replaces the
 * settings, before a worker sees a route with a new one.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "relay/evict.h"
#include "relay/shared.h"

#define NAMES_MORE 4096		/* limit of names that later settings may add */

static void
free_route(struct route_shared *r)
{
	if (r == NULL)
		return;
	clients_free(&r->clients);
	backends_free(r->backends);
	free(r->name);
	free(r);
}

/* 0 or -ENOMEM. */
static int
add_name(struct relay_shared *s, const struct route *route)
{
	struct route_shared *r = calloc(1, sizeof(*r));

	assert(s->n_routes < s->room);
	if (r != NULL) {
		clients_init(&r->clients);
		r->name = strdup(route->name);
		r->backends = backends_new();
	}
	if (r == NULL || r->name == NULL || r->backends == NULL || backends_adopt(r->backends, route) != 0) {
		free_route(r);
		return -ENOMEM;
	}
	r->codec = route->codec;
	s->routes[s->n_routes] = r;
	__atomic_store_n(&s->n_routes, s->n_routes + 1, __ATOMIC_RELEASE);	/* workers look at it in assertions */
	return 0;
}

struct relay_shared *
relay_shared_new(const struct config *config)
{
	const size_t room = config->n_routes + NAMES_MORE;
	struct relay_shared *s = calloc(1, sizeof(*s) + room * sizeof(s->routes[0]));

	if (s == NULL)
		return NULL;
	s->room = room;
	s->waiting_max = UINT_MAX;
	s->checks_fd = -1;
	pthread_mutex_init(&s->failed.lock, NULL);
	s->n_workers = config->workers;
	for (size_t i = 0; i < config->n_routes; i++) {
		assert(config->routes[i].slot == i);
		if (add_name(s, &config->routes[i]) != 0) {
			relay_shared_free(s);
			return NULL;
		}
	}
	for (size_t i = 0; i < config->n_routes; i++)
		backends_use(s->routes[i]->backends, &config->routes[i]);
	return s;
}

void
relay_shared_free(struct relay_shared *s)
{
	if (s == NULL)
		return;
	evict_tables_free(s);
	for (size_t i = 0; i < s->n_routes; i++)
		free_route(s->routes[i]);
	pthread_mutex_destroy(&s->failed.lock);
	free(s);
}

size_t
relay_shared_room(const struct relay_shared *s)
{
	return s->room;
}

size_t
relay_shared_slots(const struct relay_shared *s)
{
	return s->n_routes;
}

const char *
relay_shared_name(const struct relay_shared *s, size_t slot)
{
	assert(slot < s->n_routes);
	return s->routes[slot]->name;
}

/* The slot of a name; n_routes: it has none. */
static size_t
find_name(const struct relay_shared *s, const char *name)
{
	size_t i = 0;

	while (i < s->n_routes && strcmp(s->routes[i]->name, name) != 0)
		i++;
	return i;
}

int
relay_shared_open(const struct relay_shared *s, unsigned slot)
{
	assert(slot < __atomic_load_n(&s->n_routes, __ATOMIC_ACQUIRE));
	return __atomic_load_n(&s->routes[slot]->open, __ATOMIC_RELAXED);
}

void
relay_shared_count(struct relay_shared *s, unsigned slot, int more)
{
	const int open = __atomic_add_fetch(&s->routes[slot]->open, more, __ATOMIC_RELAXED);

	assert(open >= 0);		/* what is given back was counted */
	(void)open;
}

int
relay_shared_adopt(struct relay_shared *s, struct config *config)
{
	for (size_t i = 0; i < config->n_routes; i++) {
		struct route *route = &config->routes[i];
		const size_t slot = find_name(s, route->name);
		int r;

		if (slot == s->room)
			return -ENOSPC;
		if (slot == s->n_routes)
			r = add_name(s, route);
		else
			r = backends_adopt(s->routes[slot]->backends, route);
		if (r != 0)
			return r;
		assert(slot < s->n_routes && s->n_routes <= s->room);
		route->slot = (unsigned)slot;
	}
	return 0;
}

void
relay_shared_use(struct relay_shared *s, const struct config *config)
{
	for (size_t i = 0; i < config->n_routes; i++) {
		const struct route *route = &config->routes[i];
		struct route_shared *r = s->routes[route->slot];

		assert(strcmp(r->name, route->name) == 0);	/* its slot is that of its name */
		backends_use(r->backends, route);
		clients_sweep(&r->clients, clock_us());
		if (r->codec == route->codec)
			continue;
		r->codec = route->codec;
		for (enum side side = CLIENT; side <= BACKEND; side++)
			trial_forget(&r->trial[side]);
		for (size_t k = 0; k < ROUTE_LOGGED; k++)
			__atomic_store_n(&r->logged[k], NULL, __ATOMIC_RELAXED);
	}
}

struct route_shared *
relay_route(const struct flow *f)
{
	assert(f->route->slot < __atomic_load_n(&f->relay->shared->n_routes, __ATOMIC_ACQUIRE));
	return f->relay->shared->routes[f->route->slot];
}

uint16_t
relay_route_index(const struct flow *f)
{
	assert(f->route->slot <= UINT16_MAX);
	return (uint16_t)f->route->slot;
}

bool
relay_log_once(const struct flow *f, const char *what)
{
	const char **logged = relay_route(f)->logged;

	for (size_t i = 0; i < ROUTE_LOGGED; i++) {
		const char *found = NULL;

		if (__atomic_compare_exchange_n(&logged[i], &found, what, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
		if (found == what)
			return false;
	}
	return false;	/* the set is full; the listing shows the rest */
}
