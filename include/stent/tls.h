/*
 * tls.h - TLS contexts: what all flows of a route share on one leg. Made from
 * its settings and counted; replaced as a whole when settings or certificates
 * change. By OpenSSL. From any thread.
 */
#ifndef STENT_TLS_H
#define STENT_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_mode {
	TLS_OFF,
	TLS_VERIFY, TLS_INSECURE,	/* backend: the peer's certificate is verified, or not */
	TLS_ACCEPT, TLS_REQUIRE,	/* client: it may ask for TLS, or must */
};

/* As written in the settings. */
struct tls_settings {
	enum tls_mode mode;
	bool direct;		/* backend.tls_start = direct */
	int min_version;	/* TLS1_2_VERSION, TLS1_3_VERSION */
	char *ca;		/* a file; NULL: the system's (backend), no client certificate (client) */
	char *name;		/* backend: SNI, and verified; NULL: the backend's host */
	char *cert, *key;	/* files; NULL: none */
};

/* Why TLS failed on a leg, as kinds that can be counted; the cause in words has the details. */
enum tls_failure {
	TLS_FAILURE_NONE,
	TLS_FAILURE_UNKNOWN_CA,		/* also a self-signed certificate */
	TLS_FAILURE_NAME,		/* the certificate is for another name */
	TLS_FAILURE_EXPIRED,
	TLS_FAILURE_NOT_YET_VALID,
	TLS_FAILURE_CERTIFICATE,	/* it is wrong otherwise */
	TLS_FAILURE_NO_CERTIFICATE,	/* the client has shown none */
	TLS_FAILURE_VERSION,		/* no version or cipher in common */
	TLS_FAILURE_NOT_TLS,		/* the peer does not speak TLS, or refused to begin it */
	TLS_FAILURE_REFUSED,		/* the peer ended it by an alert */
	TLS_FAILURE_CLOSED,		/* the peer closed, or reset, within the handshake */
	TLS_FAILURE_TIMEOUT,		/* handshake_timeout */
	TLS_FAILURE_OTHER,
	TLS_FAILURES
};

/* "unknown-ca", a word for metrics. */
const char *tls_failure_text(enum tls_failure f);

#define TLS_ERROR_MAX 512

struct tls_context;

/*
 * A context for a leg: is_server toward clients. alpn: names separated by commas,
 * NULL: none. Reads all files. NULL: error[] says in plain words what is wrong
 * with which file, and what to do.
 */
struct tls_context *tls_context_new(const struct tls_settings *settings, bool is_server, const char *alpn,
    char error[TLS_ERROR_MAX]);
struct tls_context *tls_context_hold(struct tls_context *c);
void tls_context_release(struct tls_context *c);	/* NULL is fine */

/* When a certificate file's first certificate expires, in seconds since 1970; -1: it cannot be read. */
int64_t tls_certificate_expiry(const char *file);

#endif
