/*
 * secure_contexts.c - what ends of TLS share: certificates, contexts, randomness.
 *
 * Contexts are made once in the parent of all lives, which also fills OpenSSL's
 * caches. Objects of OpenSSL that are made on a fiber are the program's.
 */
#define OPENSSL_SUPPRESS_DEPRECATED	/* RAND_set_rand_method() */

#include "secure_contexts.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fiber.h"
#include "secure.h"

/* Self-signed; until 2100. */
static const char ca[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIBQDCB6KADAgECAgEBMAoGCCqGSM49BAMCMB8xHTAbBgNVBAMMFENBIG9mIHRo\n"
	"ZSBzaW11bGF0aW9uMCAXDTIwMDEwMTAwMDAwMFoYDzIxMDAwMTAxMDAwMDAwWjAf\n"
	"MR0wGwYDVQQDDBRDQSBvZiB0aGUgc2ltdWxhdGlvbjBZMBMGByqGSM49AgEGCCqG\n"
	"SM49AwEHA0IABE691/uqqf2T+nTmKpqkSCjSqqVOan04bT0TuobrUhpI0iv0WsOA\n"
	"VJhuyosV2tcT//z2wCLtg/WY/SGEG+ydUDSjEzARMA8GA1UdEwEB/wQFMAMBAf8w\n"
	"CgYIKoZIzj0EAwIDRwAwRAIgAMRZ7MSxXeR6GNu02sBmW2j+wKOeUT6hTNpgz7xy\n"
	"W9UCIAEyXrE+9tJRMQE5CqdIABr5UmlxXaPdNiYRj0vGIX0R\n"
	"-----END CERTIFICATE-----\n";

/* Of server.sim and stent.sim, and its key. */
static const char leaf[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIBWzCCAQGgAwIBAgIBAjAKBggqhkjOPQQDAjAfMR0wGwYDVQQDDBRDQSBvZiB0\n"
	"aGUgc2ltdWxhdGlvbjAgFw0yMDAxMDEwMDAwMDBaGA8yMTAwMDEwMTAwMDAwMFow\n"
	"GTEXMBUGA1UEAwwOdGhlIHNpbXVsYXRpb24wWTATBgcqhkjOPQIBBggqhkjOPQMB\n"
	"BwNCAARWH4y2ioPNvh7RoBTSSEnhK3w/hZBiuxJsX0Ae4VQI7XcFgHG4sGn4ngTR\n"
	"uxeiIgxy/gB65FBNQjlXcEB5jUkkozIwMDAMBgNVHRMBAf8EAjAAMCAGA1UdEQQZ\n"
	"MBeCCnNlcnZlci5zaW2CCXN0ZW50LnNpbTAKBggqhkjOPQQDAgNIADBFAiAWTpC5\n"
	"xqE9Yi1BwruOkBLSUy+m3h0l0ZHIS3FqFlV4OQIhAISqDVeJvLjugBf7AP79mZxI\n"
	"jFwBK8wAqVGY/oMpVTHt\n"
	"-----END CERTIFICATE-----\n"
	"-----BEGIN PRIVATE KEY-----\n"
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc6zsPXVJGLFmNhQf\n"
	"ENTPnBE5jPPN+ceB6sT1H+x2kgWhRANCAARWH4y2ioPNvh7RoBTSSEnhK3w/hZBi\n"
	"uxJsX0Ae4VQI7XcFgHG4sGn4ngTRuxeiIgxy/gB65FBNQjlXcEB5jUkk\n"
	"-----END PRIVATE KEY-----\n";

/* The kinds of clients and servers. */
static const struct kind {
	int version;		/* at most */
	const char *suites, *ciphers;	/* of 1.3 and 1.2; NULL: the usual ones */
} kinds[] = {
	{ TLS1_3_VERSION, NULL, NULL },
	{ TLS1_2_VERSION, NULL, NULL },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", NULL },
	{ TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256", NULL },
	/* Toward a server, the program also takes ciphers whose records it leaves to OpenSSL. */
	{ TLS1_2_VERSION, NULL, "ECDHE-ECDSA-AES256-SHA384" },
	{ TLS1_2_VERSION, NULL, "ECDHE-ECDSA-AES128-SHA256" },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
#define CLIENT_KINDS 4		/* the first ones */

static struct {
	SSL_CTX *context[2][KINDS];	/* of clients, and of servers */
	SSL_SESSION *session[KINDS];	/* the last one that a client got */
	char ca_file[40], leaf_file[40];
} shared;

/* --- randomness --- */

static int
give_random(unsigned char *to, int len)
{
	for (int i = 0; i < len; i += 8) {
		const uint64_t r = rnd();

		memcpy(to + i, &r, len - i < 8 ? (size_t)(len - i) : 8);
	}
	return 1;
}

static int
is_random(void)
{
	return 1;
}

/* --- objects of the program --- */

static struct counted {
	int class;
	const char *name;
	int index;
	long n;
} counted[] = {
	{ CRYPTO_EX_INDEX_SSL, "SSL", 0, 0 }, { CRYPTO_EX_INDEX_SSL_CTX, "SSL_CTX", 0, 0 }, { CRYPTO_EX_INDEX_SSL_SESSION, "SSL_SESSION", 0, 0 },
	{ CRYPTO_EX_INDEX_X509, "X509", 0, 0 }, { CRYPTO_EX_INDEX_BIO, "BIO", 0, 0 },
};

static void
count_new(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long number, void *arg)
{
	struct counted *c = arg;

	(void)parent;
	(void)ptr;
	(void)number;
	if (fiber_current() != NULL && CRYPTO_set_ex_data(data, index, c) == 1)
		c->n++;
}

static void
count_freed(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long number, void *arg)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)number;
	if (ptr == arg)
		((struct counted *)arg)->n--;
}

void
secure_check(void)
{
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		if (counted[i].n != 0)
			wrong("leak", "%ld objects %s of OpenSSL are left at the end", counted[i].n, counted[i].name);
}

/* --- setting up --- */

/* A file that exists in memory only. */
static void
make_file(char name[40], const char *text)
{
	const int fd = memfd_create("certificate", 0);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		perror("sim: memfd_create");
		exit(2);
	}
	snprintf(name, 40, "/proc/self/fd/%d", fd);
}

static int
keep_session(SSL *ssl, SSL_SESSION *session)
{
	for (size_t i = 0; i < CLIENT_KINDS; i++) {
		if (SSL_get_SSL_CTX(ssl) != shared.context[0][i])
			continue;
		SSL_SESSION_free(shared.session[i]);
		shared.session[i] = session;
		return 1;
	}
	return 0;
}

static SSL_CTX *
make_context(const struct kind *k, bool is_server)
{
	SSL_CTX *c = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	int ok = c != NULL && SSL_CTX_set_max_proto_version(c, k->version) == 1;

	ok = ok && (k->suites == NULL || SSL_CTX_set_ciphersuites(c, k->suites) == 1);
	ok = ok && (k->ciphers == NULL || SSL_CTX_set_cipher_list(c, k->ciphers) == 1);
	if (k->version == TLS1_3_VERSION && k->suites != NULL)
		ok = ok && SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) == 1;
	if (is_server) {
		ok = ok && SSL_CTX_use_certificate_file(c, shared.leaf_file, SSL_FILETYPE_PEM) == 1;
		ok = ok && SSL_CTX_use_PrivateKey_file(c, shared.leaf_file, SSL_FILETYPE_PEM) == 1;
	} else {
		ok = ok && SSL_CTX_load_verify_file(c, shared.ca_file) == 1;
		SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
		SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(c, keep_session);
	}
	if (!ok) {
		ERR_print_errors_fp(stderr);
		exit(2);
	}
	return c;
}

/* A handshake of two ends, to fill OpenSSL's caches. */
static void
warm_up(SSL_CTX *client, SSL_CTX *server)
{
	SSL *c = SSL_new(client), *s = SSL_new(server);
	BIO *a = BIO_new(BIO_s_mem()), *b = BIO_new(BIO_s_mem());

	(void)BIO_up_ref(a);
	(void)BIO_up_ref(b);
	SSL_set_bio(c, a, b);
	SSL_set_bio(s, b, a);
	SSL_set_connect_state(c);
	SSL_set_accept_state(s);
	for (int i = 0; i < 4; i++) {
		(void)SSL_do_handshake(c);
		(void)SSL_do_handshake(s);
	}
	assert(SSL_is_init_finished(c));
	SSL_free(c);
	SSL_free(s);
	ERR_clear_error();
}

void
secure_set_up(void)
{
	static const RAND_METHOD method = { .bytes = give_random, .pseudorand = give_random, .status = is_random };

	make_file(shared.ca_file, ca);
	make_file(shared.leaf_file, leaf);
	(void)RAND_set_rand_method(&method);
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		counted[i].index = CRYPTO_get_ex_new_index(counted[i].class, 0, &counted[i], count_new, NULL, count_freed);
	for (size_t i = 0; i < KINDS; i++) {
		shared.context[0][i] = make_context(&kinds[i], false);
		shared.context[1][i] = make_context(&kinds[i], true);
		warm_up(shared.context[0][i], shared.context[1][i]);
	}
}

const char *
secure_ca_file(void)
{
	return shared.ca_file;
}

const char *
secure_certificate_file(void)
{
	return shared.leaf_file;
}

SSL *
secure_ssl_new(bool is_server)
{
	const size_t kind = rnd_chance(5000) ? 0 : (size_t)rnd_below(is_server ? KINDS : CLIENT_KINDS);
	SSL *ssl = SSL_new(shared.context[is_server][kind]);

	assert(ssl != NULL);
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	if (!is_server && shared.session[kind] != NULL && rnd_chance(3000))
		(void)SSL_set_session(ssl, shared.session[kind]);
	return ssl;
}
