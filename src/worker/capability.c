/*
 * capability.c - the one capability that stent keeps when it gives up root: that for addresses of other machines.
 *
 * Only where the settings need it (source = client). A listener with transparent =
 * on needs it when it is opened, as a port below 1024 does, and not afterwards.
 * Capabilities belong to a thread, so each one reduces its own.
 */
#include <errno.h>
#include <string.h>

#include "stent/log.h"
#include "stent/transparent.h"
#include "stent/user.h"
#include "worker/running.h"

static const struct route *
find_source(const struct config *c)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (c->routes[i].source_client)
			return &c->routes[i];
	return NULL;
}

bool
server_needs_transparent(const struct config *c)
{
	return find_source(c) != NULL;
}

int
server_check_transparent(const struct config *c)
{
	const struct route *r = find_source(c);

	if (r == NULL || user_may_be_transparent())
		return 0;
	log_say(LEVEL_ERROR, "route %s: source = client needs " TRANSPARENT_NEEDS ", and this process has neither: start stent as root (it "
	    "keeps only that when it becomes its user), in a container as user 0 with --cap-add NET_RAW; or write "
	    "AmbientCapabilities=CAP_NET_RAW in its systemd unit", r->name);
	return -EPERM;
}

static void
keep_there(struct worker *w, void *arg)
{
	int *r = arg, one = user_keep_transparent();

	(void)w;
	if (*r == 0)
		*r = one;
}

int
server_keep_transparent(struct server *s)
{
	int r = user_keep_transparent();

	for (size_t i = 0; i < s->n_workers; i++)
		worker_call(s->workers[i], keep_there, &r);
	return r;
}

int
capability_check_reload(const struct config *running, const struct config *next, FILE *errors)
{
	int r = 0;

	if (user_may_be_transparent())
		return 0;
	for (size_t i = 0; i < next->n_routes; i++) {
		const struct route *to = &next->routes[i], *from = config_route(running, to->name);
		const bool is_listening = to->transparent && (from == NULL || !from->transparent);

		if (!to->source_client && !is_listening)
			continue;
		fprintf(errors, "route %s: %s needs " TRANSPARENT_NEEDS ", which this process gave up when it started without such a route: restart "
		    "it\n", to->name, to->source_client ? "source = client" : "transparent = on");
		r = -EPERM;
	}
	return r;
}
