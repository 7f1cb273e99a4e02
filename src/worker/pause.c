/*
 * pause.c - routes whose new clients wait, while a database fails over.
 *
 * They wait in the kernel's queue of the listener, with what they send: they
 * cost no descriptor, keep their order, and their connect_timeout begins when
 * they are accepted. The queue is the limit; beyond it the kernel drops SYNs,
 * and clients try again by themselves. Open flows go on.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "worker/running.h"

static struct route_pause *
find(const struct server *s, unsigned slot)
{
	for (size_t i = 0; i < s->n_pauses; i++)
		if (s->pauses[i].slot == slot)
			return &s->pauses[i];
	return NULL;
}

bool
pause_is_on(const struct route *route, const void *server)
{
	return find(server, route->slot) != NULL;
}

static void
drop(struct server *s, struct route_pause *p)
{
	*p = s->pauses[--s->n_pauses];
}

void
pause_forget_removed(struct server *s)
{
	for (size_t i = s->n_pauses; i-- > 0;) {
		bool is_there = false;

		for (size_t k = 0; k < s->config->n_routes; k++)
			is_there |= s->config->routes[k].slot == s->pauses[i].slot;
		if (!is_there)
			drop(s, &s->pauses[i]);
	}
}

static void
end_pause(struct server *s, struct route_pause *p, const char *name, const char *why)
{
	const unsigned slot = p->slot;
	int limit;
	const int waiting = acceptor_waiting(s->acceptor, slot, &limit);

	drop(s, p);
	if (waiting >= 0)
		log_say(LEVEL_INFO, "route %s: resumed%s; %d clients waited", name, why, waiting);
	else
		log_say(LEVEL_INFO, "route %s: resumed%s", name, why);
	acceptor_pause(s->acceptor, slot, false);
}

/* Sets the timer to the pause that ends first. */
static void
set_timer(struct server *s)
{
	int64_t at_us = INT64_MAX, left_us;

	for (size_t i = 0; i < s->n_pauses; i++)
		if (s->pauses[i].until_us != 0 && s->pauses[i].until_us < at_us)
			at_us = s->pauses[i].until_us;
	if (at_us == INT64_MAX) {
		event_del(s->resume);
		return;
	}
	left_us = at_us - clock_us();
	if (left_us < 0)
		left_us = 0;
	event_add(s->resume, &(struct timeval){ left_us / US_PER_S, left_us % US_PER_S });
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	const int64_t now_us = clock_us();

	(void)fd;
	(void)what;
	for (size_t i = 0; i < s->config->n_routes; i++) {
		struct route_pause *p = find(s, s->config->routes[i].slot);

		if (p != NULL && p->until_us != 0 && p->until_us <= now_us)
			end_pause(s, p, s->config->routes[i].name, ", as its time is over");
	}
	set_timer(s);
}

/* NULL: out of memory. */
static struct route_pause *
add(struct server *s, unsigned slot)
{
	struct route_pause *list = reallocarray(s->pauses, s->n_pauses + 1, sizeof(*list));

	if (list == NULL)
		return NULL;
	s->pauses = list;
	list[s->n_pauses] = (struct route_pause){ .slot = slot };
	return &list[s->n_pauses++];
}

int
server_pause(struct server *s, const char *name, int64_t for_ms)
{
	const struct route *route = config_route(s->config, name);
	struct route_pause *p;

	if (route == NULL)
		return -ENOENT;
	if (server_is_draining(s))
		return -ESHUTDOWN;
	if (s->resume == NULL)
		s->resume = evtimer_new(s->base, on_resume, s);
	p = find(s, route->slot);
	if (p == NULL)
		p = add(s, route->slot);
	if (p == NULL || s->resume == NULL)
		return -ENOMEM;
	p->until_us = for_ms > 0 ? clock_us() + for_ms * US_PER_MS : 0;
	acceptor_pause(s->acceptor, route->slot, true);
	set_timer(s);
	log_say(LEVEL_INFO, "route %s: paused%s: new clients wait, open flows continue", name, for_ms > 0 ? " for a time" : "");
	return 0;
}

int
server_resume(struct server *s, const char *name)
{
	const struct route *route = config_route(s->config, name);
	struct route_pause *p = route != NULL ? find(s, route->slot) : NULL;

	if (route == NULL)
		return -ENOENT;
	if (p == NULL)
		return -EALREADY;
	end_pause(s, p, name, "");
	set_timer(s);
	return 0;
}

bool
server_pause_of(const struct server *s, const struct route *route, struct server_pause *ret)
{
	const struct route_pause *p = find(s, route->slot);
	const int64_t now_us = clock_us();

	if (p == NULL)
		return false;
	ret->left_ms = p->until_us == 0 ? -1 : p->until_us > now_us ? (p->until_us - now_us) / US_PER_MS : 0;
	ret->waiting = acceptor_waiting(s->acceptor, route->slot, &ret->limit);
	return true;
}

void
pause_free(struct server *s)
{
	if (s->resume != NULL)
		event_free(s->resume);
	free(s->pauses);
}
