/*
 * defaults.c - steps that need more than one line: resolving auto, missing keys
 * of routes, listeners that clash.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/make.h"

/* Cores that this process may run on: in a container, fewer than the machine has. */
static int
count_cores(void)
{
	cpu_set_t set;
	long n;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	else
		n = sysconf(_SC_NPROCESSORS_ONLN);	/* more cores than the set has room for */
	if (n < 1)
		return 1;
	return n < CONFIG_WORKERS_MAX ? (int)n : CONFIG_WORKERS_MAX;
}

static void
check_route(struct parsed *d, const struct section *s)
{
	static const char *const needed[] = { "listen", "backend" };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!s->is_spoiled && parsed_decides(d, s, key_find(needed[i], SCOPE_ROUTE), CLIENT) == NULL)
			errors_add(&d->errors, s->line, "[route %s] has no %s; write %s = %s", s->name, needed[i],
			    needed[i], i == 0 ? "ADDRESS:PORT" : "HOST:PORT");
}

void
resolve_routes(struct config *c, struct parsed *d)
{
	size_t routes = 0, heads = 0;

	if (c->workers == 0)
		c->workers = count_cores();
	for (size_t i = 0; i < d->n; i++) {
		const struct section *s = &d->sections[i];

		heads += s->kind == SECTION_ROUTE;
		if (s->kind != SECTION_ROUTE || s->is_faulty)
			continue;
		check_route(d, s);
		c->routes[routes].codec = codec_find(c->routes[routes].protocol);
		resolve_networks(&c->routes[routes], d, s);
		warn_of_limits(&c->routes[routes], d, s);
		resolve_transparent(&c->routes[routes], d, s);
		resolve_health(&c->routes[routes], d, s);
		resolve_heartbeats(&c->routes[routes], d, s);
		resolve_detect(&c->routes[routes], d, s);
		resolve_proxy(&c->routes[routes], d, s);
		resolve_tls(&c->routes[routes++], d, s);
	}
	if (heads == 0 && !d->is_spoiled)
		errors_add(&d->errors, d->last_line > 0 ? d->last_line : 1,
		    "no route; write a section [route NAME] with listen and backend");
}

/* --- listeners --- */

/* A listener, and where it was written. */
struct place {
	const struct endpoint *endpoint;
	const struct route *route;	/* NULL: admin or control */
	int line;
};

static int
listen_line(const struct parsed *d, size_t section)
{
	const struct entry *e = parsed_decides(d, &d->sections[section], key_find("listen", SCOPE_ROUTE), CLIENT);

	return e != NULL ? e->line : d->sections[section].line;
}

/* All listeners of all routes. NULL: there are none, or no memory. The caller frees it. */
static struct place *
gather_places(const struct config *c, const struct parsed *d, size_t *n)
{
	size_t total = 0, route = 0;
	struct place *places;

	*n = 0;
	for (size_t i = 0; i < c->n_routes; i++)
		total += c->routes[i].n_listen;
	places = calloc(total + 1, sizeof(*places));
	for (size_t i = 0; i < d->n && places != NULL; i++) {
		const struct route *r = &c->routes[route];

		if (d->sections[i].kind != SECTION_ROUTE || d->sections[i].is_faulty)
			continue;
		for (size_t j = 0; j < r->n_listen; j++)
			places[(*n)++] = (struct place){ &r->listen[j], r, listen_line(d, i) };
		route++;
	}
	return places;
}

static void
report_clash(struct parsed *d, const struct place *a, const struct place *b)
{
	const struct place *later = b->line >= a->line ? b : a, *first = later == b ? a : b;
	char place[PLACE_MAX];

	if (later->route == first->route)
		errors_add(&d->errors, later->line, "listen: \"%s\" clashes with \"%s\" in the same list; remove one of them",
		    later->endpoint->text, first->endpoint->text);
	else
		errors_add(&d->errors, later->line, "listen: \"%s\" of [route %s] clashes with \"%s\" of [route %s] "
		    "(%s); give one another port", later->endpoint->text, later->route->name, first->endpoint->text,
		    first->route->name, errors_place(&d->errors, first->line, place));
}

/* Each listener against those before it. One error each: a thousand equal ones would give a million. */
static void
check_place(struct parsed *d, const struct place *places, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (endpoint_clash(places[j].endpoint, places[i].endpoint)) {
			report_clash(d, &places[j], &places[i]);
			return;
		}
	}
}

/* The status page or the control socket against all listeners. */
static void
check_own(struct parsed *d, const char *key, const char *address, const char *prefix,
    const struct place *places, size_t n)
{
	const struct entry *e = parsed_decides_process(d, key_find(key, SCOPE_PROCESS));
	char text[256], place[PLACE_MAX];
	struct endpoint own;
	const char *why;

	if (address == NULL || (e != NULL && !e->is_good))
		return;
	snprintf(text, sizeof(text), "%s%s", prefix, address);
	if (endpoint_parse(&own, text, ENDPOINT_LISTEN, &why) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (endpoint_clash(&own, places[i].endpoint))
			errors_add(&d->errors, places[i].line, "listen: \"%s\" clashes with %s = %s (%s); change one of them",
			    places[i].endpoint->text, key, address,
			    e != NULL ? errors_place(&d->errors, e->line, place) : "its default");
	endpoint_clear(&own);
}

static bool
is_loopback(const struct endpoint *ep)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&ep->addr;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&ep->addr;

	if (ep->kind != ENDPOINT_ADDRESS)
		return false;
	if (ep->addr.ss_family == AF_INET)
		return ntohl(sin->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr) || (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr) && sin6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
}

/* An admin address that other hosts may reach needs a token. */
static void
check_admin_token(const struct config *c, struct parsed *d)
{
	const struct entry *e = parsed_decides_process(d, key_find("admin", SCOPE_PROCESS)), *token = parsed_decides_process(d, key_find("admin_token", SCOPE_PROCESS));
	struct endpoint ep;
	const char *why;

	if (c->admin == NULL || c->admin_token != NULL || e == NULL || !e->is_good || (token != NULL && !token->is_good))
		return;
	if (endpoint_parse(&ep, c->admin, ENDPOINT_LISTEN, &why) < 0)
		return;
	if (!is_loopback(&ep))
		errors_add(&d->errors, e->line, "admin: other hosts may reach \"%s\", and there is no admin_token; write admin_token = SECRET, or "
		    "an address of this host alone, such as 127.0.0.1:9464", c->admin);
	endpoint_clear(&ep);
}

void
resolve_listeners(const struct config *c, struct parsed *d)
{
	size_t n;
	struct place *places = gather_places(c, d, &n);

	if (places == NULL) {
		d->errors.failed = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < n; i++)
		check_place(d, places, i);
	check_own(d, "admin", c->admin, "", places, n);
	check_own(d, "control", c->control, "unix:", places, n);
	check_admin_token(c, d);
	free(places);
}
