/*
 * mysql_login.c - watches a login where stent has ended TLS on a leg.
 *
 * With TLS on one leg only, the client has sent one packet more or less than the
 * server has received, so until the end of the login packets are renumbered.
 *
 * Some methods send the password itself, in the clear where the client takes
 * its connection for secure (TLS, a UNIX socket), and the server expects what
 * suits its own: RSA where it has neither. Where the two differ, the server would
 * wait for what the client cannot send, or the password would cross a network in
 * the clear though the client sent it inside TLS. So the flow ends at the server's
 * request, by an error that says what to do. Changes of the user are watched too.
 */
#include <stdio.h>
#include <string.h>

#include "codec/mysql.h"
#include "stent/promise.h"

enum { AUTH_MORE = 0x01, AUTH_NEXT_FACTOR = 0x02, AUTH_SWITCH = 0xfe };
enum { FULL_AUTHENTICATION = 0x04 };	/* of caching_sha2_password, behind AUTH_MORE */

/* Those that never send the password itself, and two that have RSA for connections without TLS. */
static const struct {
	const char *name;
	enum mysql_method method;
} methods[] = {
	{ "mysql_native_password", METHOD_HASHED },
	{ "mysql_old_password", METHOD_HASHED },
	{ "client_ed25519", METHOD_HASHED },
	{ "parsec", METHOD_HASHED },
	{ "auth_gssapi_client", METHOD_HASHED },
	{ "authentication_kerberos_client", METHOD_HASHED },
	{ "authentication_ldap_sasl_client", METHOD_HASHED },
	{ "authentication_fido_client", METHOD_HASHED },
	{ "authentication_webauthn_client", METHOD_HASHED },
	{ "authentication_windows_client", METHOD_HASHED },
	{ "caching_sha2_password", METHOD_CACHING_SHA2 },
	{ "sha256_password", METHOD_SHA256 },
};

/* A longer name than fits is known by its beginning. */
enum mysql_method
mysql_method_of(const uint8_t *name, size_t len)
{
	const size_t fits = MYSQL_BODY_MAX - 1, n = len < fits ? len : fits;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		const size_t whole = strlen(methods[i].name);

		if (n == (whole < fits ? whole : fits) && memcmp(name, methods[i].name, n) == 0)
			return methods[i].method;
	}
	return METHOD_CLEAR;
}

/* By method, and whose connection has no TLS: the client's, the server's. At most 400 bytes. */
#define REFUSED "this login was refused by stent: "
#define WANTED "the server wants the password itself (caching_sha2_password), which "
#define RSA_FAILS "works with TLS on both sides of stent or on none. "
#define CLIENT_CURE "Connect with TLS (client.tls of the route) or by a UNIX socket"
#define SERVER_CURE "Set backend.tls of the route, or a UNIX socket as its backend"
#define CACHE_CURE "; or log in to the server directly once, which fills its cache"

const char *
mysql_method_refused(enum mysql_method method, unsigned guards)
{
	switch (method) {
	case METHOD_CACHING_SHA2:
		if ((guards & GUARD_CLIENT_PLAIN) != 0)
			return REFUSED WANTED RSA_FAILS CLIENT_CURE CACHE_CURE;
		return (guards & GUARD_SERVER_PLAIN) != 0 ? REFUSED WANTED RSA_FAILS SERVER_CURE CACHE_CURE : NULL;
	case METHOD_SHA256:
		if ((guards & GUARD_CLIENT_PLAIN) != 0)
			return REFUSED "sha256_password " RSA_FAILS CLIENT_CURE;
		return (guards & GUARD_SERVER_PLAIN) != 0 ? REFUSED "sha256_password " RSA_FAILS SERVER_CURE : NULL;
	case METHOD_CLEAR:
		return (guards & GUARD_CLEAR) == 0 ? NULL : REFUSED "its method may send the password in the clear, and stent's "
		    "connection to the server has no TLS. " SERVER_CURE;
	case METHOD_HASHED:
		break;
	}
	return NULL;
}

void
mysql_login_begins(struct mysql *s)
{
	s->watched = s->guards != 0 || s->shift != 0;
}

void
mysql_login_packet_ended(struct mysql *s)
{
	promise(s->watched);
	if (s->auth)
		return;
	s->watched = false;
	s->shift = 0;
}

/* Why what the server asks for by this packet cannot or must not pass; NULL: it passes. */
static const char *
why_not(struct mysql *s)
{
	const uint8_t *name = s->body + 1, *nul;
	const uint8_t first = s->body[0];

	promise_or(s->watched && s->body_got <= MYSQL_BODY_MAX && s->holding, NULL);
	if (s->body_got == 0 || s->packet[BACKEND].continued)
		return NULL;
	if (first == AUTH_MORE && s->body_len == 2 && s->body[1] == FULL_AUTHENTICATION)
		return s->method == METHOD_CACHING_SHA2 ? mysql_method_refused(METHOD_CACHING_SHA2, s->guards) : NULL;
	if ((first != AUTH_SWITCH && first != AUTH_NEXT_FACTOR) || s->body_got == 1)
		return NULL;		/* the switch without a name is that to the method before MySQL 4.1 */
	nul = memchr(name, '\0', s->body_got - 1u);
	s->method = (uint8_t)mysql_method_of(name, nul != NULL ? (size_t)(nul - name) : s->body_got - 1u);
	return s->method == METHOD_CACHING_SHA2 ? NULL : mysql_method_refused((enum mysql_method)s->method, s->guards);
}

bool
mysql_login_refuses(struct mysql *s, struct codec_out *out)
{
	const char *why = why_not(s);

	promise(!s->cut_off);
	if (why == NULL)
		return false;
	promise(s->guards != 0);	/* without a leg that differs every method works */
	out->ends = out->note = why;
	out->ends_on = (s->guards & GUARD_CLIENT_PLAIN) != 0 ? CLIENT : BACKEND;
	s->cut_off = s->ended = true;
	return true;
}

size_t
mysql_login_error(const struct mysql *s, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	const uint8_t seq = (uint8_t)(s->packet[BACKEND].head[3] + s->shift);
	const char *why = mysql_method_refused((enum mysql_method)s->method, s->guards);

	promise_or(s->cut_off && why != NULL, 0);
	return mysql_error(buf, CODEC_CLOSE_MESSAGE_MAX, seq, ER_SECURE_TRANSPORT_REQUIRED, "HY000", why);
}

size_t
mysql_error(uint8_t *buf, size_t room, uint8_t seq, unsigned number, const char *state, const char *text)
{
	const int n = snprintf((char *)buf + MYSQL_HEAD, room - MYSQL_HEAD, "\xff%c%c%s%s%s", (int)(number & 0xff), (int)(number >> 8),
	    state != NULL ? "#" : "", state != NULL ? state : "", text);
	const size_t len = n < 0 ? 0 : (size_t)n < room - MYSQL_HEAD ? (size_t)n : room - MYSQL_HEAD - 1;

	promise_or(len <= UINT16_MAX && len + MYSQL_HEAD <= room, 0);
	buf[0] = (uint8_t)len;
	buf[1] = (uint8_t)(len >> 8);
	buf[2] = 0;
	buf[3] = seq;
	return len + MYSQL_HEAD;
}
