/* name_server.c - see name_server.h. */
#include "name_server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stent/dns.h"

#define HEAD 12

static bool
is_lower(const uint8_t *question, size_t len)
{
	for (size_t i = HEAD; i < len - 4; i++)
		if (isupper(question[i]))
			return false;
	return true;
}

static size_t
add_record(uint8_t *to, const uint8_t type[2], unsigned i)
{
	const size_t len = type[1] == DNS_A ? 4 : 16;

	memcpy(to, "\300\014", 2);
	memcpy(to + 2, type, 2);
	memcpy(to + 4, "\0\1\0\0\0\74\0", 7);
	to[11] = (uint8_t)len;
	memset(to + 12, 0, len);
	to[12] = len == 4 ? 10 : 0xfd;
	to[12 + len - 1] = (uint8_t)(i + 1);
	return 12 + len;
}

static size_t
write_reply(uint8_t *to, const uint8_t *question, size_t len, enum says says, unsigned n)
{
	size_t at = len;

	if (says == SAYS_IF_AS_WRITTEN && !is_lower(question, len))
		says = SAYS_NO_SUCH_NAME;
	memcpy(to, question, len);
	to[0] = (uint8_t)(to[0] ^ (says == SAYS_WRONG_ID));
	to[2] = says == SAYS_TRUNCATED ? 0x83 : 0x81;
	to[3] = says == SAYS_NO_SUCH_NAME ? 0x83 : says == SAYS_SERVFAIL ? 0x82 : 0x80;
	memset(to + 10, 0, 2);		/* what follows the question is not repeated */
	for (size_t i = HEAD; i < len && says == SAYS_IN_LOWER_CASE; i++)
		to[i] = (uint8_t)tolower(to[i]);
	if (says == SAYS_NO_SUCH_NAME || says == SAYS_SERVFAIL)
		n = 0;
	to[7] = (uint8_t)n;
	for (unsigned i = 0; i < n; i++)
		at += add_record(to + at, question + len - 4, i);
	return at;
}

static void
on_udp(evutil_socket_t fd, short what, void *arg)
{
	struct name_server *s = arg;
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	uint8_t question[600], reply[NAME_SERVER_REPLY_MAX];
	const ssize_t n = recvfrom(fd, question, sizeof(question), 0, (struct sockaddr *)&from, &from_len);

	(void)what;
	if (n < HEAD)
		return;
	s->asked++;
	if (s->udp == SAYS_NOTHING)
		return;
	(void)sendto(fd, reply, write_reply(reply, question, (size_t)n, s->udp, s->n), 0, (struct sockaddr *)&from, from_len);
}

static void
drop_link(struct name_server *s, size_t i)
{
	event_free(s->link_ev[i]);
	close(s->links[i]);
	s->link_ev[i] = NULL;
}

/* The next byte of a reply, once in each turn of the loop. */
static void
on_drip(evutil_socket_t fd, short what, void *arg)
{
	struct name_server *s = arg;
	static const struct timeval at_once = { 0 };

	(void)fd;
	(void)what;
	(void)send(s->drips_to, s->reply + s->dripped++, 1, MSG_NOSIGNAL);
	if (s->dripped < s->reply_len)
		event_base_once(s->base, -1, EV_TIMEOUT, on_drip, s, &at_once);
}

static void
answer_link(struct name_server *s, size_t i)
{
	const size_t len = write_reply(s->reply + 2, s->question[i] + 2, s->got[i] - 2, s->tcp, s->n_tcp);

	s->asked_tcp++;
	s->reply[0] = (uint8_t)(len >> 8);
	s->reply[1] = (uint8_t)len;
	s->reply_len = 2 + len;
	s->dripped = 0;
	switch (s->tcp) {
	case SAYS_NOTHING:
		break;
	case SAYS_HALF:
		(void)send(s->links[i], s->reply, len / 2, MSG_NOSIGNAL);
		drop_link(s, i);
		break;
	case SAYS_FIN:
		drop_link(s, i);
		break;
	case SAYS_BYTE_BY_BYTE:
		(void)setsockopt(s->links[i], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		s->drips_to = s->links[i];
		on_drip(-1, EV_TIMEOUT, s);
		break;
	default:
		(void)send(s->links[i], s->reply, s->reply_len, MSG_NOSIGNAL);
	}
}

static void
on_link(evutil_socket_t fd, short what, void *arg)
{
	struct name_server *s = arg;
	size_t i = 0;
	ssize_t n;

	(void)what;
	while (s->links[i] != fd || s->link_ev[i] == NULL)
		i++;
	n = recv(fd, s->question[i] + s->got[i], sizeof(s->question[i]) - s->got[i], 0);
	if (n <= 0) {
		drop_link(s, i);
		return;
	}
	s->got[i] += (size_t)n;
	if (s->got[i] >= 2 && s->got[i] == 2 + (size_t)(s->question[i][0] << 8 | s->question[i][1]))
		answer_link(s, i);
}

static void
on_tcp(evutil_socket_t fd, short what, void *arg)
{
	struct name_server *s = arg;
	const int link = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	size_t i = 0;

	(void)what;
	while (i < NAME_SERVER_LINKS && s->link_ev[i] != NULL)
		i++;
	if (link < 0 || i == NAME_SERVER_LINKS)
		abort();
	s->links[i] = link;
	s->got[i] = 0;
	s->link_ev[i] = event_new(s->base, link, EV_READ | EV_PERSIST, on_link, s);
	event_add(s->link_ev[i], NULL);
}

bool
name_server_open(struct name_server *s, struct event_base *base, int family)
{
	socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	*s = (struct name_server){ .base = base, .at = { .ss_family = (sa_family_t)family } };
	if (family == AF_INET)
		((struct sockaddr_in *)&s->at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&s->at)->sin6_addr = in6addr_loopback;
	s->tcp_fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->tcp_fd < 0 || bind(s->tcp_fd, (struct sockaddr *)&s->at, len) != 0) {
		close(s->tcp_fd);
		return false;
	}
	if (getsockname(s->tcp_fd, (struct sockaddr *)&s->at, &len) != 0 || listen(s->tcp_fd, 8) != 0)
		abort();
	s->udp_fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->udp_fd < 0 || bind(s->udp_fd, (struct sockaddr *)&s->at, len) != 0)
		abort();
	s->udp_ev = event_new(base, s->udp_fd, EV_READ | EV_PERSIST, on_udp, s);
	s->tcp_ev = event_new(base, s->tcp_fd, EV_READ | EV_PERSIST, on_tcp, s);
	event_add(s->udp_ev, NULL);
	event_add(s->tcp_ev, NULL);
	return true;
}

void
name_server_shut_udp(struct name_server *s)
{
	if (s->udp_ev == NULL)
		return;
	event_free(s->udp_ev);
	close(s->udp_fd);
	s->udp_ev = NULL;
}

void
name_server_shut_tcp(struct name_server *s)
{
	if (s->tcp_ev == NULL)
		return;
	event_free(s->tcp_ev);
	close(s->tcp_fd);
	s->tcp_ev = NULL;
}

void
name_server_close(struct name_server *s)
{
	name_server_shut_udp(s);
	name_server_shut_tcp(s);
	for (size_t i = 0; i < NAME_SERVER_LINKS; i++)
		if (s->link_ev[i] != NULL)
			drop_link(s, i);
}
