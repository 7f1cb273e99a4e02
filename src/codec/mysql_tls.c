/*
 * mysql_tls.c - how MySQL and MariaDB begin TLS.
 *
 * The server speaks first: its greeting says whether it has TLS, by one flag
 * (CLIENT_SSL), which is set or cleared to say whether stent has. The client
 * replies by its login, or by the beginning of one (SSLRequest, its first 32 bytes),
 * TLS, and then the login. stent reads the login whole, makes an
 * SSLRequest of its beginning for the server, and forwards it inside TLS.
 *
 * The codec reads all this as it passes, in a form without TLS, so that its state
 * is the right one when the relay begins, right behind the client's login. The rest
 * of the login is watched by mysql_login.c. Nothing of the login is kept here.
 */
#include <stdio.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/mysql.h"
#include "stent/negotiation.h"
#include "stent/promise.h"

#define SSL_REQUEST 32	/* bytes of payload; a login is longer */
#define CAP_SSL_BYTE 1	/* of the capabilities: the byte with CAP_SSL */
#define CAP_SSL_BIT (CAP_SSL >> 8)
#define PROTOCOL_VERSION 10
#define GREETING_CAPS 13	/* bytes from the end of the server's version to its capabilities */
#define GREETING_MIN 20		/* ... and to the end of their second half */
#define LOGIN_SEQ 1		/* of the client's first packet */
#define ERROR_MAX 512

enum phase { START, CONNECTED, GREETING, LOGIN, DONE };

struct my_negotiation {
	struct mysql followed;	/* the codec's state */
	struct negotiation_settings settings;
	enum phase phase;
	bool tls[2];		/* has begun on that leg */
	bool has_login;		/* the client's login has come: it awaits a reply */
	uint8_t seq;		/* of that login */
};

/* One packet of what a step has, if it is there whole. */
struct packet {
	const uint8_t *payload;
	size_t len;
	uint8_t seq;
};

static void
want(struct my_negotiation *g, enum phase next, struct negotiation_step *ret, enum negotiation_want w, enum side side)
{
	promise(next >= g->phase && next <= DONE);	/* it never goes back */
	promise(w != NEGOTIATION_TLS || g->tls[side]);
	g->phase = next;
	ret->want = w;
	ret->side = side;
}

static void
fail(struct my_negotiation *g, struct negotiation_step *ret, enum side side, const char *why)
{
	ret->why = why;
	want(g, DONE, ret, NEGOTIATION_FAILED, side);
}

/* The client is told by a packet with the number seq. Before the greeting it cannot know of states. */
static void
fail_telling(struct my_negotiation *g, struct negotiation_step *ret, enum side side, uint8_t seq, unsigned number,
    const char *why, const char *text)
{
	uint8_t buf[ERROR_MAX];
	const char *state = number == ER_HANDSHAKE_ERROR ? "08S01" : "HY000";

	codec_emit_copy(ret->out[CLIENT], buf,
	    mysql_error(buf, sizeof(buf), seq, number, g->phase == GREETING ? NULL : state, text));
	fail(g, ret, side, why);
}

/* The codec sees bytes that pass. What it emits is what was given. */
static void
follow(struct my_negotiation *g, enum side from, const uint8_t *p, size_t len)
{
	struct codec_out out;

	while (len > 0) {
		size_t n;

		codec_out_clear(&out);
		n = codec_mysql.feed(&g->followed, from, p, len, &out);
		promise_void(n > 0 && codec_emitted(&out) == n);
		if (out.passthrough != NULL)
			return;		/* it says so again when the relay begins */
		p += n;
		len -= n;
	}
}

/* Emits a packet with another number, and with CLIENT_SSL as it has to be there, at byte `at` of the payload. */
static void
emit_changed(struct codec_out *out, const struct packet *p, size_t at, bool ssl, uint8_t seq)
{
	const uint8_t head[MYSQL_HEAD] = { (uint8_t)p->len, (uint8_t)(p->len >> 8), (uint8_t)(p->len >> 16), seq };
	uint8_t caps;

	promise_void(at < p->len && p->len <= NEGOTIATION_INPUT_MAX);
	caps = (uint8_t)((p->payload[at] & ~CAP_SSL_BIT) | (ssl ? CAP_SSL_BIT : 0));

	codec_emit_copy(out, head, sizeof(head));
	codec_emit(out, p->payload, at);
	codec_emit_copy(out, &caps, 1);
	codec_emit(out, p->payload + at + 1, p->len - at - 1);
}

/* --- the greeting --- */

static void
pass_greeting(struct my_negotiation *g, const struct packet *p, struct negotiation_step *ret)
{
	const uint8_t *nul = memchr(p->payload, '\0', p->len), *caps;
	const char *why;

	if (p->len > 0 && p->payload[0] == MYSQL_ERR) {
		follow(g, BACKEND, p->payload - MYSQL_HEAD, p->len + MYSQL_HEAD);
		codec_emit(ret->out[CLIENT], p->payload - MYSQL_HEAD, p->len + MYSQL_HEAD);
		want(g, DONE, ret, NEGOTIATION_DONE, BACKEND);
		return;
	}
	if (nul == NULL || p->payload[0] != PROTOCOL_VERSION || (size_t)(p->payload + p->len - nul) <= GREETING_MIN) {
		why = "the server is not MySQL (4.1 or later) or MariaDB, by its greeting";
		fail_telling(g, ret, BACKEND, 0, ER_HANDSHAKE_ERROR, why, why);
		return;
	}
	caps = nul + 1 + GREETING_CAPS;
	promise_void(caps + CAP_SSL_BYTE < p->payload + p->len);
	if (g->settings.backend && (caps[CAP_SSL_BYTE] & CAP_SSL_BIT) == 0) {
		fail_telling(g, ret, BACKEND, 0, ER_HANDSHAKE_ERROR, "the server offers no TLS: its greeting lacks CLIENT_SSL",
		    "stent: the server offers no TLS, which backend.tls of the route demands. Set ssl_cert and ssl_key in its "
		    "settings, or backend.tls = off");
		return;
	}
	follow(g, BACKEND, p->payload - MYSQL_HEAD, p->len + MYSQL_HEAD);
	emit_changed(ret->out[CLIENT], p, (size_t)(caps + CAP_SSL_BYTE - p->payload), g->settings.client != CLIENT_PLAIN, p->seq);
	want(g, LOGIN, ret, NEGOTIATION_READ, CLIENT);
}

/* --- the client's login --- */

static uint32_t
caps_of(const struct packet *p)
{
	return (uint32_t)p->payload[0] | (uint32_t)p->payload[1] << 8 | (uint32_t)p->payload[2] << 16 | (uint32_t)p->payload[3] << 24;
}

/* Past a text that ends with NUL, or with the packet. */
static const uint8_t *
past_text(const uint8_t *p, const uint8_t *end)
{
	const uint8_t *nul = p < end ? memchr(p, '\0', (size_t)(end - p)) : NULL;

	return nul != NULL ? nul + 1 : end;
}

/* The client's method, and whether it sends anything by it. What is not understood may be a password in the clear. */
static enum mysql_method
method_of(const struct packet *login, bool *has_password)
{
	const uint32_t caps = caps_of(login);
	const uint8_t *end = login->payload + login->len, *p = past_text(login->payload + SSL_REQUEST, end);
	size_t len = p < end ? *p : 0;

	*has_password = true;
	if ((caps & CAP_PLUGIN_AUTH) == 0)
		return METHOD_HASHED;
	if ((caps & CAP_LENENC_AUTH) != 0 && p < end && *p == 0xfc && end - p > 2) {
		len = (size_t)p[1] | (size_t)p[2] << 8;
		p += 3;
	} else if ((caps & (CAP_LENENC_AUTH | CAP_SECURE_CONNECTION)) == 0) {
		len = (size_t)(past_text(p, end) - p);
	} else if (p < end) {
		p++;
	}
	if (len > (size_t)(end - p))
		return METHOD_CLEAR;
	*has_password = len > 1 || (len == 1 && *p != '\0');
	p += len;
	if ((caps & CAP_WITH_DB) != 0)
		p = past_text(p, end);
	end = memchr(p, '\0', (size_t)(end - p)) != NULL ? past_text(p, end) - 1 : end;
	return p == end ? METHOD_HASHED : mysql_method_of(p, (size_t)(end - p));
}

/* How a password that is not hashed would pass; see enum mysql_guard. */
static unsigned
guards_of(const struct my_negotiation *g, const struct negotiation_step *ret)
{
	const bool client = g->tls[CLIENT] || ret->reach[CLIENT] == REACH_UNIX;
	const bool server = g->tls[BACKEND] || ret->reach[BACKEND] == REACH_UNIX;
	unsigned guards = 0;

	if (server && !client)
		guards |= GUARD_CLIENT_PLAIN;
	if (client && !server)
		guards |= GUARD_SERVER_PLAIN;
	if (g->tls[CLIENT] && !g->tls[BACKEND] && ret->reach[BACKEND] == REACH_NETWORK)
		guards |= GUARD_CLEAR;
	return guards;
}

/* For the server's leg, before TLS there: the beginning of the login. */
static void
request_tls(struct my_negotiation *g, const struct packet *login, struct negotiation_step *ret)
{
	const struct packet request = { login->payload, SSL_REQUEST, LOGIN_SEQ };

	promise(!g->tls[BACKEND] && login->len > SSL_REQUEST);
	ret->consumed = 0;	/* it is read again when TLS has begun */
	emit_changed(ret->out[BACKEND], &request, CAP_SSL_BYTE, true, LOGIN_SEQ);
	g->tls[BACKEND] = true;
	want(g, LOGIN, ret, NEGOTIATION_TLS, BACKEND);
}

static void
pass_login(struct my_negotiation *g, const struct packet *login, struct negotiation_step *ret)
{
	struct mysql *s = &g->followed;
	const uint8_t seq = LOGIN_SEQ + (g->tls[BACKEND] ? 1 : 0), caps = login->payload[CAP_SSL_BYTE] & (uint8_t)~CAP_SSL_BIT;
	bool has_password;
	const enum mysql_method method = method_of(login, &has_password);
	const char *refused;

	promise(g->phase == LOGIN && g->tls[BACKEND] == g->settings.backend);
	s->guards = (uint8_t)guards_of(g, ret);
	s->method = (uint8_t)method;
	refused = has_password && method != METHOD_CACHING_SHA2 ? mysql_method_refused(method, s->guards) : NULL;
	if (refused != NULL) {
		fail_telling(g, ret, CLIENT, (uint8_t)(login->seq + 1), ER_SECURE_TRANSPORT_REQUIRED, refused, refused);
		return;
	}
	follow(g, CLIENT, login->payload - MYSQL_HEAD, MYSQL_HEAD + CAP_SSL_BYTE);
	follow(g, CLIENT, &caps, 1);
	follow(g, CLIENT, login->payload + CAP_SSL_BYTE + 1, login->len - CAP_SSL_BYTE - 1);
	s->shift = (uint8_t)(login->seq - seq);
	mysql_login_begins(s);
	emit_changed(ret->out[BACKEND], login, CAP_SSL_BYTE, g->tls[BACKEND], seq);
	want(g, DONE, ret, NEGOTIATION_DONE, CLIENT);
}

/* What is wrong with the client's packet; NULL: nothing. */
static const char *
wrong_with(const struct my_negotiation *g, const struct packet *p)
{
	if (p->seq != LOGIN_SEQ + (g->tls[CLIENT] ? 1 : 0))
		return "the client's login is not numbered as MySQL's";
	if (p->len < 4 || (caps_of(p) & CAP_PROTOCOL_41) == 0 || (p->len <= SSL_REQUEST && (caps_of(p) & CAP_SSL) == 0))
		return "the client is from before MySQL 4.1, whose login has no place for TLS here: use a later client";
	if (p->len < SSL_REQUEST || (p->len == SSL_REQUEST && g->tls[CLIENT]))
		return "the client's login is cut short";
	if (!g->tls[CLIENT] && g->settings.client == CLIENT_PLAIN && (caps_of(p) & CAP_SSL) != 0)
		return "the client begins TLS, though none was offered (client.tls = off)";
	if (!g->tls[CLIENT] && p->len != SSL_REQUEST && (caps_of(p) & CAP_SSL) != 0)
		return "the client announces TLS, and goes on in the clear";
	return NULL;
}

static void
read_login(struct my_negotiation *g, const struct packet *p, struct negotiation_step *ret)
{
	const char *wrong = wrong_with(g, p);
	const uint8_t reply = (uint8_t)(p->seq + 1);

	promise(!g->has_login || (g->tls[BACKEND] && g->seq == p->seq));	/* read again inside TLS */
	g->seq = p->seq;
	if (wrong != NULL) {
		fail_telling(g, ret, CLIENT, reply, ER_HANDSHAKE_ERROR, wrong, wrong);
	} else if (p->len == SSL_REQUEST) {
		g->tls[CLIENT] = true;
		want(g, LOGIN, ret, NEGOTIATION_TLS, CLIENT);
	} else if (!g->tls[CLIENT] && g->settings.client == CLIENT_MUST_TLS) {
		fail_telling(g, ret, CLIENT, reply, ER_SECURE_TRANSPORT_REQUIRED,
		    "the client logs in without TLS, which client.tls = require demands",
		    "logins without TLS are refused by stent (client.tls = require): turn TLS on in the client");
	} else if (g->settings.backend && !g->tls[BACKEND]) {
		g->has_login = true;
		request_tls(g, p, ret);
	} else {
		g->has_login = true;
		pass_login(g, p, ret);
	}
}

/* --- packets --- */

/* TLS, as in other protocols. As a packet it would be longer than 64 KiB. */
static bool
is_hello(const uint8_t *p)
{
	return p[0] == 0x16 && p[1] == 0x03 && p[2] > 0 && p[2] <= 4;
}

/* `from` has closed before it has sent a packet whole. Without a byte it is the relay's to pass that on. */
static void
closed_early(struct my_negotiation *g, enum side from, size_t len, struct negotiation_step *ret)
{
	ret->why = from == CLIENT ? "the client closed in the middle of its login" : "the server closed in the middle of its greeting";
	want(g, DONE, ret, len == 0 ? NEGOTIATION_DONE : NEGOTIATION_FAILED, from);
}

static void
read_packet(struct my_negotiation *g, enum side from, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	struct packet p = { .payload = len >= MYSQL_HEAD ? buf + MYSQL_HEAD : NULL };

	if (len >= MYSQL_HEAD) {
		p.len = (size_t)buf[0] | (size_t)buf[1] << 8 | (size_t)buf[2] << 16;
		p.seq = buf[3];
	}
	if (from == CLIENT && len >= MYSQL_HEAD && is_hello(buf)) {
		fail(g, ret, CLIENT, "the client begins TLS with its first byte; MySQL begins it inside the login");
	} else if (p.len > NEGOTIATION_INPUT_MAX - MYSQL_HEAD) {
		ret->why = from == CLIENT ? "the client's login is not MySQL's: its length is above 32 KiB" :
		    "the server is not MySQL or MariaDB: its greeting's length is above 32 KiB";
		fail_telling(g, ret, from, from == CLIENT ? (uint8_t)(p.seq + 1) : 0, ER_HANDSHAKE_ERROR, ret->why, ret->why);
	} else if (len < MYSQL_HEAD || len - MYSQL_HEAD < p.len) {
		if (fin)
			closed_early(g, from, len, ret);
		else
			want(g, g->phase, ret, NEGOTIATION_READ, from);
	} else {
		ret->consumed = MYSQL_HEAD + p.len;
		if (from == BACKEND)
			pass_greeting(g, &p, ret);
		else
			read_login(g, &p, ret);
	}
}

/* --- the contract --- */

static void
my_begin(void *state, const struct negotiation_settings *settings)
{
	struct my_negotiation *g = state;
	const struct codec_settings none = { .heartbeats = { false, false } };

	g->settings = *settings;
	(void)codec_mysql.configure(&g->followed, &none);
}

static void
my_step(void *state, enum side from, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	struct my_negotiation *g = state;

	ret->consumed = 0;
	ret->why = NULL;
	switch (g->phase) {
	case START:
		want(g, CONNECTED, ret, NEGOTIATION_DIAL, BACKEND);
		break;
	case CONNECTED:
		want(g, GREETING, ret, NEGOTIATION_READ, BACKEND);
		break;
	case GREETING:
		read_packet(g, BACKEND, buf, len, fin, ret);
		break;
	case LOGIN:
		read_packet(g, CLIENT, buf, len, fin, ret);
		break;
	case DONE:
		want(g, DONE, ret, NEGOTIATION_DONE, CLIENT);
		break;
	}
	promise(ret->consumed <= len && (ret->want != NEGOTIATION_FAILED || ret->why != NULL));
	promise(ret->out[BACKEND]->n_spans == 0 || (from == CLIENT && g->phase >= LOGIN));
}

/* All but the settings, which the codec has got itself. */
static void
my_hand_over(const void *state, void *codec_state)
{
	const struct my_negotiation *g = state;
	struct mysql *to = codec_state, s = g->followed;

	promise(g->phase == DONE && s.pings_due == 0 && !s.holding && !s.swallowing);	/* no heartbeat was sent */
	s.heartbeat_in_transaction = to->heartbeat_in_transaction;
	s.while_busy = to->while_busy;
	s.oneway_is_chosen = to->oneway_is_chosen;
	s.ping_is_chosen = to->ping_is_chosen;
	*to = s;
}

/* In place of the greeting, or as the reply to the client's login. */
static size_t
my_refusal(const void *state, const char *why, uint8_t buf[NEGOTIATION_REFUSAL_MAX])
{
	const struct my_negotiation *g = state;
	const bool before_greeting = g->phase == START || g->phase == CONNECTED || g->phase == GREETING;
	char text[ERROR_MAX];

	if (!before_greeting && !g->has_login)
		return 0;
	(void)snprintf(text, sizeof(text), "stent has no connection to the server: %s", why);
	return mysql_error(buf, ERROR_MAX, before_greeting ? 0 : (uint8_t)(g->seq + 1), ER_HANDSHAKE_ERROR,
	    before_greeting ? NULL : "08S01", text);
}

const struct negotiation negotiation_mysql = {
	.state_size = sizeof(struct my_negotiation),
	.begin = my_begin,
	.step = my_step,
	.hand_over = my_hand_over,
	.refusal = my_refusal,
};
