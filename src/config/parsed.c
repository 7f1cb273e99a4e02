/*
 * parsed.c - checks sections, keys and values one by one, and keeps them.
 *
 * What can be checked on a line alone is checked here; what needs the whole
 * file is left to defaults.c. A wrong name that is near a right one is kept as
 * that one, without a value, so that a mistyped "listen" is one error and not
 * also a missing listen.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/expand.h"
#include "config/parsed.h"
#include "config/make.h"
#include "stent/nearest.h"

#define ROUTE_NAME_MAX 40	/* inih cuts a section's name to 49 bytes; a log line should be short */

/* --- sections --- */

static int
add_section(struct parsed *d, enum section_kind kind, const char *name, int line, bool is_faulty)
{
	struct section *grown = realloc(d->sections, (d->n + 1) * sizeof(*grown));
	char *copy = strdup(name);

	if (grown != NULL)
		d->sections = grown;
	if (grown == NULL || copy == NULL) {
		free(copy);
		return -ENOMEM;
	}
	grown[d->n++] = (struct section){ .kind = kind, .name = copy, .line = line, .is_faulty = is_faulty };
	if (kind != SECTION_ROUTE && !is_faulty)
		d->single[kind] = d->n;
	return 0;
}

static const struct section *
find_section(const struct parsed *d, enum section_kind kind, const char *name)
{
	if (kind != SECTION_ROUTE)
		return parsed_single(d, kind);
	for (size_t i = 0; i < d->n; i++)
		if (d->sections[i].kind == kind && strcmp(d->sections[i].name, name) == 0)
			return &d->sections[i];
	return NULL;
}

/* False, after adding the error, when a route cannot have the name. */
static bool
check_route_name(struct parsed *d, const char *name, int line)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t len = strlen(name), ok = strspn(name, good);

	if (len == 0) {
		errors_add(&d->errors, line, "[route] has no name; write [route NAME]");
		return false;
	}
	if (ok < len) {
		errors_add(&d->errors, line, "the route's name \"%s\" contains \"%c\"; use letters, digits, - _ .",
		    name, name[ok]);
		return false;
	}
	if (len > ROUTE_NAME_MAX) {
		errors_add(&d->errors, line, "the route's name has %zu characters; use at most %d", len, ROUTE_NAME_MAX);
		return false;
	}
	return true;
}

/* An unknown section: suggests the nearest, and assumes the kind of that one. */
static int
open_unknown(struct parsed *d, const char *head, int line)
{
	const char *rest = head + strcspn(head, " \t");
	struct nearest n;
	char route[NEAREST_MAX];

	snprintf(route, sizeof(route), "route%s", rest);
	nearest_start(&n, head);
	nearest_offer(&n, "stent");
	nearest_offer(&n, "defaults");
	if (*rest != '\0')
		nearest_offer(&n, route);
	if (nearest_best(&n) != NULL)
		errors_add(&d->errors, line, "unknown section [%s]; did you mean [%s]?", head, nearest_best(&n));
	else
		errors_add(&d->errors, line, "unknown section [%s]; there are [stent], [defaults] and [route NAME]", head);
	if (nearest_best(&n) != NULL && strcmp(nearest_best(&n), "stent") == 0)
		return add_section(d, SECTION_STENT, "", line, true);
	return add_section(d, SECTION_ROUTE, "", line, true);
}

int
parsed_open(struct parsed *d, char *head, int line)
{
	enum section_kind kind = SECTION_ROUTE;
	const struct section *first;
	const char *name = "";
	bool is_good = true;

	if (strcmp(head, "stent") == 0) {
		kind = SECTION_STENT;
	} else if (strcmp(head, "defaults") == 0) {
		kind = SECTION_DEFAULTS;
	} else if (strncmp(head, "route", 5) == 0 && strchr(" \t", head[5]) != NULL) {
		name = head + 5 + strspn(head + 5, " \t");
		is_good = check_route_name(d, name, line);
	} else {
		return open_unknown(d, head, line);
	}
	first = find_section(d, kind, name);
	if (is_good && first != NULL) {
		errors_add(&d->errors, line, "duplicate section [%s] (first at line %d); put its keys there",
		    head, first->line);
		is_good = false;
	}
	return add_section(d, kind, name, line, !is_good);
}

/* --- entries --- */

static int
keep(struct section *s, struct entry e, const char *name, const char *text)
{
	struct entry *grown = realloc(s->entries, (s->n + 1) * sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	s->entries = grown;
	e.name = strdup(name);
	e.text = strdup(text);
	grown[s->n++] = e;
	return e.name != NULL && e.text != NULL ? 0 : -ENOMEM;
}

static enum scope
section_scope(const struct section *s)
{
	return s->kind == SECTION_STENT ? SCOPE_PROCESS : SCOPE_ROUTE;
}

static const struct entry *
find_entry(const struct section *s, const struct key *k, int side)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].key == k && s->entries[i].side == side)
			return &s->entries[i];
	return NULL;
}

/* True when all that is wrong with a value is a comment in the wrong style after it. */
static bool
is_comment_at_fault(const struct key *k, const char *text)
{
	static const struct spot silent = { 0 };
	const char *hash = strstr(text, " #");
	char *value;
	bool at_fault;

	if (hash == NULL || value_check(k, text, &silent) == 0)
		return false;
	value = strndup(text, (size_t)(hash - text));
	at_fault = value != NULL && value_check(k, value, &silent) == 0;
	free(value);
	return at_fault;
}

static int
check_value(const struct key *k, const char *text, const struct spot *spot)
{
	if (*text == '\0' && k->def != NULL)
		return spot_error(spot, "has no value; write one, or remove the line to use the default %s", k->def);
	if (*text == '\0')
		return spot_error(spot, "has no value; write %s", k->type->form);
	if (is_comment_at_fault(k, text))
		return spot_error(spot, "a comment after a value begins with \" ;\", not with \" #\"; write ; there");
	return value_check(k, text, spot);
}

int
parsed_put(struct parsed *d, struct section *s, const struct key *k, int side, const char *name,
    const char *text, int line)
{
	const struct spot spot = { .errors = &d->errors, .line = line, .name = name };
	const struct entry *first = find_entry(s, k, side);
	char place[PLACE_MAX], *expanded = NULL;
	int r;

	assert(side == -1 || (k->scope == SCOPE_LEG && key_has_leg(k, (enum side)side)));
	assert(key_is_in(k, section_scope(s)));
	if (first != NULL && !first->is_guess)
		errors_add(&d->errors, line, "duplicate %s %s (first at %s); remove one of them",
		    d->errors.words != NULL ? "option" : "key", name, errors_place(&d->errors, first->line, place));
	r = expand_value(&expanded, k, text, &spot);
	if (r == 0)
		r = check_value(k, expanded, &spot);
	if (r != -ENOMEM)
		r = keep(s, (struct entry){ .key = k, .side = side, .line = line, .is_good = r == 0 }, name,
		    expanded != NULL ? expanded : text);
	free(expanded);
	return r;
}

/* A key that is unknown here: one of another section, or near to one of this. */
static int
add_unknown(struct parsed *d, struct section *s, const char *name, int line)
{
	const struct key *k;
	char meant[MEANT_MAX];
	int side;

	k = key_read(name, s->kind == SECTION_STENT ? SCOPE_ROUTE : SCOPE_PROCESS, &side);
	if (k != NULL) {
		errors_add(&d->errors, line, "key %s does not belong in this section; write it in %s", name,
		    k->scope == SCOPE_PROCESS ? "[stent]" : "a [route NAME] or in [defaults]");
		return 0;
	}
	if (key_meant(name, s->kind == SECTION_STENT, s->kind != SECTION_STENT, meant) == NULL) {
		errors_add(&d->errors, line, "unknown key \"%s\"; `stent help keys` lists them all", name);
		return 0;
	}
	errors_add(&d->errors, line, "unknown key \"%s\"; did you mean \"%s\"?", name, meant);
	k = key_read(meant, section_scope(s), &side);
	if (k == NULL || find_entry(s, k, side) != NULL)
		return 0;
	return keep(s, (struct entry){ .key = k, .side = side, .line = line, .is_guess = true }, name, "");
}

int
parsed_add(struct parsed *d, const char *name, const char *text, int line)
{
	struct section *s = d->n > 0 ? &d->sections[d->n - 1] : NULL;
	const struct key *k;
	int side;

	if (s == NULL) {
		errors_add(&d->errors, line, "%s comes before any section; write it under [stent], [defaults] or "
		    "[route NAME]", name);
		return 0;
	}
	k = key_read(name, section_scope(s), &side);
	if (k == NULL)
		return add_unknown(d, s, name, line);
	return parsed_put(d, s, k, side, name, text, line);
}

void
parsed_spoil(struct parsed *d)
{
	if (d->n > 0)
		d->sections[d->n - 1].is_spoiled = true;
	else
		d->is_spoiled = true;
}

/* --- looking up --- */

struct section *
parsed_single(const struct parsed *d, enum section_kind kind)
{
	assert(kind != SECTION_ROUTE);	/* there may be many */
	return d->single[kind] > 0 ? &d->sections[d->single[kind] - 1] : NULL;
}

const struct entry *
parsed_decides_process(const struct parsed *d, const struct key *k)
{
	const struct section *s = parsed_single(d, SECTION_STENT);

	return s != NULL ? find_entry(s, k, -1) : NULL;
}

const struct entry *
parsed_decides(const struct parsed *d, const struct section *route, const struct key *k, enum side side)
{
	const struct section *order[] = { route, parsed_single(d, SECTION_DEFAULTS) };
	const struct entry *e;

	assert(route->kind == SECTION_ROUTE && k->scope != SCOPE_PROCESS);
	for (size_t i = 0; i < 2; i++) {
		if (order[i] == NULL)
			continue;
		e = find_entry(order[i], k, (int)side);
		if (e == NULL)
			e = find_entry(order[i], k, -1);
		if (e != NULL)
			return e;
	}
	return NULL;
}

bool
section_owns(const struct section *s, const struct entry *e)
{
	for (size_t i = 0; i < s->n; i++)
		if (&s->entries[i] == e)
			return true;
	return false;
}

const struct entry *
parsed_own(const struct parsed *d, const struct section *route, const char *key)
{
	const struct entry *e = parsed_decides(d, route, key_find(key, SCOPE_ROUTE), CLIENT);

	return e != NULL && e->is_good && section_owns(route, e) ? e : NULL;
}

void
parsed_clear(struct parsed *d)
{
	for (size_t i = 0; i < d->n; i++) {
		struct section *s = &d->sections[i];

		for (size_t j = 0; j < s->n; j++) {
			free(s->entries[j].name);
			free(s->entries[j].text);
		}
		free(s->entries);
		free(s->name);
	}
	free(d->sections);
	errors_clear_files(&d->errors);
	for (size_t i = 0; i < d->errors.n; i++)
		free(d->errors.list[i].text);
	free(d->errors.list);
	memset(d, 0, sizeof(*d));
}
