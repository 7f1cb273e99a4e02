/*
 * cancel.c - a cancel request for a client that is dead, on a connection of its
 * own. Sends it, waits for the backend to close, and gives up after CANCEL_US.
 *
 * Many clients that die at once must not use up the descriptors: only
 * RELAY_CANCELS requests run at a time; WAITING_MAX more wait, up to CANCEL_US,
 * and the rest is dropped.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/ending.h"
#include "relay/shared.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

#define CANCEL_US (5 * US_PER_S)
#define WAITING_MAX 256

struct cancel {
	TAILQ_ENTRY(cancel) link;
	struct relay *relay;
	const struct route *route;	/* held through its settings */
	struct own_end whose;		/* the flow's; the request takes the same path */
	struct transport transport;
	struct event ev;
	struct timer timer;
	struct sockaddr_storage to;
	socklen_t to_len;
	bool runs;			/* else it waits */
	bool sent;
	size_t len;
	uint8_t bytes[CODEC_HEARTBEAT_MAX];
};

static void
warn_dropped(struct relay *r, const struct route *route, const char *why)
{
	const int64_t now_us = clock_us();

	r->cancels.dropped++;
	if (now_us - r->cancels.warned_us < US_PER_S)
		return;
	r->cancels.warned_us = now_us;
	log_say(LEVEL_WARN, "route %s: cannot send a cancel request to the backend for a client that is gone: %s (%llu since the start)",
	    route->name, why, (unsigned long long)r->cancels.dropped);
}

static void
free_cancel(struct cancel *c)
{
	struct relay *r = c->relay;

	timer_disarm(r->timers, &c->timer);
	if (c->runs) {
		assert(r->cancels.n_running > 0);
		event_del(&c->ev);
		transport_close(&c->transport, TRANSPORT_FIN);
		r->cancels.n_running--;
		counter_add(&r->counters[c->route->slot]->cancels, (uint64_t)-1);
		TAILQ_REMOVE(&r->cancels.running, c, link);
	} else {
		assert(r->cancels.n_waiting > 0);
		r->cancels.n_waiting--;
		TAILQ_REMOVE(&r->cancels.waiting, c, link);
	}
	config_release(c->route->config);
	free(c);
}

void
cancel_free_all(struct relay *r)
{
	struct cancel *c;

	while ((c = TAILQ_FIRST(&r->cancels.waiting)) != NULL)
		free_cancel(c);
	while ((c = TAILQ_FIRST(&r->cancels.running)) != NULL)
		free_cancel(c);
}

static void on_event(evutil_socket_t fd, short what, void *arg);

/* Connects; frees the request if that fails. */
static void
start(struct cancel *c)
{
	struct relay *r = c->relay;
	struct address local, to = address_from_sockaddr((struct sockaddr *)&c->to);
	const int fd = socket_connect((struct sockaddr *)&c->to, c->to_len, 0, &local);

	assert(!c->runs && r->cancels.n_running < RELAY_CANCELS);
	if (fd < 0) {
		warn_dropped(r, c->route, strerror(-fd));
		free_cancel(c);
		return;
	}
	if (local.family != 0)
		own_ends_add(fd, &local, &to, c->whose);
	TAILQ_REMOVE(&r->cancels.waiting, c, link);
	r->cancels.n_waiting--;
	TAILQ_INSERT_TAIL(&r->cancels.running, c, link);
	r->cancels.n_running++;
	counter_add(&r->counters[c->route->slot]->cancels, 1);
	c->runs = true;
	transport_init(&c->transport, fd);
	event_assign(&c->ev, r->base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, on_event, c);
	if (event_add(&c->ev, NULL) != 0 || timer_arm(r->timers, &c->timer, clock_us() + CANCEL_US) != 0) {
		warn_dropped(r, c->route, strerror(ENOMEM));
		free_cancel(c);
	}
}

static void
start_waiting(struct relay *r)
{
	while (r->cancels.n_running < RELAY_CANCELS && !TAILQ_EMPTY(&r->cancels.waiting))
		start(TAILQ_FIRST(&r->cancels.waiting));
}

/* Frees a request and starts the next one. */
static void
finish(struct cancel *c)
{
	struct relay *r = c->relay;

	free_cancel(c);
	start_waiting(r);
}

static void
on_timeout(struct timer *t, int64_t now_us)
{
	struct cancel *c = (struct cancel *)(void *)((char *)t - offsetof(struct cancel, timer));

	(void)now_us;
	if (!c->runs)
		warn_dropped(c->relay, c->route, "too many requests were waiting for backends that are slow to close");
	finish(c);
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct cancel *c = arg;
	uint8_t buf[256];

	(void)fd;
	(void)what;
	if (transport_take_error(&c->transport) != 0) {
		finish(c);
		return;
	}
	if (!c->sent) {
		if (transport_write(&c->transport, &(struct iovec){ c->bytes, c->len }, 1) != (ssize_t)c->len)
			finish(c);
		else
			c->sent = true;
		return;
	}
	if (transport_read(&c->transport, buf, sizeof(buf)) == 0)
		finish(c);
}

void
cancel_send(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len)
{
	struct cancel *c;

	assert(len > 0 && len <= sizeof(c->bytes));
	if (r->cancels.n_waiting >= WAITING_MAX) {
		warn_dropped(r, f->route, "too many requests are waiting");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		warn_dropped(r, f->route, strerror(ENOMEM));
		return;
	}
	c->to_len = sizeof(c->to);
	/* The same address as the flow's backend leg. If that was reset, its work has ended already. */
	if (getpeername(leg_of(f, BACKEND)->transport.fd, (struct sockaddr *)&c->to, &c->to_len) != 0) {
		free(c);
		return;
	}
	c->relay = r;
	c->route = f->route;
	config_hold(c->route->config);
	c->whose = (struct own_end){ relay_route_index(f), f->hops };
	c->len = len;
	memcpy(c->bytes, bytes, len);
	c->timer.fire = on_timeout;
	TAILQ_INSERT_TAIL(&r->cancels.waiting, c, link);
	r->cancels.n_waiting++;
	if (timer_arm(r->timers, &c->timer, clock_us() + CANCEL_US) != 0) {
		warn_dropped(r, f->route, strerror(ENOMEM));
		free_cancel(c);
		return;
	}
	start_waiting(r);
}
