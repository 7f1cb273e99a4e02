/*
 * certificate.h - what the certificates of a PEM file say, for those who look
 * after them. By OpenSSL; verifies nothing.
 */
#ifndef STENT_CERTIFICATE_H
#define STENT_CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

struct certificate {
	char *subject, *issuer;		/* "CN=db.example,O=Example" (RFC 2253) */
	char *names;			/* "db.example, 10.0.0.1": of its subjectAltName; "" for none */
	int64_t from_s, until_s;	/* valid, in seconds since 1970 */
};

struct certificates {
	struct certificate *list;
	size_t n;
};

/* All certificates of a file, in its order: at least one. -EINVAL: there is none, or a damaged one; or -errno. */
int certificates_read(struct certificates *ret, const char *file);
void certificates_clear(struct certificates *c);

#endif
