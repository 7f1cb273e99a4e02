/*
 * loops.c - routes that lead back to themselves, directly or through others: a
 * flow there would loop until no descriptor is left.
 *
 * Only what is certain from the file is checked: literal addresses, localhost
 * and paths. A wildcard listener is matched with the addresses that this machine
 * has now. A loop through a name or a firewall is detected when a connection
 * comes back (net/own_ends.c).
 */
#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/make.h"

#define PATH_TEXT_MAX 256

enum mark { NOT_VISITED, ON_PATH, DONE };

/* A route as a node of the graph. */
struct node {
	const struct route *route;
	const struct section *section;
	enum mark mark;
	size_t from;			/* the one before it on the path; itself: the first */
};

struct graph {
	struct parsed *parsed;
	struct node *nodes;
	size_t n;
	struct ifaddrs *own;		/* this machine's addresses */
};

static int
key_line(const struct parsed *d, const struct section *s, const char *key)
{
	const struct entry *e = parsed_decides(d, s, key_find(key, SCOPE_ROUTE), CLIENT);

	return e != NULL ? e->line : s->line;
}

static bool
is_same_ip(const struct sockaddr *a, const struct sockaddr *b)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)(const void *)a, *b4 = (const struct sockaddr_in *)(const void *)b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)(const void *)a, *b6 = (const struct sockaddr_in6 *)(const void *)b;

	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0 && a6->sin6_scope_id == b6->sin6_scope_id;
}

static bool
is_unspecified(const struct sockaddr *a)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a;

	return a->sa_family == AF_INET ? in->sin_addr.s_addr == htonl(INADDR_ANY) : IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

static bool
is_own(const struct graph *g, const struct sockaddr *a)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;

	if (a->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
		return true;
	for (const struct ifaddrs *i = g->own; i != NULL; i = i->ifa_next)
		if (i->ifa_addr != NULL && is_same_ip(i->ifa_addr, a))
			return true;
	return false;
}

/* A connection to this address, of the right port, comes in at the listener. */
static bool
reaches(const struct graph *g, const struct sockaddr *to, const struct endpoint *listen)
{
	const struct sockaddr *at = (const struct sockaddr *)&listen->addr;

	if (listen->kind == ENDPOINT_ANY)
		return is_own(g, to);
	if (is_unspecified(at))
		return at->sa_family == to->sa_family && is_own(g, to);
	return is_same_ip(at, to);
}

static bool
reaches_loopback(const struct graph *g, sa_family_t family, const struct endpoint *listen)
{
	const struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	return reaches(g, family == AF_INET ? (const struct sockaddr *)(const void *)&v4 : (const struct sockaddr *)(const void *)&v6, listen);
}

static bool
is_localhost(const char *name)
{
	return strcasecmp(name, "localhost") == 0 || strcasecmp(name, "localhost.") == 0;
}

static bool
leads_to(const struct graph *g, const struct endpoint *backend, const struct endpoint *listen)
{
	const struct sockaddr *to = (const struct sockaddr *)&backend->addr;

	if (backend->kind == ENDPOINT_UNIX)
		return endpoint_clash(backend, listen);
	if ((listen->kind != ENDPOINT_ADDRESS && listen->kind != ENDPOINT_ANY) || backend->port != listen->port)
		return false;
	if (backend->kind == ENDPOINT_NAME)
		return is_localhost(backend->host) && (reaches_loopback(g, AF_INET, listen) || reaches_loopback(g, AF_INET6, listen));
	if (backend->kind != ENDPOINT_ADDRESS)
		return false;
	return is_unspecified(to) ? reaches_loopback(g, to->sa_family, listen) : reaches(g, to, listen);
}

/* The listener of one route to which a backend of the other leads; NULL: none does. */
static const struct endpoint *
find_way(const struct graph *g, const struct route *from, const struct route *to, const struct endpoint **backend)
{
	for (size_t b = 0; b < from->n_backend; b++)
		for (size_t l = 0; l < to->n_listen; l++)
			if (leads_to(g, &from->backend[b], &to->listen[l])) {
				*backend = &from->backend[b];
				return &to->listen[l];
			}
	return NULL;
}

/* "a > b > a", as much of it as there is room for. */
static void
write_path(const struct graph *g, size_t first, size_t last, char text[PATH_TEXT_MAX])
{
	size_t at = last, len = 0;
	const char *name = g->nodes[first].route->name;

	/* From its end, as each knows only the one before it. */
	text[PATH_TEXT_MAX - 1] = '\0';
	for (;;) {
		const size_t n = strlen(name);

		if (len + n + 3 > PATH_TEXT_MAX - 8)
			break;
		len += n;
		memcpy(text + PATH_TEXT_MAX - 1 - len, name, n);
		if (name == g->nodes[first].route->name && len > n)
			break;
		len += 3;
		memcpy(text + PATH_TEXT_MAX - 1 - len, " > ", 3);
		name = g->nodes[at].route->name;
		at = g->nodes[at].from;
	}
	memmove(text, text + PATH_TEXT_MAX - 1 - len, len + 1);
}

static void
report_loop(struct graph *g, size_t first, size_t last, const struct endpoint *backend, const struct endpoint *listen)
{
	const struct section *s = g->nodes[last].section, *to = g->nodes[first].section;
	char path[PATH_TEXT_MAX], place[PLACE_MAX];

	if (first == last) {
		errors_add(&g->parsed->errors, key_line(g->parsed, s, "listen"), "listen: \"%s\" is the route's own backend \"%s\"; "
		    "give one another port", listen->text, backend->text);
		return;
	}
	write_path(g, first, last, path);
	errors_add(&g->parsed->errors, key_line(g->parsed, s, "backend"), "backend: \"%s\" of [route %s] leads back to \"%s\" of "
	    "[route %s] (%s), a loop: %s; name another backend in one of them", backend->text, s->name,
	    listen->text, to->name, errors_place(&g->parsed->errors, key_line(g->parsed, to, "listen"), place), path);
}

static void
follow(struct graph *g, size_t i)
{
	assert(g->nodes[i].mark == NOT_VISITED);
	g->nodes[i].mark = ON_PATH;
	for (size_t k = 0; k < g->n; k++) {
		const struct endpoint *backend, *listen = find_way(g, g->nodes[i].route, g->nodes[k].route, &backend);

		if (listen == NULL || g->nodes[k].mark == DONE)
			continue;
		if (g->nodes[k].mark == ON_PATH) {
			report_loop(g, k, i, backend, listen);
			continue;
		}
		g->nodes[k].from = i;
		follow(g, k);
	}
	g->nodes[i].mark = DONE;
}

void
resolve_loops(const struct config *c, struct parsed *d)
{
	struct graph g = { .parsed = d, .nodes = calloc(c->n_routes + 1, sizeof(*g.nodes)) };

	if (g.nodes == NULL) {
		d->errors.failed = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < d->n; i++)
		if (d->sections[i].kind == SECTION_ROUTE && !d->sections[i].is_faulty) {
			g.nodes[g.n] = (struct node){ &c->routes[g.n], &d->sections[i], NOT_VISITED, g.n };
			g.n++;
		}
	if (getifaddrs(&g.own) != 0)
		g.own = NULL;		/* loopback is known anyway */
	for (size_t i = 0; i < g.n; i++)
		if (g.nodes[i].mark == NOT_VISITED)
			follow(&g, i);
	if (g.own != NULL)
		freeifaddrs(g.own);
	free(g.nodes);
}
