/*
 * resolve.c - names by evdns, with a memory.
 *
 * Each name that was ever asked for has one entry: its last addresses, when it
 * was last asked for, and who waits for the question under way. Many flows that
 * need the same name share one question.
 *
 * A name server that is down must not take the backends with it (RFC 8767 is
 * about the same): addresses that have aged are asked for anew, but after
 * PATIENCE_MS without an answer they serve again, at once for whoever comes
 * while the question is still under way. An answer that fails leaves them as
 * they are, and counts as an answer: the next question waits until they have
 * aged again. Not to wait at all would be simpler, but then the first flow after
 * a quiet night would go to where the backend was the evening before.
 */
#include <errno.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "stent/resolve.h"

#define PATIENCE_MS 200

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
	int64_t asked_us;		/* when the last question ended, well or not */
	bool asking;
	bool late;			/* the question under way has run out of patience */
	struct event *serve;		/* runs the waiting from the loop, not from within a call; or out of patience */
	struct host_addresses *answer;
	TAILQ_HEAD(, lookup) waiting;
	char text[];
};

struct resolver {
	struct event_base *base;
	struct evdns_base *dns;		/* made at the first question */
	struct timespec hosts, resolv;	/* when the files that dns knows were written */
	int asking;			/* questions under way: dns cannot be replaced meanwhile */
	bool closing;
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

void
resolver_free(struct resolver *r)
{
	struct name *n;

	if (r == NULL)
		return;
	r->closing = true;
	/* Frees the names only after evdns has called back for each question under way. */
	if (r->dns != NULL)
		evdns_base_free(r->dns, 1);
	event_base_loop(r->base, EVLOOP_NONBLOCK);
	while ((n = TAILQ_FIRST(&r->names)) != NULL) {
		TAILQ_REMOVE(&r->names, n, link);
		event_free(n->serve);
		free(n->answer);
		free(n->known);
		free(n);
	}
	free(r);
}

static struct timespec
written(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){ 0, 0 };
}

static bool
same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Makes dns, or makes it anew when a file that it has read has changed. */
static int
refresh_dns(struct resolver *r)
{
	struct timespec hosts = written("/etc/hosts"), resolv = written("/etc/resolv.conf");

	if (r->dns != NULL && (r->asking > 0 || (same_time(hosts, r->hosts) && same_time(resolv, r->resolv))))
		return 0;
	if (r->dns != NULL)
		evdns_base_free(r->dns, 0);
	r->dns = evdns_base_new(r->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (r->dns == NULL)
		return -ENOMEM;
	/* Without a resolv.conf evdns asks 127.0.0.1; hosts still work. */
	(void)evdns_base_resolv_conf_parse(r->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
	/* A name that the application looks up is sent as it is written. */
	(void)evdns_base_set_option(r->dns, "randomize-case:", "0");
	(void)evdns_base_set_option(r->dns, "timeout:", "2");
	(void)evdns_base_set_option(r->dns, "attempts:", "2");
	r->hosts = hosts;
	r->resolv = resolv;
	return 0;
}

/* The question has been answered, well or not. */
static void
settle(struct name *n)
{
	n->asking = n->late = false;
	n->asked_us = clock_us();
	if (n->answer != NULL) {
		free(n->known);
		n->known = n->answer;
		n->answer = NULL;
	} else if (!n->resolver->closing) {
		log_say(LEVEL_WARN, "cannot look up backend name %s%s", n->text,
		    n->known != NULL ? ": using the addresses found before" : "");
	}
}

static void
on_serve(evutil_socket_t fd, short what, void *arg)
{
	struct name *n = arg;
	struct lookup *l;

	(void)fd;
	if (what & EV_READ)
		settle(n);
	else
		n->late = true;
	while ((l = TAILQ_FIRST(&n->waiting)) != NULL) {
		TAILQ_REMOVE(&n->waiting, l, link);
		l->done(l->arg, n->known);
		free(l);
	}
}

static struct host_addresses *
copy_addresses(const struct evutil_addrinfo *ai)
{
	struct host_addresses *h;
	size_t n = 0;

	for (const struct evutil_addrinfo *a = ai; a != NULL; a = a->ai_next)
		n++;
	h = n > 0 ? calloc(1, sizeof(*h) + n * sizeof(h->at[0])) : NULL;
	for (const struct evutil_addrinfo *a = ai; h != NULL && a != NULL; a = a->ai_next)
		memcpy(&h->at[h->n++], a->ai_addr, a->ai_addrlen);
	return h;
}

static void
on_found(int result, struct evutil_addrinfo *ai, void *arg)
{
	struct name *n = arg;

	n->resolver->asking--;
	if (result == 0)
		n->answer = copy_addresses(ai);
	if (ai != NULL)
		evutil_freeaddrinfo(ai);
	event_active(n->serve, EV_READ, 0);	/* which ends the patience, too */
}

static int
ask(struct name *n)
{
	const struct evutil_addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = EVUTIL_AI_ADDRCONFIG,
	};
	static const struct timeval patience = { .tv_usec = PATIENCE_MS * US_PER_MS };
	int r = refresh_dns(n->resolver);

	if (r != 0)
		return r;
	if (n->known != NULL)
		(void)event_add(n->serve, &patience);
	n->asking = true;
	n->resolver->asking++;
	(void)evdns_getaddrinfo(n->resolver->dns, n->text, NULL, &hints, on_found, n);
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
	if (n->serve == NULL) {
		free(n);
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

	if (n == NULL || (!n->late && clock_us() - n->asked_us > age_ms * US_PER_MS))
		return NULL;
	return n->known;
}

struct lookup *
resolver_ask(struct resolver *r, const char *name,
    void (*done)(void *arg, const struct host_addresses *found), void *arg)
{
	struct name *n = find_name(r, name);
	struct lookup *l = calloc(1, sizeof(*l));

	if (l != NULL && n == NULL)
		n = add_name(r, name);
	if (l == NULL || n == NULL || (!n->asking && ask(n) != 0)) {
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
