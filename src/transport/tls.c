/*
 * tls.c - contexts.
 *
 * The security level is that of the system's OpenSSL configuration. Toward clients only authenticated ciphers with
 * forward secrecy are offered, in our order: AES-128 first, as it is the
 * cheapest. Sessions of clients are in tickets, so the server keeps none.
 */
#include "stent/tls.h"

#include <assert.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tls_context.h"
#include "transport/tls_memory.h"
#include "transport/tls_takeover.h"

#define SERVER_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SERVER_CIPHERS \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:" \
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define ALPN_MAX 255
#define NO_MEMORY "out of memory"

/* --- what OpenSSL calls --- */

static int
verify(X509_STORE_CTX *x, void *arg)
{
	const struct tls_context *c = arg;
	SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(x);
	bool is_good;

	if (!tls_memory_has_failed())	/* else one may lack its key */
		tls_sessions_share(c->sessions, chain);
	X509_STORE_CTX_set_cert(x, sk_X509_value(chain, 0));
	is_good = !c->verifies || X509_verify_cert(x) == 1;
	if (tls_memory_has_failed())	/* OpenSSL may have noted of them that they are invalid */
		tls_sessions_share_no_more(c->sessions);
	if (is_good)
		return 1;
	tls_cause_of_verification(SSL_get_app_data(ssl), x);
	return 0;
}

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	const struct tls *t = SSL_get_app_data(ssl);

	tls_sessions_add(t->context->sessions, t->name, session);
	return 1;	/* the reference is ours now */
}

/* The first of our names that the client offers. Without one the handshake fails: RFC 7301, section 3.2. */
static int
choose_alpn(SSL *ssl, const unsigned char **ret, unsigned char *len, const unsigned char *offered, unsigned n, void *arg)
{
	const struct tls_context *c = arg;
	unsigned char *chosen;

	(void)ssl;
	if (SSL_select_next_proto(&chosen, len, c->alpn, c->alpn_len, offered, n) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*ret = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --- making one --- */

/*
 * OpenSSL makes all algorithms of a kind when it first needs one of them, and one for which there is no memory then is
 * missing for ever: handshakes fail. So that happens here, where it can be told, and not in the first handshake.
 */
static bool
has_all_parts(void)
{
	EVP_MD *md = EVP_MD_fetch(NULL, "SHA2-256", NULL);
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_KDF *hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL), *prf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KEYMGMT *keys = EVP_KEYMGMT_fetch(NULL, "EC", NULL);
	EVP_KEYEXCH *exchange = EVP_KEYEXCH_fetch(NULL, "ECDH", NULL);
	EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(NULL, "ECDSA", NULL);
	EVP_ASYM_CIPHER *rsa = EVP_ASYM_CIPHER_fetch(NULL, "RSA", NULL);
	OSSL_DECODER *decoder = OSSL_DECODER_fetch(NULL, "EC", NULL);
	const bool all = md != NULL && cipher != NULL && mac != NULL && hkdf != NULL && prf != NULL && keys != NULL &&
	    exchange != NULL && signature != NULL && rsa != NULL && decoder != NULL;

	EVP_MD_free(md);
	EVP_CIPHER_free(cipher);
	EVP_MAC_free(mac);
	EVP_KDF_free(hkdf);
	EVP_KDF_free(prf);
	EVP_KEYMGMT_free(keys);
	EVP_KEYEXCH_free(exchange);
	EVP_SIGNATURE_free(signature);
	EVP_ASYM_CIPHER_free(rsa);
	OSSL_DECODER_free(decoder);
	return all && !tls_memory_has_failed();
}

static int
set_alpn(struct tls_context *c, const char *names)
{
	size_t n;

	c->alpn = malloc(strlen(names) + 1);
	if (c->alpn == NULL)
		return -1;
	for (; *names != '\0'; names += n + (names[n] == ',')) {
		n = strcspn(names, ",");
		assert(n > 0 && n <= ALPN_MAX);
		c->alpn[c->alpn_len++] = (unsigned char)n;
		memcpy(c->alpn + c->alpn_len, names, n);
		c->alpn_len += (unsigned)n;
	}
	assert(c->alpn_len > 0);	/* an empty list is refused by peers */
	if (c->is_server)
		SSL_CTX_set_alpn_select_cb(c->ssl, choose_alpn, c);
	else if (SSL_CTX_set_alpn_protos(c->ssl, c->alpn, c->alpn_len) != 0)
		return -1;
	return 0;
}

static int
set_server(struct tls_context *c)
{
	static const unsigned char id[] = "stent";	/* tickets are bound to the context by its keys */

	SSL_CTX_set_options(c->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
	return SSL_CTX_set_ciphersuites(c->ssl, SERVER_SUITES) == 1 && SSL_CTX_set_cipher_list(c->ssl, SERVER_CIPHERS) == 1 &&
	    SSL_CTX_set_session_id_context(c->ssl, id, sizeof(id) - 1) == 1 ? 0 : -1;
}

static int
set_client(struct tls_context *c)
{
	SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c->ssl, on_session);
	return 0;
}

static int
set_up(struct tls_context *c, const struct tls_settings *settings, const char *alpn)
{
	SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(c->ssl, 0);	/* tls_bio.c does that */
	SSL_CTX_set_cert_verify_callback(c->ssl, verify, c);
	tls_watch_context(c->ssl);
	if (c->verifies)
		SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (SSL_CTX_set_min_proto_version(c->ssl, settings->min_version != 0 ? settings->min_version : TLS1_2_VERSION) != 1)
		return -1;
	if (alpn != NULL && set_alpn(c, alpn) != 0)
		return -1;
	return c->is_server ? set_server(c) : set_client(c);
}

static int
load_files(struct tls_context *c, const struct tls_settings *settings, char error[TLS_ERROR_MAX])
{
	int r = 0;

	if (settings->cert != NULL)
		r = tls_load_certificate(c->ssl, settings->cert, settings->key, error);
	if (r == 0 && settings->ca != NULL)
		r = tls_load_ca(c->ssl, settings->ca, c->is_server, error);
	else if (r == 0 && c->verifies)
		r = tls_load_system_ca(c->ssl, error);
	return r;
}

struct tls_context *
tls_context_new(const struct tls_settings *settings, bool is_server, const char *alpn, char error[TLS_ERROR_MAX])
{
	struct tls_context *c = calloc(1, sizeof(*c));

	assert(settings->mode != TLS_OFF);
	snprintf(error, TLS_ERROR_MAX, NO_MEMORY);
	if (c == NULL)
		return NULL;
	c->held = 1;
	c->is_server = is_server;
	c->verifies = is_server ? settings->ca != NULL : settings->mode == TLS_VERIFY;
	c->has_certificate = settings->cert != NULL;
	tls_memory_watch();
	if (!has_all_parts()) {
		snprintf(error, TLS_ERROR_MAX, NO_MEMORY ": parts of OpenSSL could not be loaded, or could not before; restart stent");
		goto fail;
	}
	c->sessions = tls_sessions_new();
	c->ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	if (c->sessions == NULL || c->ssl == NULL)
		goto fail;
	snprintf(error, TLS_ERROR_MAX, "OpenSSL refuses the settings of TLS (its own configuration is openssl.cnf)");
	if (set_up(c, settings, alpn) != 0 || load_files(c, settings, error) != 0)
		goto fail;
	if (tls_memory_has_failed())	/* OpenSSL goes on without a certificate's key, for one */
		goto fail;
	ERR_clear_error();
	error[0] = '\0';
	return c;
fail:
	if (tls_memory_has_failed() && strncmp(error, NO_MEMORY, strlen(NO_MEMORY)) != 0)
		snprintf(error, TLS_ERROR_MAX, NO_MEMORY);
	ERR_clear_error();
	tls_context_release(c);
	return NULL;
}

struct tls_context *
tls_context_hold(struct tls_context *c)
{
	const unsigned held = atomic_fetch_add_explicit(&c->held, 1, memory_order_relaxed);

	assert(held > 0);	/* else it is freed already */
	(void)held;
	return c;
}

void
tls_context_release(struct tls_context *c)
{
	unsigned held;

	if (c == NULL)
		return;
	held = atomic_fetch_sub_explicit(&c->held, 1, memory_order_acq_rel);
	assert(held > 0);
	if (held != 1)
		return;
	SSL_CTX_free(c->ssl);
	tls_sessions_free(c->sessions);
	free(c->alpn);
	free(c);
}
