/* listing.h - the flows as JSON; for the control socket and HTTP. */
#ifndef STENT_ADMIN_LISTING_H
#define STENT_ADMIN_LISTING_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "admin/filter.h"

struct flow_info;
struct listing;
struct server;

struct flow_query {
	size_t limit;
	size_t sort;	/* a row of the table of orders in listing.c */
	struct flow_filter filter;
};

#define FLOW_QUERY_DEFAULT { .limit = 100, .sort = 0 }
#define FLOW_LIMIT_MAX 10000

/* Reads "limit", "50" or "sort", "bytes", or a word of a filter. 0 or -EINVAL. */
int flow_query_read(struct flow_query *q, const char *name, const char *value);

/* The first q->limit flows in the order asked for; NULL if out of memory. */
struct listing *listing_open(struct server *s, const struct flow_query *q);
bool listing_has_more(const struct listing *l);
json_t *listing_next(struct listing *l);	/* the caller's; NULL: the end, or out of memory */
void listing_free(struct listing *l);		/* NULL is fine */

/* All of it; the caller's (json_decref()), NULL if out of memory. */
json_t *listing_json(struct server *s, const struct flow_query *q);
/* One flow. */
json_t *listing_flow(const struct flow_info *f);

#endif
