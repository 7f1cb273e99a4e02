/*
 * compare.c - what changes when settings replace others: key by key, compared
 * as they are printed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/units.h"

struct comparison {
	void (*visit)(const struct config_change *change, void *arg);
	void *arg;
};

/* The value as in a file. 0: *ret is to be freed, NULL: not set. -ENOMEM. */
static int
value_text(const struct key *k, const void *base, enum side side, char **ret)
{
	const void *field = key_field(k, (void *)(uintptr_t)base, side);
	size_t len;
	FILE *out;

	*ret = NULL;
	if (k->type->is_unset != NULL && k->type->is_unset(field))
		return 0;
	out = open_memstream(ret, &len);
	if (out == NULL)
		return -ENOMEM;
	k->type->print(k, field, out);
	return fclose(out) == 0 && *ret != NULL ? 0 : -ENOMEM;
}

static bool
is_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const char *
secret_of(const struct key *k, const void *base)
{
	return *(char **)key_field(k, (void *)(uintptr_t)base, CLIENT);
}

static int
compare_key(const struct comparison *c, const char *route, const struct key *k, int side, const void *from, const void *to)
{
	const enum side s = side < 0 ? CLIENT : (enum side)side;
	char name[KEY_NAME_MAX], *a, *b = NULL;
	int r = value_text(k, from, s, &a);

	if (r == 0)
		r = value_text(k, to, s, &b);
	if (r == 0 && (k->type->is_secret ? !is_same(secret_of(k, from), secret_of(k, to)) : !is_same(a, b)))
		c->visit(&(struct config_change){ route, key_text(k, side, name), a, b, k->needs_restart }, c->arg);
	free(a);
	free(b);
	return r;
}

static int
compare_route(const struct comparison *c, const struct route *from, const struct route *to)
{
	int r = 0;

	for (const struct key *k = keys; k->name != NULL && r == 0; k++)
		if (k->scope == SCOPE_ROUTE)
			r = compare_key(c, to->name, k, -1, from, to);
	for (int side = CLIENT; side <= BACKEND; side++)
		for (const struct key *k = keys; k->name != NULL && r == 0; k++)
			if (k->scope == SCOPE_LEG && key_has_leg(k, (enum side)side))
				r = compare_key(c, to->name, k, side, from, to);
	return r;
}

int
config_compare(const struct config *from, const struct config *to,
    void (*visit)(const struct config_change *change, void *arg), void *arg)
{
	const struct comparison c = { visit, arg };
	int r = 0;

	for (const struct key *k = keys; k->name != NULL && r == 0; k++)
		if (k->scope == SCOPE_PROCESS)
			r = compare_key(&c, NULL, k, -1, from, to);
	for (size_t i = 0; i < from->n_routes; i++)
		if (config_route(to, from->routes[i].name) == NULL)
			visit(&(struct config_change){ .route = from->routes[i].name, .from = from->routes[i].protocol }, arg);
	for (size_t i = 0; i < to->n_routes && r == 0; i++) {
		const struct route *route = &to->routes[i], *before = config_route(from, route->name);

		if (before == NULL)
			visit(&(struct config_change){ .route = route->name, .to = route->protocol }, arg);
		else
			r = compare_route(&c, before, route);
	}
	return r;
}

static int
keep_text(char **text, const char *running)
{
	char *copy = running != NULL ? strdup(running) : NULL;

	if (copy == NULL && running != NULL)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

int
config_read_duration(const char *text, int64_t *ms)
{
	char why[UNITS_WHY_MAX];

	return duration_parse(text, ms, why);
}

int
config_keep(struct config *next, const struct config *running)
{
	int r = keep_text(&next->control, running->control);

	if (r == 0)
		r = keep_text(&next->user, running->user);
	next->workers = running->workers;
	next->sandbox = running->sandbox;
	next->control_is_default = running->control_is_default;
	return r;
}
