/*
 * preface_negotiation.c - does what the protocol's negotiation (stent/negotiation.h) asks for.
 *
 * It only peeks at what came, and reads exactly what the negotiation consumed: the
 * bytes behind it belong to TLS, or to the relay.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relay/ending.h"
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/preface_state.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/shared.h"

#define HANDSHAKE_ROUNDS 100	/* recv() calls per event */

_Static_assert(NEGOTIATION_INPUT_MAX <= RELAY_BUFFER, "it is peeked at in that");

/* --- one step --- */

/* Sends to both sides what a step said. */
static struct verdict
send_out(struct flow *f, struct preface *p, const struct negotiation_step *step)
{
	struct verdict v = VERDICT(GO_ON);

	p->told_client = step->out[CLIENT]->n_spans > 0;
	for (enum side s = CLIENT; s <= BACKEND && v.kind == GO_ON; s++)
		if (step->out[s]->n_spans > 0) {
			require(f, transport_is_open(&leg_of(f, s)->transport));	/* nothing is said to who is not there yet */
			v = pump_write(f, s, step->out[s]->spans, step->out[s]->n_spans, clock_us());
		}
	return v;
}

/* The first n bytes of side s, which were peeked at, are gone. */
static struct verdict
consume(struct flow *f, struct preface *p, enum side s, size_t n)
{
	struct leg *l = leg_of(f, s);

	require(f, n <= p->seen[s] && n <= RELAY_BUFFER);	/* no more is gone than was looked at */
	p->seen[s] -= n;
	while (n > 0) {
		const ssize_t r = transport_read(&l->transport, f->relay->buf, n);

		if (r <= 0)
			return preface_leg_failed(f, p, s, r == 0 ? ECONNRESET : (int)-r);
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

struct verdict
preface_step(struct flow *f, struct preface *p, enum side from, const uint8_t *buf, size_t len)
{
	struct relay *r = f->relay;
	struct negotiation_step step = {
		.out = { &r->out, &r->out_backend },
		.reach = { reach_of(leg_peer(f, CLIENT)), reach_of(&f->backend) },
	};
	struct verdict v;

	if (len == 0)
		p->seen[CLIENT] = p->seen[BACKEND] = 0;		/* it may want again what an earlier step has left */
	codec_out_clear(&r->out);
	codec_out_clear(&r->out_backend);
	p->negotiation->step(p->state, from, buf, len, p->fin[from], &step);
	assert(r->out.n_spans <= CODEC_SPANS && r->out.scratch_used <= CODEC_SCRATCH);	/* else it wrote past the relay's memory */
	assert(r->out_backend.n_spans <= CODEC_SPANS && r->out_backend.scratch_used <= CODEC_SCRATCH);
	require_promises(f);
	require(f, step.consumed <= len && step.want <= NEGOTIATION_FAILED && (step.side == CLIENT || step.side == BACKEND));
	v = send_out(f, p, &step);
	if (v.kind == GO_ON && step.consumed > 0)
		v = consume(f, p, from, step.consumed);
	if (v.kind == LEG_FAILED)
		v = preface_leg_failed(f, p, v.side, v.err);
	if (v.kind != GO_ON)
		return v;
	p->want = step.want;
	p->side = step.side;
	if (step.want == NEGOTIATION_FAILED)
		return preface_failed(f, p, step.side, TLS_CAUSE_NO_TLS, step.why != NULL ? step.why : "");
	return VERDICT(GO_ON);
}

/* --- what is waited for --- */

/* A client that closes without a byte wants nothing: most likely it is a health check. */
static bool
client_must_speak(const struct flow *f)
{
	return f->route->codec != NULL && f->route->codec->client_speaks;
}

struct verdict
preface_read_more(struct flow *f, struct preface *p)
{
	const enum side s = p->side;
	const bool had_fin = p->fin[s];
	struct leg *l = leg_of(f, s);
	const ssize_t n = transport_peek(&l->transport, f->relay->buf, NEGOTIATION_INPUT_MAX);
	const size_t len = n > 0 ? (size_t)n : 0;
	int err;

	require(f, n <= NEGOTIATION_INPUT_MAX && p->want == NEGOTIATION_READ);
	if (n < 0 && n != -EAGAIN)
		return preface_leg_failed(f, p, s, (int)-n);
	p->fin[s] = n == 0 || l->hup;
	p->client_spoke |= s == CLIENT && len > 0;
	if (s == CLIENT && !p->client_spoke && p->fin[CLIENT] && client_must_speak(f))
		return VERDICT(CLIENT_ABORT);
	if (len <= p->seen[s] && p->fin[s] == had_fin && preface_is_reset(l, &err))
		return preface_leg_failed(f, p, s, err);
	if (len <= p->seen[s] && p->fin[s] == had_fin)
		return len >= NEGOTIATION_INPUT_MAX ? preface_failed(f, p, s, TLS_CAUSE_PROTOCOL, "a message before TLS is too long") : preface_wait_for(f, p, s);
	p->seen[s] = len;
	return preface_step(f, p, s, f->relay->buf, len);
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
	int r;

	require(f, !leg_is_tls(l) && leg_settings(f, s)->tls_context != NULL);
	require(f, l->backlog == NULL);		/* what was said in clear text is sent before */
	r = transport_start_tls(&l->transport, leg_settings(f, s)->tls_context, s == BACKEND ? preface_backend_name(f, text) : NULL);

	p->seen[s] = 0;
	return r == 0 ? VERDICT(GO_ON) : preface_leg_failed(f, p, s, -r);
}

/* A client that has not begun its handshake: is it still there? NOTHING: it is to be waited for. */
static struct verdict
check_silent_client(struct flow *f, struct preface *p)
{
	const struct transport *t = &leg_of(f, CLIENT)->transport;
	const unsigned bits = transport_look(t);
	int err, more;

	p->client_spoke = transport_unread(t) > 0;
	if (p->client_spoke)
		return VERDICT(GO_ON);
	if ((bits & (SOCKET_FIN | SOCKET_DEAD)) == 0) {
		more = transport_has_more(t);	/* what was asked above may have failed */
		p->client_spoke = more > 0;
		if (more < 0)
			return preface_leg_failed(f, p, CLIENT, -more);
		return more > 0 ? VERDICT(GO_ON) : preface_wait_for(f, p, CLIENT);
	}
	err = transport_take_error(t);
	return err != 0 ? preface_leg_failed(f, p, CLIENT, err) : VERDICT(CLIENT_ABORT);
}

/* As transport_handshake(), but nothing is left that no further edge tells of: a FIN or a reset behind the last bytes. */
static int
handshake(struct leg *l, struct transport_client *client)
{
	struct transport *t = &l->transport;
	int r = transport_handshake_noting(t, client);

	for (int i = 0; i < HANDSHAKE_ROUNDS && r == -EAGAIN && transport_unsent(t) == 0; i++) {
		if ((transport_look(t) & (SOCKET_FIN | SOCKET_DEAD)) == 0)
			return r;
		r = transport_handshake_noting(t, client);
	}
	return r;
}

struct verdict
preface_shake_hands(struct flow *f, struct preface *p)
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
	r = handshake(l, s == CLIENT ? p->client : NULL);
	if (r == -EAGAIN)
		return preface_wait_for(f, p, s);
	if (r != 0)
		return preface_leg_failed(f, p, s, -r);
	transport_tls_facts(&l->transport, &facts);
	require(f, facts.version != NULL && transport_unsent(&l->transport) == 0);	/* it is established, and nothing of it waits */
	counter_add(&counters_of(f)->handshakes[s], 1);
	counter_add(&counters_of(f)->resumed[s], facts.resumed);
	return preface_step(f, p, s, NULL, 0);
}
