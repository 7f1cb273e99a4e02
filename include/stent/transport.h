/*
 * transport.h - how the bytes of a leg are read and written. Nothing else
 * calls recv(), send(), splice(), shutdown() or ioctl() on its descriptor.
 *
 * Errors are returned as -errno; -EAGAIN: nothing now. An interrupted call is
 * made again.
 */
#ifndef STENT_TRANSPORT_H
#define STENT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "stent/keepalive.h"
#include "stent/socket.h"

/* Plain. The descriptor is owned from transport_init() to transport_close(). */
struct transport {
	int fd;		/* -1: closed */
};

static inline void
transport_init(struct transport *t, int fd)
{
	t->fd = fd;
}

static inline bool
transport_is_open(const struct transport *t)
{
	return t->fd >= 0;
}

/* Bytes read; 0: the end of the stream. */
ssize_t transport_read(struct transport *t, void *buf, size_t len);
/* Bytes taken of n spans, perhaps not all. */
ssize_t transport_write(struct transport *t, const struct iovec *v, size_t n);
/* The same by splice(), into and out of a pipe. */
ssize_t transport_read_into_pipe(struct transport *t, int pipe, size_t len);
ssize_t transport_write_from_pipe(struct transport *t, int pipe, size_t len);

/* Its state, without consuming anything: a set of SOCKET_ bits. */
unsigned transport_look(const struct transport *t);
/* True: the next byte to read is urgent. transport_write_urgent() sends one byte as urgent. */
bool transport_at_urgent(const struct transport *t);
ssize_t transport_write_urgent(struct transport *t, uint8_t byte);

/* 1: there are bytes to read, or the end; 0: nothing now; -errno: the pending error, cleared by this call. */
int transport_has_more(const struct transport *t);
/* Fetches and clears the pending error: 0 or an errno. */
int transport_take_error(const struct transport *t);

/* No more bytes will be written: a FIN. 0 or -errno. */
int transport_shutdown(struct transport *t);
enum transport_end { TRANSPORT_FIN, TRANSPORT_RESET };	/* a reset discards what is not delivered yet */
void transport_close(struct transport *t, enum transport_end how);
/* From now on a close sends a reset, also when the kernel closes at the end of this process. */
void transport_reset_at_close(struct transport *t, bool on);

/*
 * --- TLS ---
 * Begun on a connected socket, by OpenSSL on its descriptor. From then on read, write and shutdown are those of the
 * plaintext: a close_notify is read as the end and written by transport_shutdown(), before the FIN. The socket is
 * registered edge-triggered for both directions all the time; TLS may have to write in order to read.
 */
struct tls_context;		/* tls.h */

/*
 * 0 or -errno. Nothing of the peer's TLS may have been read. As a client, name is sent as SNI and verified (a host name
 * or an IP address); NULL: neither.
 */
int transport_start_tls(struct transport *t, struct tls_context *context, const char *name);
/* 0: done; -EAGAIN: call again when the socket is readable or writable; -EPROTO: failed, transport_tls_cause() says why; or another -errno of the socket. */
int transport_handshake(struct transport *t);
/* Why TLS failed on this leg, in plain words; "" where it did not. Valid until the transport is closed. */
const char *transport_tls_cause(const struct transport *t);
bool transport_is_tls(const struct transport *t);
/* Both legs are such that splice() can carry their bytes. */
bool transport_can_splice(const struct transport *t);
/* As transport_read(), but the bytes stay to be read. */
ssize_t transport_peek(struct transport *t, void *buf, size_t len);
/* True: there is more to read that no edge will tell of (decrypted, or read from the socket already). */
bool transport_is_pending(const struct transport *t);
/* Bytes of TLS that were made from what was written, and that the socket has not taken yet. Plain: 0. */
size_t transport_unsent(const struct transport *t);
/* Gives them to the socket: 0: all taken, -EAGAIN: not yet, or -errno. To be called at each edge for writing. */
int transport_flush(struct transport *t);
/* The FIN came without a close_notify before it. Plain: false. */
bool transport_is_truncated(const struct transport *t);
/* "TLSv1.3", "TLS_AES_128_GCM_SHA256", resumed or not; NULL for a plain one. Static strings. */
struct transport_tls {
	const char *version, *cipher;
	bool resumed;
};
void transport_tls_facts(const struct transport *t, struct transport_tls *ret);
/* The certificate that we show on one leg (as a server) is the one that the peer of the other has shown us. */
bool transport_same_certificate(const struct transport *ours, const struct transport *peers);

/* --- what the kernel knows of the peer --- */

void transport_facts(const struct transport *t, struct socket_facts *ret);
size_t transport_unread(const struct transport *t);	/* bytes received and not read */
size_t transport_unacked(const struct transport *t);	/* bytes written and not acknowledged */

/* --- how the kernel detects that the peer is gone --- */

int transport_set_keepalive(struct transport *t, const struct keepalive *keepalive);	/* 0 or -errno */
void transport_set_keepalive_idle(struct transport *t, int seconds);
void transport_set_user_timeout(struct transport *t, int64_t ms);

#endif
