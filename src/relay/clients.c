/*
 * clients.c - a table of the clients of a route, found by their IP address; IPv6
 * by its /64, as a single host has all addresses of one.
 *
 * The rate is kept as one time (GCRA, a leaky bucket): when the bucket will be
 * full again. Each flow moves it by the interval of the rate; one is too early
 * when that time lies more than a burst ahead. A refused flow moves nothing.
 *
 * A client is forgotten when it has no flow and its bucket is full. Those
 * without flows are in a list by when they came last, which is also bounded:
 * whoever owns a million addresses cannot fill the memory, and gains no more than
 * a burst for each that was forgotten early.
 */
#include "relay/clients.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "stent/clock.h"

#define BUCKETS_MIN 64
#define SWEEP_AT_ONCE 4
#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)

struct client {
	struct client *next;		/* in its bucket */
	TAILQ_ENTRY(client) idle;	/* without flows */
	uint64_t key;			/* the address, or the upper half of an IPv6 address */
	int64_t full_at_ns;		/* when it may come with a whole burst again */
	uint32_t flows;			/* that are counted */
	uint16_t family;
};

void
clients_init(struct client_table *t)
{
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	TAILQ_INIT(&t->idle);
	if (getrandom(t->seed, sizeof(t->seed), GRND_NONBLOCK) != (ssize_t)sizeof(t->seed))
		t->seed[0] = (uint64_t)clock_us();
}

void
clients_free(struct client_table *t)
{
	for (size_t i = 0; i < t->room; i++)
		for (struct client *next, *c = t->buckets[i]; c != NULL; c = next) {
			next = c->next;
			free(c);
		}
	free(t->buckets);
	pthread_mutex_destroy(&t->lock);
}

static uint64_t
key_of(const struct address *a)
{
	uint64_t key = 0;

	assert(a->family == AF_INET || a->family == AF_INET6);	/* others have no address to be known by */
	memcpy(&key, a->ip, a->family == AF_INET ? 4 : 8);
	return key;
}

static size_t
bucket_of(const struct client_table *t, uint64_t key, uint16_t family)
{
	uint64_t h = (key ^ t->seed[0]) + family;

	assert(t->room > 0 && (t->room & (t->room - 1)) == 0);	/* its mask */
	for (int i = 0; i < 2; i++) {
		h ^= h >> 32;
		h *= UINT64_C(0x9e3779b97f4a7c15);
		h += t->seed[1];
	}
	return (h ^ h >> 29) & (t->room - 1);
}

/* Where the pointer to this client is, or belongs. */
static struct client **
find(struct client_table *t, const struct address *a)
{
	const uint64_t key = key_of(a);
	struct client **at = &t->buckets[bucket_of(t, key, a->family)];

	while (*at != NULL && ((*at)->key != key || (*at)->family != a->family))
		at = &(*at)->next;
	return at;
}

/* 0 or -1: out of memory. With too few buckets it goes on, only slower. */
static int
make_room(struct client_table *t)
{
	const size_t had = t->room, room = had > 0 ? 2 * had : BUCKETS_MIN;
	struct client **before = t->buckets, **buckets;

	if (t->n < had)
		return 0;
	buckets = calloc(room, sizeof(*buckets));
	if (buckets == NULL)
		return had > 0 ? 0 : -1;
	assert(room > t->n);
	t->buckets = buckets;
	t->room = room;
	for (size_t i = 0; i < had; i++)
		for (struct client *next, *c = before[i]; c != NULL; c = next) {
			struct client **at = &t->buckets[bucket_of(t, c->key, c->family)];

			next = c->next;
			c->next = *at;
			*at = c;
		}
	free(before);
	return 0;
}

/* --- those without flows --- */

static void
put_last(struct client_table *t, struct client *c)
{
	assert(c->flows == 0);
	TAILQ_INSERT_TAIL(&t->idle, c, idle);
	t->n_idle++;
	assert(t->n_idle <= t->n);
}

static void
take_out(struct client_table *t, struct client *c)
{
	assert(t->n_idle > 0 && t->n_idle <= t->n);
	TAILQ_REMOVE(&t->idle, c, idle);
	t->n_idle--;
	assert((t->n_idle == 0) == TAILQ_EMPTY(&t->idle));
}

static void
forget(struct client_table *t, struct client *c)
{
	struct client **at = &t->buckets[bucket_of(t, c->key, c->family)];

	assert(c->flows == 0);
	while (*at != c) {
		assert(*at != NULL);		/* it is in the bucket of its key */
		at = &(*at)->next;
	}
	*at = c->next;
	take_out(t, c);
	free(c);
	t->n--;
}

/* A few at each call are as many as come: the table does not grow by those that could be forgotten. */
static void
sweep(struct client_table *t, int64_t now_ns, size_t most)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&t->idle)) != NULL && most-- > 0 && (c->full_at_ns <= now_ns || t->n_idle > CLIENTS_WITHOUT_FLOWS))
		forget(t, c);
}

void
clients_sweep(struct client_table *t, int64_t now_us)
{
	pthread_mutex_lock(&t->lock);
	sweep(t, now_us * NS_PER_US, SIZE_MAX);
	pthread_mutex_unlock(&t->lock);
}

/* --- */

static int64_t
interval_of(const struct accept_rate *rate)
{
	return rate->per_ms * NS_PER_MS / rate->flows;
}

/* The bucket takes one more flow. False: it is empty. */
static bool
take_token(struct client *c, const struct accept_rate *rate, int64_t now_ns)
{
	const int64_t interval_ns = interval_of(rate), most_ns = interval_ns * rate->burst;

	assert(rate->flows > 0 && rate->burst > 0 && interval_ns > 0);
	if (c->full_at_ns < now_ns)
		c->full_at_ns = now_ns;
	if (c->full_at_ns > now_ns + most_ns)
		c->full_at_ns = now_ns + most_ns;	/* of settings with a slower rate */
	if (c->full_at_ns > now_ns + most_ns - interval_ns)
		return false;
	c->full_at_ns += interval_ns;
	assert(c->full_at_ns > now_ns && c->full_at_ns <= now_ns + most_ns);	/* never more than a burst ahead */
	return true;
}

static enum admission
enter(struct client_table *t, const struct route *route, const struct address *address, int64_t now_ns)
{
	struct client **at, *c;

	sweep(t, now_ns, SWEEP_AT_ONCE);
	if (make_room(t) != 0)
		return ADMISSION_MEMORY;
	at = find(t, address);
	c = *at;
	if (c == NULL) {
		c = calloc(1, sizeof(*c));
		if (c == NULL)
			return ADMISSION_MEMORY;
		c->key = key_of(address);
		c->family = address->family;
		*at = c;
		t->n++;
	} else if (c->flows == 0) {
		take_out(t, c);
	}
	if (c->flows == 0)
		put_last(t, c);
	if (route->max_flows_per_client > 0 && c->flows >= (uint32_t)route->max_flows_per_client)
		return ADMISSION_MAX_FLOWS_PER_CLIENT;
	if (route->accept_rate.flows > 0 && !take_token(c, &route->accept_rate, now_ns))
		return ADMISSION_ACCEPT_RATE;
	if (route->max_flows_per_client == 0)
		return ADMITTED;
	if (c->flows++ == 0)
		take_out(t, c);
	assert(c->flows <= (uint32_t)route->max_flows_per_client);
	return ADMITTED_COUNTED;
}

enum admission
clients_enter(struct client_table *t, const struct route *route, const struct address *client, int64_t now_us)
{
	enum admission a;

	pthread_mutex_lock(&t->lock);
	a = enter(t, route, client, now_us * NS_PER_US);
	pthread_mutex_unlock(&t->lock);
	return a;
}

void
clients_leave(struct client_table *t, const struct address *client, int64_t now_us)
{
	struct client *c;

	pthread_mutex_lock(&t->lock);
	c = *find(t, client);
	assert(c != NULL && c->flows > 0);
	if (--c->flows == 0)
		put_last(t, c);
	sweep(t, now_us * NS_PER_US, SWEEP_AT_ONCE);
	pthread_mutex_unlock(&t->lock);
}

void
clients_undo(struct client_table *t, const struct route *route, const struct address *client, bool is_counted)
{
	struct client *c;

	pthread_mutex_lock(&t->lock);
	c = t->room > 0 ? *find(t, client) : NULL;
	assert(c != NULL || !is_counted);
	if (c != NULL && route->accept_rate.flows > 0)
		c->full_at_ns -= interval_of(&route->accept_rate);
	if (is_counted && --c->flows == 0)
		put_last(t, c);
	pthread_mutex_unlock(&t->lock);
}
