/*
 * dial.c - connects a flow to a backend.
 *
 * The backends of a route are tried in order (balance.c), and all addresses of each, with
 * families alternating (RFC 8305, "Happy Eyeballs"). When one has not answered
 * after 250 ms, the next is tried in parallel; the first to connect gets the
 * flow. Between backends that delay is failover_after, as a standby may have to
 * wait until the one before it has failed. An address that failed is tried
 * last for a while (failed.c), so that only one flow pays for a black hole.
 *
 * connect_timeout covers all attempts; each delay is at most an even share of
 * what is left of it. Which address comes next: targets.c; the connections under
 * way: attempts.c; what happens when all have failed: connect_retry.c.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relay/balance.h"
#include "relay/dial_state.h"
#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/preface.h"
#include "relay/require.h"
#include "relay/shared.h"
#include "stent/socket.h"

#define DENIED_AFTER_US (50 * US_PER_MS)

/*
 * Its memory lies behind that of its flow, and is free when the flow is open. It is as large as a session and the
 * state of its codec are together, which then take its place; else holes would remain between the flows.
 */
#define DIAL_BYTES 392
_Static_assert(sizeof(struct dial) <= DIAL_BYTES, "struct dial is larger than its memory");

static struct verdict step(struct flow *f);
static struct verdict all_failed(struct flow *f);

void
dial_free(struct dial *d)
{
	if (d == NULL)
		return;
	if (d->lookup != NULL)
		lookup_cancel(d->lookup);
	while (!TAILQ_EMPTY(&d->parallel))
		attempt_free(d, TAILQ_FIRST(&d->parallel));
	while (!STAILQ_EMPTY(&d->deferred))
		targets_free_deferred(d);
	attempt_uncount(&d->own);
	connect_retry_leave(d);
	free(d->found);
	free(d->order);
	preface_free(d->preface);
	free(d);
}

bool
dial_check(const struct flow *f)
{
	const struct dial *d = f->dial;
	const struct attempt *a;

	require_or(f, d->turn <= f->route->n_backend, false);
	require_or(f, d->found == NULL || d->next <= d->found->n, false);
	require_or(f, d->lookup == NULL || d->found == NULL, false);	/* a lookup is for addresses that are not known */
	require_or(f, d->n_parallel <= ATTEMPTS_PARALLEL_MAX, false);
	require_or(f, (d->n_parallel == 0) == TAILQ_EMPTY(&d->parallel), false);
	require_or(f, (d->n_deferred == 0) == STAILQ_EMPTY(&d->deferred), false);
	TAILQ_FOREACH(a, &d->parallel, link)
		require_or(f, a->flow == f && a->ev != NULL && a->target.backend < f->route->n_backend, false);
	require_or(f, d->waiter == NULL || d->waiter == f, false);
	require_or(f, !d->is_resting || (d->waiter == f && d->lookup == NULL && !attempts_have_any(f)), false);
	require_or(f, !d->own.is_counted || attempts_have_own(f), false);	/* only what is under way counts as a flow */
	require_or(f, d->last != REASON_NONE && d->last < REASON_COUNT, false);
	return true;
}

bool
dial_is_retried(const struct dial *d)
{
	return d->waiter != NULL;
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

/* Continues with the result of the lookup; NULL: none. */
static struct verdict
looked_up(struct flow *f, const struct host_addresses *list, const char *why_not)
{
	struct dial *d = f->dial;

	require(f, f->state == FLOW_CONNECTING && d != NULL && d->lookup != NULL);
	require(f, d->found == NULL && d->turn < f->route->n_backend);
	d->lookup = NULL;
	if (list == NULL) {
		dial_note_failure(f, dial_backend(f), REASON_BACKEND_LOOKUP, why_not);
		d->turn++;
	} else if (targets_set_found(f, list->at, list->n) != 0) {
		return VERDICT_CONNECT_FAILED(REASON_MEMORY);
	}
	return step(f);
}

void
dial_on_looked_up(void *arg, const struct host_addresses *list)
{
	struct flow *f = arg;

	flow_apply(f, looked_up(f, list, "its name was not found"));
	(void)flow_check_settled(f);
}

/* Tries addresses until one is connecting, a lookup is under way, or nothing is left. */
static struct verdict
step(struct flow *f)
{
	struct dial *d = f->dial;
	struct target t;

	require(f, f->state == FLOW_CONNECTING && d != NULL && !d->is_resting);
	for (;;) {
		switch (targets_next(f, &t)) {
		case HAVE_DENIED:
			return VERDICT_CONNECT_FAILED(REASON_DENIED);
		case HAVE_TO_WAIT:
			dial_set_next(f);
			return VERDICT(GO_ON);
		case HAVE_ADDRESSES:
			if (!attempt_start(f, &t))
				break;
			dial_set_next(f);
			return VERDICT(GO_ON);
		case HAVE_NONE:
			if (!attempts_have_any(f))
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

	if (d->lookup != NULL || (d->is_last_of_backend && attempts_have_any(f)))
		return VERDICT(GO_ON);
	return step(f);
}

/* Gives the flow its dial, with nothing under way. NULL: out of memory. */
static struct dial *
new_dial(struct flow *f)
{
	struct dial *d;

	require_or(f, f->state == FLOW_CONNECTING && f->dial == NULL, NULL);
	assert(f->route->n_backend > 0);
	d = calloc(1, DIAL_BYTES);
	if (d == NULL)
		return NULL;
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
	d->order = balance_backends(f);
	d->deadline_us = (preface != NULL ? clock_us() : f->began_us) + f->route->connect_timeout_ms * US_PER_MS;
	d->retry_until_us = clock_us() + f->route->connect_retry_ms * US_PER_MS;
	d->last = REASON_BACKEND_LOOKUP;
	return step(f);
}

struct verdict
dial_deny(struct flow *f)
{
	struct dial *d = new_dial(f);

	if (d == NULL)
		return VERDICT_CONNECT_FAILED(REASON_DENIED);
	d->turn = (uint32_t)f->route->n_backend;	/* none is left to try */
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

	for (size_t turn = 0; turn < f->route->n_backend; turn++) {
		const size_t i = dial_backend_at(d, turn);

		if (t != NULL && i == t->backend)
			break;
		if ((d->failed & backend_bit(i)) != 0 && (t == NULL || !is_tried(f, i)) &&
		    !(d->last == REASON_BACKEND_CONNECT_TIMEOUT && attempts_blame_client(f, ETIMEDOUT)))
			backend_failed(f, i, d->last);
	}
	if (t != NULL)
		backend_answered(f, t->backend);
}

/* No attempt is left. */
static struct verdict
all_failed(struct flow *f)
{
	require(f, !attempts_have_any(f) && f->dial->lookup == NULL);
	judge_backends(f, NULL);
	return connect_retry_wait(f);
}

/* Tries all of them again. */
static struct verdict
again(struct flow *f, int64_t now_us)
{
	struct dial *d = f->dial;

	require(f, d->waiter == f && d->lookup == NULL && !attempts_have_any(f));
	if (now_us >= d->retry_until_us)
		return VERDICT_CONNECT_FAILED(d->last);
	if (!connect_retry_begin(f, now_us))
		return VERDICT(GO_ON);
	while (!STAILQ_EMPTY(&d->deferred))
		targets_free_deferred(d);
	free(d->found);
	free(d->order);
	d->found = NULL;
	d->order = balance_backends(f);
	d->turn = 0;
	d->failed = 0;
	return step(f);
}

/* An attempt has connected, and its socket is the flow's leg. */
static struct verdict
connected(struct flow *f, const struct target *t)
{
	const struct attempt *a;
	const int64_t now_us = clock_us();
	struct address key;

	require(f, transport_is_open(&f->leg[BACKEND].transport) && !f->is_counted);
	require(f, t->backend < f->route->n_backend && now_us >= f->began_us);
	counter_add(&counters_of(f)->connects[CONNECT_OK], 1);
	histogram_add(&counters_of(f)->connect, now_us - f->began_us);
	failed_forget(&f->relay->shared->failed, target_key(t, &key), now_us);
	judge_backends(f, t);
	TAILQ_FOREACH(a, &f->dial->parallel, link)
		note_slower(f, a);
	f->backend = t->address;
	f->place = f->route->backend_place[t->backend];
	backend_joined(f);
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
	int err;

	if (!dial_check(f))
		return require_verdict();
	require(f, attempts_have_own(f) && f->dial->own.flow == f);
	err = outcome(l->transport.fd, may_have_failed, &l->error);
	if (err == 0)
		return connected(f, &f->dial->own.target);
	attempt_failed(f, &f->dial->own, err);
	attempts_drop_own(f);
	return try_next(f);
}

static struct verdict
parallel_event(struct flow *f, struct attempt *a, short what)
{
	struct leg *l = leg_of(f, BACKEND);
	const struct target t = a->target;
	uint8_t error = 0;
	int err;

	if (f->broken || !dial_check(f))
		return require_verdict();
	require(f, f->state == FLOW_CONNECTING && f->dial->n_parallel > 0);
	err = outcome(event_get_fd(a->ev), what & EV_READ, &error);

	if (err != 0) {
		attempt_failed(f, a, err);
		attempt_free(f->dial, a);
		return try_next(f);
	}
	if (attempts_have_own(f)) {
		note_slower(f, &f->dial->own);
		attempts_drop_own(f);
	}
	flow_init_leg(f, BACKEND, attempt_take(f->dial, a));
	l->error = error;
	l->readable = (what & (EV_READ | EV_CLOSED)) != 0;	/* this edge is not repeated */
	l->hup = (what & EV_CLOSED) != 0;
	return flow_register_leg(f, BACKEND) == 0 ? connected(f, &t) : VERDICT_CONNECT_FAILED(REASON_MEMORY);
}

void
dial_on_parallel(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	struct flow *f = a->flow;

	(void)fd;
	flow_apply(f, parallel_event(f, a, what));
	(void)flow_check_settled(f);
}

struct verdict
dial_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct dial *d = f->dial;
	struct verdict v = VERDICT(GO_ON);

	require(f, f->state == FLOW_CONNECTING && d != NULL);
	if (!dial_check(f))
		return require_verdict();
	if (d->is_resting) {
		v = now_us >= d->next_us ? again(f, now_us) : v;
	} else if (now_us >= d->next_us && d->lookup != NULL) {
		lookup_cancel(d->lookup);
		v = looked_up(f, resolver_known(f->relay->resolver, dial_backend(f)->host, RESOLVER_ANY_AGE),
		    "no reply from the resolver in time");
	} else if (now_us >= d->deadline_us) {
		attempts_time_out(f);
		v = all_failed(f);
	} else if (now_us >= d->next_us) {
		if (!d->awaits_check && d->is_last_of_backend && f->route->failover_after_ms == 0)
			attempts_time_out(f);
		v = step(f);
	}
	*again_us = d->next_us;
	require(f, v.kind != GO_ON || d->next_us > 0);	/* there is always a next time */
	return v;
}
