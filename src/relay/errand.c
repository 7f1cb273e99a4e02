/*
 * errand.c - a few bytes to a backend on a connection of their own: a cancel
 * request for a client that died. Sends them, waits for the backend to
 * close, and gives up after five seconds.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/own_ends.h"
#include "stent/socket.h"

#define ERRAND_US (5 * US_PER_S)

struct errand {
	TAILQ_ENTRY(errand) link;
	struct relay *relay;
	struct event ev;
	struct timer timer;
	bool sent;
	size_t len;
	uint8_t bytes[CODEC_BEAT_MAX];
};

static void
free_errand(struct errand *e)
{
	const int fd = event_get_fd(&e->ev);

	event_del(&e->ev);
	close(fd);
	timer_disarm(e->relay->timers, &e->timer);
	TAILQ_REMOVE(&e->relay->errands, e, link);
	free(e);
}

void
errand_free_all(struct relay *r)
{
	struct errand *e;

	while ((e = TAILQ_FIRST(&r->errands)) != NULL)
		free_errand(e);
}

static void
on_timeout(struct timer *t, int64_t now_us)
{
	(void)now_us;
	free_errand((struct errand *)(void *)((char *)t - offsetof(struct errand, timer)));
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct errand *e = arg;
	uint8_t buf[256];

	(void)what;
	if (socket_error(fd) != 0) {
		free_errand(e);
		return;
	}
	if (!e->sent) {
		if (send(fd, e->bytes, e->len, MSG_NOSIGNAL) != (ssize_t)e->len)
			free_errand(e);
		else
			e->sent = true;
		return;
	}
	if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == 0)
		free_errand(e);
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
errand_run(struct relay *r, const struct flow *f, const uint8_t *bytes, size_t len)
{
	struct errand *e = calloc(1, sizeof(*e));
	struct sockaddr_storage ss;
	const socklen_t ss_len = backend_sockaddr(f, &ss);
	struct address local;
	int fd = e != NULL ? socket_connect((struct sockaddr *)&ss, ss_len, false, &local) : -1;

	if (fd < 0) {
		log_say(LEVEL_WARN, "route %s: cannot tell the backend to stop working for a client that is gone", f->route->name);
		free(e);
		return;
	}
	own_ends_add(&local, &f->backend, (struct own_end){ 0, OWN_ENDS_HOPS_MAX });
	e->relay = r;
	e->len = len;
	memcpy(e->bytes, bytes, len);
	e->timer.fire = on_timeout;
	TAILQ_INSERT_TAIL(&r->errands, e, link);
	event_assign(&e->ev, r->base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, on_event, e);
	if (event_add(&e->ev, NULL) != 0 || timer_arm(r->timers, &e->timer, clock_us() + ERRAND_US) != 0)
		free_errand(e);
}
