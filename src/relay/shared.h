/* shared.h - what the flows of one worker, and the relays of all, share. */
#ifndef STENT_RELAY_SHARED_H
#define STENT_RELAY_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "relay/backend_state.h"
#include "relay/clients.h"
#include "relay/dial.h"
#include "relay/failed.h"
#include "relay/flow.h"
#include "stent/codec.h"
#include "stent/counters.h"
#include "stent/resolve.h"
#include "stent/trial.h"

#define RELAY_BUFFER (128 * 1024)	/* bytes per read; also the limit of what a direction holds in memory, except heartbeats */
#define PIPE_BYTES (512 * 1024)		/* per splice(); requested as the size of the pipe, the kernel may give less */

/* Bytes between two sockets that never come to user space. */
struct pipe {
	SLIST_ENTRY(pipe) link;
	int in, out;
	size_t len;		/* bytes inside */
};

TAILQ_HEAD(flow_list, flow);

/* Facts about a route that are logged once, by any worker; a set of static strings. */
#define ROUTE_LOGGED 24

/* What the workers share of a route, found by its slot. The data path does not use it. */
struct route_shared {
	char *name;
	const struct codec *codec;	/* of the settings that came last */
	struct trial trial[2];		/* of heartbeats to that side */
	const char *logged[ROUTE_LOGGED];
	unsigned waiting;		/* clients of connect_retry; atomic */
	int64_t retry_us;		/* when the next of them tries for all; atomic */
	struct backends *backends;	/* what is known of them: locked, see backend_state.h */
	struct client_table clients;	/* of routes with limits for each */
	int open;			/* flows; atomic */
};

struct relay_shared {
	unsigned waiting, waiting_max;	/* clients of connect_retry; atomic */
	int checks_fd;			/* see relay_shared_checks_fd(); atomic */
	struct failed failed;		/* addresses that failed lately */
	size_t n_routes, room;
	int n_workers;
	struct evict_table *tables;	/* that have been almost full; atomic: see evict_orders.c */
	struct route_shared *routes[];	/* by slot; never removed, as flows may outlive their route */
};

struct relay {
	struct event_base *base;
	const struct config *config;
	struct relay_shared *shared;
	bool kernel_has_times;		/* TCP_INFO was seen to report times: see kernel_has_times() */
	struct timers *timers;
	struct resolver *resolver;
	struct refusals *refusals;
	struct evict_search *evict;	/* of tables that have been almost full; NULL: none */
	int index;			/* of the worker */
	struct relay_counters **counters;	/* by slot of the route: see counters_new() */
	void (*on_end)(void *arg, unsigned slot);	/* a flow is gone */
	void *on_end_arg;
	struct flow_list flows, dead;
	STAILQ_HEAD(, flow) again;
	SLIST_HEAD(, pipe) pipes;	/* idle */
	size_t n_pipes;			/* idle or in use */
	struct {
		TAILQ_HEAD(, cancel) running, waiting;
		size_t n_running, n_waiting;
		uint64_t dropped;
		int64_t warned_us;	/* when that was last logged */
	} cancels;
	struct codec_out out, out_backend;	/* the second for a preface only, which writes to both sides at once */
	uint64_t last_id;
	struct {
		struct timer timer;	/* armed while somebody wants to know: see suspect.c */
		struct flow *next;	/* that is looked at */
		int64_t began_us;	/* of this round */
	} watch;
	struct {
		struct timer timer;	/* see drain.c */
		struct drain_times when;
		struct flow *next;	/* that is told */
		uint64_t told_id;	/* the last one that was told */
		size_t left;		/* of those that there were, not told yet */
		double owed;		/* the fraction of a flow that the last step left over */
		int64_t last_us;	/* the last step; 0: none yet */
	} drain;
	struct flow *list_next;		/* where a listing continues; NULL: none is in progress */
	uint64_t list_last_id;		/* the last flow it shows */
	struct flow *adopt_next;	/* the next flow that gets the settings; NULL: none is left: see adopt.c */
	uint64_t adopt_last_id;
	void *old_settings;		/* a tree of flows whose codec has others */
	void *retiring;			/* a tree of flows that are to end at a message boundary: see retire.c */
	void *origins;			/* a tree of flows whose client a PROXY header named: see origin.c */
	uint64_t proxy_seed;		/* of the ids in headers to backends; 0: none was sent */
	uint32_t random;
	int64_t warned_us;		/* the last warning about a backend */
	unsigned urgent_signals;	/* seen so far */
	int64_t urgent_until_us;	/* until then each read first checks for an urgent byte */
	int64_t denied_us;		/* the last warning about a flow that looped back */
	uint8_t buf[RELAY_BUFFER];
};

/* shared.c */
struct route_shared *relay_route(const struct flow *f);
uint16_t relay_route_index(const struct flow *f);	/* its slot */
bool relay_log_once(const struct flow *f, const char *what);	/* true: not logged of this route before; `what` is static */

/*
 * admission.c. May the client of this flow, whose address is known only now, have it? A refusal is counted by its
 * cause; the caller ends the flow, by admission_reason(). What was counted is given back at its end.
 */
enum admission flow_admit(struct flow *f);
void flow_leave(struct flow *f);

/* relay.c */
uint32_t relay_random(struct relay *r);
struct pipe *relay_take_pipe(struct relay *r);	/* empty; NULL: none available */
void relay_give_pipe(struct relay *r, struct pipe *p);
static inline struct relay_counters *
counters_of(const struct flow *f)
{
	return f->relay->counters[f->route->slot];
}

#endif
