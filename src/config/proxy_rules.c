/*
 * proxy_rules.c - the PROXY protocol and first_byte_timeout: from whom a header
 * is taken, and checks that the keys fit together and fit the protocol.
 *
 * What a route's own section asks for in vain is an error; a value of [defaults]
 * does not apply there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/make.h"

/* --- the type of proxy_from --- */

/* A list that is being made. */
struct making {
	struct proxy_from from;
	const struct spot *spot;
};

static int
add_item(const char *item, void *arg)
{
	struct making *m = arg;
	struct cidr_range range;
	int r;

	if (strcmp(item, "unix") == 0) {
		m->from.unix_too = true;
		return 0;
	}
	r = network_parse(&range, item, m->spot);
	return r == 0 ? cidr_set_add(&m->from.networks, &range) : r;
}

static int
parse_from(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct making m = { .spot = spot };
	int r;

	(void)k;
	if (strcmp(text, "off") == 0) {
		*(struct proxy_from *)field = m.from;
		return 0;
	}
	m.from.text = strdup(text);
	r = m.from.text != NULL ? each_item(text, add_item, &m) : -ENOMEM;
	cidr_set_close(&m.from.networks);
	if (r == 0)
		*(struct proxy_from *)field = m.from;
	else
		proxy_from_clear(&m.from);
	return r;
}

static void
print_from(const struct key *k, const void *field, FILE *out)
{
	const struct proxy_from *from = field;

	(void)k;
	fputs(from->text != NULL ? from->text : "off", out);
}

const struct type type_proxy_from = { .form = "NETWORK, ...", .parse = parse_from, .print = print_from };

void
proxy_from_clear(struct proxy_from *from)
{
	cidr_set_clear(&from->networks);
	free(from->text);
}

/* --- the rules --- */

static const struct entry *
decides(const struct parsed *d, const struct section *s, const char *key)
{
	const struct entry *e = parsed_decides(d, s, key_find(key, SCOPE_ROUTE), CLIENT);

	return e != NULL && e->is_good ? e : NULL;
}

static bool
speaks_second(const struct route *r)
{
	return r->codec != NULL && (r->codec->traits & CODEC_SERVER_FIRST) != 0;
}

static void
check_from(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *accept = decides(d, s, "accept_proxy"), *written = parsed_decides(d, s, key_find("proxy_from", SCOPE_ROUTE), CLIENT);

	if (r->accept_proxy == ACCEPT_PROXY_OFF && r->proxy_from.text != NULL && section_owns(s, written))
		errors_add(&d->errors, written->line, "proxy_from: no PROXY header is read; write accept_proxy = require, or remove this");
	if (r->accept_proxy == ACCEPT_PROXY_OFF || accept == NULL || (written != NULL && !written->is_good))
		return;
	if (r->proxy_from.text == NULL)
		errors_add(&d->errors, accept->line, "accept_proxy: a client that sends a PROXY header could name any address as its own; write "
		    "proxy_from = NETWORK, ... with the addresses of the balancers");
	for (size_t i = 0; i < r->n_listen && r->proxy_from.text != NULL; i++)
		if (r->listen[i].kind == ENDPOINT_UNIX && !r->proxy_from.unix_too)
			errors_warn(&d->errors, accept->line, "accept_proxy: no header is taken from clients of %s%s; add the word \"unix\" to proxy_from "
			    "if a balancer connects there", r->listen[i].text, r->accept_proxy == ACCEPT_PROXY_REQUIRE ? ", so they are refused" : "");
	if (r->accept_proxy == ACCEPT_PROXY_ACCEPT && speaks_second(r))
		errors_warn(&d->errors, accept->line, "accept_proxy: with protocol = %s clients wait for the server, so one without a header waits "
		    "for handshake_timeout; write require, or a route of its own for clients without", r->protocol);
}

static void
check_first_byte(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *e = decides(d, s, "first_byte_timeout");
	const bool is_any = r->codec != NULL && (r->codec->traits & CODEC_MAY_BE_ANY) != 0;

	if (r->first_byte_timeout_ms == 0 || (!speaks_second(r) && !is_any))
		return;
	if (e != NULL && section_owns(s, e))
		errors_add(&d->errors, e->line, is_any ? "%s: with protocol = auto the server may be one that speaks first, whose clients would "
		    "wait for ever; name the protocol, or remove this" : "%s: with protocol = %s the server speaks first, and its clients would wait "
		    "for ever; remove this", e->name, r->protocol);
	r->first_byte_timeout_ms = 0;
}

void
resolve_proxy(struct route *r, struct parsed *d, const struct section *s)
{
	check_from(r, d, s);
	check_first_byte(r, d, s);
}
