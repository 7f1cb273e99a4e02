/* address_order.h - in which order the addresses of a host are tried (RFC 6724). */
#ifndef STENT_ADDRESS_ORDER_H
#define STENT_ADDRESS_ORDER_H

#include <stddef.h>
#include <sys/socket.h>

/* Compares two destinations. from: the source addresses that the kernel would use; AF_UNSPEC: there is no route. */
int address_compare(const struct sockaddr_storage *a, const struct sockaddr_storage *from_a,
    const struct sockaddr_storage *b, const struct sockaddr_storage *from_b);	/* < 0: a, > 0: b, 0: neither */

/* Sorts n addresses, the best first, by the kernel's routes; equal ones keep their order. */
void address_order(struct sockaddr_storage *at, size_t n);

#endif
