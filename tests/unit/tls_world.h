/*
 * tls_world.h - certificates made on the spot, and two transports with TLS between them.
 *
 * The bytes between the two go through the test: as many at a time as it likes.
 */
#ifndef STENT_TESTS_TLS_WORLD_H
#define STENT_TESTS_TLS_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/transport.h"

/* A certificate and its key, as files of the test's own folder. */
struct identity {
	char cert[128], key[128];
	void *x509, *pkey;
};

struct identity_spec {
	const char *name;		/* its common name, and that of its files */
	const char *names;		/* "DNS:a,IP:127.0.0.1"; NULL: none */
	const struct identity *issuer;	/* NULL: itself */
	bool is_ca;
	long from_s, to_s;		/* from now; 0, 0: valid for a day around now */
};

void tls_world_begin(void);
void tls_world_end(void);	/* removes the folder */
const char *tls_world_file(const char *name, const void *data, size_t len);	/* in the folder; a static string */
void identity_make(struct identity *ret, const struct identity_spec *spec);
void identity_free(struct identity *i);

enum { AT_CLIENT, AT_SERVER };

/* Two ends, and between them what each has written and the other has not got. */
struct link {
	struct transport end[2];
	int far[2];		/* the test's end of each one's socket; -1: closed */
	size_t carried[2];	/* bytes from that end to the other */
	bool fin[2];		/* that end's FIN was passed on */
};

/* Plain transports on socket pairs. buffer: of each socket in bytes; 0: the default. */
void link_open(struct link *l, int buffer);
/* The same two ends directly on one TCP connection: nothing is carried. After link_start(). */
void link_use_tcp(struct link *l);
void link_start(struct link *l, struct tls_context *client, struct tls_context *server, const char *name);
/* Carries at most max bytes from one end to the other; what was carried. A FIN is passed on when nothing is left. */
size_t link_carry(struct link *l, int from, size_t max);
/* Both handshakes, with at most `step` bytes carried at a time each way; what each returned last. */
void link_handshake(struct link *l, size_t step, int result[2]);
void link_close(struct link *l);

/* Writes all of it, carrying and reading at the other end, where it must arrive unchanged. */
void link_send(struct link *l, int from, const uint8_t *data, size_t len, size_t step);

#endif
