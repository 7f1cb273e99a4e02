/*
 * relay.c - the relay of one worker: what its flows share.
 *
 * One read buffer serves every flow: bytes are read and sent at once, and only
 * what a socket did not take is kept. Pipes for splice() are pooled and few: a
 * receiver that stalls during a bulk transfer holds one.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "relay/adopt.h"
#include "relay/ending.h"
#include "relay/evict.h"
#include "relay/flow_check.h"
#include "relay/shared.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

struct relay *
relay_new(struct event_base *base, const struct config *config, struct relay_shared *shared,
    struct relay_counters **counters, int index, void (*on_end)(void *arg, unsigned slot), void *arg)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->base = base;
	r->config = config_hold(config);
	r->shared = shared;
	r->counters = counters;
	r->index = index;
	r->last_id = (uint64_t)index;	/* ids are unique in the process: see relay_open() */
	r->random = (uint32_t)(clock_us() * (index + 1)) | 1;
	r->on_end = on_end;
	r->on_end_arg = arg;
	TAILQ_INIT(&r->flows);
	TAILQ_INIT(&r->dead);
	TAILQ_INIT(&r->cancels.running);
	TAILQ_INIT(&r->cancels.waiting);
	STAILQ_INIT(&r->again);
	SLIST_INIT(&r->pipes);
	r->timers = timers_new(base);
	r->resolver = resolver_new(base);
	if (r->timers == NULL || r->resolver == NULL || refusals_init(r) != 0) {
		relay_free(r);
		return NULL;
	}
	return r;
}

static void
free_pipe(struct relay *r, struct pipe *p)
{
	assert(r->n_pipes > 0);
	close(p->in);
	close(p->out);
	free(p);
	r->n_pipes--;
}

void
relay_free(struct relay *r)
{
	struct pipe *p;

	if (r == NULL)
		return;
	while (!TAILQ_EMPTY(&r->flows))
		flow_end(TAILQ_FIRST(&r->flows), REASON_DRAIN);	/* a second call ends a flow that is FLOW_ENDING */
	relay_work(r);
	assert(TAILQ_EMPTY(&r->dead) && STAILQ_EMPTY(&r->again));
	cancel_free_all(r);
	assert(r->cancels.n_running == 0 && r->cancels.n_waiting == 0);
	while ((p = SLIST_FIRST(&r->pipes)) != NULL) {
		SLIST_REMOVE_HEAD(&r->pipes, link);
		free_pipe(r, p);
	}
	assert(r->n_pipes == 0);	/* no backlog holds one */
	assert(r->retiring == NULL && r->origins == NULL && r->old_settings == NULL);	/* each record went with its flow */
	assert(r->list_next == NULL && r->adopt_next == NULL && r->watch.next == NULL && r->drain.next == NULL);
	timer_disarm(r->timers, &r->watch.timer);
	timer_disarm(r->timers, &r->drain.timer);
	evict_free(r);
	refusals_free(r);
	resolver_free(r->resolver);
	timers_free(r->timers);
	config_release(r->config);
	free(r);
}

/* xorshift32: it only spreads heartbeats in time, so its quality does not matter. */
uint32_t
relay_random(struct relay *r)
{
	assert(r->random != 0);		/* else it would stay 0 */
	r->random ^= r->random << 13;
	r->random ^= r->random >> 17;
	r->random ^= r->random << 5;
	return r->random;
}

static struct pipe *
new_pipe(struct relay *r)
{
	assert(r->n_pipes <= RELAY_PIPES);
	struct pipe *p = r->n_pipes < RELAY_PIPES ? calloc(1, sizeof(*p)) : NULL;
	int fd[2];

	if (p == NULL || pipe2(fd, O_NONBLOCK | O_CLOEXEC) != 0) {
		free(p);
		return NULL;
	}
	(void)fcntl(fd[1], F_SETPIPE_SZ, PIPE_BYTES);
	p->out = fd[0];
	p->in = fd[1];
	r->n_pipes++;
	return p;
}

struct pipe *
relay_take_pipe(struct relay *r)
{
	struct pipe *p = SLIST_FIRST(&r->pipes);

	if (p == NULL)
		return new_pipe(r);
	SLIST_REMOVE_HEAD(&r->pipes, link);
	assert(p->len == 0);
	return p;
}

void
relay_give_pipe(struct relay *r, struct pipe *p)
{
	assert(r->n_pipes > 0 && r->n_pipes <= RELAY_PIPES && p->len <= PIPE_BYTES);
	if (p->len > 0)
		free_pipe(r, p);	/* it holds bytes of a flow that has ended */
	else
		SLIST_INSERT_HEAD(&r->pipes, p, link);
}

static void
init_flow(struct flow *f, struct relay *r, int fd, const struct route *route, const struct address *client)
{
	f->relay = r;
	f->route = route;
	counters_prepare(r->counters, r->shared->room, route->slot);
	counter_add(&counters_of(f)->flows_total, 1);
	f->client = *client;
	f->id = r->last_id += (uint64_t)r->config->workers;
	f->began_us = clock_us();
	flow_init_leg(f, CLIENT, fd);
	flow_init_leg(f, BACKEND, -1);
}

void
relay_refuse(struct relay *r, int fd, const struct route *route, const struct address *client,
    enum admission cause)
{
	const enum close_reason reason = admission_reason(cause);
	struct flow f = { .state = FLOW_CONNECTING, .reason = (uint8_t)reason, .admission = (uint8_t)(cause & 15) };	/* only to be logged */

	init_flow(&f, r, fd, route, client);
	counter_add(&counters_of(&f)->refusals[cause], 1);
	if (refusal_log(&f) && reason == REASON_MEMORY)
		log_say(LEVEL_ERROR, "out of memory for a new flow of route %s: reset", route->name);
	counter_add(&counters_of(&f)->flows_ended[reason], 1);
	counter_add(&counters_of(&f)->flows_unopened, 1);
	socket_reset(fd);
}

/*
 * The route has a UNIX listener, and no route names it as its backend. (Routes that form a loop by the names in the
 * settings are refused when they are read.)
 */
static bool
is_unix_without_route(const struct config *c, const struct route *route)
{
	bool has_unix = false;

	for (size_t l = 0; l < route->n_listen; l++) {
		if (route->listen[l].kind != ENDPOINT_UNIX)
			continue;
		has_unix = true;
		for (size_t i = 0; i < c->n_routes; i++)
			for (size_t b = 0; b < c->routes[i].n_backend; b++)
				if (endpoint_clash(&route->listen[l], &c->routes[i].backend[b]))
					return false;
	}
	return has_unix;
}

/*
 * The client is a connection of our own that loops. One route may lead to another, but a flow that has passed as many
 * routes as there are has passed one of them twice. UNIX sockets have no addresses to be recognized by.
 */
static bool
is_loop(struct flow *f)
{
	const int fd = leg_of(f, CLIENT)->transport.fd;
	struct own_end from;

	if (f->client.family == AF_UNIX)
		return socket_is_from_ourselves(fd) && is_unix_without_route(f->relay->config, f->route);
	if (!own_ends_find(fd, &f->client, &from))
		return false;
	f->hops = from.hops + 1;
	return from.route == relay_route_index(f) || f->hops >= f->relay->config->n_routes || f->hops >= OWN_ENDS_HOPS_MAX;
}

static void
deny_loop(struct flow *f)
{
	struct relay *r = f->relay;
	char client[ADDRESS_TEXT_MAX];
	const int64_t now_us = clock_us();

	if (now_us - r->denied_us >= US_PER_S) {
		r->denied_us = now_us;
		log_say(LEVEL_WARN, "route %s: loop: a flow of our own came back from %s and is denied: the backend leads to this "
		    "stent. Name another backend, or exempt stent's user from the redirection", f->route->name,
		    address_text(&f->client, client));
	}
	if (flow_register_leg(f, CLIENT) == 0)
		flow_apply(f, dial_deny(f));
	else
		flow_end(f, REASON_DENIED);
}

void
relay_open(struct relay *r, int fd, const struct route *route, const struct address *client, enum admission admitted)
{
	struct flow *f = calloc(1, sizeof(*f));

	assert(fd >= 0 && !admission_is_refused(admitted));
	if (f == NULL) {
		if (admitted == ADMITTED_COUNTED)
			admission_leave(r->shared, route->slot, client);
		relay_refuse(r, fd, route, client, ADMISSION_MEMORY);
		r->on_end(r->on_end_arg, route->slot);
		return;
	}
	config_hold(route->config);
	init_flow(f, r, fd, route, client);
	f->admission = (uint8_t)(admitted & 15);
	counter_add(&counters_of(f)->flows_open, 1);
	assert(TAILQ_EMPTY(&r->flows) || TAILQ_LAST(&r->flows, flow_list)->id < f->id);	/* the list is in the order of ids */
	TAILQ_INSERT_TAIL(&r->flows, f, link);
	if (route->urgent)
		socket_take_urgent(fd, true, client->family != AF_UNIX);
	if (is_loop(f)) {
		deny_loop(f);
		return;
	}
	flow_apply(f, flow_check_client(f, socket_look(fd)));
	if (f->state != FLOW_CONNECTING)
		return;
	if (flow_register_leg(f, CLIENT) == 0)
		flow_start(f);
	else
		flow_end(f, REASON_MEMORY);
	(void)flow_check_settled(f);
}

bool
relay_has_work(const struct relay *r)
{
	return !STAILQ_EMPTY(&r->again) || !TAILQ_EMPTY(&r->dead) || relay_is_adopting(r) || evict_has_work(r);
}

void
relay_work(struct relay *r)
{
	STAILQ_HEAD(, flow) now;
	unsigned slot;
	struct flow *f;

	/* A flow that is queued again meanwhile waits for the next round, so that others get their turn. */
	STAILQ_INIT(&now);
	STAILQ_CONCAT(&now, &r->again);
	while ((f = STAILQ_FIRST(&now)) != NULL) {
		STAILQ_REMOVE_HEAD(&now, requeue_link);
		assert(f->again);
		f->again = false;
		flow_work(f);
	}
	adopt_some(r);
	while ((f = TAILQ_FIRST(&r->dead)) != NULL && !f->again) {
		TAILQ_REMOVE(&r->dead, f, link);
		assert(f->state == FLOW_ENDED && f->timer.slot == 0);
		assert(f->session == NULL && f->dial == NULL);	/* nothing of it outlives it */
		slot = f->route->slot;
		config_release(f->route->config);
		free(f);
		r->on_end(r->on_end_arg, slot);
	}
	evict_some(r);
}

bool
relay_kill(struct relay *r, uint64_t id, enum close_reason reason)
{
	struct flow *f;

	TAILQ_FOREACH(f, &r->flows, link)
		if (f->id == id) {
			flow_end(f, reason);
			return true;
		}
	return false;
}

bool
flow_info_kill(struct flow_info *info, enum close_reason reason)
{
	struct flow *f = (struct flow *)(uintptr_t)info->flow;

	if (f->state == FLOW_ENDING && f->ending->forced)
		return false;
	flow_end(f, reason);
	return true;
}

size_t
relay_kill_backend(struct relay *r, const struct route *route, size_t backend, const struct address *address)
{
	size_t n = 0;

	for (struct flow *next, *f = TAILQ_FIRST(&r->flows); f != NULL; f = next) {
		next = TAILQ_NEXT(f, link);
		if (f->state != FLOW_OPEN || f->route->slot != route->slot || f->place != route->backend_place[backend] ||
		    memcmp(&f->backend, address, sizeof(*address)) != 0)
			continue;
		flow_end(f, REASON_BACKEND_DOWN);
		n++;
	}
	return n;
}

size_t
relay_kill_all(struct relay *r, enum close_reason reason)
{
	size_t n = 0;

	for (struct flow *next, *f = TAILQ_FIRST(&r->flows); f != NULL; f = next) {
		next = TAILQ_NEXT(f, link);
		if (f->state == FLOW_ENDING && f->ending->forced) {
			f->ending->hurried = true;
			continue;
		}
		flow_end(f, reason);
		n++;
	}
	return n;
}

bool
relay_has_flows(const struct relay *r)
{
	return !TAILQ_EMPTY(&r->flows);
}
