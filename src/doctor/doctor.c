/*
 * doctor.c - a measurement from start to end.
 *
 * The name is looked up, and its addresses are tried in order by a first flow, which is hardly quiet: it shows whether
 * the server can be measured at all, and whether it replies to pings. All other flows go to the address that it found.
 * They are opened one after another, a few a second, and at most OPEN_MAX at a time, so that the measurement itself
 * fills nobody's table.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/measurement.h"
#include "stent/clock.h"
#include "stent/log.h"
#include "stent/resolve.h"

#define OPEN_MAX 120
#define PACE_MS 25
#define FIRST_QUIET_MS 300
#define UNOPENED_MAX 10		/* in a row; then the server is gone, or refuses more */
#define DRAW_MS 250

struct run {
	struct measurement m;
	struct event_base *base;
	struct resolver *resolver;
	struct lookup *lookup;		/* under way */
	struct event *signals[2], *pace, *draw;
	struct sockaddr_storage addresses[8];
	size_t n_addresses, at;
	struct sample_flow *first;
	struct place {
		struct run *run;
		struct sample_flow *flow;
	} places[SAMPLES_MAX];		/* by the index of the sample */
	int open, unopened_in_row;
	bool is_measuring;
	enum doctor_result result;
};

static void
stop(struct run *r, enum doctor_result result)
{
	r->result = result;
	event_base_loopbreak(r->base);
}

static void
close_place(struct run *r, size_t i)
{
	sample_flow_free(r->places[i].flow);
	r->places[i].flow = NULL;
	r->open--;
}

/* Stops what has become needless, asks for more, and ends when nothing is left. */
static void
plan(struct run *r)
{
	struct search *s = &r->m.search;
	const bool is_busy = search_plan(s);

	for (size_t i = 0; i < s->n; i++)
		if (search_is_needless(s, i)) {
			if (r->places[i].flow != NULL)
				close_place(r, i);
			search_record(s, i, OUTCOME_UNUSED, 0);
		}
	if (!is_busy)
		stop(r, DOCTOR_DONE);
}

static void
count_unused(struct run *r, const struct fate *fate)
{
	r->m.spoken += fate->has_spoken;
	if (fate->has_spoken)
		return;
	r->m.unopened++;
	r->m.last_error = fate->error;
	if (++r->unopened_in_row >= UNOPENED_MAX)
		stop(r, DOCTOR_DONE);
}

static void
on_sample(void *arg, const struct fate *fate)
{
	struct place *p = arg;
	struct run *r = p->run;
	const size_t i = (size_t)(p - r->places);

	search_record(&r->m.search, i, fate->outcome, fate->ended_ms);
	if (fate->outcome == OUTCOME_UNUSED)
		count_unused(r, fate);
	else
		r->unopened_in_row = 0;
	close_place(r, i);
	progress_line(&r->m, &r->m.search.samples[i]);
	plan(r);
}

static void
on_pace(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;
	struct search *s = &r->m.search;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < s->n && r->open < OPEN_MAX; i++) {
		if (s->samples[i].outcome != OUTCOME_PLANNED)
			continue;
		r->places[i] = (struct place){ .run = r };
		r->places[i].flow = sample_flow_new(&r->m.course, s->samples[i].method, s->samples[i].quiet_ms, on_sample, &r->places[i]);
		search_record(s, i, r->places[i].flow != NULL ? OUTCOME_RUNNING : OUTCOME_UNUSED, 0);
		r->open += r->places[i].flow != NULL;
		r->m.opened += r->places[i].flow != NULL;
		return;		/* one at a time */
	}
}

static void
on_draw(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	progress_draw(&((struct run *)arg)->m);
}

static void
on_signal(evutil_socket_t sig, short what, void *arg)
{
	struct run *r = arg;

	(void)sig;
	(void)what;
	r->m.interrupted = true;
	stop(r, DOCTOR_DONE);
}

static void
begin_search(struct run *r)
{
	const struct timeval pace = { .tv_usec = PACE_MS * US_PER_MS }, draw = { .tv_usec = DRAW_MS * US_PER_MS };

	r->is_measuring = true;
	if (event_add(r->pace, &pace) != 0 || event_add(r->draw, &draw) != 0) {
		doctor_error("out of memory");
		stop(r, DOCTOR_FAILED);
	}
	plan(r);
}

static void try_address(struct run *r);

static void
on_first(void *arg, const struct fate *fate)
{
	struct run *r = arg;
	const struct fate copy = *fate;		/* part of the flow */

	sample_flow_free(r->first);
	r->first = NULL;
	if (copy.stage == STAGE_CONNECTING && r->at + 1 < r->n_addresses) {
		r->at++;
		try_address(r);
	} else if (measurement_judge_first(&r->m, &copy) == DOCTOR_DONE) {
		begin_search(r);
	} else {
		stop(r, DOCTOR_FAILED);
	}
}

static void
try_address(struct run *r)
{
	struct course *c = &r->m.course;
	const uint16_t port = htons(r->m.config->routes[0].backend[0].port);
	struct address address;

	c->addr = r->addresses[r->at];
	if (c->addr.ss_family == AF_INET6) {
		((struct sockaddr_in6 *)&c->addr)->sin6_port = port;
		c->addr_len = sizeof(struct sockaddr_in6);
	} else {
		((struct sockaddr_in *)&c->addr)->sin_port = port;
		c->addr_len = sizeof(struct sockaddr_in);
	}
	address = address_from_sockaddr((const struct sockaddr *)&c->addr);
	address_text(&address, r->m.address);
	r->first = sample_flow_new(c, METHOD_QUIET, FIRST_QUIET_MS, on_first, r);
	if (r->first == NULL) {
		doctor_error("out of memory");
		stop(r, DOCTOR_FAILED);
	}
}

static void
on_found(void *arg, const struct host_addresses *found)
{
	struct run *r = arg;

	r->lookup = NULL;
	if (found == NULL || found->n == 0) {
		doctor_error("no address of \"%s\" was found; is the name right, and its name server reachable?",
		    r->m.config->routes[0].backend[0].host);
		stop(r, DOCTOR_FAILED);
		return;
	}
	for (size_t i = 0; i < found->n && r->n_addresses < sizeof(r->addresses) / sizeof(r->addresses[0]); i++)
		r->addresses[r->n_addresses++] = found->at[i];
	try_address(r);
}

/* Signals and timers. False: out of memory. */
static bool
open_events(struct run *r)
{
	static const int numbers[] = { SIGINT, SIGTERM };

	r->base = event_base_new();
	r->m.course.base = r->base;
	if (r->base == NULL)
		return false;
	r->resolver = resolver_new(r->base);
	r->pace = event_new(r->base, -1, EV_PERSIST, on_pace, r);
	r->draw = event_new(r->base, -1, EV_PERSIST, on_draw, r);
	for (int i = 0; i < 2; i++) {
		r->signals[i] = evsignal_new(r->base, numbers[i], on_signal, r);
		if (r->signals[i] == NULL || event_add(r->signals[i], NULL) != 0)
			return false;
	}
	return r->resolver != NULL && r->pace != NULL && r->draw != NULL;
}

static void
start(struct run *r)
{
	const struct endpoint *ep = &r->m.config->routes[0].backend[0];

	r->m.started_us = clock_us();
	if (ep->kind == ENDPOINT_ADDRESS) {
		r->addresses[r->n_addresses++] = ep->addr;
		try_address(r);
	} else {
		r->lookup = resolver_lookup(r->resolver, ep->host, on_found, r);
		if (r->lookup == NULL) {
			doctor_error("out of memory");
			r->result = DOCTOR_FAILED;
		}
	}
}

static void
close_events(struct run *r)
{
	sample_flow_free(r->first);
	for (size_t i = 0; i < r->m.search.n; i++)
		if (r->places[i].flow != NULL)
			close_place(r, i);
	if (r->lookup != NULL)
		lookup_cancel(r->lookup);
	resolver_free(r->resolver);
	if (r->pace != NULL)
		event_free(r->pace);
	if (r->draw != NULL)
		event_free(r->draw);
	for (int i = 0; i < 2; i++)
		if (r->signals[i] != NULL)
			event_free(r->signals[i]);
	if (r->base != NULL)
		event_base_free(r->base);
	libevent_global_shutdown();
}

/* Those that still run when it ends count for nothing. */
static void
forget_open(struct search *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->samples[i].outcome == OUTCOME_PLANNED || s->samples[i].outcome == OUTCOME_RUNNING)
			s->samples[i].outcome = OUTCOME_UNUSED;
}

static enum doctor_result
measure(struct run *r)
{
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LEVEL_ERROR);	/* a name that is not found is told once, by us */
	if (!open_events(r)) {
		doctor_error("out of memory");
		return DOCTOR_FAILED;
	}
	start(r);
	if (r->result == DOCTOR_DONE)
		event_base_dispatch(r->base);
	progress_end();
	if (r->result != DOCTOR_DONE)
		return r->result;
	if (!r->is_measuring) {
		doctor_error("interrupted before the first answer of %s", r->m.options->target);
		return DOCTOR_FAILED;
	}
	forget_open(&r->m.search);
	(r->m.options->json ? report_json : report_text)(&r->m, stdout);
	return DOCTOR_DONE;
}

enum doctor_result
doctor_run(const struct doctor_options *options)
{
	struct run *r = calloc(1, sizeof(*r));
	enum doctor_result result;

	if (r == NULL) {
		doctor_error("out of memory");
		return DOCTOR_FAILED;
	}
	result = measurement_open(&r->m, options);
	if (result == DOCTOR_DONE)
		result = measure(r);
	close_events(r);
	measurement_close(&r->m);
	free(r);
	return result;
}
