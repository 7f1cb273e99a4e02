/*
 * drain.c - the end of a running stent: what happens between SIGTERM and exit.
 *
 * Flows retire one after the other over a part of drain_timeout (relay/drain.c).
 * drain = refuse: the listeners are closed, and flows retire within the first
 * 80 % of the time; 20 % are left for statements and transactions that last.
 * drain = serve: an application that is stopped at the same time closes its
 * connections itself, and opens others to clean up. So half of the time is its
 * own; then flows retire until 90 %. It is done when no flow has been open for
 * SERVE_EMPTY_US, as the application may be between two connections.
 */
#include <event2/event.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "worker/running.h"

#define LOOK_MS 20
#define SERVE_EMPTY_US (2 * US_PER_S)

static bool
has_cancels(const struct server *s)
{
	struct relay_counters c;

	for (size_t i = 0; i < s->n_workers; i++)
		for (size_t k = 0; k < server_slots(s); k++) {
			worker_read_stats(s->workers[i], k, &c);
			if (c.cancels > 0)
				return true;
		}
	return false;
}

static bool
is_over(struct server *s, int64_t now_us)
{
	if (now_us >= s->drain_until_us)
		return true;
	if (server_open_flows(s) > 0 || has_cancels(s)) {
		s->empty_since_us = 0;
		return false;
	}
	if (s->empty_since_us == 0)
		s->empty_since_us = now_us;
	return !s->config->drain_serves || now_us - s->empty_since_us >= SERVE_EMPTY_US;
}

void
drain_check(evutil_socket_t fd, short what, void *server)
{
	struct server *s = server;
	const struct timeval tv = { .tv_usec = LOOK_MS * US_PER_MS };

	(void)fd;
	(void)what;
	if (is_over(s, clock_us()))
		event_base_loopbreak(s->base);
	else
		event_add(s->drained, &tv);
}

bool
server_is_draining(const struct server *s)
{
	return s->drain_until_us != 0;
}

static void
retire_flows(struct worker *w, void *arg)
{
	worker_drain(w, arg);
}

static void
begin(struct server *s, int64_t now_us)
{
	const int64_t ms = s->config->drain_timeout_ms, us = ms * US_PER_MS;
	const bool serves = s->config->drain_serves;
	struct drain_times when = {
		.from_us = now_us + (serves ? us / 2 : 0),
		.until_us = now_us + (serves ? us / 10 * 9 : us / 10 * 8),
		.by_us = now_us + us,
	};

	s->drain_until_us = now_us + us;
	log_say(LEVEL_INFO, "draining: %s; %d flows have %lld ms to end", serves ? "new clients are served meanwhile" : "no new clients",
	    server_open_flows(s), (long long)ms);
	if (!serves)
		acceptor_stop(s->acceptor);
	for (size_t i = 0; i < s->n_workers; i++)
		worker_call(s->workers[i], retire_flows, &when);
}

void
server_drain(struct server *s)
{
	const int64_t now_us = clock_us();

	if (s->drain_until_us == 0) {
		begin(s, now_us);
	} else {
		s->drain_until_us = now_us;
		log_say(LEVEL_INFO, "drain cut short: closing %d flows", server_open_flows(s));
	}
	state_stopping(s);
	drain_check(-1, 0, s);
}
