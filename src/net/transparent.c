/*
 * transparent.c - sockets with addresses that are not this machine's.
 *
 * A socket has one flag for both families (IP_TRANSPARENT, IPV6_TRANSPARENT).
 * A listener gives it to what it accepts. IP_BIND_ADDRESS_NO_PORT leaves the
 * choice of the port to connect(), which knows both ends: without it, a port
 * would be used up for all destinations at once.
 *
 * REDIRECT and DNAT change the destination, and connection tracking remembers
 * the original one. A socket that listens on both families has IPv4 clients:
 * their entry is found by the IPv4 option alone.
 */
#include "stent/transparent.h"

#include <errno.h>
#include <linux/in6.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#define ORIGINAL_DST 80		/* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST; their headers clash with <netinet/in.h> */

static sa_family_t
family_of(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 ? (sa_family_t)domain : AF_UNSPEC;
}

int
transparent_set(int fd, bool on)
{
	const bool is_v6 = family_of(fd) == AF_INET6;
	const int value = on;

	return setsockopt(fd, is_v6 ? SOL_IPV6 : SOL_IP, is_v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &value, sizeof(value)) == 0 ? 0 : -errno;
}

bool
transparent_is_set(int fd)
{
	const bool is_v6 = family_of(fd) == AF_INET6;
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, is_v6 ? SOL_IPV6 : SOL_IP, is_v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &value, &len) == 0 && value != 0;
}

int
transparent_bind(int fd, sa_family_t family, const struct address *source)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	const struct sockaddr *from = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	const int on = 1;
	int r;

	if (source->family != family)
		return -EAFNOSUPPORT;
	memcpy(&v4.sin_addr, source->ip, sizeof(v4.sin_addr));
	memcpy(&v6.sin6_addr, source->ip, sizeof(v6.sin6_addr));
	r = transparent_set(fd, true);
	if (r != 0)
		return r;
	(void)setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));	/* since Linux 4.2 */
	return bind(fd, from, family == AF_INET ? sizeof(v4) : sizeof(v6)) == 0 ? 0 : -errno;
}

/* An IPv4-mapped address as the IPv4 one. */
static void
unmap(struct sockaddr_storage *ss)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)ss;
	struct sockaddr_in v4 = { .sin_family = AF_INET };

	if (ss->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return;
	v4.sin_port = v6->sin6_port;
	memcpy(&v4.sin_addr, &v6->sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
	memset(ss, 0, sizeof(*ss));
	memcpy(ss, &v4, sizeof(v4));
}

int
transparent_destination(int fd, bool is_transparent, struct sockaddr_storage *ret)
{
	socklen_t len = sizeof(*ret);
	bool is_v6;

	memset(ret, 0, sizeof(*ret));
	if (getsockname(fd, (struct sockaddr *)ret, &len) != 0)
		return -errno;
	unmap(ret);
	if (ret->ss_family != AF_INET && ret->ss_family != AF_INET6)
		return -EAFNOSUPPORT;
	if (is_transparent)
		return 0;
	is_v6 = ret->ss_family == AF_INET6;
	len = sizeof(*ret);
	return getsockopt(fd, is_v6 ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, ret, &len) == 0 ? 0 : -errno;
}

/* The kernel chooses a local destination as the source, too; only that of 127.0.0.0/8 is always 127.0.0.1. */
bool
transparent_is_local(const struct sockaddr_storage *to)
{
	const struct address want = address_from_sockaddr((const struct sockaddr *)to);
	struct sockaddr_storage from;
	socklen_t len = to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	struct address got;
	bool is_local = false;
	int fd;

	if (want.family == AF_INET && want.ip[0] == IN_LOOPBACKNET)
		return true;
	fd = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)to, len) == 0) {
		len = sizeof(from);
		if (getsockname(fd, (struct sockaddr *)&from, &len) == 0) {
			got = address_from_sockaddr((struct sockaddr *)&from);
			is_local = memcmp(got.ip, want.ip, sizeof(got.ip)) == 0;
		}
	}
	close(fd);
	return is_local;
}
