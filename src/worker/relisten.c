/*
 * relisten.c - the listeners that new settings want, in place of the ones before.
 *
 * First, on the main thread, what is new is opened, which may fail; then
 * nothing has changed. After that, on the thread that accepts, all of them are
 * changed at once. A listener whose address is still wanted keeps its socket
 * and the clients in its queue, also when another route has it now. Before one
 * is closed, the clients in its queue are accepted.
 */
#include <errno.h>
#include <stdlib.h>

#include "worker/listener.h"

struct planned {
	struct listener *listener;
	const struct route *route;
	const struct endpoint *endpoint;
	bool is_kept, is_paused;
};

struct relisten {
	struct acceptor *acceptor;
	struct planned *plan;
	size_t n;
	struct listener_list opened;
	int max_flows;
	bool evicts;
};

static struct planned *
add(struct relisten *c, struct listener *l, const struct route *route, const struct endpoint *ep)
{
	struct planned *plan = reallocarray(c->plan, c->n + 1, sizeof(*plan));

	if (plan == NULL)
		return NULL;
	c->plan = plan;
	plan[c->n] = (struct planned){ .listener = l, .route = route, .endpoint = ep };
	return &plan[c->n++];
}

static int
plan_endpoint(struct relisten *c, const struct route *route, const struct endpoint *ep, bool is_paused, FILE *errors)
{
	struct acceptor *a = c->acceptor;
	const size_t first = c->opened.n, planned = c->n;
	struct planned *p;
	int r = 0;

	for (size_t i = 0; i < a->n_listeners; i++) {
		if (!endpoint_same(a->listeners[i]->endpoint, ep))
			continue;
		p = add(c, a->listeners[i], route, ep);
		if (p == NULL)
			return -ENOMEM;
		p->is_kept = true;
	}
	if (c->n == planned)
		r = listener_add(&c->opened, a, route, ep, errors);
	for (size_t i = first; i < c->opened.n && r == 0; i++)
		r = add(c, c->opened.all[i], route, ep) != NULL ? 0 : -ENOMEM;
	for (size_t i = planned; i < c->n; i++)
		c->plan[i].is_paused = is_paused;
	return r;
}

int
relisten_prepare(struct relisten **ret, struct acceptor *a, const struct config *config,
    bool (*is_paused)(const struct route *route, const void *arg), const void *arg, FILE *errors)
{
	struct relisten *c = calloc(1, sizeof(*c));
	int r = 0, first = 0;

	if (c == NULL)
		return -ENOMEM;
	c->acceptor = a;
	c->evicts = config->when_full == WHEN_FULL_EVICT;
	for (size_t i = 0; i < config->n_routes && r != -ENOMEM; i++) {
		const struct route *route = &config->routes[i];

		for (size_t k = 0; k < route->n_listen && r != -ENOMEM; k++) {
			r = plan_endpoint(c, route, &route->listen[k], is_paused(route, arg), errors);
			first = first == 0 ? r : first;		/* the others are tried, too: every error is told */
		}
	}
	if (first != 0) {
		relisten_abandon(c);
		return first;
	}
	*ret = c;
	return 0;
}

void
relisten_abandon(struct relisten *c)
{
	for (size_t i = 0; i < c->opened.n; i++)
		listener_free(c->opened.all[i]);
	free(c->opened.all);
	free(c->plan);
	free(c);
}

static bool
is_planned(const struct relisten *c, const struct listener *l)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->plan[i].listener == l)
			return true;
	return false;
}

/* Clients that are in its queue get their flow by the settings that it had. */
static void
close_listener(struct listener *l)
{
	if (!l->is_paused && l->acceptor->is_accepting && l->endpoint->kind != ENDPOINT_FD)
		acceptor_on_event(l->fd, EV_READ, l);
	listener_free(l);
}

static void
set_paused(struct listener *l, bool is_paused)
{
	l->is_paused = is_paused;
	listener_accept_on(l, l->acceptor->is_accepting);
}

/* On the thread that accepts. */
static void
commit(struct worker *w, void *arg)
{
	struct relisten *c = arg;
	struct acceptor *a = c->acceptor;

	a->max_flows = c->max_flows;
	a->evicts = c->evicts;
	for (size_t i = 0; i < a->n_listeners; i++)
		if (!is_planned(c, a->listeners[i]))
			close_listener(a->listeners[i]);
	for (size_t i = 0; i < c->n; i++) {
		struct planned *p = &c->plan[i];

		c->plan[i].listener->is_paused = p->is_paused;
		if (p->is_kept)
			listener_give(p->listener, p->route, p->endpoint);
		else
			(void)listener_start(p->listener, worker_base(w));	/* it fails only without memory for an event */
		set_paused(p->listener, p->is_paused);
		a->listeners[i] = p->listener;
	}
	a->n_listeners = c->n;
}

int
relisten_commit(struct relisten *c, int max_flows)
{
	struct acceptor *a = c->acceptor;
	struct listener **room = reallocarray(a->listeners, c->n > a->n_listeners ? c->n : a->n_listeners, sizeof(*room));

	if (room == NULL)
		return -ENOMEM;
	a->listeners = room;
	c->max_flows = max_flows;
	worker_call(a->workers[0], commit, c);
	acceptor_warn_of_unclaimed(a);
	c->opened.n = 0;		/* they are the acceptor's */
	relisten_abandon(c);
	return 0;
}

/* --- pause --- */

struct pause_order {
	struct acceptor *acceptor;
	unsigned slot;
	bool on;
};

static void
pause_there(struct worker *w, void *arg)
{
	const struct pause_order *o = arg;

	(void)w;
	for (size_t i = 0; i < o->acceptor->n_listeners; i++)
		if (o->acceptor->listeners[i]->route->slot == o->slot)
			set_paused(o->acceptor->listeners[i], o->on);
}

void
acceptor_pause(struct acceptor *a, unsigned slot, bool on)
{
	struct pause_order o = { a, slot, on };

	if (a->n_workers > 0)
		worker_call(a->workers[0], pause_there, &o);
}

int
acceptor_waiting(const struct acceptor *a, unsigned slot, int *limit)
{
	int sum = -1;

	*limit = 0;
	for (size_t i = 0; i < a->n_listeners; i++) {
		int most = 0;
		const int n = a->listeners[i]->route->slot == slot ? socket_waiting(a->listeners[i]->fd, &most) : -1;

		if (n < 0)
			continue;
		sum = (sum < 0 ? 0 : sum) + n;
		*limit += most;
	}
	return sum;
}
