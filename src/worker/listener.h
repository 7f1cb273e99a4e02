/*
 * listener.h - a listening socket of a route (listener.c), and what the acceptor
 * knows of all of them (acceptor.c, relisten.c). For src/worker alone.
 */
#ifndef STENT_WORKER_LISTENER_H
#define STENT_WORKER_LISTENER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>

#include "stent/socket.h"
#include "worker/acceptor.h"

struct listener {
	struct acceptor *acceptor;
	const struct route *route;	/* held through its settings */
	const struct endpoint *endpoint;
	struct event *ev;		/* NULL: not started */
	struct unix_file file;		/* of a path */
	int fd;
	bool is_paused;			/* clients wait in its queue */
	bool has_older;			/* clients in its queue may have the socket options of older settings */
};

/* Changed on the first worker's thread while the main thread waits; the main thread may read it. */
struct acceptor {
	struct listener **listeners;
	size_t n_listeners;
	struct unix_access access;	/* of UNIX listeners, except for the mode */
	struct worker **workers;
	size_t n_workers;		/* 0: not started */
	struct relay_shared *shared;
	int max_flows;
	bool evicts;			/* when_full of the process */
	int64_t wait_until_us;		/* clients wait for room until then; 0: they do not */
	int64_t evict_told_us;
	struct event *resume;		/* after a pause for lack of descriptors */
	int64_t limit_warned_us;
	uint64_t refused;		/* by max_flows */
	bool out_of_descriptors;
	bool is_accepting;		/* but for listeners that are paused */
};

/* A growing list of listeners. */
struct listener_list {
	struct listener **all;
	size_t n;
};

/*
 * Opens what an endpoint names and adds it to the list: one listener, or all sockets from systemd of a name. 0 or
 * -errno; errors: where that is told, NULL: in the log.
 */
int listener_add(struct listener_list *list, struct acceptor *a, const struct route *route, const struct endpoint *ep, FILE *errors);
/* Registers it with the base of the first worker, whose events it calls. 0 or -ENOMEM. */
int listener_start(struct listener *l, struct event_base *base);
void listener_accept_on(struct listener *l, bool on);
bool acceptor_resume_later(struct acceptor *a);		/* all listeners accept again after a short time; false: out of memory */
/* Gives it to the route, endpoint is the route's name of it. On the thread that accepts. */
void listener_give(struct listener *l, const struct route *route, const struct endpoint *endpoint);
/* Closes it, and removes its file. A socket from systemd stays open, as it may be wanted again. */
void listener_free(struct listener *l);
bool listener_has_path(const struct listener *l);	/* false: not a UNIX socket, or an abstract one */

/*
 * capacity.c: is there room for one more flow of the route? *cause: ADMITTED, or why there is none. False: there is none
 * for the moment; the client had better wait in the kernel's queue.
 */
bool capacity_look(struct acceptor *a, const struct route *route, enum admission *cause);
void capacity_take(struct acceptor *a, const struct route *route);	/* one more is to be opened */

/* acceptor.c: the socket has clients. */
void acceptor_on_event(evutil_socket_t fd, short what, void *arg);

#endif
