/* balance.h - the order in which backends and their addresses are tried. */
#ifndef STENT_RELAY_BALANCE_H
#define STENT_RELAY_BALANCE_H

#include "relay/flow.h"

#define BALANCE_MAX 256		/* backends, or addresses of a name, that are put in order; later ones come after them */

/* Indices of the route's backends; NULL: as they are written (balance = first, or out of memory). The caller frees it. */
uint16_t *balance_backends(const struct flow *f);
/* Puts the addresses of a backend in order. */
void balance_addresses(const struct flow *f, size_t backend, struct sockaddr_storage *at, size_t n);
/* A number for a client and a backend or address, evenly spread. */
uint64_t balance_hash(const struct address *client, const void *what, size_t len);

#endif
