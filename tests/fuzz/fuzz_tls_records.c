/*
 * fuzz_tls_records.c - TLS after its handshake, without OpenSSL's SSL: a peer that has the keys and sends what it likes.
 *
 * The first byte chooses: client or server, the version, the cipher. Then records of a byte (see steps[]) and what belongs to
 * it. Whatever comes: what is read is what the peer has sent as plain text, in order, and all of it where nothing was
 * illegal; what is written the peer can read, also behind new keys.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "fuzz_input.h"
#include "transport/tls_bio.h"
#include "transport/tls_context.h"
#include "transport/tls_takeover.h"

/* The keys are set here, not by a handshake. */
#include "../../src/transport/tls_record.c"

#define FD 1000
#define WIRE_MAX (512 * 1024)
#define PIECE_MAX 300
#define EMPTY_MAX 32		/* records without a byte of the application that are borne: tls_takeover.c */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
int __wrap_shutdown(int fd, int how);

static struct bytes {
	uint8_t data[WIRE_MAX];
	size_t at, end;
} to_us, from_us, sent, written;	/* on the wire; and as plain text */

static struct tls *us;
static struct tls_records *peer;
static struct tls_context context;
static size_t recv_max;		/* bytes that the socket gives at once */
static bool is_full, is_fin;	/* of our socket */
static bool is_legal;		/* the peer has sent nothing but plain text and new keys */
static unsigned n_empty;

static void
put(struct bytes *b, const uint8_t *data, size_t len)
{
	if (len == 0)
		return;
	if (len > WIRE_MAX - b->end)
		abort();
	memcpy(b->data + b->end, data, len);
	b->end += len;
}

/* --- the kernel --- */

ssize_t
__wrap_recv(int fd, void *buf, size_t len, int flags)
{
	const size_t there = to_us.end - to_us.at;

	(void)flags;
	assert(fd == FD && len > 0);
	if (there == 0 || recv_max == 0) {
		errno = EAGAIN;
		return is_fin && there == 0 ? 0 : -1;
	}
	len = len < there ? len : there;
	len = len < recv_max ? len : recv_max;
	memcpy(buf, to_us.data + to_us.at, len);
	to_us.at += len;
	return (ssize_t)len;
}

ssize_t
__wrap_send(int fd, const void *buf, size_t len, int flags)
{
	(void)flags;
	assert(fd == FD);
	if (is_full) {
		errno = EAGAIN;
		return -1;
	}
	put(&from_us, buf, len);
	return (ssize_t)len;
}

int
__wrap_shutdown(int fd, int how)
{
	assert(fd == FD && how == SHUT_WR);
	return 0;
}

/* --- keys --- */

static struct material {
	bool is_made, is_chacha;
	const EVP_MD *hash;
	const EVP_CIPHER *algorithm;
	uint8_t secret[2][TLS_SECRET_MAX], key[2][KEY_MAX], iv[2][IV];	/* of the client, the server */
} material[2][3];

/* Algorithms are looked up once: by their names it would be for each key. */
static void
make_material(struct material *m, int cipher)
{
	static const char *const names[] = { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };

	m->algorithm = EVP_CIPHER_fetch(NULL, names[cipher], NULL);
	m->hash = EVP_MD_fetch(NULL, cipher == 1 ? "SHA384" : "SHA256", NULL);
	if (m->algorithm == NULL || m->hash == NULL)
		abort();
	m->is_chacha = cipher == 2;
	for (int end = 0; end < 2; end++) {
		memset(m->secret[end], 1 + end, TLS_SECRET_MAX);
		memset(m->key[end], 3 + end, KEY_MAX);
		memset(m->iv[end], 5 + end, IV);
	}
	m->is_made = true;
}

static struct tls_records *
make_records(const struct material *m, bool is_13, bool is_server)
{
	struct tls_records *r = calloc(1, sizeof(*r));

	if (r == NULL)
		abort();
	r->algorithm = m->algorithm;
	r->hash = m->hash;
	r->plain_max = SSL3_RT_MAX_PLAIN_LENGTH;
	r->is_13 = is_13;
	r->has_nonce = !is_13 && !m->is_chacha;
	r->secret_len = (uint8_t)EVP_MD_get_size(m->hash);
	for (int way = TLS_IN; way <= TLS_OUT; way++) {
		const int end = (way == TLS_OUT) == is_server;

		r->keys[way].cipher = EVP_CIPHER_CTX_new();
		memcpy(r->keys[way].secret, m->secret[end], TLS_SECRET_MAX);
		memcpy(r->keys[way].iv, m->iv[end], IV);
		if (!set_key(r, way, m->key[end]))
			abort();
	}
	return r;
}

/* The buffers of the thread are made with the first SSL. */
static void
make_buffers(void)
{
	SSL_CTX *c = SSL_CTX_new(TLS_method());
	struct tls t = { .ssl = SSL_new(c) };

	if (tls_bio_attach(&t) != 0)
		abort();
	SSL_free(t.ssl);
	SSL_CTX_free(c);
}

/* --- what the peer says --- */

static void
say(uint8_t type, const uint8_t *text, size_t len)
{
	uint8_t record[TLS_RECORD_EXTRA + PIECE_MAX];
	const size_t size = tls_records_size(peer, len);
	uint8_t *at = record + size - len - TAG - (peer->is_13 ? 1 : 0);

	assert(size <= sizeof(record));
	if (!tls_records_begin(peer, type, len, record) || !tls_records_add(peer, text, len, &at) || !tls_records_end(peer, type, at))
		abort();
	put(&to_us, record, size);
}

static void
say_text(void)
{
	const uint8_t *text;
	const size_t n = take_piece(&text);

	n_empty = n == 0 ? n_empty + 1 : 0;
	is_legal = is_legal && n_empty <= EMPTY_MAX;
	say(SSL3_RT_APPLICATION_DATA, text, n);
	put(&sent, text, n);
}

/* A record of any type. In TLS 1.3 a type of 0 is padding, and what is before it the type. */
static void
say_other(void)
{
	uint8_t type = next_byte();
	const uint8_t *text;
	size_t n = take_piece(&text);

	is_legal = false;
	say(type, text, n);
	while (peer->is_13 && type == 0 && n > 0)
		type = text[--n];
	if (type == SSL3_RT_APPLICATION_DATA)
		put(&sent, text, n);
}

static void
say_bytes(void)
{
	const uint8_t *bytes;
	const size_t n = take_piece(&bytes);

	is_legal = is_legal && n == 0;
	put(&to_us, bytes, n);
}

static void
say_damaged(void)
{
	const size_t before = to_us.end;
	const uint8_t at = next_byte(), by = next_byte();

	say_text();
	to_us.data[before + at % (to_us.end - before)] ^= by;
	is_legal = is_legal && by == 0;
}

static void
say_new_keys(void)
{
	uint8_t update[] = { SSL3_MT_KEY_UPDATE, 0, 0, 1, (uint8_t)(next_byte() & 1) };

	if (!peer->is_13)
		return;
	n_empty++;
	is_legal = is_legal && n_empty <= EMPTY_MAX;
	say(SSL3_RT_HANDSHAKE, update, sizeof(update));
	if (!tls_records_update(peer, TLS_OUT))
		abort();
}

/* --- what we do --- */

static ssize_t
read_some(size_t max)
{
	static uint8_t buf[PIECE_MAX];
	const bool peeks = next_byte() & 1;
	const ssize_t n = peeks ? tls_peek(us, buf, max) : tls_read(us, buf, max);

	assert(n <= (ssize_t)max && (n >= 0 || n == -EAGAIN || n == -EPROTO));
	if (n <= 0)
		return n;
	assert(sent.at + (size_t)n <= sent.end && memcmp(buf, sent.data + sent.at, (size_t)n) == 0);
	if (!peeks)
		sent.at += (size_t)n;
	return n;
}

static void
read_piece(void)
{
	const size_t n = next_byte();

	recv_max = next_byte();
	recv_max = recv_max == 255 ? WIRE_MAX : recv_max;
	(void)read_some(n + 1);
	(void)tls_is_pending(us);
}

static void
write_piece(void)
{
	const uint8_t *text;
	const size_t n = take_piece(&text), cut = n > 0 ? next_byte() % n : 0;
	const struct iovec v[] = { { (void *)(uintptr_t)text, cut }, { (void *)(uintptr_t)(text + cut), n - cut } };
	ssize_t r;

	if (us->shut || n == 0)
		return;
	r = tls_write(us, v, 2);
	assert(r == (ssize_t)n || r == -EAGAIN || r == -EPROTO);
	if (r > 0)
		put(&written, text, (size_t)r);
}

static void
change_socket(void)
{
	const uint8_t what = next_byte() % 4;

	if (what == 0)
		is_full = !is_full;
	else if (what == 1)
		(void)tls_flush(us);
	else if (what == 2)
		is_fin = true;
	else if (!us->shut)
		(void)tls_shutdown(us);
}

static void (*const steps[8])(void) = { say_text, read_piece, write_piece, say_other, say_damaged, say_new_keys, say_bytes, change_socket };

/* --- at the end --- */

/* All that was legal arrives. */
static void
read_rest(void)
{
	ssize_t n;

	recv_max = WIRE_MAX;
	left = 0;
	for (int none = 0; none < 2; none += n <= 0)	/* a FIN is seen by the call after the last bytes */
		n = read_some(PIECE_MAX);
	if (is_legal)
		assert(sent.at == sent.end && n == (is_fin ? 0 : -EAGAIN));
}

/* The peer reads what we wrote: plain text, alerts, and new keys, behind which come records with those. */
static void
read_at_peer(void)
{
	uint8_t text[TLS_RECORD_MAX], type;

	is_full = false;
	(void)tls_flush(us);
	while (from_us.end - from_us.at >= TLS_RECORD_HEADER) {
		const uint8_t *record = from_us.data + from_us.at;
		const size_t len = (size_t)record[3] << 8 | record[4];
		ssize_t n;

		assert(from_us.end - from_us.at >= TLS_RECORD_HEADER + len);
		n = tls_records_open(peer, record, len, text, &type);
		assert(n >= 0);
		from_us.at += TLS_RECORD_HEADER + len;
		if (type == SSL3_RT_APPLICATION_DATA) {
			assert(written.at + (size_t)n <= written.end && memcmp(text, written.data + written.at, (size_t)n) == 0);
			written.at += (size_t)n;
		} else if (type == SSL3_RT_HANDSHAKE) {
			assert(peer->is_13 && n == 5 && text[0] == SSL3_MT_KEY_UPDATE && tls_records_update(peer, TLS_IN));
		} else {
			assert(type == SSL3_RT_ALERT && n == 2);
		}
	}
	assert(from_us.at == from_us.end && written.at == written.end);
}

static void
begin(uint8_t choice)
{
	const bool is_server = choice & 1, is_13 = (choice & 2) == 0;
	const int cipher = choice / 4 % 3;
	struct material *m = &material[is_13][cipher];

	if (!m->is_made)
		make_material(m, cipher);
	context.is_server = is_server;
	context.held = 1000;
	us = calloc(1, sizeof(*us));
	if (us == NULL)
		abort();
	us->fd = FD;
	us->context = &context;
	us->established = true;
	us->records = make_records(m, is_13, is_server);
	peer = make_records(m, is_13, !is_server);
	to_us.at = to_us.end = from_us.at = from_us.end = sent.at = sent.end = written.at = written.end = 0;
	recv_max = WIRE_MAX;
	is_full = is_fin = false;
	is_legal = true;
	n_empty = 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool is_set_up;

	if (!is_set_up)
		make_buffers();
	is_set_up = true;
	input = data;
	left = size;
	begin(next_byte());
	while (left > 0) {
		const unsigned step = next_byte() % 8;

		if (!is_fin || step == 1 || step == 2 || step == 7)
			steps[step]();
	}
	read_rest();
	read_at_peer();
	tls_free(us, false);
	tls_records_free(peer);
	return 0;
}
