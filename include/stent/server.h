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
#include <stdio.h>

#include "stent/backends.h"
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

/* --- the capability for addresses of other machines; capability.c --- */

/* These settings need it for as long as they are used. */
bool server_needs_transparent(const struct config *c);
/* 0; -EPERM: they need it and this process does not have it (logged). */
int server_check_transparent(const struct config *c);
/* Leaves it alone to every thread, after the user was changed. 0 or -errno. */
int server_keep_transparent(struct server *s);

const struct config *server_config(const struct server *s);
size_t server_workers(const struct server *s);
struct worker *server_worker(const struct server *s, size_t i);
/* Slots of routes: of all names that the settings have had since the start. */
size_t server_slots(const struct server *s);
const char *server_slot_name(const struct server *s, size_t slot);
bool server_backend_is_down(const struct server *s, size_t slot, size_t backend);
unsigned server_waiting(const struct server *s, size_t slot);	/* clients that wait for a backend: connect_retry */
/* 0, -ENOENT or -ENOMEM; to be freed by backend_facts_clear() in any case. */
int server_backend_facts(const struct server *s, const struct route *route, size_t backend, struct backend_facts *ret);
int server_max_flows(const struct server *s);
int64_t server_uptime_ms(const struct server *s);
bool server_is_draining(const struct server *s);

/* --- settings that replace others; reload.c --- */

struct server_load {
	int64_t at;		/* when the settings in use were read; seconds since 1970 */
	uint64_t reloads;	/* tried since the start */
	bool failed;		/* the last one of them */
	int64_t failed_at;
};
const struct server_load *server_last_load(const struct server *s);
/*
 * Reads the settings file again and uses it: for new flows at once, for open ones within moments. visit (NULL: nothing)
 * is called for each change. 0; or -errno: every error is written to errors, a line each, and nothing has changed.
 */
int server_reload(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg);
/* Only reads the file and visits the changes. */
int server_reload_dry(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg);
/*
 * What is opened and closed with the settings outside of the server: the administration. prepare() opens what is new, or
 * writes errors and returns -errno; then either commit(), when server_config() is the new one, or abandon() is called.
 */
struct server_follower {
	int (*prepare)(void *arg, const struct config *next, FILE *errors);
	void (*commit)(void *arg);
	void (*abandon)(void *arg);
};
void server_follow(struct server *s, const struct server_follower *f, void *arg);
bool server_is_adopting(const struct server *s);	/* open flows are still being moved to the settings */

/* --- routes whose new clients wait; pause.c --- */

struct server_pause {
	int64_t left_ms;	/* -1: until it is resumed */
	int waiting, limit;	/* clients that wait, and can; waiting -1: not known */
};
/* name: of the route. for_ms 0: until it is resumed; again: for so long from now on. 0, -ENOENT: no such route, -ESHUTDOWN: stopping, -ENOMEM. */
int server_pause(struct server *s, const char *name, int64_t for_ms);
int server_resume(struct server *s, const char *name);	/* 0; -ENOENT: no such route; -EALREADY: it is not paused */
bool server_pause_of(const struct server *s, const struct route *route, struct server_pause *ret);	/* false: it is not paused */

/* Stops accepting, waits drain_timeout for flows to end, then ends them and returns from server_run(). A second call ends them at once. */
void server_drain(struct server *s);

#endif
