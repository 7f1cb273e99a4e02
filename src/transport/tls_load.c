/* tls_load.c - certificates, keys and CAs from files, and what is wrong with them in the operator's words. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stent/confined.h"
#include "transport/tls_context.h"

#define FILE_MAX (8 * 1024 * 1024)	/* a bundle of all CAs has a quarter of a MiB */

__attribute__((format(printf, 2, 3))) static int
fail(char error[TLS_ERROR_MAX], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, TLS_ERROR_MAX, format, args);
	va_end(args);
	return -1;
}

/* The whole file as a BIO, or NULL, which errno explains. */
static BIO *
read_file(const char *file)
{
	FILE *f = fopen(file, "re");
	BIO *bio = f != NULL ? BIO_new(BIO_s_mem()) : NULL;
	char buf[4096];
	size_t n, total = 0;
	int err = errno;

	while (bio != NULL && total < FILE_MAX && (n = fread(buf, 1, sizeof(buf), f)) > 0) {
		(void)BIO_write(bio, buf, (int)n);
		total += n;
	}
	OPENSSL_cleanse(buf, sizeof(buf));
	if (f != NULL && ferror(f)) {
		err = errno;
		BIO_free(bio);
		bio = NULL;
	}
	if (f != NULL)
		fclose(f);
	errno = err;
	return bio;
}

static int
fail_to_read(const char *file, char error[TLS_ERROR_MAX])
{
	const char *const why = confined_error(errno, file, R_OK);

	if (strcmp(why, strerror(EACCES)) == 0)
		return fail(error, "%s: cannot be read by user %u: permission denied", file, (unsigned)geteuid());
	return fail(error, "%s: cannot be read: %s", file, why);
}

/* Nothing could be parsed of a file, in which `label` ("CERTIFICATE") was sought. */
static int
fail_to_parse(const char *file, const char *label, char error[TLS_ERROR_MAX])
{
	const bool is_key = strcmp(label, "PRIVATE KEY") == 0;
	const char *what = is_key ? "private key" : "certificate";
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	BIO *bio = read_file(file);	/* again: what was read of the other is gone */
	char *data = NULL, begin[64];
	long len;

	if (bio == NULL)
		return fail_to_read(file, error);
	len = BIO_get_mem_data(bio, &data);
	snprintf(begin, sizeof(begin), "%s-----", label);
	if (len == 0)
		fail(error, "%s: holds no %s: it is empty", file, what);
	else if (data[0] == 0x30)
		fail(error, "%s: is in DER, not in PEM: convert it with `openssl %s -inform der -in %s -out FILE`", file,
		    is_key ? "pkey" : "x509", file);
	else if (memmem(data, (size_t)len, begin, strlen(begin)) != NULL)
		fail(error, "%s: the %s is damaged: %s", file, what, why != NULL ? why : "unknown error");
	else
		fail(error, "%s: holds no %s in PEM (\"-----BEGIN %s-----\")", file, what, label);
	BIO_free(bio);
	return -1;
}

static bool
is_key_too_weak(void)
{
	const int reason = ERR_GET_REASON(ERR_peek_error());

	return reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL || reason == SSL_R_CA_MD_TOO_WEAK;
}

/* The leaf, and those after it as its chain. */
static int
load_chain(SSL_CTX *ssl, BIO *bio, const char *file, char error[TLS_ERROR_MAX])
{
	X509 *x = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	int r;

	if (x == NULL)
		return fail_to_parse(file, "CERTIFICATE", error);
	r = SSL_CTX_use_certificate(ssl, x);
	X509_free(x);
	while (r == 1 && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		r = SSL_CTX_add0_chain_cert(ssl, x) == 1;
		if (r != 1)
			X509_free(x);
	}
	if (r != 1 && is_key_too_weak())
		return fail(error, "%s: key or signature of a certificate is too weak for OpenSSL's security level (2: RSA of 2048 bits, SHA-256)", file);
	if (r != 1)
		return fail(error, "%s: OpenSSL refuses the certificate: %s", file, ERR_reason_error_string(ERR_peek_error()));
	ERR_clear_error();	/* the end of the file */
	return 0;
}

/* Called for a key that is encrypted; nobody is there to type a passphrase. */
static int
on_passphrase(char *buf, int size, int is_written, void *arg)
{
	(void)buf;
	(void)size;
	(void)is_written;
	*(bool *)arg = true;
	return -1;
}

static int
load_key(SSL_CTX *ssl, const char *file, const char *cert, char error[TLS_ERROR_MAX])
{
	BIO *bio = read_file(file);
	bool has_passphrase = false;
	EVP_PKEY *key;
	int r;

	if (bio == NULL)
		return fail_to_read(file, error);
	key = PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &has_passphrase);
	BIO_free(bio);
	if (key == NULL && has_passphrase)
		return fail(error, "%s: the key has a passphrase, and stent cannot ask for it: remove it with `openssl pkey -in %s -out FILE`", file, file);
	if (key == NULL)
		return fail_to_parse(file, "PRIVATE KEY", error);
	r = X509_check_private_key(SSL_CTX_get0_certificate(ssl), key);
	if (r != 1)
		fail(error, "%s: the key does not belong to the first certificate of %s", file, cert);
	else if ((r = SSL_CTX_use_PrivateKey(ssl, key)) != 1)
		fail(error, "%s: OpenSSL refuses the key: %s", file, ERR_reason_error_string(ERR_peek_error()));
	EVP_PKEY_free(key);
	return r == 1 ? 0 : -1;
}

int
tls_load_certificate(SSL_CTX *ssl, const char *cert, const char *key, char error[TLS_ERROR_MAX])
{
	BIO *bio = read_file(cert);
	int r;

	ERR_clear_error();
	if (bio == NULL)
		return fail_to_read(cert, error);
	r = load_chain(ssl, bio, cert, error);
	BIO_free(bio);
	return r == 0 ? load_key(ssl, key != NULL ? key : cert, cert, error) : r;
}

/*
 * OpenSSL reads a certificate's extensions when it first needs them, and if it has no memory then, takes the certificate for
 * an invalid one ever after. So they are read here, where lack of memory is told (tls.c).
 */
static void
read_extensions(X509 *x)
{
	(void)X509_check_purpose(x, -1, 0);
}

int
tls_load_ca(SSL_CTX *ssl, const char *ca, bool is_server, char error[TLS_ERROR_MAX])
{
	X509_STORE *store = SSL_CTX_get_cert_store(ssl);
	BIO *bio = read_file(ca);
	X509 *x;
	int n = 0, r = 1;

	ERR_clear_error();
	if (bio == NULL)
		return fail_to_read(ca, error);
	while (r == 1 && (x = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)) != NULL) {
		read_extensions(x);
		r = X509_STORE_add_cert(store, x) == 1 && (!is_server || SSL_CTX_add_client_CA(ssl, x) == 1);
		X509_free(x);
		n++;
	}
	BIO_free(bio);
	if (r != 1)
		return fail(error, "%s: OpenSSL refuses a certificate: %s", ca, ERR_reason_error_string(ERR_peek_error()));
	if (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return fail_to_parse(ca, "CERTIFICATE", error);
	/* What the operator names is trusted, be it a root, an intermediate CA, or the server's certificate itself. */
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	return 0;
}

int
tls_load_system_ca(SSL_CTX *ssl, char error[TLS_ERROR_MAX])
{
	const char *file = getenv(X509_get_default_cert_file_env()), *folder = getenv(X509_get_default_cert_dir_env());
	STACK_OF(X509_OBJECT) *all;
	X509 *x;

	if (file == NULL)
		file = X509_get_default_cert_file();
	if (folder == NULL)
		folder = X509_get_default_cert_dir();
	if (access(file, R_OK) != 0 && access(folder, R_OK | X_OK) != 0)
		return fail(error, "the system has no CA certificates (neither %s nor %s): install the package ca-certificates, or name a file", file, folder);
	if (SSL_CTX_set_default_verify_paths(ssl) != 1)
		return fail(error, "%s: OpenSSL cannot use the system's CA certificates", folder);
	all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ssl));
	for (int i = 0; i < sk_X509_OBJECT_num(all); i++)
		if ((x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i))) != NULL)
			read_extensions(x);
	return 0;
}

int64_t
tls_certificate_expiry(const char *file)
{
	BIO *bio = read_file(file);
	X509 *x = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL) : NULL;
	struct tm at;
	int64_t r = -1;

	if (x != NULL && ASN1_TIME_to_tm(X509_get0_notAfter(x), &at) == 1)
		r = timegm(&at);
	X509_free(x);
	BIO_free(bio);
	ERR_clear_error();
	return r;
}
