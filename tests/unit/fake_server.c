/* fake_server.c - what the administration sees of a server, made up. */
#include "fake_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

unsigned fake_server_asked;

static struct endpoint listen_pg[] = { { .text = "0.0.0.0:6432" } };
static struct endpoint backend_pg[] = { { .text = "db1:5432" }, { .text = "db2:5432" } };
static struct endpoint listen_ws[] = { { .text = ":8080" } };
static struct endpoint backend_ws[] = { { .text = "unix:/run/<b>\xff.sock" } };

static struct route routes[] = {
	{
		.name = "pg", .protocol = "postgres", .listen = listen_pg, .n_listen = 1,
		.backend = backend_pg, .n_backend = 2,
		.leg = {
			[CLIENT] = { .keepalive.idle_s = 60, .keepalive.interval_s = 10, .keepalive.probes = 6,
			    .keepalive.user_timeout_ms = 120000, .heartbeat_ms = 60000, .heartbeat_kind = HEARTBEAT_ONEWAY },
			[BACKEND] = { .heartbeat_ms = 2500, .heartbeat_kind = HEARTBEAT_PING, .heartbeat_limit_ms = 43200000 },
		},
	},
	{
		.name = "w\"<i>\xff", .slot = 1, .protocol = "auto", .listen = listen_ws, .n_listen = 1,
		.backend = backend_ws, .n_backend = 1,
		.leg = { [CLIENT] = { .heartbeat_is_auto = true }, [BACKEND] = { .idle_timeout_ms = 5000 } },
	},
};

static struct address
address_of(const char *ip, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, ip, &sin.sin_addr);
	return address_from_sockaddr((struct sockaddr *)&sin);
}

void
fake_server_add_flow(struct server *s, size_t worker, uint64_t id)
{
	struct worker *w = &s->workers[worker];

	w->flows[w->n_flows++] = (struct flow_info){
		.id = id, .route = &routes[id % 2 == 0],
		.client = address_of("192.0.2.1", (uint16_t)(5000 + id)), .backend = address_of("10.0.0.7", 5432),
		.backend_text = id % 2 == 0 ? NULL : "db1:5432", .protocol = "tcp", .connecting = id % 2 == 0, .ending = id == 1,
		.age_ms = (int64_t)(1000 * id),
		.leg = {
			[CLIENT] = { .bytes = 1000000 / id, .heartbeats = id, .replies = id - 1, .rtt_us = 1234,
			    .srtt_us = 1300, .worst_us = 9000, .idle_ms = (int64_t)(500 * id) },
			[BACKEND] = { .bytes = 7, .rtt_us = -1, .srtt_us = -1, .worst_us = -1,
			    .idle_ms = 100000, .fin = id == 3 },
		},
	};
}

void
fake_server_init(struct server *s)
{
	memset(s, 0, sizeof(*s));
	s->config = (struct config){
		.path = "/etc/stent.ini", .workers = FAKE_WORKERS, .max_flows = 4000, .drain_timeout_ms = 30000,
		.routes = routes, .n_routes = 2,
	};
	fake_server_add_flow(s, 0, 1);
	fake_server_add_flow(s, 1, 2);
	fake_server_add_flow(s, 0, 3);
	for (size_t i = 0; i < FAKE_WORKERS; i++) {
		struct relay_counters *c = &s->workers[i].counters[0];
		uint64_t n = i == 0 ? 1 : 100;

		*c = (struct relay_counters){
			.flows_open = s->workers[i].n_flows, .flows_total = 10 * n, .bytes = { 2 * n, 3 * n },
			.heartbeats = { 4 * n, 5 * n }, .replies = { 6 * n, 7 * n },
		};
		passthrough_add(c->passthrough, i == 0 ? "bad \"length\"" : "TLS", i + 1);
		passthrough_add(c->passthrough, "TLS", 8 * n);
		c->flows_ended[REASON_CLIENT_FIN] = 9 * n;
		c->flows_ended[REASON_DRAIN] = i;
	}
}

const struct config *
server_config(const struct server *s)
{
	return &s->config;
}

size_t
server_workers(const struct server *s)
{
	(void)s;
	return FAKE_WORKERS;
}

struct worker *
server_worker(const struct server *s, size_t i)
{
	return (struct worker *)(uintptr_t)&s->workers[i];
}

size_t
server_slots(const struct server *s)
{
	return s->config.n_routes;
}

const char *
server_slot_name(const struct server *s, size_t slot)
{
	return s->config.routes[slot].name;
}

bool
server_backend_is_down(const struct server *s, size_t slot, size_t backend)
{
	(void)s;
	return slot == 0 && backend == 1;
}

unsigned
server_waiting(const struct server *s, size_t slot)
{
	(void)s;
	return (unsigned)slot;
}

int
server_backend_facts(const struct server *s, const struct route *route, size_t backend, struct backend_facts *ret)
{
	(void)s;
	*ret = (struct backend_facts){ .is = route->slot == 0 && backend == 1 ? BACKEND_DOWN : BACKEND_UP, .flows = 3, .failures = 2 };
	return 0;
}

int
server_max_flows(const struct server *s)
{
	return s->config.max_flows;
}

int64_t
server_uptime_ms(const struct server *s)
{
	(void)s;
	return 12345;
}

bool
server_is_draining(const struct server *s)
{
	return s->draining;
}

void
server_drain(struct server *s)
{
	s->draining = true;
	s->drains++;
}

const struct server_load *
server_last_load(const struct server *s)
{
	static const struct server_load load = { .at = 1000 };

	(void)s;
	return &load;
}

bool
server_is_adopting(const struct server *s)
{
	(void)s;
	return false;
}

void
server_follow(struct server *s, const struct server_follower *f, void *arg)
{
	(void)s;
	(void)f;
	(void)arg;
}

int
server_reload(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg)
{
	const struct config_change change = { .route = "pg", .key = "client.heartbeat", .from = "1m", .to = "2m" };

	if (s->reload_fails) {
		fputs("/etc/stent.ini:3: no such key\n/etc/stent.ini:7: no such value\n", errors);
		return -EINVAL;
	}
	visit(&change, arg);
	return 0;
}

int
server_reload_dry(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg)
{
	return server_reload(s, errors, visit, arg);
}

int
server_pause(struct server *s, const char *name, int64_t for_ms)
{
	s->paused_ms = for_ms;
	s->is_paused = strcmp(name, "pg") == 0;
	return s->is_paused ? 0 : -ENOENT;
}

int
server_resume(struct server *s, const char *name)
{
	if (strcmp(name, "pg") != 0)
		return -ENOENT;
	if (!s->is_paused)
		return -EALREADY;
	s->is_paused = false;
	return 0;
}

bool
server_pause_of(const struct server *s, const struct route *route, struct server_pause *ret)
{
	*ret = (struct server_pause){ .left_ms = 5000, .waiting = 3, .limit = 4096 };
	return s->is_paused && route == &routes[0];
}

int
worker_flows(const struct worker *w)
{
	return (int)w->n_flows;
}

void
worker_read_stats(const struct worker *w, size_t slot, struct relay_counters *ret)
{
	*ret = w->counters[slot];
}

void
worker_read_delay(struct worker *w, struct histogram *ret)
{
	(void)w;
	memset(ret, 0, sizeof(*ret));
}

void
worker_watch(struct worker *w)
{
	(void)w;
}

void
worker_call(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg)
{
	fn(w, arg);
}

void
worker_each_flow(struct worker *w, void (*visit)(struct flow_info *info, void *arg), void *arg)
{
	for (size_t i = 0; i < w->n_flows; i++)
		visit(&w->flows[i], arg);
}

void
flow_info_add_kernel(struct flow_info *info)
{
	fake_server_asked++;
	if (info->id >= 100)
		info->leg[BACKEND].rtt_us = (int64_t)info->id;
}

bool
worker_kill(struct worker *w, uint64_t id, enum close_reason reason)
{
	for (size_t i = 0; i < w->n_flows; i++)
		if (w->flows[i].id == id) {
			w->flows[i] = w->flows[--w->n_flows];
			w->killed_for = reason;
			return true;
		}
	return false;
}

bool
flow_info_kill(struct flow_info *info, enum close_reason reason)
{
	(void)info;
	(void)reason;
	return true;
}
