/*
 * plan.h - what is to happen in a world: drawn from its seed before it begins,
 * so that parts of it can be left out when a failing one is made smaller.
 */
#ifndef SIM_PLAN_H
#define SIM_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "talk.h"

enum fault_kind {
	FAULT_CUT,		/* a path carries nothing for a while */
	FAULT_GONE,		/* a host vanishes, in silence or with ICMP */
	FAULT_REBOOT,		/* it vanishes, and comes back with an empty memory */
	FAULT_FORGET,		/* a middlebox is restarted */
	FAULT_STOP,		/* the programs of a host are stopped, and continued later */
	FAULT_PAUSE,		/* they do not read for a while */
	FAULT_STALL,		/* they do not read for long: who has read all that there was may be taken for dead */
	FAULT_LOSS,		/* a path loses many segments for a while */
	FAULT_NAMES,		/* the name server is down for a while */
	FAULT_FREEZE,		/* stent's process is stopped for a while */
	FAULT_PIPES,		/* it gets no pipes */
	FAULT_DESCRIPTORS,	/* it gets no more descriptors for a while */
	FAULT_RELOAD,		/* the operator changes the settings */
	FAULT_HANG,		/* the programs of a host are stopped for long: they may be taken for dead */
	FAULT_REFUSE,		/* nobody listens on a host for a while */
	FAULT_KILL,		/* the operator ends some flows */
	FAULT_MEMORY,		/* the next allocations, or one of them, fail */
	FAULT_TABLE,		/* the table of a middlebox is full for a while */
	FAULT_TLS,		/* TLS that begins at a host meanwhile may stall, be refused, damaged, or cut off */
	FAULT_KINDS,
};

struct planned_fault {
	enum fault_kind kind;
	int64_t at_us, for_us;	/* after the start; of a fault that passes */
	size_t host;		/* where it happens */
	bool with_icmp;
	bool left_out;
};

struct planned_talk {
	int64_t at_us, for_us;
	size_t speech, client;
	bool left_out;
};

#define TALKS_MAX 400
#define FAULTS_MAX 40

struct plan {
	uint64_t seed;
	int64_t length_us;		/* new talks begin within it */
	int64_t drain_us;		/* after the start; 0: when all is over */
	int64_t hush_at_us, hush_us;	/* nobody says anything for so long, and nothing happens; 0: not */
	size_t n_clients, n_servers;	/* hosts */
	struct planned_talk talks[TALKS_MAX];
	size_t n_talks;
	struct planned_fault faults[FAULTS_MAX];
	size_t n_faults;
	int workers;
	/* Settings, in milliseconds. */
	int idle_s, interval_s, probes;
	int64_t heartbeat_ms, timeout_ms;
	int detect_s;			/* instead of the above; 0: not */
	bool names;			/* the backend is a name */
	bool serves_while_draining;
	int max_age_s;			/* 0: off */
	int max_flows;
	bool evicts;
};

extern const char *const fault_names[FAULT_KINDS];

/* What a plan is limited to. */
struct plan_limits {
	int64_t length_us;
	int fault;			/* of this kind alone; -1: any */
	const char *speech;		/* this one alone; NULL: any */
	bool no_tls;
};

void plan_draw(struct plan *p, uint64_t seed, const struct plan_limits *limits);
/* How long a side may be silent before the settings call it dead. */
int64_t plan_patience_us(const struct plan *p);
/* An outage of less may not be taken for a death. */
int64_t plan_stumble_us(const struct plan *p);
/* For how long a program may be stopped without being called dead. */
int64_t plan_stop_us(const struct plan *p);
/* How long after a death the program may take to tell it, at most. */
int64_t plan_bound_us(const struct plan *p);
void plan_print(const struct plan *p);

#endif
