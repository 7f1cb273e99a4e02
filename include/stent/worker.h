/*
 * worker.h - a thread that relays: an event_base, a read buffer, a timer heap,
 * pooled pipes, and its own flows. Nothing on the data path is shared.
 */
#ifndef STENT_WORKER_H
#define STENT_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/config.h"
#include "stent/counters.h"
#include "stent/relay.h"

struct event_base;
struct worker;

/* Starts the thread. 0 or -errno. */
int worker_start(struct worker **ret, const struct config *config, struct relay_shared *shared, int index);

/* Gives an accepted socket to the worker. 0: the worker owns fd now; -ENOMEM: the caller still does. Any thread. */
int worker_give(struct worker *w, int fd, const struct route *route, const struct address *client, enum admission admitted);

/* The same on the worker's own thread: opened at once. */
void worker_open(struct worker *w, int fd, const struct route *route, const struct address *client, enum admission admitted);
/* Also on its own thread: resets the socket, counted and logged as a flow that ended. */
void worker_refuse(struct worker *w, int fd, const struct route *route, const struct address *client,
    enum admission cause);
/* relay_make_room() soon; is_own: the caller is on its thread, and it is done now. */
void worker_make_room(struct worker *w, bool is_own);
/* For code that lives on the worker's thread. */
struct event_base *worker_base(struct worker *w);

/* Flows given and not yet ended. Any thread. */
int worker_flows(const struct worker *w);
void worker_read_stats(const struct worker *w, size_t slot, struct relay_counters *ret);

/*
 * How late the worker's event loop gets to what is due: timers of its own, ten a second, and only for two minutes after
 * the last call, so that nothing wakes a worker that nobody watches. Any thread.
 */
void worker_read_delay(struct worker *w, struct histogram *ret);

/* Calls fn(w, arg) on the worker's thread and waits for it. Any thread but a worker's. */
void worker_call(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg);

/*
 * Visits every flow, on the worker's thread, and waits for it. In slices, between which the worker relays: a
 * flow that ends meanwhile may be missed. Any thread but a worker's; one at a time.
 */
void worker_each_flow(struct worker *w, void (*visit)(struct flow_info *info, void *arg), void *arg);

/* Asks it to answer, between two rounds of its loop; has it answered the last time? Any thread. */
void worker_ask(struct worker *w);
bool worker_has_answered(const struct worker *w);

/* For fn of worker_call(): see relay_adopt(). */
void worker_adopt(struct worker *w, const struct config *config);
/* Open flows are still being moved to the newest settings. Any thread. */
bool worker_is_adopting(const struct worker *w);

/* For fn of worker_call(): ends one flow (the reason says why). False: no such flow here. */
bool worker_kill(struct worker *w, uint64_t id, enum close_reason reason);
/* For fn of worker_call(): see relay_kill_backend(). */
size_t worker_kill_backend(struct worker *w, const struct route *route, size_t backend, const struct address *address);
/* For fn of worker_call(): ends them all. Returns how many. */
size_t worker_kill_all(struct worker *w, enum close_reason reason);

/* For fn of worker_call(): see relay_drain(). */
void worker_drain(struct worker *w, const struct drain_times *when);

/* Other events are wanted than before (events_set_wanted()): wakes the worker to see to it. Any thread. */
void worker_watch(struct worker *w);

/* Makes it end the remaining flows (reason drain), send close messages, and stop; does not wait. */
void worker_end(struct worker *w);
/* The same, then joins the thread and frees everything. */
void worker_stop(struct worker *w);

#endif
