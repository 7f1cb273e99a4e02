/* health.h - checks of the backends (health = tcp | http://...); all calls on the main thread. */
#ifndef STENT_WORKER_HEALTH_H
#define STENT_WORKER_HEALTH_H

#include "stent/backends.h"
#include "stent/config.h"
#include "stent/relay.h"

struct event_base;
struct health;

/*
 * shared must outlive it; base is run by the caller. close_flows is called for an address that went down, where on_unhealthy
 * is close. 0 or -ENOMEM.
 */
int health_start(struct health **ret, struct event_base *base, struct relay_shared *shared, const struct config *config,
    void (*close_flows)(void *arg, const struct route *route, size_t backend, const struct address *address), void *arg);
/* Other settings are in use. 0 or -ENOMEM: nothing is checked. */
int health_adopt(struct health *h, const struct config *config);
void health_free(struct health *h);	/* NULL is fine */

#endif
