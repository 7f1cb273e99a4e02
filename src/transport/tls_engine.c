/*
 * tls_engine.c - OpenSSL on the descriptor of a leg.
 *
 * OpenSSL reads and writes through a BIO of ours, and that through a buffer
 * that all legs of a thread share: a wake-up costs one recv(), however many
 * records came, and what is written goes out with one send(). After a call the
 * shared buffer is empty again: what was not decrypted yet (`rest`), or not
 * taken by the socket (`unsent`), is copied to memory of the leg. An idle leg
 * has neither.
 *
 * A short recv() means that the socket is empty, as in relay/pump.c. OpenSSL
 * is never shown the end of the stream: it would take it for an error after
 * which it does not write, and a half-closed stream must still be written to.
 */
#include "transport/tls_engine.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/tls_bio.h"
#include "transport/tls_context.h"
#include "transport/tls_takeover.h"
#include "stent/transport.h"

#define RECORD_MAX SSL3_RT_MAX_PLAIN_LENGTH
#define WRITE_MAX (64 * 1024)		/* of plain text in one send() */

_Static_assert(WRITE_MAX % RECORD_MAX == 0, "bulk goes out in full records");

/* --- what is true of a leg --- */

void
tls_violated(struct tls *t, const char *condition, const char *file, int line)
{
	char *what;

	if (t->broken)
		return;		/* the first is the cause */
	t->broken = t->failed = true;
	t->write_error = EPROTO;
	if (asprintf(&what, "%s:%d: %s", file, line, condition) < 0)
		return;
	free(t->cause);
	t->cause = what;
}

static void
check_bytes(struct tls *t, const struct tls_bytes *b, size_t max)
{
	tls_require(t, b->at <= b->end && b->end - b->at <= max, );
	tls_require(t, b->data != NULL || b->end == 0, );
}

void
tls_check(struct tls *t)
{
	tls_require(t, (t->ssl == NULL) == (t->records != NULL), );	/* either OpenSSL has the keys, or we */
	tls_require(t, t->records == NULL || t->established, );
	tls_require(t, t->watch == NULL || t->ssl != NULL, );
	tls_require(t, !t->shut || t->established, );
	tls_require(t, t->n_first <= sizeof(t->first), );
	tls_require(t, !t->reported || t->ended || t->failed || t->fin || t->read_error != 0, );
	check_bytes(t, &t->unsent, TLS_UNSENT_MAX);
	check_bytes(t, &t->rest, TLS_REST_MAX);
	check_bytes(t, &t->over, RECORD_MAX);
	check_bytes(t, &t->plain, UINT32_MAX);
}

/* --- calls of OpenSSL --- */

/* Takes what a call of OpenSSL returned: true to go on, else the leg says why not. */
static bool
succeeded(struct tls *t, int r)
{
	if (r == 1)
		return true;
	tls_require(t, t->ssl != NULL && !t->failed, false);	/* after a failure it may not be called */
	switch (SSL_get_error(t->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		break;
	case SSL_ERROR_ZERO_RETURN:
		t->ended = true;
		break;
	default:
		t->failed = true;
		tls_cause_of_failure(t);
	}
	return false;
}

/* --- the handshake --- */

static int
set_name(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	uint8_t ip[sizeof(struct in6_addr)];

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	/* An address is no SNI: RFC 6066, section 3. OpenSSL, asked whether it is one, says no if it has no memory. */
	if (inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1 ? 0 : -ENOMEM;
	return SSL_set_tlsext_host_name(ssl, name) == 1 && X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 ? 0 : -ENOMEM;
}

/* A session from an earlier connection to this name. */
static void
offer_session(struct tls *t)
{
	SSL_SESSION *session = tls_sessions_take(t->context->sessions, t->name);

	if (session == NULL)
		return;
	(void)SSL_set_session(t->ssl, session);
	SSL_SESSION_free(session);
}

static int
start_client(struct tls *t, const char *name)
{
	SSL_set_connect_state(t->ssl);
	if (name != NULL) {
		size_t len = strlen(name);

		if (len > 1 && name[len - 1] == '.')
			len--;		/* the root's dot is in no certificate */
		t->name = strndup(name, len);
		if (t->name == NULL || set_name(t->ssl, t->name) != 0)
			return -ENOMEM;
	}
	offer_session(t);
	return 0;
}

int
tls_start(struct tls **ret, int fd, struct tls_context *context, const char *name)
{
	struct tls *t = calloc(1, sizeof(*t));
	int r = -ENOMEM;

	if (t == NULL)
		return r;
	t->fd = fd;
	t->context = tls_context_hold(context);
	t->ssl = SSL_new(context->ssl);
	if (t->ssl == NULL || SSL_set_app_data(t->ssl, t) != 1 || tls_bio_attach(t) != 0 || tls_watch_begin(t) != 0)
		goto fail;
	if (context->is_server)
		SSL_set_accept_state(t->ssl);
	else if (start_client(t, name) != 0)
		goto fail;
	ERR_clear_error();
	*ret = t;
	return 0;
fail:
	tls_free(t, false);
	return r;
}

/* The handshake waits for bytes: unless none will come. */
static int
handshake_waits(struct tls *t)
{
	tls_require(t, !t->established && t->records == NULL, -EPROTO);
	if (t->read_error != 0 || t->fin) {
		t->failed = true;
		tls_cause_of_end(t, t->read_error);
		return t->read_error != 0 ? -t->read_error : -EPROTO;
	}
	return t->write_error != 0 ? -t->write_error : -EAGAIN;
}

int
tls_handshake(struct tls *t, struct transport_client *client)
{
	const int r = tls_bytes_len(&t->unsent) > 0 ? tls_flush(t) : 0;

	if (t->failed)
		return -EPROTO;
	if (t->established)
		return r;
	tls_require(t, t->ssl != NULL && !t->shut, -EPROTO);
	tls_bio_enter(t);
	tls_bio_read_all();
	tls_watch_handshake(t);
	t->established = succeeded(t, SSL_do_handshake(t->ssl));
	tls_bio_leave(t);
	t->more = true;		/* there may be bytes, or a FIN, whose edge this call has used up */
	if (t->established && client != NULL)
		tls_note_client(t->ssl, client);
	if (t->established)
		tls_watch_established(t);
	if (t->failed)
		return -EPROTO;
	if (!t->established)
		return handshake_waits(t);
	if (t->write_error != 0)
		return -t->write_error;
	return tls_bytes_len(&t->unsent) > 0 ? -EAGAIN : 0;
}

/* --- reading --- */

/* Why there is nothing to read. */
static ssize_t
nothing(struct tls *t)
{
	if (!t->ended && !t->failed && t->read_error == 0 && !t->fin)
		return -EAGAIN;
	t->reported = true;
	if (t->ended)
		return 0;
	if (t->failed && t->read_error != ENOMEM)
		return -EPROTO;
	return -t->read_error;	/* 0: a FIN */
}

static ssize_t
decrypt(struct tls *t, uint8_t *buf, size_t len)
{
	size_t got = 0, n;

	tls_require(t, t->established && len > 0, -EPROTO);	/* 0 bytes would be taken for the end */
	if ((t->ended || t->failed) && tls_bytes_len(&t->over) == 0)
		return nothing(t);
	if (t->records != NULL) {
		got = tls_stream_read(t, buf, len);
		tls_require(t, got <= len, -EPROTO);
		return got > 0 ? (ssize_t)got : nothing(t);
	}
	tls_bio_enter(t);
	while (got < len && succeeded(t, SSL_read_ex(t->ssl, buf + got, len - got, &n))) {
		got += n;
		tls_require_go_on(t, got <= len);
		tls_bio_got_some();
	}
	tls_bio_leave(t);
	(void)SSL_free_buffers(t->ssl);	/* a ticket makes OpenSSL allocate one for writing that it does not release */
	if (got > 0)
		tls_watch_read(t);
	return got > 0 ? (ssize_t)got : nothing(t);
}

ssize_t
tls_read(struct tls *t, void *buf, size_t len)
{
	const size_t had = tls_bytes_len(&t->plain);

	if (had == 0)
		return decrypt(t, buf, len);
	if (len > had)
		len = had;
	memcpy(buf, t->plain.data + t->plain.at, len);
	tls_bytes_consume(&t->plain, len);
	t->more |= len == had;	/* what came since then: its edge may be used up by this call, which has not asked the socket */
	return (ssize_t)len;
}

ssize_t
tls_peek(struct tls *t, void *buf, size_t len)
{
	size_t had = tls_bytes_len(&t->plain);

	while (had < len) {
		ssize_t n;

		if (!tls_bytes_reserve(&t->plain, len - had))
			return -ENOMEM;
		n = decrypt(t, t->plain.data + t->plain.end, len - had);
		if (n <= 0) {
			t->reported = t->reported && had == 0;
			if (had == 0) {
				tls_bytes_free(&t->plain);
				return n;
			}
			break;
		}
		tls_require(t, (size_t)n <= len - had, -EPROTO);
		t->plain.end += (uint32_t)n;
		had = tls_bytes_len(&t->plain);
	}
	if (len > had)
		len = had;
	memcpy(buf, t->plain.data + t->plain.at, len);
	return (ssize_t)len;
}

/*
 * What was received is more than the part of a record. Records: the rest of that comes by an edge of its own, and a flow
 * that took it for pending would look for it for ever. OpenSSL takes parts, too.
 */
static bool
rest_is_pending(const struct tls *t)
{
	const size_t len = tls_bytes_len(&t->rest);
	const uint8_t *header;

	if (t->records == NULL || len < TLS_RECORD_HEADER)
		return t->records == NULL && len > 0;
	header = t->rest.data + t->rest.at;
	return len >= TLS_RECORD_HEADER + ((size_t)header[3] << 8 | header[4]);
}

bool
tls_is_pending(const struct tls *t)
{
	if (tls_bytes_len(&t->plain) > 0)
		return true;
	if (t->reported)
		return false;
	return rest_is_pending(t) || tls_bytes_len(&t->over) > 0 || t->more || t->ended || t->failed || t->fin ||
	    t->read_error != 0 || (t->ssl != NULL && SSL_pending(t->ssl) > 0);
}

size_t
tls_unread(const struct tls *t)
{
	return tls_bytes_len(&t->plain) + tls_bytes_len(&t->over) + tls_bytes_len(&t->rest) +
	    (t->failed || t->ssl == NULL ? 0 : (size_t)SSL_pending(t->ssl));
}

/* --- writing --- */

/* The next piece, at most len bytes: where it lies, or, of several spans, copied together as one record. */
static const uint8_t *
next_piece(struct tls_spans *s, uint8_t *room, size_t *len)
{
	const size_t max = *len;

	*len = 0;
	while (s->n > 0 && *len < max) {
		assert(s->at <= s->v->iov_len);
		const uint8_t *from = (const uint8_t *)s->v->iov_base + s->at;
		const size_t left = s->v->iov_len - s->at, n = left < max - *len ? left : max - *len;

		if (*len == 0 && (n == max || s->n == 1))
			room = NULL;
		if (room != NULL && n > 0)
			memcpy(room + *len, from, n);
		*len += n;
		s->at += n;
		if (s->at == s->v->iov_len) {
			s->v++;
			s->n--;
			s->at = 0;
		}
		if (room == NULL)
			return from;
	}
	return room;
}

static size_t
encrypt(struct tls *t, struct tls_spans *s)
{
	size_t total = 0;

	while (s->n > 0 && total < WRITE_MAX && t->write_error == 0) {
		size_t len = RECORD_MAX, n = 0;
		const uint8_t *piece = next_piece(s, tls_bio_room(), &len);

		if (len > 0 && !succeeded(t, SSL_write_ex(t->ssl, piece, len, &n)))
			break;	/* the BIO takes all: it has failed */
		tls_require(t, len == 0 || n == len, total);	/* a part of a piece could not be continued */
		total += len;
	}
	return total;
}

ssize_t
tls_write(struct tls *t, const struct iovec *v, size_t n)
{
	struct tls_spans s = { .v = v, .n = n };
	size_t total = 0;
	int r;

	tls_require(t, t->established && !t->shut, -EPROTO);	/* nothing follows a close_notify */
	r = tls_bytes_len(&t->unsent) > 0 ? tls_flush(t) : 0;
	if (r == 0 && t->failed)
		r = -EPROTO;
	if (r != 0)
		return r;
	do {	/* a part only is taken when the socket is full: an edge follows */
		tls_bio_enter(t);
		total += t->records != NULL ? tls_stream_write(t, &s, WRITE_MAX) : encrypt(t, &s);
		tls_bio_leave(t);
	} while (s.n > 0 && !t->failed && t->write_error == 0 && tls_bytes_len(&t->unsent) == 0);
	if (t->write_error != 0)
		return -t->write_error;
	return t->failed ? -EPROTO : (ssize_t)total;
}

/* The FIN that was put off until all is sent. */
static int
send_fin(struct tls *t)
{
	tls_require(t, tls_bytes_len(&t->unsent) == 0, -EPROTO);	/* it follows the last byte */
	t->fin_wanted = false;
	return shutdown(t->fd, SHUT_WR) == 0 ? 0 : -errno;
}

int
tls_flush(struct tls *t)
{
	const int r = tls_bio_flush(t);

	return r == 0 && t->fin_wanted ? send_fin(t) : r;
}

static void
send_close_notify(struct tls *t)
{
	if (!t->established || t->failed || t->shut || t->write_error != 0)
		return;
	tls_bio_enter(t);
	if (t->records != NULL)
		tls_stream_close_notify(t);
	else
		(void)SSL_shutdown(t->ssl);	/* 0: the peer's has not come; that is read like any byte */
	tls_bio_leave(t);
	t->shut = true;
}

int
tls_shutdown(struct tls *t)
{
	send_close_notify(t);
	if (t->write_error != 0)	/* a FIN would stand where the close_notify, or bytes before it, could not be kept */
		return -t->write_error;
	t->fin_wanted = true;
	return tls_bytes_len(&t->unsent) > 0 ? 0 : send_fin(t);
}

/* --- the end --- */

bool
tls_must_reset(const struct tls *t)
{
	return t->write_error != 0 || (t->failed && !t->alerted && t->kind == TLS_CAUSE_MEMORY);
}

void
tls_free(struct tls *t, bool is_orderly)
{
	if (is_orderly)
		send_close_notify(t);
	if (is_orderly && t->failed)
		tls_bio_discard_input(t);
	/* Else OpenSSL would forget the session: one whose connection broke is just what a reconnect wants to resume. */
	if (t->ssl != NULL && !t->failed)
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(t->ssl);
	tls_watch_end(t);
	tls_records_free(t->records);
	X509_free(t->peer);
	ERR_clear_error();
	tls_context_release(t->context);
	tls_bytes_free(&t->unsent);
	tls_bytes_free(&t->rest);
	tls_bytes_free(&t->over);
	tls_bytes_free(&t->plain);
	free(t->name);
	free(t->cause);
	free(t);
}

bool
tls_same_certificate(const struct tls *ours, const struct tls *peers)
{
	const X509 *a = SSL_CTX_get0_certificate(ours->context->ssl);
	const X509 *b = peers->ssl != NULL ? SSL_get0_peer_certificate(peers->ssl) : peers->peer;

	return a != NULL && b != NULL && X509_cmp(a, b) == 0;
}

void
tls_facts(const struct tls *t, struct transport_tls *ret)
{
	if (t->ssl == NULL)
		*ret = (struct transport_tls){ t->version, t->cipher, t->resumed };
	else
		*ret = (struct transport_tls){ SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl), SSL_session_reused(t->ssl) == 1 };
}
