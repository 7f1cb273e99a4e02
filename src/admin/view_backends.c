/* view_backends.c - what is known of the backends of a route, as JSON. */
#include <stdio.h>

#include "admin/view.h"
#include "stent/backends.h"
#include "stent/config.h"
#include "stent/server.h"

json_t *
view_backends_down(const struct server *s, const struct route *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->n_backend; i++)
		if (server_backend_is_down(s, r->slot, i))
			json_array_append_new(list, view_text(r->backend[i].text));
	return list;
}

/* The last check; null: none yet. */
static json_t *
check_json(const struct backend_address_facts *a)
{
	if (a->checked_ms < 0)
		return json_null();
	return json_pack("{s:s, s:o, s:o, s:o}",
	    "state", backend_is_text(a->is),
	    "seconds_ago", view_seconds(a->checked_ms),
	    "took_seconds", json_real((double)a->took_us / 1e6),
	    "result", view_text(a->result));
}

static json_t *
address_json(const struct backend_address_facts *a)
{
	char text[ADDRESS_TEXT_MAX];

	return json_pack("{s:s, s:o, s:I, s:o}",
	    "address", address_text(&a->address, text),
	    "check", check_json(a),
	    "flows", (json_int_t)a->flows,
	    "retry_in_seconds", a->retry_ms > 0 ? view_seconds(a->retry_ms) : json_null());
}

static json_t *
backend_json(const struct backend_facts *f, const char *text)
{
	json_t *list = json_array();

	for (size_t i = 0; i < f->n; i++)
		json_array_append_new(list, address_json(&f->at[i]));
	return json_pack("{s:o, s:s, s:o, s:o, s:I, s:I, s:o}",
	    "backend", view_text(text),
	    "state", backend_is_text(f->is),
	    "why", f->why[0] != '\0' ? view_text(f->why) : json_null(),
	    "since", f->since != 0 ? json_integer((json_int_t)f->since) : json_null(),
	    "flows", (json_int_t)f->flows,
	    "connect_failures", (json_int_t)f->failures,
	    "addresses", list);
}

json_t *
view_backends(const struct server *s, const struct route *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->n_backend; i++) {
		struct backend_facts facts = { 0 };

		if (server_backend_facts(s, r, i, &facts) == 0)
			json_array_append_new(list, backend_json(&facts, r->backend[i].text));
		backend_facts_clear(&facts);
	}
	return list;
}
