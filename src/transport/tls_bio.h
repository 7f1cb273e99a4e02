/* tls_bio.h - between OpenSSL and the socket: the buffers that all legs of a thread share. */
#ifndef STENT_TRANSPORT_TLS_BIO_H
#define STENT_TRANSPORT_TLS_BIO_H

#include "transport/tls_engine.h"
#include "transport/tls_record.h"

#define TLS_REST_MAX (64 * 1024 + TLS_RECORD_HEADER + TLS_RECORD_MAX)	/* one recv(), and the beginning of a record before it */
#define TLS_UNSENT_MAX (512 * 1024)	/* a peer that makes us write while it reads nothing is given up */

/* 0 or -ENOMEM. Gives the SSL its BIO, and the thread its buffers. */
int tls_bio_attach(struct tls *t);

/* Around calls of OpenSSL: in between, one leg has the buffers of this thread. leave() sends, and keeps what is left. */
void tls_bio_enter(struct tls *t);
void tls_bio_leave(struct tls *t);
/* Bytes were decrypted in this call: no further recv() in it. */
void tls_bio_got_some(void);
/* In this call recv() goes on until there is nothing, or the end: one edge may stand for bytes and a FIN. */
void tls_bio_read_all(void);
/* Room for a record's plain text, until the end of the call. */
uint8_t *tls_bio_room(void);

/* At least `need` bytes of what was received, if they are there; *have: how many there are. Then some of them are consumed. */
const uint8_t *tls_bio_input(struct tls *t, size_t need, size_t *have);
void tls_bio_consume(size_t len);
/* Room for len bytes of output; then some are added. */
uint8_t *tls_bio_output(struct tls *t, size_t len);
void tls_bio_output_add(size_t len);

/* Sends what is unsent: 0: all, -EAGAIN, or -errno. */
int tls_bio_flush(struct tls *t);
/* Reads and drops what is there, so that closing does not reset the connection before the peer has read our alert. */
void tls_bio_discard_input(struct tls *t);

/* Room for len more bytes at the end; false: no memory. */
bool tls_bytes_reserve(struct tls_bytes *b, size_t len);
bool tls_bytes_add(struct tls_bytes *b, const uint8_t *data, size_t len);
void tls_bytes_consume(struct tls_bytes *b, size_t len);
void tls_bytes_free(struct tls_bytes *b);

#endif
