/*
 * resolve.h - host names to addresses without blocking, cached; one per worker.
 * /etc/hosts first, then the servers and the search list of /etc/resolv.conf.
 */
#ifndef STENT_RESOLVE_H
#define STENT_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct event_base;
struct resolver;
struct lookup;			/* one request that waits for an answer */

/* The addresses of a name, the best first (RFC 6724); ports are not filled in. */
struct host_addresses {
	size_t n;
	struct sockaddr_storage at[];
};

struct resolver *resolver_new(struct event_base *base);	/* NULL: out of memory */
void resolver_free(struct resolver *r);			/* NULL is fine; no lookup may be under way */

#define RESOLVER_ANY_AGE (INT64_MAX / 1000)

/*
 * The cached addresses of a name, if they are not older than age_ms or a lookup is overdue; else NULL. Valid until the
 * next call of this module.
 */
const struct host_addresses *resolver_known(struct resolver *r, const char *name, int64_t age_ms);

/*
 * Looks up a name. done() is called once, later, never from within this call:
 * with the new addresses, or the last known ones (if the answer is late, or
 * failed), or NULL. Returns NULL if out of memory.
 */
struct lookup *resolver_lookup(struct resolver *r, const char *name,
    void (*done)(void *arg, const struct host_addresses *found), void *arg);
void lookup_cancel(struct lookup *l);	/* done() will not be called; the lookup itself continues */

#endif
