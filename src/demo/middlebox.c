/*
 * middlebox.c - a middlebox that drops idle connections, inside the process.
 *
 * Relays payload in both directions. A flow that was idle for too long is
 * dropped silently, as firewalls, NAT and load balancers do: what comes from
 * then on is discarded, and neither FIN nor reset is relayed. Only payload
 * counts: TCP keepalive ends at the sockets of this middlebox.
 */
#include <stdlib.h>

#include "demo/demo.h"
#include "demo/loopback.h"
#include "stent/clock.h"

struct middlebox {
	struct event_base *base;
	struct evconnlistener *listener;
	uint16_t to_port;
	struct bufferevent *end[2];	/* both ends of the one flow; NULL: none yet */
	int64_t last_us;		/* the last payload; 0: none yet */
	bool dropped;
};

bool
middlebox_has_dropped(const struct middlebox *m)
{
	return m->dropped || (m->last_us != 0 && middlebox_idle_ms(m) > IDLE_LIMIT_MS);
}

int64_t
middlebox_idle_ms(const struct middlebox *m)
{
	return m->last_us == 0 ? -1 : (clock_us() - m->last_us) / US_PER_MS;
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct middlebox *m = arg;
	struct bufferevent *other = bev == m->end[0] ? m->end[1] : m->end[0];
	struct evbuffer *in = bufferevent_get_input(bev);

	m->dropped = middlebox_has_dropped(m);
	if (m->dropped) {
		evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	m->last_us = clock_us();
	bufferevent_write_buffer(other, in);
}

/* A FIN or an error on one end: the other end gets a FIN, unless the flow was dropped. */
static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	struct middlebox *m = arg;
	struct bufferevent *other = bev == m->end[0] ? m->end[1] : m->end[0];

	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
		return;
	bufferevent_disable(bev, EV_READ);
	if (!middlebox_has_dropped(m))
		shutdown(bufferevent_getfd(other), SHUT_WR);
}

static void
on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct middlebox *m = arg;

	(void)l;
	(void)sa;
	(void)len;
	m->end[1] = m->end[0] == NULL ? loopback_connect(m->base, m->to_port) : NULL;
	if (m->end[1] == NULL) {
		evutil_closesocket(fd);
		return;
	}
	m->end[0] = bufferevent_socket_new(m->base, fd, BEV_OPT_CLOSE_ON_FREE);
	for (int i = 0; i < 2; i++) {
		bufferevent_setcb(m->end[i], on_read, NULL, on_event, m);
		bufferevent_enable(m->end[i], EV_READ | EV_WRITE);
	}
}

struct middlebox *
middlebox_new(struct event_base *base, uint16_t to_port, uint16_t *port)
{
	struct middlebox *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->base = base;
	m->to_port = to_port;
	m->listener = loopback_listen(base, on_accept, m, port);
	if (m->listener == NULL) {
		free(m);
		return NULL;
	}
	return m;
}

void
middlebox_free(struct middlebox *m)
{
	if (m == NULL)
		return;
	for (int i = 0; i < 2; i++)
		if (m->end[i] != NULL)
			bufferevent_free(m->end[i]);
	evconnlistener_free(m->listener);
	free(m);
}
