/*
 * print_tls.c - what `stent check` says of TLS, as comments after the settings:
 * what is verified of a backend, and every certificate that was read.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "config/make.h"
#include "config/quote.h"
#include "stent/certificate.h"
#include "stent/utf8.h"

#define SHOWN_MAX 4	/* of a file: a bundle of CAs may have hundreds */

static void
print_line(const char *what, const char *text, FILE *out)
{
	fprintf(out, ";   %-8s", what);
	utf8_print(text, out);
	putc('\n', out);
}

static void
print_certificate(const struct certificate *c, FILE *out)
{
	const int64_t now_s = time(NULL);
	char from[DATE_MAX], until[DATE_MAX];

	print_line("subject", c->subject, out);
	if (*c->names != '\0')
		print_line("names", c->names, out);
	print_line("issuer", c->issuer, out);
	date_text(c->until_s, until);
	if (c->until_s <= now_s)
		fprintf(out, ";   EXPIRED on %s\n", until);
	else if (c->from_s > now_s)
		fprintf(out, ";   NOT VALID before %s\n", date_text(c->from_s, from));
	else
		fprintf(out, ";   valid until %s (%" PRId64 " days)\n", until, (c->until_s - now_s) / 86400);
}

/* It was read before; what has happened to it since then is not this function's matter. */
static void
print_file(const struct route *r, enum side side, const char *key, const char *path, FILE *out)
{
	struct certificates all;

	if (path == NULL || certificates_read(&all, path) < 0)
		return;
	fprintf(out, "; [route %s] %s.%s = ", r->name, side_name(side), key);
	quote_print_path(path, out);
	putc('\n', out);
	for (size_t i = 0; i < all.n && i < SHOWN_MAX; i++)
		print_certificate(&all.list[i], out);
	if (all.n > SHOWN_MAX)
		fprintf(out, ";   and %zu more certificates\n", all.n - SHOWN_MAX);
	certificates_clear(&all);
}

/* The name that one backend's certificate must have. */
static void
print_verified(const struct route *r, const struct endpoint *backend, FILE *out)
{
	const struct tls_settings *t = &r->leg[BACKEND].tls;
	struct address a = address_from_sockaddr((const struct sockaddr *)&backend->addr);
	char text[ADDRESS_TEXT_MAX];

	a.port = 0;
	if (t->name != NULL)
		utf8_print(t->name, out);
	else if (backend->kind == ENDPOINT_ORIGINAL)
		fputs("the original address", out);
	else if (backend->kind == ENDPOINT_NAME)
		utf8_print(backend->host, out);
	else
		fprintf(out, "%.*s", (int)(strrchr(address_text(&a, text), ':') - text), text);
}

static void
print_verification(const struct route *r, FILE *out)
{
	const struct tls_settings *t = &r->leg[BACKEND].tls;

	if (t->mode != TLS_VERIFY)
		return;
	fprintf(out, "; [route %s] the backend's certificate must be for ", r->name);
	for (size_t i = 0; i < r->n_backend && (i == 0 || t->name == NULL); i++) {
		if (i > 0)
			fputs(" or ", out);
		print_verified(r, &r->backend[i], out);
	}
	fprintf(out, ", by %s\n", t->ca != NULL ? "a CA of backend.tls_ca" : "a CA of the system");
}

void
config_print_certificates(const struct config *c, FILE *out)
{
	for (size_t i = 0; i < c->n_routes; i++) {
		const struct route *r = &c->routes[i];

		if (r->leg[CLIENT].tls.mode != TLS_OFF || r->leg[BACKEND].tls.mode != TLS_OFF)
			putc('\n', out);
		print_verification(r, out);
		for (int side = CLIENT; side <= BACKEND; side++) {
			if (r->leg[side].tls.mode == TLS_OFF)
				continue;
			print_file(r, (enum side)side, "tls_cert", r->leg[side].tls.cert, out);
			print_file(r, (enum side)side, "tls_ca", r->leg[side].tls.ca, out);
		}
	}
}
