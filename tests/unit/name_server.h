/* name_server.h - name servers that a test scripts, on loopback, in the event loop of the test. */
#ifndef NAME_SERVER_H
#define NAME_SERVER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NAME_SERVER_LINKS 4	/* connections at a time */
#define NAME_SERVER_REPLY_MAX (612 + 64 * 28)

/* What is replied to a question. */
enum says {
	SAYS_NOTHING,
	SAYS_ADDRESSES,		/* as many as .n: 10.0.0.1, ... or fd00::1, ... */
	SAYS_NO_SUCH_NAME,
	SAYS_SERVFAIL,
	SAYS_TRUNCATED,		/* .n addresses fitted in */
	SAYS_IN_LOWER_CASE,	/* addresses, with the question in lower case */
	SAYS_IF_AS_WRITTEN,	/* addresses where the question is all in lower case, else that there is no such name */
	SAYS_WRONG_ID,
	SAYS_BYTE_BY_BYTE,	/* over TCP: addresses */
	SAYS_FIN,		/* over TCP */
	SAYS_HALF,		/* over TCP: half of a reply, then a FIN */
};

struct name_server {
	struct event_base *base;
	struct sockaddr_storage at;
	enum says udp, tcp;
	unsigned n, n_tcp;		/* addresses in a reply */
	unsigned asked, asked_tcp;
	int udp_fd, tcp_fd, links[NAME_SERVER_LINKS];
	struct event *udp_ev, *tcp_ev, *link_ev[NAME_SERVER_LINKS];
	uint8_t question[NAME_SERVER_LINKS][600];
	size_t got[NAME_SERVER_LINKS];
	uint8_t reply[2 + NAME_SERVER_REPLY_MAX];	/* the last one over TCP */
	size_t reply_len, dripped;
	int drips_to;
};

/* Opens a server that listens on both; family: AF_INET or AF_INET6. False: the machine has no such address. */
bool name_server_open(struct name_server *s, struct event_base *base, int family);
/* From now on nobody listens there. */
void name_server_shut_udp(struct name_server *s);
void name_server_shut_tcp(struct name_server *s);
void name_server_close(struct name_server *s);

#endif
