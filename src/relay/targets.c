/*
 * targets.c - which address a dial tries next, and when.
 *
 * The backends of a route are tried in the order of balance.c, and all addresses
 * of each, with families alternating (RFC 8305). One that failed lately is
 * passed over: it is tried after all others. One that its checks found down is
 * not tried.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "relay/balance.h"
#include "relay/dial_state.h"
#include "relay/original.h"
#include "relay/require.h"
#include "stent/log.h"
#include "stent/socket.h"

#define CHECK_LOOK_US (20 * US_PER_MS)

void
targets_free_deferred(struct dial *d)
{
	struct deferred *p = STAILQ_FIRST(&d->deferred);

	assert(p != NULL);
	STAILQ_REMOVE_HEAD(&d->deferred, link);
	d->n_deferred -= d->n_deferred > 0;	/* dial_check() holds it to the list */
	free(p);
}
/* An even share of the time that is left, for the current attempt. */
static int64_t
share_us(const struct flow *f, int64_t now_us)
{
	const struct dial *d = f->dial;
	size_t others = d->n_deferred;

	require_or(f, d->found == NULL || d->next <= d->found->n, 0);
	if (d->turn < f->route->n_backend)
		others += f->route->n_backend - d->turn - 1;
	if (d->found != NULL)
		others += d->found->n - d->next;	/* next is past the one being tried */
	return (d->deadline_us - now_us) / (int64_t)(others + 1);
}

/* Sets when the next is tried if the one that begins now has not failed by then. */
void
dial_set_next(struct flow *f)
{
	struct dial *d = f->dial;
	const int64_t now_us = clock_us(), share = share_us(f, now_us);
	int64_t wait = share;

	if (d->awaits_check) {
		d->next_us = now_us + CHECK_LOOK_US < d->deadline_us ? now_us + CHECK_LOOK_US : d->deadline_us;
		flow_wake_at(f, d->next_us);
		return;
	}
	d->is_last_of_backend = d->lookup == NULL && (d->found == NULL || d->next == d->found->n);
	if (d->lookup == NULL && !d->is_last_of_backend)
		wait = NEXT_ADDRESS_US;
	else if (d->lookup == NULL && f->route->failover_after_ms > 0)
		wait = f->route->failover_after_ms * US_PER_MS;
	if (d->turn >= f->route->n_backend - 1 && d->is_last_of_backend && d->n_deferred == 0)
		wait = share;		/* nothing else is left to try */
	d->next_us = now_us + (wait < share ? wait : share);
	if (d->next_us > d->deadline_us)
		d->next_us = d->deadline_us;		/* connect_timeout covers all attempts */
	flow_wake_at(f, d->next_us);
}

/* Alternates the families, beginning with that of the first address; within each the order is kept (RFC 8305, 4). */
static void
alternate_families(struct sockaddr_storage *to, const struct sockaddr_storage *from, size_t n)
{
	sa_family_t family = n > 0 ? from[0].ss_family : 0;
	size_t at[2] = { 0, 0 };

	assert(to != from);		/* it is no sort in place */
	for (size_t k = 0; k < n; k++) {
		const size_t turn = k % 2;
		size_t *i = &at[turn];

		while (*i < n && (from[*i].ss_family == family) != (turn == 0))
			++*i;
		if (*i == n) {		/* none of that family is left */
			i = &at[!turn];
			while ((from[*i].ss_family == family) != (turn != 0))
				++*i;
		}
		assert(*i < n);		/* the two have as many left as there are places */
		to[k] = from[(*i)++];
	}
}

int
targets_set_found(struct flow *f, const struct sockaddr_storage *at, size_t n)
{
	struct dial *d = f->dial;

	require_or(f, d->turn < f->route->n_backend, -EIO);	/* they are those of the one whose turn it is */
	free(d->found);
	d->found = malloc(sizeof(*d->found) + n * sizeof(*at));
	if (d->found == NULL) {
		d->last = REASON_MEMORY;
		return -ENOMEM;
	}
	d->found->n = n;
	alternate_families(d->found->at, at, n);
	balance_addresses(f, dial_backend_index(f), d->found->at, n);
	d->next = 0;
	return 0;
}

static void
set_port(struct sockaddr_storage *ss, uint16_t port)
{
	if (ss->ss_family == AF_INET6)
		((struct sockaddr_in6 *)ss)->sin6_port = htons(port);
	else if (ss->ss_family == AF_INET)
		((struct sockaddr_in *)ss)->sin_port = htons(port);
}

static void
note_denied(const struct flow *f, const char *why)
{
	if (relay_log_once(f, why))
		log_say(LEVEL_WARN, "route %s: %s (logged once per route)", f->route->name, why);
}

/* Finds the addresses of the backend being tried. */
static enum have
find_addresses(struct flow *f)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = dial_backend(f);
	const struct host_addresses *known;
	struct sockaddr_storage one;
	int r = 0;

	if (ep->kind == ENDPOINT_NAME) {
		known = resolver_known(f->relay->resolver, ep->host, f->route->dns_ttl_ms);
		if (known != NULL)
			return targets_set_found(f, known->at, known->n) == 0 ? HAVE_ADDRESSES : HAVE_NONE;
		require_or(f, d->lookup == NULL, HAVE_NONE);	/* one at a time */
		d->lookup = resolver_lookup(f->relay->resolver, ep->host, dial_on_looked_up, f);
		if (d->lookup == NULL)
			d->last = REASON_MEMORY;
		return d->lookup != NULL ? HAVE_TO_WAIT : HAVE_NONE;
	}
	if (ep->kind == ENDPOINT_ORIGINAL)
		r = original_find(f, &one);
	else
		one = ep->addr;
	if (r != 0) {
		note_denied(f, r == -ELOOP
		    ? "a client connected to the listener itself: backend = original takes redirected flows only"
		    : "the client's flow was not redirected: no original destination");
		return HAVE_DENIED;
	}
	return targets_set_found(f, &one, 1) == 0 ? HAVE_ADDRESSES : HAVE_NONE;
}

static bool
deferred(struct dial *d, const struct target *t)
{
	struct deferred *p = malloc(sizeof(*p));

	if (p == NULL)
		return false;		/* the caller tries it now instead */
	p->target = *t;
	STAILQ_INSERT_TAIL(&d->deferred, p, link);
	d->n_deferred++;
	return true;
}

static void
take_address(struct flow *f, struct target *t)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = dial_backend(f);

	assert(d->found != NULL && d->next < d->found->n);
	t->at = d->found->at[d->next++];
	if (ep->kind == ENDPOINT_NAME)
		set_port(&t->at, ep->port);
	t->address = address_from_sockaddr((struct sockaddr *)&t->at);
	t->backend = (uint32_t)dial_backend_index(f);
}

/* It failed lately, and another flow tries it when its time has come. */
static bool
is_passed_over(const struct flow *f, const struct target *t)
{
	struct address key;

	return failed_pass_over(&f->relay->shared->failed, target_key(t, &key), f->route->balance != BALANCE_FIRST,
	    f->route->connect_timeout_ms * US_PER_MS, clock_us());
}

/* source = client, and there is no connection from it to this address. It is no failure of the backend. */
static void
leave_out(struct flow *f, const struct address *to)
{
	note_denied(f, f->client.family != to->family ?
	    "source = client: a backend address of another family than the client's is not used; give the backend "
	    "addresses of both families, or listen on the one that it has" :
	    "source = client: the PROXY header names an address that no host has (0.0.0.0, multicast or broadcast); the balancer must name "
	    "its client, or send UNKNOWN");
	if (f->dial->failed == 0)
		f->dial->last = REASON_DENIED;
}

/* By its checks, where there are any. One that was not checked yet is worth waiting for. */
static enum backend_is
health_of(struct flow *f, const struct target *t)
{
	struct relay_shared *s = f->relay->shared;
	bool wanted;
	const enum backend_is is = backends_health(relay_route(f)->backends, f->route->backend_place[t->backend], &t->address, &wanted);
	const int fd = __atomic_load_n(&s->checks_fd, __ATOMIC_RELAXED);

	if (wanted && fd >= 0)
		(void)eventfd_write(fd, 1);
	if (is != BACKEND_UP)
		f->dial->last = REASON_BACKEND_DOWN;
	f->dial->awaits_check = is == BACKEND_UNKNOWN;
	return is;
}

/* The address to try next. */
enum have
targets_next(struct flow *f, struct target *t)
{
	struct dial *d = f->dial;

	require_or(f, d->turn <= f->route->n_backend, HAVE_DENIED);
	while (d->turn < f->route->n_backend && !f->broken) {
		const enum have have = d->found == NULL ? find_addresses(f) : HAVE_ADDRESSES;

		if (have == HAVE_TO_WAIT || have == HAVE_DENIED)
			return have;
		while (have == HAVE_ADDRESSES && d->next < d->found->n) {
			take_address(f, t);
			if (!original_can_source(f, &t->address)) {
				leave_out(f, &t->address);
				continue;
			}
			switch (health_of(f, t)) {
			case BACKEND_UNKNOWN:
				d->next--;
				return HAVE_TO_WAIT;
			case BACKEND_DOWN:
				continue;
			default:
				break;
			}
			if (!is_passed_over(f, t) || !deferred(d, t))
				return HAVE_ADDRESSES;
		}
		free(d->found);
		d->found = NULL;
		d->turn++;
	}
	if (d->n_deferred == 0)
		return HAVE_NONE;
	*t = STAILQ_FIRST(&d->deferred)->target;
	targets_free_deferred(d);
	return HAVE_ADDRESSES;
}
