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
	int min_version;	/* TLS1_2_VERSION, TLS1_3_VERSION; 0: 1.2 */
	char *ca;		/* a file; NULL: the system's (backend), no client certificate (client) */
	char *name;		/* backend: SNI, and verified; NULL: the backend's host */
	char *cert, *key;	/* files; NULL: none; a key may be in the file of its certificate */
};

/* Why TLS failed, for counting; transport_tls_cause() has the words. */
enum tls_cause {
	TLS_CAUSE_NONE,
	TLS_CAUSE_NO_TLS,		/* the peer sent something else */
	TLS_CAUSE_CLOSED, TLS_CAUSE_RESET,	/* in the middle of the handshake */
	TLS_CAUSE_TIMEOUT,		/* handshake_timeout: for the caller, never of a transport */
	TLS_CAUSE_UNKNOWN_CA, TLS_CAUSE_SELF_SIGNED, TLS_CAUSE_WRONG_NAME,
	TLS_CAUSE_EXPIRED, TLS_CAUSE_NOT_YET_VALID,
	TLS_CAUSE_CERTIFICATE,		/* the peer's certificate is refused for another reason */
	TLS_CAUSE_CLIENT_CERTIFICATE,	/* of a client: missing, or the server refuses ours */
	TLS_CAUSE_NO_VERSION, TLS_CAUSE_NO_CIPHER, TLS_CAUSE_NO_ALPN,	/* nothing in common */
	TLS_CAUSE_ALERT,		/* another alert of the peer */
	TLS_CAUSE_PROTOCOL,		/* the peer violated TLS, or its bytes were damaged */
	TLS_CAUSE_MEMORY,
	TLS_CAUSE_COUNT,
};
/* "unknown-ca", ...; "" for none. */
const char *tls_cause_name(enum tls_cause cause);

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
