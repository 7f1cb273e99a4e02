/*
 * config.c - makes a struct config from parsed settings.
 *
 * Each key of each route is set once: by the route's own value, that of
 * [defaults], or the table's default. All three go through the key's one
 * reader. Values were checked before: one that is wrong is replaced by the
 * default here, so that the cross checks run on a file with errors too.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/make.h"
#include "stent/confined.h"
#include "stent/utf8.h"

static void
route_clear(struct route *r)
{
	for (size_t i = 0; i < r->n_listen; i++)
		endpoint_clear(&r->listen[i]);
	for (size_t i = 0; i < r->n_backend; i++)
		endpoint_clear(&r->backend[i]);
	for (int side = CLIENT; side <= BACKEND; side++) {
		free(r->codec_settings.heartbeat_send[side].data);
		free(r->codec_settings.heartbeat_expect[side].data);
		tls_context_release(r->leg[side].tls_context);
		free(r->leg[side].tls.ca);
		free(r->leg[side].tls.name);
		free(r->leg[side].tls.cert);
		free(r->leg[side].tls.key);
	}
	free(r->codec_settings.comment.data);
	free(r->allow.text);
	free(r->deny.text);
	cidr_set_clear(&r->allow.set);
	cidr_set_clear(&r->deny.set);
	proxy_from_clear(&r->proxy_from);
	free(r->listen);
	free(r->backend);
	free(r->backend_place);
	free(r->health.path);
	free(r->protocol);
	free(r->name);
}

static void
config_free(struct config *c)
{
	for (size_t i = 0; i < c->n_routes; i++)
		route_clear(&c->routes[i]);
	for (size_t i = 0; i < c->n_warnings; i++)
		free(c->warnings[i]);
	free(c->warnings);
	for (size_t i = 0; i < c->n_files; i++)
		free(c->files[i]);
	free(c->files);
	free(c->routes);
	free(c->log.path);
	free(c->control);
	free(c->admin);
	free(c->admin_token);
	free(c->admin_hosts);
	free(c->user);
	free(c->on_event);
	free(c->path);
	free(c);
}

/* A config is const to its users; its count is not. */
static unsigned *
holders(const struct config *c)
{
	return &((struct config *)(uintptr_t)c)->holders;
}

const struct config *
config_hold(const struct config *c)
{
	if (c != NULL)
		__atomic_add_fetch(holders(c), 1, __ATOMIC_RELAXED);
	return c;
}

void
config_release(const struct config *c)
{
	unsigned left;

	if (c == NULL)
		return;
	left = __atomic_sub_fetch(holders(c), 1, __ATOMIC_ACQ_REL);
	assert(left != UINT_MAX);
	if (left == 0)
		config_free((struct config *)(uintptr_t)c);
}

const struct route *
config_route(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (strcmp(c->routes[i].name, name) == 0)
			return &c->routes[i];
	return NULL;
}

static struct config *
config_new(void)
{
	struct config *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->holders = 1;
	return c;
}

int
value_check(const struct key *k, const char *text, const struct spot *spot)
{
	struct config *c = config_new();
	struct route r = { 0 };
	int result;

	if (c == NULL)
		return -ENOMEM;
	if (k->scope == SCOPE_PROCESS)
		result = k->type->parse(k, key_field(k, c, CLIENT), text, spot);
	else
		result = k->type->parse(k, key_field(k, &r, CLIENT), text, spot);
	route_clear(&r);
	config_release(c);
	return result;
}

/* Uses the entry if it is good, else the default. */
static int
set_value(const struct key *k, void *base, enum side side, const struct entry *e)
{
	static const struct spot checked = { 0 };
	const char *text = e != NULL && e->is_good ? e->text : k->def;

	assert(e == NULL || e->key == k);
	return text != NULL ? k->type->parse(k, key_field(k, base, side), text, &checked) : 0;
}

static int
set_process(struct config *c, const struct parsed *d)
{
	int r = 0;

	for (const struct key *k = keys; k->name != NULL && r == 0; k++)
		if (k->scope == SCOPE_PROCESS)
			r = set_value(k, c, CLIENT, parsed_decides_process(d, k));
	c->control_is_default = parsed_decides_process(d, key_find("control", SCOPE_PROCESS)) == NULL;
	c->admin_is_default = parsed_decides_process(d, key_find("admin", SCOPE_PROCESS)) == NULL;
	return r;
}

static int
set_route(struct route *route, const struct parsed *d, const struct section *s)
{
	int r = 0;

	route->line = s->line;
	route->name = strdup(s->name);
	if (route->name == NULL)
		return -ENOMEM;
	for (const struct key *k = keys; k->name != NULL; k++) {
		if (k->scope == SCOPE_PROCESS)
			continue;
		for (int side = CLIENT; side <= BACKEND && r == 0; side++)
			if (key_has_leg(k, (enum side)side))
				r = set_value(k, route, (enum side)side, parsed_decides(d, s, k, (enum side)side));
	}
	route->backend_place = calloc(route->n_backend + 1, sizeof(*route->backend_place));
	return route->backend_place != NULL ? r : -ENOMEM;
}

static int
set_all(struct config *c, const struct parsed *d)
{
	int r = set_process(c, d);

	if (d->errors.words == NULL && r == 0) {
		c->path = strdup(d->errors.path);
		c->is_environment = d->is_environment;
		r = c->path != NULL ? 0 : -ENOMEM;
	}
	c->routes = calloc(d->n + 1, sizeof(*c->routes));
	if (c->routes == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < d->n && r == 0; i++) {
		const struct section *s = &d->sections[i];

		if (s->kind != SECTION_ROUTE || s->is_faulty)
			continue;
		assert(c->n_routes < d->n);
		c->routes[c->n_routes].config = c;
		c->routes[c->n_routes].slot = (unsigned)c->n_routes;
		r = set_route(&c->routes[c->n_routes++], d, s);
	}
	return r;
}

static void
print_of_file(const char *path, const char *what, FILE *errors)
{
	utf8_print(path, errors);
	fprintf(errors, ": %s\n", what);
}

int
config_make(struct config **ret, struct parsed *d, FILE *errors)
{
	struct config *c = config_new();
	int r = c != NULL ? set_all(c, d) : -ENOMEM, printed;

	if (r == 0) {
		resolve_routes(c, d);
		resolve_listeners(c, d);
		resolve_loops(c, d);
		resolve_on_event(c, d);
	}
	printed = errors_print(&d->errors, errors);
	if (r == 0)
		r = printed;
	if (c != NULL)
		c->files = errors_take_files(&d->errors, &c->n_files);
	if (c != NULL)
		c->warnings = errors_take_warnings(&d->errors, &c->n_warnings);
	if (r == -ENOMEM)
		print_of_file(d->errors.path, "not enough memory to read the settings", errors);
	parsed_clear(d);
	if (r < 0) {
		config_release(c);
		return r;
	}
	assert(c->n_routes > 0 && c->workers >= 1 && c->workers <= CONFIG_WORKERS_MAX);
	*ret = c;
	return 0;
}

/* A path in STENT_CONFIG is a mistake that is easily made. */
static bool
is_path(const char *text)
{
	return strpbrk(text, "\n[=") == NULL;
}

/* 0, -EINVAL (an error was printed) or -errno. */
static int
open_source(FILE **ret, struct parsed *d, const char *path, FILE *errors)
{
	const char *text = path == NULL ? getenv(CONFIG_ENV) : NULL;

	if (text != NULL && *text != '\0') {
		d->is_environment = true;
		d->errors.path = CONFIG_ENV;
		if (is_path(text)) {
			print_of_file(CONFIG_ENV, "holds no settings; it is the text of a settings file, not its path: name a file with -c", errors);
			return -EINVAL;
		}
		*ret = fmemopen((char *)(uintptr_t)text, strlen(text), "r");
	} else {
		d->errors.path = path != NULL ? path : CONFIG_PATH;
		*ret = fopen(d->errors.path, "re");
	}
	return *ret != NULL ? 0 : -errno;
}

int
config_read(struct config **ret, const char *path, FILE *errors)
{
	struct parsed d = { 0 };
	FILE *file = NULL;
	char why[160];
	int r = open_source(&file, &d, path, errors);

	if (r == -EINVAL)
		return r;
	if (r == 0)
		r = parsed_read(&d, file);
	if (file != NULL)
		fclose(file);
	if (r == 0)
		return config_make(ret, &d, errors);
	snprintf(why, sizeof(why), "cannot be read: %s; name another file with -c", confined_error(-r, d.errors.path, R_OK));
	print_of_file(d.errors.path, why, errors);
	parsed_clear(&d);
	return r;
}
