/*
 * transparent.h - addresses that are not this machine's: the original destination of a redirected flow, listeners for
 * TPROXY, and connections that have the client's address as their source.
 */
#ifndef STENT_TRANSPARENT_H
#define STENT_TRANSPARENT_H

#include <stdbool.h>
#include <sys/socket.h>

#include "stent/endpoint.h"

/* What transparent_set() and transparent_bind() need, for messages. */
#define TRANSPARENT_NEEDS "CAP_NET_RAW or CAP_NET_ADMIN"

/* IP_TRANSPARENT of a socket. 0; -EPERM: the capability is missing; or -errno. */
int transparent_set(int fd, bool on);
bool transparent_is_set(int fd);

/*
 * Binds a socket of this family, which is to connect, to the address of another machine; the kernel chooses the port when
 * it connects. 0 or -errno; -EPERM: the capability is missing.
 */
int transparent_bind(int fd, sa_family_t family, const struct address *source);

/*
 * Where the client of an accepted socket wanted to go. is_transparent: TPROXY left it there as the local address;
 * else it is asked of connection tracking (REDIRECT, DNAT). IPv4-mapped addresses become IPv4. 0 or -errno.
 */
int transparent_destination(int fd, bool is_transparent, struct sockaddr_storage *ret);

/* True when a connection to this address stays on this machine. */
bool transparent_is_local(const struct sockaddr_storage *to);

#endif
