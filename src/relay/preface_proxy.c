/*
 * preface_proxy.c - the PROXY protocol's header, from the client and to the
 * backend, and the wait for the client's first byte.
 *
 * The header is peeked at until it is complete, and exactly its bytes are read,
 * so the stream behind it is whole, also where it came in the same packet. From
 * then on the flow's client is the one that the header names; the peer of the
 * socket is kept beside it (origin.c).
 *
 * With accept_proxy = accept the first bytes tell whether there is a header. A
 * client that says nothing, as its server speaks first, is taken for one without
 * after handshake_timeout.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>

#include "relay/ending.h"
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/preface_state.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/shared.h"
#include "stent/admission.h"

_Static_assert(PROXY_HEADER_IN_MAX <= RELAY_BUFFER, "it is peeked at in that");

static bool
must_have_header(const struct flow *f)
{
	return f->route->accept_proxy == ACCEPT_PROXY_REQUIRE;
}

static bool
is_trusted(const struct flow *f)
{
	const struct proxy_from *from = &f->route->proxy_from;

	return f->client.family == AF_UNIX ? from->unix_too : cidr_set_has(&from->networks, &f->client);
}

/* It has no header that is taken from it. */
static struct verdict
deny(struct flow *f, struct preface *p, const char *why)
{
	require(f, f->admission == ADMITTED && p->stage == STAGE_HEADER);
	preface_set_cause(p, why);
	f->admission = ADMISSION_PROXY_HEADER & 15;
	counter_add(&counters_of(f)->refusals[ADMISSION_PROXY_HEADER], 1);
	return VERDICT_CONNECT_FAILED(REASON_DENIED);
}

/* The client's address is known now: may it have a flow? */
static struct verdict
admit(struct flow *f)
{
	const enum admission a = flow_admit(f);

	return admission_is_refused(a) ? VERDICT_CONNECT_FAILED(admission_reason(a)) : VERDICT(GO_ON);
}

/* --- the header that the client sends --- */

/* The header of n bytes was peeked at. */
static struct verdict
take_header(struct flow *f, struct preface *p, const struct proxy_header *h)
{
	struct leg *l = leg_of(f, CLIENT);

	require(f, h->len > 0 && h->len <= PROXY_HEADER_IN_MAX);
	for (size_t left = h->len; left > 0;) {
		const ssize_t n = transport_read(&l->transport, f->relay->buf, left);

		if (n <= 0)
			return preface_leg_failed(f, p, CLIENT, n == 0 ? ECONNRESET : (int)-n);
		require(f, (size_t)n <= left);		/* the stream begins behind it */
		left -= (size_t)n;
	}
	return origin_set(f, h) == 0 ? admit(f) : VERDICT_CONNECT_FAILED(REASON_MEMORY);
}

/* There is no complete header, and the client has closed. */
static struct verdict
closed_early(struct flow *f, struct preface *p, enum proxy_read how, ssize_t n)
{
	if (n == 0)
		return VERDICT(CLIENT_ABORT);
	if (how == PROXY_UNDECIDED && !must_have_header(f))
		return admit(f);
	return deny(f, p, "the client closed inside its PROXY header");
}

struct verdict
preface_read_header(struct flow *f, struct preface *p)
{
	struct leg *l = leg_of(f, CLIENT);
	struct proxy_header h;
	enum proxy_read how;
	const char *why;
	ssize_t n;
	int err;

	require(f, p->stage == STAGE_HEADER && !f->has_origin && !leg_is_tls(l));
	if (!is_trusted(f))
		return must_have_header(f) ? deny(f, p, "its address is not in proxy_from, so no PROXY header is taken from it") : admit(f);
	n = transport_peek(&l->transport, f->relay->buf, PROXY_HEADER_IN_MAX);
	if (n < 0 && n != -EAGAIN)
		return preface_leg_failed(f, p, CLIENT, (int)-n);
	how = proxy_header_read(&h, f->relay->buf, n > 0 ? (size_t)n : 0, &why);
	if (how == PROXY_COMPLETE)
		return take_header(f, p, &h);
	if (how == PROXY_INVALID)
		return deny(f, p, why);
	if (how == PROXY_ABSENT)
		return must_have_header(f) ? deny(f, p, "it sent no PROXY header") : admit(f);
	if (n == 0 || l->hup)
		return closed_early(f, p, how, n);
	return preface_is_reset(l, &err) ? preface_leg_failed(f, p, CLIENT, err) : preface_wait_for(f, p, CLIENT);
}

struct verdict
preface_header_is_late(struct flow *f, struct preface *p)
{
	struct proxy_header h;
	const char *why;
	const ssize_t n = transport_peek(&leg_of(f, CLIENT)->transport, f->relay->buf, PROXY_HEADER_IN_MAX);
	const enum proxy_read how = proxy_header_read(&h, f->relay->buf, n > 0 ? (size_t)n : 0, &why);

	if (how == PROXY_UNDECIDED && !must_have_header(f))
		return admit(f);
	return deny(f, p, "it sent no complete PROXY header within handshake_timeout");
}

/* --- the first byte --- */

struct verdict
preface_await_first_byte(struct flow *f, struct preface *p)
{
	uint8_t byte;
	const ssize_t n = transport_peek(&leg_of(f, CLIENT)->transport, &byte, 1);

	if (n == -EAGAIN)
		return VERDICT(NOTHING);
	if (n < 0)
		return preface_leg_failed(f, p, CLIENT, (int)-n);
	p->client_spoke = n > 0;
	return n > 0 ? VERDICT(GO_ON) : VERDICT(CLIENT_ABORT);
}

/* --- the header that the backend gets --- */

struct verdict
preface_send_header(struct flow *f, struct preface *p)
{
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	struct leg *l = leg_of(f, BACKEND);
	const size_t n = origin_write_header(f, p->client, buf);
	struct verdict v;

	require(f, n > 0 && n <= sizeof(buf));
	require(f, l->backlog == NULL && !leg_is_tls(l));	/* it is the first that the backend gets */
	v = pump_write(f, BACKEND, &(struct iovec){ buf, n }, 1, clock_us());

	/* A backend that was reset behind its bytes, as one that is full: the client gets them. */
	if (v.kind == LEG_FAILED && f->route->leg[BACKEND].tls_context == NULL && transport_unread(&l->transport) > 0) {
		l->error = (uint8_t)v.err;
		return VERDICT(GO_ON);
	}
	return v;
}
