/*
 * stage.c - three lanes and their schedule.
 *
 * All clients send requests at the same times, with pauses that are longer than
 * the middlebox's idle limit. The lanes differ in what is behind the middlebox:
 * the clock itself, a stent that sends TCP keepalive only, or a stent that also
 * sends WebSocket pings.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "demo/demo.h"
#include "demo/loopback.h"
#include "stent/clock.h"
#include "stent/config.h"
#include "stent/log.h"
#include "stent/server.h"

static const int requests_at_ms[] = { 1000, 12000, 23000 };
#define GOODBYE_MS 300
#define REQUESTS ((int)(sizeof(requests_at_ms) / sizeof(requests_at_ms[0])))

static const struct {
	const char *name, *way;
	bool has_stent, must_survive;
	const char *heartbeat;
} plot[LANES] = {
	{ "direct", "middlebox", false, false, NULL },
	{ "stent, TCP keepalive only", "middlebox and stent", true, false, "--heartbeat=off" },
	{ "stent, heartbeats", "middlebox and stent", true, true, "--heartbeat=2s" },
};

bool
lane_went_as_expected(const struct lane *l)
{
	const int responses = demo_client_responses(l->client), requests = demo_client_requests(l->client);

	if (requests != REQUESTS)
		return false;
	return l->must_survive ? responses == requests && l->replies > 0 : responses == 1;
}

bool
stage_went_as_expected(const struct stage *s)
{
	for (size_t i = 0; i < LANES; i++)
		if (!lane_went_as_expected(&s->lane[i]))
			return false;
	return s->over;
}

double
stage_seconds(const struct stage *s)
{
	return (double)(clock_us() - s->began_us) / US_PER_S;
}

/* A stent of one route in this process; *port is where it listens. */
static int
open_stent(struct lane *l, struct event_base *base, const char *heartbeat, uint16_t clock_port, uint16_t *port)
{
	char listen[32], backend[32], *options[] = {
		"--protocol=websocket", "--keepalive=1s/1s/3", (char *)(uintptr_t)heartbeat,
		"--workers=1", "--admin=off", "--control=off", "--max_flows=8",
	};
	int r;

	*port = loopback_free_port();
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", *port);
	snprintf(backend, sizeof(backend), "127.0.0.1:%u", clock_port);
	r = config_from_args(&l->config, listen, backend, options, sizeof(options) / sizeof(options[0]), stderr);
	if (r == 0)
		r = server_start(&l->server, l->config, base);
	return r == 0 ? server_accept(l->server) : r;
}

static int
open_lane(struct stage *s, size_t i, uint16_t clock_port)
{
	struct lane *l = &s->lane[i];
	uint16_t behind = clock_port, entry = 0;
	int r = 0;

	l->name = plot[i].name;
	l->way = plot[i].way;
	l->alive = true;
	l->waiting_ms = -1;
	l->has_stent = plot[i].has_stent;
	l->must_survive = plot[i].must_survive;
	if (l->has_stent)
		r = open_stent(l, s->base, plot[i].heartbeat, clock_port, &behind);
	if (r != 0)
		return r;
	l->box = middlebox_new(s->base, behind, &entry);
	l->client = l->box != NULL ? demo_client_new(s->base, entry) : NULL;
	return l->client != NULL ? 0 : -ENOMEM;
}

/* The stents' log would disturb the screen: it is kept, and printed at the end. */
static int
keep_log(struct stage *s)
{
	char path[32];
	struct log_settings log = { .target = TARGET_FILE, .path = path, .format = FORMAT_TEXT, .level = LEVEL_INFO };

	s->log_fd = memfd_create("stent-demo-log", MFD_CLOEXEC);
	if (s->log_fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->log_fd);
	return log_open(&log);
}

int
stage_open(struct stage *s, struct event_base *base)
{
	uint16_t clock_port = 0;
	int r;

	s->base = base;
	s->log_fd = -1;
	r = keep_log(s);
	if (r != 0)
		return r;
	s->clock = clock_server_new(base, &clock_port);
	if (s->clock == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < LANES && r == 0; i++)
		r = open_lane(s, i, clock_port);
	s->began_us = clock_us();
	return r;
}

void
stage_dismiss(struct stage *s)
{
	const struct timeval goodbye = { .tv_usec = GOODBYE_MS * US_PER_MS };

	for (size_t i = 0; i < LANES; i++)
		if (s->lane[i].client != NULL)
			demo_client_leave(s->lane[i].client);
	event_base_loopexit(s->base, &goodbye);
	event_base_dispatch(s->base);
	for (size_t i = 0; i < LANES; i++) {
		server_free(s->lane[i].server);
		s->lane[i].server = NULL;
	}
}

void
stage_close(struct stage *s)
{
	stage_dismiss(s);
	for (size_t i = 0; i < LANES; i++) {
		struct lane *l = &s->lane[i];

		demo_client_free(l->client);
		config_release(l->config);
		middlebox_free(l->box);
	}
	clock_server_free(s->clock);
	log_close();
	if (s->log_fd >= 0)
		close(s->log_fd);
}

static void
add_flow(struct flow_info *info, void *arg)
{
	struct lane *l = arg;

	l->heartbeats += info->leg[CLIENT].heartbeats;
	l->replies += info->leg[CLIENT].replies;
}

/* What happened in this tick, in order of importance. */
static enum mark
mark_of(struct lane *l, bool is_request)
{
	const uint64_t heartbeats_before = l->heartbeats;
	const int responses_before = l->responses;

	l->responses = demo_client_responses(l->client);
	l->alive = !middlebox_has_dropped(l->box);
	l->waiting_ms = demo_client_waiting_ms(l->client);
	if (l->has_stent) {
		l->heartbeats = l->replies = 0;
		worker_each_flow(server_worker(l->server, 0), add_flow, l);
	}
	if (is_request)
		return MARK_REQUEST;
	if (l->responses > responses_before)
		return MARK_RESPONSE;
	if (!l->alive)
		return MARK_DROPPED;
	return l->heartbeats > heartbeats_before ? MARK_HEARTBEAT : MARK_IDLE;
}

static bool
is_request_due(const struct stage *s)
{
	for (int i = 0; i < REQUESTS; i++)
		if (requests_at_ms[i] == (int)s->tick * TICK_MS)
			return true;
	return false;
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct stage *s = arg;

	(void)fd;
	(void)what;
	assert(s->tick < MARKS);
	for (size_t i = 0; i < LANES; i++) {
		struct lane *l = &s->lane[i];

		l->marks[s->tick] = (uint8_t)mark_of(l, is_request_due(s));
		if (is_request_due(s))
			demo_client_request(l->client);
	}
	s->tick++;
	s->over = s->tick == MARKS;
	s->on_tick(s);
	if (s->over)
		event_base_loopbreak(s->base);
}

static void
on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct stage *s = arg;

	(void)sig;
	(void)what;
	s->stopped = true;
	event_base_loopbreak(s->base);
}

void
stage_play(struct stage *s)
{
	const struct timeval tv = { .tv_usec = TICK_MS * US_PER_MS };
	struct event *tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
	struct event *stop = evsignal_new(s->base, SIGINT, on_stop, s);

	if (tick != NULL && stop != NULL && event_add(tick, &tv) == 0 && event_add(stop, NULL) == 0)
		event_base_dispatch(s->base);
	if (tick != NULL)
		event_free(tick);
	if (stop != NULL)
		event_free(stop);
}
