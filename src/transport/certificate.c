/*
 * certificate.c - reads what certificates say.
 *
 * A file may hold other things between its certificates (a key, texts): they are
 * skipped, as OpenSSL does when it loads a chain.
 */
#include "stent/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What fn writes, as a string. NULL: out of memory. The caller frees it. */
static char *
written(void (*fn)(BIO *out, const X509 *x), const X509 *x)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *data, *text = NULL;
	long len;

	if (out == NULL)
		return NULL;
	fn(out, x);
	len = BIO_get_mem_data(out, &data);
	if (len >= 0)
		text = calloc((size_t)len + 1, 1);	/* data has no NUL */
	if (text != NULL && len > 0)
		memcpy(text, data, (size_t)len);
	BIO_free(out);
	return text;
}

#define NAME_FLAGS (XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB)	/* UTF-8 stays readable */

static void
write_subject(BIO *out, const X509 *x)
{
	X509_NAME_print_ex(out, X509_get_subject_name(x), 0, NAME_FLAGS);
}

static void
write_issuer(BIO *out, const X509 *x)
{
	X509_NAME_print_ex(out, X509_get_issuer_name(x), 0, NAME_FLAGS);
}

/* False: not a kind of name that is verified against. */
static bool
write_name(BIO *out, const GENERAL_NAME *name, const char *before)
{
	char text[INET6_ADDRSTRLEN];
	int kind;
	const ASN1_STRING *s = GENERAL_NAME_get0_value(name, &kind);

	if (kind == GEN_DNS) {
		BIO_printf(out, "%s%.*s", before, ASN1_STRING_length(s), (const char *)ASN1_STRING_get0_data(s));
	} else if (kind == GEN_IPADD && (ASN1_STRING_length(s) == 4 || ASN1_STRING_length(s) == 16)) {
		inet_ntop(ASN1_STRING_length(s) == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(s), text, sizeof(text));
		BIO_printf(out, "%s%s", before, text);
	} else {
		return false;
	}
	return true;
}

static void
write_names(BIO *out, const X509 *x)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	const char *before = "";

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
		if (write_name(out, sk_GENERAL_NAME_value(names, i), before))
			before = ", ";
	GENERAL_NAMES_free(names);
}

/* A time that cannot be read is long past. */
static int64_t
seconds(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static int
add(struct certificates *ret, const X509 *x)
{
	struct certificate *grown = realloc(ret->list, (ret->n + 1) * sizeof(*grown)), *c;

	if (grown == NULL)
		return -ENOMEM;
	ret->list = grown;
	c = &grown[ret->n++];
	*c = (struct certificate){
		.subject = written(write_subject, x), .issuer = written(write_issuer, x), .names = written(write_names, x),
		.from_s = seconds(X509_get0_notBefore(x)), .until_s = seconds(X509_get0_notAfter(x)),
	};
	return c->subject != NULL && c->issuer != NULL && c->names != NULL ? 0 : -ENOMEM;
}

/* True: nothing is wrong, but there is no further certificate. */
static bool
is_at_end(void)
{
	const unsigned long e = ERR_peek_last_error();

	return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

int
certificates_read(struct certificates *ret, const char *file)
{
	FILE *in = fopen(file, "re");
	X509 *x;
	int r = 0;

	*ret = (struct certificates){ 0 };
	if (in == NULL)
		return -errno;
	ERR_clear_error();
	while (r == 0 && (x = PEM_read_X509(in, NULL, NULL, NULL)) != NULL) {
		r = add(ret, x);
		X509_free(x);
	}
	if (r == 0 && (ret->n == 0 || ferror(in) || !is_at_end()))
		r = -EINVAL;
	ERR_clear_error();
	fclose(in);
	if (r < 0)
		certificates_clear(ret);
	return r;
}

void
certificates_clear(struct certificates *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->list[i].subject);
		free(c->list[i].issuer);
		free(c->list[i].names);
	}
	free(c->list);
	*c = (struct certificates){ 0 };
}
