/*
 * endpoint.h - where to listen and where to connect, as written in the settings:
 * HOST:PORT, [V6]:PORT, :PORT, unix:PATH, fd:NAME, original. No I/O, no lookups.
 */
#ifndef STENT_ENDPOINT_H
#define STENT_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum endpoint_kind {
	ENDPOINT_ADDRESS,	/* a literal IPv4 or IPv6 address and port */
	ENDPOINT_ANY,		/* :PORT, every address of both families */
	ENDPOINT_NAME,		/* a host name and port, to be looked up */
	ENDPOINT_UNIX,		/* unix:PATH (unix:@NAME: abstract) */
	ENDPOINT_FD,		/* fd:NAME, a socket handed over by systemd */
	ENDPOINT_ORIGINAL,	/* the original destination of a redirected flow */
};

struct endpoint {
	enum endpoint_kind kind;
	char *text;		/* as written; owned */
	char *host;		/* NAME: the name; UNIX: the path; FD: the name; else NULL; owned */
	uint16_t port;		/* host byte order; 0 where there is none */
	struct sockaddr_storage addr;	/* ADDRESS, ANY (as [::]), UNIX */
	socklen_t addr_len;
};

enum endpoint_use { ENDPOINT_LISTEN, ENDPOINT_BACKEND };

/*
 * Reads one endpoint. On success fills *ep (free with endpoint_clear()) and
 * returns 0; else -EINVAL and *why says what is wrong and what to do (a static string).
 */
int endpoint_parse(struct endpoint *ep, const char *text, enum endpoint_use use, const char **why);
void endpoint_clear(struct endpoint *ep);
/* A host's name: letters, digits, - and _ in labels of 1 to 63 characters; a dot may end it. */
bool endpoint_is_name(const char *name);
/* True when they are the same address, however it was written. */
bool endpoint_same(const struct endpoint *a, const struct endpoint *b);
/* True when two listeners cannot both be bound (a wildcard clashes with any address of its port). */
bool endpoint_clash(const struct endpoint *a, const struct endpoint *b);

/*
 * An IP address and port, or a UNIX socket's peer (family AF_UNIX, no name),
 * in 20 bytes: a flow keeps two.
 */
struct address {
	uint16_t family;	/* AF_INET, AF_INET6, AF_UNIX; 0: unknown */
	uint16_t port;		/* host byte order */
	uint8_t ip[16];		/* network order; IPv4 in the first four */
};

#define ADDRESS_TEXT_MAX 64	/* "[v6]:port" and its NUL */

/* IPv4-mapped IPv6 addresses become IPv4. */
struct address address_from_sockaddr(const struct sockaddr *sa);
/* "192.0.2.1:80", "[2001:db8::1]:80", "unix", "-"; returns buf. */
const char *address_text(const struct address *a, char buf[ADDRESS_TEXT_MAX]);

#endif
