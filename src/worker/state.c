/*
 * state.c - tells systemd: ready, reloading, stopping, and that all threads run.
 *
 * The watchdog asks each worker to answer, and at its next turn tells systemd
 * only if all of them have. A worker that hangs, or this thread, thus ends in
 * a restart by systemd.
 */
#include <event2/event.h>
#include <inttypes.h>
#include <time.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "stent/notify.h"
#include "worker/running.h"

static const char *
plural(size_t n)
{
	return n == 1 ? "" : "s";
}

void
state_ready(struct server *s)
{
	const size_t routes = s->config->n_routes, flows = (size_t)server_open_flows(s);

	notify_send("READY=1\nSTATUS=relaying: %zu route%s, %zu flow%s%s", routes, plural(routes), flows, plural(flows),
	    s->load.failed ? "; the last reload failed, see the log" : "");
}

void
state_reloading(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	notify_send("RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=reading the settings",
	    (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000);
}

void
state_stopping(const struct server *s)
{
	const size_t flows = (size_t)server_open_flows(s);

	notify_send("STOPPING=1\nSTATUS=draining: %zu flow%s left", flows, plural(flows));
}

/* The workers that have not answered. */
static size_t
count_silent(const struct server *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_workers; i++)
		n += !worker_has_answered(s->workers[i]);
	return n;
}

static void
on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	const size_t flows = (size_t)server_open_flows(s), silent = count_silent(s);

	(void)fd;
	(void)what;
	if (silent > 0) {
		log_say(LEVEL_ERROR, "%zu worker%s did not respond: systemd is not told that stent is alive", silent, plural(silent));
		return;
	}
	notify_send("WATCHDOG=1\nSTATUS=%s: %zu route%s, %zu flow%s", server_is_draining(s) ? "draining" : "relaying",
	    s->config->n_routes, plural(s->config->n_routes), flows, plural(flows));
	for (size_t i = 0; i < s->n_workers; i++)
		worker_ask(s->workers[i]);
}

int
state_watch(struct server *s)
{
	const int64_t every_us = notify_watchdog_us();
	const struct timeval tv = { every_us / US_PER_S, every_us % US_PER_S };

	if (every_us <= 0)
		return 0;
	s->watchdog = event_new(s->base, -1, EV_PERSIST, on_watchdog, s);
	if (s->watchdog == NULL || event_add(s->watchdog, &tv) != 0)
		return -1;
	on_watchdog(-1, 0, s);
	return 0;
}
