/* name_files.h - reads /etc/hosts and /etc/resolv.conf. Opens neither and keeps no state. */
#ifndef STENT_NAME_FILES_H
#define STENT_NAME_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#include "stent/dns.h"

#define RESOLV_SERVERS_MAX 3		/* as many as libc asks */
#define RESOLV_SEARCH_MAX 2048		/* bytes of domains, a NUL behind each and one more at the end */

struct resolv_conf {
	size_t n_servers;		/* 1 at least */
	struct sockaddr_storage server[RESOLV_SERVERS_MAX];
	char search[RESOLV_SEARCH_MAX];
	unsigned ndots;			/* a name with so many dots is tried as it is first */
	char unread[64];		/* the first nameserver that is no address; empty: none */
};

/*
 * Fills all of c, so that two can be compared by memcmp(). in: NULL is an empty file. hostname: its domain is
 * searched when the file names none, as libc does.
 */
void resolv_conf_read(struct resolv_conf *c, FILE *in, const char *hostname);

/*
 * The i-th name to ask for when an application asks for name, without a dot at
 * its end; they come in libc's order. False: there are not so many.
 */
bool resolv_conf_candidate(const struct resolv_conf *c, const char *name, size_t i, char ret[DNS_NAME_MAX + 1]);

/* The addresses of name in a hosts file, each once, max of them at most: their number, or -errno of the reading. */
int hosts_find(FILE *in, const char *name, struct sockaddr_storage *ret, size_t max);

/* localhost, and any name below it: this machine by definition (RFC 6761). */
bool name_is_localhost(const char *name);

#endif
