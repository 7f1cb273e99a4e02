/*
 * resolve.h - host names to addresses without blocking, remembered for a while.
 *
 * One a worker. /etc/hosts first, then the servers and the search list of
 * /etc/resolv.conf (Docker's own resolver is one). Both files are read anew for
 * each question. A name that was not found is not asked for again for 2 s.
 */
#ifndef STENT_RESOLVE_H
#define STENT_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct event_base;
struct resolver;
struct lookup;			/* one question under way */

/* What a name stands for, the best first (RFC 6724); the ports are not filled in. */
struct host_addresses {
	size_t n;
	struct sockaddr_storage at[];
};

struct resolver *resolver_new(struct event_base *base);	/* NULL: out of memory */
void resolver_free(struct resolver *r);			/* NULL is fine; no lookup may be under way */

#define RESOLVER_ANY_AGE (INT64_MAX / 1000)

/*
 * What is known of a name, if it was asked for in the last age_ms or an answer is
 * overdue; else NULL. Good until the next call of this module.
 */
const struct host_addresses *resolver_known(struct resolver *r, const char *name, int64_t age_ms);

/*
 * Asks for a name. done() is called once, later, never from within this call:
 * with the new addresses, or with the last ones that were ever known (when the
 * answer does not come soon, or failed), or NULL. NULL returned: out of memory.
 */
struct lookup *resolver_ask(struct resolver *r, const char *name,
    void (*done)(void *arg, const struct host_addresses *found), void *arg);
void lookup_cancel(struct lookup *l);	/* done() will not be called; the question goes on */

#endif
