/*
 * transparent_rules.c - whether transparent and source fit the listeners and backends of a route.
 *
 * As with heartbeats (heartbeat_rules.c), what a route's own section asks for in
 * vain is an error; a value of [defaults] is for the routes that can use it.
 */
#include <stddef.h>

#include "config/make.h"

static const struct entry *
own_entry(const struct parsed *d, const struct section *s, const char *key)
{
	const struct entry *e = parsed_decides(d, s, key_find(key, SCOPE_ROUTE), CLIENT);

	return e != NULL && e->is_good && section_owns(s, e) ? e : NULL;
}

static const struct endpoint *
find_unix(const struct endpoint *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].kind == ENDPOINT_UNIX)
			return &list[i];
	return NULL;
}

void
resolve_transparent(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *transparent = own_entry(d, s, "transparent"), *source = own_entry(d, s, "source");
	const bool may_have_address = r->accept_proxy != ACCEPT_PROXY_OFF;	/* from a PROXY header */
	const struct endpoint *listen = find_unix(r->listen, r->n_listen), *backend = find_unix(r->backend, r->n_backend);

	if (r->transparent && transparent != NULL && listen != NULL)
		errors_add(&d->errors, transparent->line, "transparent: TPROXY delivers TCP alone, and \"%s\" is a UNIX socket; give it "
		    "a route of its own", listen->text);
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
