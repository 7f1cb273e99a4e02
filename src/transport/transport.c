/*
 * transport.c - plain TCP and UNIX sockets; tls_engine.c has those with TLS.
 *
 * For a plain one the other costs a look at a pointer. The kernel's TLS (kTLS)
 * would be a third kind here: a descriptor that is read and written as a plain
 * one, after a handshake by OpenSSL.
 */
#include "stent/transport.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/tls_engine.h"

_Static_assert(TRANSPORT_SPANS_MAX <= IOV_MAX, "sendmsg() takes so many");

/* The result of a call as this module returns it. */
static ssize_t
result(ssize_t n)
{
	return n < 0 ? -errno : n;
}

ssize_t
transport_read(struct transport *t, void *buf, size_t len)
{
	ssize_t n;

	assert(len > 0);		/* 0 bytes would be taken for the end of the stream */
	if (t->tls != NULL)
		return tls_read(t->tls, buf, len);
	do
		n = recv(t->fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	return result(n);
}

ssize_t
transport_write(struct transport *t, const struct iovec *v, size_t n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = n };
	ssize_t r;

	assert(n > 0 && n <= TRANSPORT_SPANS_MAX);	/* more the kernel refuses */
	if (t->tls != NULL)
		return tls_write(t->tls, v, n);
	do
		r = n == 1 ? send(t->fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL)
		    : sendmsg(t->fd, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return result(r);
}

static ssize_t
move(int from, int to, size_t len)
{
	ssize_t n;

	do
		n = splice(from, NULL, to, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	return result(n);
}

ssize_t
transport_read_into_pipe(struct transport *t, int pipe, size_t len)
{
	assert(transport_can_splice(t) && transport_is_open(t) && len > 0);
	return move(t->fd, pipe, len);
}

ssize_t
transport_write_from_pipe(struct transport *t, int pipe, size_t len)
{
	assert(transport_can_splice(t) && len > 0);
	return move(pipe, t->fd, len);
}

unsigned
transport_look(const struct transport *t)
{
	return socket_look(t->fd);
}

int
transport_at_urgent(const struct transport *t)
{
	return t->tls == NULL ? socket_at_urgent(t->fd) : 0;
}

ssize_t
transport_write_urgent(struct transport *t, uint8_t byte)
{
	if (t->tls != NULL)	/* TLS has no urgent bytes: it is sent as a normal one */
		return tls_write(t->tls, &(struct iovec){ &byte, 1 }, 1);
	return result(socket_send_urgent(t->fd, byte));
}

int
transport_has_more(const struct transport *t)
{
	return transport_is_pending(t) ? 1 : socket_has_more(t->fd);
}

int
transport_take_error(const struct transport *t)
{
	return socket_error(t->fd);
}

int
transport_shutdown(struct transport *t)
{
	assert(t->fd >= 0);
	if (t->tls != NULL)
		return tls_shutdown(t->tls);
	return shutdown(t->fd, SHUT_WR) == 0 ? 0 : -errno;
}

void
transport_close(struct transport *t, enum transport_end how)
{
	if (t->fd < 0)
		return;
	if (t->tls != NULL && how == TRANSPORT_FIN && tls_must_reset(t->tls))
		how = TRANSPORT_RESET;
	if (t->tls != NULL)
		tls_free(t->tls, how == TRANSPORT_FIN);
	t->tls = NULL;
	if (how == TRANSPORT_RESET)
		socket_reset(t->fd);
	else
		close(t->fd);
	t->fd = -1;
}

void
transport_reset_at_close(struct transport *t, bool on)
{
	socket_set_reset_at_close(t->fd, on);
}

/* --- TLS --- */

int
transport_start_tls(struct transport *t, struct tls_context *context, const char *name)
{
	struct tls *tls;
	int r;

	assert(t->tls == NULL && t->fd >= 0);
	r = tls_start(&tls, t->fd, context, name);
	if (r == 0)
		t->tls = tls;
	return r;
}

int
transport_handshake(struct transport *t)
{
	return transport_handshake_noting(t, NULL);
}

int
transport_handshake_noting(struct transport *t, struct transport_client *client)
{
	assert(t->tls != NULL);
	return tls_handshake(t->tls, client);
}

const char *
transport_tls_cause(const struct transport *t)
{
	return t->tls != NULL && t->tls->cause != NULL ? t->tls->cause : "";
}

enum tls_cause
transport_tls_cause_kind(const struct transport *t)
{
	return t->tls != NULL ? (enum tls_cause)t->tls->kind : TLS_CAUSE_NONE;
}

ssize_t
transport_peek(struct transport *t, void *buf, size_t len)
{
	ssize_t n;

	assert(len > 0);
	if (t->tls != NULL)
		return tls_peek(t->tls, buf, len);
	do
		n = recv(t->fd, buf, len, MSG_PEEK);
	while (n < 0 && errno == EINTR);
	return result(n);
}

const char *
transport_violation(const struct transport *t)
{
	if (t->tls == NULL || !t->tls->broken)
		return NULL;
	return t->tls->cause != NULL ? t->tls->cause : "out of memory for the words";
}

bool
transport_is_pending(const struct transport *t)
{
	return t->tls != NULL && tls_is_pending(t->tls);
}

size_t
transport_unsent(const struct transport *t)
{
	return t->tls != NULL ? tls_bytes_len(&t->tls->unsent) : 0;
}

int
transport_flush(struct transport *t)
{
	return t->tls != NULL ? tls_flush(t->tls) : 0;
}

bool
transport_is_truncated(const struct transport *t)
{
	return t->tls != NULL && t->tls->established && t->tls->fin && !t->tls->ended;
}

void
transport_tls_facts(const struct transport *t, struct transport_tls *ret)
{
	*ret = (struct transport_tls){ 0 };
	if (t->tls == NULL || !t->tls->established)
		return;
	tls_facts(t->tls, ret);
}

bool
transport_same_certificate(const struct transport *ours, const struct transport *peers)
{
	return ours->tls != NULL && peers->tls != NULL && tls_same_certificate(ours->tls, peers->tls);
}

/* --- what the kernel knows of the peer --- */

void
transport_facts(const struct transport *t, struct socket_facts *ret)
{
	socket_facts(t->fd, ret);
}

size_t
transport_unread(const struct transport *t)
{
	return socket_unread(t->fd) + (t->tls != NULL ? tls_unread(t->tls) : 0);
}

size_t
transport_unacked(const struct transport *t)
{
	return socket_unacked(t->fd) + transport_unsent(t);
}

int
transport_set_keepalive(struct transport *t, const struct keepalive *keepalive)
{
	return socket_keep_alive(t->fd, keepalive);
}

void
transport_change_keepalive(struct transport *t, const struct keepalive *keepalive, bool user_timeout_too)
{
	(void)socket_change_keepalive(t->fd, keepalive);
	socket_set_user_timeout(t->fd, user_timeout_too ? keepalive->user_timeout_ms : 0);
}

void
transport_set_keepalive_idle(struct transport *t, int seconds)
{
	socket_set_keepalive_idle(t->fd, seconds);
}

void
transport_set_user_timeout(struct transport *t, int64_t ms)
{
	socket_set_user_timeout(t->fd, ms);
}
