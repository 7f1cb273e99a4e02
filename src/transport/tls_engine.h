/* tls_engine.h - TLS on the descriptor of a transport: what transport.c calls where one is TLS. Same results. */
#ifndef STENT_TRANSPORT_TLS_ENGINE_H
#define STENT_TRANSPORT_TLS_ENGINE_H

#include <assert.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "stent/tls.h"

/* Bytes in memory of a leg; mostly none. */
struct tls_bytes {
	uint8_t *data;		/* NULL: none */
	uint32_t at, end;	/* of data */
};

struct tls {
	SSL *ssl;		/* NULL: taken over by `records` */
	struct tls_watch *watch;	/* of the SSL, for that; NULL with it */
	struct tls_records *records;
	struct tls_context *context;
	X509 *peer;		/* after that: the server's certificate; */
	const char *version, *cipher;	/* and the facts */
	char *name;		/* of a client: as it was to be verified; NULL: none */
	char *cause;		/* why it failed, in words */
	struct tls_bytes unsent;	/* TLS that the socket has not taken */
	struct tls_bytes rest;		/* TLS that was received and not yet decrypted */
	struct tls_bytes over;		/* decrypted, and more than the reader had room for */
	struct tls_bytes plain;		/* decrypted by tls_peek() */
	int fd;
	uint8_t read_error, write_error;	/* errno; lasting */
	uint8_t kind;		/* enum tls_cause */
	uint8_t first[8];	/* what the peer sent first */
	uint8_t n_first;
	bool established : 1;
	bool failed : 1;	/* OpenSSL may not be called any more */
	bool more : 1;		/* the last recv() filled the buffer: the socket has more */
	bool fin : 1;		/* the socket's FIN was read */
	bool ended : 1;		/* close_notify was read */
	bool reported : 1;	/* the end, or an error, was returned to the reader */
	bool shut : 1;		/* close_notify was written */
	bool resumed : 1;
	bool fin_wanted : 1;	/* shutdown() follows when all is sent */
	bool alerted : 1;	/* a fatal alert was written */
	bool broken : 1;	/* a tls_require() of it was violated; `cause` says which */
};

/*
 * What must be true of one leg. If it is not, its TLS has failed: nothing more is read or written, not even what was
 * encrypted before, and the relay ends that flow (relay/require.h). assert() is for what legs share.
 */
#define tls_require_go_on(t, condition) \
	do { \
		if (__builtin_expect(!(condition), false)) \
			tls_violated((t), #condition, __FILE__, __LINE__); \
	} while (0)
#define tls_require(t, condition, result) \
	do { \
		if (__builtin_expect(!(condition), false)) { \
			tls_violated((t), #condition, __FILE__, __LINE__); \
			return result; \
		} \
	} while (0)
void tls_violated(struct tls *t, const char *condition, const char *file, int line) __attribute__((cold));
/* What is true of a leg between two calls. */
void tls_check(struct tls *t);

/* Where the next byte to write is. */
struct tls_spans {
	const struct iovec *v;
	size_t n, at;		/* at: of the first */
};

int tls_start(struct tls **ret, int fd, struct tls_context *context, const char *name);
struct transport_client;
int tls_handshake(struct tls *t, struct transport_client *client);
ssize_t tls_read(struct tls *t, void *buf, size_t len);
ssize_t tls_peek(struct tls *t, void *buf, size_t len);
ssize_t tls_write(struct tls *t, const struct iovec *v, size_t n);
int tls_flush(struct tls *t);
int tls_shutdown(struct tls *t);
/* The peer was not told of a failure of ours: a FIN would look like the end of a stream. */
bool tls_must_reset(const struct tls *t);
/* Frees it; is_orderly: after a close_notify. The descriptor stays open. */
void tls_free(struct tls *t, bool is_orderly);

struct transport_tls;
/* tls_client.c: what the client of an established connection has told of itself. */
void tls_note_client(SSL *ssl, struct transport_client *ret);
void tls_facts(const struct tls *t, struct transport_tls *ret);
bool tls_is_pending(const struct tls *t);
size_t tls_unread(const struct tls *t);
bool tls_same_certificate(const struct tls *ours, const struct tls *peers);

static inline size_t
tls_bytes_len(const struct tls_bytes *b)
{
	assert(b->at <= b->end);	/* else it would wrap around */
	return b->end - b->at;
}

#endif
