/*
 * server.h - a running stent: listeners, workers, drain. Created by main, used by
 * the administration (control socket, status page).
 * All calls on the main thread.
 */
#ifndef STENT_SERVER_H
#define STENT_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/config.h"
#include "stent/worker.h"

struct event_base;
struct server;

/* Binds every listener and starts the workers. 0, or -errno (logged with the address). */
int server_start(struct server **ret, const struct config *config, struct event_base *base);
/* Starts accepting; the caller runs the base. 0 or -errno. */
int server_accept(struct server *s);
/* Accepts, and runs the base until drained. 0 or -errno. */
int server_run(struct server *s);
void server_free(struct server *s);

const struct config *server_config(const struct server *s);
size_t server_workers(const struct server *s);
struct worker *server_worker(const struct server *s, size_t i);
/* Slots of routes: of all names that the settings have had since the start. */
size_t server_slots(const struct server *s);
const char *server_slot_name(const struct server *s, size_t slot);
bool server_backend_is_down(const struct server *s, size_t slot, size_t backend);
int server_max_flows(const struct server *s);
int64_t server_uptime_ms(const struct server *s);
bool server_is_draining(const struct server *s);

/* Stops accepting, waits drain_timeout for flows to end, then ends them and returns from server_run(). A second call ends them at once. */
void server_drain(struct server *s);

#endif
