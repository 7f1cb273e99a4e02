/*
 * endpoint.c - endpoints of the settings and addresses of sockets.
 *
 * Each written form has its own parser, chosen by its prefix. Literal addresses
 * go through inet_pton() and not getaddrinfo(), which accepts "127.1" and
 * "0x7f.1" and would use the network. A host of digits and dots only is
 * therefore a mistyped address, never a name.
 *
 * [::]:PORT means IPv6 only; :PORT means both families. IPv4-mapped IPv6
 * (::ffff:192.0.2.1) becomes IPv4, so that a peer is always shown the same way.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stent/endpoint.h"

#define HOST_MAX 253	/* RFC 1035: a name on the wire has at most 255 bytes */
#define LABEL_MAX 63

static int
wrong(const char **why, const char *text)
{
	*why = text;
	return -EINVAL;
}

static int
parse_port(uint16_t *port, const char *text, const char **why)
{
	unsigned long n = 0;

	if (*text == '\0')
		return wrong(why, "has no port; write HOST:PORT");
	for (const char *p = text; *p != '\0'; p++) {
		if (!isdigit((unsigned char)*p) || p - text >= 5)
			return wrong(why, "has a port that is not a number; write one from 1 to 65535");
		n = n * 10 + (unsigned long)(*p - '0');
	}
	if (n < 1 || n > 65535)
		return wrong(why, "has a port out of range; write one from 1 to 65535");
	*port = (uint16_t)n;
	return 0;
}

static void
set_v4(struct endpoint *ep, struct in_addr ip)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&ep->addr;

	in->sin_family = AF_INET;
	in->sin_addr = ip;
	in->sin_port = htons(ep->port);
	ep->addr_len = sizeof(*in);
}

static void
set_v6(struct endpoint *ep, const struct in6_addr *ip, uint32_t scope)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ep->addr;
	struct in_addr v4;

	if (IN6_IS_ADDR_V4MAPPED(ip)) {
		memcpy(&v4, &ip->s6_addr[12], sizeof(v4));
		set_v4(ep, v4);
		return;
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_addr = *ip;
	in6->sin6_port = htons(ep->port);
	in6->sin6_scope_id = scope;
	ep->addr_len = sizeof(*in6);
}

/* The zone of a link-local address: an interface's name or number. */
static int
parse_zone(uint32_t *scope, const char *zone)
{
	char *end;
	unsigned long n;

	*scope = if_nametoindex(zone);
	if (*scope != 0)
		return 0;
	if (!isdigit((unsigned char)*zone))
		return -EINVAL;
	n = strtoul(zone, &end, 10);
	if (*end != '\0' || n == 0 || n > UINT32_MAX)
		return -EINVAL;
	*scope = (uint32_t)n;
	return 0;
}

/* [V6]:PORT; text starts after the bracket and is modified. */
static int
parse_bracketed(struct endpoint *ep, char *text, const char **why)
{
	struct in6_addr ip;
	uint32_t scope = 0;
	char *end = strchr(text, ']'), *zone;
	int r;

	if (end == NULL)
		return wrong(why, "has no closing ]; write [ADDRESS]:PORT");
	if (end[1] != ':')
		return wrong(why, "has no port; write [ADDRESS]:PORT");
	r = parse_port(&ep->port, end + 2, why);
	if (r < 0)
		return r;
	*end = '\0';
	zone = strchr(text, '%');
	if (zone != NULL)
		*zone++ = '\0';
	if (inet_pton(AF_INET6, text, &ip) != 1)
		return wrong(why, "has no IPv6 address between [ and ]; write one such as [2001:db8::1]:5432");
	if (zone != NULL && parse_zone(&scope, zone) < 0)
		return wrong(why, "names an interface after % that this machine does not have; see `ip link`");
	ep->kind = ENDPOINT_ADDRESS;
	set_v6(ep, &ip, scope);
	return 0;
}

bool
endpoint_is_name(const char *name)
{
	size_t label = 0, len = strlen(name);

	if (len == 0 || len > HOST_MAX)
		return false;
	for (const char *p = name; *p != '\0'; p++) {
		if (*p == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if (isalnum((unsigned char)*p) || *p == '-' || *p == '_') {
			if (++label > LABEL_MAX)
				return false;
		} else {
			return false;
		}
	}
	return true;
}

static int
parse_any(struct endpoint *ep, enum endpoint_use use, const char **why)
{
	if (use == ENDPOINT_BACKEND)
		return wrong(why, "has no host; write HOST:PORT");
	ep->kind = ENDPOINT_ANY;
	set_v6(ep, &in6addr_any, 0);
	return 0;
}

static int
parse_host_port(struct endpoint *ep, char *text, enum endpoint_use use, const char **why)
{
	char *colon = strrchr(text, ':');
	struct in_addr ip;
	int r;

	if (colon == NULL && *text != '\0' && text[strspn(text, "0123456789")] == '\0')
		return wrong(why, "is a port without a host; write HOST:PORT");
	if (colon == NULL)
		return wrong(why, "has no port; write HOST:PORT, [V6]:PORT or unix:PATH");
	if (strchr(text, ':') != colon)
		return wrong(why, "has several colons; write an IPv6 address in brackets: [ADDRESS]:PORT");
	r = parse_port(&ep->port, colon + 1, why);
	if (r < 0)
		return r;
	*colon = '\0';
	if (*text == '\0')
		return parse_any(ep, use, why);
	if (inet_pton(AF_INET, text, &ip) == 1) {
		ep->kind = ENDPOINT_ADDRESS;
		set_v4(ep, ip);
		return 0;
	}
	if (strcmp(text, "*") == 0)
		return wrong(why, "has * as its host; write :PORT for every address");
	if (strspn(text, "0123456789.") == strlen(text))
		return wrong(why, "has no IPv4 address before the port; write four numbers from 0 to 255");
	if (!endpoint_is_name(text))
		return wrong(why, "has no host name before the port; write letters, digits, - and dots");
	if (use == ENDPOINT_LISTEN)
		return wrong(why, "is a host name, but listen takes an address; write one such as 127.0.0.1:PORT or :PORT");
	ep->kind = ENDPOINT_NAME;
	ep->host = strdup(text);
	return ep->host != NULL ? 0 : -ENOMEM;
}

static int
parse_unix(struct endpoint *ep, const char *path, const char **why)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&ep->addr;
	size_t len = strlen(path);

	if (len == 0 || strcmp(path, "@") == 0)
		return wrong(why, "has no path; write unix:PATH, such as unix:/run/stent/pg.sock");
	if (len >= sizeof(un->sun_path))
		return wrong(why, "has a path that is too long; the limit for a UNIX socket is 107 bytes");
	ep->kind = ENDPOINT_UNIX;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, len);
	ep->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (path[0] == '@')
		un->sun_path[0] = '\0';		/* abstract: ends by its length */
	else
		ep->addr_len++;			/* the NUL of a path counts */
	ep->host = strdup(path);
	return ep->host != NULL ? 0 : -ENOMEM;
}

static int
parse_fd(struct endpoint *ep, const char *name, enum endpoint_use use, const char **why)
{
	if (use == ENDPOINT_BACKEND)
		return wrong(why, "can only be listened on; write HOST:PORT or unix:PATH");
	if (*name == '\0')
		return wrong(why, "has no name; write fd:NAME as in the socket unit's FileDescriptorName=");
	ep->kind = ENDPOINT_FD;
	ep->host = strdup(name);
	return ep->host != NULL ? 0 : -ENOMEM;
}

static int
parse_original(struct endpoint *ep, enum endpoint_use use, const char **why)
{
	if (use == ENDPOINT_LISTEN)
		return wrong(why, "cannot be listened on; write it as the backend of redirected flows");
	ep->kind = ENDPOINT_ORIGINAL;
	return 0;
}

static int
parse_form(struct endpoint *ep, char *text, enum endpoint_use use, const char **why)
{
	if (*text == '\0')
		return wrong(why, "is empty; write HOST:PORT or unix:PATH");
	if (text[strcspn(text, " \t")] != '\0')
		return wrong(why, "contains a space; separate several with commas");
	if (strstr(text, "://") != NULL)
		return wrong(why, "is a URL; write only its HOST:PORT");
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(ep, text + 5, why);
	if (strncmp(text, "fd:", 3) == 0)
		return parse_fd(ep, text + 3, use, why);
	if (strcmp(text, "original") == 0)
		return parse_original(ep, use, why);
	if (text[0] == '[')
		return parse_bracketed(ep, text + 1, why);
	return parse_host_port(ep, text, use, why);
}

int
endpoint_parse(struct endpoint *ep, const char *text, enum endpoint_use use, const char **why)
{
	char *scratch = strdup(text);
	int r;

	memset(ep, 0, sizeof(*ep));
	ep->text = strdup(text);
	*why = "cannot be read: out of memory";
	r = scratch != NULL && ep->text != NULL ? parse_form(ep, scratch, use, why) : -ENOMEM;
	free(scratch);
	if (r < 0)
		endpoint_clear(ep);
	return r;
}

void
endpoint_clear(struct endpoint *ep)
{
	free(ep->text);
	free(ep->host);
	memset(ep, 0, sizeof(*ep));
}

static bool
is_wildcard(const struct endpoint *ep)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&ep->addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&ep->addr;

	if (ep->addr.ss_family == AF_INET)
		return in->sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

static bool
is_inet(const struct endpoint *ep)
{
	return ep->kind == ENDPOINT_ADDRESS || ep->kind == ENDPOINT_ANY;
}

bool
endpoint_clash(const struct endpoint *a, const struct endpoint *b)
{
	if (is_inet(a) && is_inet(b)) {
		if (a->port != b->port)
			return false;
		if (a->kind == ENDPOINT_ANY || b->kind == ENDPOINT_ANY)
			return true;
		if (a->addr.ss_family != b->addr.ss_family)
			return false;
		return is_wildcard(a) || is_wildcard(b) || memcmp(&a->addr, &b->addr, a->addr_len) == 0;
	}
	if (a->kind != b->kind)
		return false;
	if (a->kind == ENDPOINT_NAME)
		return a->port == b->port && strcmp(a->host, b->host) == 0;
	return a->host != NULL && strcmp(a->host, b->host) == 0;	/* unix:, fd: */
}

bool
endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind || a->port != b->port)
		return false;
	if (a->host != NULL || b->host != NULL)		/* a name, unix:, fd: */
		return a->host != NULL && b->host != NULL && strcmp(a->host, b->host) == 0;
	return a->addr_len == b->addr_len && memcmp(&a->addr, &b->addr, a->addr_len) == 0;	/* original: 0 bytes */
}

struct address
address_from_sockaddr(const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
	struct address a = { 0 };

	if (sa->sa_family == AF_INET) {
		a.family = AF_INET;
		a.port = ntohs(in->sin_port);
		memcpy(a.ip, &in->sin_addr, sizeof(in->sin_addr));
	} else if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		a.family = AF_INET;
		a.port = ntohs(in6->sin6_port);
		memcpy(a.ip, &in6->sin6_addr.s6_addr[12], sizeof(in->sin_addr));
	} else if (sa->sa_family == AF_INET6) {
		a.family = AF_INET6;
		a.port = ntohs(in6->sin6_port);
		memcpy(a.ip, &in6->sin6_addr, sizeof(in6->sin6_addr));
	} else if (sa->sa_family == AF_UNIX) {
		a.family = AF_UNIX;
	}
	return a;
}

const char *
address_text(const struct address *a, char buf[ADDRESS_TEXT_MAX])
{
	char ip[INET6_ADDRSTRLEN] = "";

	if (a->family == AF_INET && inet_ntop(AF_INET, a->ip, ip, sizeof(ip)) != NULL)
		snprintf(buf, ADDRESS_TEXT_MAX, "%s:%u", ip, a->port);
	else if (a->family == AF_INET6 && inet_ntop(AF_INET6, a->ip, ip, sizeof(ip)) != NULL)
		snprintf(buf, ADDRESS_TEXT_MAX, "[%s]:%u", ip, a->port);
	else
		snprintf(buf, ADDRESS_TEXT_MAX, "%s", a->family == AF_UNIX ? "unix" : "-");
	return buf;
}
