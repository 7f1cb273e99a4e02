/* on_event.c - the keys of the program that is told of events: on_event, events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/make.h"
#include "config/quote.h"
#include "stent/events.h"
#include "stent/nearest.h"
#include "stent/user.h"

#define EVENT_TEXT(name, text) [EVENT_##name] = text,

static const char *const kinds[EVENT_KINDS] = { EVENT_LIST(EVENT_TEXT) };

static int
parse_exec(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	char *path = NULL;
	struct stat st;
	int r;

	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	if (strncmp(text, "exec:", 5) != 0)
		return spot_error(spot, "\"%s\" is not a program; write exec:PATH, such as exec:/usr/local/bin/flow-event, or off", text);
	r = quote_read(&path, text + 5, spot);
	if (r == 0 && path[0] != '/')
		r = spot_error(spot, "\"%s\" is not an absolute path; write one such as exec:/usr/local/bin/flow-event", path);
	else if (r == 0 && stat(path, &st) != 0)
		r = spot_error(spot, "%s: %s; name a program that is there%s", path, strerror(errno),
		    strchr(path, ' ') != NULL ? ", without arguments" : "");
	else if (r == 0 && !S_ISREG(st.st_mode))
		r = spot_error(spot, "%s is not a file; name a program", path);
	if (r == 0)
		*(char **)field = path;
	else
		free(path);
	return r;
}

static void
print_exec(const struct key *k, const void *field, FILE *out)
{
	const char *path = *(char *const *)field;

	(void)k;
	fputs(path != NULL ? "exec:" : "off", out);
	if (path != NULL)
		quote_print_path(path, out);
}

const struct type type_exec = { .form = "exec:PATH", .parse = parse_exec, .print = print_exec };

/* EVENT_KINDS: it was wrong, and the spot has the error. */
static size_t
find_kind(const char *name, const struct spot *spot)
{
	struct nearest n;

	nearest_start(&n, name);
	for (size_t i = 0; i < EVENT_KINDS; i++) {
		if (strcmp(kinds[i], name) == 0)
			return i;
		nearest_offer(&n, kinds[i]);
	}
	if (nearest_best(&n) != NULL)
		(void)spot_error(spot, "\"%s\" is not a kind of event; did you mean \"%s\"?", name, nearest_best(&n));
	else
		(void)spot_error(spot, "\"%s\" is not a kind of event; `stent help events` lists them", name);
	return EVENT_KINDS;
}

static int
parse_events(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	char *copy = strdup(text), *more = copy, *one;
	unsigned set = 0;
	int r = 0;

	(void)k;
	if (copy == NULL)
		return -ENOMEM;
	while ((one = strsep(&more, ",")) != NULL) {
		size_t kind;

		one += strspn(one, " \t");
		one[strcspn(one, " \t")] = '\0';
		kind = find_kind(one, spot);
		if (kind == EVENT_KINDS)
			r = -EINVAL;
		else
			set |= EVENT_BIT(kind);
	}
	free(copy);
	if (r == 0)
		*(unsigned *)field = set;
	return r;
}

static void
print_events(const struct key *k, const void *field, FILE *out)
{
	const unsigned set = *(const unsigned *)field;
	const char *before = "";

	(void)k;
	for (size_t i = 0; i < EVENT_KINDS; i++)
		if ((set & EVENT_BIT(i)) != 0) {
			fprintf(out, "%s%s", before, kinds[i]);
			before = ", ";
		}
}

const struct type type_events = { .form = "KIND, ...", .parse = parse_events, .print = print_events };

/* Whether the user that stent will be may run it. Its folders are not looked at. */
static bool
may_run(const struct config *c)
{
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (!user_is_to_change(c->user, &uid, &gid))
		return access(c->on_event, X_OK) == 0;
	if (stat(c->on_event, &st) != 0)
		return false;
	return (st.st_mode & (st.st_uid == uid ? S_IXUSR : st.st_gid == gid ? S_IXGRP : S_IXOTH)) != 0;
}

void
resolve_on_event(const struct config *c, struct parsed *d)
{
	const struct entry *e = parsed_decides_process(d, key_find("on_event", SCOPE_PROCESS));

	if (c->on_event == NULL || e == NULL || may_run(c))
		return;
	errors_add(&d->errors, e->line, "on_event: %s may not be run by user %s; chmod 755 it, or set user", c->on_event,
	    c->user != NULL ? c->user : "(as started)");
}
