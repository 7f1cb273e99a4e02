/*
 * acceptor.h - the listeners. Opened on the main thread, while it is root; then
 * used on the first worker's thread only. For src/worker alone.
 */
#ifndef STENT_WORKER_ACCEPTOR_H
#define STENT_WORKER_ACCEPTOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stent/config.h"
#include "stent/worker.h"

struct acceptor;

/* Binds every listener of the settings. 0, or -errno (logged with the address). */
int acceptor_open(struct acceptor **ret, const struct config *config);

/*
 * Starts accepting on the thread of workers[0], and gives each socket to
 * the worker with the fewest flows; above max_flows it is reset. 0 or -errno.
 * workers belongs to the caller and must outlive acceptor_stop().
 */
int acceptor_start(struct acceptor *a, struct worker **workers, size_t n, struct relay_shared *shared, const struct config *config, int max_flows);

/* Stops accepting and closes the listeners: new clients are refused. */
void acceptor_stop(struct acceptor *a);
/* Closes all. Call acceptor_stop() first if it was started. NULL is fine. */
void acceptor_free(struct acceptor *a);
/* Logs the sockets from systemd that no route listens on. */
void acceptor_warn_of_unclaimed(const struct acceptor *a);

/* Clients of a route (by its slot) wait in the kernel's queue, or are accepted again, in their order. */
void acceptor_pause(struct acceptor *a, unsigned slot, bool on);
/* How many wait there now, and how many can; -1: not known (UNIX sockets). */
int acceptor_waiting(const struct acceptor *a, unsigned slot, int *limit);

/*
 * --- relisten.c: the listeners of settings that replace others; the main thread, while it accepts ---
 * Opens those that are new. 0, or -errno: every error is written to errors, and nothing has changed.
 */
struct relisten;
int relisten_prepare(struct relisten **ret, struct acceptor *a, const struct config *config,
    bool (*is_paused)(const struct route *route, const void *arg), const void *arg, FILE *errors);
/* From now on these listen, and are given to the routes of those settings. 0, or -ENOMEM: nothing has changed, abandon it. */
int relisten_commit(struct relisten *c, int max_flows);
void relisten_abandon(struct relisten *c);

#endif
