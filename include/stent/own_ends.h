/*
 * own_ends.h - the local ends of this process's own connections to backends, so
 * that a client which is one of them is known: a flow that has come back.
 * The process's; any thread.
 */
#ifndef STENT_OWN_ENDS_H
#define STENT_OWN_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "stent/endpoint.h"

#define OWN_ENDS_HOPS_MAX 15

/* Whose connection it is. */
struct own_end {
	uint16_t route;		/* index in the settings; 4095 and more are not told apart from lower ones */
	uint8_t hops;		/* how often the flow has come back already; OWN_ENDS_HOPS_MAX: so often, or more */
};

/* A connection from local to remote is under way; fd is our end of it. */
void own_ends_add(int fd, const struct address *local, const struct address *remote, struct own_end e);

/*
 * True when the accepted socket fd, whose client has this address, is the other end of such a connection that is
 * still there, also when a firewall redirected it. Costs a system call only where an address fits.
 */
bool own_ends_find(int fd, const struct address *client, struct own_end *ret);

#endif
