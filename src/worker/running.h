/* running.h - what a running stent is made of, for the files of src/worker that are about all of it. */
#ifndef STENT_WORKER_RUNNING_H
#define STENT_WORKER_RUNNING_H

#include <event2/util.h>

#include "stent/server.h"
#include "worker/acceptor.h"
#include "worker/health.h"

/* A route whose new clients wait. */
struct route_pause {
	unsigned slot;
	int64_t until_us;	/* 0: until it is resumed */
};

/* What quit_when_idle knows; see quit.c. */
struct quit {
	struct event *timer;		/* NULL: never needed */
	uint64_t client_bytes;		/* when it was last looked */
	uint64_t backend_bytes;		/* when no flow was open last */
	int64_t open_since_us;		/* a flow has been open at each look since then; 0: none is */
	int64_t busy_us;		/* the last look at which a flow counted */
	bool used;			/* the first flow has come */
};

struct server {
	const struct config *config;
	struct event_base *base;
	struct acceptor *acceptor;
	struct relay_shared *shared;
	struct health *health;
	struct worker **workers;
	size_t n_workers;
	struct event *drained;		/* checks whether the drain is done */
	struct event *watchdog;		/* NULL: systemd does not watch */
	struct event *resume;		/* ends pauses whose time is over */
	struct route_pause *pauses;
	size_t n_pauses;
	struct server_load load;
	const struct server_follower *follower;	/* NULL: nobody */
	void *follower_arg;
	int descriptors;		/* limit */
	int max_flows;
	int64_t began_us;
	struct quit quit;
	int64_t drain_until_us;		/* 0: not draining */
	int64_t empty_since_us;		/* while draining: no flow has been open since then; 0: there are some */
};

/* server.c */
int server_find_max_flows(const struct config *c, int descriptors);
int server_open_flows(const struct server *s);

/* capability.c: 0; -EPERM: new settings need a capability that was given up; written to errors */
int capability_check_reload(const struct config *running, const struct config *next, FILE *errors);

/* drain.c */
void drain_check(evutil_socket_t fd, short what, void *server);	/* the callback of the event `drained` */

/* quit.c */
int quit_watch(struct server *s);	/* the settings are new; 0 or -ENOMEM */
void quit_free(struct server *s);

/* pause.c */
bool pause_is_on(const struct route *route, const void *server);	/* for relisten_prepare() */
void pause_forget_removed(struct server *s);	/* the settings were replaced */
void pause_free(struct server *s);

/* state.c: what systemd is told */
void state_ready(struct server *s);		/* after the start, and after a reload */
void state_reloading(void);
void state_stopping(const struct server *s);
int state_watch(struct server *s);		/* 0 or -ENOMEM */

#endif
