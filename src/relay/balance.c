/*
 * balance.c - the order in which a flow tries the backends, and the addresses of each.
 *
 * Each gets a key, and those with the smallest keys are tried first. least-flows:
 * the number of flows; equal ones take turns. hash-client: a hash of the client's
 * address and the backend (rendezvous hashing): when a backend is removed, its
 * clients alone go elsewhere, spread over the others.
 */
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "relay/balance.h"
#include "relay/shared.h"

_Static_assert(BALANCE_MAX <= UINT16_MAX, "an index of the order");

struct ranked {
	uint64_t key;
	size_t index;
};

/* FNV-1a, and the finalizer of SplitMix64, as similar inputs must give unlike keys. */
static uint64_t
hash(uint64_t h, const void *bytes, size_t n)
{
	for (const uint8_t *b = bytes; n > 0; n--)
		h = (h ^ *b++) * UINT64_C(0x100000001b3);
	h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
	return h ^ h >> 31;
}

uint64_t
balance_hash(const struct address *client, const void *what, size_t len)
{
	return hash(hash(UINT64_C(0xcbf29ce484222325), client->ip, sizeof(client->ip)), what, len);
}

static int
compare(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* Fills in the order; among equal keys the one at `first` comes first. */
static void
rank(struct ranked *r, size_t n, size_t first, uint16_t *order)
{
	assert(n > 0 && n <= BALANCE_MAX && first < n);
	for (size_t i = 0; i < n; i++)
		r[i].index = (i + n - first) % n;
	qsort(r, n, sizeof(*r), compare);
	for (size_t i = 0; i < n; i++) {
		order[i] = (uint16_t)((r[i].index + first) % n);
		assert(order[i] < n);
	}
}

uint16_t *
balance_backends(const struct flow *f)
{
	const struct route *route = f->route;
	const size_t n = route->n_backend;
	struct backends *b = relay_route(f)->backends;
	unsigned flows[BALANCE_MAX] = { 0 };
	struct ranked r[BALANCE_MAX];
	uint16_t *order = route->balance != BALANCE_FIRST && n > 1 ? calloc(n, sizeof(*order)) : NULL;
	const size_t k = n < BALANCE_MAX ? n : BALANCE_MAX;

	if (order == NULL)
		return NULL;
	assert(n <= UINT16_MAX);
	for (size_t i = 0; i < n; i++)
		order[i] = (uint16_t)i;
	if (route->balance == BALANCE_LEAST_FLOWS)
		backends_flows(b, route->backend_place, k, flows);
	for (size_t i = 0; i < k; i++)
		r[i].key = route->balance == BALANCE_LEAST_FLOWS ? flows[i]
		    : balance_hash(&f->client, route->backend[i].text, strlen(route->backend[i].text));
	rank(r, k, route->balance == BALANCE_LEAST_FLOWS ? backends_turn(b) % k : 0, order);
	return order;
}

void
balance_addresses(const struct flow *f, size_t backend, struct sockaddr_storage *at, size_t n)
{
	const struct route *route = f->route;
	struct backends *b = relay_route(f)->backends;
	struct sockaddr_storage found[BALANCE_MAX];
	struct address a[BALANCE_MAX];
	unsigned flows[BALANCE_MAX] = { 0 };
	struct ranked r[BALANCE_MAX];
	uint16_t order[BALANCE_MAX];
	const size_t k = n < BALANCE_MAX ? n : BALANCE_MAX;

	if (route->balance == BALANCE_FIRST || k < 2)
		return;
	memcpy(found, at, k * sizeof(*at));
	for (size_t i = 0; i < k; i++) {
		a[i] = address_from_sockaddr((struct sockaddr *)&at[i]);
		a[i].port = route->backend[backend].port;
	}
	if (route->balance == BALANCE_LEAST_FLOWS)
		backends_flows_of_addresses(b, route->backend_place[backend], a, k, flows);
	for (size_t i = 0; i < k; i++)
		r[i].key = route->balance == BALANCE_LEAST_FLOWS ? flows[i] : balance_hash(&f->client, a[i].ip, sizeof(a[i].ip));
	rank(r, k, route->balance == BALANCE_LEAST_FLOWS ? backends_turn(b) % k : 0, order);
	for (size_t i = 0; i < k; i++)
		at[i] = found[order[i]];
}
