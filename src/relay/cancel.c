/*
 * cancel.c - a cancel request for a client that died, on a connection of its
 * own. Sends them, waits for the backend to
 * close, and gives up after five seconds.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/socket.h"

#define CANCEL_US (5 * US_PER_S)

struct cancel {
	TAILQ_ENTRY(cancel) link;
	struct relay *relay;
	struct event ev;
	struct timer timer;
	bool sent;
	size_t len;
	uint8_t bytes[CODEC_BEAT_MAX];
};

static void
free_cancel(struct cancel *c)
{
	const int fd = event_get_fd(&c->ev);

	event_del(&c->ev);
	close(fd);
	timer_disarm(c->relay->timers, &c->timer);
	TAILQ_REMOVE(&c->relay->cancels, c, link);
	free(c);
}

void
cancel_free_all(struct relay *r)
{
	struct cancel *c;

	while ((c = TAILQ_FIRST(&r->cancels)) != NULL)
		free_cancel(c);
}

static void
on_timeout(struct timer *t, int64_t now_us)
{
	(void)now_us;
	free_cancel((struct cancel *)(void *)((char *)t - offsetof(struct cancel, timer)));
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct cancel *c = arg;
	uint8_t buf[256];

	(void)what;
	if (socket_error(fd) != 0 || (!c->sent && socket_is_own_peer(fd))) {
		free_cancel(c);
		return;
	}
	if (!c->sent) {
		if (send(fd, c->bytes, c->len, MSG_NOSIGNAL) != (ssize_t)c->len)
			free_cancel(c);
		else
			c->sent = true;
		return;
	}
	if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == 0)
		free_cancel(c);
}

/* The address that the flow's backend leg is connected to. */
static socklen_t
backend_sockaddr(const struct flow *f, struct sockaddr_storage *ss)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	switch (f->backend.family) {
	case AF_INET:
		v4->sin_family = AF_INET;
		v4->sin_port = htons(f->backend.port);
		memcpy(&v4->sin_addr, f->backend.ip, sizeof(v4->sin_addr));
		return sizeof(*v4);
	case AF_INET6:
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(f->backend.port);
		memcpy(&v6->sin6_addr, f->backend.ip, sizeof(v6->sin6_addr));
		return sizeof(*v6);
	default:
		*ss = f->route->backend[f->backend_index].addr;
		return f->route->backend[f->backend_index].addr_len;
	}
}

void
cancel_send(struct relay *r, const struct flow *f, const uint8_t *bytes, size_t len)
{
	struct cancel *c = calloc(1, sizeof(*c));
	struct sockaddr_storage ss;
	const socklen_t ss_len = backend_sockaddr(f, &ss);
	int fd = c != NULL ? socket_connect((struct sockaddr *)&ss, ss_len) : -1;

	if (fd < 0) {
		log_say(LEVEL_WARN, "route %s: cannot tell the backend to stop working for a client that is gone", f->route->name);
		free(c);
		return;
	}
	c->relay = r;
	c->len = len;
	memcpy(c->bytes, bytes, len);
	c->timer.fire = on_timeout;
	TAILQ_INSERT_TAIL(&r->cancels, c, link);
	event_assign(&c->ev, r->base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, on_event, c);
	if (event_add(&c->ev, NULL) != 0 || timer_arm(r->timers, &c->timer, clock_us() + CANCEL_US) != 0)
		free_cancel(c);
}
