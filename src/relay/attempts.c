/*
 * attempts.c - the connections that a dial has under way, and what their failures mean.
 *
 * The first attempt uses the flow's own leg, which makes the normal case cheap;
 * attempts in parallel have events of their own.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "relay/balance.h"
#include "relay/dial_state.h"
#include "relay/ending.h"
#include "relay/require.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

void
attempt_uncount(struct attempt *a)
{
	assert(!a->is_counted || a->flow != NULL);
	if (a->is_counted)
		backends_uncount(relay_route(a->flow)->backends, a->flow->route->backend_place[a->target.backend], &a->target.address);
	a->is_counted = false;
}

int
attempt_take(struct dial *d, struct attempt *a)
{
	const int fd = event_get_fd(a->ev);

	assert(a != &d->own);		/* that one has the flow's leg */
	event_free(a->ev);
	TAILQ_REMOVE(&d->parallel, a, link);
	d->n_parallel -= d->n_parallel > 0;	/* dial_check() holds it to the list */
	attempt_uncount(a);
	free(a);
	return fd;
}

void
attempt_free(struct dial *d, struct attempt *a)
{
	socket_reset(attempt_take(d, a));
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

void
dial_note_failure(struct flow *f, const struct endpoint *backend, enum close_reason reason, const char *what)
{
	struct dial *d = f->dial;
	struct relay *r = f->relay;
	const int64_t now_us = clock_us();

	require_void(f, d != NULL && reason != REASON_NONE && reason < REASON_COUNT);
	require_void(f, backend >= f->route->backend && backend < f->route->backend + f->route->n_backend);
	counter_add(&counters_of(f)->connects[result_of(reason)], 1);
	d->last = reason;
	if (reason != REASON_LIMIT && reason != REASON_MEMORY)
		d->failed |= backend_bit((size_t)(backend - f->route->backend));
	/* This is for failover; once a second is enough, as the end of each flow is logged anyway. */
	if (now_us - r->warned_us < US_PER_S)
		return;
	r->warned_us = now_us;
	log_say(LEVEL_WARN, "route %s: backend %s: %s (%s)", f->route->name, backend->text, reason_text(reason), what);
}

const struct address *
target_key(const struct target *t, struct address *buf)
{
	const char *path = ((const struct sockaddr_un *)(const void *)&t->at)->sun_path;

	*buf = t->address;
	if (t->address.family == AF_UNIX) {	/* that has no address of its own */
		const uint64_t hash = balance_hash(buf, path, sizeof(((struct sockaddr_un *)0)->sun_path));

		memcpy(buf->ip, &hash, sizeof(hash));
	}
	return buf;
}

/* This machine's own lack, which says nothing of the backend. */
static bool
is_our_own(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM || err == EADDRNOTAVAIL || err == EAFNOSUPPORT;
}

/* With source = client no answer may be due to that client's address: the way back to it does not lead through stent. */
bool
attempts_blame_client(const struct flow *f, int err)
{
	return f->route->source_client && err == ETIMEDOUT;
}

static void
remember_failure(struct flow *f, const struct attempt *a, int err, int64_t now_us)
{
	/* A refusal is not a timeout, even if it came late. */
	const bool timed_out = now_us - a->began_us >= NEXT_ADDRESS_US && a->target.address.family != AF_UNIX && err != ECONNREFUSED;
	const struct failure why = {
		.has_refused = !timed_out,
		.retry_after_us = f->route->retry_after_ms * US_PER_MS,
		.jitter = (double)relay_random(f->relay) / UINT32_MAX,
	};
	struct address key;

	if (is_our_own(err) || attempts_blame_client(f, err))
		return;
	backends_note_failure(relay_route(f)->backends, f->route->backend_place[a->target.backend], &a->target.address);
	if (f->route->retry_after_ms > 0)
		failed_add(&f->relay->shared->failed, target_key(&a->target, &key), &why, now_us);
}

/* An attempt failed. err: an errno. */
void
attempt_failed(struct flow *f, const struct attempt *a, int err)
{
	const int64_t now_us = clock_us();
	char text[2 * ADDRESS_TEXT_MAX + 128], to[ADDRESS_TEXT_MAX];

	require_void(f, err > 0 && a->target.backend < f->route->n_backend);
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
	dial_note_failure(f, &f->route->backend[a->target.backend], reason_of(err), text);
	remember_failure(f, a, err, now_us);
}

void
attempts_drop_own(struct flow *f)
{
	struct leg *l = leg_of(f, BACKEND);

	if (!transport_is_open(&l->transport))
		return;
	require_void(f, f->state == FLOW_CONNECTING && l->backlog == NULL);	/* nothing was sent to what is dropped */
	attempt_uncount(&f->dial->own);
	event_del(&l->ev);
	transport_close(&l->transport, TRANSPORT_RESET);
	flow_init_leg(f, BACKEND, -1);
	l->readable = l->hup = false;
}

bool
attempts_have_own(const struct flow *f)
{
	return transport_is_open(&f->leg[BACKEND].transport);
}

bool
attempts_have_any(const struct flow *f)
{
	return attempts_have_own(f) || f->dial->n_parallel > 0;
}

/* Ends all attempts as timed out. */
void
attempts_time_out(struct flow *f)
{
	struct dial *d = f->dial;
	struct attempt *a;

	if (attempts_have_own(f)) {
		attempt_failed(f, &d->own, ETIMEDOUT);
		attempts_drop_own(f);
	}
	while ((a = TAILQ_FIRST(&d->parallel)) != NULL) {
		attempt_failed(f, a, ETIMEDOUT);
		attempt_free(d, a);
	}
	require_void(f, !attempts_have_any(f) && d->n_parallel == 0);
}

/* Registers a socket that is connecting: as the flow's own leg if that is free, else as a parallel attempt. */
static int
add_attempt(struct flow *f, int fd, const struct target *t)
{
	struct dial *d = f->dial;
	struct attempt *a = &d->own;
	const bool is_own = !attempts_have_own(f);

	if (!is_own) {
		a = calloc(1, sizeof(*a));
		if (a == NULL)
			return -ENOMEM;
	}
	require_or(f, !a->is_counted, -EIO);		/* the one before was given back */
	a->target = *t;
	a->began_us = clock_us();
	a->flow = f;
	a->is_counted = backends_count(relay_route(f)->backends, f->place, &t->address);
	if (is_own) {
		flow_init_leg(f, BACKEND, fd);
		return flow_register_leg(f, BACKEND);
	}
	a->ev = event_new(f->relay->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, dial_on_parallel, a);
	if (a->ev == NULL || event_add(a->ev, NULL) != 0) {
		if (a->ev != NULL)
			event_free(a->ev);
		attempt_uncount(a);
		free(a);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&d->parallel, a, link);
	d->n_parallel++;
	require_or(f, d->n_parallel <= ATTEMPTS_PARALLEL_MAX && attempts_have_own(f), 0);
	return 0;
}

/* Starts to connect. False: it failed immediately. */
bool
attempt_start(struct flow *f, struct target *t)
{
	struct dial *d = f->dial;
	const struct endpoint *ep = &f->route->backend[t->backend];
	socklen_t len = t->at.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	const unsigned how = (attempts_have_any(f) ? 0 : SOCKET_TAKES_SPARE) | (f->route->urgent ? SOCKET_CARRIES_URGENT : 0);
	struct address local;
	int fd;

	require_or(f, t->backend < f->route->n_backend, false);
	if (t->at.ss_family == AF_UNIX)
		len = ep->addr_len;
	require_or(f, len > 0 && len <= sizeof(t->at), false);
	/* The oldest one has had about a second by now. */
	require_or(f, d->n_parallel <= ATTEMPTS_PARALLEL_MAX, false);
	if (d->n_parallel == ATTEMPTS_PARALLEL_MAX) {
		attempt_failed(f, TAILQ_FIRST(&d->parallel), ETIMEDOUT);
		attempt_free(d, TAILQ_FIRST(&d->parallel));
	}
	f->backend = t->address;
	f->place = f->route->backend_place[t->backend];
	fd = socket_connect_from(f->route->source_client ? &f->client : NULL, (struct sockaddr *)&t->at, len, how, &local);
	if (fd < 0) {
		attempt_failed(f, &(struct attempt){ .target = *t, .began_us = clock_us() }, -fd);
		return false;
	}
	if (local.family != 0)
		own_ends_add(fd, &local, &t->address, (struct own_end){ relay_route_index(f), f->hops });
	if (add_attempt(f, fd, t) == 0)
		return true;
	if (leg_of(f, BACKEND)->transport.fd == fd)
		attempts_drop_own(f);
	else
		socket_reset(fd);
	d->last = REASON_MEMORY;
	return false;
}
