/*
 * evict.h - when_full = evict: idle flows end to make room for new ones, when there are max_flows, of all routes or of one.
 *
 * The thread that accepts asks for room, and orders evictions from the workers, which have flows ready that may go.
 */
#ifndef STENT_EVICT_H
#define STENT_EVICT_H

#include <stdbool.h>

#include "stent/relay.h"

/* The flows of all routes, instead of those of one slot. */
#define EVICT_ALL UINT32_MAX

enum evict_room {
	EVICT_ROOM,		/* there is room, or will be at once */
	EVICT_WAIT,		/* there is none yet, but flows are about to go */
	EVICT_FULL,		/* there is none, and no flow may go */
};

/* To have a worker run relay_make_room() soon. index: its number. */
struct evict_caller {
	void (*wake)(void *arg, int index);
	void *arg;
};

/* --- for the one thread that accepts --- */

/* Is there room for one more of `open` flows? At max_flows it orders an eviction. */
enum evict_room evict_look(struct relay_shared *s, unsigned slot, int open, int max_flows, const struct evict_caller *caller);
/* One more flow is to be opened: orders evictions, so that a part of the table stays free. True: some were ordered. */
bool evict_prepare(struct relay_shared *s, unsigned slot, int open, int max_flows, const struct evict_caller *caller);

/* --- on a worker's thread --- */

/* Ends flows that were ordered to go, and looks for more that may, if they are wanted. */
void relay_make_room(struct relay *r);

#endif
