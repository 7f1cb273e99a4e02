/* tls_client.c - what a client tells of itself in its handshake: its certificate's name, SNI, ALPN. */
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "stent/transport.h"
#include "transport/tls_engine.h"

/* A name with a NUL in it is left out: what follows that would be cut off. */
static void
take_common_name(const X509 *x, char ret[256])
{
	X509_NAME *subject = X509_get_subject_name(x);
	const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *text = NULL;
	int len;

	if (at < 0)
		return;
	len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (len > 0 && len < 256 && memchr(text, 0, (size_t)len) == NULL) {
		memcpy(ret, text, (size_t)len);
		ret[len] = '\0';
	}
	if (len >= 0)
		OPENSSL_free(text);
}

void
tls_note_client(SSL *ssl, struct transport_client *ret)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const X509 *x = SSL_get0_peer_certificate(ssl);
	const unsigned char *alpn;
	unsigned len;

	*ret = (struct transport_client){ .has_certificate = x != NULL };
	if (name != NULL && strlen(name) < sizeof(ret->name))
		snprintf(ret->name, sizeof(ret->name), "%s", name);
	SSL_get0_alpn_selected(ssl, &alpn, &len);
	if (len < sizeof(ret->alpn) && len > 0)
		memcpy(ret->alpn, alpn, len);
	if (x != NULL)
		take_common_name(x, ret->common_name);
}
