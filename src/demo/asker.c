/* asker.c - the client of the demonstration: requests the time, and replies to pings as every WebSocket client does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "demo/demo.h"
#include "demo/loopback.h"
#include "stent/clock.h"

struct asker {
	struct bufferevent *bev;
	bool upgraded;
	int requests, responses, pings;
	int64_t waits_us;		/* since when it waits for a response; 0: for none */
	char last[32];
};

static void
take(struct asker *a, const struct frame *f)
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
	struct asker *a = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	struct frame f;

	if (!a->upgraded && !(a->upgraded = head_take(in)))
		return;
	while (frame_take(in, &f) > 0)
		take(a, &f);
}

struct asker *
asker_new(struct event_base *base, uint16_t port)
{
	struct asker *a = calloc(1, sizeof(*a));

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
asker_leave(struct asker *a)
{
	if (a->bev != NULL)
		bufferevent_free(a->bev);
	a->bev = NULL;
}

void
asker_free(struct asker *a)
{
	if (a == NULL)
		return;
	asker_leave(a);
	free(a);
}

void
asker_request(struct asker *a)
{
	static const char request[] = "what time is it?";

	frame_put(bufferevent_get_output(a->bev), FRAME_TEXT, request, sizeof(request) - 1, true);
	a->requests++;
	if (a->waits_us == 0)
		a->waits_us = clock_us();
}

int
asker_requests(const struct asker *a)
{
	return a->requests;
}

int
asker_responses(const struct asker *a)
{
	return a->responses;
}

int
asker_pings(const struct asker *a)
{
	return a->pings;
}

int64_t
asker_waiting_ms(const struct asker *a)
{
	return a->waits_us == 0 ? -1 : (clock_us() - a->waits_us) / US_PER_MS;
}

const char *
asker_last_response(const struct asker *a)
{
	return a->last;
}
