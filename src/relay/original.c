/*
 * original.c - where a redirected flow wanted to go, and whether it may go there.
 *
 * A client that was not redirected has the listener itself as its destination:
 * stent would connect to itself for ever. That is refused here at once. Other ways
 * home (a listener with a name of systemd, another machine's rules) are found
 * when the connection comes back (net/own_ends.c).
 */
#include "relay/original.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "stent/transparent.h"

#define MULTICAST_V4 224	/* and above: also broadcast */
#define MULTICAST_V6 0xff

static bool
is_wildcard(const struct address *a)
{
	static const uint8_t none[16];

	return memcmp(a->ip, none, sizeof(none)) == 0;
}

/* A connection to this address comes in at a listener of the route. */
static bool
is_own_listener(const struct route *r, const struct sockaddr_storage *to)
{
	const struct address want = address_from_sockaddr((const struct sockaddr *)to);

	for (size_t i = 0; i < r->n_listen; i++) {
		const struct endpoint *ep = &r->listen[i];
		struct address at;

		if ((ep->kind != ENDPOINT_ADDRESS && ep->kind != ENDPOINT_ANY) || ep->port != want.port)
			continue;
		at = address_from_sockaddr((const struct sockaddr *)&ep->addr);
		if (is_wildcard(&at) ? (ep->kind == ENDPOINT_ANY || at.family == want.family) && transparent_is_local(to)
		    : memcmp(&at, &want, sizeof(at)) == 0)
			return true;
	}
	return false;
}

int
original_find(struct flow *f, struct sockaddr_storage *ret)
{
	const int fd = leg_of(f, CLIENT)->transport.fd;
	struct sockaddr_storage own;
	struct address a, b;
	int r = transparent_destination(fd, f->route->transparent, ret);

	if (r != 0)
		return r;
	if (is_own_listener(f->route, ret))
		return -ELOOP;
	if (f->route->transparent)
		return 0;
	r = transparent_destination(fd, true, &own);	/* the local address: of a listener from systemd, too */
	if (r != 0)
		return r;
	a = address_from_sockaddr((struct sockaddr *)ret);
	b = address_from_sockaddr((struct sockaddr *)&own);
	return memcmp(&a, &b, sizeof(a)) == 0 ? -ELOOP : 0;
}

/* The kernel would connect from an address of its own instead of others, which only a PROXY header can name. */
static bool
is_a_host(const struct address *client)
{
	return !is_wildcard(client) && (client->family == AF_INET ? client->ip[0] < MULTICAST_V4 : client->ip[0] != MULTICAST_V6);
}

bool
original_can_source(const struct flow *f, const struct address *to)
{
	return !f->route->source_client || (f->client.family == to->family && is_a_host(&f->client));
}
