/*
 * ready.c - is stent ready for new clients? Its listeners stand as long as it
 * runs, so what may be missing is a backend: each route needs one that is not
 * known to be down.
 *
 * Without health checks a backend is known to be down only by flows that could
 * not connect to it. A stent that gets no flows, as it is not ready, would never
 * learn that the backend is back: so that counts only while the backend is passed
 * over (retry_after), or for RECENT_S after the last failure. A route that was never
 * used is ready.
 */
#include "admin/ready.h"

#include <stdio.h>
#include <time.h>

#include "stent/backends.h"
#include "stent/config.h"
#include "stent/server.h"

#define RECENT_S 60

/* It went down, or an attempt to connect failed, not long ago; or flows pass it over. */
static bool
is_recent(const struct backend_facts *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->at[i].retry_ms > 0 || (b->at[i].failed_ms >= 0 && b->at[i].failed_ms < RECENT_S * 1000))
			return true;
	return (int64_t)time(NULL) - b->since < RECENT_S;
}

/* Writes why. */
static bool
is_down(const struct server *s, const struct route *r, size_t backend, char why[BACKEND_WHY_MAX])
{
	struct backend_facts b;
	bool is;

	if (r->backend[backend].kind == ENDPOINT_ORIGINAL || server_backend_facts(s, r, backend, &b) != 0)
		return false;
	is = b.is == BACKEND_DOWN && (r->health.kind != HEALTH_OFF || is_recent(&b));
	snprintf(why, BACKEND_WHY_MAX, "%s", b.why);
	backend_facts_clear(&b);
	return is;
}

static bool
has_backend(const struct server *s, const struct route *r, char why[BACKEND_WHY_MAX])
{
	for (size_t i = 0; i < r->n_backend; i++)
		if (!is_down(s, r, i, why))
			return true;
	return false;
}

bool
ready_is(const struct server *s, char why[READY_WHY_MAX])
{
	const struct config *c = server_config(s);
	char last[BACKEND_WHY_MAX] = "";

	if (server_is_draining(s)) {
		snprintf(why, READY_WHY_MAX, "draining");
		return false;
	}
	for (size_t i = 0; i < c->n_routes; i++)
		if (!has_backend(s, &c->routes[i], last)) {
			snprintf(why, READY_WHY_MAX, "route %s: no backend answers%s%s", c->routes[i].name, last[0] != '\0' ? ": " : "", last);
			return false;
		}
	return true;
}
