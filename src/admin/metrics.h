/* metrics.h - the counters in Prometheus' text format. */
#ifndef STENT_ADMIN_METRICS_H
#define STENT_ADMIN_METRICS_H

struct evbuffer;
struct server;
struct stream;

void metrics_write(struct evbuffer *out, struct server *s, const struct stream *events);

/* process_figures.c: of this process. */
void process_figures(struct evbuffer *out);

#endif
