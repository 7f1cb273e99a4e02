/*
 * acceptor.h - the listeners. Opened on the main thread, while it is root; then
 * used on the first worker's thread only. For src/worker alone.
 */
#ifndef STENT_WORKER_ACCEPTOR_H
#define STENT_WORKER_ACCEPTOR_H

#include <stddef.h>
#include <stdint.h>

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
int acceptor_start(struct acceptor *a, struct worker **workers, size_t n, int max_flows);

/* Stops accepting and closes the listeners: new clients are refused. */
void acceptor_stop(struct acceptor *a);
/* Closes all. Call acceptor_stop() first if it was started. NULL is fine. */
void acceptor_free(struct acceptor *a);

#endif
