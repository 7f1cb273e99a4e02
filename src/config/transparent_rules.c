/*
 * transparent_rules.c - whether transparent and source fit the listeners and backends of a route.
 *
 * As with heartbeats (heartbeat_rules.c), what a route's own section asks for in
 * vain is an error; a value of [defaults] is for the routes that can use it.
 */
#include <netinet/in.h>
#include <stddef.h>

#include "config/make.h"

static const struct endpoint *
find_unix(const struct endpoint *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].kind == ENDPOINT_UNIX)
			return &list[i];
	return NULL;
}

/* One that is not bound to all addresses. */
static const struct endpoint *
find_bound(const struct endpoint *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&list[i].addr;
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&list[i].addr;

		if (list[i].kind == ENDPOINT_ADDRESS &&
		    (list[i].addr.ss_family == AF_INET ? in->sin_addr.s_addr != htonl(INADDR_ANY) : !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)))
			return &list[i];
	}
	return NULL;
}

/* The clients of such a listener would only time out. */
static void
warn_of_bound(const struct route *r, struct parsed *d, const struct entry *transparent)
{
	const struct endpoint *bound = find_bound(r->listen, r->n_listen);

	if (bound != NULL)
		errors_warn(&d->errors, transparent->line, "transparent: \"%s\" gets only what a TPROXY rule with this address brings; those of "
		    "`stent redirect` name the port alone: write listen = :%u", bound->text, (unsigned)bound->port);
}

void
resolve_transparent(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *transparent = parsed_own(d, s, "transparent"), *source = parsed_own(d, s, "source");
	const bool may_have_address = r->accept_proxy != ACCEPT_PROXY_OFF;	/* from a PROXY header */
	const struct endpoint *listen = find_unix(r->listen, r->n_listen), *backend = find_unix(r->backend, r->n_backend);

	if (r->transparent && transparent != NULL && listen != NULL)
		errors_add(&d->errors, transparent->line, "transparent: TPROXY delivers TCP alone, and \"%s\" is a UNIX socket; give it "
		    "a route of its own", listen->text);
	else if (r->transparent && transparent != NULL)
		warn_of_bound(r, d, transparent);
	if (r->source_client && source != NULL && listen != NULL && !may_have_address)
		errors_add(&d->errors, source->line, "source: a client of the UNIX socket \"%s\" has no address to connect from; give it a "
		    "route of its own, or accept_proxy", listen->text);
	if (r->source_client && source != NULL && backend != NULL)
		errors_add(&d->errors, source->line, "source: a connection to the UNIX socket \"%s\" has no source address; remove source, or "
		    "name the backend's TCP address", backend->text);
	/* Of [defaults]. */
	if (listen != NULL)
		r->transparent = false;
	if ((listen != NULL && !may_have_address) || backend != NULL)
		r->source_client = false;
}
