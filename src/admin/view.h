/* view.h - a running stent as JSON and as sums; for the control socket and HTTP. */
#ifndef STENT_ADMIN_VIEW_H
#define STENT_ADMIN_VIEW_H

#include <jansson.h>
#include <stddef.h>

struct evbuffer;
struct server;
struct relay_counters;

struct flow_query {
	size_t limit;
	size_t sort;	/* a row of the table of orders in view.c */
};

#define FLOW_QUERY_DEFAULT { .limit = 100, .sort = 0 }
#define FLOW_LIMIT_MAX 10000

/* Reads "limit=50" or "sort=bytes". 0 or -EINVAL. */
int flow_query_read(struct flow_query *q, const char *word);

/* The counters of all workers together: of all routes, or of one slot. */
void view_sum(const struct server *s, struct relay_counters *ret);
void view_sum_slot(const struct server *s, size_t slot, struct relay_counters *ret);

/* The caller's (json_decref()); NULL if out of memory. */
json_t *view_status(struct server *s);
/* A list of the first q->limit flows in the order asked for. */
json_t *view_flows(struct server *s, const struct flow_query *q);

/* Appends j and a newline, and takes it; nothing when it is NULL. 0 or -ENOMEM. */
int view_write(struct evbuffer *out, json_t *j);

#endif
