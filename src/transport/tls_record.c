/*
 * tls_record.c - TLS's records, of versions 1.2 and 1.3 (RFC 5246, 5288, 7905, 8446).
 *
 * The keys come from what OpenSSL's handshake has agreed on: of TLS 1.3 the
 * traffic secrets, of 1.2 the master secret. The ciphers are OpenSSL's.
 */
#include "transport/tls_record.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#define TAG 16
#define NONCE 8			/* of TLS 1.2's AES-GCM, in the record */
#define IV 12
#define KEY_MAX 32

_Static_assert(TLS_RECORD_EXTRA >= TLS_RECORD_HEADER + NONCE + 1 + TAG, "what a record has beside its plain text");
_Static_assert(TLS_RECORDS_PER_KEY < (UINT64_C(1) << 24), "AES-GCM's limit: RFC 8446, section 5.5");
_Static_assert(sizeof(((struct tls_keys *)0)->iv) == IV, "the nonce is made of it");

/* --- keys --- */

/* HKDF-Expand-Label() of RFC 8446, section 7.1, without a context. */
static bool
expand_label(const EVP_MD *hash, const uint8_t *secret, size_t secret_len, const char *label, uint8_t *to, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	const size_t n = strlen(label);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	uint8_t info[64] = { (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)(6 + n), 't', 'l', 's', '1', '3', ' ' };
	bool ok;

	assert(9 + n + 1 <= sizeof(info) && len <= UINT16_MAX);
	memcpy(info + 9, label, n);	/* and the length of the context, 0 */
	ok = ctx != NULL && EVP_KDF_derive(ctx, to, len, (OSSL_PARAM[]){
	    OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, &mode),
	    OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(hash), 0),
	    OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, secret_len),
	    OSSL_PARAM_octet_string(OSSL_KDF_PARAM_INFO, info, 9 + n + 1),
	    OSSL_PARAM_END }) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok;
}

/* The key block of RFC 5246, section 6.3. */
static bool
expand_block(SSL *ssl, const EVP_MD *hash, uint8_t *to, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], seed[13 + 2 * SSL3_RANDOM_SIZE] = "key expansion";
	const size_t n = SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master));
	bool ok;

	SSL_get_server_random(ssl, seed + 13, SSL3_RANDOM_SIZE);
	SSL_get_client_random(ssl, seed + 13 + SSL3_RANDOM_SIZE, SSL3_RANDOM_SIZE);
	ok = ctx != NULL && n > 0 && EVP_KDF_derive(ctx, to, len, (OSSL_PARAM[]){
	    OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(hash), 0),
	    OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SECRET, master, n),
	    OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
	    OSSL_PARAM_END }) == 1;
	OPENSSL_cleanse(master, sizeof(master));
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok;
}

static bool
set_key(struct tls_records *r, int way, const uint8_t *key)
{
	EVP_CIPHER_CTX *c = r->keys[way].cipher;

	assert(EVP_CIPHER_get_key_length(r->algorithm) <= KEY_MAX);
	r->keys[way].seq = 0;
	return EVP_CipherInit_ex(c, r->algorithm, NULL, NULL, NULL, way == TLS_OUT) == 1 &&
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_IVLEN, IV, NULL) == 1 && EVP_CipherInit_ex(c, NULL, NULL, key, NULL, -1) == 1;
}

static bool
set_key_from_secret(struct tls_records *r, int way)
{
	struct tls_keys *k = &r->keys[way];
	uint8_t key[KEY_MAX];
	const bool ok = expand_label(r->hash, k->secret, r->secret_len, "key", key, (size_t)EVP_CIPHER_get_key_length(r->algorithm)) &&
	    expand_label(r->hash, k->secret, r->secret_len, "iv", k->iv, IV) && set_key(r, way, key);

	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

bool
tls_records_update(struct tls_records *r, int way)
{
	struct tls_keys *k = &r->keys[way];
	uint8_t next[TLS_SECRET_MAX];
	bool ok;

	assert(r->is_13 && r->secret_len > 0 && r->secret_len <= sizeof(next));	/* TLS 1.2 has no key updates */
	ok = expand_label(r->hash, k->secret, r->secret_len, "traffic upd", next, r->secret_len);
	if (ok)
		memcpy(k->secret, next, r->secret_len);
	OPENSSL_cleanse(next, sizeof(next));
	return ok && set_key_from_secret(r, way);
}

/* TLS 1.2: keys of the client and of the server, then their IVs. */
static bool
set_keys_from_block(struct tls_records *r, SSL *ssl, bool is_server)
{
	const size_t key = (size_t)EVP_CIPHER_get_key_length(r->algorithm), iv = r->has_nonce ? IV - NONCE : IV;
	uint8_t block[2 * (KEY_MAX + IV)];
	bool ok;

	assert(2 * (key + iv) <= sizeof(block));
	ok = expand_block(ssl, r->hash, block, 2 * (key + iv));

	for (int way = TLS_IN; way <= TLS_OUT && ok; way++) {
		const size_t server = (way == TLS_OUT) == is_server;

		ok = set_key(r, way, block + server * key);
		memcpy(r->keys[way].iv, block + 2 * key + server * iv, iv);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return ok;
}

static const EVP_CIPHER *
algorithm_of(const SSL_CIPHER *c)
{
	switch (SSL_CIPHER_get_cipher_nid(c)) {
	case NID_aes_128_gcm:
		return EVP_aes_128_gcm();
	case NID_aes_256_gcm:
		return EVP_aes_256_gcm();
	case NID_chacha20_poly1305:
		return EVP_chacha20_poly1305();
	default:
		return NULL;
	}
}

static bool
set_keys(struct tls_records *r, SSL *ssl, const struct tls_takeover *from)
{
	if (!r->is_13)
		return set_keys_from_block(r, ssl, from->is_server);
	r->secret_len = (uint8_t)EVP_MD_get_size(r->hash);
	assert(r->secret_len > 0 && r->secret_len <= TLS_SECRET_MAX);
	for (int way = TLS_IN; way <= TLS_OUT; way++) {
		if (from->secret_len[way] != r->secret_len)
			return false;
		memcpy(r->keys[way].secret, from->secret[way], r->secret_len);
		if (!set_key_from_secret(r, way))
			return false;
	}
	return true;
}

/* What one record may hold: RFC 6066, section 4. Only a client asks for it, and ours does not. */
static uint16_t
plain_max_of(SSL *ssl)
{
	const uint8_t mode = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));

	return mode >= TLSEXT_max_fragment_length_512 && mode <= TLSEXT_max_fragment_length_4096 ?
	    (uint16_t)(256U << mode) : SSL3_RT_MAX_PLAIN_LENGTH;
}

struct tls_records *
tls_records_new(SSL *ssl, const struct tls_takeover *from)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(ssl);
	const EVP_CIPHER *algorithm = algorithm_of(c);
	struct tls_records *r = algorithm != NULL ? calloc(1, sizeof(*r)) : NULL;

	if (r == NULL)
		return NULL;
	r->algorithm = algorithm;
	r->hash = SSL_CIPHER_get_handshake_digest(c);
	r->plain_max = plain_max_of(ssl);
	r->is_13 = SSL_version(ssl) == TLS1_3_VERSION;
	r->has_nonce = !r->is_13 && SSL_CIPHER_get_cipher_nid(c) != NID_chacha20_poly1305;
	for (int way = TLS_IN; way <= TLS_OUT; way++)
		r->keys[way].cipher = EVP_CIPHER_CTX_new();
	if (r->hash == NULL || r->keys[TLS_IN].cipher == NULL || r->keys[TLS_OUT].cipher == NULL || !set_keys(r, ssl, from)) {
		tls_records_free(r);
		return NULL;
	}
	for (int way = TLS_IN; way <= TLS_OUT; way++)
		r->keys[way].seq = from->seq[way];
	assert(r->plain_max >= 512 && r->plain_max <= SSL3_RT_MAX_PLAIN_LENGTH);
	assert(!(r->is_13 && r->has_nonce));	/* TLS 1.3 has no part of the nonce in the record */
	return r;
}

void
tls_records_free(struct tls_records *r)
{
	if (r == NULL)
		return;
	for (int way = TLS_IN; way <= TLS_OUT; way++)
		EVP_CIPHER_CTX_free(r->keys[way].cipher);
	OPENSSL_cleanse(r, sizeof(*r));
	free(r);
}

/* --- records --- */

static void
put_seq(uint8_t to[8], uint64_t seq)
{
	for (int i = 0; i < 8; i++)
		to[i] = (uint8_t)(seq >> (56 - 8 * i));
}

/* Sets the nonce of the next record, and what is authenticated with it: its header, and in TLS 1.2 its number. */
static bool
start(struct tls_records *r, int way, uint8_t type, size_t body, size_t plain, const uint8_t *nonce)
{
	struct tls_keys *k = &r->keys[way];
	uint8_t iv[IV], aad[13];
	int n;

	memcpy(iv, k->iv, IV);
	put_seq(aad, k->seq);
	if (r->has_nonce)
		memcpy(iv + IV - NONCE, nonce, NONCE);
	else
		for (int i = 0; i < 8; i++)
			iv[IV - 8 + i] ^= aad[i];
	if (r->is_13)
		memcpy(aad, (uint8_t[]){ SSL3_RT_APPLICATION_DATA, 3, 3, (uint8_t)(body >> 8), (uint8_t)body }, TLS_RECORD_HEADER);
	else
		memcpy(aad + 8, (uint8_t[]){ type, 3, 3, (uint8_t)(plain >> 8), (uint8_t)plain }, TLS_RECORD_HEADER);
	assert(k->seq < UINT64_MAX);	/* else a nonce would come twice */
	k->seq++;
	return EVP_CipherInit_ex(k->cipher, NULL, NULL, NULL, iv, -1) == 1 &&
	    EVP_CipherUpdate(k->cipher, NULL, &n, aad, r->is_13 ? TLS_RECORD_HEADER : 13) == 1;
}

/* The type behind the plain text, and zeros behind that: RFC 8446, section 5.4. */
static ssize_t
strip(const uint8_t *text, size_t len, uint8_t *type)
{
	while (len > 0 && text[len - 1] == 0)
		len--;
	if (len == 0)
		return -EBADMSG;
	*type = text[len - 1];
	return (ssize_t)len - 1;
}

ssize_t
tls_records_open(struct tls_records *r, const uint8_t *header, size_t len, uint8_t *to, uint8_t *type)
{
	const size_t before = r->has_nonce ? NONCE : 0;
	const uint8_t *body = header + TLS_RECORD_HEADER;
	EVP_CIPHER_CTX *c = r->keys[TLS_IN].cipher;
	ssize_t plain;
	int n = 0, rest = 0;

	assert(len <= TLS_RECORD_MAX);		/* the room of the caller */
	if (len < before + TAG)
		return -EBADMSG;
	plain = (ssize_t)(len - before - TAG);
	*type = header[0];
	if (!start(r, TLS_IN, *type, len, (size_t)plain, body) ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(uintptr_t)(body + len - TAG)) != 1 ||
	    (plain > 0 && EVP_CipherUpdate(c, to, &n, body + before, (int)plain) != 1) || EVP_CipherFinal_ex(c, to + n, &rest) != 1)
		return -EBADMSG;
	if (r->is_13)
		plain = strip(to, (size_t)plain, type);
	return plain > SSL3_RT_MAX_PLAIN_LENGTH ? -EMSGSIZE : plain;
}

size_t
tls_records_size(const struct tls_records *r, size_t len)
{
	return TLS_RECORD_HEADER + (r->has_nonce ? NONCE : 0) + len + (r->is_13 ? 1 : 0) + TAG;
}

bool
tls_records_begin(struct tls_records *r, uint8_t type, size_t len, uint8_t *to)
{
	const size_t body = tls_records_size(r, len) - TLS_RECORD_HEADER;

	assert(len <= SSL3_RT_MAX_PLAIN_LENGTH && body <= TLS_RECORD_MAX);	/* its length has two bytes */
	memcpy(to, (uint8_t[]){ r->is_13 ? SSL3_RT_APPLICATION_DATA : type, 3, 3, (uint8_t)(body >> 8), (uint8_t)body }, TLS_RECORD_HEADER);
	put_seq(to + TLS_RECORD_HEADER, r->keys[TLS_OUT].seq);	/* TLS 1.2: a nonce that does not come twice; else overwritten */
	return start(r, TLS_OUT, type, body, len, to + TLS_RECORD_HEADER);
}

bool
tls_records_add(struct tls_records *r, const uint8_t *from, size_t len, uint8_t **to)
{
	int n = 0;

	if (len == 0)
		return true;
	if (EVP_CipherUpdate(r->keys[TLS_OUT].cipher, *to, &n, from, (int)len) != 1)
		return false;
	*to += n;
	return true;
}

bool
tls_records_end(struct tls_records *r, uint8_t type, uint8_t *to)
{
	EVP_CIPHER_CTX *c = r->keys[TLS_OUT].cipher;
	int n = 0;

	return (!r->is_13 || tls_records_add(r, &type, 1, &to)) && EVP_CipherFinal_ex(c, to, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG, to + n) == 1;
}
