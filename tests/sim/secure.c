/*
 * secure.c - ends of TLS.
 *
 * What OpenSSL writes is gathered in a memory BIO, and given to the kernel of
 * the world from there. Nothing further is encrypted while bytes wait in it, so
 * that a full socket holds up the application as it does without TLS.
 */
#include "secure.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "secure_contexts.h"

#define CHUNK 65536
#define RECORD 16384
#define ASK_LEN 8

enum stage { NEGOTIATES, SHAKES, OPEN, FAILED };
enum oddity { BEHAVES, STALLS, REFUSES, DAMAGES, CUTS, ENDS_AT_ONCE, ODDITIES };

struct secure {
	SSL *ssl;
	struct tcp *tcp;
	enum stage stage;
	enum oddity oddity;
	size_t after;		/* of an oddity: bytes, or records, before it */
	size_t record;		/* at most so many bytes of plain text in one */
	uint8_t asked[ASK_LEN];
	size_t n_asked;
	bool is_server, got_end, got_fin, said_end, is_spoilt;
};

/* PostgreSQL's SSLRequest. */
static const uint8_t ask[ASK_LEN] = { 0, 0, 0, 8, 4, 210, 22, 47 };

/* --- an end --- */

static int
refuse(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 0;
}

static int
refuse_as_server(SSL *ssl, void *arg)
{
	(void)ssl;
	(void)arg;
	return 0;
}

static void
draw_oddity(struct secure *s)
{
	s->oddity = rnd_chance(4000) ? (enum oddity)rnd_between(1, ODDITIES - 1) : BEHAVES;
	s->after = s->oddity == STALLS ? (size_t)rnd_below(300) : (size_t)rnd_scale(1, 30);
	if (s->oddity != REFUSES)
		return;
	s->is_spoilt = true;
	if (s->is_server)
		SSL_set_cert_cb(s->ssl, refuse_as_server, NULL);
	else
		SSL_set_verify(s->ssl, SSL_VERIFY_PEER, refuse);
}

struct secure *
secure_new(struct tcp *tcp, enum secrecy how, bool is_server, bool misbehaves)
{
	struct secure *s = calloc(1, sizeof(*s));
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	assert(s != NULL && in != NULL && out != NULL);
	s->ssl = secure_ssl_new(is_server);
	s->tcp = tcp;
	s->is_server = is_server;
	s->stage = how == SECURE_POSTGRES ? NEGOTIATES : SHAKES;
	s->record = rnd_chance(5000) ? RECORD : (size_t)rnd_scale(100, RECORD);
	(void)BIO_set_mem_eof_return(in, -1);
	SSL_set_bio(s->ssl, in, out);
	if (!is_server && s->stage == NEGOTIATES)
		(void)BIO_write(out, ask, ASK_LEN);
	if (misbehaves)
		draw_oddity(s);
	return s;
}

void
secure_free(struct secure *s)
{
	if (s == NULL)
		return;
	SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(s->ssl);
	ERR_clear_error();
	free(s);
}

/* --- to the kernel --- */

/* 0: all was taken; -EAGAIN; or another -errno. */
static long
put_out(struct secure *s)
{
	static uint8_t dropped[CHUNK];
	BIO *out = SSL_get_wbio(s->ssl);
	char *bytes;
	long len;

	while ((len = BIO_get_mem_data(out, &bytes)) > 0) {
		long n = len < CHUNK ? len : CHUNK;

		if (s->oddity == STALLS && s->stage < OPEN) {
			if ((size_t)n >= s->after) {
				n = (long)s->after;
				s->is_spoilt = true;
			}
			if (n == 0)
				return -EAGAIN;
		}
		n = tcp_send(s->tcp, bytes, (size_t)n, false);
		if (n < 0)
			return n;
		if (s->oddity == STALLS && s->stage < OPEN)
			s->after -= (size_t)n;
		(void)BIO_read(out, dropped, (int)n);
	}
	return 0;
}

/* Its TLS has failed: an alert of the program is told as a reset is; what else there may be is the program's fault. */
static long
fail(struct secure *s, const char *when)
{
	const unsigned long error = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(error);

	s->stage = FAILED;
	(void)put_out(s);
	story("TLS of a %s: %s: %s", s->is_server ? "server" : "client", when, reason != NULL ? reason : "failed");
	if (s->oddity != REFUSES && ERR_GET_REASON(error) < SSL_AD_REASON_OFFSET)
		wrong("exact", "the TLS of a %s fails %s: %s", s->is_server ? "server" : "client", when, reason != NULL ? reason : "no reason");
	ERR_clear_error();
	return -EPROTO;
}

static bool
wants_more(const struct secure *s, int r)
{
	return SSL_get_error(s->ssl, r) == SSL_ERROR_WANT_READ;
}

/* 0: it is open, and all is sent; else as put_out(), or -EPROTO. */
static long
progress(struct secure *s)
{
	long r = put_out(s);
	int done;

	if (r < 0 || s->stage == OPEN)
		return r;
	if (s->stage != SHAKES)
		return s->stage == FAILED ? -EPROTO : -EAGAIN;
	ERR_clear_error();
	done = SSL_do_handshake(s->ssl);
	if (done == 1)
		s->stage = OPEN;
	else if (!wants_more(s, done))
		return fail(s, "in its handshake");
	r = put_out(s);
	return r < 0 || done == 1 ? r : -EAGAIN;
}

void
secure_go_on(struct secure *s)
{
	(void)progress(s);
}

/* The last record that waits is damaged, or only half of it is sent. */
static bool
misbehave(struct secure *s)
{
	char *bytes;
	const long len = BIO_get_mem_data(SSL_get_wbio(s->ssl), &bytes);

	if ((s->oddity != DAMAGES && s->oddity != CUTS) || --s->after > 0 || len <= 0)
		return false;
	s->is_spoilt = true;
	story("a %s %s a record", s->is_server ? "server" : "client", s->oddity == CUTS ? "cuts off" : "damages");
	if (s->oddity == CUTS) {
		(void)tcp_send(s->tcp, bytes, (size_t)rnd_between(0, len - 1), false);
		return true;
	}
	bytes[rnd_between(5, len - 1)] ^= 1;
	s->oddity = BEHAVES;
	return false;
}

long
secure_send(struct secure *s, const void *data, size_t len)
{
	const long r = progress(s);
	int n;

	if (r < 0)
		return r;
	if (SSL_version(s->ssl) == TLS1_3_VERSION && rnd_chance(20))
		(void)SSL_key_update(s->ssl, rnd_chance(5000) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
	ERR_clear_error();
	n = SSL_write(s->ssl, data, (int)(len < s->record ? len : s->record));
	if (n <= 0)
		return fail(s, "as it writes");
	if (misbehave(s))
		return -ECONNABORTED;
	(void)put_out(s);
	return n;
}

bool
secure_finish(struct secure *s)
{
	if (s->stage < OPEN)
		return false;
	if (s->stage == OPEN && !s->said_end && s->oddity != ENDS_AT_ONCE) {
		(void)SSL_shutdown(s->ssl);
		s->said_end = true;
	}
	return put_out(s) != -EAGAIN;
}

/* --- from the kernel --- */

/* The bytes before TLS: 1: they have come, 0: the end, or -errno. */
static long
negotiate(struct secure *s)
{
	const size_t whole = s->is_server ? ASK_LEN : 1;

	while (s->n_asked < whole) {
		const long n = tcp_receive(s->tcp, s->asked + s->n_asked, whole - s->n_asked, false);

		if (n <= 0)
			return n;
		s->n_asked += (size_t)n;
	}
	if (memcmp(s->asked, s->is_server ? ask : (const uint8_t *)"S", whole) != 0)
		wrong("legal", "a %s that negotiates TLS hears something else", s->is_server ? "server" : "client");
	if (s->is_server)
		(void)BIO_write(SSL_get_wbio(s->ssl), "S", 1);
	s->stage = SHAKES;
	return 1;
}

/* What OpenSSL has of plain text; 0: the end; -EAGAIN: it needs more. */
static long
decrypted(struct secure *s, void *data, size_t len)
{
	int n;

	if (s->stage != OPEN)
		return progress(s) == -EPROTO ? -EPROTO : s->stage == OPEN ? decrypted(s, data, len) : -EAGAIN;
	ERR_clear_error();
	n = SSL_read(s->ssl, data, (int)len);
	if (n > 0)
		return n;
	if (SSL_get_error(s->ssl, n) == SSL_ERROR_ZERO_RETURN) {
		s->got_end = true;
		return 0;
	}
	return wants_more(s, n) ? -EAGAIN : fail(s, "as it reads");
}

long
secure_receive(struct secure *s, void *data, size_t len)
{
	static uint8_t bytes[CHUNK];
	long n;

	if (s->stage == NEGOTIATES && (n = negotiate(s)) <= 0)
		return n;
	while ((n = decrypted(s, data, len)) == -EAGAIN) {
		n = tcp_receive(s->tcp, bytes, len < CHUNK ? len : CHUNK, false);
		s->got_fin |= n == 0;
		if (n <= 0)
			return n;
		(void)BIO_write(SSL_get_rbio(s->ssl), bytes, (int)n);
	}
	(void)put_out(s);	/* a new key may have been asked for */
	return n;
}

/* --- what is known of it --- */

bool
secure_is_spoilt(const struct secure *s)
{
	return s->is_spoilt;
}

bool
secure_is_open(const struct secure *s)
{
	return s->stage == OPEN;
}

bool
secure_is_truncated(const struct secure *s)
{
	return s->stage == OPEN && s->got_fin && !s->got_end;
}
