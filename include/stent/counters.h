/*
 * counters.h - what is counted of a route: by one worker, which alone writes
 * (relaxed), and read by anyone. All are uint64_t.
 */
#ifndef STENT_COUNTERS_H
#define STENT_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#include "stent/admission.h"
#include "stent/relay.h"
#include "stent/tls.h"

#define PASSTHROUGH_ROWS 64	/* the last is for reasons that did not fit: "other" */

/* Flows that became passthrough for one reason. */
struct passthrough_count {
	uint64_t reason;		/* the address of a static string; 0: the row is unused */
	uint64_t flows;
};

/* NULL: the row is unused. */
const char *passthrough_reason(const struct passthrough_count *c);
/* For a single writer; reason is a static string. */
void passthrough_add(struct passthrough_count counts[PASSTHROUGH_ROWS], const char *reason, uint64_t flows);

#define HISTOGRAM_BUCKETS 15

/* Durations. bucket[i]: at most histogram_limit_us[i]; the last one: any longer. Each is in one bucket only. */
struct histogram {
	uint64_t bucket[HISTOGRAM_BUCKETS + 1];
	uint64_t sum_us;
};

extern const int64_t histogram_limit_us[HISTOGRAM_BUCKETS];
/* For a single writer. */
void histogram_add(struct histogram *h, int64_t us);

/* How an attempt to connect to an address of a backend went. */
enum connect_result {
	CONNECT_OK,
	CONNECT_REFUSED,
	CONNECT_TIMEOUT,
	CONNECT_LOOKUP,		/* no address was found */
	CONNECT_ERROR,
	CONNECT_RESULTS,
};

const char *connect_result_text(enum connect_result r);

/* Indexed by the side that was heard, or that heartbeats go to, where there are two. */
struct relay_counters {
	uint64_t flows_open;
	uint64_t flows_total;
	uint64_t flows_unopened;	/* of those that ended: never connected to a backend */
	uint64_t flows_ended[REASON_COUNT];
	uint64_t refusals[ADMISSION_COUNT];	/* of clients, by cause */
	uint64_t bytes[2];		/* received from that side and forwarded */
	uint64_t heartbeats[2], replies[2];	/* sent to that side, and its replies */
	uint64_t misses[2];		/* replies that did not come in time */
	uint64_t refused[2];		/* flows of which that side refused a heartbeat */
	uint64_t detect_too_short[2];	/* 1: a flow's round trips to that side were too long for detect */
	uint64_t connects[CONNECT_RESULTS];
	struct histogram round_trip[2];	/* of replies to heartbeats */
	struct histogram connect;	/* of flows: from the accepted client to a connected backend */
	struct passthrough_count passthrough[PASSTHROUGH_ROWS];
	uint64_t cancels;		/* cancel requests under way */
	uint64_t handshakes[2], resumed[2];	/* of TLS that were completed; of these, without a full one */
	uint64_t tls_failures[2][TLS_CAUSE_COUNT];
};

/*
 * The counters of a worker: a pointer for each slot of a route, NULL until the route has its first flow there, and one
 * more, for routes for which there was no memory. NULL: out of memory.
 */
struct relay_counters **counters_new(size_t slots);
void counters_free(struct relay_counters **all, size_t slots);	/* NULL is fine */
/* On the worker's thread, before a flow of that slot counts anything. */
void counters_prepare(struct relay_counters **all, size_t slots, size_t slot);
/* Any thread. */
void counters_read(struct relay_counters *const *all, size_t slot, struct relay_counters *ret);

/* sum += c */
void relay_counters_add(struct relay_counters *sum, const struct relay_counters *c);

static inline void
counter_add(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);	/* there is one writer: no atomic add is needed */
}

#endif
