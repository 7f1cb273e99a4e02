/* client.c - the client of the demonstration: requests the time, and replies to pings as every WebSocket client does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "demo/demo.h"
#include "demo/loopback.h"
#include "stent/clock.h"

struct demo_client {
	struct bufferevent *bev;
	bool upgraded;
	int requests, responses, pings;
	int64_t waits_us;		/* since when it waits for a response; 0: it does not */
	char last[32];
};

static void
take(struct demo_client *a, const struct frame *f)
{
	switch (f->opcode) {
	case FRAME_TEXT:
		a->responses++;
		a->waits_us = 0;
		snprintf(a->last, sizeof(a->last), "%.31s", (const char *)f->payload);
		break;
	case FRAME_PING:
		a->pings++;
		frame_put(bufferevent_get_output(a->bev), FRAME_PONG, f->payload, f->len, true);
		break;
	}
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct demo_client *a = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	struct frame f;

	if (!a->upgraded && !(a->upgraded = head_take(in)))
		return;
	while (frame_take(in, &f) > 0)
		take(a, &f);
}

struct demo_client *
demo_client_new(struct event_base *base, uint16_t port)
{
	struct demo_client *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->bev = loopback_connect(base, port);
	if (a->bev == NULL) {
		free(a);
		return NULL;
	}
	bufferevent_setcb(a->bev, on_read, NULL, NULL, a);
	bufferevent_enable(a->bev, EV_READ | EV_WRITE);
	put_upgrade_request(bufferevent_get_output(a->bev));
	return a;
}

void
demo_client_leave(struct demo_client *a)
{
	if (a->bev != NULL)
		bufferevent_free(a->bev);
	a->bev = NULL;
}

void
demo_client_free(struct demo_client *a)
{
	if (a == NULL)
		return;
	demo_client_leave(a);
	free(a);
}

void
demo_client_request(struct demo_client *a)
{
	static const char request[] = "what time is it?";

	frame_put(bufferevent_get_output(a->bev), FRAME_TEXT, request, sizeof(request) - 1, true);
	a->requests++;
	if (a->waits_us == 0)
		a->waits_us = clock_us();
}

int
demo_client_requests(const struct demo_client *a)
{
	return a->requests;
}

int
demo_client_responses(const struct demo_client *a)
{
	return a->responses;
}

int
demo_client_pings(const struct demo_client *a)
{
	return a->pings;
}

int64_t
demo_client_waiting_ms(const struct demo_client *a)
{
	return a->waits_us == 0 ? -1 : (clock_us() - a->waits_us) / US_PER_MS;
}

const char *
demo_client_last_response(const struct demo_client *a)
{
	return a->last;
}
