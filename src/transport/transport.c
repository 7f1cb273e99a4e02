/* transport.c - plain TCP and UNIX sockets. */
#include "stent/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

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
	return move(t->fd, pipe, len);
}

ssize_t
transport_write_from_pipe(struct transport *t, int pipe, size_t len)
{
	return move(pipe, t->fd, len);
}

unsigned
transport_look(const struct transport *t)
{
	return socket_look(t->fd);
}

bool
transport_at_urgent(const struct transport *t)
{
	return socket_at_urgent(t->fd);
}

ssize_t
transport_write_urgent(struct transport *t, uint8_t byte)
{
	return result(socket_send_urgent(t->fd, byte));
}

int
transport_has_more(const struct transport *t)
{
	return socket_has_more(t->fd);
}

int
transport_take_error(const struct transport *t)
{
	return socket_error(t->fd);
}

int
transport_shutdown(struct transport *t)
{
	return shutdown(t->fd, SHUT_WR) == 0 ? 0 : -errno;
}

void
transport_close(struct transport *t, enum transport_end how)
{
	if (t->fd < 0)
		return;
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

void
transport_facts(const struct transport *t, struct socket_facts *ret)
{
	socket_facts(t->fd, ret);
}

size_t
transport_unread(const struct transport *t)
{
	return socket_unread(t->fd);
}

size_t
transport_unacked(const struct transport *t)
{
	return socket_unacked(t->fd);
}

int
transport_set_keepalive(struct transport *t, const struct keepalive *keepalive)
{
	return socket_keep_alive(t->fd, keepalive);
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
