/*
 * tls_takeover.c - an SSL is given up when its handshake is done.
 *
 * OpenSSL's SSL is 14 KB of memory, and copies each byte twice. So the keys and
 * the numbers of the next records are taken from it, and it is freed. A client
 * of TLS 1.3 keeps it until the first bytes were read, as the session tickets
 * come before them, and only OpenSSL can make sessions of those. It also stays
 * when the cipher is none of tls_record.h, or the keys were changed before.
 *
 * The number of the next record: in TLS 1.2 one record, the Finished message,
 * went each way under the keys. In 1.3 the keys are new after the handshake,
 * except for the server's tickets, which are all it writes in the call that
 * ends the handshake.
 */
#include "transport/tls_takeover.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tls_bio.h"
#include "transport/tls_context.h"

/*
 * Records without a byte of the application (empty ones, alerts, key updates, tickets) that are borne one after the other in
 * one call. As many empty ones OpenSSL bears; without a limit a peer that sends them without a pause would be all that a
 * thread works for.
 */
#define EMPTY_MAX 32

/* --- what is watched --- */

int
tls_watch_begin(struct tls *t)
{
	t->watch = calloc(1, sizeof(*t->watch));
	if (t->watch == NULL)
		return -ENOMEM;
	t->watch->from.is_server = t->context->is_server;
	return 0;
}

void
tls_watch_end(struct tls *t)
{
	if (t->watch != NULL)
		OPENSSL_cleanse(t->watch, sizeof(*t->watch));
	free(t->watch);
	t->watch = NULL;
}

/* A line of the key log: "NAME CLIENT_RANDOM SECRET", in hexadecimal digits. */
static void
on_secret(const SSL *ssl, const char *line)
{
	static const char *const names[2] = { "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 " };
	const struct tls *t = SSL_get_app_data(ssl);
	const char *hex = strrchr(line, ' ');

	for (int i = 0; i < 2 && hex != NULL && t->watch != NULL; i++) {
		const int way = (i == 0) == t->context->is_server ? TLS_IN : TLS_OUT;

		if (strncmp(line, names[i], strlen(names[i])) == 0 && OPENSSL_hexstr2buf_ex(t->watch->from.secret[way], TLS_SECRET_MAX,
		    &t->watch->from.secret_len[way], hex + 1, '\0') != 1)
			t->watch->keeps = true;
	}
}

static void
on_message(int is_written, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
	struct tls *t = SSL_get_app_data(ssl);

	(void)version;
	(void)arg;
	if (type == SSL3_RT_HANDSHAKE && len > 0 && *(const uint8_t *)data == SSL3_MT_KEY_UPDATE && t->watch != NULL)
		t->watch->keeps = true;
	t->alerted |= is_written && type == SSL3_RT_ALERT && len == 2 && *(const uint8_t *)data == SSL3_AL_FATAL;
}

void
tls_watch_context(SSL_CTX *ssl)
{
	SSL_CTX_set_keylog_callback(ssl, on_secret);
	SSL_CTX_set_msg_callback(ssl, on_message);
}

void
tls_watch_bytes(struct tls *t, int way, const uint8_t *data, size_t len)
{
	struct tls_walk *w = t->watch != NULL ? &t->watch->walk[way] : NULL;

	tls_require(t, w == NULL || w->have <= TLS_RECORD_HEADER, );
	while (w != NULL && len > 0) {
		size_t n = 1;

		if (w->have < TLS_RECORD_HEADER) {
			w->header[w->have++] = *data;
			w->left = (uint32_t)w->header[3] << 8 | w->header[4];
		} else {
			n = len < w->left ? len : w->left;
			w->left -= (uint32_t)n;
		}
		if (w->have == TLS_RECORD_HEADER && w->left == 0) {
			w->count++;
			*w = (struct tls_walk){ .count = w->count };
		}
		data += n;
		len -= n;
	}
}

/* --- taking over --- */

static bool
is_between_records(const struct tls_walk *w)
{
	return w->have == 0;
}

static void
take_over(struct tls *t)
{
	struct tls_watch *w = t->watch;

	tls_require(t, w != NULL && t->established && t->records == NULL, );
	if (w->keeps || !is_between_records(&w->walk[TLS_IN]) || !is_between_records(&w->walk[TLS_OUT]) || SSL_has_pending(t->ssl) ||
	    t->ended || t->failed || t->shut)
		return;
	for (int way = TLS_IN; way <= TLS_OUT; way++)
		w->from.seq[way] = w->walk[way].count;
	t->records = tls_records_new(t->ssl, &w->from);
	if (t->records == NULL) {
		w->keeps = true;
		return;
	}
	t->version = SSL_get_version(t->ssl);
	t->cipher = SSL_get_cipher_name(t->ssl);
	t->resumed = SSL_session_reused(t->ssl) == 1;
	if (!t->context->is_server)
		t->peer = SSL_get1_peer_certificate(t->ssl);
	SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);	/* see tls_free() */
	SSL_free(t->ssl);
	t->ssl = NULL;
	tls_watch_end(t);
	tls_check(t);
}

void
tls_watch_handshake(struct tls *t)
{
	tls_require(t, t->watch != NULL && !t->established, );
	t->watch->walk[TLS_OUT].count = 0;
}

void
tls_watch_established(struct tls *t)
{
	const bool is_13 = SSL_version(t->ssl) == TLS1_3_VERSION;
	struct tls_walk *w = t->watch->walk;

	w[TLS_IN].count = is_13 ? 0 : 1;
	if (!is_13 || !t->context->is_server)
		w[TLS_OUT].count = is_13 ? 0 : 1;
	if (!is_13 || t->context->is_server)
		take_over(t);
}

void
tls_watch_read(struct tls *t)
{
	take_over(t);
}

/* --- after that --- */

/* Where the plain text of a record of `size` bytes at `to` begins, which is encrypted in its place. */
static uint8_t *
text_of(const struct tls *t, uint8_t *to, size_t size, size_t len)
{
	const size_t behind = 16 + (t->records->is_13 ? 1 : 0);

	assert(size >= TLS_RECORD_HEADER + len + behind);
	return to + size - len - behind;
}

/* All of its plain text is in the record, which its header has said the length of. */
static bool
is_filled(const struct tls *t, const uint8_t *to, size_t size, const uint8_t *at)
{
	return at == to + size - 16 - (t->records->is_13 ? 1 : 0);
}

static void
send_record(struct tls *t, uint8_t type, const uint8_t *data, size_t len)
{
	const size_t size = tls_records_size(t->records, len);
	uint8_t *to = tls_bio_output(t, size), *at = text_of(t, to, size, len);

	bool ok;

	tls_require(t, size <= len + TLS_RECORD_EXTRA, );
	ok = tls_records_begin(t->records, type, len, to) && tls_records_add(t->records, data, len, &at);
	tls_require(t, !ok || is_filled(t, to, size, at), );
	if (ok && tls_records_end(t->records, type, at))
		tls_bio_output_add(size);
	else
		t->failed = true;
}

static void
fail(struct tls *t, uint8_t alert, const char *words)
{
	send_record(t, SSL3_RT_ALERT, (uint8_t[]){ SSL3_AL_FATAL, alert }, 2);
	t->alerted = !t->failed;
	t->failed = true;
	tls_cause_of_violation(t, words);
}

void
tls_stream_close_notify(struct tls *t)
{
	send_record(t, SSL3_RT_ALERT, (uint8_t[]){ SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY }, 2);
}

static void
on_alert(struct tls *t, const uint8_t *data, size_t len)
{
	if (len != 2) {
		fail(t, SSL_AD_DECODE_ERROR, "an alert of a wrong length");
	} else if (data[1] == SSL_AD_CLOSE_NOTIFY) {
		t->ended = true;
	} else if (data[1] != SSL_AD_USER_CANCELLED && (t->records->is_13 || data[0] == SSL3_AL_FATAL)) {
		t->failed = true;
		tls_cause_of_alert(t, data[1]);
	}
}

/* Tells the peer that the next record has new keys. */
static void
renew_keys(struct tls *t)
{
	static const uint8_t update[] = { SSL3_MT_KEY_UPDATE, 0, 0, 1, 0 };

	send_record(t, SSL3_RT_HANDSHAKE, update, sizeof(update));
	if (!tls_records_update(t->records, TLS_OUT))
		t->failed = true;
}

static void
on_key_update(struct tls *t, uint8_t is_requested)
{
	if (is_requested > 1) {
		fail(t, SSL_AD_ILLEGAL_PARAMETER, "a wrong key update");
		return;
	}
	if (!tls_records_update(t->records, TLS_IN))
		t->failed = true;
	if (is_requested == 0 || t->failed || t->shut)	/* nothing is written behind a close_notify: its FIN may be gone */
		return;
	renew_keys(t);
}

/* Messages of TLS 1.3 after the handshake: tickets are not used any more. A message may be cut over records. */
static void
on_message_bytes(struct tls *t, const uint8_t *data, size_t len)
{
	struct tls_records *r = t->records;

	tls_require(t, r->is_13 && r->n_message <= sizeof(r->message), );
	while (len > 0 && !t->failed) {
		size_t n;

		if (r->n_message < sizeof(r->message)) {
			r->message[r->n_message++] = *data++;
			len--;
			r->message_left = (uint32_t)r->message[1] << 16 | (uint32_t)r->message[2] << 8 | r->message[3];
			if (r->n_message < sizeof(r->message))
				continue;
			if (r->message[0] == SSL3_MT_KEY_UPDATE ? r->message_left != 1 :
			    r->message[0] != SSL3_MT_NEWSESSION_TICKET || t->context->is_server) {
				fail(t, SSL_AD_UNEXPECTED_MESSAGE, "an unexpected message of the handshake");
				return;
			}
		}
		n = len < r->message_left ? len : r->message_left;
		r->message_left -= (uint32_t)n;
		if (r->message_left == 0) {
			r->n_message = 0;
			if (r->message[0] == SSL3_MT_KEY_UPDATE && len > 1)	/* RFC 8446, section 5.1: it ends its record */
				fail(t, SSL_AD_UNEXPECTED_MESSAGE, "bytes behind a key update");
			else if (r->message[0] == SSL3_MT_KEY_UPDATE && n > 0)
				on_key_update(t, *data);
		}
		data += n;
		len -= n;
	}
}

/* What is not plain text. */
static void
on_other(struct tls *t, uint8_t type, const uint8_t *data, size_t len)
{
	if (type == SSL3_RT_ALERT)
		on_alert(t, data, len);
	else if (type == SSL3_RT_HANDSHAKE && t->records->is_13 && len > 0)
		on_message_bytes(t, data, len);
	else if (type == SSL3_RT_HANDSHAKE && !t->records->is_13)	/* renegotiation */
		send_record(t, SSL3_RT_ALERT, (uint8_t[]){ SSL3_AL_WARNING, SSL_AD_NO_RENEGOTIATION }, 2);
	else
		fail(t, SSL_AD_UNEXPECTED_MESSAGE, "an unexpected record");
}

/* The next record, whole: its header, and the length of what is behind it. NULL: it has not come, or is none. */
static const uint8_t *
next_record(struct tls *t, size_t *len)
{
	size_t have;
	const uint8_t *record = tls_bio_input(t, TLS_RECORD_HEADER, &have);

	if (have < TLS_RECORD_HEADER)
		return NULL;
	*len = (size_t)record[3] << 8 | record[4];
	if (record[1] != 3 || record[2] != 3 || (t->records->is_13 && record[0] != SSL3_RT_APPLICATION_DATA)) {
		fail(t, SSL_AD_UNEXPECTED_MESSAGE, "a record that is not encrypted, or no record");
		return NULL;
	}
	if (*len > TLS_RECORD_MAX) {
		fail(t, SSL_AD_RECORD_OVERFLOW, "a record that is too long");
		return NULL;
	}
	record = tls_bio_input(t, TLS_RECORD_HEADER + *len, &have);
	return have < TLS_RECORD_HEADER + *len ? NULL : record;
}

/* Opens the next record into buf, or, where that is too small, through room that the thread has. */
static size_t
read_record(struct tls *t, const uint8_t *record, size_t body, uint8_t *buf, size_t len)
{
	uint8_t *to = body <= len ? buf : tls_bio_room(), type;
	const ssize_t n = tls_records_open(t->records, record, body, to, &type);

	tls_require(t, n <= (ssize_t)body, 0);		/* plain text is shorter than its record */
	tls_require(t, tls_bytes_len(&t->over) == 0, 0);	/* what was left of the one before was read first */
	tls_bio_consume(TLS_RECORD_HEADER + body);
	if (n < 0) {
		fail(t, n == -EMSGSIZE ? SSL_AD_RECORD_OVERFLOW : SSL_AD_BAD_RECORD_MAC, n == -EMSGSIZE ?
		    "a record that is too long" : "a record that was damaged on the way");
		return 0;
	}
	if (type != SSL3_RT_APPLICATION_DATA || t->records->n_message > 0) {
		on_other(t, type == SSL3_RT_APPLICATION_DATA ? 0 : type, to, (size_t)n);
		return 0;
	}
	if (to == buf || (size_t)n <= len) {
		if (to != buf)
			memcpy(buf, to, (size_t)n);
		return (size_t)n;
	}
	tls_require(t, (size_t)n > len, 0);
	memcpy(buf, to, len);
	if (!tls_bytes_add(&t->over, to + len, (size_t)n - len)) {
		t->read_error = ENOMEM;
		t->failed = true;		/* nothing that follows is read: a part is missing */
	}
	return len;
}

size_t
tls_stream_read(struct tls *t, uint8_t *buf, size_t len)
{
	size_t got = tls_bytes_len(&t->over), body;
	unsigned empty = 0;
	const uint8_t *record;

	if (got > 0) {
		if (got > len)
			got = len;
		memcpy(buf, t->over.data + t->over.at, got);
		tls_bytes_consume(&t->over, got);
		if (got == len)
			return got;
	}
	tls_bio_enter(t);
	while (got < len && !t->failed && !t->ended && (record = next_record(t, &body)) != NULL) {
		const size_t n = read_record(t, record, body, buf + got, len - got);

		got += n;
		tls_require_go_on(t, got <= len);
		empty = n > 0 ? 0 : empty + 1;
		if (n > 0)
			tls_bio_got_some();
		else if (empty > EMPTY_MAX && !t->failed && !t->ended)
			fail(t, SSL_AD_UNEXPECTED_MESSAGE, "too many records without a byte of the application");
	}
	tls_bio_leave(t);
	return got;
}

/* One record of the next bytes. */
static size_t
write_record(struct tls *t, struct tls_spans *s, size_t len)
{
	const size_t size = tls_records_size(t->records, len);
	uint8_t *to = tls_bio_output(t, size), *at = text_of(t, to, size, len);
	bool ok;

	tls_require(t, len > 0 && len <= t->records->plain_max, 0);
	ok = tls_records_begin(t->records, SSL3_RT_APPLICATION_DATA, len, to);

	for (size_t left = len; left > 0 && ok;) {
		const size_t there = s->v->iov_len - s->at, n = there < left ? there : left;

		tls_require(t, s->n > 0 && s->at <= s->v->iov_len, 0);
		ok = tls_records_add(t->records, (const uint8_t *)s->v->iov_base + s->at, n, &at);
		left -= n;
		s->at += n;
		if (s->at == s->v->iov_len) {
			s->v++;
			s->n--;
			s->at = 0;
		}
	}
	tls_require(t, !ok || is_filled(t, to, size, at), 0);
	if (!ok || !tls_records_end(t->records, SSL3_RT_APPLICATION_DATA, at)) {
		t->failed = true;
		return 0;
	}
	tls_bio_output_add(size);
	return len;
}

size_t
tls_stream_write(struct tls *t, struct tls_spans *s, size_t max)
{
	size_t total = 0, left = 0;

	for (size_t i = 0; i < s->n; i++)
		left += s->v[i].iov_len;
	tls_require(t, s->n == 0 || s->at <= s->v->iov_len, 0);
	left -= s->n > 0 ? s->at : 0;	/* of the first one that much is gone already */
	left = left < max ? left : max;
	while (left > 0 && !t->failed && t->write_error == 0) {
		const size_t len = left < t->records->plain_max ? left : t->records->plain_max;

		if (t->records->is_13 && t->records->keys[TLS_OUT].seq >= TLS_RECORDS_PER_KEY)
			renew_keys(t);
		total += write_record(t, s, len);
		left -= len;
	}
	for (; s->n > 0 && s->at == s->v->iov_len; s->at = 0) {	/* empty ones at the end */
		s->v++;
		s->n--;
	}
	tls_require(t, total <= max, 0);
	return total;
}
