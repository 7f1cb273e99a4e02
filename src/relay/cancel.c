/*
 * cancel.c - a cancel request for a client that is dead, on a connection of its
 * own. Sends it, waits for the backend to close, and gives up after CANCEL_US.
 * It goes over TLS if the flow's backend leg did, begun in the same way: the
 * request is a secret that ends somebody's work. A backend that expects a PROXY
 * header gets one, with the flow's addresses.
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
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/shared.h"
#include "stent/log.h"
#include "stent/negotiation.h"
#include "stent/promise.h"
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
	const struct negotiation *negotiation;	/* how TLS begins, while it has not; NULL: it has, or there is none */
	enum negotiation_want want;		/* what that waits for */
	const char *name;			/* that the certificate must have; NULL: any */
	char address[ADDRESS_TEXT_MAX];		/* the same, of a backend without a name */
	uint8_t *header;			/* the PROXY header, while it is not sent; NULL: there is none */
	size_t header_len;
	size_t len;
	uint8_t bytes[CODEC_HEARTBEAT_MAX];
	_Alignas(8) uint8_t state[];		/* the negotiation's */
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
		assert((r->cancels.n_running == 0) == TAILQ_EMPTY(&r->cancels.running));
	} else {
		assert(r->cancels.n_waiting > 0);
		r->cancels.n_waiting--;
		TAILQ_REMOVE(&r->cancels.waiting, c, link);
		assert((r->cancels.n_waiting == 0) == TAILQ_EMPTY(&r->cancels.waiting));
	}
	assert(c->timer.slot == 0);		/* else it would fire into free memory */
	config_release(c->route->config);
	free(c->header);
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

	assert(!c->runs && !c->sent && r->cancels.n_running < RELAY_CANCELS && r->cancels.n_waiting > 0);
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
	assert(r->cancels.n_running == RELAY_CANCELS || r->cancels.n_waiting == 0);	/* none waits for nothing */
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

/* --- TLS --- */

/* One step of the negotiation: 0 or -errno. */
static int
take_step(struct cancel *c, enum side from, const uint8_t *buf, size_t len, bool fin)
{
	struct relay *r = c->relay;
	struct negotiation_step step = { .out = { &r->out, &r->out_backend } };
	const struct codec_out *out = &r->out_backend;
	uint8_t used[NEGOTIATION_REFUSAL_MAX];

	codec_out_clear(&r->out);
	codec_out_clear(&r->out_backend);
	c->negotiation->step(c->state, from, buf, len, fin, &step);
	if (promise_is_broken()) {
		const struct promise broken = promise_take();

		log_say(LEVEL_ERROR, "internal error: %s does not hold (%s:%d); a cancel request is given up", broken.condition, broken.file,
		    broken.line);
		return -EPROTO;
	}
	assert(out->n_spans <= CODEC_SPANS && out->scratch_used <= CODEC_SCRATCH);
	if (out->n_spans > 0 && transport_write(&c->transport, out->spans, out->n_spans) != (ssize_t)codec_emitted(out))
		return -EPROTO;
	if (step.consumed > len || step.consumed > sizeof(used) ||
	    (step.consumed > 0 && transport_read(&c->transport, used, step.consumed) != (ssize_t)step.consumed))
		return -EPROTO;
	c->want = step.want;
	return 0;
}

static int
read_reply(struct cancel *c)
{
	uint8_t buf[NEGOTIATION_REFUSAL_MAX];
	const ssize_t n = transport_peek(&c->transport, buf, sizeof(buf));

	return n < 0 ? (int)n : take_step(c, BACKEND, buf, (size_t)n, n == 0);
}

static int
shake_hands(struct cancel *c)
{
	int r = 0;

	if (!transport_is_tls(&c->transport))
		r = transport_start_tls(&c->transport, c->route->leg[BACKEND].tls_context, c->name);
	if (r == 0)
		r = transport_handshake(&c->transport);
	return r == 0 ? take_step(c, BACKEND, NULL, 0, false) : r;
}

/* 0: the request can be sent; -EAGAIN: at a later event; or -errno. */
static int
negotiate(struct cancel *c)
{
	int r = 0;

	while (r == 0 && c->negotiation != NULL)
		switch (c->want) {
		case NEGOTIATION_DIAL:		/* it is connected */
			r = take_step(c, BACKEND, NULL, 0, false);
			break;
		case NEGOTIATION_READ:
			r = read_reply(c);
			break;
		case NEGOTIATION_TLS:
			r = shake_hands(c);
			break;
		case NEGOTIATION_DONE:
			c->negotiation = NULL;
			break;
		case NEGOTIATION_FAILED:
			r = -EPROTO;
			break;
		}
	return r;
}

/* As TLS was begun on the flow's backend leg. */
static void
prepare_tls(struct cancel *c, const struct flow *f, const struct negotiation *n)
{
	const char *name = preface_backend_name(f, c->address);
	const struct negotiation_settings settings = {
		.client = CLIENT_ABSENT,
		.backend = true,
		.backend_direct = leg_settings(f, BACKEND)->tls.direct,
	};

	assert(!c->runs && n->state_size <= NEGOTIATION_STATE_MAX);
	c->negotiation = n;
	c->name = name;
	n->begin(c->state, &settings);
	(void)take_step(c, CLIENT, NULL, 0, false);	/* nothing is connected yet */
}

/* --- */

/* The first bytes of a connection: its socket takes them all. 0 or -errno. */
static int
send_header(struct cancel *c)
{
	assert(!c->sent && c->header_len > 0 && c->header_len <= PROXY_HEADER_OUT_MAX);
	if (transport_write(&c->transport, &(struct iovec){ c->header, c->header_len }, 1) != (ssize_t)c->header_len)
		return -EPIPE;
	free(c->header);
	c->header = NULL;
	return 0;
}

/* 0 or -ENOMEM. */
static int
prepare_header(struct cancel *c, const struct flow *f)
{
	uint8_t buf[PROXY_HEADER_OUT_MAX];

	if (f->route->send_proxy == 0)
		return 0;
	c->header_len = origin_write_header(f, NULL, buf);
	c->header = malloc(c->header_len);
	if (c->header == NULL)
		return -ENOMEM;
	memcpy(c->header, buf, c->header_len);
	return 0;
}

/* 0: sent, or -EAGAIN, or -errno. */
static int
send_request(struct cancel *c)
{
	int r = c->header != NULL ? send_header(c) : 0;

	if (r == 0)
		r = negotiate(c);
	if (r != 0)
		return r;
	assert(c->header == NULL && c->negotiation == NULL && c->len > 0);	/* what comes before it is done */
	if (transport_write(&c->transport, &(struct iovec){ c->bytes, c->len }, 1) != (ssize_t)c->len)
		return -EPIPE;
	c->sent = true;
	return 0;
}

/* Waits for the backend to close. True: it has. */
static bool
has_closed(struct cancel *c)
{
	uint8_t buf[256];
	ssize_t n;

	assert(c->runs && c->sent);
	if (transport_unsent(&c->transport) > 0 && transport_flush(&c->transport) == -EAGAIN)
		return false;
	do
		n = transport_read(&c->transport, buf, sizeof(buf));
	while (n > 0);
	return n != -EAGAIN;
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct cancel *c = arg;
	int r = transport_take_error(&c->transport);

	(void)fd;
	(void)what;
	assert(c->runs);			/* one that waits has no socket */
	if (r == 0 && !c->sent) {
		r = send_request(c);
		if (r == -EAGAIN)
			return;
		if (r != 0 && transport_is_tls(&c->transport))
			warn_dropped(c->relay, c->route, transport_tls_cause(&c->transport)[0] != '\0' ? transport_tls_cause(&c->transport) : strerror(-r));
	}
	if (r != 0 || has_closed(c))
		finish(c);
}

void
cancel_send(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len)
{
	const struct negotiation *n = leg_is_tls(leg_of(f, BACKEND)) ? preface_negotiation(f->route) : NULL;
	struct cancel *c;

	assert(len > 0 && len <= sizeof(c->bytes));
	assert(f->relay == r && r->cancels.n_waiting <= WAITING_MAX);
	if (r->cancels.n_waiting >= WAITING_MAX) {
		warn_dropped(r, f->route, "too many requests are waiting");
		return;
	}
	c = calloc(1, sizeof(*c) + (n != NULL ? n->state_size : 0));
	if (c == NULL || prepare_header(c, f) != 0) {
		warn_dropped(r, f->route, strerror(ENOMEM));
		free(c);
		return;
	}
	c->to_len = sizeof(c->to);
	/* The same address as the flow's backend leg. If that was reset, its work has ended already. */
	if (getpeername(leg_of(f, BACKEND)->transport.fd, (struct sockaddr *)&c->to, &c->to_len) != 0) {
		free(c->header);
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
	if (n != NULL)
		prepare_tls(c, f, n);
	TAILQ_INSERT_TAIL(&r->cancels.waiting, c, link);
	r->cancels.n_waiting++;
	if (timer_arm(r->timers, &c->timer, clock_us() + CANCEL_US) != 0) {
		warn_dropped(r, f->route, strerror(ENOMEM));
		free_cancel(c);
		return;
	}
	start_waiting(r);
}
