/*
 * census.c - counts the open flows by protection and route, and the legs without
 * heartbeats by reason. It visits every flow, so it is done only while somebody
 * looks, and the more flows there are the less often.
 */
#include "admin/census.h"

#include <stdlib.h>
#include <string.h>

#include "admin/view.h"
#include "stent/clock.h"
#include "stent/relay.h"
#include "stent/server.h"
#include "stent/side.h"
#include "stent/worker.h"

#define SHARE 50	/* of the time */
#define WAIT_MAX_US (INT64_C(5) * US_PER_S)	/* on a busy machine it only seems to take that long */
#define REASONS 24	/* different ones; more are left out */

struct census {
	size_t all[PROTECTIONS];
	size_t n_routes;		/* by slot */
	size_t (*route)[PROTECTIONS];
	struct {
		const char *text;	/* static */
		size_t legs;
	} reasons[REASONS];
	int64_t next_us;
};

enum protection
protection_of(const struct flow_info *f)
{
	return (enum protection)((f->leg[CLIENT].why_none == NULL) + (f->leg[BACKEND].why_none == NULL));
}

const char *
protection_name(enum protection p)
{
	static const char *const names[PROTECTIONS] = { "probes", "one", "both" };

	return names[p];
}

struct census *
census_new(void)
{
	return calloc(1, sizeof(struct census));
}

void
census_free(struct census *c)
{
	if (c != NULL)
		free(c->route);
	free(c);
}

/* Texts are compared by their address; the same text at two addresses is put together in census_json(). */
static void
count_reason(struct census *c, const char *why)
{
	for (size_t i = 0; i < REASONS && why != NULL; i++) {
		if (c->reasons[i].text == NULL)
			c->reasons[i].text = why;
		if (c->reasons[i].text == why) {
			c->reasons[i].legs++;
			return;
		}
	}
}

/* On the worker's thread. */
static void
count_flow(struct flow_info *f, void *arg)
{
	struct census *c = arg;
	const enum protection p = protection_of(f);

	c->all[p]++;
	if (f->route->slot < c->n_routes)
		c->route[f->route->slot][p]++;
	count_reason(c, f->leg[CLIENT].why_none);
	count_reason(c, f->leg[BACKEND].why_none);
}

static void
clear(struct census *c, size_t slots)
{
	if (c->n_routes != slots) {
		free(c->route);
		c->route = calloc(slots, sizeof(*c->route));
		c->n_routes = c->route != NULL ? slots : 0;
	}
	if (c->route != NULL)
		memset(c->route, 0, c->n_routes * sizeof(*c->route));
	memset(c->all, 0, sizeof(c->all));
	memset(c->reasons, 0, sizeof(c->reasons));
}

void
census_take(struct census *c, struct server *s)
{
	const int64_t began_us = clock_us();
	int64_t wait_us;

	if (began_us < c->next_us)
		return;
	clear(c, server_slots(s));
	for (size_t i = 0; i < server_workers(s); i++)
		worker_each_flow(server_worker(s, i), count_flow, c);
	wait_us = SHARE * (clock_us() - began_us);
	wait_us = wait_us > US_PER_S / 2 ? wait_us : US_PER_S / 2;
	c->next_us = began_us + (wait_us < WAIT_MAX_US ? wait_us : WAIT_MAX_US);
}

size_t
census_of(const struct census *c, size_t slot, enum protection p)
{
	return slot < c->n_routes ? c->route[slot][p] : 0;
}

static json_t *
counts_json(const size_t n[PROTECTIONS])
{
	json_t *j = json_object();

	for (size_t p = 0; p < PROTECTIONS; p++)
		json_object_set_new(j, protection_name((enum protection)p), json_integer((json_int_t)n[p]));
	return j;
}

json_t *
census_json(const struct census *c, struct server *s)
{
	json_t *routes = json_object(), *reasons = json_object();

	for (size_t i = 0; i < c->n_routes; i++)
		json_object_set_new(routes, server_slot_name(s, i), counts_json(c->route[i]));
	for (size_t i = 0; i < REASONS && c->reasons[i].text != NULL; i++) {
		const json_int_t before = json_integer_value(json_object_get(reasons, c->reasons[i].text));

		json_object_set_new(reasons, c->reasons[i].text, json_integer(before + (json_int_t)c->reasons[i].legs));
	}
	return json_pack("{s:o, s:o, s:o}", "flows", counts_json(c->all), "routes", routes, "why_none", reasons);
}
