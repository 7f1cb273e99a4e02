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
#include "stent/tls.h"

struct tls;

/*
 * The descriptor is owned from transport_init() to transport_close(). Packed, as a flow has two of them and its size
 * is counted (docs/architecture.md); nothing takes the address of a field.
 */
struct transport {
	int fd;			/* -1: closed */
	struct tls *tls;	/* NULL: plain */
} __attribute__((packed, aligned(4)));

static inline void
transport_init(struct transport *t, int fd)
{
	t->fd = fd;
	t->tls = NULL;
}

static inline bool
transport_is_open(const struct transport *t)
{
	return t->fd >= 0;
}

#define TRANSPORT_SPANS_MAX 64	/* of one transport_write() */

/* Bytes read; 0: the end of the stream. */
ssize_t transport_read(struct transport *t, void *buf, size_t len);
/* Bytes taken of n spans, perhaps not all. */
ssize_t transport_write(struct transport *t, const struct iovec *v, size_t n);
/* The same by splice(), into and out of a pipe. */
ssize_t transport_read_into_pipe(struct transport *t, int pipe, size_t len);
ssize_t transport_write_from_pipe(struct transport *t, int pipe, size_t len);

/* Its state, without consuming anything: a set of SOCKET_ bits. */
unsigned transport_look(const struct transport *t);
/* As socket_at_urgent(). transport_write_urgent() sends one byte as urgent. */
int transport_at_urgent(const struct transport *t);
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
/*
 * 0 or -errno. Nothing of the peer's TLS may have been read. As a client, name is sent as SNI and verified (a host name
 * or an IP address); NULL: neither.
 */
int transport_start_tls(struct transport *t, struct tls_context *context, const char *name);
/* 0: done; -EAGAIN: call again when the socket is readable or writable; -EPROTO: failed, transport_tls_cause() says why; or another -errno of the socket. */
int transport_handshake(struct transport *t);
/* What a client has told of itself in its handshake. Texts are empty where it has not. */
struct transport_client {
	char name[256];		/* SNI */
	char alpn[64];		/* as it was negotiated */
	char common_name[256];	/* of its certificate, which was verified */
	bool has_certificate;
};
/* The same as a server; fills in *client when the handshake is done. NULL is fine. */
int transport_handshake_noting(struct transport *t, struct transport_client *client);
/*
 * Why TLS failed on this leg, in plain words; "" where it did not. Valid until the transport is closed. A read or
 * write that returns -EPROTO has one, too: the peer of TLS 1.3 may refuse after its handshake is done for us.
 */
const char *transport_tls_cause(const struct transport *t);
/*
 * What was not true of this leg that must be, and where: its TLS has failed (-EPROTO), and nothing is written any more.
 * NULL: nothing.
 */
const char *transport_violation(const struct transport *t);
enum tls_cause transport_tls_cause_kind(const struct transport *t);
static inline bool
transport_is_tls(const struct transport *t)
{
	return t->tls != NULL;
}
/* splice() can carry its bytes. */
static inline bool
transport_can_splice(const struct transport *t)
{
	return t->tls == NULL;
}
/* As transport_read(), but the bytes stay to be read. Of TLS: whole messages may span records, so all that is there. */
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
/* Replaces what it had, turned off where it is off now; without TCP_USER_TIMEOUT if not asked for. */
void transport_change_keepalive(struct transport *t, const struct keepalive *keepalive, bool user_timeout_too);
void transport_set_keepalive_idle(struct transport *t, int seconds);
void transport_set_user_timeout(struct transport *t, int64_t ms);

#endif
