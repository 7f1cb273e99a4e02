/*
 * history.c - the last hour's ends of flows by reason, and the last minutes'
 * heartbeats, replies and misses of each route and side, for the status page.
 *
 * Once a second the counters are read, and the difference to the last reading is
 * added to the current minute and the current step of two seconds. Both are
 * numbered from 1 since the start; number n is in the ring at n modulo its size.
 */
#include "admin/history.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "admin/view.h"
#include "stent/clock.h"
#include "stent/counters.h"
#include "stent/server.h"
#include "stent/side.h"

enum pulse { HEARTBEATS, REPLIES, MISSES, PULSES };

static const char *const pulse_names[PULSES] = { "heartbeats", "replies", "misses" };

struct route_history {
	uint64_t seen[2][PULSES];	/* the counters at the last sample */
	uint16_t step[HISTORY_STEPS][2][PULSES];
};

struct history {
	struct server *server;
	struct event *timer;
	void (*on_sample)(void *arg);
	void *arg;
	int64_t began_us;
	uint64_t minute, step;		/* the current ones */
	uint64_t seen_ended[REASON_COUNT];
	uint32_t ended[HISTORY_MINUTES][REASON_COUNT];
	size_t n_routes;		/* by slot */
	struct route_history **routes;
};

/* --- sampling --- */

static uint64_t
difference(uint64_t *seen, uint64_t now)
{
	const uint64_t d = now - *seen;

	*seen = now;
	return d;
}

static struct route_history *
route_of(struct history *h, size_t slot)
{
	if (slot >= h->n_routes) {
		struct route_history **routes = reallocarray(h->routes, slot + 1, sizeof(*routes));

		if (routes == NULL)
			return NULL;
		memset(routes + h->n_routes, 0, (slot + 1 - h->n_routes) * sizeof(*routes));
		h->routes = routes;
		h->n_routes = slot + 1;
	}
	if (h->routes[slot] == NULL)
		h->routes[slot] = calloc(1, sizeof(*h->routes[slot]));
	return h->routes[slot];
}

static void
sample_pulse(struct history *h, struct route_history *r, const struct relay_counters *c)
{
	for (enum side side = CLIENT; side <= BACKEND; side++) {
		const uint64_t now[PULSES] = { c->heartbeats[side], c->replies[side], c->misses[side] };

		for (size_t p = 0; p < PULSES; p++) {
			uint16_t *into = &r->step[h->step % HISTORY_STEPS][side][p];
			const uint64_t sum = *into + difference(&r->seen[side][p], now[p]);

			*into = sum < UINT16_MAX ? (uint16_t)sum : UINT16_MAX;
		}
	}
}

/* Moves on to the step and the minute of now; those that begin are empty. */
static void
advance(struct history *h, int64_t now_us)
{
	const uint64_t s = (uint64_t)((now_us - h->began_us) / US_PER_S), step = s / HISTORY_STEP_S + 1, minute = s / 60 + 1;

	if (step > h->step + HISTORY_STEPS)	/* the process was stopped */
		h->step = step - HISTORY_STEPS;
	while (h->step < step) {
		h->step++;
		for (size_t i = 0; i < h->n_routes; i++)
			if (h->routes[i] != NULL)
				memset(h->routes[i]->step[h->step % HISTORY_STEPS], 0, sizeof(h->routes[i]->step[0]));
	}
	if (minute > h->minute + HISTORY_MINUTES)
		h->minute = minute - HISTORY_MINUTES;
	while (h->minute < minute) {
		h->minute++;
		memset(h->ended[h->minute % HISTORY_MINUTES], 0, sizeof(h->ended[0]));
	}
}

static void
sample(struct history *h)
{
	const int64_t now_us = clock_us();
	uint64_t ended[REASON_COUNT] = { 0 };

	advance(h, now_us);
	for (size_t slot = 0; slot < server_slots(h->server); slot++) {
		struct route_history *r = route_of(h, slot);
		struct relay_counters c;

		if (r == NULL)
			continue;
		view_sum_slot(h->server, slot, &c);
		sample_pulse(h, r, &c);
		for (size_t i = 0; i < REASON_COUNT; i++)
			ended[i] += c.flows_ended[i];
	}
	for (size_t i = 0; i < REASON_COUNT; i++)
		h->ended[h->minute % HISTORY_MINUTES][i] += (uint32_t)difference(&h->seen_ended[i], ended[i]);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct history *h = arg;

	(void)fd;
	(void)what;
	sample(h);
	h->on_sample(h->arg);
}

void
history_attach(struct history *h, void (*on_sample)(void *arg), void *arg)
{
	h->on_sample = on_sample;
	h->arg = arg;
}

int
history_start(struct history **ret, struct server *s, struct event_base *base, void (*on_sample)(void *arg), void *arg)
{
	static const struct timeval second = { 1, 0 };
	struct history *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return -ENOMEM;
	h->server = s;
	history_attach(h, on_sample, arg);
	h->began_us = clock_us();
	h->timer = event_new(base, -1, EV_PERSIST, on_timer, h);
	if (h->timer == NULL || event_add(h->timer, &second) < 0) {
		history_free(h);
		return -ENOMEM;
	}
	sample(h);
	*ret = h;
	return 0;
}

void
history_free(struct history *h)
{
	if (h == NULL)
		return;
	if (h->timer != NULL)
		event_free(h->timer);
	for (size_t i = 0; i < h->n_routes; i++)
		free(h->routes[i]);
	free(h->routes);
	free(h);
}

/* --- as JSON --- */

/* The oldest number that is still in a ring, or the mark if that is later. */
static uint64_t
first_of(uint64_t mark, uint64_t now, uint64_t size)
{
	const uint64_t oldest = now >= size ? now - size + 1 : 1;

	return mark > oldest ? mark : oldest;
}

/* Reasons that occur, each with a number for each minute. */
static json_t *
ended_json(const struct history *h, uint64_t from)
{
	json_t *all = json_object();

	for (size_t r = REASON_NONE + 1; r < REASON_COUNT; r++) {
		json_t *list = json_array();
		uint64_t sum = 0;

		for (uint64_t m = from; m <= h->minute; m++) {
			sum += h->ended[m % HISTORY_MINUTES][r];
			json_array_append_new(list, json_integer(h->ended[m % HISTORY_MINUTES][r]));
		}
		if (sum > 0)
			json_object_set(all, reason_text((enum close_reason)r), list);
		json_decref(list);
	}
	return all;
}

/* What occurs, with a number for each step. */
static json_t *
pulse_json(const struct history *h, const struct route_history *r, enum side side, uint64_t from)
{
	json_t *all = json_object();

	for (size_t p = 0; p < PULSES; p++) {
		json_t *list = json_array();
		uint64_t sum = 0;

		for (uint64_t s = from; s <= h->step; s++) {
			sum += r->step[s % HISTORY_STEPS][side][p];
			json_array_append_new(list, json_integer(r->step[s % HISTORY_STEPS][side][p]));
		}
		if (sum > 0)
			json_object_set(all, pulse_names[p], list);
		json_decref(list);
	}
	return all;
}

json_t *
history_json(const struct history *h, struct history_mark *mark)
{
	const uint64_t minute = first_of(mark->minute, h->minute, HISTORY_MINUTES), step = first_of(mark->step, h->step, HISTORY_STEPS);
	json_t *routes = json_object();

	for (size_t i = 0; i < h->n_routes; i++)
		if (h->routes[i] != NULL)
			json_object_set_new(routes, server_slot_name(h->server, i), json_pack("{s:o, s:o}",
			    side_name(CLIENT), pulse_json(h, h->routes[i], CLIENT, step),
			    side_name(BACKEND), pulse_json(h, h->routes[i], BACKEND, step)));
	*mark = (struct history_mark){ .minute = h->minute, .step = h->step };
	return json_pack("{s:I, s:I, s:o, s:I, s:I, s:i, s:o}", "minute", (json_int_t)minute, "minute_now", (json_int_t)h->minute,
	    "ended", ended_json(h, minute), "step", (json_int_t)step, "step_now", (json_int_t)h->step,
	    "step_seconds", HISTORY_STEP_S, "routes", routes);
}
