/* tls_takeover.h - when and how records are taken over from OpenSSL's SSL, and how they are read and written then. */
#ifndef STENT_TRANSPORT_TLS_TAKEOVER_H
#define STENT_TRANSPORT_TLS_TAKEOVER_H

#include "transport/tls_engine.h"
#include "transport/tls_record.h"

/* What is known of a direction of an SSL: how many records went by. */
struct tls_walk {
	uint8_t header[TLS_RECORD_HEADER], have;
	uint32_t left;		/* of its body */
	uint64_t count;
};

struct tls_watch {
	struct tls_takeover from;
	struct tls_walk walk[2];
	bool keeps;		/* the SSL stays for good */
};

/* 0 or -ENOMEM. */
int tls_watch_begin(struct tls *t);
void tls_watch_end(struct tls *t);
/* Callbacks of the context. */
void tls_watch_context(SSL_CTX *ssl);
/* Bytes that the SSL was given, or has written. */
void tls_watch_bytes(struct tls *t, int way, const uint8_t *data, size_t len);
/* Before each call of SSL_do_handshake(), and when one has succeeded. */
void tls_watch_handshake(struct tls *t);
void tls_watch_established(struct tls *t);
/* After bytes were read by the SSL. */
void tls_watch_read(struct tls *t);

/* With records: plain text read, perhaps 0: then the leg knows why. */
size_t tls_stream_read(struct tls *t, uint8_t *buf, size_t len);
size_t tls_stream_write(struct tls *t, struct tls_spans *s, size_t max);
void tls_stream_close_notify(struct tls *t);

#endif
