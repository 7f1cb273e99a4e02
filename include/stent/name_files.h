/* name_files.h - reads /etc/hosts and /etc/resolv.conf. Opens neither and keeps no state. */
#ifndef STENT_NAME_FILES_H
#define STENT_NAME_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#include "stent/dns.h"

#define RESOLV_SERVERS_MAX 3		/* as in libc */
#define RESOLV_SEARCH_MAX 2048		/* bytes of domains, a NUL after each and one more at the end */

struct resolv_conf {
	size_t n_servers;		/* 1 at least */
	struct sockaddr_storage server[RESOLV_SERVERS_MAX];
	char search[RESOLV_SEARCH_MAX];
	unsigned ndots;			/* a name with at least so many dots is first tried as it is */
	char unread[64];		/* the first nameserver that is not an address; empty: none */
};

/*
 * Fills all of c, so that two can be compared by memcmp(). in: NULL is an empty file. hostname: as in libc, its domain
 * is searched when the file names none.
 */
void resolv_conf_read(struct resolv_conf *c, FILE *in, const char *hostname);

/*
 * The i-th name to query when an application looks up name, without a trailing
 * dot, in libc's order. False: there are fewer.
 */
bool resolv_conf_candidate(const struct resolv_conf *c, const char *name, size_t i, char ret[DNS_NAME_MAX + 1]);

/* The addresses of name in a hosts file, each once, max at most: their number, or -errno. */
int hosts_find(FILE *in, const char *name, struct sockaddr_storage *ret, size_t max);

/* localhost, and any name below it: this machine by definition (RFC 6761). */
bool name_is_localhost(const char *name);

#endif
