/*
 * control_settings.c - reload, pause and resume over the control socket.
 *
 * A reload that fails answers {"errors": ["FILE:LINE: ...", ...]}, each as it
 * would be printed by `stent check`.
 */
#include "admin/control_settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/view.h"
#include "stent/server.h"

static json_t *
error_json(const char *what)
{
	return json_pack("{s:o}", "error", view_text(what));
}

/* A list of the lines of a text. */
static json_t *
lines_json(char *text)
{
	json_t *list = json_array();
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		json_array_append_new(list, view_text(line));
	return list;
}

/* For server_reload(): adds a change to a list. */
static void
add_change(const struct config_change *c, void *arg)
{
	json_array_append_new(arg, json_pack("{s:o, s:o, s:o, s:o, s:b}",
	    "route", view_text(c->route), "key", view_text(c->key), "from", view_text(c->from), "to", view_text(c->to),
	    "needs_restart", (int)c->needs_restart));
}

json_t *
control_reload(struct server *s, char *const words[])
{
	const bool dry = words[1] != NULL;
	json_t *changes, *lines;
	char *text = NULL;
	size_t size;
	FILE *errors;
	int r;

	if (dry && strcmp(words[1], "dry-run") != 0)
		return error_json("reload takes no argument, or dry-run");
	changes = json_array();
	errors = open_memstream(&text, &size);
	if (errors == NULL || changes == NULL) {
		json_decref(changes);
		return NULL;
	}
	r = dry ? server_reload_dry(s, errors, add_change, changes) : server_reload(s, errors, add_change, changes);
	if (fclose(errors) != 0 || text == NULL) {
		json_decref(changes);
		return NULL;
	}
	if (r == 0) {
		free(text);
		return json_pack("{s:b, s:o, s:o}", "reloaded", (int)!dry, "settings", view_text(server_config(s)->path), "changes", changes);
	}
	lines = lines_json(text);
	free(text);
	json_decref(changes);
	return json_pack("{s:b, s:o}", "reloaded", 0, "errors", lines);
}

/* The other words, as the name may hold blanks. */
static const char *
name_of(char *const words[], char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; words[i] != NULL && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", i > 0 ? " " : "", words[i]);
	return buf;
}

static json_t *
no_route(const char *name)
{
	char text[320];

	snprintf(text, sizeof(text), "there is no route \"%s\"; stent status shows them", name);
	return error_json(text);
}

json_t *
control_pause(struct server *s, char *const words[])
{
	int64_t for_ms = 0;
	char buf[256];
	const char *name;
	size_t i = 1;
	int r;

	if (words[i] != NULL && strncmp(words[i], "for=", 4) == 0)
		for_ms = strtoll(words[i++] + 4, NULL, 10);
	name = name_of(words + i, buf, sizeof(buf));
	if (*name == '\0' || for_ms < 0)
		return error_json("pause takes the name of a route, and for=MILLISECONDS before it");
	r = server_pause(s, name, for_ms);
	if (r == -ENOENT)
		return no_route(name);
	if (r == -ESHUTDOWN)
		return error_json("stent is stopping");
	if (r != 0)
		return NULL;
	return json_pack("{s:o, s:o}", "paused", view_text(name), "for_seconds",
	    for_ms > 0 ? json_real((double)for_ms / 1000) : json_null());
}

json_t *
control_resume(struct server *s, char *const words[])
{
	char buf[256];
	const char *name = name_of(words + 1, buf, sizeof(buf));
	struct server_pause was = { .waiting = -1 };
	const struct route *route = config_route(server_config(s), name);
	int r;

	if (route != NULL)
		(void)server_pause_of(s, route, &was);
	r = server_resume(s, name);
	if (r == -ENOENT)
		return no_route(name);
	if (r == -EALREADY)
		return error_json("this route is not paused");
	return json_pack("{s:o, s:o}", "resumed", view_text(name), "waited", was.waiting >= 0 ? json_integer(was.waiting) : json_null());
}

json_t *
control_load_json(const struct server *s)
{
	const struct server_load *l = server_last_load(s);

	return json_pack("{s:I, s:I, s:b, s:o, s:b}",
	    "loaded_at", (json_int_t)l->at, "reloads", (json_int_t)l->reloads, "last_failed", (int)l->failed,
	    "failed_at", l->failed_at != 0 ? json_integer(l->failed_at) : json_null(), "moving_flows", (int)server_is_adopting(s));
}

json_t *
control_pause_json(const struct server *s, const struct route *route)
{
	struct server_pause p;

	if (!server_pause_of(s, route, &p))
		return json_null();
	return json_pack("{s:o, s:o, s:o}",
	    "seconds_left", p.left_ms >= 0 ? json_real((double)p.left_ms / 1000) : json_null(),
	    "clients_waiting", p.waiting >= 0 ? json_integer(p.waiting) : json_null(),
	    "clients_limit", p.waiting >= 0 ? json_integer(p.limit) : json_null());
}
