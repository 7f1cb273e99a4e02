/*
 * tls_rules.c - which TLS a route has: checks that the keys of a leg fit
 * together, and fit the protocol and the backend.
 *
 * As with heartbeats (heartbeat_rules.c), what a route's own section asks for
 * in vain is an error, and a value of [defaults] is not. A key with its default
 * is never one, so that what is printed reads back. Where `tls = off` is
 * written, the other keys of the leg may stay.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/make.h"

/* One leg of a route. */
struct leg_tls {
	struct route *route;
	struct parsed *parsed;
	const struct section *section;
	enum side side;
	struct tls_settings *tls;
	const struct entry *mode;	/* NULL: the default, off */
	bool is_good;
};

static const struct entry *
decides(const struct leg_tls *l, const char *key)
{
	return parsed_decides(l->parsed, l->section, key_find_leg(key, l->side), l->side);
}

/* The line to name where a key is missing, or has its default. */
static int
line_of(const struct leg_tls *l, const struct entry *e)
{
	return e != NULL ? e->line : l->mode->line;
}

__attribute__((format(printf, 3, 4)))
static void
wrong(struct leg_tls *l, const struct entry *e, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->is_good = false;
	errors_add(&l->parsed->errors, line_of(l, e), "%s: %s", e != NULL ? e->name : l->mode->name, text);
}

/* True when it is the route's own, and asks for something. */
static bool
asks(const struct leg_tls *l, const struct entry *e)
{
	return e != NULL && e->is_good && !e->is_guess && section_owns(l->section, e) && strcmp(e->text, e->key->def) != 0;
}

/* Keys of a leg without TLS. One for both legs is wrong only when neither has TLS, and reported once. */
static void
check_unused(struct leg_tls *l)
{
	static const char *const names[] = { "tls_ca", "tls_name", "tls_cert", "tls_key", "tls_min", "tls_start" };
	const struct leg_settings *other = &l->route->leg[side_other(l->side)];
	const char *side = side_name(l->side);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct entry *e = key_find_leg(names[i], l->side) != NULL ? decides(l, names[i]) : NULL;

		if (!asks(l, e) || (e->side < 0 && e->key->legs == BOTH_LEGS && (other->tls.mode != TLS_OFF || l->side == BACKEND)))
			continue;
		errors_add(&l->parsed->errors, e->line, "%s: there is no TLS on the %s leg; write %s.tls = %s, or remove this", e->name,
		    side, side, l->side == CLIENT ? "require" : "verify");
	}
}

/* The certificate and its key: both or neither. */
static void
check_pair(struct leg_tls *l)
{
	const struct entry *cert = decides(l, "tls_cert"), *key = decides(l, "tls_key");
	const char *side = side_name(l->side);

	if ((cert != NULL && !cert->is_good) || (key != NULL && !key->is_good))
		l->is_good = false;	/* an error already */
	else if (l->tls->cert == NULL && l->tls->key == NULL && l->side == CLIENT)
		wrong(l, NULL, "a server shows a certificate; write %s.tls_cert = FILE and %s.tls_key = FILE", side, side);
	else if (l->tls->key == NULL && l->tls->cert != NULL)
		wrong(l, cert, "the private key is missing; write %s.tls_key = FILE, or the same file if it holds both", side);
	else if (l->tls->cert == NULL && l->tls->key != NULL)
		wrong(l, key, "the certificate is missing; write %s.tls_cert = FILE, or the same file if it holds both", side);
}

static void
check_client(struct leg_tls *l)
{
	const struct codec *codec = l->route->codec;

	if (l->tls->mode != TLS_ACCEPT)
		return;
	if (codec == NULL || !codec->client_speaks)
		wrong(l, NULL, "accept is for protocols whose clients speak first; with protocol = %s one may wait for the server; write "
		    "client.tls = require", l->route->protocol);
	else if (l->tls->ca != NULL)
		errors_warn(&l->parsed->errors, line_of(l, decides(l, "tls_ca")), "%s: with client.tls = accept a client without TLS "
		    "needs no certificate; write client.tls = require", decides(l, "tls_ca")->name);
}

/* Backends whose names are not known: verification needs tls_name. */
static void
check_names(struct leg_tls *l)
{
	const struct route *r = l->route;

	for (size_t i = 0; i < r->n_backend && l->tls->name == NULL; i++) {
		if (r->backend[i].kind != ENDPOINT_UNIX)
			continue;
		wrong(l, NULL, "backend = %s has no name that could be verified; write backend.tls_name = NAME", r->backend[i].text);
		return;
	}
}

static void
check_backend(struct leg_tls *l)
{
	const struct codec *codec = l->route->codec;
	const struct entry *ca = decides(l, "tls_ca"), *start = decides(l, "tls_start");

	if (l->tls->mode == TLS_VERIFY)
		check_names(l);
	else if (asks(l, ca))
		wrong(l, ca, "backend.tls = insecure verifies nothing; write backend.tls = verify, or remove this");
	else {
		free(l->tls->ca);	/* of [defaults] */
		l->tls->ca = NULL;
	}
	if (l->tls->mode == TLS_INSECURE)
		errors_warn(&l->parsed->errors, l->mode->line, "%s: with \"insecure\" anyone on the path can pose as the backend; write "
		    "verify, and backend.tls_ca = FILE if its CA is your own", l->mode->name);
	if (codec != NULL && (codec->traits & CODEC_HAS_DIRECT_TLS) != 0)
		return;
	if (l->tls->direct && asks(l, start))
		wrong(l, start, "with protocol = %s there is one way to begin TLS; remove this", l->route->protocol);
	l->tls->direct = false;
}

/* TLS has no urgent bytes. Off says it: they are dropped on a plain leg too, as nothing could carry them on. */
static void
resolve_urgent(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *e = parsed_own(d, s, "urgent");

	if (r->leg[CLIENT].tls.mode == TLS_OFF && r->leg[BACKEND].tls.mode == TLS_OFF)
		return;
	if (r->urgent && e != NULL)
		errors_add(&d->errors, e->line, "%s: TLS carries no urgent bytes; remove this", e->name);
	r->urgent = false;
}

void
resolve_tls(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *protocol = parsed_decides(d, s, key_find("protocol", SCOPE_ROUTE), CLIENT);

	resolve_urgent(r, d, s);
	for (int side = CLIENT; side <= BACKEND; side++) {
		struct leg_tls l = { r, d, s, (enum side)side, &r->leg[side].tls, NULL, true };

		l.mode = decides(&l, "tls");
		if (l.mode == NULL)
			check_unused(&l);
		if (l.mode == NULL || !l.mode->is_good || l.tls->mode == TLS_OFF)
			continue;
		check_pair(&l);
		if (protocol == NULL || protocol->is_good)
			side == CLIENT ? check_client(&l) : check_backend(&l);
		resolve_certificates(r, d, s, (enum side)side, l.is_good);
	}
}
