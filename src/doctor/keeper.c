/*
 * keeper.c - the other end of a measurement: a server that accepts, reads and keeps every client, and says nothing.
 *
 * Most servers close clients that do not log in, and that is their rule, not the path's.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor/measurement.h"
#include "stent/socket.h"

struct client {
	struct keeper *keeper;
	struct client *next, *previous;
	struct event *readable;
	int fd;
};

struct keeper {
	struct event_base *base;
	struct client *clients;
	int listener;
	size_t open;
};

static void
drop(struct client *c)
{
	struct keeper *k = c->keeper;

	if (c->previous != NULL)
		c->previous->next = c->next;
	else
		k->clients = c->next;
	if (c->next != NULL)
		c->next->previous = c->previous;
	if (c->readable != NULL)
		event_free(c->readable);
	close(c->fd);
	free(c);
	k->open--;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	uint8_t buf[4096];
	const ssize_t n = recv(fd, buf, sizeof(buf), 0);

	(void)what;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		drop(arg);
}

static void
on_client(evutil_socket_t fd, short what, void *arg)
{
	struct keeper *k = arg;
	struct address peer;
	struct client *c;
	const int client = socket_accept(fd, &peer);

	(void)what;
	if (client < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		close(client);
		return;
	}
	*c = (struct client){ .keeper = k, .next = k->clients, .fd = client };
	if (c->next != NULL)
		c->next->previous = c;
	k->clients = c;
	k->open++;
	c->readable = event_new(k->base, client, EV_READ | EV_PERSIST, on_readable, c);
	if (c->readable == NULL || event_add(c->readable, NULL) != 0)
		drop(c);
}

static void
on_signal(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	event_base_loopbreak(arg);
}

static enum doctor_result
keep(struct keeper *k)
{
	struct event *stop[2] = { evsignal_new(k->base, SIGINT, on_signal, k->base), evsignal_new(k->base, SIGTERM, on_signal, k->base) };
	struct event *accept = event_new(k->base, k->listener, EV_READ | EV_PERSIST, on_client, k);
	enum doctor_result result = DOCTOR_FAILED;

	if (stop[0] != NULL && stop[1] != NULL && accept != NULL && event_add(stop[0], NULL) == 0 && event_add(stop[1], NULL) == 0 &&
	    event_add(accept, NULL) == 0) {
		event_base_dispatch(k->base);
		result = DOCTOR_DONE;
	} else {
		doctor_error("out of memory");
	}
	while (k->clients != NULL)
		drop(k->clients);
	for (int i = 0; i < 2; i++)
		if (stop[i] != NULL)
			event_free(stop[i]);
	if (accept != NULL)
		event_free(accept);
	return result;
}

enum doctor_result
doctor_listen(const char *text)
{
	const struct keepalive none = { 0 };	/* a probe from here would not leave the path quiet */
	struct keeper k = { .listener = -1 };
	enum doctor_result result = DOCTOR_WRONG;
	struct endpoint ep;
	const char *why;

	if (endpoint_parse(&ep, text, ENDPOINT_LISTEN, &why) != 0) {
		doctor_error("--listen=%s: %s", text, why);
		return DOCTOR_WRONG;
	}
	signal(SIGPIPE, SIG_IGN);
	if (ep.kind != ENDPOINT_ADDRESS && ep.kind != ENDPOINT_ANY) {
		doctor_error("--listen=%s: write an address and a port, or :PORT", text);
	} else if ((k.listener = socket_listen(&ep, &none, NULL, &why)) < 0) {
		doctor_error("cannot listen on %s: %s", text, why);
		result = DOCTOR_FAILED;
	} else if ((k.base = event_base_new()) == NULL) {
		doctor_error("out of memory");
		result = DOCTOR_FAILED;
	} else {
		printf("stent doctor: keeps every client on %s until Ctrl-C; on the other host: stent doctor HOST:%u\n", text, ep.port);
		fflush(stdout);
		result = keep(&k);
	}
	if (k.base != NULL)
		event_base_free(k.base);
	if (k.listener >= 0)
		close(k.listener);
	endpoint_clear(&ep);
	libevent_global_shutdown();
	return result;
}
