/* clock.c - the backend of the demonstration: a WebSocket server that responds with the time. */
#include <arpa/inet.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "demo/demo.h"
#include "demo/loopback.h"

struct visitor {
	LIST_ENTRY(visitor) link;
	struct bufferevent *bev;
	bool upgraded;
};

struct clock_server {
	struct evconnlistener *listener;
	LIST_HEAD(, visitor) visitors;
};

static void
free_visitor(struct visitor *v)
{
	LIST_REMOVE(v, link);
	bufferevent_free(v->bev);
	free(v);
}

static void
say_time(struct visitor *v)
{
	const time_t now = time(NULL);
	struct tm tm;
	char text[16];
	size_t n;

	localtime_r(&now, &tm);
	n = strftime(text, sizeof(text), "%H:%M:%S", &tm);
	frame_put(bufferevent_get_output(v->bev), FRAME_TEXT, text, n, false);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct visitor *v = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	struct frame f;

	if (!v->upgraded) {
		if (!head_take(in))
			return;
		v->upgraded = true;
		put_upgrade_response(bufferevent_get_output(bev));
	}
	while (frame_take(in, &f) > 0) {
		if (f.opcode == FRAME_TEXT)
			say_time(v);
		else if (f.opcode == FRAME_PING)
			frame_put(bufferevent_get_output(bev), FRAME_PONG, f.payload, f.len, false);
	}
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		free_visitor(arg);
}

static void
on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct clock_server *c = arg;
	struct visitor *v = calloc(1, sizeof(*v));

	(void)sa;
	(void)len;
	if (v == NULL) {
		evutil_closesocket(fd);
		return;
	}
	v->bev = bufferevent_socket_new(evconnlistener_get_base(l), fd, BEV_OPT_CLOSE_ON_FREE);
	LIST_INSERT_HEAD(&c->visitors, v, link);
	bufferevent_setcb(v->bev, on_read, NULL, on_event, v);
	bufferevent_enable(v->bev, EV_READ | EV_WRITE);
}

struct clock_server *
clock_server_new(struct event_base *base, uint16_t *port)
{
	struct clock_server *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	LIST_INIT(&c->visitors);
	c->listener = loopback_listen(base, on_accept, c, port);
	if (c->listener == NULL) {
		free(c);
		return NULL;
	}
	return c;
}

void
clock_server_free(struct clock_server *c)
{
	struct visitor *v;

	if (c == NULL)
		return;
	while ((v = LIST_FIRST(&c->visitors)) != NULL)
		free_visitor(v);
	evconnlistener_free(c->listener);
	free(c);
}
