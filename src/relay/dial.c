/*
 * dial.c - finds a backend that replies.
 *
 * The backends of a route are tried in order, and all addresses of each, both
 * families in turn (RFC 8305, "Happy Eyeballs"): one that has not answered
 * after 250 ms has the next one tried beside it, and the first that replies
 * gets the flow. Between backends that time is a setting, failover_after: a
 * standby may have to wait until the one before it has failed.
 *
 * An address that let a flow wait in vain is tried last for a while (failed.c),
 * so that a black hole costs that time once, and not each flow.
 *
 * The connect_timeout is for all of them together. Nobody waits longer than an
 * even share of what is left of it before the next is tried.
 *
 * The first attempt has the flow's own leg, so that a backend that replies
 * costs nothing more; those beside it have events of their own.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

#define NEXT_ADDRESS_US (250 * US_PER_MS)	/* RFC 8305's Connection Attempt Delay */
#define BESIDE_MOST 3
#define DENIED_AFTER_US (50 * US_PER_MS)

/* An address of a backend. */
struct target {
	struct sockaddr_storage at;
	struct address address;
	size_t backend;			/* of the route's list */
};

struct put_off {
	STAILQ_ENTRY(put_off) link;
	struct target target;
};

/* A connection under way. */
struct attempt {
	TAILQ_ENTRY(attempt) link;	/* beside the leg's own */
	struct event ev;
	struct flow *flow;
	struct target target;
	int64_t began_us;
};

struct dial {
	size_t backend;			/* whose addresses are tried */
	struct host_addresses *found;	/* its addresses; NULL: not known yet */
	size_t next;			/* of found */
	STAILQ_HEAD(, put_off) put_off;	/* failed lately: tried when all others are */
	size_t n_put_off;
	struct lookup *lookup;		/* under way */
	struct attempt own;		/* with the flow's own leg; it has a socket: under way */
	TAILQ_HEAD(, attempt) beside;
	size_t n_beside;
	bool is_last_of_backend;	/* the attempt that began last: what follows is another backend */
	int64_t deadline_us;		/* for everything */
	int64_t next_us;		/* go on then without the lookup, or beside the attempts */
	enum close_reason last;		/* why the last one failed */
};

static struct verdict step(struct flow *f);

static void
free_beside(struct dial *d, struct attempt *a)
{
	const int fd = event_get_fd(&a->ev);

	event_del(&a->ev);
	if (fd >= 0)
		socket_reset(fd);
	TAILQ_REMOVE(&d->beside, a, link);
	d->n_beside--;
	free(a);
}

static void
free_put_off(struct dial *d)
{
	struct put_off *p = STAILQ_FIRST(&d->put_off);

	STAILQ_REMOVE_HEAD(&d->put_off, link);
	d->n_put_off--;
	free(p);
}

void
dial_free(struct dial *d)
{
	if (d == NULL)
		return;
	if (d->lookup != NULL)
		lookup_cancel(d->lookup);
	while (!TAILQ_EMPTY(&d->beside))
		free_beside(d, TAILQ_FIRST(&d->beside));
	while (!STAILQ_EMPTY(&d->put_off))
		free_put_off(d);
	free(d->found);
	free(d);
}

static const struct endpoint *
backend_of(const struct flow *f)
{
	return &f->route->backend[f->dial->backend];
}

static enum close_reason
failure(int err)
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

static void
note_failure(struct flow *f, const struct endpoint *backend, enum close_reason reason, const char *what)
{
	struct dial *d = f->dial;
	struct relay *r = f->relay;
	const int64_t now_us = clock_us();

	d->last = reason;
	/* The end of the flow is logged anyway: this is for failing over, and not for each flow. */
	if (now_us - r->warned_us < US_PER_S)
		return;
	r->warned_us = now_us;
	log_say(LEVEL_WARN, "route %s: backend %s: %s (%s)", f->route->name, backend->text, reason_text(reason), what);
}

/* An attempt came to nothing. err: an errno. */
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
		snprintf(text, sizeof(text), "%s: this machine has no such kind of address, or the sandbox around this process does "
		    "not allow it (RestrictAddressFamilies= of systemd)", to);
	else
		snprintf(text, sizeof(text), "%s: %s", to, err == ETIMEDOUT ? "no answer in time" : strerror(err));
	note_failure(f, &f->route->backend[a->target.backend], failure(err), text);
	/* A refusal is an answer, also one from far away. */
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
	return is_own_under_way(f) || f->dial->n_beside > 0;
}

/* Those under way have had their time. */
static void
give_up_attempts(struct flow *f)
{
	struct dial *d = f->dial;
	struct attempt *a;

	if (is_own_under_way(f)) {
		attempt_failed(f, &d->own, ETIMEDOUT);
		drop_own(f);
	}
	while ((a = TAILQ_FIRST(&d->beside)) != NULL) {
		attempt_failed(f, a, ETIMEDOUT);
		free_beside(d, a);
	}
}

/* An even share of the time that is left, for what is tried now. */
static int64_t
share_us(const struct flow *f, int64_t now_us)
{
	const struct dial *d = f->dial;
	size_t others = d->n_put_off;

	if (d->backend < f->route->n_backend)
		others += f->route->n_backend - d->backend - 1;
	if (d->found != NULL)
		others += d->found->n - d->next;	/* next has moved past the one being tried */
	return (d->deadline_us - now_us) / (int64_t)(others + 1);
}

/* When the next is tried, though the one that begins now has not failed. */
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
	if (d->backend >= f->route->n_backend - 1 && d->is_last_of_backend && d->n_put_off == 0)
		wait = share;		/* there is no other */
	d->next_us = now_us + (wait < share ? wait : share);
	flow_wake_at(f, d->next_us);
}

/* Both families in turn, beginning with the first one's, each in the order that it has (RFC 8305, 4). */
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

/* A redirected flow's destination; one that points at our own listener would come back to us for ever. */
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

/* Goes on with what the lookup gave; NULL: nothing. */
static struct verdict
looked_up(struct flow *f, const struct host_addresses *list, const char *why_not)
{
	struct dial *d = f->dial;

	d->lookup = NULL;
	if (list == NULL) {
		note_failure(f, backend_of(f), REASON_BACKEND_LOOKUP, why_not);
		d->backend++;
	} else if (set_found(d, list->at, list->n) != 0) {
		return VERDICT_NOT_OPENED(REASON_MEMORY);
	}
	return step(f);
}

static void
on_looked_up(void *arg, const struct host_addresses *list)
{
	flow_settle(arg, looked_up(arg, list, "its name could not be looked up"));
}

static void
note_denied(const struct flow *f, const char *why)
{
	if (relay_say_once(f, why))
		log_say(LEVEL_WARN, "route %s: %s; said once a route", f->route->name, why);
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
		d->lookup = resolver_ask(f->relay->resolver, ep->host, on_looked_up, f);
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

static void on_beside(evutil_socket_t fd, short what, void *arg);

/* Has the loop tell of a socket that connects: as the flow's own leg if that is free, else beside it. */
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
		return flow_listen_to(f, BACKEND);
	}
	event_assign(&a->ev, f->relay->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_beside, a);
	if (event_add(&a->ev, NULL) != 0) {
		free(a);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&d->beside, a, link);
	d->n_beside++;
	return 0;
}

/* Starts to connect. False: it failed at once. */
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
	/* The oldest has waited for a second by now. */
	if (d->n_beside == BESIDE_MOST) {
		attempt_failed(f, TAILQ_FIRST(&d->beside), ETIMEDOUT);
		free_beside(d, TAILQ_FIRST(&d->beside));
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
put_off(struct dial *d, const struct target *t)
{
	struct put_off *p = malloc(sizeof(*p));

	if (p == NULL)
		return false;		/* then it is tried in its turn */
	p->target = *t;
	STAILQ_INSERT_TAIL(&d->put_off, p, link);
	d->n_put_off++;
	return true;
}

static void
take_address(struct flow *f, struct target *t)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = backend_of(f);

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
			if (!failed_lately(&f->relay->failed, &t->address, clock_us()) || !put_off(d, t))
				return HAVE_ADDRESSES;
		}
		free(d->found);
		d->found = NULL;
		d->backend++;
	}
	if (d->n_put_off == 0)
		return HAVE_NONE;
	*t = STAILQ_FIRST(&d->put_off)->target;
	free_put_off(d);
	return HAVE_ADDRESSES;
}

/* Goes on until something is under way or nothing is left. */
static struct verdict
step(struct flow *f)
{
	struct dial *d = f->dial;
	struct target t;

	for (;;) {
		switch (next_target(f, &t)) {
		case HAVE_DENIED:
			return VERDICT_NOT_OPENED(REASON_DENIED);
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
				return VERDICT_NOT_OPENED(d->last);
			d->next_us = d->deadline_us;
			flow_wake_at(f, d->next_us);
			return VERDICT(GO_ON);
		}
	}
}

/* An attempt failed: the next is tried at once, unless that is another backend and this one may still answer. */
static struct verdict
go_on(struct flow *f)
{
	struct dial *d = f->dial;

	if (d->lookup != NULL || (d->is_last_of_backend && is_any_under_way(f)))
		return VERDICT(GO_ON);
	return step(f);
}

struct verdict
dial_start(struct flow *f)
{
	struct dial *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return VERDICT_NOT_OPENED(REASON_MEMORY);
	f->dial = d;
	TAILQ_INIT(&d->beside);
	STAILQ_INIT(&d->put_off);
	d->deadline_us = f->began_us + f->route->connect_timeout_ms * US_PER_MS;
	d->last = REASON_BACKEND_LOOKUP;
	return step(f);
}

struct verdict
dial_deny(struct flow *f)
{
	struct dial *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return VERDICT_NOT_OPENED(REASON_DENIED);
	f->dial = d;
	TAILQ_INIT(&d->beside);
	STAILQ_INIT(&d->put_off);
	d->backend = f->route->n_backend;	/* none is left to try */
	d->deadline_us = d->next_us = f->began_us + DENIED_AFTER_US;
	d->last = REASON_DENIED;
	flow_wake_at(f, d->deadline_us);
	return VERDICT(GO_ON);
}

/* Another was quicker, which says something only of one that had begun long before. */
static void
lost_to_another(struct flow *f, const struct attempt *a)
{
	if (clock_us() - a->began_us >= NEXT_ADDRESS_US)
		attempt_failed(f, a, ETIMEDOUT);
}

/* One has answered, and has the flow's leg. */
static struct verdict
won(struct flow *f, const struct target *t)
{
	const struct attempt *a;

	failed_forget(&f->relay->failed, &t->address, clock_us());
	TAILQ_FOREACH(a, &f->dial->beside, link)
		lost_to_another(f, a);
	f->backend = t->address;
	f->backend_index = (uint16_t)t->backend;
	return VERDICT(OPENED);
}

/* What became of a connection: 0 or an errno. One that spoke and reset at once did answer: its words go before its end. */
static int
outcome(int fd, bool may_have_failed, uint8_t *later)
{
	/* An error is reported as readable and writable at once: writable alone needs no look. */
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
		return won(f, &f->dial->own.target);
	attempt_failed(f, &f->dial->own, err);
	drop_own(f);
	return go_on(f);
}

static struct verdict
beside_event(struct flow *f, struct attempt *a, short what)
{
	struct leg *l = leg_of(f, BACKEND);
	const struct target t = a->target;
	const int fd = event_get_fd(&a->ev);
	uint8_t error = 0;
	const int err = outcome(fd, what & EV_READ, &error);

	if (err != 0) {
		attempt_failed(f, a, err);
		free_beside(f->dial, a);
		return go_on(f);
	}
	if (is_own_under_way(f)) {
		lost_to_another(f, &f->dial->own);
		drop_own(f);
	}
	event_del(&a->ev);
	event_assign(&a->ev, f->relay->base, -1, 0, on_beside, a);	/* the socket is the leg's now */
	free_beside(f->dial, a);
	flow_init_leg(f, BACKEND, fd);
	l->error = error;
	l->readable = (what & (EV_READ | EV_CLOSED)) != 0;	/* an edge that does not come again */
	l->hup = (what & EV_CLOSED) != 0;
	return flow_listen_to(f, BACKEND) == 0 ? won(f, &t) : VERDICT_NOT_OPENED(REASON_MEMORY);
}

static void
on_beside(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	struct flow *f = a->flow;

	(void)fd;
	flow_settle(f, beside_event(f, a, what));
}

struct verdict
dial_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct dial *d = f->dial;
	struct verdict v = VERDICT(GO_ON);

	if (now_us >= d->next_us && d->lookup != NULL) {
		lookup_cancel(d->lookup);
		v = looked_up(f, resolver_known(f->relay->resolver, backend_of(f)->host, RESOLVER_ANY_AGE),
		    "no answer from the resolver in time");
	} else if (now_us >= d->deadline_us) {
		give_up_attempts(f);
		v = VERDICT_NOT_OPENED(d->last);
	} else if (now_us >= d->next_us) {
		if (d->is_last_of_backend && f->route->failover_after_ms == 0)
			give_up_attempts(f);
		v = step(f);
	}
	*again_us = d->next_us;
	return v;
}
