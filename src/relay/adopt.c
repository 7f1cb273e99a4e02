/*
 * adopt.c - open flows get the settings that have replaced theirs.
 *
 * The relay goes through its flows in slices, between two rounds of the loop. A
 * flow gets the route of the same name in the new settings; without one it
 * keeps its own, which its hold on them keeps in memory. One that is connecting
 * goes on as it began, and is moved when it opens. If settings are replaced
 * again meanwhile, the walk starts anew, to the newest.
 *
 * Moving ends no flow: it changes sockets and the codec, and has the timer
 * judge the rest soon, spread over time, as thousands of heartbeats may have
 * become due at once.
 *
 * A codec that cannot take new settings yet (it awaits a reply to the old
 * ones), or whose protocol is not the route's any more, keeps the old ones. That
 * is rare, so no flow has a field for it: they are in a tree of the relay.
 */
#include <assert.h>
#include <stdlib.h>

#include "relay/adopt.h"
#include "relay/ending.h"
#include "relay/flow_tree.h"
#include "relay/origin.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/socket.h"

#define SLICE_US 300		/* limit per call: no bytes are relayed meanwhile */
#define SPREAD_US (500 * US_PER_MS)	/* within which the timers of moved flows fire */

/* The settings that the codec of a flow has, where they are not those of its route. */
struct old_settings {
	const struct flow *flow;
	const struct route *route;	/* held through its settings */
};

const struct route *
adopt_codec_route(const struct flow *f)
{
	const struct old_settings *old = f->has_old_settings ? flow_tree_find(&f->relay->old_settings, f) : NULL;

	require_or(f, !f->has_old_settings || (old != NULL && old->flow == f), f->route);	/* the bit says that there is one */
	return old != NULL ? old->route : f->route;
}

void
adopt_forget(struct flow *f)
{
	struct old_settings *old = f->has_old_settings ? flow_tree_find(&f->relay->old_settings, f) : NULL;

	f->has_old_settings = false;
	if (old == NULL)
		return;
	flow_tree_remove(&f->relay->old_settings, old);
	config_release(old->route->config);
	free(old);
}

/* 0 or -ENOMEM. */
static int
remember(struct flow *f, const struct route *route)
{
	struct old_settings *old;

	require_or(f, !f->has_old_settings && f->session != NULL && f->session->codec != NULL, -1);
	old = malloc(sizeof(*old));
	if (old == NULL)
		return -1;
	*old = (struct old_settings){ f, route };
	if (flow_tree_add(&f->relay->old_settings, old) != 0) {
		free(old);
		return -1;
	}
	config_hold(route->config);
	f->has_old_settings = true;
	return 0;
}

/* Has the codec take the settings of the flow's route, of the same protocol. False: not now. */
static bool
configure(struct flow *f)
{
	const struct session *ss = f->session;
	bool is_configured;

	require_or(f, ss != NULL && ss->codec != NULL, false);
	is_configured = ss->codec->configure(f->session->state, &f->route->codec_settings);
	require_promises_or(f, true);
	return is_configured;
}

void
adopt_retry(struct flow *f)
{
	if (f->has_old_settings && adopt_codec_route(f)->codec == f->route->codec && configure(f))
		adopt_forget(f);
}

/* The codec had the settings of `had`. 0 or -ENOMEM: nothing has changed. */
static int
change_codec(struct flow *f, const struct route *had)
{
	if (f->session == NULL || f->session->codec == NULL)
		return 0;
	if (had->codec == f->route->codec && configure(f)) {
		adopt_forget(f);
		return 0;
	}
	return f->has_old_settings ? 0 : remember(f, had);
}

static bool
is_same(const struct keepalive *a, const struct keepalive *b)
{
	return a->idle_s == b->idle_s && a->interval_s == b->interval_s && a->probes == b->probes &&
	    a->user_timeout_ms == b->user_timeout_ms && a->retransmit_ms == b->retransmit_ms;
}

static void
change_probes(struct flow *f, enum side s, const struct keepalive *from, int64_t now_us)
{
	const struct keepalive *to = &leg_settings(f, s)->keepalive;
	struct leg *l = leg_of(f, s);

	if (is_same(from, to) || leg_peer(f, s)->family == AF_UNIX)
		return;
	if (to->user_timeout_ms == 0)
		l->stalled = false;
	f->watch_us = now_us;		/* bytes may be in flight that nobody watched */
	if (s == BACKEND && !f->keepalive_is_set)
		return;			/* recheck() in flow_timer.c sets all of them */
	transport_change_keepalive(&l->transport, to, !l->stalled);
}

static void
change_urgent(struct flow *f, const struct route *from)
{
	if (from->urgent == f->route->urgent)
		return;
	for (enum side s = CLIENT; s <= BACKEND; s++)
		socket_take_urgent(leg_of(f, s)->transport.fd, f->route->urgent, false);
}

/* NULL: the settings have no such route any more. */
static const struct route *
route_in(const struct config *c, const struct route *route)
{
	const size_t i = (size_t)(route - route->config->routes);

	if (i < c->n_routes && c->routes[i].slot == route->slot)
		return &c->routes[i];		/* mostly */
	for (size_t k = 0; k < c->n_routes; k++)
		if (c->routes[k].slot == route->slot)
			return &c->routes[k];
	return NULL;
}

void
adopt_flow(struct flow *f)
{
	const struct route *from = f->route, *to = route_in(f->relay->config, from);
	const int64_t now_us = clock_us();

	if (to == NULL || to == from || f->state != FLOW_OPEN || f->broken)
		return;
	require_void(f, to->slot == from->slot);	/* it is counted by that */
	f->route = to;
	if (change_codec(f, f->has_old_settings ? adopt_codec_route(f) : from) != 0) {
		f->route = from;	/* out of memory: it lives on by its last settings */
		return;
	}
	config_hold(to->config);
	for (enum side s = CLIENT; s <= BACKEND; s++)
		change_probes(f, s, &from->leg[s].keepalive, now_us);
	if (leg_of(f, CLIENT)->fin || leg_of(f, BACKEND)->fin)
		flow_half_closed(f);
	change_urgent(f, from);
	config_release(from->config);
	flow_wake_at(f, now_us + 1 + relay_random(f->relay) % SPREAD_US);
}

void
relay_adopt(struct relay *r, const struct config *config)
{
	assert(config->workers == r->config->workers);	/* ids are numbered by it */
	config_hold(config);
	config_release(r->config);
	r->config = config;
	r->adopt_next = TAILQ_FIRST(&r->flows);
	r->adopt_last_id = r->last_id;
}

bool
relay_is_adopting(const struct relay *r)
{
	return r->adopt_next != NULL;
}

void
adopt_some(struct relay *r)
{
	const int64_t until_us = clock_us() + SLICE_US;

	while (r->adopt_next != NULL && clock_us() < until_us) {
		struct flow *f = r->adopt_next;

		assert(f->relay == r && f->state != FLOW_ENDED);	/* one that ends is stepped over: finish() in flow.c */
		/* Newer flows have the new settings, or get them when they open. */
		r->adopt_next = f->id <= r->adopt_last_id ? TAILQ_NEXT(f, link) : NULL;
		adopt_flow(f);
	}
}
