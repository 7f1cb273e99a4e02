/* tls_context.h - a context inside, and what the engine, the causes and the sessions need of it. */
#ifndef STENT_TRANSPORT_TLS_CONTEXT_H
#define STENT_TRANSPORT_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "stent/tls.h"

struct tls_sessions;
struct tls;

struct tls_context {
	SSL_CTX *ssl;
	atomic_uint held;
	bool is_server;
	bool verifies;			/* the peer's certificate */
	bool has_certificate;
	unsigned char *alpn;		/* names as in the protocol, each after its length; NULL: none */
	unsigned alpn_len;
	struct tls_sessions *sessions;	/* of a client; and certificates of peers */
};

/* tls_load.c: files. 0, or -1 and error[] says why. */
int tls_load_certificate(SSL_CTX *ssl, const char *cert, const char *key, char error[TLS_ERROR_MAX]);
int tls_load_ca(SSL_CTX *ssl, const char *ca, bool is_server, char error[TLS_ERROR_MAX]);
int tls_load_system_ca(SSL_CTX *ssl, char error[TLS_ERROR_MAX]);

/* tls_sessions.c: sessions to be resumed, by name; and one copy of each certificate that peers show. */
struct tls_sessions *tls_sessions_new(void);
void tls_sessions_free(struct tls_sessions *s);
void tls_sessions_add(struct tls_sessions *s, const char *name, SSL_SESSION *session);	/* takes the reference */
SSL_SESSION *tls_sessions_take(struct tls_sessions *s, const char *name);	/* NULL: none; the caller's reference */
/* Replaces certificates of a chain by equal ones that were seen before. */
void tls_sessions_share(struct tls_sessions *s, STACK_OF(X509) *chain);
/* Forgets those seen until now. */
void tls_sessions_share_no_more(struct tls_sessions *s);

/* tls_cause.c */
/* Takes note of why the verification failed, while the certificates are there. */
void tls_cause_of_verification(struct tls *t, X509_STORE_CTX *x);
/* The same of a failure of OpenSSL, whose errors lie in the queue of this thread. */
void tls_cause_of_failure(struct tls *t);
void tls_cause_of_alert(struct tls *t, int number);
/* The peer sent what TLS does not allow. */
void tls_cause_of_violation(struct tls *t, const char *words);
/* The peer closed (err 0) or reset in the middle of the handshake. */
void tls_cause_of_end(struct tls *t, int err);

#endif
