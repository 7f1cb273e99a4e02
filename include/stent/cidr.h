/*
 * cidr.h - a set of IP addresses, written as networks: 10.0.0.0/8, 2001:db8::/32, 192.0.2.7. No I/O.
 */
#ifndef STENT_CIDR_H
#define STENT_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/endpoint.h"

/* The family (4 or 6) and the address, so that they compare byte by byte; IPv4 in the first four of the 16. */
#define CIDR_KEY 17

struct cidr_range {
	uint8_t first[CIDR_KEY], last[CIDR_KEY];
};

struct cidr_set {
	struct cidr_range *ranges;	/* sorted, none touches the next, once cidr_set_close() was called */
	size_t n, room;
};

/*
 * Reads a network, or an address alone. IPv4-mapped IPv6 (::ffff:10.0.0.0/104) is IPv4. 0; -EINVAL: *why (a static
 * string) continues the sentence that begins with the text: what is wrong and what to do.
 */
int cidr_parse(struct cidr_range *ret, const char *text, const char **why);
int cidr_set_add(struct cidr_set *s, const struct cidr_range *range);	/* 0 or -ENOMEM */
void cidr_set_close(struct cidr_set *s);	/* sorts it: then it may be asked */
/* False for addresses that are neither IPv4 nor IPv6. Takes a time that grows with the logarithm of the set's size. */
bool cidr_set_has(const struct cidr_set *s, const struct address *a);
void cidr_set_clear(struct cidr_set *s);

#endif
