/*
 * dial.c - finds a backend that answers.
 *
 * The backends of a route are tried in order, and all addresses of each. The
 * connect_timeout is for all of them together: what is left of it is shared
 * out evenly among those still to be tried, so that a black hole in front
 * does not hide the one that works.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/socket.h"

struct dial {
	size_t backend;			/* the one being tried, of the route's list */
	struct host_addresses *found;	/* its addresses; NULL: not known yet */
	size_t next;			/* of found */
	struct lookup *lookup;		/* under way */
	int64_t deadline_us;		/* for everything */
	int64_t attempt_us;		/* for the lookup or address being tried */
	enum close_reason last;		/* why the last one failed */
};

#define NOT_OPENED_BY(r) ((struct verdict){ .kind = NOT_OPENED, .reason = (uint8_t)(r) })

static struct verdict step(struct flow *f);

void
dial_free(struct dial *d)
{
	if (d == NULL)
		return;
	if (d->lookup != NULL)
		lookup_cancel(d->lookup);
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
note_failure(struct flow *f, enum close_reason reason, const char *what)
{
	struct dial *d = f->dial;
	struct relay *r = f->relay;
	const int64_t now_us = clock_us();

	d->last = reason;
	/* The end of the flow is logged anyway: this is for failing over, and not for each flow. */
	if (now_us - r->warned_us < US_PER_S)
		return;
	r->warned_us = now_us;
	log_say(LEVEL_WARN, "route %s: backend %s: %s (%s)", f->route->name, backend_of(f)->text,
	    reason_text(reason), what);
}

static void
drop_attempt(struct flow *f)
{
	struct leg *l = leg_of(f, BACKEND);

	if (!transport_is_open(&l->transport))
		return;
	event_del(&l->ev);
	transport_close(&l->transport, TRANSPORT_RESET);
	flow_init_leg(f, BACKEND, -1);
	l->readable = l->hup = false;
}

/* The share of the time that is left for what is tried now. */
static void
set_attempt(struct flow *f)
{
	struct dial *d = f->dial;
	const int64_t now_us = clock_us();
	size_t others = f->route->n_backend - d->backend - 1;

	if (d->found != NULL)
		others += d->found->n - d->next;	/* next has moved past the one being tried */
	d->attempt_us = now_us + (d->deadline_us - now_us) / (int64_t)(others + 1);
	flow_wake_at(f, d->attempt_us);
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
	memcpy(d->found->at, at, n * sizeof(*at));
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
		note_failure(f, REASON_BACKEND_LOOKUP, why_not);
		d->backend++;
	} else if (set_found(d, list->at, list->n) != 0) {
		return NOT_OPENED_BY(REASON_MEMORY);
	}
	return step(f);
}

static void
on_looked_up(void *arg, const struct host_addresses *list)
{
	flow_settle(arg, looked_up(arg, list, "the name is not known"));
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
		known = resolver_known(f->relay->resolver, ep->host, f->route->lookup_age_ms);
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

/* Starts to connect to the next address. False: it failed at once. */
static bool
try_next(struct flow *f)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = backend_of(f);
	struct sockaddr_storage *ss = &d->found->at[d->next++];
	socklen_t len = ss->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int fd;

	if (ep->kind == ENDPOINT_NAME)
		set_port(ss, ep->port);
	if (ss->ss_family == AF_UNIX)
		len = ep->addr_len;
	f->backend = address_from_sockaddr((struct sockaddr *)ss);
	fd = socket_connect((struct sockaddr *)ss, len);
	if (fd < 0) {
		note_failure(f, failure(-fd), strerror(-fd));
		return false;
	}
	f->backend_index = (uint16_t)d->backend;
	flow_init_leg(f, BACKEND, fd);
	if (flow_listen_to(f, BACKEND) == 0)
		return true;
	drop_attempt(f);
	d->last = REASON_MEMORY;
	return false;
}

/* Goes on until something is under way or nothing is left. */
static struct verdict
step(struct flow *f)
{
	struct dial *d = f->dial;

	for (;;) {
		enum have have = HAVE_ADDRESSES;

		if (d->backend >= f->route->n_backend)
			return NOT_OPENED_BY(d->last);
		if (d->found == NULL)
			have = find_addresses(f);
		if (have == HAVE_DENIED)
			return NOT_OPENED_BY(REASON_DENIED);
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): HAVE_ADDRESSES says that they are found */
		if (have == HAVE_TO_WAIT || (have == HAVE_ADDRESSES && d->next < d->found->n && try_next(f))) {
			set_attempt(f);
			return VERDICT(GO_ON);
		}
		if (have == HAVE_ADDRESSES && d->next < d->found->n)
			continue;
		free(d->found);
		d->found = NULL;
		d->backend++;
	}
}

struct verdict
dial_start(struct flow *f)
{
	f->dial = calloc(1, sizeof(*f->dial));
	if (f->dial == NULL)
		return NOT_OPENED_BY(REASON_MEMORY);
	f->dial->deadline_us = f->began_us + f->route->connect_timeout_ms * US_PER_MS;
	f->dial->last = REASON_BACKEND_LOOKUP;
	return step(f);
}

struct verdict
dial_event(struct flow *f, bool may_have_failed)
{
	/* An error is reported as readable and writable at once: writable alone needs no look. */
	struct leg *l = leg_of(f, BACKEND);
	int err = may_have_failed ? transport_take_error(&l->transport) : 0;

	if (err == 0 && socket_is_own_peer(l->transport.fd))
		err = ECONNREFUSED;	/* nobody listens there: it has met itself */

	/* A backend that spoke and reset at once did answer: its words go before its end. */
	if (err != 0 && transport_unread(&l->transport) > 0) {
		l->error = (uint8_t)err;
	} else if (err != 0) {
		note_failure(f, failure(err), strerror(err));
		drop_attempt(f);
		return step(f);
	}
	return VERDICT(OPENED);
}

struct verdict
dial_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct dial *d = f->dial;
	struct verdict v = VERDICT(GO_ON);

	if (now_us >= d->attempt_us && d->lookup != NULL) {
		lookup_cancel(d->lookup);
		v = looked_up(f, resolver_known(f->relay->resolver, backend_of(f)->host, RESOLVER_ANY_AGE),
		    "no answer from the resolver in time");
	} else if (now_us >= d->attempt_us) {
		note_failure(f, REASON_BACKEND_CONNECT_TIMEOUT, "no answer in time");
		drop_attempt(f);
		v = step(f);
	}
	*again_us = d->attempt_us;
	return v;
}
