/*
 * address_order.c - RFC 6724, section 6, with the default policy table.
 *
 * The rules are those on routes (1), scope (2), label (5), precedence (6) and
 * smaller scope (8). Rule 9, the longest common prefix, is left out: it undoes the
 * order by which name servers spread their clients over the addresses of a host.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stent/address_order.h"

enum { SCOPE_LINK = 2, SCOPE_SITE = 5, SCOPE_GLOBAL = 14 };

/* RFC 6724, section 2.1; in order of length, so the first match is the longest. */
static const struct {
	uint8_t prefix[16];
	unsigned bits;
	int precedence, label;
} policies[] = {
	{ { [15] = 1 }, 128, 50, 0 },				/* ::1 */
	{ { [10] = 0xff, [11] = 0xff }, 96, 35, 4 },		/* IPv4 */
	{ { 0 }, 96, 1, 3 },
	{ { 0x20, 0x01 }, 32, 5, 5 },				/* Teredo */
	{ { 0x20, 0x02 }, 16, 30, 2 },				/* 6to4 */
	{ { 0x3f, 0xfe }, 16, 1, 12 },
	{ { 0xfe, 0xc0 }, 10, 1, 11 },				/* site-local */
	{ { 0xfc }, 7, 3, 13 },					/* unique local */
	{ { 0 }, 0, 40, 1 },
};

struct judged {
	int precedence, label, scope;
};

static bool
has_prefix(const uint8_t ip[16], const uint8_t prefix[16], unsigned bits)
{
	const unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(ip, prefix, whole) == 0 && (rest == 0 || (ip[whole] ^ prefix[whole]) >> (8 - rest) == 0);
}

static int
scope_of(const struct in6_addr *ip)
{
	if (IN6_IS_ADDR_V4MAPPED(ip))
		return ip->s6_addr[12] == 127 || (ip->s6_addr[12] == 169 && ip->s6_addr[13] == 254) ? SCOPE_LINK
		    : SCOPE_GLOBAL;
	if (IN6_IS_ADDR_LINKLOCAL(ip) || IN6_IS_ADDR_LOOPBACK(ip))
		return SCOPE_LINK;
	return IN6_IS_ADDR_SITELOCAL(ip) ? SCOPE_SITE : SCOPE_GLOBAL;
}

static struct judged
judge(const struct sockaddr_storage *ss)
{
	struct in6_addr ip = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	size_t i = 0;

	if (ss->ss_family == AF_INET6)
		ip = ((const struct sockaddr_in6 *)ss)->sin6_addr;
	else
		memcpy(&ip.s6_addr[12], &((const struct sockaddr_in *)ss)->sin_addr, 4);
	while (!has_prefix(ip.s6_addr, policies[i].prefix, policies[i].bits))
		i++;
	assert(i < sizeof(policies) / sizeof(policies[0]));	/* the last matches all */
	return (struct judged){ policies[i].precedence, policies[i].label, scope_of(&ip) };
}

int
address_compare(const struct sockaddr_storage *a, const struct sockaddr_storage *from_a,
    const struct sockaddr_storage *b, const struct sockaddr_storage *from_b)
{
	struct judged ja, jb, fa, fb;

	if (from_a->ss_family == AF_UNSPEC || from_b->ss_family == AF_UNSPEC)
		return (from_a->ss_family == AF_UNSPEC) - (from_b->ss_family == AF_UNSPEC);
	ja = judge(a);
	jb = judge(b);
	fa = judge(from_a);
	fb = judge(from_b);
	if ((ja.scope == fa.scope) != (jb.scope == fb.scope))
		return ja.scope == fa.scope ? -1 : 1;
	if ((ja.label == fa.label) != (jb.label == fb.label))
		return ja.label == fa.label ? -1 : 1;
	if (ja.precedence != jb.precedence)
		return jb.precedence - ja.precedence;
	return ja.scope - jb.scope;
}

/* The source address that the kernel would use: connect() on a UDP socket finds it, and sends nothing. */
static void
find_source(const struct sockaddr_storage *to, struct sockaddr_storage *ret)
{
	struct sockaddr_storage target = *to;
	socklen_t len = sizeof(*ret);
	const int fd = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memset(ret, 0, sizeof(*ret));
	if (fd < 0)
		return;
	/* any port: Linux accepts 0, other kernels do not. */
	if (to->ss_family == AF_INET6)
		((struct sockaddr_in6 *)&target)->sin6_port = htons(1);
	else
		((struct sockaddr_in *)&target)->sin_port = htons(1);
	if (connect(fd, (struct sockaddr *)&target, to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
	    : sizeof(struct sockaddr_in)) != 0 || getsockname(fd, (struct sockaddr *)ret, &len) != 0)
		ret->ss_family = AF_UNSPEC;
	close(fd);
}

void
address_order(struct sockaddr_storage *at, size_t n)
{
	struct { struct sockaddr_storage to, from; } *pairs, one;
	size_t k;

	pairs = n > 1 ? calloc(n, sizeof(*pairs)) : NULL;
	if (pairs == NULL)
		return;
	for (size_t i = 0; i < n; i++) {
		one.to = at[i];
		find_source(&one.to, &one.from);
		for (k = i; k > 0 && address_compare(&one.to, &one.from, &pairs[k - 1].to, &pairs[k - 1].from) < 0; k--)
			pairs[k] = pairs[k - 1];
		pairs[k] = one;
	}
	for (size_t i = 0; i < n; i++)
		at[i] = pairs[i].to;
	free(pairs);
}
