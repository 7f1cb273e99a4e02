/*
 * errand.c - a few bytes to a backend on a connection of their own: a cancel
 * request for a client that died. Sends them, waits for the backend to
 * close, and gives up after five seconds.
 *
 * Clients that die by the hundred, or one that does nothing else, must not take
 * the descriptors of others: some run at once, some wait for them, for five
 * seconds too, and what comes then is dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

#define ERRAND_US (5 * US_PER_S)
#define WAITING_MOST 256

struct errand {
	TAILQ_ENTRY(errand) link;
	struct relay *relay;
	const struct route *route;
	struct own_end whose;		/* of the flow that it is for: it goes the same way */
	struct event ev;
	struct timer timer;
	struct sockaddr_storage to;
	socklen_t to_len;
	bool runs;			/* else it waits */
	bool sent;
	size_t len;
	uint8_t bytes[CODEC_BEAT_MAX];
};

static void
say_dropped(struct relay *r, const struct route *route, const char *why)
{
	const int64_t now_us = clock_us();

	r->errands.dropped++;
	if (now_us - r->errands.said_us < US_PER_S)
		return;
	r->errands.said_us = now_us;
	log_say(LEVEL_WARN, "route %s: cannot tell the backend to stop working for a client that is gone: %s (%llu since the start)",
	    route->name, why, (unsigned long long)r->errands.dropped);
}

static void
free_errand(struct errand *e)
{
	struct relay *r = e->relay;

	timer_disarm(r->timers, &e->timer);
	if (e->runs) {
		const int fd = event_get_fd(&e->ev);

		event_del(&e->ev);
		close(fd);
		r->errands.n_running--;
		counter_add(&r->counters->errands, (uint64_t)-1);
		TAILQ_REMOVE(&r->errands.running, e, link);
	} else {
		r->errands.n_waiting--;
		TAILQ_REMOVE(&r->errands.waiting, e, link);
	}
	free(e);
}

void
errand_free_all(struct relay *r)
{
	struct errand *e;

	while ((e = TAILQ_FIRST(&r->errands.waiting)) != NULL)
		free_errand(e);
	while ((e = TAILQ_FIRST(&r->errands.running)) != NULL)
		free_errand(e);
}

static void on_event(evutil_socket_t fd, short what, void *arg);

/* It is freed when that fails. */
static void
start(struct errand *e)
{
	struct relay *r = e->relay;
	struct address local, to = address_from_sockaddr((struct sockaddr *)&e->to);
	const int fd = socket_connect((struct sockaddr *)&e->to, e->to_len, 0, &local);

	if (fd < 0) {
		say_dropped(r, e->route, strerror(-fd));
		free_errand(e);
		return;
	}
	if (local.family != 0)
		own_ends_add(fd, &local, &to, e->whose);
	TAILQ_REMOVE(&r->errands.waiting, e, link);
	r->errands.n_waiting--;
	TAILQ_INSERT_TAIL(&r->errands.running, e, link);
	r->errands.n_running++;
	counter_add(&r->counters->errands, 1);
	e->runs = true;
	event_assign(&e->ev, r->base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, on_event, e);
	if (event_add(&e->ev, NULL) != 0 || timer_arm(r->timers, &e->timer, clock_us() + ERRAND_US) != 0) {
		say_dropped(r, e->route, strerror(ENOMEM));
		free_errand(e);
	}
}

static void
start_waiting(struct relay *r)
{
	while (r->errands.n_running < RELAY_ERRANDS && !TAILQ_EMPTY(&r->errands.waiting))
		start(TAILQ_FIRST(&r->errands.waiting));
}

/* A place is free now. */
static void
finish(struct errand *e)
{
	struct relay *r = e->relay;

	free_errand(e);
	start_waiting(r);
}

static void
on_timeout(struct timer *t, int64_t now_us)
{
	struct errand *e = (struct errand *)(void *)((char *)t - offsetof(struct errand, timer));

	(void)now_us;
	if (!e->runs)
		say_dropped(e->relay, e->route, "too many such requests were waiting for backends that are slow to close");
	finish(e);
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct errand *e = arg;
	uint8_t buf[256];

	(void)what;
	if (socket_error(fd) != 0) {
		finish(e);
		return;
	}
	if (!e->sent) {
		if (send(fd, e->bytes, e->len, MSG_NOSIGNAL) != (ssize_t)e->len)
			finish(e);
		else
			e->sent = true;
		return;
	}
	if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == 0)
		finish(e);
}

void
errand_run(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len)
{
	struct errand *e;

	if (r->errands.n_waiting >= WAITING_MOST) {
		say_dropped(r, f->route, "too many such requests are waiting");
		return;
	}
	e = calloc(1, sizeof(*e));
	if (e == NULL) {
		say_dropped(r, f->route, strerror(ENOMEM));
		return;
	}
	e->to_len = sizeof(e->to);
	/* To where the flow's own connection went; one that is reset has nobody at work any more. */
	if (getpeername(leg_fd(leg_of(f, BACKEND)), (struct sockaddr *)&e->to, &e->to_len) != 0) {
		free(e);
		return;
	}
	e->relay = r;
	e->route = f->route;
	e->whose = (struct own_end){ relay_route_index(f), f->hops };
	e->len = len;
	memcpy(e->bytes, bytes, len);
	e->timer.fire = on_timeout;
	TAILQ_INSERT_TAIL(&r->errands.waiting, e, link);
	r->errands.n_waiting++;
	if (timer_arm(r->timers, &e->timer, clock_us() + ERRAND_US) != 0) {
		say_dropped(r, f->route, strerror(ENOMEM));
		free_errand(e);
		return;
	}
	start_waiting(r);
}
