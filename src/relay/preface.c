/*
 * preface.c - what comes before the relay: a PROXY header, TLS on one leg or
 * both, and what a protocol says to begin it.
 *
 * First what the client has to give before the backend is dialled: a PROXY
 * header, and its first byte (preface_proxy.c). Then the protocol's negotiation
 * decides what comes next, and preface_negotiation.c does it; the backend gets
 * its PROXY header before anything else.
 *
 * Nothing goes on while a peer has not taken what it was sent, so what is kept
 * is bounded. Each side has handshake_timeout for all that is waited for from it.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/dial.h"
#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/preface.h"
#include "relay/preface_state.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/shared.h"

#define CAUSE_MAX 384

const struct negotiation *
preface_negotiation(const struct route *route)
{
	return route->codec != NULL && route->codec->negotiation != NULL ? route->codec->negotiation : &negotiation_direct;
}

static bool
has_tls(const struct route *route)
{
	return route->leg[CLIENT].tls_context != NULL || route->leg[BACKEND].tls_context != NULL;
}

bool
preface_is_needed(const struct route *route)
{
	return has_tls(route) || route->accept_proxy != ACCEPT_PROXY_OFF || route->send_proxy != 0 || route->first_byte_timeout_ms != 0;
}

/* What the backend's header tells of the client's TLS is kept from the handshake on. False: out of memory. */
static bool
prepare_header(struct preface *p, const struct route *route)
{
	if (route->send_proxy != 2 || route->leg[CLIENT].tls_context == NULL)
		return true;
	p->client = calloc(1, sizeof(*p->client));
	return p->client != NULL;
}

struct preface *
preface_new(const struct flow *f)
{
	const struct route *route = f->route;
	const struct negotiation *n = has_tls(route) ? preface_negotiation(route) : &negotiation_none;
	const struct tls_settings *client = &route->leg[CLIENT].tls, *backend = &route->leg[BACKEND].tls;
	const struct negotiation_settings settings = {
		.client = client->mode == TLS_REQUIRE ? CLIENT_MUST_TLS : client->mode == TLS_ACCEPT ? CLIENT_MAY_TLS : CLIENT_PLAIN,
		.backend = backend->mode != TLS_OFF,
		.backend_direct = backend->direct,
	};
	struct preface *p = calloc(1, sizeof(*p) + n->state_size);

	assert(n->state_size <= NEGOTIATION_STATE_MAX);
	if (p == NULL || !prepare_header(p, route)) {
		free(p);
		return NULL;
	}
	p->negotiation = n;
	p->left_us[CLIENT] = p->left_us[BACKEND] = route->handshake_timeout_ms * US_PER_MS;
	n->begin(p->state, &settings);
	return p;
}

bool
preface_check(const struct flow *f, const struct preface *p)
{
	require_or(f, p->stage <= STAGE_NEGOTIATION, false);
	require_or(f, p->stage != STAGE_FIRST_BYTE || p->first_byte_us > 0, false);
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		require_or(f, p->seen[s] <= NEGOTIATION_INPUT_MAX, false);	/* no more is peeked at */
		/* Time only runs out; the clocks of an event and of a timer differ a little. */
		require_or(f, p->left_us[s] <= f->route->handshake_timeout_ms * US_PER_MS + US_PER_S, false);
	}
	return true;
}

void
preface_free(struct preface *p)
{
	if (p == NULL)
		return;
	free(p->cause);
	free(p->client);
	free(p);
}

bool
preface_client_spoke(const struct preface *p)
{
	return p->client_spoke;
}

bool
preface_awaits_client(const struct preface *p)
{
	return p->stage != STAGE_NEGOTIATION;
}

const char *
preface_cause(const struct preface *p)
{
	return p->cause != NULL ? p->cause : "";
}

/* --- failures --- */

void
preface_set_cause(struct preface *p, const char *why)
{
	free(p->cause);
	p->cause = strdup(why);
}

struct verdict
preface_failed(struct flow *f, struct preface *p, enum side s, enum tls_cause kind, const char *why)
{
	require(f, kind > TLS_CAUSE_NONE && kind < TLS_CAUSE_COUNT);
	preface_set_cause(p, why);
	counter_add(&counters_of(f)->tls_failures[s][kind], 1);
	return VERDICT_CONNECT_FAILED(reason_on_side(REASON_CLIENT_TLS, s));
}

struct verdict
preface_leg_failed(struct flow *f, struct preface *p, enum side s, int err)
{
	const struct transport *t = &leg_of(f, s)->transport;

	if (transport_tls_cause_kind(t) != TLS_CAUSE_NONE)
		return preface_failed(f, p, s, transport_tls_cause_kind(t), transport_tls_cause(t));
	return VERDICT_CONNECT_FAILED(reason_from_errno(s, err, t, false));
}

static struct verdict
timed_out(struct flow *f, struct preface *p, enum side s)
{
	const long long ms = f->route->handshake_timeout_ms;
	char why[CAUSE_MAX];

	snprintf(why, sizeof(why), ms % 1000 == 0 ? "no complete handshake within %lld s" : "no complete handshake within %lld ms",
	    ms % 1000 == 0 ? ms / 1000 : ms);
	return preface_failed(f, p, s, TLS_CAUSE_TIMEOUT, why);
}

bool
preface_is_reset(const struct leg *l, int *err)
{
	*err = (transport_look(&l->transport) & SOCKET_DEAD) ? transport_take_error(&l->transport) : 0;
	return *err != 0;
}

/* --- time --- */

/* Ends the present wait in the accounts of its side. */
void
preface_stop_clock(struct preface *p, int64_t now_us)
{
	if (p->since_us != 0)
		p->left_us[p->waits_on] -= now_us - p->since_us;
	p->since_us = 0;
}

struct verdict
preface_wait_for(struct flow *f, struct preface *p, enum side s)
{
	const int64_t now_us = clock_us();

	require(f, f->state == FLOW_PREFACE && f->preface == p);
	require(f, transport_is_open(&f->leg[s].transport));	/* else nothing would come */
	preface_stop_clock(p, now_us);
	p->since_us = now_us;
	p->waits_on = s;
	flow_wake_at(f, now_us + (p->left_us[s] > 0 ? p->left_us[s] : US_PER_MS));
	return VERDICT(NOTHING);
}

/* --- from one thing to the next --- */

/* The side that has not taken all that it was sent; else that which is waited for. */
static enum side
slow_side(const struct flow *f, const struct preface *p)
{
	if (f->leg[CLIENT].backlog != NULL)
		return CLIENT;
	return f->leg[BACKEND].backlog != NULL ? BACKEND : p->side;
}

/* What the negotiation wants. */
static struct verdict
negotiate(struct flow *f, struct preface *p)
{
	switch (p->want) {
	case NEGOTIATION_READ:
		return preface_read_more(f, p);
	case NEGOTIATION_TLS:
		return preface_shake_hands(f, p);
	case NEGOTIATION_DIAL:
		preface_stop_clock(p, clock_us());
		return VERDICT(DIAL);
	case NEGOTIATION_DONE:
		require(f, transport_is_open(&leg_of(f, BACKEND)->transport));
		require(f, f->leg[CLIENT].backlog == NULL && f->leg[BACKEND].backlog == NULL);
		return VERDICT(CONNECTED);
	case NEGOTIATION_FAILED:
		break;
	}
	require(f, p->want != NEGOTIATION_FAILED);		/* preface_step() has returned the verdict */
	return VERDICT(NOTHING);
}

/* The stage is over. */
static struct verdict
next_stage(struct flow *f, struct preface *p)
{
	require(f, p->stage != STAGE_NEGOTIATION);
	if (p->stage == STAGE_HEADER && f->route->first_byte_timeout_ms != 0) {
		preface_stop_clock(p, clock_us());
		p->stage = STAGE_FIRST_BYTE;
		p->first_byte_us = clock_us() + f->route->first_byte_timeout_ms * US_PER_MS;
		flow_wake_at(f, p->first_byte_us);
		return VERDICT(GO_ON);
	}
	p->stage = STAGE_NEGOTIATION;
	return preface_step(f, p, CLIENT, NULL, 0);
}

/* Goes on until something has to be waited for (NOTHING). */
static struct verdict
advance(struct flow *f, struct preface *p)
{
	struct verdict v = VERDICT(GO_ON);

	while (v.kind == GO_ON) {
		require(f, f->state == FLOW_PREFACE && f->preface == p && f->session == NULL);
		if (f->leg[CLIENT].backlog != NULL || f->leg[BACKEND].backlog != NULL)
			return preface_wait_for(f, p, slow_side(f, p));
		if (p->stage == STAGE_NEGOTIATION) {
			v = negotiate(f, p);
			continue;
		}
		v = p->stage == STAGE_HEADER ? preface_read_header(f, p) : preface_await_first_byte(f, p);
		if (v.kind == GO_ON)
			v = next_stage(f, p);
	}
	return v;
}

/* --- what happens to it --- */

struct verdict
preface_start(struct flow *f)
{
	struct preface *p = f->preface;
	struct verdict v = VERDICT(GO_ON);

	require(f, p->stage == STAGE_HEADER && p->seen[CLIENT] == 0);
	if (f->route->accept_proxy == ACCEPT_PROXY_OFF)
		v = next_stage(f, p);
	return v.kind == GO_ON ? advance(f, p) : v;
}

struct verdict
preface_dialled(struct flow *f)
{
	struct preface *p = f->preface;
	struct verdict v = VERDICT(GO_ON);

	require(f, p->want == NEGOTIATION_DIAL && p->stage == STAGE_NEGOTIATION);
	require(f, transport_is_open(&f->leg[BACKEND].transport) && f->leg[BACKEND].backlog == NULL);
	if (leg_of(f, CLIENT)->backlog != NULL)		/* its edges were not looked at meanwhile */
		v = backlog_drain(f, CLIENT);
	if (v.kind == GO_ON && f->route->send_proxy != 0)
		v = preface_send_header(f, p);
	if (v.kind == LEG_FAILED)
		return preface_leg_failed(f, p, v.side, v.err);
	if (v.kind == GO_ON)
		v = preface_step(f, p, BACKEND, NULL, 0);
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
	return err != 0 ? preface_leg_failed(f, p, s, err) : VERDICT(GO_ON);
}

struct verdict
preface_event(struct flow *f, enum side s, short what)
{
	struct preface *p = f->preface;
	struct leg *l = leg_of(f, s);
	struct verdict v = VERDICT(GO_ON);

	require(f, f->state == FLOW_PREFACE && p != NULL && p->want != NEGOTIATION_FAILED);
	if (l->backlog != NULL)
		v = backlog_drain(f, s);
	else if (s != p->side && (what & EV_READ))
		v = check_other(f, p, s);
	if (v.kind == LEG_FAILED)
		return preface_leg_failed(f, p, v.side, v.err);
	return v.kind == GO_ON ? advance(f, p) : v;
}

/* The time of its stage is over. */
static struct verdict
header_is_late(struct flow *f, struct preface *p)
{
	struct verdict v;

	require(f, p->stage == STAGE_HEADER && !f->has_origin);
	v = preface_header_is_late(f, p);
	p->left_us[CLIENT] = f->route->handshake_timeout_ms * US_PER_MS;	/* for a handshake that may follow */
	if (v.kind == GO_ON)
		v = next_stage(f, p);
	return v.kind == GO_ON ? advance(f, p) : v;
}

struct verdict
preface_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct preface *p = f->preface;
	const enum side s = p->waits_on;

	require(f, f->state == FLOW_PREFACE && (s == CLIENT || s == BACKEND));
	if (p->stage == STAGE_FIRST_BYTE) {
		*again_us = p->first_byte_us;
		return now_us >= p->first_byte_us ? VERDICT_CONNECT_FAILED(REASON_CLIENT_IDLE) : VERDICT(GO_ON);
	}
	preface_stop_clock(p, now_us);
	p->since_us = now_us;
	*again_us = now_us + p->left_us[s];
	if (p->left_us[s] > 0)
		return VERDICT(GO_ON);
	if (p->stage != STAGE_HEADER)
		return timed_out(f, p, s);
	*again_us = INT64_MAX;		/* set by what comes next */
	return header_is_late(f, p);
}

/* --- its end --- */

bool
preface_refuse(struct flow *f, struct preface *p)
{
	uint8_t buf[NEGOTIATION_REFUSAL_MAX];
	struct leg *l = leg_of(f, CLIENT);
	const char *why = p->cause != NULL ? p->cause : reason_text((enum close_reason)f->reason);
	size_t n;

	if (p->stage != STAGE_NEGOTIATION || l->backlog != NULL || (leg_is_tls(l) && p->side == CLIENT && p->want == NEGOTIATION_TLS))
		return false;
	if (p->want == NEGOTIATION_FAILED)
		return p->told_client;
	if (p->negotiation->refusal == NULL)
		return false;
	n = p->negotiation->refusal(p->state, why, buf);
	require_promises_or(f, false);
	require_or(f, n <= sizeof(buf), false);
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

	require_void(f, p->want == NEGOTIATION_DONE && p->stage == STAGE_NEGOTIATION);
	if (p->negotiation->hand_over != NULL)
		p->negotiation->hand_over(p->state, codec_state);
	if (codec->tls != NULL && (tls.leg[CLIENT] || tls.leg[BACKEND]))
		codec->tls(codec_state, &tls);
}
