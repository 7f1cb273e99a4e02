/*
 * socket.c - the only place that sets socket options.
 *
 * Options of the client leg are set on the listener: Linux copies them to each
 * accepted socket (and arms its keepalive timer), which saves seven system
 * calls per connection. For the same reason the relay sets the backend leg's
 * keepalive only on flows that live longer than a moment.
 *
 * Urgent bytes that are relayed are read inline (SO_OOBINLINE). Otherwise the
 * kernel leaves them out of the stream, as by default. UNIX sockets have urgent
 * bytes since Linux 5.15, but do not inherit the option.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "stent/log.h"
#include "stent/socket.h"
#include "stent/spare.h"
#include "stent/transparent.h"
#include "stent/urgent.h"

#define STATE_LISTEN 10		/* TCP_LISTEN of <netinet/tcp.h>, which excludes <linux/tcp.h> */
#define RTO_MAX_MS 44		/* TCP_RTO_MAX_MS of Linux 6.15, which the headers may lack */
#define RTO_MAX_DEFAULT_MS 120000	/* its TCP_RTO_MAX */
#define SD_FIRST_FD 3		/* sd_listen_fds(3): SD_LISTEN_FDS_START */

static int
set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

struct option {
	int level, name, value;
	bool wanted;
};

static int
set_options(int fd, const struct option *o, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		if (o[i].wanted)
			r = set_int(fd, o[i].level, o[i].name, o[i].value);
	return r;
}

/* Options that are needed from the first byte. */
static int
set_stream_options(int fd)
{
	return set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void
socket_take_urgent(int fd, bool in_line, bool is_inherited)
{
	if (!is_inherited)
		(void)set_int(fd, SOL_SOCKET, SO_OOBINLINE, in_line);	/* sockets that refuse it have no urgent bytes */
	if (in_line)
		urgent_watch(fd);
}

bool
socket_is_own_peer(int fd)
{
	struct sockaddr_storage own = { 0 }, peer;
	socklen_t own_len = sizeof(own), peer_len = sizeof(peer);

	return getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 && getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 &&
	    own.ss_family != AF_UNIX && own_len == peer_len && memcmp(&own, &peer, own_len) == 0;
}

/*
 * With 1 byte lost a kernel waits longer for each further retransmission: 0.2, 0.4, ... 25 s. TCP_RTO_MAX_MS (since Linux
 * 6.15, 1 s at least) limits that: 12 tries in 9 s. TCP_THIN_LINEAR_TIMEOUTS leaves the first six at the first distance, but not
 * with BBR: to Linux a flow is thin once it has a slow start threshold, which BBR never sets. A kernel without both has 7.
 */
static void
set_retransmits(int fd, int max_ms)
{
	(void)set_int(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, max_ms > 0);
	(void)set_int(fd, IPPROTO_TCP, RTO_MAX_MS, max_ms > 0 ? max_ms : RTO_MAX_DEFAULT_MS);
}

int
socket_keep_alive(int fd, const struct keepalive *keepalive)
{
	const bool probes = keepalive->idle_s > 0;
	const struct option options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, probes, true },	/* also to turn it off: a listener from systemd may have it on */
		{ IPPROTO_TCP, TCP_KEEPIDLE, keepalive->idle_s, probes },
		{ IPPROTO_TCP, TCP_KEEPINTVL, keepalive->interval_s, probes },
		{ IPPROTO_TCP, TCP_KEEPCNT, keepalive->probes, probes },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, (int)keepalive->user_timeout_ms, keepalive->user_timeout_ms > 0 },
	};

	if (keepalive->retransmit_ms > 0)
		set_retransmits(fd, keepalive->retransmit_ms);
	return set_options(fd, options, sizeof(options) / sizeof(options[0]));
}

int
socket_change_keepalive(int fd, const struct keepalive *keepalive)
{
	const int r = socket_keep_alive(fd, keepalive);
	int linear = 0;
	socklen_t len = sizeof(linear);

	/* Only where they were set: the operator may have others for all sockets (net.ipv4.tcp_rto_max_ms). */
	if (keepalive->retransmit_ms == 0 && getsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &linear, &len) == 0 && linear != 0)
		set_retransmits(fd, 0);
	return r == 0 ? set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)keepalive->user_timeout_ms) : r;
}

int
socket_waiting(int listener, int *limit)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_state != STATE_LISTEN)
		return -1;
	/* Of a listener these two are its queue (tcp_get_info() of Linux). */
	*limit = (int)info.tcpi_sacked;
	return (int)info.tcpi_unacked;
}

static int
set_leg_options(int fd, const struct keepalive *keepalive)
{
	const int r = set_stream_options(fd);

	return r == 0 ? socket_keep_alive(fd, keepalive) : r;
}

/* A number from /proc; -1: there is no such file. */
static int
read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	char text[32] = "";
	int n = -1;

	if (f != NULL && fgets(text, sizeof(text), f) != NULL)
		n = (int)strtol(text, NULL, 10);
	if (f != NULL)
		fclose(f);
	return n;
}

static bool
is_v6_disabled(void)
{
	return read_number("/proc/sys/net/ipv6/conf/all/disable_ipv6") == 1;
}

static int
bind_inet(int fd, const struct endpoint *ep, const struct keepalive *keepalive)
{
	int r = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	if (r == 0 && ep->addr.ss_family == AF_INET6)
		r = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, ep->kind != ENDPOINT_ANY);
	if (r == 0)
		r = set_leg_options(fd, keepalive);
	if (r == 0 && bind(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) != 0)
		r = -errno;
	return r;
}

static int
bind_unix(int fd, const struct endpoint *ep, const struct unix_access *access, const char **why)
{
	const struct sockaddr_un *sun = (const struct sockaddr_un *)&ep->addr;

	if (sun->sun_path[0] != '\0')
		return unix_file_bind(fd, sun, ep->addr_len, access, why);
	return bind(fd, (const struct sockaddr *)sun, ep->addr_len) == 0 ? 0 : -errno;	/* an abstract address has no file */
}

static int
listen_on(const struct endpoint *ep, const struct keepalive *keepalive, const struct unix_access *access, const char **why)
{
	int fd = socket(ep->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = ep->addr.ss_family == AF_UNIX ? bind_unix(fd, ep, access, why) : bind_inet(fd, ep, keepalive);
	if (r == 0 && listen(fd, SOCKET_BACKLOG) != 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* What the operator can do about an error; NULL: its usual text is enough. */
static const char *
listen_hint(const struct endpoint *ep, int err)
{
	const bool is_v6 = ep->addr.ss_family == AF_INET6;

	switch (err) {
	case EADDRINUSE:
		return "address already in use";
	case EAFNOSUPPORT:
		return is_v6 ? "IPv6 is off on this machine or in the sandbox of this process; write an IPv4 address, "
		    "such as 0.0.0.0:PORT" : "the sandbox of this process does not allow this address family "
		    "(RestrictAddressFamilies= of systemd)";
	case EADDRNOTAVAIL:
		return is_v6 && is_v6_disabled() ? "IPv6 is off (net.ipv6.conf.all.disable_ipv6); write an IPv4 address, such as "
		    "127.0.0.1:PORT" : "no such address on this machine";
	case EACCES:
	case EPERM:
		return ep->kind == ENDPOINT_UNIX ? "permission denied: the directory must be writable for stent" :
		    "not permitted: a port below 1024 needs root or CAP_NET_BIND_SERVICE";
	case ENOENT:
		return ep->kind == ENDPOINT_UNIX ? "no such directory; create it, or name another path" : NULL;
	default:
		return NULL;
	}
}

int
socket_listen(const struct endpoint *ep, const struct keepalive *keepalive, const struct unix_access *access,
    const char **why)
{
	int r;

	*why = NULL;
	r = listen_on(ep, keepalive, access, why);
	if ((r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) && ep->kind == ENDPOINT_ANY) {
		struct endpoint v4 = *ep;
		struct sockaddr_in *sin = (struct sockaddr_in *)&v4.addr;

		memset(&v4.addr, 0, sizeof(v4.addr));
		sin->sin_family = AF_INET;
		sin->sin_port = htons(ep->port);
		v4.addr_len = sizeof(*sin);
		r = listen_on(&v4, keepalive, access, why);
		if (r >= 0)
			log_say(LEVEL_INFO, "IPv6 is off on this machine: %s listens on IPv4 only", ep->text);
	}
	if (r < 0 && *why == NULL)
		*why = listen_hint(ep, -r);
	if (r < 0 && *why == NULL)
		*why = strerror(-r);
	return r;
}

int
socket_backlog_limit(void)
{
	return read_number("/proc/sys/net/core/somaxconn");
}

void
socket_defer_accept(int listener, int seconds)
{
	(void)set_int(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds);
}

int
socket_adopt(int fd, const struct keepalive *keepalive)
{
	int listening = 0, domain = 0;
	socklen_t len = sizeof(int);
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0)
		return -errno;
	if (!listening)
		return -EINVAL;
	len = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0)
		return -errno;
	return domain == AF_UNIX ? 0 : set_leg_options(fd, keepalive);
}

int
socket_from_systemd(int i, char name[SYSTEMD_NAME_MAX])
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");

	if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != getpid() || i >= strtol(count, NULL, 10))
		return -ENOENT;
	if (names == NULL)
		names = "unknown";	/* for all of them, as in sd_listen_fds_with_names(3) */
	else
		for (int k = 0; k < i; k++)
			names += strcspn(names, ":") + (strchr(names, ':') != NULL);
	snprintf(name, SYSTEMD_NAME_MAX, "%.*s", (int)strcspn(names, ":"), names);
	return SD_FIRST_FD + i;
}

int
socket_accept(int listener, struct address *peer)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd = accept4(listener, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	*peer = address_from_sockaddr((struct sockaddr *)&ss);
	return fd;
}

static int
backend_socket(int family, unsigned how)
{
	int fd;

	do
		fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	while (fd < 0 && (errno == EMFILE || errno == ENFILE) && (how & SOCKET_TAKES_SPARE) && spare_give());
	return fd < 0 ? -errno : fd;
}

static uint16_t
port_of(const struct sockaddr *sa)
{
	return address_from_sockaddr(sa).port;
}

/* -ECONNREFUSED: nobody listens there; the socket has connected to itself. */
static int
find_local(int fd, const struct sockaddr *to, struct address *local)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(local, 0, sizeof(*local));
	if (to->sa_family == AF_UNIX)
		return 0;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
		return -errno;
	*local = address_from_sockaddr((struct sockaddr *)&ss);
	return local->port == port_of(to) && socket_is_own_peer(fd) ? -ECONNREFUSED : 0;
}

int
socket_connect(const struct sockaddr *sa, socklen_t len, unsigned how, struct address *local)
{
	return socket_connect_from(NULL, sa, len, how, local);
}

int
socket_connect_from(const struct address *source, const struct sockaddr *sa, socklen_t len, unsigned how, struct address *local)
{
	int fd = backend_socket(sa->sa_family, how);
	int r = 0;

	if (fd < 0)
		return fd;
	if (sa->sa_family != AF_UNIX)
		r = set_stream_options(fd);
	if (r == 0 && source != NULL)
		r = transparent_bind(fd, sa->sa_family, source);
	if (how & SOCKET_CARRIES_URGENT)
		socket_take_urgent(fd, true, false);
	if (r == 0 && connect(fd, sa, len) != 0 && errno != EINPROGRESS)
		r = -errno;
	if (r == 0)
		r = find_local(fd, sa, local);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

int
socket_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : errno;
}

unsigned
socket_look(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP | POLLPRI };
	unsigned bits = 0;

	if (poll(&p, 1, 0) <= 0)
		return 0;
	if (p.revents & (POLLERR | POLLHUP))
		bits |= SOCKET_DEAD;
	if (p.revents & POLLRDHUP)
		bits |= SOCKET_FIN;
	if (p.revents & POLLPRI)
		bits |= SOCKET_URGENT;
	return bits;
}

bool
socket_is_from_ourselves(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == getpid();
}

void
socket_set_reset_at_close(int fd, bool on)
{
	const struct linger at_once = { .l_onoff = on, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void
socket_reset(int fd)
{
	socket_set_reset_at_close(fd, true);
	close(fd);
}

void
socket_set_send_buffer(int fd, int bytes)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

void
socket_set_user_timeout(int fd, int64_t ms)
{
	(void)set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)ms);
}

ssize_t
socket_send_urgent(int fd, uint8_t byte)
{
	const ssize_t n = send(fd, &byte, 1, MSG_OOB | MSG_NOSIGNAL);

	/* UNIX sockets of older kernels have no urgent bytes: it is sent as a normal one. */
	return n < 0 && errno == EOPNOTSUPP ? send(fd, &byte, 1, MSG_NOSIGNAL) : n;
}

int
socket_has_more(int fd)
{
	char byte;

	if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
		return 1;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int
socket_at_urgent(int fd)
{
	int at = 0;
	const int r = socket_has_more(fd);

	if (r <= 0)
		return r < 0 ? r : -EAGAIN;
	return ioctl(fd, SIOCATMARK, &at) == 0 && at != 0;
}

static size_t
byte_count(int fd, unsigned long what)
{
	int n = 0;

	return ioctl(fd, what, &n) == 0 && n > 0 ? (size_t)n : 0;
}

void
socket_set_keepalive_idle(int fd, int seconds)
{
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));	/* UNIX sockets have no keepalive */
}

size_t
socket_unread(int fd)
{
	return byte_count(fd, FIONREAD);
}

size_t
socket_unacked(int fd)
{
	return byte_count(fd, SIOCOUTQ);
}

void
socket_facts(int fd, struct socket_facts *ret)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(ret, 0, sizeof(*ret));
	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return;
	ret->is_tcp = true;
	ret->unsent = info.tcpi_notsent_bytes;
	ret->unacked = info.tcpi_unacked;
	ret->retransmits = info.tcpi_retransmits;
	ret->probes = info.tcpi_probes;
	ret->backoff = info.tcpi_backoff;
	ret->last_ack_ms = info.tcpi_last_ack_recv;
	ret->segments_in = info.tcpi_segs_in;
	ret->rtt_us = info.tcpi_rtt;
	ret->min_rtt_us = info.tcpi_min_rtt;
	ret->rttvar_us = info.tcpi_rttvar;
	ret->last_sent_ms = info.tcpi_last_data_sent;
	ret->sent = info.tcpi_data_segs_out;
	ret->retransmitted = info.tcpi_total_retrans;
	ret->window = UINT32_MAX;
	if (len >= offsetof(struct tcp_info, tcpi_snd_wnd) + sizeof(info.tcpi_snd_wnd))
		ret->window = info.tcpi_snd_wnd;
}
