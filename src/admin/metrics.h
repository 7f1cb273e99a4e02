/* metrics.h - the counters in Prometheus' text format. */
#ifndef STENT_ADMIN_METRICS_H
#define STENT_ADMIN_METRICS_H

struct evbuffer;
struct server;

void metrics_write(struct evbuffer *out, struct server *s);

#endif
