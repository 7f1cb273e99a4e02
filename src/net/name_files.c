/*
 * name_files.c - /etc/hosts and /etc/resolv.conf, as libc reads them.
 *
 * As in libc, lines that are not understood are ignored, so that one does not
 * break all names. Unlike in libc, a name server may have a port (ADDRESS:PORT).
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "stent/name_files.h"

#define BLANKS " \t\r\n"
#define NDOTS_MAX 15			/* libc's */
#define DNS_PORT 53

static bool
parse_v4(struct sockaddr_storage *ret, const char *text, uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	return inet_pton(AF_INET, text, &in->sin_addr) == 1;
}

/* text is changed. */
static bool
parse_v6(struct sockaddr_storage *ret, char *text, uint16_t port)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	char *zone = strchr(text, '%');

	memset(ret, 0, sizeof(*ret));
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	if (zone != NULL) {
		*zone++ = '\0';
		in6->sin6_scope_id = if_nametoindex(zone);
		if (in6->sin6_scope_id == 0)
			in6->sin6_scope_id = (uint32_t)strtoul(zone, NULL, 10);
	}
	return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1;
}

/* The port after text's colon, which becomes a NUL. */
static bool
cut_port(char *colon, uint16_t *ret)
{
	char *end;
	const unsigned long port = strtoul(colon + 1, &end, 10);

	if (!isdigit((unsigned char)colon[1]) || *end != '\0' || port == 0 || port > UINT16_MAX)
		return false;
	*colon = '\0';
	*ret = (uint16_t)port;
	return true;
}

/* text is changed. */
static bool
parse_server(struct sockaddr_storage *ret, char *text)
{
	uint16_t port = DNS_PORT;
	char *colon = strrchr(text, ':');

	if (*text == '[') {
		char *end = strchr(text, ']');

		if (end == NULL || (end[1] != '\0' && (colon != end + 1 || !cut_port(colon, &port))))
			return false;
		*end = '\0';
		return parse_v6(ret, text + 1, port);
	}
	if (colon == NULL || (strchr(text, ':') == colon && cut_port(colon, &port)))
		return parse_v4(ret, text, port);
	return parse_v6(ret, text, port);
}

static void
add_server(struct resolv_conf *c, char *text)
{
	char copy[sizeof(c->unread)];

	if (c->n_servers == RESOLV_SERVERS_MAX)
		return;
	snprintf(copy, sizeof(copy), "%s", text);
	if (parse_server(&c->server[c->n_servers], text)) {
		c->n_servers++;
		return;
	}
	memset(&c->server[c->n_servers], 0, sizeof(c->server[0]));
	if (c->unread[0] == '\0')
		memcpy(c->unread, copy, strlen(copy));
}

/* Replaces the list of domains; those that do not fit are ignored. */
static void
set_search(struct resolv_conf *c, char **rest)
{
	const char *word;
	char *p = c->search;

	memset(c->search, 0, sizeof(c->search));
	while ((word = strtok_r(NULL, BLANKS, rest)) != NULL) {
		size_t len = strlen(word);

		if (word[len - 1] == '.')	/* the root is an empty domain, in which names are tried anyway */
			len--;
		if (len == 0 || p + len + 2 > c->search + sizeof(c->search))
			continue;
		memcpy(p, word, len);
		p += len + 1;
	}
}

static void
set_options(struct resolv_conf *c, char **rest)
{
	const char *word;

	while ((word = strtok_r(NULL, BLANKS, rest)) != NULL) {
		if (strncmp(word, "ndots:", 6) != 0 || !isdigit((unsigned char)word[6]))
			continue;
		const unsigned long n = strtoul(word + 6, NULL, 10);

		c->ndots = n < NDOTS_MAX ? (unsigned)n : NDOTS_MAX;
	}
}

static void
read_resolv_line(struct resolv_conf *c, char *line)
{
	char *rest, *word;

	if (*line == '#' || *line == ';')
		return;
	word = strtok_r(line, BLANKS, &rest);
	if (word == NULL)
		return;
	if (strcmp(word, "nameserver") == 0) {
		word = strtok_r(NULL, BLANKS, &rest);
		if (word != NULL)
			add_server(c, word);
	} else if (strcmp(word, "search") == 0 || strcmp(word, "domain") == 0) {
		set_search(c, &rest);
	} else if (strcmp(word, "options") == 0) {
		set_options(c, &rest);
	}
}

void
resolv_conf_read(struct resolv_conf *c, FILE *in, const char *hostname)
{
	const char *dot = strchr(hostname, '.');
	char *line = NULL;
	size_t size = 0;

	memset(c, 0, sizeof(*c));
	c->ndots = 1;
	if (dot != NULL && strlen(dot + 1) <= DNS_NAME_MAX)
		memcpy(c->search, dot + 1, strlen(dot + 1));
	while (in != NULL && getline(&line, &size, in) >= 0)
		read_resolv_line(c, line);
	free(line);
	if (c->n_servers == 0)
		(void)parse_v4(&c->server[c->n_servers++], "127.0.0.1", DNS_PORT);
}

bool
resolv_conf_candidate(const struct resolv_conf *c, const char *name, size_t i, char ret[DNS_NAME_MAX + 1])
{
	size_t len = strlen(name), dots = 0, n = 0;
	const bool absolute = len > 0 && name[len - 1] == '.';

	if (absolute)
		len--;
	for (size_t k = 0; k < len; k++)
		dots += name[k] == '.';
	if (len > DNS_NAME_MAX)
		return false;
	memcpy(ret, name, len);
	ret[len] = '\0';
	if (absolute)
		return i == 0;
	if (dots >= c->ndots && n++ == i)
		return true;
	for (const char *domain = c->search; *domain != '\0'; domain += strlen(domain) + 1) {
		if (len + 1 + strlen(domain) > DNS_NAME_MAX || n++ != i)
			continue;
		ret[len] = '.';
		memcpy(ret + len + 1, domain, strlen(domain) + 1);
		return true;
	}
	return dots < c->ndots && n == i;		/* ret is still the name itself */
}

/* Length of a name without a trailing dot. */
static size_t
bare_length(const char *name)
{
	const size_t len = strlen(name);

	return len > 0 && name[len - 1] == '.' ? len - 1 : len;
}

static bool
same_name(const char *a, const char *b)
{
	const size_t len = bare_length(a);

	return len == bare_length(b) && strncasecmp(a, b, len) == 0;
}

/* True: the line has an address of name, now in ret. */
static bool
read_hosts_line(char *line, const char *name, struct sockaddr_storage *ret)
{
	char *rest, *address, *word;

	line[strcspn(line, "#")] = '\0';
	address = strtok_r(line, BLANKS, &rest);
	while (address != NULL && (word = strtok_r(NULL, BLANKS, &rest)) != NULL)
		if (same_name(word, name))
			return parse_v4(ret, address, 0) || parse_v6(ret, address, 0);
	return false;
}

int
hosts_find(FILE *in, const char *name, struct sockaddr_storage *ret, size_t max)
{
	char *line = NULL;
	size_t size = 0, n = 0, i;
	int err;

	errno = 0;
	while (n < max && getline(&line, &size, in) >= 0) {
		if (!read_hosts_line(line, name, &ret[n]))
			continue;
		for (i = 0; i < n && memcmp(&ret[i], &ret[n], sizeof(*ret)) != 0; i++)
			;
		n += i == n;
	}
	err = ferror(in) ? errno : 0;
	free(line);
	return err != 0 ? -err : (int)n;
}

bool
name_is_localhost(const char *name)
{
	static const char local[] = "localhost";
	const size_t len = bare_length(name), own = sizeof(local) - 1;

	return len >= own && strncasecmp(name + len - own, local, own) == 0 && (len == own || name[len - own - 1] == '.');
}
