/* fake_server.h - a server of two workers whose flows and counters a test makes up. */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include "stent/config.h"
#include "stent/server.h"
#include "stent/worker.h"

#define FAKE_WORKERS 2
#define FAKE_FLOWS 300

struct worker {
	struct flow_info flows[FAKE_FLOWS];
	size_t n_flows;
	struct relay_counters counters[2];	/* by slot of the route: all are of the first */
	enum close_reason killed_for;	/* of the last kill */
};

struct server {
	struct config config;
	struct worker workers[FAKE_WORKERS];
	bool draining, reload_fails, is_paused;
	int64_t paused_ms;
	int drains;		/* calls of server_drain() */
};

/* How often flow_info_add_kernel() was called. Of flows from id 100 on the kernel knows the backend's round trip: id microseconds. */
extern unsigned fake_server_asked;

/* Two routes, three flows (1 and 3 on the first worker, 2 on the second), counters that differ in all places. */
void fake_server_init(struct server *s);
void fake_server_add_flow(struct server *s, size_t worker, uint64_t id);

#endif
