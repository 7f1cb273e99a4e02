/*
 * own_ends.h - the local addresses of this process's connections to backends,
 * by which a client that is one of them is recognized: a loop. Shared by the
 * process; any thread.
 */
#ifndef STENT_OWN_ENDS_H
#define STENT_OWN_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "stent/endpoint.h"

#define OWN_ENDS_HOPS_MAX 15

/* Whose connection it is. */
struct own_end {
	uint16_t route;		/* its slot, modulo 4096 */
	uint8_t hops;		/* how often the flow has come back; OWN_ENDS_HOPS_MAX: that or more */
};

/* A connection from local to remote is under way; fd is our end of it. */
void own_ends_add(int fd, const struct address *local, const struct address *remote, struct own_end e);

/*
 * True when the accepted socket fd, whose client has this address, is the other end of such a connection that is
 * still open, also when a firewall redirected it. Costs a system call only where an address matches.
 */
bool own_ends_find(int fd, const struct address *client, struct own_end *ret);

#endif
