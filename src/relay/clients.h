/* clients.h - the clients of a route that has limits for each of them: how many flows they have, and how fast they come. */
#ifndef STENT_RELAY_CLIENTS_H
#define STENT_RELAY_CLIENTS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "stent/admission.h"

/* Limit of clients that are known by their rate alone, without a counted flow. */
#define CLIENTS_WITHOUT_FLOWS 16384

TAILQ_HEAD(client_list, client);

struct client_table {
	pthread_mutex_t lock;		/* for all below */
	struct client **buckets;	/* NULL: none yet */
	size_t n, room;			/* clients; buckets, a power of 2 */
	struct client_list idle;	/* those without flows, the one that came last at the end */
	size_t n_idle;
	uint64_t seed[2];		/* so that nobody can choose addresses that share a bucket */
};

void clients_init(struct client_table *t);
void clients_free(struct client_table *t);

/* One more flow of this IP client, if the limits of the route allow it: as admission_enter(). */
enum admission clients_enter(struct client_table *t, const struct route *route, const struct address *client, int64_t now_us);
void clients_leave(struct client_table *t, const struct address *client, int64_t now_us);
/* As admission_undo(). is_counted: it was admitted as ADMITTED_COUNTED. */
void clients_undo(struct client_table *t, const struct route *route, const struct address *client, bool is_counted);
/* Forgets those that have no flow, and whose rate allows them a whole burst again. */
void clients_sweep(struct client_table *t, int64_t now_us);

#endif
