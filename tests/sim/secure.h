/*
 * secure.h - TLS of the clients and servers around the program: OpenSSL, whose bytes go through memory to an end of
 * TCP. Its randomness is the world's, so that a seed decides it, too.
 */
#ifndef SIM_SECURE_H
#define SIM_SECURE_H

#include <stdbool.h>
#include <stddef.h>

#include "tcp.h"

/* How a side begins TLS. */
enum secrecy { SECURE_NOT, SECURE_DIRECT, SECURE_POSTGRES };

struct secure;

/* Once, before the lives are forked. */
void secure_set_up(void);
/* Files for the settings of the program: a CA; a certificate of it with its key, of server.sim and stent.sim. */
const char *secure_ca_file(void);
const char *secure_certificate_file(void);
/* What the program has not freed of OpenSSL's objects is a leak. */
void secure_check(void);

/* misbehaves: it may stall in its handshake, refuse it, damage a record, cut one off, or end without a close_notify. */
struct secure *secure_new(struct tcp *tcp, enum secrecy how, bool is_server, bool misbehaves);
void secure_free(struct secure *s);

/* As tcp_send() and tcp_receive(), of the plain text. -EPROTO: TLS has failed, -ECONNABORTED: it is to be reset. */
long secure_send(struct secure *s, const void *data, size_t len);
long secure_receive(struct secure *s, void *data, size_t len);
/* Goes on with its handshake, and sends what its kernel did not take. */
void secure_go_on(struct secure *s);
/* Says its close_notify. True: now a FIN may follow. */
bool secure_finish(struct secure *s);

/* It does, or did, what the program must end its flow for. */
bool secure_is_spoilt(const struct secure *s);
bool secure_is_open(const struct secure *s);	/* its handshake is done */
/* The end came without a close_notify. */
bool secure_is_truncated(const struct secure *s);

#endif
