/* loopback.c - see loopback.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "demo/loopback.h"

static struct sockaddr_in
loopback(uint16_t port)
{
	struct sockaddr_in sin;

	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sin;
}

static uint16_t
port_of(evutil_socket_t fd)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);

	return getsockname(fd, (struct sockaddr *)&sin, &len) == 0 ? ntohs(sin.sin_port) : 0;
}

struct evconnlistener *
loopback_listen(struct event_base *base, evconnlistener_cb on_accept, void *arg, uint16_t *port)
{
	struct sockaddr_in sin = loopback(0);
	struct evconnlistener *l = evconnlistener_new_bind(base, on_accept, arg,
	    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, -1, (struct sockaddr *)&sin, sizeof(sin));

	if (l != NULL)
		*port = port_of(evconnlistener_get_fd(l));
	return l;
}

struct bufferevent *
loopback_connect(struct event_base *base, uint16_t port)
{
	struct sockaddr_in sin = loopback(port);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

	if (bev != NULL && bufferevent_socket_connect(bev, (struct sockaddr *)&sin, sizeof(sin)) != 0) {
		bufferevent_free(bev);
		return NULL;
	}
	return bev;
}

uint16_t
loopback_free_port(void)
{
	struct sockaddr_in sin = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t port = 0;

	if (fd < 0)
		return 0;
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0)
		port = port_of(fd);
	close(fd);
	return port;
}

int
loopback_listen_plain(uint16_t *port)
{
	struct sockaddr_in sin = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, SOMAXCONN) < 0) {
		const int r = -errno;

		close(fd);
		return r;
	}
	*port = port_of(fd);
	return fd;
}
