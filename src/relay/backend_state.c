/*
 * backend_state.c - what all workers know of the backends of one route: flows,
 * failures, up or down.
 *
 * A lock guards it, which is taken when a flow connects and when it ends, not by
 * the data path. Places are only added: a flow keeps the place of its backend
 * however the list in the settings changes, so the counts stay right. The
 * addresses of a backend are listed while they have flows, or failed lately.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "relay/backend_parts.h"
#include "stent/clock.h"

#define SHOWN_US (600 * US_PER_S)	/* how long an address without flows is listed after a failure */
#define PLACES_MAX (UINT16_MAX - 1)

struct backends *
backends_new(void)
{
	struct backends *b = calloc(1, sizeof(*b));

	if (b != NULL)
		pthread_mutex_init(&b->lock, NULL);
	return b;
}

static void
free_state(struct backend_state *s)
{
	endpoint_clear(&s->endpoint);
	free(s->at);
	free(s);
}

void
backends_free(struct backends *b)
{
	if (b == NULL)
		return;
	for (size_t i = 0; i < b->n; i++)
		free_state(b->list[i]);
	free(b->list);
	free(b->current);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* --- places --- */

static size_t
find(const struct backends *b, const struct endpoint *ep)
{
	size_t i = 0;

	while (i < b->n && !endpoint_same(&b->list[i]->endpoint, ep))
		i++;
	return i;
}

static int
add(struct backends *b, const struct endpoint *ep)
{
	struct backend_state **list, *s;
	const char *why;

	if (b->n == PLACES_MAX)
		return -ENOSPC;
	list = realloc(b->list, (b->n + 1) * sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	b->list = list;
	s = calloc(1, sizeof(*s));
	if (s == NULL || endpoint_parse(&s->endpoint, ep->text, ENDPOINT_BACKEND, &why) != 0) {
		free(s);
		return -ENOMEM;
	}
	b->list[b->n++] = s;
	return 0;
}

int
backends_adopt(struct backends *b, const struct route *route)
{
	int r = 0;

	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < route->n_backend && r == 0; i++) {
		const size_t place = find(b, &route->backend[i]);

		assert(place <= b->n && b->n <= PLACES_MAX);
		if (place == b->n)
			r = add(b, &route->backend[i]);
		assert(r != 0 || place < b->n);
		route->backend_place[i] = (uint16_t)place;
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

void
backends_forget(struct backend_state *s)
{
	for (size_t i = 0; i < s->n; i++) {
		s->at[i].is_listed = false;
		s->at[i].is = BACKEND_UNKNOWN;
		s->at[i].streak = 0;
		s->at[i].wanted_us = s->at[i].checked_us = 0;
	}
	s->is = BACKEND_UNKNOWN;
	s->why[0] = '\0';
	s->since = 0;
}

void
backends_use(struct backends *b, const struct route *route)
{
	uint16_t *current = malloc(route->n_backend * sizeof(*current));

	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->n; i++)
		b->list[i]->is_in_use = false;
	for (size_t i = 0; i < route->n_backend; i++) {
		assert(route->backend_place[i] < b->n);		/* by backends_adopt() */
		b->list[route->backend_place[i]]->is_in_use = true;
	}
	for (size_t i = 0; i < b->n; i++)
		if (!b->list[i]->is_in_use)
			backends_forget(b->list[i]);
	if (b->has_checks != (route->health.kind != HEALTH_OFF))
		for (size_t i = 0; i < b->n; i++)
			backends_forget(b->list[i]);
	__atomic_store_n(&b->has_checks, route->health.kind != HEALTH_OFF, __ATOMIC_RELAXED);
	free(b->current);
	b->current = current;
	b->n_current = current != NULL ? route->n_backend : 0;	/* out of memory: their state is not shown */
	for (size_t i = 0; i < b->n_current; i++)
		current[i] = route->backend_place[i];
	pthread_mutex_unlock(&b->lock);
}

/* --- flows --- */

/* Redirected flows may have any number of destinations: they are counted together. */
static const struct address *
key_of(const struct backend_state *s, const struct address *a)
{
	static const struct address any = { 0 };

	return s->endpoint.kind == ENDPOINT_ORIGINAL ? &any : a;
}

struct backend_address *
backends_find_address(const struct backend_state *s, const struct address *a)
{
	assert(s->endpoint.kind != ENDPOINT_ORIGINAL || a->family == 0);
	for (size_t i = 0; i < s->n; i++)
		if (memcmp(&s->at[i].address, a, sizeof(*a)) == 0)
			return &s->at[i];
	return NULL;
}

static void
prune(struct backend_state *s)
{
	const int64_t now_us = clock_us();

	for (size_t i = s->n; i-- > 0;)
		if (s->at[i].flows == 0 && !s->at[i].is_listed && s->at[i].wanted_us == 0 && now_us - s->at[i].failed_us > SHOWN_US)
			s->at[i] = s->at[--s->n];
}

static struct backend_address *
add_address(struct backend_state *s, const struct address *a)
{
	if (s->n == s->room)
		prune(s);
	if (s->n == s->room) {
		const size_t room = s->room > 0 ? 2 * s->room : 2;
		struct backend_address *at = realloc(s->at, room * sizeof(*at));

		if (at == NULL)
			return NULL;
		s->at = at;
		s->room = room;
	}
	assert(s->n < s->room);
	s->at[s->n] = (struct backend_address){ .address = *a };
	return &s->at[s->n++];
}

struct backend_address *
backends_take_address(struct backend_state *s, const struct address *a)
{
	struct backend_address *at = backends_find_address(s, a);

	return at != NULL ? at : add_address(s, a);
}

void
backends_drop_address(struct backend_state *s, struct backend_address *at)
{
	assert(at >= s->at && at < s->at + s->n);
	if (at->flows == 0 && at->failed_us == 0 && !at->is_listed && at->wanted_us == 0)
		*at = s->at[--s->n];
}

bool
backends_count(struct backends *b, size_t place, const struct address *a)
{
	struct backend_address *at;
	struct backend_state *s;

	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	s = b->list[place];
	at = backends_take_address(s, key_of(s, a));
	if (at != NULL) {
		at->flows++;
		s->flows++;
		assert(at->flows > 0 && s->flows >= at->flows);
	}
	pthread_mutex_unlock(&b->lock);
	return at != NULL;
}

void
backends_uncount(struct backends *b, size_t place, const struct address *a)
{
	struct backend_address *at;
	struct backend_state *s;

	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	s = b->list[place];
	a = key_of(s, a);
	at = backends_find_address(s, a);
	assert(at != NULL && at->flows > 0 && s->flows >= at->flows);
	s->flows--;
	at->flows--;
	backends_drop_address(s, at);
	pthread_mutex_unlock(&b->lock);
}

void
backends_flows(struct backends *b, const uint16_t *places, size_t n, unsigned *flows)
{
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < n; i++) {
		assert(places[i] < b->n);
		flows[i] = b->list[places[i]]->flows;
	}
	pthread_mutex_unlock(&b->lock);
}

void
backends_flows_of_addresses(struct backends *b, size_t place, const struct address *a, size_t n, unsigned *flows)
{
	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	for (size_t i = 0; i < n; i++) {
		const struct backend_address *at = backends_find_address(b->list[place], key_of(b->list[place], &a[i]));

		flows[i] = at != NULL ? at->flows : 0;
	}
	pthread_mutex_unlock(&b->lock);
}

unsigned
backends_turn(struct backends *b)
{
	return __atomic_fetch_add(&b->turn, 1, __ATOMIC_RELAXED);
}

/* --- up or down --- */

void
backends_note_failure(struct backends *b, size_t place, const struct address *a)
{
	struct backend_address *at;
	struct backend_state *s;

	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	s = b->list[place];
	at = backends_take_address(s, key_of(s, a));
	if (at != NULL)
		at->failed_us = clock_us();
	s->failures++;
	pthread_mutex_unlock(&b->lock);
}

enum backend_is
backends_change(struct backend_state *s, enum backend_is is, const char *why)
{
	const enum backend_is was = s->is;

	if (!s->is_in_use)
		return is;		/* a flow that began before the settings changed: nobody is told */
	if (was != is)
		s->since = (int64_t)time(NULL);
	s->is = is;
	snprintf(s->why, sizeof(s->why), "%s", why);
	return was;
}

enum backend_is
backends_set(struct backends *b, size_t place, enum backend_is is, const char *why)
{
	enum backend_is was = is;

	pthread_mutex_lock(&b->lock);
	assert(place < b->n);
	if (!b->has_checks)		/* else they decide */
		was = backends_change(b->list[place], is, why);
	pthread_mutex_unlock(&b->lock);
	return was;
}

bool
backends_are_all_down(struct backends *b)
{
	bool is_any_left = false;

	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->n_current; i++)
		is_any_left |= b->list[b->current[i]]->is != BACKEND_DOWN;
	pthread_mutex_unlock(&b->lock);
	return !is_any_left;
}

bool
backends_is_down(struct backends *b, size_t index)
{
	bool is_down;

	pthread_mutex_lock(&b->lock);
	is_down = index < b->n_current && b->list[b->current[index]]->is == BACKEND_DOWN;
	pthread_mutex_unlock(&b->lock);
	return is_down;
}

/* --- for the administration --- */

static struct backend_address_facts
address_facts(const struct backend_address *a)
{
	struct backend_address_facts f = {
		.address = a->address, .flows = a->flows, .is = a->is,
		.checked_ms = a->checked_us != 0 ? (clock_us() - a->checked_us) / US_PER_MS : -1, .took_us = a->took_us,
		.failed_ms = a->failed_us != 0 ? (clock_us() - a->failed_us) / US_PER_MS : -1,
	};

	memcpy(f.result, a->result, sizeof(f.result));
	return f;
}

static int
describe(const struct backend_state *s, struct backend_facts *ret)
{
	*ret = (struct backend_facts){
		.is = s->is, .since = s->since, .flows = s->flows, .failures = s->failures,
		.at = calloc(s->n + 1, sizeof(*ret->at)),
	};
	memcpy(ret->why, s->why, sizeof(ret->why));
	if (ret->at == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < s->n; i++)
		ret->at[ret->n++] = address_facts(&s->at[i]);
	assert(ret->n == s->n && s->n <= s->room);
	return 0;
}

int
backends_facts(struct backends *b, size_t index, struct backend_facts *ret)
{
	int r = -ENOENT;

	pthread_mutex_lock(&b->lock);
	if (index < b->n_current)
		r = describe(b->list[b->current[index]], ret);
	pthread_mutex_unlock(&b->lock);
	return r;
}
