/*
 * socket.h - sockets as the relay needs them; the only setsockopt calls of the
 * program. Every descriptor is non-blocking and close-on-exec.
 */
#ifndef STENT_SOCKET_H
#define STENT_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "stent/endpoint.h"
#include "stent/keepalive.h"
#include "stent/unix_file.h"

#define SOCKET_BACKLOG 4096	/* of listen(2); the kernel limits it to net.core.somaxconn */

/*
 * A listening socket for an endpoint of a route. The accepted sockets inherit
 * the options of the client leg, so that accepting sets none. access is for the
 * file of a UNIX socket (unix_file.h); :PORT is IPv4 only where IPv6 is off.
 * Descriptor, or -errno and *why says what that means and what to do.
 */
int socket_listen(const struct endpoint *ep, const struct keepalive *keepalive, const struct unix_access *access,
    const char **why);
/* net.core.somaxconn; -1: unknown. */
int socket_backlog_limit(void);
/* TCP_DEFER_ACCEPT: a client is accepted when it has sent something, or after so many seconds. */
void socket_defer_accept(int listener, int seconds);
/* Takes over a listening socket that was handed to the process (systemd). 0 or -errno. */
int socket_adopt(int fd, const struct keepalive *keepalive);
/*
 * The i-th descriptor that systemd handed over, and its name (sd_listen_fds(3));
 * -ENOENT: there are not so many. Several may have one name.
 */
#define SYSTEMD_NAME_MAX 256	/* and its NUL */
int socket_from_systemd(int i, char name[SYSTEMD_NAME_MAX]);

/* Accepts one: descriptor or -errno. */
int socket_accept(int listener, struct address *peer);

enum socket_how {
	SOCKET_TAKES_SPARE = 1,		/* when no descriptor is left, use a spare one (spare.h): the client is accepted already */
	SOCKET_CARRIES_URGENT = 2,	/* see socket_take_urgent() */
};
/*
 * Starts to connect: descriptor or -errno. Connected when it is writable. Fills in the local address, with family 0
 * for a UNIX socket. -ECONNREFUSED also if it connected to itself.
 */
int socket_connect(const struct sockaddr *sa, socklen_t len, unsigned how, struct address *local);
/* The same, with the address of another machine as the source, and any port (transparent.h). NULL: our own. */
int socket_connect_from(const struct address *source, const struct sockaddr *sa, socklen_t len, unsigned how, struct address *local);
/*
 * True when a socket is connected to itself: nobody listens on the port, and the
 * kernel chose the same one as the local port (TCP's simultaneous open).
 */
bool socket_is_own_peer(int fd);
/* Sets a leg's keepalive and TCP_USER_TIMEOUT on a connected socket. 0 or -errno. */
int socket_keep_alive(int fd, const struct keepalive *keepalive);
/* The same on a socket or listener that has others: what is off now is turned off. 0 or -errno. */
int socket_change_keepalive(int fd, const struct keepalive *keepalive);
/* How many clients wait to be accepted, and how many can; -1: not known. */
int socket_waiting(int listener, int *limit);

/* Changes the idle time before the first probe, of a socket that sends probes. */
void socket_set_keepalive_idle(int fd, int seconds);

/* Fetches and clears the pending error: 0 or an errno. */
int socket_error(int fd);

/* The state of a socket, without consuming anything; a set of these. */
enum socket_state {
	SOCKET_DEAD = 1,	/* reset, or an error; of a UNIX socket: the peer has closed */
	SOCKET_FIN = 2,		/* the peer's FIN has come */
	SOCKET_URGENT = 4,	/* an urgent byte has come and was not read yet */
};
unsigned socket_look(int fd);

/* True when the client of a UNIX socket is this process. */
bool socket_is_from_ourselves(int fd);

/* Closes with a reset: what is unsent is discarded. */
void socket_reset(int fd);
/* From now on a close sends a reset, also when the kernel closes at the end of this process. */
void socket_set_reset_at_close(int fd, bool on);

/* Limits what the kernel holds unsent. */
void socket_set_send_buffer(int fd, int bytes);
void socket_set_user_timeout(int fd, int64_t ms);	/* 0: the kernel's default */

/*
 * in_line: urgent bytes are read inline, and urgent.h signals them to this thread. Else the kernel leaves them out of
 * the stream. is_inherited: the socket has the option from its listener already.
 */
void socket_take_urgent(int fd, bool in_line, bool is_inherited);
/*
 * 1: the next byte to read is an urgent one. 0: it is not, or the stream has ended. -EAGAIN: there is none yet, and a read that
 * follows could begin with an urgent byte unseen. Another -errno is what a read would have returned, and returns no more.
 */
int socket_at_urgent(int fd);
/* Sends one byte, as urgent where the socket supports that. As send(2). */
ssize_t socket_send_urgent(int fd, uint8_t byte);

/*
 * Is there more to read? 1: bytes, or the end; 0: nothing now; -errno: the
 * socket's error, which this call clears as a read does.
 */
int socket_has_more(int fd);

/* Bytes received and not read yet. */
size_t socket_unread(int fd);

/* Bytes that the peer has not acknowledged, sent or not. */
size_t socket_unacked(int fd);

/* What the kernel knows of the peer (TCP_INFO). */
struct socket_facts {
	bool is_tcp;		/* else the rest is zero */
	uint32_t unsent;	/* bytes not sent yet */
	uint32_t unacked;	/* segments sent and not acknowledged */
	uint32_t retransmits;	/* of the oldest of them, in a row */
	uint32_t probes;	/* keepalive or window probes unanswered */
	uint32_t backoff;	/* window probes sent in a row */
	uint32_t last_ack_ms;	/* since the last acknowledgement came: probes' too */
	uint32_t last_sent_ms;	/* since data went out last; long for a socket that sent none */
	uint32_t segments_in;	/* received, probes and acknowledgements too; wraps */
	uint32_t rtt_us;	/* smoothed */
	uint32_t rttvar_us;	/* its mean deviation */
	uint32_t min_rtt_us;	/* the minimum of the last minutes: without the delays of single acknowledgements */
	uint32_t sent, retransmitted;	/* packets with data since it began; of these, those sent again */
	uint32_t window;	/* the peer's receive window in bytes; UINT32_MAX: this kernel does not report it */
};

/* Also works on a socket that has just got an error. */
void socket_facts(int fd, struct socket_facts *ret);

#endif
