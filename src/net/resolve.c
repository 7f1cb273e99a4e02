/*
 * resolve.c - names to addresses: the search, and a cache.
 *
 * A name is looked up in /etc/hosts, then by DNS with the search list of
 * /etc/resolv.conf in libc's order; both files are read again for each lookup.
 * IPv4 and IPv6 are queried together; the first name with an address of either
 * kind is taken. Only "no such name" leads to the next name of the search: when
 * no server can answer it ends, as in musl. (glibc continues after a SERVFAIL
 * and may find another host.) Flows that need the same name share one lookup.
 * As in RFC 8767, backends must stay reachable while a name server is down:
 * expired addresses are looked up again, but used if there is no answer within
 * PATIENCE_MS. They are not used at once, as the backend may have moved since.
 * A failed lookup keeps them for another dns_ttl. A name that was not found is
 * not looked up again for FAILED_MS.
 */

/*
 * Why not a library: evdns searches for each kind of address separately, has no TCP
 * and uses one port for all queries. c-ares, as in Debian 12, takes the failure of one
 * kind for "none", and tries a dead first server first each time.
 */
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "stent/address_order.h"
#include "stent/clock.h"
#include "stent/dns_query.h"
#include "stent/log.h"
#include "stent/resolve.h"

#define PATIENCE_MS 200
#define FAILED_MS 2000
#define SECOND_KIND_MS 500	/* how long addresses of one family wait for those of the other */

enum { KIND_V6, KIND_V4, KINDS };
static const enum dns_type types[KINDS] = { DNS_AAAA, DNS_A };

struct lookup {
	TAILQ_ENTRY(lookup) link;
	struct name *name;
	void (*done)(void *arg, const struct host_addresses *found);
	void *arg;
};

struct name {
	TAILQ_ENTRY(name) link;
	struct resolver *resolver;
	struct host_addresses *known;	/* NULL: never found */
	int64_t ended_us;		/* when the last lookup ended */
	bool failed;			/* the last lookup failed */
	bool looking_up;
	bool late;			/* the lookup under way has taken longer than PATIENCE_MS */
	struct event *serve;		/* calls the waiting ones back from the loop, at the end or after PATIENCE_MS */
	TAILQ_HEAD(, lookup) waiting;
	/* The lookup under way. */
	struct dns_servers *servers;
	size_t candidate;		/* index of the name in the search */
	char queried_as[DNS_NAME_MAX + 1];
	struct dns_query *query[KINDS];
	bool unanswered;		/* no server could answer, for at least one family */
	struct event *second_kind;	/* after SECOND_KIND_MS */
	struct host_addresses *answer;
	char text[];
};

struct resolver {
	struct event_base *base;
	struct dns_servers *servers;	/* of resolv.conf when it was last read; NULL: not yet */
	TAILQ_HEAD(, name) names;
};

struct resolver *
resolver_new(struct event_base *base)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r != NULL) {
		r->base = base;
		TAILQ_INIT(&r->names);
	}
	return r;
}

static void
drop_question(struct name *n)
{
	for (int k = 0; k < KINDS; k++) {
		dns_query_cancel(n->query[k]);
		n->query[k] = NULL;
	}
	(void)event_del(n->second_kind);
	dns_servers_unref(n->servers);
	n->servers = NULL;
}

static void
free_name(struct name *n)
{
	if (n->second_kind != NULL) {
		drop_question(n);
		event_free(n->second_kind);
	}
	if (n->serve != NULL)
		event_free(n->serve);
	free(n->answer);
	free(n->known);
	free(n);
}

void
resolver_free(struct resolver *r)
{
	struct name *n;

	if (r == NULL)
		return;
	while ((n = TAILQ_FIRST(&r->names)) != NULL) {
		TAILQ_REMOVE(&r->names, n, link);
		free_name(n);
	}
	dns_servers_unref(r->servers);
	free(r);
}

/* --- the files --- */

/* Reads resolv.conf again. While it cannot be read, or is empty, the last contents are used. 0 or -ENOMEM. */
static int
refresh_servers(struct resolver *r)
{
	char hostname[HOST_NAME_MAX + 1] = "";
	struct resolv_conf conf;
	struct dns_servers *fresh;
	FILE *in = fopen("/etc/resolv.conf", "re");
	int c = in != NULL ? getc(in) : EOF;

	if (c == EOF && r->servers != NULL) {
		if (in != NULL)
			fclose(in);
		return 0;
	}
	if (c != EOF)
		(void)ungetc(c, in);
	(void)gethostname(hostname, sizeof(hostname) - 1);
	resolv_conf_read(&conf, in, hostname);
	if (in != NULL)
		fclose(in);
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): it fills the padding, too */
	if (r->servers != NULL && memcmp(&conf, dns_servers_conf(r->servers), sizeof(conf)) == 0)
		return 0;
	fresh = dns_servers_new(r->base, &conf);
	if (fresh == NULL)
		return -ENOMEM;
	if (conf.unread[0] != '\0')
		log_say(LEVEL_WARN, "/etc/resolv.conf: nameserver %s is not an IP address: ignored", conf.unread);
	dns_servers_unref(r->servers);
	r->servers = fresh;
	return 0;
}

/* The number of addresses of a name in /etc/hosts; < 0: the file exists and cannot be read. */
static int
read_hosts(const char *name, struct sockaddr_storage ret[DNS_ADDRESSES_MAX])
{
	FILE *in = fopen("/etc/hosts", "re");
	int n;

	if (in == NULL)
		return errno == ENOENT ? 0 : -errno;
	n = hosts_find(in, name, ret, DNS_ADDRESSES_MAX);
	fclose(in);
	return n;
}

/* --- a lookup --- */

static int
add_addresses(struct name *n, const struct sockaddr_storage *at, size_t count)
{
	const size_t before = n->answer != NULL ? n->answer->n : 0;
	struct host_addresses *h = realloc(n->answer, sizeof(*h) + (before + count) * sizeof(h->at[0]));

	if (h == NULL)
		return -ENOMEM;
	memcpy(&h->at[before], at, count * sizeof(*at));
	h->n = before + count;
	n->answer = h;
	return 0;
}

/* The lookup has ended, with addresses or not. */
static void
settle(struct name *n)
{
	n->looking_up = n->late = false;
	n->ended_us = clock_us();
	n->failed = n->answer == NULL;
	if (!n->failed) {
		address_order(n->answer->at, n->answer->n);
		free(n->known);
		n->known = n->answer;
		n->answer = NULL;
	} else {
		log_say(LEVEL_WARN, "cannot look up backend name %s%s (%s%s)", n->text,
		    n->known != NULL ? ": using the addresses found before" : "",
		    n->unanswered ? "no name server could answer for " : "no such name",
		    n->unanswered ? n->queried_as : "");
	}
	drop_question(n);
}

static void
on_serve(evutil_socket_t fd, short what, void *arg)
{
	struct name *n = arg;
	struct lookup *l;

	(void)fd;
	if (what & EV_READ)
		settle(n);
	else if (what & EV_TIMEOUT)
		n->late = true;
	else if (n->looking_up)
		return;			/* the failure is older than FAILED_MS by now */
	while ((l = TAILQ_FIRST(&n->waiting)) != NULL) {
		TAILQ_REMOVE(&n->waiting, l, link);
		l->done(l->arg, n->known);
		free(l);
	}
}

/* Runs on_serve() from the loop: the lookup has ended, so the time of PATIENCE_MS is stopped, too. */
static void
end_question(struct name *n)
{
	event_active(n->serve, EV_READ, 0);
}

static void on_answer(void *arg, enum dns_type type, enum dns_verdict verdict, const struct dns_addresses *found);

/* Queries both families of the next name in the search; ends the lookup when there is none. */
static void
query_next(struct name *n)
{
	const struct resolv_conf *conf = dns_servers_conf(n->servers);
	bool queried = false;

	while (!queried && !n->unanswered) {
		if (!resolv_conf_candidate(conf, n->text, n->candidate++, n->queried_as))
			break;
		for (int k = 0; k < KINDS; k++) {
			const int r = dns_query_start(&n->query[k], n->servers, n->queried_as, types[k], on_answer, n);

			queried |= r == 0;
			n->unanswered |= r != 0 && r != -EINVAL;	/* an invalid name cannot exist */
		}
	}
	if (!queried)
		end_question(n);
}

static void
take_addresses(struct name *n, enum dns_type type, const struct dns_addresses *found)
{
	struct sockaddr_storage at[DNS_ADDRESSES_MAX] = { 0 };

	for (size_t i = 0; i < found->n; i++) {
		struct sockaddr_in *in = (struct sockaddr_in *)&at[i];
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&at[i];

		at[i].ss_family = type == DNS_A ? AF_INET : AF_INET6;
		if (type == DNS_A)
			memcpy(&in->sin_addr, found->at[i], sizeof(in->sin_addr));
		else
			memcpy(&in6->sin6_addr, found->at[i], sizeof(in6->sin6_addr));
	}
	if (add_addresses(n, at, found->n) != 0)
		n->unanswered = true;
}

static void
on_answer(void *arg, enum dns_type type, enum dns_verdict verdict, const struct dns_addresses *found)
{
	static const struct timeval second_kind = { .tv_usec = SECOND_KIND_MS * US_PER_MS };
	struct name *n = arg;

	n->query[type == DNS_A ? KIND_V4 : KIND_V6] = NULL;
	if (verdict == DNS_FOUND)
		take_addresses(n, type, found);
	else if (verdict == DNS_FAILED)
		n->unanswered = true;
	if (n->query[KIND_V4] == NULL && n->query[KIND_V6] == NULL) {
		if (n->answer == NULL && !n->unanswered)
			query_next(n);
		else
			end_question(n);
	} else if (n->answer != NULL) {
		(void)event_add(n->second_kind, &second_kind);
	}
}

static void
on_second_kind(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	end_question(arg);
}

/* Addresses without a name server (hosts file, localhost): their number, or < 0. */
static int
find_here(const char *name, struct sockaddr_storage ret[DNS_ADDRESSES_MAX])
{
	int n = read_hosts(name, ret);

	if (n != 0 || !name_is_localhost(name))
		return n;
	memset(ret, 0, 2 * sizeof(*ret));
	ret[0].ss_family = AF_INET6;
	((struct sockaddr_in6 *)&ret[0])->sin6_addr = in6addr_loopback;
	ret[1].ss_family = AF_INET;
	((struct sockaddr_in *)&ret[1])->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return 2;
}

static int
start_lookup(struct name *n)
{
	static const struct timeval patience = { .tv_usec = PATIENCE_MS * US_PER_MS };
	struct sockaddr_storage here[DNS_ADDRESSES_MAX];
	int r = refresh_servers(n->resolver);

	if (r != 0)
		return r;
	n->servers = dns_servers_ref(n->resolver->servers);
	n->candidate = 0;
	n->unanswered = false;
	snprintf(n->queried_as, sizeof(n->queried_as), "%s", n->text);
	r = find_here(n->text, here);
	if (r > 0)
		r = add_addresses(n, here, (size_t)r);
	if (r < 0)
		n->unanswered = true;
	n->looking_up = true;
	if (n->answer != NULL || n->unanswered) {
		end_question(n);
		return 0;
	}
	if (n->known != NULL)
		(void)event_add(n->serve, &patience);
	query_next(n);
	return 0;
}

static struct name *
find_name(struct resolver *r, const char *text)
{
	struct name *n;

	TAILQ_FOREACH(n, &r->names, link)
		if (strcmp(n->text, text) == 0)
			break;
	return n;
}

static struct name *
add_name(struct resolver *r, const char *text)
{
	size_t len = strlen(text) + 1;
	struct name *n = calloc(1, sizeof(*n) + len);

	if (n == NULL)
		return NULL;
	memcpy(n->text, text, len);
	n->resolver = r;
	n->serve = evtimer_new(r->base, on_serve, n);
	n->second_kind = evtimer_new(r->base, on_second_kind, n);
	if (n->serve == NULL || n->second_kind == NULL) {
		free_name(n);
		return NULL;
	}
	TAILQ_INIT(&n->waiting);
	TAILQ_INSERT_TAIL(&r->names, n, link);
	return n;
}

const struct host_addresses *
resolver_known(struct resolver *r, const char *name, int64_t age_ms)
{
	const struct name *n = find_name(r, name);

	if (n == NULL || (!n->late && clock_us() - n->ended_us > age_ms * US_PER_MS))
		return NULL;
	return n->known;
}

/* Starts a lookup, unless one is under way or has just failed. 0 or -errno. */
static int
start_if_needed(struct name *n)
{
	if (n->looking_up)
		return 0;
	if (!n->failed || clock_us() - n->ended_us > FAILED_MS * US_PER_MS)
		return start_lookup(n);
	event_active(n->serve, EV_WRITE, 0);
	return 0;
}

struct lookup *
resolver_lookup(struct resolver *r, const char *name,
    void (*done)(void *arg, const struct host_addresses *found), void *arg)
{
	struct name *n = find_name(r, name);
	struct lookup *l = calloc(1, sizeof(*l));

	if (l != NULL && n == NULL)
		n = add_name(r, name);
	if (l == NULL || n == NULL || start_if_needed(n) != 0) {
		free(l);
		return NULL;
	}
	l->name = n;
	l->done = done;
	l->arg = arg;
	TAILQ_INSERT_TAIL(&n->waiting, l, link);
	return l;
}

void
lookup_cancel(struct lookup *l)
{
	TAILQ_REMOVE(&l->name->waiting, l, link);
	free(l);
}
