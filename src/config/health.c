/* health.c - the key health: off | tcp | http://:PORT/PATH, and what it needs of a route. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/make.h"
#include "config/units.h"
#include "stent/utf8.h"

#define HTTP "http://"
#define PATH_LONGEST 200	/* so that a request fits into one write */

static int
parse_port(uint16_t *port, const char *text, const char *path, const struct spot *spot)
{
	unsigned long n = 0;

	if (path == text)
		return 0;
	if (*text != ':')
		return spot_error(spot, "the host that is checked is always the backend's; write " HTTP ":PORT/PATH, such as " HTTP ":8008/primary");
	for (const char *c = text + 1; c < path; c++)
		n = *c >= '0' && *c <= '9' && n <= UINT16_MAX ? 10 * n + (unsigned long)(*c - '0') : UINT16_MAX + 1UL;
	if (n == 0 || n > UINT16_MAX)
		return spot_error(spot, "\"%.*s\" is not a port; write a number from 1 to 65535", (int)(path - text - 1), text + 1);
	*port = (uint16_t)n;
	return 0;
}

static int
parse_http(struct health_settings *h, const char *text, const struct spot *spot)
{
	const char *path = text + strcspn(text, "/");
	uint16_t port = 0;
	int r = parse_port(&port, text, path, spot);

	if (r != 0)
		return r;
	if (*path == '\0')
		return spot_error(spot, "there is no path; write one such as " HTTP ":8008/primary");
	if (strlen(path) > PATH_LONGEST)
		return spot_error(spot, "the path is longer than %d characters; shorten it", PATH_LONGEST);
	for (const char *c = path; *c != '\0'; c++)
		if (*c <= ' ' || *c > '~')
			return spot_error(spot, "the path contains a character that a URL must not have; write it as %%HH");
	h->path = strdup(path);
	if (h->path == NULL)
		return -ENOMEM;
	h->kind = HEALTH_HTTP;
	h->port = port;
	return 0;
}

static int
parse_health(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct health_settings *h = field;

	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	if (strcmp(text, "tcp") == 0) {
		h->kind = HEALTH_TCP;
		return 0;
	}
	if (strncmp(text, HTTP, strlen(HTTP)) == 0)
		return parse_http(h, text + strlen(HTTP), spot);
	if (strncmp(text, "https:", 6) == 0)
		return spot_error(spot, "checks by https are not supported; write " HTTP ":PORT/PATH if the server offers that, or tcp");
	return spot_error(spot, "\"%s\" is not a check; write off, tcp or " HTTP ":PORT/PATH", text);
}

static void
print_health(const struct key *k, const void *field, FILE *out)
{
	const struct health_settings *h = field;

	(void)k;
	if (h->kind != HEALTH_HTTP) {
		fputs(h->kind == HEALTH_TCP ? "tcp" : "off", out);
		return;
	}
	fputs(HTTP, out);
	if (h->port != 0)
		fprintf(out, ":%u", (unsigned)h->port);
	utf8_print(h->path, out);
}

const struct type type_health = { .form = "tcp | http://:PORT/PATH", .parse = parse_health, .print = print_health };

/* Checks are made in clear text: at the backend's own port the server expects TLS. */
static void
warn_of_tls(const struct route *r, struct parsed *d, int line)
{
	if (r->health.kind == HEALTH_HTTP && r->health.port == 0 && r->leg[BACKEND].tls.mode != TLS_OFF)
		errors_warn(&d->errors, line, "health: checks do not use TLS, and without a port they go to the backend's own, where "
		    "backend.tls says that it is spoken; write " HTTP ":PORT%s with a port without TLS, or tcp", r->health.path);
}

/* It is for checks that the route does not have; [defaults] is for all routes. */
static void
warn_of_no_effect(const struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *e = r->on_unhealthy == ON_UNHEALTHY_CLOSE ? parsed_own(d, s, "on_unhealthy") : NULL;

	if (e != NULL)
		errors_warn(&d->errors, e->line, "on_unhealthy: has no effect while health = off; write health = tcp or " HTTP ":PORT/PATH, "
		    "or remove this");
}

void
resolve_health(const struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *e = parsed_decides(d, s, key_find("health", SCOPE_ROUTE), CLIENT);
	const int line = e != NULL ? e->line : s->line;

	if (r->health.kind == HEALTH_OFF) {
		if (e == NULL || e->is_good)
			warn_of_no_effect(r, d, s);
		return;
	}
	warn_of_tls(r, d, line);
	for (size_t i = 0; i < r->n_backend; i++)
		if (r->backend[i].kind == ENDPOINT_ORIGINAL) {
			errors_add(&d->errors, line, "health: with backend = original there is no backend that could be checked; write health = off");
			return;
		} else if (r->backend[i].kind == ENDPOINT_UNIX && r->health.kind == HEALTH_HTTP) {
			errors_add(&d->errors, line, "health: the backend \"%s\" is a UNIX socket, which has no host for " HTTP "; write health = tcp",
			    r->backend[i].text);
			return;
		}
}
