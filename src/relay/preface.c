/*
 * preface.c - what comes before the relay: TLS, on one leg or both, and what a
 * protocol says to begin it.
 *
 * The protocol's negotiation (stent/negotiation.h) decides what comes next; this
 * file does it: reads, sends, has the backend dialled, runs handshakes. It only
 * peeks at what came, and reads exactly what the negotiation consumed: the bytes
 * behind it belong to TLS, or to the relay.
 *
 * Nothing goes on while a peer has not taken what it was sent, so what is kept
 * is bounded. Each side has handshake_timeout for all that is waited for from it.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/dial.h"
#include "relay/ending.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/shared.h"
#include "stent/negotiation.h"

#define CAUSE_MAX 384
#define HANDSHAKE_ROUNDS 100	/* recv() calls per event */

struct preface {
	const struct negotiation *negotiation;
	enum negotiation_want want;	/* what is waited for ... */
	enum side side;			/* ... and from whom */
	bool client_spoke;
	bool fin[2];
	size_t seen[2];			/* bytes that the last step of that side left unread */
	int64_t left_us[2];		/* of handshake_timeout */
	int64_t since_us;		/* when the present wait began; 0: the backend is being dialled */
	enum side waits_on;
	bool told_client;		/* the last step sent the client something */
	char cause[CAUSE_MAX];		/* why it failed, in words; "": it did not */
	_Alignas(8) uint8_t state[];
};

const struct negotiation *
preface_negotiation(const struct route *route)
{
	return route->codec != NULL && route->codec->negotiation != NULL ? route->codec->negotiation : &negotiation_direct;
}

bool
preface_is_needed(const struct route *route)
{
	return route->leg[CLIENT].tls_context != NULL || route->leg[BACKEND].tls_context != NULL;
}

struct preface *
preface_new(const struct flow *f)
{
	const struct route *route = f->route;
	const struct negotiation *n = preface_negotiation(route);
	const struct tls_settings *client = &route->leg[CLIENT].tls, *backend = &route->leg[BACKEND].tls;
	const struct negotiation_settings settings = {
		.client = client->mode == TLS_REQUIRE ? CLIENT_MUST_TLS : client->mode == TLS_ACCEPT ? CLIENT_MAY_TLS : CLIENT_PLAIN,
		.backend = backend->mode != TLS_OFF,
		.backend_direct = backend->direct,
	};
	struct preface *p = calloc(1, sizeof(*p) + n->state_size);

	assert(n->state_size <= NEGOTIATION_STATE_MAX);
	if (p == NULL)
		return NULL;
	p->negotiation = n;
	p->left_us[CLIENT] = p->left_us[BACKEND] = route->handshake_timeout_ms * US_PER_MS;
	n->begin(p->state, &settings);
	return p;
}

void
preface_free(struct preface *p)
{
	free(p);
}

bool
preface_client_spoke(const struct preface *p)
{
	return p->client_spoke;
}

const char *
preface_cause(const struct preface *p)
{
	return p->cause;
}

/* --- failures --- */

static struct verdict
failed(struct flow *f, struct preface *p, enum side s, enum tls_cause kind, const char *why)
{
	snprintf(p->cause, sizeof(p->cause), "%s", why);
	counter_add(&counters_of(f)->tls_failures[s][kind], 1);
	return VERDICT_CONNECT_FAILED(reason_on_side(REASON_CLIENT_TLS, s));
}

/* TLS, or the socket, failed on side s. */
static struct verdict
leg_failed(struct flow *f, struct preface *p, enum side s, int err)
{
	const struct transport *t = &leg_of(f, s)->transport;

	if (transport_tls_cause_kind(t) != TLS_CAUSE_NONE)
		return failed(f, p, s, transport_tls_cause_kind(t), transport_tls_cause(t));
	return VERDICT_CONNECT_FAILED(reason_from_errno(s, err, t, false));
}

static struct verdict
timed_out(struct flow *f, struct preface *p, enum side s)
{
	const long long ms = f->route->handshake_timeout_ms;
	char why[CAUSE_MAX];

	snprintf(why, sizeof(why), ms % 1000 == 0 ? "no complete handshake within %lld s" : "no complete handshake within %lld ms",
	    ms % 1000 == 0 ? ms / 1000 : ms);
	return failed(f, p, s, TLS_CAUSE_TIMEOUT, why);
}

/* --- time --- */

/* Ends the present wait in the accounts of its side. */
static void
stop_clock(struct preface *p, int64_t now_us)
{
	if (p->since_us != 0)
		p->left_us[p->waits_on] -= now_us - p->since_us;
	p->since_us = 0;
}

static void
start_clock(struct flow *f, struct preface *p, enum side s)
{
	const int64_t now_us = clock_us();

	stop_clock(p, now_us);
	p->since_us = now_us;
	p->waits_on = s;
	flow_wake_at(f, now_us + (p->left_us[s] > 0 ? p->left_us[s] : US_PER_MS));
}

static struct verdict
wait_for(struct flow *f, struct preface *p, enum side s)
{
	start_clock(f, p, s);
	return VERDICT(NOTHING);
}

struct verdict
preface_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct preface *p = f->preface;
	const enum side s = p->waits_on;

	stop_clock(p, now_us);
	p->since_us = now_us;
	*again_us = now_us + p->left_us[s];
	return p->left_us[s] <= 0 ? timed_out(f, p, s) : VERDICT(GO_ON);
}

/* --- one step of the negotiation --- */

/* Sends to both sides what a step said. */
static struct verdict
send_out(struct flow *f, struct preface *p, const struct negotiation_step *step)
{
	struct verdict v = VERDICT(GO_ON);

	p->told_client = step->out[CLIENT]->n_spans > 0;
	for (enum side s = CLIENT; s <= BACKEND && v.kind == GO_ON; s++)
		if (step->out[s]->n_spans > 0) {
			assert(transport_is_open(&leg_of(f, s)->transport));
			v = pump_write(f, s, step->out[s]->spans, step->out[s]->n_spans, clock_us());
		}
	return v;
}

/* The first n bytes of side s, which were peeked at, are gone. */
static struct verdict
consume(struct flow *f, struct preface *p, enum side s, size_t n)
{
	struct leg *l = leg_of(f, s);

	assert(n <= p->seen[s]);
	p->seen[s] -= n;
	while (n > 0) {
		const ssize_t r = transport_read(&l->transport, f->relay->buf, n);

		if (r <= 0)
			return leg_failed(f, p, s, r == 0 ? ECONNRESET : (int)-r);
		n -= (size_t)r;
	}
	return VERDICT(GO_ON);
}

static enum negotiation_reach
reach_of(const struct address *a)
{
	static const uint8_t v6[16] = { [15] = 1 };

	if (a->family == AF_UNIX)
		return REACH_UNIX;
	if (a->family == AF_INET ? a->ip[0] == 127 : memcmp(a->ip, v6, sizeof(v6)) == 0)
		return REACH_LOOPBACK;
	return REACH_NETWORK;
}

/* GO_ON: p->want and p->side say what comes next. */
static struct verdict
take_step(struct flow *f, struct preface *p, enum side from, const uint8_t *buf, size_t len)
{
	struct relay *r = f->relay;
	struct negotiation_step step = {
		.out = { &r->out, &r->out_backend },
		.reach = { reach_of(&f->client), reach_of(&f->backend) },
	};
	struct verdict v;

	if (len == 0)
		p->seen[CLIENT] = p->seen[BACKEND] = 0;		/* it may want again what an earlier step has left */
	codec_out_clear(&r->out);
	codec_out_clear(&r->out_backend);
	p->negotiation->step(p->state, from, buf, len, p->fin[from], &step);
	assert(step.consumed <= len);
	v = send_out(f, p, &step);
	if (v.kind == GO_ON && step.consumed > 0)
		v = consume(f, p, from, step.consumed);
	if (v.kind == LEG_FAILED)
		v = leg_failed(f, p, v.side, v.err);
	if (v.kind != GO_ON)
		return v;
	p->want = step.want;
	p->side = step.side;
	if (step.want == NEGOTIATION_FAILED)
		return failed(f, p, step.side, TLS_CAUSE_NO_TLS, step.why != NULL ? step.why : "");
	return VERDICT(GO_ON);
}

/* --- what is waited for --- */

/* A client that closes without a byte wants nothing: most likely it is a health check. */
static bool
client_must_speak(const struct flow *f)
{
	return f->route->codec != NULL && f->route->codec->client_speaks;
}

/* One edge may stand for bytes and a reset behind them. */
static bool
is_reset(const struct leg *l, int *err)
{
	*err = (transport_look(&l->transport) & SOCKET_DEAD) ? transport_take_error(&l->transport) : 0;
	return *err != 0;
}

static struct verdict
read_more(struct flow *f, struct preface *p)
{
	const enum side s = p->side;
	const bool had_fin = p->fin[s];
	struct leg *l = leg_of(f, s);
	const ssize_t n = transport_peek(&l->transport, f->relay->buf, NEGOTIATION_INPUT_MAX);
	const size_t len = n > 0 ? (size_t)n : 0;
	int err;

	if (n < 0 && n != -EAGAIN)
		return leg_failed(f, p, s, (int)-n);
	p->fin[s] = n == 0 || l->hup;
	p->client_spoke |= s == CLIENT && len > 0;
	if (s == CLIENT && !p->client_spoke && p->fin[CLIENT] && client_must_speak(f))
		return VERDICT(CLIENT_ABORT);
	if (len <= p->seen[s] && p->fin[s] == had_fin && is_reset(l, &err))
		return leg_failed(f, p, s, err);
	if (len <= p->seen[s] && p->fin[s] == had_fin)
		return len >= NEGOTIATION_INPUT_MAX ? failed(f, p, s, TLS_CAUSE_PROTOCOL, "a message before TLS is too long") : wait_for(f, p, s);
	p->seen[s] = len;
	return take_step(f, p, s, f->relay->buf, len);
}

const char *
preface_backend_name(const struct flow *f, char text[ADDRESS_TEXT_MAX])
{
	const struct endpoint *to = flow_backend(f);
	const char *name = leg_settings(f, BACKEND)->tls.name;

	if (name != NULL)
		return name;
	if (to != NULL && to->kind == ENDPOINT_NAME)
		return to->host;
	return f->backend.family != AF_UNIX ? inet_ntop(f->backend.family, f->backend.ip, text, ADDRESS_TEXT_MAX) : NULL;
}

static struct verdict
start_tls(struct flow *f, struct preface *p, enum side s)
{
	struct leg *l = leg_of(f, s);
	char text[ADDRESS_TEXT_MAX];
	const int r = transport_start_tls(&l->transport, leg_settings(f, s)->tls_context, s == BACKEND ? preface_backend_name(f, text) : NULL);

	p->seen[s] = 0;
	return r == 0 ? VERDICT(GO_ON) : leg_failed(f, p, s, -r);
}

/* A client that has not begun its handshake: is it still there? NOTHING: it is to be waited for. */
static struct verdict
check_silent_client(struct flow *f, struct preface *p)
{
	const struct transport *t = &leg_of(f, CLIENT)->transport;
	const unsigned bits = transport_look(t);
	int err;

	p->client_spoke = transport_unread(t) > 0;
	if (p->client_spoke)
		return VERDICT(GO_ON);
	if ((bits & (SOCKET_FIN | SOCKET_DEAD)) == 0)
		return wait_for(f, p, CLIENT);
	err = transport_take_error(t);
	return err != 0 ? leg_failed(f, p, CLIENT, err) : VERDICT(CLIENT_ABORT);
}

/* As transport_handshake(), but nothing is left that no further edge tells of: a FIN or a reset behind the last bytes. */
static int
handshake(struct leg *l)
{
	struct transport *t = &l->transport;
	int r = transport_handshake(t);

	for (int i = 0; i < HANDSHAKE_ROUNDS && r == -EAGAIN && transport_unsent(t) == 0; i++) {
		if ((transport_look(t) & (SOCKET_FIN | SOCKET_DEAD)) == 0)
			return r;
		r = transport_handshake(t);
	}
	return r;
}

static struct verdict
shake_hands(struct flow *f, struct preface *p)
{
	const enum side s = p->side;
	struct leg *l = leg_of(f, s);
	struct verdict v = leg_is_tls(l) ? VERDICT(GO_ON) : start_tls(f, p, s);
	struct transport_tls facts;
	int r;

	if (v.kind == GO_ON && s == CLIENT && !p->client_spoke)
		v = check_silent_client(f, p);
	if (v.kind != GO_ON)
		return v;
	r = handshake(l);
	if (r == -EAGAIN)
		return wait_for(f, p, s);
	if (r != 0)
		return leg_failed(f, p, s, -r);
	transport_tls_facts(&l->transport, &facts);
	counter_add(&counters_of(f)->handshakes[s], 1);
	counter_add(&counters_of(f)->resumed[s], facts.resumed);
	return take_step(f, p, s, NULL, 0);
}

/* The side that has not taken all that it was sent; else that which is waited for. */
static enum side
slow_side(const struct flow *f, const struct preface *p)
{
	if (f->leg[CLIENT].backlog != NULL)
		return CLIENT;
	return f->leg[BACKEND].backlog != NULL ? BACKEND : p->side;
}

/* Goes on until something has to be waited for (NOTHING). */
static struct verdict
advance(struct flow *f, struct preface *p)
{
	struct verdict v = VERDICT(GO_ON);

	while (v.kind == GO_ON) {
		if (f->leg[CLIENT].backlog != NULL || f->leg[BACKEND].backlog != NULL)
			return wait_for(f, p, slow_side(f, p));
		switch (p->want) {
		case NEGOTIATION_READ:
			v = read_more(f, p);
			break;
		case NEGOTIATION_TLS:
			v = shake_hands(f, p);
			break;
		case NEGOTIATION_DIAL:
			stop_clock(p, clock_us());
			return VERDICT(DIAL);
		case NEGOTIATION_DONE:
			assert(transport_is_open(&leg_of(f, BACKEND)->transport));
			return VERDICT(CONNECTED);
		case NEGOTIATION_FAILED:
			assert(false);		/* take_step() has returned the verdict */
			break;
		}
	}
	return v;
}

/* --- what happens to it --- */

struct verdict
preface_start(struct flow *f)
{
	struct preface *p = f->preface;
	const struct verdict v = take_step(f, p, CLIENT, NULL, 0);

	return v.kind == GO_ON ? advance(f, p) : v;
}

struct verdict
preface_dialled(struct flow *f)
{
	struct preface *p = f->preface;
	struct verdict v = VERDICT(GO_ON);

	assert(p->want == NEGOTIATION_DIAL);
	if (leg_of(f, CLIENT)->backlog != NULL)		/* its edges were not looked at meanwhile */
		v = backlog_drain(f, CLIENT);
	if (v.kind == LEG_FAILED)
		return leg_failed(f, p, v.side, v.err);
	v = take_step(f, p, BACKEND, NULL, 0);
	return v.kind == GO_ON ? advance(f, p) : v;
}

/* Something happened on a side that is not waited for: has it died? */
static struct verdict
check_other(struct flow *f, struct preface *p, enum side s)
{
	const unsigned bits = transport_look(&leg_of(f, s)->transport);
	int err;

	if (s == CLIENT)
		return flow_check_client(f, bits);
	err = (bits & SOCKET_DEAD) ? transport_take_error(&leg_of(f, s)->transport) : 0;
	return err != 0 ? leg_failed(f, p, s, err) : VERDICT(GO_ON);
}

struct verdict
preface_event(struct flow *f, enum side s, short what)
{
	struct preface *p = f->preface;
	struct leg *l = leg_of(f, s);
	struct verdict v = VERDICT(GO_ON);

	if (l->backlog != NULL)
		v = backlog_drain(f, s);
	else if (s != p->side && (what & EV_READ))
		v = check_other(f, p, s);
	if (v.kind == LEG_FAILED)
		return leg_failed(f, p, v.side, v.err);
	return v.kind == GO_ON ? advance(f, p) : v;
}

/* --- its end --- */

bool
preface_refuse(struct flow *f, struct preface *p)
{
	uint8_t buf[NEGOTIATION_REFUSAL_MAX];
	struct leg *l = leg_of(f, CLIENT);
	const char *why = p->cause[0] != '\0' ? p->cause : reason_text((enum close_reason)f->reason);
	size_t n;

	if (l->backlog != NULL || (leg_is_tls(l) && p->side == CLIENT && p->want == NEGOTIATION_TLS))
		return false;
	if (p->want == NEGOTIATION_FAILED)
		return p->told_client;
	if (p->negotiation->refusal == NULL)
		return false;
	n = p->negotiation->refusal(p->state, why, buf);
	return n > 0 && transport_write(&l->transport, &(struct iovec){ buf, n }, 1) == (ssize_t)n;
}

void
preface_hand_over(const struct flow *f, const struct preface *p, const struct codec *codec, void *codec_state)
{
	const struct transport *client = &f->leg[CLIENT].transport, *backend = &f->leg[BACKEND].transport;
	const struct codec_tls tls = {
		.leg = { transport_is_tls(client), transport_is_tls(backend) },
		.same_certificate = transport_is_tls(client) && transport_is_tls(backend) && transport_same_certificate(client, backend),
	};

	if (p->negotiation->hand_over != NULL)
		p->negotiation->hand_over(p->state, codec_state);
	if (codec->tls != NULL && (tls.leg[CLIENT] || tls.leg[BACKEND]))
		codec->tls(codec_state, &tls);
}
