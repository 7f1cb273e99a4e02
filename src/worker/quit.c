/*
 * quit.c - quit_when_idle: the sidecar of a job ends by itself once the first
 * flow has come and the last has been gone for that long.
 *
 * A health check that connects and closes is no flow of the job: it sends
 * nothing and is gone at once. So only a client's bytes make the first flow, or
 * a backend's in a connection that lasts (a protocol in which clients only
 * listen). Later, any connection that lasts keeps stent alive.
 */
#include <errno.h>
#include <event2/event.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "worker/running.h"

#define LASTS_US US_PER_S		/* a connection that is open for longer is no health check */
#define LOOK_MIN_US (20 * US_PER_MS)
#define LOOK_MAX_US (500 * US_PER_MS)

static void
sum_bytes(const struct server *s, uint64_t sum[2])
{
	struct relay_counters c;

	sum[CLIENT] = sum[BACKEND] = 0;
	for (size_t i = 0; i < s->n_workers; i++)
		for (size_t k = 0; k < server_slots(s); k++) {
			worker_read_stats(s->workers[i], k, &c);
			sum[CLIENT] += c.bytes[CLIENT];
			sum[BACKEND] += c.bytes[BACKEND];
		}
}

static void
set_timer(struct server *s)
{
	int64_t us = s->config->quit_when_idle_ms * US_PER_MS / 10;

	us = us < LOOK_MIN_US ? LOOK_MIN_US : us > LOOK_MAX_US ? LOOK_MAX_US : us;
	event_add(s->quit.timer, &(struct timeval){ us / US_PER_S, us % US_PER_S });
}

/* Looks at what there is. True: stent has been idle for long enough. */
static bool
is_idle(struct server *s, int64_t now_us)
{
	struct quit *q = &s->quit;
	const int open = server_open_flows(s);
	uint64_t bytes[2];
	bool lasts, spoke;

	sum_bytes(s, bytes);
	if (open == 0) {
		q->open_since_us = 0;
		q->backend_bytes = bytes[BACKEND];
	} else if (q->open_since_us == 0) {
		q->open_since_us = now_us;
	}
	lasts = open > 0 && now_us - q->open_since_us >= LASTS_US;
	spoke = bytes[CLIENT] != q->client_bytes;
	q->client_bytes = bytes[CLIENT];
	q->used |= spoke || (lasts && bytes[BACKEND] != q->backend_bytes);
	if (spoke || lasts)
		q->busy_us = now_us;
	return q->used && open == 0 && now_us - q->busy_us >= s->config->quit_when_idle_ms * US_PER_MS;
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;

	(void)fd;
	(void)what;
	if (s->config->quit_when_idle_ms == 0 || server_is_draining(s))
		return;
	if (!is_idle(s, clock_us())) {
		set_timer(s);
		return;
	}
	log_say(LEVEL_INFO, "quit_when_idle: no flow for %lld ms", (long long)s->config->quit_when_idle_ms);
	server_drain(s);
}

int
quit_watch(struct server *s)
{
	if (s->config->quit_when_idle_ms == 0)
		return 0;
	if (s->quit.timer == NULL)
		s->quit.timer = evtimer_new(s->base, on_look, s);
	if (s->quit.timer == NULL)
		return -ENOMEM;
	set_timer(s);
	return 0;
}

void
quit_free(struct server *s)
{
	if (s->quit.timer != NULL)
		event_free(s->quit.timer);
}
