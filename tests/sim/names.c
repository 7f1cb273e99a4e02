/*
 * names.c - the results of the resolver: host names of the world. Instead of
 * src/net/resolve.c, whose own tests run against name servers.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "names.h"
#include "stent/resolve.h"

struct names_settings names_settings;

struct lookup {
	LIST_ENTRY(lookup) link;
	struct event *answer;		/* in the base of the thread that asks */
	char *name;
	void (*done)(void *arg, const struct host_addresses *found);	/* NULL: cancelled */
	void *arg;
};

struct resolver {
	struct event_base *base;
	LIST_HEAD(, lookup) lookups;
	struct host_addresses *given;
};

struct resolver *
resolver_new(struct event_base *base)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r != NULL)
		r->base = base;
	return r;
}

static void
free_lookup(struct lookup *l)
{
	LIST_REMOVE(l, link);
	event_free(l->answer);
	free(l->name);
	free(l);
}

void
resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	while (!LIST_EMPTY(&r->lookups))
		free_lookup(LIST_FIRST(&r->lookups));
	free(r->given);
	free(r);
}

/* All hosts whose name begins with it: "db" means db1, db2, ... */
static struct host_addresses *
find(const char *name)
{
	struct host_addresses *found = calloc(1, sizeof(*found) + HOSTS_MAX * sizeof(found->at[0]));

	for (size_t i = 0; found != NULL && i < n_hosts; i++) {
		struct sockaddr_in *sin = (struct sockaddr_in *)&found->at[found->n];

		if (strncmp(hosts[i].name, name, strlen(name)) != 0)
			continue;
		sin->sin_family = AF_INET;
		memcpy(&sin->sin_addr, hosts[i].address.ip, 4);
		found->n++;
	}
	return found;
}

const struct host_addresses *
resolver_known(struct resolver *r, const char *name, int64_t age_ms)
{
	if (age_ms != RESOLVER_ANY_AGE && !names_settings.are_cached)
		return NULL;
	free(r->given);
	r->given = find(name);
	return r->given != NULL && r->given->n > 0 ? r->given : NULL;
}

static void
answer(evutil_socket_t fd, short what, void *arg)
{
	struct lookup *l = arg;
	struct host_addresses *found = names_settings.server_is_down ? NULL : find(l->name);
	void (*done)(void *, const struct host_addresses *) = l->done;
	void *done_arg = l->arg;

	(void)fd;
	(void)what;
	free_lookup(l);
	if (done != NULL)
		done(done_arg, found != NULL && found->n > 0 ? found : NULL);
	free(found);
}

struct lookup *
resolver_lookup(struct resolver *r, const char *name, void (*done)(void *arg, const struct host_addresses *found), void *arg)
{
	struct lookup *l = calloc(1, sizeof(*l));
	const int64_t after_us = names_settings.server_is_down ? 3 * SECONDS : rnd_scale(200, SECONDS);
	struct timeval after;

	if (l == NULL)
		return NULL;
	*l = (struct lookup){ .name = strdup(name), .done = done, .arg = arg };
	l->answer = evtimer_new(r->base, answer, l);
	if (l->answer == NULL) {
		free(l->name);
		free(l);
		return NULL;
	}
	LIST_INSERT_HEAD(&r->lookups, l, link);
	after = (struct timeval){ .tv_sec = after_us / SECONDS, .tv_usec = after_us % SECONDS };
	(void)event_add(l->answer, &after);
	return l;
}

void
lookup_cancel(struct lookup *l)
{
	l->done = NULL;
}
