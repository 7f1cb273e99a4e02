/*
 * tls_bio.c - between OpenSSL and the socket.
 *
 * OpenSSL asks for five bytes of a record and then for the rest of it; both
 * are served from what one recv() brought. What it writes is gathered and sent
 * when the call ends. The buffers are the thread's: a leg has them during one
 * call only.
 */
#include "transport/tls_bio.h"
#include "transport/tls_memory.h"
#include "transport/tls_takeover.h"

#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define IN_MAX (TLS_REST_MAX - TLS_RECORD_HEADER - TLS_RECORD_MAX)
#define OUT_MAX (72 * 1024)		/* 64 KiB of plain text as records, and an alert */
#define DISCARD_MAX 16			/* times IN_MAX */

_Static_assert(IN_MAX >= TLS_RECORD_HEADER + TLS_RECORD_MAX, "one recv() can bring a whole record");
_Static_assert(OUT_MAX >= TLS_RECORD_HEADER + TLS_RECORD_MAX, "a record is written in one piece");
_Static_assert(TLS_UNSENT_MAX > OUT_MAX, "what one call writes can be kept");

static struct {
	pthread_mutex_t lock;
	BIO_METHOD *method;	/* NULL: not set up yet */
	pthread_key_t key;
	bool has_key;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

static __thread struct buffers {
	struct tls *user;	/* whose call it is */
	size_t in_at, in_end;	/* of in[] */
	size_t out_len;
	bool received;		/* recv() was called in this call */
	bool full;		/* ... and filled the buffer */
	bool got_some;
	bool eager;		/* recv() again until there is nothing: see tls_bio_read_all() */
	uint8_t in[TLS_REST_MAX], out[OUT_MAX], room[TLS_RECORD_MAX];
} *buffers;

/* --- bytes of a leg --- */

bool
tls_bytes_reserve(struct tls_bytes *b, size_t len)
{
	const size_t have = tls_bytes_len(b);
	uint8_t *data;

	assert(b->data != NULL || b->end == 0);
	assert(len <= UINT32_MAX - have);
	if (b->at > 0) {
		memmove(b->data, b->data + b->at, have);
		b->at = 0;
		b->end = (uint32_t)have;
	}
	data = realloc(b->data, have + len);
	if (data == NULL)
		return false;
	b->data = data;
	return true;
}

void
tls_bytes_free(struct tls_bytes *b)
{
	free(b->data);
	*b = (struct tls_bytes){ 0 };
}

void
tls_bytes_consume(struct tls_bytes *b, size_t len)
{
	assert(len <= tls_bytes_len(b));
	b->at += (uint32_t)len;
	if (b->at == b->end)
		tls_bytes_free(b);
}

bool
tls_bytes_add(struct tls_bytes *b, const uint8_t *data, size_t len)
{
	if (len == 0)
		return true;
	if (!tls_bytes_reserve(b, len))
		return false;
	memcpy(b->data + b->end, data, len);
	b->end += (uint32_t)len;
	return true;
}

/* --- the socket --- */

static ssize_t
send_some(struct tls *t, const uint8_t *data, size_t len)
{
	ssize_t n;

	do
		n = send(t->fd, data, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		t->write_error = (uint8_t)errno;
	return n;
}

int
tls_bio_flush(struct tls *t)
{
	size_t len;

	while (t->write_error == 0 && (len = tls_bytes_len(&t->unsent)) > 0) {
		const ssize_t n = send_some(t, t->unsent.data + t->unsent.at, len);

		if (n < 0)
			break;
		tls_bytes_consume(&t->unsent, (size_t)n);
	}
	if (t->write_error != 0) {
		tls_bytes_free(&t->unsent);
		return -t->write_error;
	}
	return tls_bytes_len(&t->unsent) > 0 ? -EAGAIN : 0;
}

/* Sends what was gathered, or keeps it. */
static void
send_out(struct tls *t)
{
	struct buffers *b = buffers;
	size_t at = 0;

	assert(b->user == t && b->out_len <= OUT_MAX);	/* else one leg would send the bytes of another */
	if (b->out_len > 0 && tls_bio_flush(t) == 0) {
		const ssize_t n = send_some(t, b->out, b->out_len);

		at = n > 0 ? (size_t)n : 0;
	}
	if (t->write_error == 0 && tls_bytes_len(&t->unsent) + b->out_len - at > TLS_UNSENT_MAX)
		t->write_error = ENOBUFS;
	if (t->write_error == 0 && !tls_bytes_add(&t->unsent, b->out + at, b->out_len - at))
		t->write_error = ENOMEM;
	b->out_len = 0;
}

static void
note_first(struct tls *t, const uint8_t *data, size_t len)
{
	const size_t room = sizeof(t->first) - t->n_first, n = len < room ? len : room;

	tls_require(t, t->n_first <= sizeof(t->first), );
	memcpy(t->first + t->n_first, data, n);
	t->n_first = (uint8_t)(t->n_first + n);
}

static void
receive(struct tls *t)
{
	struct buffers *b = buffers;
	ssize_t n;

	if (t->fin || t->read_error != 0 || (b->received && !b->eager && (!b->full || b->got_some)))
		return;
	tls_require(t, tls_bytes_len(&t->rest) == 0, );	/* what came before is read before */
	assert(b->user == t && b->in_at <= b->in_end && b->in_end <= sizeof(b->in));
	b->in_end -= b->in_at;
	memmove(b->in, b->in + b->in_at, b->in_end);	/* the beginning of a record */
	b->in_at = 0;
	assert(b->in_end + IN_MAX <= sizeof(b->in));
	do
		n = recv(t->fd, b->in + b->in_end, IN_MAX, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		t->read_error = (uint8_t)errno;
	t->fin = n == 0;
	b->received = true;
	b->full = n == IN_MAX;
	if (n <= 0)
		return;
	if (t->n_first < sizeof(t->first) && !t->established)
		note_first(t, b->in, (size_t)n);
	b->in_end += (size_t)n;
	assert(b->in_end <= sizeof(b->in));
}

/* --- what OpenSSL calls --- */

static int
on_read(BIO *bio, char *to, size_t len, size_t *ret)
{
	struct tls *t = BIO_get_data(bio);
	struct buffers *b = buffers;

	assert(b->user == t);
	BIO_clear_retry_flags(bio);
	tls_require(t, t->records == NULL, 0);		/* after that OpenSSL must not see a byte */
	if (tls_bytes_len(&t->rest) > 0) {
		tls_require(t, b->in_at == b->in_end, 0);	/* it is older than what the buffer has */
		*ret = len < tls_bytes_len(&t->rest) ? len : tls_bytes_len(&t->rest);
		memcpy(to, t->rest.data + t->rest.at, *ret);
		tls_watch_bytes(t, TLS_IN, (const uint8_t *)to, *ret);
		tls_bytes_consume(&t->rest, *ret);
		return 1;
	}
	if (b->in_at == b->in_end)
		receive(t);
	if (b->in_at == b->in_end) {
		BIO_set_retry_read(bio);
		return 0;
	}
	*ret = len < b->in_end - b->in_at ? len : b->in_end - b->in_at;
	memcpy(to, b->in + b->in_at, *ret);
	tls_watch_bytes(t, TLS_IN, (const uint8_t *)to, *ret);
	b->in_at += *ret;
	return 1;
}

static int
on_write(BIO *bio, const char *from, size_t len, size_t *ret)
{
	struct tls *t = BIO_get_data(bio);
	struct buffers *b = buffers;

	assert(b->user == t);
	BIO_clear_retry_flags(bio);
	tls_watch_bytes(t, TLS_OUT, (const uint8_t *)from, len);
	for (*ret = 0; *ret < len;) {
		assert(b->out_len <= OUT_MAX);
		const size_t room = OUT_MAX - b->out_len, n = len - *ret < room ? len - *ret : room;

		memcpy(b->out + b->out_len, from + *ret, n);
		b->out_len += n;
		*ret += n;
		if (b->out_len == OUT_MAX)
			send_out(t);
	}
	return 1;	/* also after an error of the socket: it is reported when the call ends */
}

static long
on_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* Tried again after a failure: memory may be short for a moment only. */
static int
set_up(void)
{
	BIO_METHOD *m;

	if (!shared.has_key && pthread_key_create(&shared.key, free) != 0)
		return -ENOMEM;
	shared.has_key = true;
	m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stent");
	if (m == NULL || BIO_meth_set_read_ex(m, on_read) != 1 || BIO_meth_set_write_ex(m, on_write) != 1 ||
	    BIO_meth_set_ctrl(m, on_control) != 1) {
		BIO_meth_free(m);
		return -ENOMEM;
	}
	shared.method = m;
	return 0;
}

/* The thread's buffers, made when it first needs them, and freed at its end. */
static int
need_buffers(void)
{
	int r;

	if (buffers != NULL)
		return 0;
	pthread_mutex_lock(&shared.lock);
	r = shared.method != NULL ? 0 : set_up();
	pthread_mutex_unlock(&shared.lock);
	if (r != 0)
		return r;
	buffers = malloc(sizeof(*buffers));
	if (buffers == NULL || pthread_setspecific(shared.key, buffers) != 0) {
		free(buffers);
		buffers = NULL;
		return -ENOMEM;
	}
	memset(buffers, 0, offsetof(struct buffers, in));
	return 0;
}

int
tls_bio_attach(struct tls *t)
{
	BIO *bio;

	if (need_buffers() != 0)
		return -ENOMEM;
	bio = BIO_new(shared.method);
	if (bio == NULL)
		return -ENOMEM;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	return 0;
}

/* --- a call --- */

void
tls_bio_enter(struct tls *t)
{
	struct buffers *b = buffers;

	assert(b->user == NULL);		/* calls do not nest */
	assert(b->in_at == b->in_end && b->out_len == 0);	/* no leg leaves bytes to another */
	b->user = t;
	b->received = b->full = b->got_some = b->eager = false;
	ERR_clear_error();	/* SSL_get_error() looks at the queue */
	tls_memory_watch();
}

void
tls_bio_leave(struct tls *t)
{
	struct buffers *b = buffers;

	assert(b->user == t && b->in_at <= b->in_end);
	send_out(t);
	tls_require_go_on(t, b->in_at == b->in_end || tls_bytes_len(&t->rest) == 0);	/* else they would change places */
	if (b->received)
		t->more = b->full;
	if (!tls_bytes_add(&t->rest, b->in + b->in_at, b->in_end - b->in_at))
		t->read_error = ENOMEM;
	b->in_at = b->in_end = 0;
	b->user = NULL;
	ERR_clear_error();
#ifdef STENT_DEAR
	tls_check(t);
#endif
}

void
tls_bio_got_some(void)
{
	buffers->got_some = true;
}

void
tls_bio_read_all(void)
{
	buffers->eager = true;
}

uint8_t *
tls_bio_room(void)
{
	assert(buffers->user != NULL);		/* it is the room of a call */
	return buffers->room;
}

const uint8_t *
tls_bio_input(struct tls *t, size_t need, size_t *have)
{
	struct buffers *b = buffers;
	const size_t kept = tls_bytes_len(&t->rest);

	assert(b->user == t && need <= TLS_RECORD_HEADER + TLS_RECORD_MAX);
	if (kept > 0) {		/* put in front of what comes; nothing came yet */
		assert(b->in_at == b->in_end && kept <= sizeof(b->in));
		memcpy(b->in, t->rest.data + t->rest.at, kept);
		b->in_at = 0;
		b->in_end = kept;
		tls_bytes_free(&t->rest);
	}
	if (b->in_end - b->in_at < need)
		receive(t);
	*have = b->in_end - b->in_at;
	return b->in + b->in_at;
}

void
tls_bio_consume(size_t len)
{
	assert(len <= buffers->in_end - buffers->in_at);
	buffers->in_at += len;
}

uint8_t *
tls_bio_output(struct tls *t, size_t len)
{
	assert(buffers->user == t && len <= OUT_MAX);
	if (len > OUT_MAX - buffers->out_len)
		send_out(t);
	return buffers->out + buffers->out_len;
}

void
tls_bio_output_add(size_t len)
{
	assert(buffers->user != NULL && len <= OUT_MAX - buffers->out_len);
	buffers->out_len += len;
}

void
tls_bio_discard_input(struct tls *t)
{
	assert(buffers->user == NULL);		/* it overwrites the buffer */
	for (int i = 0; i < DISCARD_MAX && recv(t->fd, buffers->in, IN_MAX, 0) > 0; i++)
		;
}
