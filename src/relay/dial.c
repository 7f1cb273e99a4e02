/*
 * dial.c - connects a flow to a backend.
 *
 * The backends of a route are tried in order, and all addresses of each, with
 * families alternating (RFC 8305, "Happy Eyeballs"). When one has not answered
 * after 250 ms, the next is tried in parallel; the first to connect gets the
 * flow. Between backends that delay is failover_after, as a standby may have to
 * wait until the one before it has failed. An address that timed out is tried
 * last for a while (failed.c), so that only one flow pays for a black hole.
 *
 * connect_timeout covers all attempts; each delay is at most an even share of
 * what is left of it. The first attempt uses the flow's own leg, which makes
 * the normal case cheap; attempts in parallel have events of their own.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/dial.h"
#include "relay/ending.h"
#include "relay/preface.h"
#include "relay/shared.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

#define NEXT_ADDRESS_US (250 * US_PER_MS)	/* RFC 8305's Connection Attempt Delay */
#define PARALLEL_MAX 3
#define DENIED_AFTER_US (50 * US_PER_MS)

/* An address of a backend. */
struct target {
	struct sockaddr_storage at;
	struct address address;
	size_t backend;			/* of the route's list */
};

struct deferred {
	STAILQ_ENTRY(deferred) link;
	struct target target;
};

/* A connection under way. */
struct attempt {
	TAILQ_ENTRY(attempt) link;	/* of the parallel ones */
	struct event ev;
	struct flow *flow;
	struct target target;
	int64_t began_us;
};

struct dial {
	size_t backend;			/* whose addresses are tried */
	struct host_addresses *found;	/* its addresses; NULL: not known yet */
	size_t next;			/* index into found */
	STAILQ_HEAD(, deferred) deferred;	/* failed recently: tried after all others */
	size_t n_deferred;
	struct lookup *lookup;		/* under way; NULL: none */
	struct attempt own;		/* on the flow's own leg; under way while that has a socket */
	TAILQ_HEAD(, attempt) parallel;
	size_t n_parallel;
	uint64_t failed;		/* a set of backends, by index, of which an address failed */
	bool is_last_of_backend;	/* of the newest attempt: the next one is to another backend */
	int64_t deadline_us;		/* connect_timeout */
	int64_t next_us;		/* then continue without the lookup, or with a parallel attempt */
	enum close_reason last;		/* why the last one failed */
	struct preface *preface;	/* owned; NULL: none */
};

static struct verdict step(struct flow *f);
static struct verdict all_failed(struct flow *f);

static void
free_parallel(struct dial *d, struct attempt *a)
{
	const int fd = event_get_fd(&a->ev);

	event_del(&a->ev);
	if (fd >= 0)
		socket_reset(fd);
	TAILQ_REMOVE(&d->parallel, a, link);
	assert(d->n_parallel > 0);
	d->n_parallel--;
	free(a);
}

static void
free_deferred(struct dial *d)
{
	struct deferred *p = STAILQ_FIRST(&d->deferred);

	STAILQ_REMOVE_HEAD(&d->deferred, link);
	d->n_deferred--;
	free(p);
}

void
dial_free(struct dial *d)
{
	if (d == NULL)
		return;
	if (d->lookup != NULL)
		lookup_cancel(d->lookup);
	while (!TAILQ_EMPTY(&d->parallel))
		free_parallel(d, TAILQ_FIRST(&d->parallel));
	while (!STAILQ_EMPTY(&d->deferred))
		free_deferred(d);
	free(d->found);
	preface_free(d->preface);
	free(d);
}

struct preface *
dial_preface(const struct dial *d)
{
	return d->preface;
}

struct preface *
dial_take_preface(struct dial *d)
{
	struct preface *p = d->preface;

	d->preface = NULL;
	return p;
}

static const struct endpoint *
backend_of(const struct flow *f)
{
	return &f->route->backend[f->dial->backend];
}

static enum close_reason
reason_of(int err)
{
	switch (err) {
	case ECONNREFUSED:
	case ENOENT:		/* no such UNIX socket */
	case EAGAIN:		/* its queue is full */
		return REASON_BACKEND_REFUSED;
	case ETIMEDOUT:
		return REASON_BACKEND_CONNECT_TIMEOUT;
	case EMFILE:
	case ENFILE:
		return REASON_LIMIT;
	default:
		return reason_from_errno(BACKEND, err, NULL, false);
	}
}

static uint64_t
bit_of(size_t backend)
{
	return backend < 64 ? UINT64_C(1) << backend : 0;
}

static enum connect_result
result_of(enum close_reason reason)
{
	switch (reason) {
	case REASON_BACKEND_REFUSED:
	case REASON_BACKEND_RESET:
		return CONNECT_REFUSED;
	case REASON_BACKEND_CONNECT_TIMEOUT:
		return CONNECT_TIMEOUT;
	case REASON_BACKEND_LOOKUP:
		return CONNECT_LOOKUP;
	default:
		return CONNECT_ERROR;
	}
}

static void
note_failure(struct flow *f, const struct endpoint *backend, enum close_reason reason, const char *what)
{
	struct dial *d = f->dial;
	struct relay *r = f->relay;
	const int64_t now_us = clock_us();

	counter_add(&counters_of(f)->connects[result_of(reason)], 1);
	d->last = reason;
	if (reason != REASON_LIMIT && reason != REASON_MEMORY)
		d->failed |= bit_of((size_t)(backend - f->route->backend));
	/* This is for failover; once a second is enough, as the end of each flow is logged anyway. */
	if (now_us - r->warned_us < US_PER_S)
		return;
	r->warned_us = now_us;
	log_say(LEVEL_WARN, "route %s: backend %s: %s (%s)", f->route->name, backend->text, reason_text(reason), what);
}

/* An attempt failed. err: an errno. */
static void
attempt_failed(struct flow *f, const struct attempt *a, int err)
{
	const int64_t now_us = clock_us();
	char text[2 * ADDRESS_TEXT_MAX + 128], to[ADDRESS_TEXT_MAX];

	address_text(&a->target.address, to);
	if (err == EADDRNOTAVAIL)
		snprintf(text, sizeof(text), "no local port toward %s: %s", to, a->target.address.family == AF_INET6
		    ? "all of net.ipv4.ip_local_port_range are taken, or this machine has no IPv6 address"
		    : "all of net.ipv4.ip_local_port_range are taken; widen it, or give the backend further addresses");
	else if (err == EAFNOSUPPORT)
		snprintf(text, sizeof(text), "%s: this machine does not support the address family, or the sandbox of this process "
		    "does not allow it (RestrictAddressFamilies= of systemd)", to);
	else
		snprintf(text, sizeof(text), "%s: %s", to, err == ETIMEDOUT ? "no answer in time" : strerror(err));
	note_failure(f, &f->route->backend[a->target.backend], reason_of(err), text);
	/* A refusal is not a timeout, even if it came late. */
	if (now_us - a->began_us >= NEXT_ADDRESS_US && a->target.address.family != AF_UNIX && err != ECONNREFUSED)
		failed_add(&f->relay->failed, &a->target.address, now_us);
}

static void
drop_own(struct flow *f)
{
	struct leg *l = leg_of(f, BACKEND);

	if (!transport_is_open(&l->transport))
		return;
	event_del(&l->ev);
	transport_close(&l->transport, TRANSPORT_RESET);
	flow_init_leg(f, BACKEND, -1);
	l->readable = l->hup = false;
}

static bool
is_own_under_way(struct flow *f)
{
	return transport_is_open(&leg_of(f, BACKEND)->transport);
}

static bool
is_any_under_way(struct flow *f)
{
	return is_own_under_way(f) || f->dial->n_parallel > 0;
}

/* Ends all attempts as timed out. */
static void
time_out_attempts(struct flow *f)
{
	struct dial *d = f->dial;
	struct attempt *a;

	if (is_own_under_way(f)) {
		attempt_failed(f, &d->own, ETIMEDOUT);
		drop_own(f);
	}
	while ((a = TAILQ_FIRST(&d->parallel)) != NULL) {
		attempt_failed(f, a, ETIMEDOUT);
		free_parallel(d, a);
	}
}

/* An even share of the time that is left, for the current attempt. */
static int64_t
share_us(const struct flow *f, int64_t now_us)
{
	const struct dial *d = f->dial;
	size_t others = d->n_deferred;

	assert(d->found == NULL || d->next <= d->found->n);

	if (d->backend < f->route->n_backend)
		others += f->route->n_backend - d->backend - 1;
	if (d->found != NULL)
		others += d->found->n - d->next;	/* next is past the one being tried */
	return (d->deadline_us - now_us) / (int64_t)(others + 1);
}

/* Sets when the next is tried if the one that begins now has not failed by then. */
static void
set_next(struct flow *f)
{
	struct dial *d = f->dial;
	const int64_t now_us = clock_us(), share = share_us(f, now_us);
	int64_t wait = share;

	d->is_last_of_backend = d->lookup == NULL && (d->found == NULL || d->next == d->found->n);
	if (d->lookup == NULL && !d->is_last_of_backend)
		wait = NEXT_ADDRESS_US;
	else if (d->lookup == NULL && f->route->failover_after_ms > 0)
		wait = f->route->failover_after_ms * US_PER_MS;
	if (d->backend >= f->route->n_backend - 1 && d->is_last_of_backend && d->n_deferred == 0)
		wait = share;		/* nothing else is left to try */
	d->next_us = now_us + (wait < share ? wait : share);
	flow_wake_at(f, d->next_us);
}

/* Alternates the families, beginning with that of the first address; within each the order is kept (RFC 8305, 4). */
static void
alternate_families(struct sockaddr_storage *to, const struct sockaddr_storage *from, size_t n)
{
	sa_family_t family = n > 0 ? from[0].ss_family : 0;
	size_t at[2] = { 0, 0 };

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
		to[k] = from[(*i)++];
	}
}

static int
set_found(struct dial *d, const struct sockaddr_storage *at, size_t n)
{
	free(d->found);
	d->found = malloc(sizeof(*d->found) + n * sizeof(*at));
	if (d->found == NULL) {
		d->last = REASON_MEMORY;
		return -ENOMEM;
	}
	d->found->n = n;
	alternate_families(d->found->at, at, n);
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

/* A redirected flow's original destination. -ELOOP: it is our own listener, to which the flow would return forever. */
static int
find_original(struct flow *f, struct sockaddr_storage *ret)
{
	const int fd = leg_of(f, CLIENT)->transport.fd;
	struct sockaddr_storage own;
	struct address a, b;
	socklen_t len = sizeof(own);
	int r = socket_original_destination(fd, ret, &len);

	if (r != 0)
		return r;
	len = sizeof(own);
	if (getsockname(fd, (struct sockaddr *)&own, &len) != 0)
		return -errno;
	a = address_from_sockaddr((struct sockaddr *)ret);
	b = address_from_sockaddr((struct sockaddr *)&own);
	return memcmp(&a, &b, sizeof(a)) == 0 ? -ELOOP : 0;
}

/* Continues with the result of the lookup; NULL: none. */
static struct verdict
looked_up(struct flow *f, const struct host_addresses *list, const char *why_not)
{
	struct dial *d = f->dial;

	d->lookup = NULL;
	if (list == NULL) {
		note_failure(f, backend_of(f), REASON_BACKEND_LOOKUP, why_not);
		d->backend++;
	} else if (set_found(d, list->at, list->n) != 0) {
		return VERDICT_CONNECT_FAILED(REASON_MEMORY);
	}
	return step(f);
}

static void
on_looked_up(void *arg, const struct host_addresses *list)
{
	flow_apply(arg, looked_up(arg, list, "its name was not found"));
}

static void
note_denied(const struct flow *f, const char *why)
{
	if (relay_log_once(f, why))
		log_say(LEVEL_WARN, "route %s: %s (logged once per route)", f->route->name, why);
}

enum have { HAVE_ADDRESSES, HAVE_TO_WAIT, HAVE_NONE, HAVE_DENIED };

/* Finds the addresses of the backend being tried. */
static enum have
find_addresses(struct flow *f)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = backend_of(f);
	const struct host_addresses *known;
	struct sockaddr_storage one;
	int r = 0;

	if (ep->kind == ENDPOINT_NAME) {
		known = resolver_known(f->relay->resolver, ep->host, f->route->dns_ttl_ms);
		if (known != NULL)
			return set_found(d, known->at, known->n) == 0 ? HAVE_ADDRESSES : HAVE_NONE;
		assert(d->lookup == NULL);
		d->lookup = resolver_lookup(f->relay->resolver, ep->host, on_looked_up, f);
		if (d->lookup == NULL)
			d->last = REASON_MEMORY;
		return d->lookup != NULL ? HAVE_TO_WAIT : HAVE_NONE;
	}
	if (ep->kind == ENDPOINT_ORIGINAL)
		r = find_original(f, &one);
	else
		one = ep->addr;
	if (r != 0) {
		note_denied(f, r == -ELOOP
		    ? "a client connected to the listener itself: backend = original takes redirected flows only"
		    : "the client's flow was not redirected: no original destination");
		return HAVE_DENIED;
	}
	return set_found(d, &one, 1) == 0 ? HAVE_ADDRESSES : HAVE_NONE;
}

static void on_parallel(evutil_socket_t fd, short what, void *arg);

/* Registers a socket that is connecting: as the flow's own leg if that is free, else as a parallel attempt. */
static int
add_attempt(struct flow *f, int fd, const struct target *t)
{
	struct dial *d = f->dial;
	struct attempt *a = &d->own;
	const bool is_own = !is_own_under_way(f);

	if (!is_own) {
		a = calloc(1, sizeof(*a));
		if (a == NULL)
			return -ENOMEM;
		a->flow = f;
	}
	a->target = *t;
	a->began_us = clock_us();
	if (is_own) {
		flow_init_leg(f, BACKEND, fd);
		return flow_register_leg(f, BACKEND);
	}
	event_assign(&a->ev, f->relay->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_parallel, a);
	if (event_add(&a->ev, NULL) != 0) {
		free(a);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&d->parallel, a, link);
	d->n_parallel++;
	return 0;
}

/* Starts to connect. False: it failed immediately. */
static bool
start(struct flow *f, struct target *t)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = &f->route->backend[t->backend];
	socklen_t len = t->at.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	const unsigned how = (is_any_under_way(f) ? 0 : SOCKET_TAKES_SPARE) | (f->route->urgent ? SOCKET_CARRIES_URGENT : 0);
	struct address local;
	int fd;

	if (t->at.ss_family == AF_UNIX)
		len = ep->addr_len;
	/* The oldest one has had about a second by now. */
	assert(d->n_parallel <= PARALLEL_MAX);
	if (d->n_parallel == PARALLEL_MAX) {
		attempt_failed(f, TAILQ_FIRST(&d->parallel), ETIMEDOUT);
		free_parallel(d, TAILQ_FIRST(&d->parallel));
	}
	f->backend = t->address;
	f->backend_index = (uint16_t)t->backend;
	fd = socket_connect((struct sockaddr *)&t->at, len, how, &local);
	if (fd < 0) {
		attempt_failed(f, &(struct attempt){ .target = *t, .began_us = clock_us() }, -fd);
		return false;
	}
	if (local.family != 0)
		own_ends_add(fd, &local, &t->address, (struct own_end){ relay_route_index(f), f->hops });
	if (add_attempt(f, fd, t) == 0)
		return true;
	if (leg_of(f, BACKEND)->transport.fd == fd)
		drop_own(f);
	else
		socket_reset(fd);
	d->last = REASON_MEMORY;
	return false;
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
	const struct endpoint *ep = backend_of(f);

	assert(d->next < d->found->n);
	t->at = d->found->at[d->next++];
	if (ep->kind == ENDPOINT_NAME)
		set_port(&t->at, ep->port);
	t->address = address_from_sockaddr((struct sockaddr *)&t->at);
	t->backend = d->backend;
}

/* The address to try next. */
static enum have
next_target(struct flow *f, struct target *t)
{
	struct dial *d = f->dial;

	while (d->backend < f->route->n_backend) {
		const enum have have = d->found == NULL ? find_addresses(f) : HAVE_ADDRESSES;

		if (have == HAVE_TO_WAIT || have == HAVE_DENIED)
			return have;
		while (have == HAVE_ADDRESSES && d->next < d->found->n) {
			take_address(f, t);
			if (!failed_lately(&f->relay->failed, &t->address, clock_us()) || !deferred(d, t))
				return HAVE_ADDRESSES;
		}
		free(d->found);
		d->found = NULL;
		d->backend++;
	}
	if (d->n_deferred == 0)
		return HAVE_NONE;
	*t = STAILQ_FIRST(&d->deferred)->target;
	free_deferred(d);
	return HAVE_ADDRESSES;
}

/* Tries addresses until one is connecting, a lookup is under way, or nothing is left. */
static struct verdict
step(struct flow *f)
{
	struct dial *d = f->dial;
	struct target t;

	for (;;) {
		switch (next_target(f, &t)) {
		case HAVE_DENIED:
			return VERDICT_CONNECT_FAILED(REASON_DENIED);
		case HAVE_TO_WAIT:
			set_next(f);
			return VERDICT(GO_ON);
		case HAVE_ADDRESSES:
			if (!start(f, &t))
				break;
			set_next(f);
			return VERDICT(GO_ON);
		case HAVE_NONE:
			if (!is_any_under_way(f))
				return all_failed(f);
			d->next_us = d->deadline_us;
			flow_wake_at(f, d->next_us);
			return VERDICT(GO_ON);
		}
	}
}

/* After a failed attempt: tries the next at once, unless that is another backend and this one may still answer. */
static struct verdict
try_next(struct flow *f)
{
	struct dial *d = f->dial;

	if (d->lookup != NULL || (d->is_last_of_backend && is_any_under_way(f)))
		return VERDICT(GO_ON);
	return step(f);
}

/* Gives the flow its dial, with nothing under way. NULL: out of memory. */
static struct dial *
new_dial(struct flow *f)
{
	struct dial *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	assert(f->state == FLOW_CONNECTING && f->dial == NULL && f->route->n_backend > 0);
	f->dial = d;
	TAILQ_INIT(&d->parallel);
	STAILQ_INIT(&d->deferred);
	return d;
}

struct verdict
dial_start(struct flow *f, struct preface *preface)
{
	struct dial *d = new_dial(f);

	if (d == NULL) {
		preface_free(preface);
		return VERDICT_CONNECT_FAILED(REASON_MEMORY);
	}
	d->preface = preface;
	d->deadline_us = (preface != NULL ? clock_us() : f->began_us) + f->route->connect_timeout_ms * US_PER_MS;
	d->last = REASON_BACKEND_LOOKUP;
	return step(f);
}

struct verdict
dial_deny(struct flow *f)
{
	struct dial *d = new_dial(f);

	if (d == NULL)
		return VERDICT_CONNECT_FAILED(REASON_DENIED);
	d->backend = f->route->n_backend;	/* none is left to try */
	d->deadline_us = d->next_us = f->began_us + DENIED_AFTER_US;
	d->last = REASON_DENIED;
	flow_wake_at(f, d->deadline_us);
	return VERDICT(GO_ON);
}

/* Another attempt connected first. That counts against this one only if it had enough time. */
static void
note_slower(struct flow *f, const struct attempt *a)
{
	if (clock_us() - a->began_us >= NEXT_ADDRESS_US)
		attempt_failed(f, a, ETIMEDOUT);
}

static bool
is_tried(const struct flow *f, size_t backend)
{
	const struct attempt *a;

	if (transport_is_open(&f->leg[BACKEND].transport) && f->dial->own.target.backend == backend)
		return true;
	TAILQ_FOREACH(a, &f->dial->parallel, link)
		if (a->target.backend == backend)
			return true;
	return false;
}

/* All addresses of a backend before that of t (NULL: of any) have failed. */
static void
judge_backends(struct flow *f, const struct target *t)
{
	struct dial *d = f->dial;
	const size_t n = t != NULL ? t->backend : f->route->n_backend;

	for (size_t i = 0; i < n; i++)
		if ((d->failed & bit_of(i)) != 0 && (t == NULL || !is_tried(f, i)))
			backend_failed(f, i, d->last);
	if (t != NULL)
		backend_answered(f, t->backend);
}

/* No attempt is left. */
static struct verdict
all_failed(struct flow *f)
{
	judge_backends(f, NULL);
	return VERDICT_CONNECT_FAILED(f->dial->last);
}

/* An attempt has connected, and its socket is the flow's leg. */
static struct verdict
connected(struct flow *f, const struct target *t)
{
	const struct attempt *a;
	const int64_t now_us = clock_us();

	counter_add(&counters_of(f)->connects[CONNECT_OK], 1);
	histogram_add(&counters_of(f)->connect, now_us - f->began_us);
	failed_forget(&f->relay->failed, &t->address, now_us);
	judge_backends(f, t);
	TAILQ_FOREACH(a, &f->dial->parallel, link)
		note_slower(f, a);
	f->backend = t->address;
	f->backend_index = (uint16_t)t->backend;
	return VERDICT(CONNECTED);
}

/* The result of connecting: 0 or an errno. If the backend sent bytes and then reset, they are passed on before *later, the error. */
static int
outcome(int fd, bool may_have_failed, uint8_t *later)
{
	/* An error shows as readable and writable together: writable alone needs no check. */
	const int err = may_have_failed ? socket_error(fd) : 0;

	if (err != 0 && socket_unread(fd) > 0) {
		*later = (uint8_t)err;
		return 0;
	}
	return err;
}

struct verdict
dial_event(struct flow *f, bool may_have_failed)
{
	struct leg *l = leg_of(f, BACKEND);
	const int err = outcome(l->transport.fd, may_have_failed, &l->error);

	if (err == 0)
		return connected(f, &f->dial->own.target);
	attempt_failed(f, &f->dial->own, err);
	drop_own(f);
	return try_next(f);
}

static struct verdict
parallel_event(struct flow *f, struct attempt *a, short what)
{
	struct leg *l = leg_of(f, BACKEND);
	const struct target t = a->target;
	const int fd = event_get_fd(&a->ev);
	uint8_t error = 0;
	const int err = outcome(fd, what & EV_READ, &error);

	if (err != 0) {
		attempt_failed(f, a, err);
		free_parallel(f->dial, a);
		return try_next(f);
	}
	if (is_own_under_way(f)) {
		note_slower(f, &f->dial->own);
		drop_own(f);
	}
	event_del(&a->ev);
	event_assign(&a->ev, f->relay->base, -1, 0, on_parallel, a);	/* the socket is the leg's now */
	free_parallel(f->dial, a);
	flow_init_leg(f, BACKEND, fd);
	l->error = error;
	l->readable = (what & (EV_READ | EV_CLOSED)) != 0;	/* this edge is not repeated */
	l->hup = (what & EV_CLOSED) != 0;
	return flow_register_leg(f, BACKEND) == 0 ? connected(f, &t) : VERDICT_CONNECT_FAILED(REASON_MEMORY);
}

static void
on_parallel(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	struct flow *f = a->flow;

	(void)fd;
	flow_apply(f, parallel_event(f, a, what));
}

struct verdict
dial_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct dial *d = f->dial;
	struct verdict v = VERDICT(GO_ON);

	if (now_us >= d->next_us && d->lookup != NULL) {
		lookup_cancel(d->lookup);
		v = looked_up(f, resolver_known(f->relay->resolver, backend_of(f)->host, RESOLVER_ANY_AGE),
		    "no reply from the resolver in time");
	} else if (now_us >= d->deadline_us) {
		time_out_attempts(f);
		v = all_failed(f);
	} else if (now_us >= d->next_us) {
		if (d->is_last_of_backend && f->route->failover_after_ms == 0)
			time_out_attempts(f);
		v = step(f);
	}
	*again_us = d->next_us;
	return v;
}
