/*
 * postgres_tls.c - how PostgreSQL begins TLS.
 *
 * A client asks by SSLRequest, which is replied to by one byte: S, and TLS
 * begins, or N, and it goes on without TLS or asks for something else. It may also
 * begin TLS with the first byte ("direct"). GSSENCRequest is refused: stent
 * does not have it. Each is replied to once, as the server does; a second one
 * is the backend's to refuse. What comes then stays unread until the backend,
 * which is asked in the same way, is there too.
 *
 * protocol = auto does the same for a client that speaks PostgreSQL. Any other
 * has TLS from the first byte on both legs.
 */
#include <stdio.h>

#include "codec/codecs.h"
#include "codec/postgres.h"
#include "stent/negotiation.h"
#include "stent/promise.h"

enum phase {
	START,
	REQUESTS,	/* of the client */
	INNER,		/* auto: its first bytes inside TLS */
	DIAL,
	CONNECTED,
	ANSWER,		/* of the backend */
	DONE,
};

struct pg_negotiation {
	struct negotiation_settings settings;
	enum phase phase;
	bool is_auto;
	bool is_postgres;	/* else TLS of the backend is direct, and no error is told in PostgreSQL's way */
	bool asked_ssl, asked_gss;
	bool cancels;		/* it expects no message */
};

/* ---- what the client sends first ---- */

enum first { FIRST_SHORT, FIRST_TLS, FIRST_SSL, FIRST_GSSENC, FIRST_CANCEL, FIRST_STARTUP, FIRST_OTHER };

/* So far they can be the head of a packet without a type: a length below 65,536, and one of the codes. */
static bool
may_be_postgres(const uint8_t *p, size_t n)
{
	if ((n > 0 && p[0] != 0) || (n > 1 && p[1] != 0))
		return false;
	if (n > 4 && p[4] != 0 && p[4] != PG_CODE_SSL >> 24)
		return false;
	return n <= 5 || p[5] == (p[4] == 0 ? 3 : (PG_CODE_SSL >> 16 & 0xff));
}

static enum first
first_of(const uint8_t *p, size_t n, bool fin)
{
	uint32_t len, code;

	if (n > 0 && p[0] == 0x16)
		return FIRST_TLS;
	if (!may_be_postgres(p, n))
		return FIRST_OTHER;
	if (n < PG_HEAD_UNTYPED)
		return fin ? FIRST_OTHER : FIRST_SHORT;
	len = pg_be32(p);
	code = pg_be32(p + 4);
	if (code == PG_CODE_SSL && len == PG_HEAD_UNTYPED)
		return FIRST_SSL;
	if (code == PG_CODE_GSSENC && len == PG_HEAD_UNTYPED)
		return FIRST_GSSENC;
	if (code == PG_CODE_CANCEL && len > 12 && len <= PG_CANCEL_MAX)
		return FIRST_CANCEL;
	return code >> 16 == 3 ? FIRST_STARTUP : FIRST_OTHER;
}

/* ---- what the client is told ---- */

/* That the server cannot be had. */
static size_t
put_failure(uint8_t *buf, size_t room, const char *why)
{
	char text[NEGOTIATION_REFUSAL_MAX];

	snprintf(text, sizeof(text), "stent cannot connect to the database server: %s", why);
	return pg_fatal(buf, room, "08006", text, "The cause is in the log of stent too. See backend.tls in the settings of this route.");
}

static void
tell(struct negotiation_step *ret, const char *sqlstate, const char *text, const char *hint)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];

	codec_emit_copy(ret->out[CLIENT], buf, pg_fatal(buf, sizeof(buf), sqlstate, text, hint));
}

/* ---- what a step asks for ---- */

static void
want(struct pg_negotiation *g, enum phase next, struct negotiation_step *ret, enum negotiation_want w, enum side side)
{
	promise(next >= g->phase && next <= DONE);	/* it never goes back */
	promise(w != NEGOTIATION_TLS || side == BACKEND || g->settings.client == CLIENT_MAY_TLS || g->settings.client == CLIENT_MUST_TLS);
	promise(w != NEGOTIATION_TLS || side == CLIENT || g->settings.backend);
	g->phase = next;
	ret->want = w;
	ret->side = side;
}

static void
fail(struct pg_negotiation *g, struct negotiation_step *ret, enum side side, const char *why)
{
	ret->why = why;
	want(g, DONE, ret, NEGOTIATION_FAILED, side);
}

/* ---- the client's leg ---- */

/*
 * Bytes in the clear behind an SSLRequest would be the work of somebody in between (CVE-2021-23214). The server
 * refuses them in the same words.
 */
static void
accept_ssl(struct pg_negotiation *g, bool has_more, struct negotiation_step *ret)
{
	if (has_more) {
		tell(ret, "08P01", "received unencrypted data after SSL request",
		    "This could be a bug of the client, or an attack on the connection.");
		fail(g, ret, CLIENT, "the client sent bytes in the clear behind its SSLRequest");
		return;
	}
	promise(!g->asked_ssl);		/* it was told N then */
	codec_emit_copy(ret->out[CLIENT], "S", 1);
	want(g, DIAL, ret, NEGOTIATION_TLS, CLIENT);
}

static void
begin_direct(struct pg_negotiation *g, struct negotiation_step *ret)
{
	if (g->settings.client == CLIENT_MAY_TLS || g->settings.client == CLIENT_MUST_TLS)
		want(g, g->is_auto && g->settings.backend && !g->settings.backend_direct ? INNER : DIAL, ret, NEGOTIATION_TLS, CLIENT);
	else if (g->is_auto)
		want(g, CONNECTED, ret, NEGOTIATION_DIAL, BACKEND);	/* TLS of its own, for the backend */
	else
		fail(g, ret, CLIENT, "the client begins TLS, and client.tls is off");
}

/*
 * Cancel requests are accepted in the clear as the server accepts them: before version 17 libpq has no other
 * way to send them. They carry nothing that is worth hiding from those who see that somebody cancels.
 */
static void
begin_plain(struct pg_negotiation *g, enum first first, struct negotiation_step *ret)
{
	g->is_postgres = !g->is_auto || g->asked_ssl || g->asked_gss || first == FIRST_CANCEL || first == FIRST_STARTUP;
	g->cancels = first == FIRST_CANCEL;
	if (g->settings.client != CLIENT_MUST_TLS || g->cancels) {
		want(g, CONNECTED, ret, NEGOTIATION_DIAL, BACKEND);
		return;
	}
	if (g->is_postgres)
		tell(ret, "28000", "this server accepts encrypted connections only", "Connect with sslmode=require or higher.");
	fail(g, ret, CLIENT, "the client did not begin TLS, which client.tls = require demands");
}

static void
read_requests(struct pg_negotiation *g, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	const bool has_tls = g->settings.client == CLIENT_MAY_TLS || g->settings.client == CLIENT_MUST_TLS;

	for (;;) {
		const size_t left = len - ret->consumed;
		const enum first first = first_of(buf + ret->consumed, left, fin);

		if (first == FIRST_SHORT) {
			want(g, REQUESTS, ret, NEGOTIATION_READ, CLIENT);
			return;
		}
		if (first == FIRST_TLS) {
			begin_direct(g, ret);
			return;
		}
		if ((first != FIRST_SSL || g->asked_ssl) && (first != FIRST_GSSENC || g->asked_gss)) {
			begin_plain(g, first, ret);
			return;
		}
		promise_void(left >= PG_HEAD_UNTYPED);
		ret->consumed += PG_HEAD_UNTYPED;
		g->is_postgres = true;
		if (first == FIRST_SSL && has_tls) {
			accept_ssl(g, left > PG_HEAD_UNTYPED, ret);
			return;
		}
		*(first == FIRST_SSL ? &g->asked_ssl : &g->asked_gss) = true;
		codec_emit_copy(ret->out[CLIENT], "N", 1);
	}
}

static void
look_inside(struct pg_negotiation *g, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	const enum first first = first_of(buf, len, fin);

	if (first == FIRST_SHORT) {
		want(g, INNER, ret, NEGOTIATION_READ, CLIENT);
		return;
	}
	g->is_postgres = first == FIRST_STARTUP || first == FIRST_CANCEL;
	g->cancels = first == FIRST_CANCEL;
	want(g, CONNECTED, ret, NEGOTIATION_DIAL, BACKEND);
}

/* ---- the backend's leg ---- */

static void
ask(struct pg_negotiation *g, struct negotiation_step *ret)
{
	static const uint8_t request[PG_HEAD_UNTYPED] = { 0, 0, 0, PG_HEAD_UNTYPED,
	    PG_CODE_SSL >> 24, PG_CODE_SSL >> 16 & 0xff, PG_CODE_SSL >> 8 & 0xff, PG_CODE_SSL & 0xff };

	if (!g->settings.backend) {
		want(g, DONE, ret, NEGOTIATION_DONE, BACKEND);
	} else if (g->settings.backend_direct || !g->is_postgres) {
		want(g, DONE, ret, NEGOTIATION_TLS, BACKEND);
	} else {
		codec_emit_copy(ret->out[BACKEND], request, sizeof(request));
		want(g, ANSWER, ret, NEGOTIATION_READ, BACKEND);
	}
}

/* The text of an error is neither logged nor passed on: nothing vouches for it before TLS (CVE-2024-10977). */
static const char *
refusal_of(uint8_t answer)
{
	switch (answer) {
	case 'N':
		return "the server offers no TLS: it answered N to an SSLRequest (PostgreSQL: ssl = on)";
	case 'E':
		return "the server answered an SSLRequest with an error: see its log";
	default:
		return "the server is not PostgreSQL: its answer to an SSLRequest is neither S nor N";
	}
}

static void
refuse(struct pg_negotiation *g, struct negotiation_step *ret, const char *why)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];

	if (g->settings.client != CLIENT_ABSENT && !g->cancels)
		codec_emit_copy(ret->out[CLIENT], buf, put_failure(buf, sizeof(buf), why));
	fail(g, ret, BACKEND, why);
}

static void
read_answer(struct pg_negotiation *g, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	if (len == 0 && !fin)
		want(g, ANSWER, ret, NEGOTIATION_READ, BACKEND);
	else if (len == 0)
		refuse(g, ret, "the server closed the connection in place of an answer to an SSLRequest");
	else if (buf[0] != 'S')
		refuse(g, ret, refusal_of(buf[0]));
	else if (len > 1)		/* as on the client's leg; here CVE-2021-23222 */
		refuse(g, ret, "the server sent bytes in the clear behind its answer to an SSLRequest");
	else
		want(g, DONE, ret, NEGOTIATION_TLS, BACKEND);
	ret->consumed = len > 0 ? 1 : 0;
}

/* ---- the contract ---- */

static void
pg_negotiation_begin(void *state, const struct negotiation_settings *settings)
{
	struct pg_negotiation *g = state;

	g->settings = *settings;
	g->phase = START;
	g->is_postgres = true;
}

static void
auto_negotiation_begin(void *state, const struct negotiation_settings *settings)
{
	struct pg_negotiation *g = state;

	pg_negotiation_begin(state, settings);
	g->is_auto = true;
	g->is_postgres = settings->client == CLIENT_ABSENT;	/* among its protocols only PostgreSQL cancels */
}

static void
pg_negotiation_step(void *state, enum side from, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	struct pg_negotiation *g = state;

	(void)from;
	if (len == 0)
		buf = (const uint8_t *)"";	/* it may be NULL */
	ret->consumed = 0;
	ret->why = NULL;
	switch (g->phase) {
	case START:
		if (g->settings.client == CLIENT_ABSENT)
			want(g, CONNECTED, ret, NEGOTIATION_DIAL, BACKEND);
		else
			want(g, REQUESTS, ret, NEGOTIATION_READ, CLIENT);
		break;
	case REQUESTS:
		read_requests(g, buf, len, fin, ret);
		break;
	case INNER:
		look_inside(g, buf, len, fin, ret);
		break;
	case DIAL:
		want(g, CONNECTED, ret, NEGOTIATION_DIAL, BACKEND);
		break;
	case CONNECTED:
		ask(g, ret);
		break;
	case ANSWER:
		read_answer(g, buf, len, fin, ret);
		break;
	case DONE:
		want(g, DONE, ret, NEGOTIATION_DONE, BACKEND);
		break;
	}
	promise(ret->consumed <= len && (ret->want != NEGOTIATION_FAILED || ret->why != NULL));
	promise(ret->out[BACKEND]->n_spans == 0 || g->phase == ANSWER);
}

static size_t
pg_negotiation_refusal(const void *state, const char *why, uint8_t buf[NEGOTIATION_REFUSAL_MAX])
{
	const struct pg_negotiation *g = state;

	if (g->phase < CONNECTED || !g->is_postgres || g->cancels || g->settings.client == CLIENT_ABSENT)
		return 0;
	return put_failure(buf, NEGOTIATION_REFUSAL_MAX, why);
}

const struct negotiation negotiation_postgres = {
	.state_size = sizeof(struct pg_negotiation),
	.begin = pg_negotiation_begin,
	.step = pg_negotiation_step,
	.refusal = pg_negotiation_refusal,
};

const struct negotiation negotiation_auto = {
	.state_size = sizeof(struct pg_negotiation),
	.begin = auto_negotiation_begin,
	.step = pg_negotiation_step,
	.refusal = pg_negotiation_refusal,
};
