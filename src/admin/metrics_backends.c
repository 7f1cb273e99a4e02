/* metrics_backends.c - the metrics of each backend. */
#include <event2/buffer.h>
#include <inttypes.h>

#include "admin/metrics.h"
#include "stent/backends.h"
#include "stent/config.h"
#include "stent/server.h"

struct family {
	const char *name, *type, *help;
	uint64_t (*value)(const struct backend_facts *f);
};

static uint64_t
is_up(const struct backend_facts *f)
{
	return f->is != BACKEND_DOWN;
}

static uint64_t
flows(const struct backend_facts *f)
{
	return f->flows;
}

static uint64_t
failures(const struct backend_facts *f)
{
	return f->failures;
}

static const char waiting[] = "stent_flows_waiting";

static const struct family families[] = {
	{ "stent_backend_up", "gauge", "0: the last flow that tried this backend could connect to none of its addresses, or (health) its checks fail; else 1.", is_up },
	{ "stent_backend_flows", "gauge", "Flows that are open to this backend, with attempts to connect.", flows },
	{ "stent_backend_connect_failures_total", "counter", "Attempts to connect to an address of this backend that failed.", failures },
};

static void
write_one(struct rows *r, const struct family *family, const struct route *route, size_t backend, const struct backend_facts *f)
{
	const struct row row = { .route = route->name };

	metrics_begin(r, family->name, &row);
	evbuffer_add_printf(r->out, ",backend=\"");
	metrics_label(r->out, route->backend[backend].text);
	evbuffer_add_printf(r->out, "\"} %" PRIu64 "\n", family->value(f));
}

void
metrics_backends(struct rows *r, const struct server *s)
{
	const struct config *c = server_config(s);

	metrics_head(r->out, waiting, "gauge", "Clients that wait for a backend (connect_retry).");
	for (size_t i = 0; i < c->n_routes; i++) {
		metrics_begin(r, waiting, &(const struct row){ .route = c->routes[i].name });
		evbuffer_add_printf(r->out, "} %u\n", server_waiting(s, c->routes[i].slot));
	}
	for (size_t k = 0; k < sizeof(families) / sizeof(families[0]); k++) {
		metrics_head(r->out, families[k].name, families[k].type, families[k].help);
		for (size_t i = 0; i < c->n_routes; i++)
			for (size_t b = 0; b < c->routes[i].n_backend; b++) {
				struct backend_facts facts = { 0 };

				if (server_backend_facts(s, &c->routes[i], b, &facts) == 0)
					write_one(r, &families[k], &c->routes[i], b, &facts);
				backend_facts_clear(&facts);
			}
	}
}
