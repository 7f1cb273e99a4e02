/*
 * tls_cause.c - why TLS failed, in the operator's words.
 *
 * The verification of a certificate is explained while the certificate is at
 * hand; other failures by OpenSSL's code for them, by the alert that the peer
 * sent, and by what the peer's first bytes look like.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transport/tls_context.h"
#include "transport/tls_engine.h"
#include "transport/tls_memory.h"

#define NAMES_MAX 160		/* of a certificate, in bytes of text */

static const char *const names[] = {
	[TLS_CAUSE_NONE] = "",
	[TLS_CAUSE_NO_TLS] = "no-tls",
	[TLS_CAUSE_CLOSED] = "closed",
	[TLS_CAUSE_RESET] = "reset",
	[TLS_CAUSE_TIMEOUT] = "handshake-timeout",
	[TLS_CAUSE_UNKNOWN_CA] = "unknown-ca",
	[TLS_CAUSE_SELF_SIGNED] = "self-signed",
	[TLS_CAUSE_WRONG_NAME] = "wrong-name",
	[TLS_CAUSE_EXPIRED] = "expired",
	[TLS_CAUSE_NOT_YET_VALID] = "not-yet-valid",
	[TLS_CAUSE_CERTIFICATE] = "certificate",
	[TLS_CAUSE_CLIENT_CERTIFICATE] = "client-certificate",
	[TLS_CAUSE_NO_VERSION] = "no-common-version",
	[TLS_CAUSE_NO_CIPHER] = "no-common-cipher",
	[TLS_CAUSE_NO_ALPN] = "no-common-alpn",
	[TLS_CAUSE_ALERT] = "alert",
	[TLS_CAUSE_PROTOCOL] = "protocol",
	[TLS_CAUSE_MEMORY] = "memory",
};
_Static_assert(sizeof(names) / sizeof(names[0]) == TLS_CAUSE_COUNT, "each cause has a name");

const char *
tls_cause_name(enum tls_cause cause)
{
	assert(cause < TLS_CAUSE_COUNT);
	return names[cause];
}

/* The first failure is the cause; what follows is its consequence. */
__attribute__((format(printf, 3, 4))) static void
set(struct tls *t, enum tls_cause kind, const char *format, ...)
{
	va_list args;

	if (t->kind != TLS_CAUSE_NONE || t->broken)
		return;
	assert(kind > TLS_CAUSE_NONE && kind < TLS_CAUSE_COUNT);
	t->kind = (uint8_t)kind;
	va_start(args, format);
	if (vasprintf(&t->cause, format, args) < 0)
		t->cause = NULL;
	va_end(args);
}

static const char *
peer(const struct tls *t)
{
	return t->context->is_server ? "client" : "server";
}

/* Bytes of a certificate or of a peer may be anything: no control characters, quotes or bytes beyond ASCII. */
static void
make_printable(char *text)
{
	for (; *text != '\0'; text++)
		if (!isascii((unsigned char)*text) || !isprint((unsigned char)*text) || *text == '"')
			*text = '?';
}

static void
out_of_memory(struct tls *t)
{
	set(t, TLS_CAUSE_MEMORY, "out of memory");
}

/* --- certificates --- */

static void
add_name(char text[NAMES_MAX], const char *name, int len)
{
	const size_t have = strlen(text);

	assert(have < NAMES_MAX);
	if (have + (size_t)len + 8 > NAMES_MAX) {
		if (have >= 4 && strcmp(text + have - 3, "...") != 0)
			snprintf(text + have, NAMES_MAX - have, ", ...");
		return;
	}
	snprintf(text + have, NAMES_MAX - have, "%s%.*s", have > 0 ? ", " : "", len, name);
}

static void
add_general_name(char text[NAMES_MAX], const GENERAL_NAME *g)
{
	char buf[64];

	if (g->type == GEN_DNS) {
		add_name(text, (const char *)ASN1_STRING_get0_data(g->d.dNSName), ASN1_STRING_length(g->d.dNSName));
	} else if (g->type == GEN_IPADD) {
		const unsigned char *ip = ASN1_STRING_get0_data(g->d.iPAddress);
		const int len = ASN1_STRING_length(g->d.iPAddress);
		const int n = len == 4 ? snprintf(buf, sizeof(buf), "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]) :
		    len == 16 ? snprintf(buf, sizeof(buf), "%x:%x:%x:%x:%x:%x:%x:%x", ip[0] << 8 | ip[1], ip[2] << 8 | ip[3],
			ip[4] << 8 | ip[5], ip[6] << 8 | ip[7], ip[8] << 8 | ip[9], ip[10] << 8 | ip[11], ip[12] << 8 | ip[13],
			ip[14] << 8 | ip[15]) : 0;

		if (n > 0)
			add_name(text, buf, n);
	}
}

/* Whom a certificate is for: its subjectAltName, or the common name. */
static void
names_of(const X509 *x, char text[NAMES_MAX])
{
	GENERAL_NAMES *found = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

	text[0] = '\0';
	for (int i = 0; i < sk_GENERAL_NAME_num(found); i++)
		add_general_name(text, sk_GENERAL_NAME_value(found, i));
	GENERAL_NAMES_free(found);
	if (text[0] == '\0' && X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, text, NAMES_MAX) < 0)
		snprintf(text, NAMES_MAX, "nobody");
	make_printable(text);
}

/* "CN=a,O=b", as `stent check` prints it */
static void
name_text(const X509_NAME *name, char text[NAMES_MAX])
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long n = 0;

	if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
		n = BIO_get_mem_data(bio, &data);
	snprintf(text, NAMES_MAX, "%.*s", (int)n, n > 0 ? data : "");
	BIO_free(bio);
	make_printable(text);
}

static const char *
date_text(const ASN1_TIME *at, char text[32])
{
	struct tm tm;

	if (ASN1_TIME_to_tm(at, &tm) != 1 || strftime(text, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(text, 32, "an unknown date");
	return text;
}

static const char *
whose(const struct tls *t, int depth, char text[64])
{
	if (depth == 0)
		snprintf(text, 64, "the %s's certificate", peer(t));
	else
		snprintf(text, 64, "a CA certificate in the %s's chain", peer(t));
	return text;
}

void
tls_cause_of_verification(struct tls *t, X509_STORE_CTX *x)
{
	const X509 *cert = X509_STORE_CTX_get_current_cert(x);
	const int error = X509_STORE_CTX_get_error(x);
	char name[NAMES_MAX] = "", subject[64], date[32];

	if (error == X509_V_ERR_OUT_OF_MEM || tls_memory_has_failed()) {
		out_of_memory(t);
		return;
	}
	if (cert == NULL)
		cert = X509_STORE_CTX_get0_cert(x);
	whose(t, X509_STORE_CTX_get_error_depth(x), subject);
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_UNTRUSTED:
		name_text(X509_get_issuer_name(cert), name);
		set(t, TLS_CAUSE_UNKNOWN_CA, "unknown CA: %s is issued by \"%s\", which tls_ca does not hold", subject, name);
		break;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		name_text(X509_get_issuer_name(cert), name);
		set(t, TLS_CAUSE_UNKNOWN_CA, "unknown CA: the %s's chain ends at \"%s\", which tls_ca does not hold", peer(t), name);
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		name_text(X509_get_subject_name(cert), name);
		set(t, TLS_CAUSE_SELF_SIGNED, "%s is self-signed (\"%s\"), and tls_ca does not hold it", subject, name);
		break;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		set(t, TLS_CAUSE_EXPIRED, "%s expired on %s", subject, date_text(X509_get0_notAfter(cert), date));
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		set(t, TLS_CAUSE_NOT_YET_VALID, "%s is not valid before %s", subject, date_text(X509_get0_notBefore(cert), date));
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		names_of(X509_STORE_CTX_get0_cert(x), name);
		set(t, TLS_CAUSE_WRONG_NAME, "the name is \"%s\", but the certificate is for \"%s\" (tls_name sets the name)", t->name, name);
		break;
	default:
		set(t, t->context->is_server ? TLS_CAUSE_CLIENT_CERTIFICATE : TLS_CAUSE_CERTIFICATE, "%s is refused: %s", subject,
		    X509_verify_cert_error_string(error));
	}
}

/* --- alerts --- */

static const struct alert {
	uint8_t number;
	enum tls_cause from_server, from_client;
	const char *name;
	const char *to_client, *to_server;	/* what it most probably means; "": its name says all */
} alerts[] = {
	{ 10, TLS_CAUSE_PROTOCOL, TLS_CAUSE_PROTOCOL, "unexpected_message", "", "" },
	{ 20, TLS_CAUSE_PROTOCOL, TLS_CAUSE_PROTOCOL, "bad_record_mac", "bytes were damaged on the way", "bytes were damaged on the way" },
	{ 40, TLS_CAUSE_ALERT, TLS_CAUSE_ALERT, "handshake_failure", "no common cipher, or it wants a client certificate (tls_cert)",
	    "no common cipher" },
	{ 42, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_CERTIFICATE, "bad_certificate", "it refuses our certificate (tls_cert)",
	    "it refuses our certificate (tls_cert)" },
	{ 43, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_CERTIFICATE, "unsupported_certificate", "it refuses our certificate (tls_cert)",
	    "it refuses our certificate (tls_cert)" },
	{ 44, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_CERTIFICATE, "certificate_revoked", "", "" },
	{ 45, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_EXPIRED, "certificate_expired", "our certificate (tls_cert) has expired",
	    "our certificate (tls_cert) has expired" },
	{ 46, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_CERTIFICATE, "certificate_unknown", "it refuses our certificate (tls_cert)",
	    "it does not trust our certificate (tls_cert)" },
	{ 47, TLS_CAUSE_PROTOCOL, TLS_CAUSE_PROTOCOL, "illegal_parameter", "", "" },
	{ 48, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_UNKNOWN_CA, "unknown_ca", "it does not know the CA of our certificate (tls_cert)",
	    "it does not know the CA of our certificate (tls_cert)" },
	{ 49, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_ALERT, "access_denied", "", "" },
	{ 50, TLS_CAUSE_PROTOCOL, TLS_CAUSE_PROTOCOL, "decode_error", "", "" },
	{ 51, TLS_CAUSE_PROTOCOL, TLS_CAUSE_PROTOCOL, "decrypt_error", "", "" },
	{ 70, TLS_CAUSE_NO_VERSION, TLS_CAUSE_NO_VERSION, "protocol_version", "no common version of TLS", "no common version of TLS" },
	{ 71, TLS_CAUSE_NO_CIPHER, TLS_CAUSE_NO_CIPHER, "insufficient_security", "it wants stronger ciphers", "it wants stronger ciphers" },
	{ 80, TLS_CAUSE_ALERT, TLS_CAUSE_ALERT, "internal_error", "its own log may say more", "" },
	{ 86, TLS_CAUSE_NO_VERSION, TLS_CAUSE_NO_VERSION, "inappropriate_fallback", "", "" },
	{ 109, TLS_CAUSE_PROTOCOL, TLS_CAUSE_PROTOCOL, "missing_extension", "", "" },
	{ 112, TLS_CAUSE_WRONG_NAME, TLS_CAUSE_ALERT, "unrecognized_name", "it does not serve this name (tls_name)", "" },
	{ 116, TLS_CAUSE_CLIENT_CERTIFICATE, TLS_CAUSE_ALERT, "certificate_required", "it wants a client certificate (tls_cert)", "" },
	{ 120, TLS_CAUSE_NO_ALPN, TLS_CAUSE_NO_ALPN, "no_application_protocol", "it does not speak our protocol by TLS", "" },
};

void
tls_cause_of_alert(struct tls *t, int number)
{
	const bool is_server = t->context->is_server;

	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
		const struct alert *a = &alerts[i];
		const char *why = is_server ? a->to_server : a->to_client;

		if (a->number != number)
			continue;
		set(t, is_server ? a->from_client : a->from_server, "the %s sent alert %d, %s%s%s", peer(t), number, a->name,
		    why[0] != '\0' ? ": " : "", why);
		return;
	}
	set(t, TLS_CAUSE_ALERT, "the %s sent alert %d", peer(t), number);
}

/* --- what the peer speaks --- */

/* The beginning of a record: a type of TLS, and version 3.x. */
static bool
begins_as_tls(const struct tls *t)
{
	return t->n_first == 0 || (t->first[0] >= SSL3_RT_CHANGE_CIPHER_SPEC && t->first[0] <= SSL3_RT_APPLICATION_DATA &&
	    (t->n_first == 1 || t->first[1] == SSL3_VERSION_MAJOR));
}

static bool
begins_with(const struct tls *t, const char *bytes, size_t at, size_t len)
{
	return t->n_first >= at + len && memcmp(t->first + at, bytes, len) == 0;
}

/* The protocol of the peer's first bytes; NULL: unknown. */
static const char *
protocol_of(const struct tls *t)
{
	static const struct {
		const char *bytes;
		uint8_t at, len;
		const char *name;
	} known[] = {
		{ "\x04\xd2\x16\x2f", 4, 4, "PostgreSQL's request for TLS: protocol = postgres understands it" },
		{ "\0\3\0\0", 4, 4, "PostgreSQL without TLS" },
		{ "\0\0\0\x0a", 1, 4, "MySQL's greeting: protocol = mysql begins TLS as MySQL does" },
		{ "HTTP/", 0, 5, "HTTP without TLS" },
		{ "GET ", 0, 4, "HTTP without TLS" },
		{ "POST ", 0, 5, "HTTP without TLS" },
		{ "HEAD ", 0, 5, "HTTP without TLS" },
		{ "PUT ", 0, 4, "HTTP without TLS" },
		{ "DELETE ", 0, 7, "HTTP without TLS" },
		{ "OPTIONS ", 0, 8, "HTTP without TLS" },
		{ "CONNECT ", 0, 8, "HTTP without TLS" },
		{ "PROXY ", 0, 6, "a PROXY header" },
		{ "\r\n\r\n\0\r\nQ", 0, 8, "a PROXY header" },
		{ "-ERR ", 0, 5, "Redis without TLS" },
		{ "SSH-", 0, 4, "SSH" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (begins_with(t, known[i].bytes, known[i].at, known[i].len))
			return known[i].name;
	return NULL;
}

static void
no_tls(struct tls *t)
{
	const char *protocol = protocol_of(t);
	char bytes[4 * sizeof(t->first) + 1] = "";

	for (size_t i = 0, at = 0; i < t->n_first; i++)
		at += (size_t)snprintf(bytes + at, sizeof(bytes) - at, isascii(t->first[i]) && isprint(t->first[i]) &&
		    t->first[i] != '"' && t->first[i] != '\\' ? "%c" : "\\x%02x", t->first[i]);
	if (protocol != NULL)
		set(t, TLS_CAUSE_NO_TLS, "the %s does not speak TLS: it sent %s", peer(t), protocol);
	else
		set(t, TLS_CAUSE_NO_TLS, "the %s does not speak TLS: it sent \"%s\"", peer(t), bytes);
}

/* --- failures --- */

static void
reason_of(struct tls *t, int reason)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());

	switch (reason) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_NO_PROTOCOLS_AVAILABLE:
	case SSL_R_INAPPROPRIATE_FALLBACK:
		set(t, TLS_CAUSE_NO_VERSION, "no common version of TLS: the %s's are too old for tls_min or for OpenSSL's configuration", peer(t));
		break;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_GROUPS:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
	case SSL_R_WRONG_CIPHER_RETURNED:
	case SSL_R_UNKNOWN_CIPHER_RETURNED:
		set(t, TLS_CAUSE_NO_CIPHER, "no common cipher with the %s (%s)", peer(t), text);
		break;
	case SSL_R_DH_KEY_TOO_SMALL:
		set(t, TLS_CAUSE_NO_CIPHER, "the server's Diffie-Hellman key is too small for OpenSSL's security level");
		break;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		set(t, TLS_CAUSE_CLIENT_CERTIFICATE, "the client sent no certificate, which client.tls_ca demands");
		break;
	case SSL_R_NO_APPLICATION_PROTOCOL:
		set(t, TLS_CAUSE_NO_ALPN, "the client offers by ALPN only protocols that this route does not speak");
		break;
	default:
		set(t, TLS_CAUSE_PROTOCOL, "TLS failed: %s", text != NULL ? text : "unknown error");
	}
}

void
tls_cause_of_failure(struct tls *t)
{
	const unsigned long error = ERR_peek_error();
	const int reason = ERR_GET_REASON(error);

	if (tls_memory_has_failed() || reason == ERR_R_MALLOC_FAILURE)
		out_of_memory(t);
	else if (!begins_as_tls(t))
		no_tls(t);
	else if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX)
		tls_cause_of_alert(t, reason - SSL_AD_REASON_OFFSET);
	else
		reason_of(t, ERR_GET_LIB(error) == ERR_LIB_SSL ? reason : 0);
}

void
tls_cause_of_violation(struct tls *t, const char *words)
{
	set(t, TLS_CAUSE_PROTOCOL, "TLS failed: the %s sent %s", peer(t), words);
}

void
tls_cause_of_end(struct tls *t, int err)
{
	if (err == ENOMEM || err == ENOBUFS)
		out_of_memory(t);
	else if (!begins_as_tls(t))
		no_tls(t);
	else if (err != 0)
		set(t, TLS_CAUSE_RESET, "the connection failed in the middle of the handshake: %s", strerror(err));
	else if (t->n_first == 0)
		set(t, TLS_CAUSE_CLOSED, "the %s closed the connection in the middle of the handshake, before it sent anything", peer(t));
	else
		set(t, TLS_CAUSE_CLOSED, "the %s closed the connection in the middle of the handshake", peer(t));
}
