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

/* --- what the kernel knows of the peer --- */

void transport_facts(const struct transport *t, struct socket_facts *ret);
size_t transport_unread(const struct transport *t);	/* bytes received and not read */
size_t transport_unacked(const struct transport *t);	/* bytes written and not acknowledged */

/* --- how the kernel detects that the peer is gone --- */

int transport_set_keepalive(struct transport *t, const struct keepalive *keepalive);	/* 0 or -errno */
void transport_set_keepalive_idle(struct transport *t, int seconds);
void transport_set_user_timeout(struct transport *t, int64_t ms);

#endif
