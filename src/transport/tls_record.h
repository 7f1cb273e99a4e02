/*
 * tls_record.h - TLS's records without OpenSSL's SSL, which is 14 KB of an idle connection, for what comes after the
 * handshake. Ciphers that authenticate (AES-GCM, ChaCha20-Poly1305) only.
 */
#ifndef STENT_TRANSPORT_TLS_RECORD_H
#define STENT_TRANSPORT_TLS_RECORD_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_RECORD_HEADER 5
#define TLS_RECORD_MAX (SSL3_RT_MAX_PLAIN_LENGTH + 256)	/* after the header: RFC 8446, section 5.2 */
#define TLS_RECORD_EXTRA 64	/* at most so much more than the plain text is a record */
#define TLS_SECRET_MAX 48
#define TLS_RECORDS_PER_KEY (UINT64_C(1) << 23)	/* AES-GCM's limit is 2^24.5: RFC 8446, section 5.5 */

enum { TLS_IN, TLS_OUT };

/* What is needed of a connection of OpenSSL's when it is taken over. */
struct tls_takeover {
	bool is_server;
	size_t secret_len[2];	/* TLS 1.3: of each direction's first keys */
	uint8_t secret[2][TLS_SECRET_MAX];
	uint64_t seq[2];	/* records that went by under the present keys */
};

struct tls_keys {
	EVP_CIPHER_CTX *cipher;
	uint64_t seq;
	uint8_t iv[12];
	uint8_t secret[TLS_SECRET_MAX];
};

struct tls_records {
	struct tls_keys keys[2];
	const EVP_MD *hash;
	const EVP_CIPHER *algorithm;
	uint16_t plain_max;	/* of what is written: a client may have asked for less than 16 KiB */
	uint8_t secret_len;
	bool is_13;
	bool has_nonce;		/* TLS 1.2 with AES-GCM: a part of the nonce is in the record */
	uint8_t message[4], n_message;	/* header of a message of the handshake */
	uint32_t message_left;
};

/* NULL: its cipher is another, or no memory. */
struct tls_records *tls_records_new(SSL *ssl, const struct tls_takeover *from);
void tls_records_free(struct tls_records *r);

/*
 * Opens a record of len bytes behind its header; to[] has room for len. Its type is the inner one. Bytes of plain text,
 * or -EBADMSG, or -EMSGSIZE.
 */
ssize_t tls_records_open(struct tls_records *r, const uint8_t *header, size_t len, uint8_t *to, uint8_t *type);

/* Writes a record: begin, the plain text in any number of pieces, and end. Its whole length is known before; 0: failed. */
size_t tls_records_size(const struct tls_records *r, size_t len);
bool tls_records_begin(struct tls_records *r, uint8_t type, size_t len, uint8_t *to);
bool tls_records_add(struct tls_records *r, const uint8_t *from, size_t len, uint8_t **to);
bool tls_records_end(struct tls_records *r, uint8_t type, uint8_t *to);

/* The next keys of a direction: KeyUpdate. */
bool tls_records_update(struct tls_records *r, int way);

#endif
