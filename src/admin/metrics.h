/* metrics.h - the counters in Prometheus' text format. */
#ifndef STENT_ADMIN_METRICS_H
#define STENT_ADMIN_METRICS_H

#include <stddef.h>

#include "stent/counters.h"

struct census;
struct evbuffer;
struct route;
struct server;
struct stream;

/* A route and its counters. */
struct row {
	const char *route;
	size_t slot;
	const struct route *settings;	/* NULL: it is not configured any more */
	struct relay_counters sum;
};

struct rows {
	struct evbuffer *out;
	struct row *row;
	size_t n;
};

void metrics_write(struct evbuffer *out, struct server *s, const struct stream *events, struct census *c);

/* The lines before a metric. */
void metrics_head(struct evbuffer *out, const char *name, const char *type, const char *help);
/* A label's value: backslash and quote are escaped; what is not printable becomes a question mark. */
void metrics_label(struct evbuffer *out, const char *text);
/* `name{route="R"`: what follows begins with a comma or closes the brace. */
void metrics_begin(struct rows *r, const char *name, const struct row *row);

/* metrics_backends.c: of each backend. */
void metrics_backends(struct rows *r, const struct server *s);

/* metrics_tls.c: of routes with TLS. */
void metrics_tls(struct rows *r);

/* process_figures.c: of this process. */
void process_figures(struct evbuffer *out);

#endif
