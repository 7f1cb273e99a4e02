/*
 * admin.c - opens the control socket and the HTTP listener. One that is
 * configured must open; a default that does not (no permission in /run, the port
 * taken by another stent) is a warning, since relaying matters more.
 */
#include "stent/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/control.h"
#include "admin/stream.h"
#include "admin/web.h"
#include "stent/log.h"
#include "stent/server.h"

struct admin {
	struct server *server;
	struct event_base *base;
	struct stream *events;
	struct control *control;
	struct web *web;
	struct web *next;	/* at its new address, while the settings are replaced */
	bool moves;
};

/* 0: continue without; else r. */
static int
report_failure(const char *setting, const char *value, const char *why, int r, bool is_default)
{
	if (why == NULL)
		why = strerror(-r);
	if (is_default) {
		log_say(LEVEL_WARN, "%s = %s (the default) unavailable: %s; continuing without it", setting, value, why);
		return 0;
	}
	log_say(LEVEL_ERROR, "%s = %s: %s", setting, value, why);
	return r;
}

static int
open_control(struct admin *a, struct server *s, struct event_base *base)
{
	const struct config *c = server_config(s);
	const char *why;
	int r;

	if (c->control == NULL)
		return 0;
	r = control_start(&a->control, s, a->events, base, c->control, &why);
	if (r == 0)
		return 0;
	return report_failure("control", c->control, r == -EADDRINUSE ? "another stent listens there; name another path" : why, r,
	    c->control_is_default);
}

static int
open_web(struct admin *a, struct server *s, struct event_base *base)
{
	const struct config *c = server_config(s);
	const char *why;
	int r;

	if (c->admin == NULL)
		return 0;
	r = web_start(&a->web, s, a->events, base, c->admin, &why);
	if (r == 0) {
		log_say(LEVEL_INFO, "status page on http://%s%s/", c->admin[0] == ':' ? "localhost" : "", c->admin);
		return 0;
	}
	return report_failure("admin", c->admin, r == -EADDRINUSE ? "address already in use; name another port, or off" :
	    why, r, c->admin_is_default);
}

/* --- settings that replace others --- */

static bool
is_same_address(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static int
prepare(void *arg, const struct config *next, FILE *errors)
{
	struct admin *a = arg;
	const char *why;
	int r;

	if (server_config(a->server)->sandbox && !stream_may_run(a->events, next->on_event)) {
		fprintf(errors, "on_event = exec:%s: in the sandbox only the program that was set at the start can be run; restart stent, or "
		    "set sandbox = off\n", next->on_event);
		return -EPERM;
	}
	a->moves = !is_same_address(server_config(a->server)->admin, next->admin);
	if (!a->moves || next->admin == NULL)
		return 0;
	r = web_start(&a->next, a->server, a->events, a->base, next->admin, &why);
	if (r != 0 && !next->admin_is_default)
		fprintf(errors, "admin = %s: %s\n", next->admin, why != NULL ? why : strerror(-r));
	return next->admin_is_default ? 0 : r;
}

static void
commit(void *arg)
{
	struct admin *a = arg;

	if (a->moves) {
		if (a->web != NULL && a->next != NULL)
			web_inherit(a->next, a->web);
		web_free(a->web);
		a->web = a->next;
		a->next = NULL;
	}
	a->moves = false;
	stream_configure(a->events);
}

static void
abandon(void *arg)
{
	struct admin *a = arg;

	web_free(a->next);
	a->next = NULL;
	a->moves = false;
}

static const struct server_follower follower = { prepare, commit, abandon };

int
admin_start(struct admin **ret, struct server *s, struct event_base *base)
{
	struct admin *a = calloc(1, sizeof(*a));
	int r;

	if (a == NULL)
		return -ENOMEM;
	a->server = s;
	a->base = base;
	r = stream_start(&a->events, s, base);
	if (r == 0)
		r = open_control(a, s, base);
	if (r == 0)
		r = open_web(a, s, base);
	if (r < 0) {
		admin_free(a);
		return r;
	}
	server_follow(s, &follower, a);
	*ret = a;
	return 0;
}

int
admin_use_helper(struct admin *a, struct helper *h)
{
	return stream_use_helper(a->events, h);
}

void
admin_free(struct admin *a)
{
	if (a == NULL)
		return;
	web_free(a->web);
	control_free(a->control);
	stream_free(a->events);
	free(a);
}
