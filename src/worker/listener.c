/*
 * listener.c - a listening socket of a route: how it is opened and closed, and
 * given to another route.
 *
 * The file of a UNIX listener belongs to the user of the settings, with the
 * mode of its route (unix_file.c).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stent/log.h"
#include "stent/transparent.h"
#include "worker/listener.h"

bool
listener_has_path(const struct listener *l)
{
	return l->endpoint->kind == ENDPOINT_UNIX && l->endpoint->host[0] != '@';
}

/* Who owns the file of a UNIX listener. */
static struct unix_access
access_of(const struct acceptor *a, const struct route *route)
{
	struct unix_access access = a->access;

	access.mode = (mode_t)route->unix_mode;
	return access;
}

/* Not where that is the case already: it may need a capability that was given up. UNIX sockets have no such option. */
static int
set_transparent(int fd, const struct route *route)
{
	return !route->transparent || transparent_is_set(fd) || transparent_set(fd, true) != -EPERM ? 0 : -EPERM;
}

static int
open_listener(struct listener *l, const char **why)
{
	const struct unix_access access = access_of(l->acceptor, l->route);

	l->fd = socket_listen(l->endpoint, &l->route->leg[CLIENT].keepalive, &access, why);
	if (l->fd < 0)
		return l->fd;
	socket_take_urgent(l->fd, l->route->urgent, false);
	if (set_transparent(l->fd, l->route) != 0) {
		*why = "transparent = on needs " TRANSPARENT_NEEDS " when the listener is opened: start stent as root, in a container as user "
		    "0 with --cap-add NET_RAW; restart it if this was a reload";
		return -EPERM;
	}
	if (listener_has_path(l))
		unix_file_remember(&l->file, l->endpoint->host);
	return 0;
}

/* Adds one that is not open yet. NULL: out of memory. */
static struct listener *
new_listener(struct listener_list *list, struct acceptor *a, const struct route *route, const struct endpoint *ep)
{
	struct listener **all = reallocarray(list->all, list->n + 1, sizeof(*all)), *l;

	if (all == NULL)
		return NULL;
	list->all = all;
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return NULL;
	*l = (struct listener){ .acceptor = a, .route = route, .endpoint = ep, .fd = -1 };
	config_hold(route->config);
	all[list->n++] = l;
	return l;
}

/* All sockets from systemd with this name: a unit with two addresses has two. */
static int
adopt_listeners(struct listener_list *list, struct acceptor *a, const struct route *route, const struct endpoint *ep)
{
	char name[SYSTEMD_NAME_MAX];
	int fd, r = -ENOENT;

	for (int i = 0; (fd = socket_from_systemd(i, name)) >= 0; i++) {
		struct listener *l;

		if (strcmp(name, ep->host) != 0)
			continue;
		l = new_listener(list, a, route, ep);
		r = l != NULL ? socket_adopt(fd, &route->leg[CLIENT].keepalive) : -ENOMEM;
		if (r == 0)
			r = set_transparent(fd, route);
		if (r != 0)
			break;
		socket_take_urgent(fd, route->urgent, false);
		l->fd = fd;
	}
	return r;
}

/* One of the acceptor's that is bound to this address now, perhaps among others. NULL: none is. */
static const struct listener *
find_clash(const struct acceptor *a, const struct endpoint *ep)
{
	for (size_t i = 0; i < a->n_listeners; i++)
		if (endpoint_clash(a->listeners[i]->endpoint, ep))
			return a->listeners[i];
	return NULL;
}

static void
report(const struct acceptor *a, const struct route *route, const struct endpoint *ep, int err, const char *why, FILE *errors)
{
	const struct listener *clash = err == EADDRINUSE ? find_clash(a, ep) : NULL;

	if (errors == NULL)
		log_say(LEVEL_ERROR, "route %s: cannot listen on %s: %s", route->name, ep->text, why);
	else if (clash != NULL)
		fprintf(errors, "route %s: cannot listen on %s: route %s still listens on %s; remove that with one reload, and "
		    "add this with the next\n", route->name, ep->text, clash->route->name, clash->endpoint->text);
	else
		fprintf(errors, "route %s: cannot listen on %s: %s\n", route->name, ep->text, why);
}

int
listener_add(struct listener_list *list, struct acceptor *a, const struct route *route, const struct endpoint *ep, FILE *errors)
{
	const char *why = strerror(ENOMEM);
	struct listener *l;
	int r;

	if (ep->kind == ENDPOINT_FD) {
		r = adopt_listeners(list, a, route, ep);
		why = r == -ENOENT ? "systemd passed no socket of this name (FileDescriptorName=)"
		    : r == -EPERM ? "transparent = on needs Transparent=true in the socket unit"
		    : "the descriptor from systemd is not a listening stream socket";
	} else {
		l = new_listener(list, a, route, ep);
		r = l != NULL ? open_listener(l, &why) : -ENOMEM;
	}
	if (r != 0)
		report(a, route, ep, -r, why, errors);
	return r;
}

int
listener_start(struct listener *l, struct event_base *base)
{
	l->ev = event_new(base, l->fd, EV_READ | EV_PERSIST, acceptor_on_event, l);
	if (l->ev == NULL)
		return -ENOMEM;
	if (l->is_paused || !l->acceptor->is_accepting)
		return 0;
	return event_add(l->ev, NULL) == 0 ? 0 : -ENOMEM;
}

void
listener_accept_on(struct listener *l, bool on)
{
	if (l->ev == NULL)
		return;
	if (on && !l->is_paused) {
		if (event_add(l->ev, NULL) != 0)
			(void)acceptor_resume_later(l->acceptor);	/* no memory in the kernel, or no watch left: tried again */
	} else {
		event_del(l->ev);
	}
}

static void
change_options(struct listener *l)
{
	const char *path = l->endpoint->host;
	int r = 0;

	l->has_older = true;
	socket_take_urgent(l->fd, l->route->urgent, false);
	if (!l->route->transparent && transparent_is_set(l->fd))
		(void)transparent_set(l->fd, false);	/* needs no capability */
	(void)set_transparent(l->fd, l->route);		/* capability_check_reload() has allowed it */
	if (listener_has_path(l))
		r = unix_file_set_mode(&l->file, path, (mode_t)l->route->unix_mode);
	else if (l->endpoint->kind != ENDPOINT_UNIX)
		r = socket_change_keepalive(l->fd, &l->route->leg[CLIENT].keepalive);
	if (r != 0)
		log_say(LEVEL_WARN, "route %s: %s: its %s cannot be changed: %s", l->route->name, l->endpoint->text,
		    listener_has_path(l) ? "unix_mode" : "keepalive", strerror(-r));
}

void
listener_give(struct listener *l, const struct route *route, const struct endpoint *endpoint)
{
	const struct config *had = l->route->config;

	config_hold(route->config);
	l->route = route;
	l->endpoint = endpoint;
	config_release(had);
	change_options(l);
}

void
listener_free(struct listener *l)
{
	if (l->ev != NULL)
		event_free(l->ev);
	/* While it is open, no other file can have its inode number. */
	if (l->fd >= 0 && listener_has_path(l))
		unix_file_remove(&l->file, l->endpoint->host);
	if (l->fd >= 0 && l->endpoint->kind != ENDPOINT_FD)
		close(l->fd);
	config_release(l->route->config);
	free(l);
}
