/*
 * hosts.c - which Host headers the status page accepts.
 *
 * With DNS rebinding a foreign page's name resolves to our address, and the
 * browser lets that page read our responses. The Host header then has its name.
 * So only names are accepted that no public site can have: an address, a name
 * without a dot (as containers use), one of this machine, or one of admin_hosts.
 *
 * The machine's names are those known without a DNS query, which could block:
 * its host name, other names of it in /etc/hosts, and its host name in the
 * domains of /etc/resolv.conf. They are read for each such request, as they may
 * change.
 */
#include "admin/hosts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define BLANKS " \t\r\n"

static bool
is_v6(const char *text)
{
	struct in6_addr ip;

	return inet_pton(AF_INET6, text, &ip) == 1;
}

static bool
is_v4(const char *text)
{
	struct in_addr ip;

	return inet_pton(AF_INET, text, &ip) == 1;
}

bool
hosts_read(const char *header, char name[HOSTS_NAME_MAX], bool *is_address)
{
	const bool in_brackets = header[0] == '[';
	const char *begin = in_brackets ? header + 1 : header;
	size_t len = strcspn(begin, in_brackets ? "]" : ":");
	const char *rest = begin + len + (in_brackets && begin[len] == ']');

	if (len == 0 || len >= HOSTS_NAME_MAX || (*rest != '\0' && *rest != ':') || (in_brackets && begin[len] != ']'))
		return false;
	memcpy(name, begin, len);
	name[len] = '\0';
	*is_address = in_brackets ? is_v6(name) : is_v4(name);
	if (!in_brackets && len > 1 && name[len - 1] == '.')
		name[len - 1] = '\0';
	return !in_brackets || *is_address;
}

/* True when the name is host in domain. */
static bool
is_in_domain(const char *name, const char *host, const char *domain)
{
	const size_t host_len = strcspn(host, "."), len = strcspn(domain, BLANKS);
	const size_t domain_len = len > 0 && domain[len - 1] == '.' ? len - 1 : len;

	return domain_len > 0 && strlen(name) == host_len + 1 + domain_len && strncasecmp(name, host, host_len) == 0 &&
	    name[host_len] == '.' && strncasecmp(name + host_len + 1, domain, domain_len) == 0;
}

/* A line of /etc/hosts: an address and its names. True when one is the host, and one the name. */
static bool
is_named_in_hosts(char *line, const char *name, const char *host)
{
	bool has_host = false, has_name = false;
	char *save, *word;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, BLANKS, &save);
	while (word != NULL && (word = strtok_r(NULL, BLANKS, &save)) != NULL) {
		has_name |= strcasecmp(word, name) == 0;
		has_host |= strcasecmp(word, host) == 0;
	}
	return has_host && has_name;
}

/* A line of /etc/resolv.conf. True when the name is the host in one of its domains. */
static bool
is_named_in_resolv(char *line, const char *name, const char *host)
{
	char *save, *word = strtok_r(line, BLANKS, &save);

	if (word == NULL || (strcmp(word, "search") != 0 && strcmp(word, "domain") != 0))
		return false;
	while ((word = strtok_r(NULL, BLANKS, &save)) != NULL)
		if (is_in_domain(name, host, word))
			return true;
	return false;
}

static bool
is_named_in(const char *path, bool (*is_named)(char *line, const char *name, const char *host), const char *name,
    const char *host)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	while (f != NULL && !found && getline(&line, &room, f) >= 0)
		found = is_named(line, name, host);
	free(line);
	if (f != NULL)
		fclose(f);
	return found;
}

static bool
is_of_this_machine(const char *name)
{
	char host[HOSTS_NAME_MAX] = "";

	if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
		return false;
	return strcasecmp(name, host) == 0 || is_named_in("/etc/hosts", is_named_in_hosts, name, host) ||
	    is_named_in("/etc/resolv.conf", is_named_in_resolv, name, host);
}

static bool
is_listed(const char *name, const char *list)
{
	const size_t len = strlen(name);

	for (; list != NULL && *list != '\0'; list += strcspn(list, ",")) {
		list += strspn(list, ", ");
		if (strcspn(list, ", ") == len && strncasecmp(list, name, len) == 0)
			return true;
	}
	return false;
}

bool
hosts_trust(const char *name, const char *list)
{
	return strchr(name, '.') == NULL || is_listed(name, list) || is_of_this_machine(name);
}
