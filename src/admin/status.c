/*
 * status.c - the state of a running stent by route, as JSON: what /status and
 * `stent status` show. Unlike the counters, how flows are protected is found by
 * visiting them (census.c).
 */
#include "admin/status.h"

#include <string.h>

#include "admin/census.h"
#include "admin/view.h"
#include "stent/config.h"
#include "stent/counters.h"
#include "stent/server.h"
#include "stent/side.h"

static void
add_counters(json_t *route, const struct relay_counters *sum, const json_t *census)
{
	const char *name = json_string_value(json_object_get(route, "name"));
	json_t *protection = name != NULL ? json_object_get(json_object_get(census, "routes"), name) : NULL;
	uint64_t dead[2];

	view_deaths(sum, dead);
	json_object_set_new(route, "flows_open", json_integer((json_int_t)sum->flows_open));
	json_object_set_new(route, "flows_total", json_integer((json_int_t)sum->flows_total));
	json_object_set(route, "protection", protection != NULL ? protection : json_null());
	json_object_set_new(route, "bytes", view_both_sides(sum->bytes));
	json_object_set_new(route, "heartbeats", view_both_sides(sum->heartbeats));
	json_object_set_new(route, "replies", view_both_sides(sum->replies));
	json_object_set_new(route, "misses", view_both_sides(sum->misses));
	json_object_set_new(route, "detect_too_short", json_pack("{s:b, s:b}", side_name(CLIENT), sum->detect_too_short[CLIENT] > 0,
	    side_name(BACKEND), sum->detect_too_short[BACKEND] > 0));
	json_object_set_new(route, "refused", view_refusals(sum));
	json_object_set_new(route, "deaths", view_both_sides(dead));
}

static bool
is_configured(const struct config *c, size_t slot)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (c->routes[i].slot == slot)
			return true;
	return false;
}

/* Routes that are no longer in the settings, while they have flows. */
static json_t *
removed_json(const struct server *s, const json_t *census)
{
	json_t *list = json_array();

	for (size_t i = 0; i < server_slots(s); i++) {
		struct relay_counters sum;
		json_t *route;

		if (is_configured(server_config(s), i))
			continue;
		view_sum_slot(s, i, &sum);
		if (sum.flows_open == 0)
			continue;
		route = json_pack("{s:o}", "name", view_text(server_slot_name(s, i)));
		add_counters(route, &sum, census);
		json_array_append_new(list, route);
	}
	return list;
}

json_t *
status_json(struct server *s, struct census *c)
{
	json_t *j = view_summary(s), *routes = view_routes(s), *census;
	const struct config *config = server_config(s);

	census_take(c, s);
	census = census_json(c, s);
	for (size_t i = 0; i < config->n_routes; i++) {
		struct relay_counters sum;

		view_sum_slot(s, config->routes[i].slot, &sum);
		add_counters(json_array_get(routes, i), &sum, census);
	}
	json_object_set_new(j, "routes", routes);
	json_object_set_new(j, "removed_routes", removed_json(s, census));
	json_object_set(j, "protection", json_object_get(census, "flows"));
	json_object_set(j, "why_none", json_object_get(census, "why_none"));
	json_decref(census);
	return j;
}
