/* evict.h - what evict.c (the search, on a worker) and evict_orders.c (the orders, of the thread that accepts) share. */
#ifndef STENT_RELAY_EVICT_H
#define STENT_RELAY_EVICT_H

#include "relay/flow.h"
#include "stent/evict.h"

/* What one worker has to offer of one table. All fields are atomic. */
struct evict_place {
	int64_t pressed_us;	/* when room was last asked for */
	int64_t rank;		/* of the flow that would go first: the lowest of all places goes */
	int ready;		/* flows that may go */
	int wanted;		/* of these, ordered to go */
	int leaving;		/* have gone, but their peers are still being told */
	int leaving_max;	/* so many at a time */
	bool is_searching;
};

/* A table of flows: all of the process, or those of a route. Made when it is first almost full, and kept. */
struct evict_table {
	struct evict_table *next;
	unsigned slot;		/* EVICT_ALL: all */
	int n_places;
	struct evict_place place[];	/* by the number of the worker */
};

/* evict_orders.c */
struct evict_table *evict_first_table(const struct relay_shared *s);
void evict_tables_free(struct relay_shared *s);

/* evict.c */
void evict_some(struct relay *r);		/* a slice of the search, between two rounds of the loop */
bool evict_has_work(const struct relay *r);
void evict_forget(struct flow *f);		/* it has ended */
void evict_free(struct relay *r);

#define EVICT_PRESSED_US (2 * US_PER_S)	/* so long after it was last asked for, room is still looked for */

#endif
