/*
 * server.c - a running stent as main sees it: the listeners and the workers.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "stent/clock.h"
#include "stent/event_log.h"
#include "stent/log.h"
#include "stent/server.h"
#include "stent/spare.h"
#include "worker/running.h"

#define MAX_FLOWS 10000000
#define RESERVED 96			/* descriptors: log, administration, listeners */
#define WORKERS_OWN (16 + 2 * RELAY_PIPES + RELAY_CANCELS)	/* per worker: event loop, DNS, pipes, cancel requests */
#define SPARE_SHARE 16			/* with few descriptors, one in this many is spare */

int
server_open_flows(const struct server *s)
{
	int n = 0;

	for (size_t i = 0; i < s->n_workers; i++)
		n += worker_flows(s->workers[i]);
	return n;
}

static int
add_workers(struct server *s)
{
	int r = 0;

	s->workers = calloc((size_t)s->config->workers, sizeof(*s->workers));
	s->shared = relay_shared_new(s->config);
	if (s->workers == NULL || s->shared == NULL)
		return -ENOMEM;
	for (int i = 0; i < s->config->workers && r == 0; i++) {
		r = worker_start(&s->workers[i], s->config, s->shared, i);
		if (r == 0)
			s->n_workers++;
		else
			log_say(LEVEL_ERROR, "cannot start worker %d: %s", i, strerror(-r));
	}
	return r;
}

/* Raises the soft limit of descriptors to the hard limit. Returns it. */
static int
raise_descriptor_limit(void)
{
	struct rlimit lim = { 0, 0 };

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &lim);
	}
	(void)getrlimit(RLIMIT_NOFILE, &lim);
	return lim.rlim_cur < 2 * MAX_FLOWS ? (int)lim.rlim_cur : 2 * MAX_FLOWS;
}

/* The system's limit of epoll watches per user; some kernels have none. */
static int
watch_limit(void)
{
	FILE *f = fopen("/proc/sys/fs/epoll/max_user_watches", "re");
	char text[32] = "";
	long n = 0;

	if (f != NULL && fgets(text, sizeof(text), f) != NULL)
		n = strtol(text, NULL, 10);
	if (f != NULL)
		fclose(f);
	return n > 0 && n < 2 * MAX_FLOWS ? (int)n : 2 * MAX_FLOWS;
}

/* A flow takes two of n descriptors (or watches); the rest, at most half, is kept for everything else. */
static int
flows_of(int n, int workers)
{
	int reserved = RESERVED + SPARE_MOST + workers * WORKERS_OWN;

	if (reserved > n / 2)
		reserved = n / 2;
	return n - reserved > 2 ? (n - reserved) / 2 : 1;
}

int
server_find_max_flows(const struct config *c, int descriptors)
{
	const int watches = watch_limit();
	const int n = descriptors < watches ? descriptors : watches;
	const int limit = flows_of(n, c->workers);

	if (c->max_flows > limit)
		log_say(LEVEL_WARN, "max_flows = %d, but %s (%d) allows only %d flows", c->max_flows,
		    n == descriptors ? "the limit on descriptors" : "fs.epoll.max_user_watches", n, limit);
	return c->max_flows > 0 ? c->max_flows : limit;
}

struct unhealthy {
	const struct route *route;
	size_t backend;
	const struct address *address;
	size_t closed;
};

static void
close_there(struct worker *w, void *arg)
{
	struct unhealthy *u = arg;

	u->closed += worker_kill_backend(w, u->route, u->backend, u->address);
}

/* on_unhealthy = close: an address went down by its checks. */
static void
close_flows(void *arg, const struct route *route, size_t backend, const struct address *address)
{
	struct server *s = arg;
	struct unhealthy u = { route, backend, address, 0 };
	char text[ADDRESS_TEXT_MAX];

	for (size_t i = 0; i < s->n_workers && address != NULL; i++)
		worker_call(s->workers[i], close_there, &u);
	if (u.closed > 0)
		log_say(LEVEL_WARN, "route %s: backend %s, %s: %zu flow%s closed (on_unhealthy)", route->name, route->backend[backend].text,
		    address_text(address, text), u.closed, u.closed == 1 ? "" : "s");
}

int
server_start(struct server **ret, const struct config *config, struct event_base *base)
{
	struct server *s = calloc(1, sizeof(*s));
	const int descriptors = raise_descriptor_limit();
	int r;

	if (s == NULL)
		return -ENOMEM;
	event_log_adopt();
	spare_hold(descriptors / SPARE_SHARE + 1);
	s->config = config_hold(config);
	s->base = base;
	s->began_us = clock_us();
	s->descriptors = descriptors;
	s->max_flows = server_find_max_flows(config, descriptors);
	s->load.at = time(NULL);
	s->drained = evtimer_new(base, drain_check, s);
	r = s->drained != NULL ? acceptor_open(&s->acceptor, config) : -ENOMEM;
	if (r == 0)
		r = add_workers(s);
	if (r == 0)
		r = health_start(&s->health, base, s->shared, config, close_flows, s);
	if (r != 0) {
		server_free(s);
		return r;
	}
	relay_shared_limit_waiting(s->shared, (unsigned)(s->max_flows + 1) / 2);
	*ret = s;
	return 0;
}

static void
say_ready(const struct server *s)
{
	for (size_t i = 0; i < s->config->n_routes; i++) {
		const struct route *r = &s->config->routes[i];

		for (size_t k = 0; k < r->n_listen; k++)
			log_say(LEVEL_INFO, "route %s: listening on %s, protocol %s", r->name, r->listen[k].text, r->protocol);
	}
	log_say(LEVEL_INFO, "stent " STENT_VERSION " runs with %zu worker%s, max_flows %d", s->n_workers,
	    s->n_workers == 1 ? "" : "s", s->max_flows);
}

int
server_accept(struct server *s)
{
	const int r = acceptor_start(s->acceptor, s->workers, s->n_workers, s->shared, s->config, s->max_flows);

	if (r == 0)
		say_ready(s);
	return r;
}

int
server_run(struct server *s)
{
	const int r = server_accept(s);

	if (r != 0)
		return r;
	state_ready(s);
	if (state_watch(s) != 0 || quit_watch(s) != 0)
		return -ENOMEM;
	return event_base_dispatch(s->base) < 0 ? -EIO : 0;
}

void
server_free(struct server *s)
{
	if (s == NULL)
		return;
	if (s->acceptor != NULL)
		acceptor_stop(s->acceptor);
	health_free(s->health);
	for (size_t i = 0; i < s->n_workers; i++)
		worker_end(s->workers[i]);
	for (size_t i = 0; i < s->n_workers; i++)
		worker_stop(s->workers[i]);
	free(s->workers);
	relay_shared_free(s->shared);
	acceptor_free(s->acceptor);
	if (s->drained != NULL)
		event_free(s->drained);
	if (s->watchdog != NULL)
		event_free(s->watchdog);
	pause_free(s);
	quit_free(s);
	config_release(s->config);
	free(s);
}

const struct config *
server_config(const struct server *s)
{
	return s->config;
}

size_t
server_workers(const struct server *s)
{
	return s->n_workers;
}

struct worker *
server_worker(const struct server *s, size_t i)
{
	return s->workers[i];
}

size_t
server_slots(const struct server *s)
{
	return relay_shared_slots(s->shared);
}

const char *
server_slot_name(const struct server *s, size_t slot)
{
	return relay_shared_name(s->shared, slot);
}

bool
server_backend_is_down(const struct server *s, size_t slot, size_t backend)
{
	return relay_backend_is_down(s->shared, slot, backend);
}

unsigned
server_waiting(const struct server *s, size_t slot)
{
	return relay_shared_waiting(s->shared, slot);
}

int
server_backend_facts(const struct server *s, const struct route *route, size_t backend, struct backend_facts *ret)
{
	return relay_backend_facts(s->shared, route, backend, ret);
}

int
server_max_flows(const struct server *s)
{
	return s->max_flows;
}

int64_t
server_uptime_ms(const struct server *s)
{
	return (clock_us() - s->began_us) / US_PER_MS;
}
