/* view.h - a running stent as JSON and as sums; for the control socket and HTTP. */
#ifndef STENT_ADMIN_VIEW_H
#define STENT_ADMIN_VIEW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;
struct server;
struct relay_counters;
struct route;

/* The counters of all workers together: of all routes, or of one slot. */
void view_sum(const struct server *s, struct relay_counters *ret);
void view_sum_slot(const struct server *s, size_t slot, struct relay_counters *ret);
/* Flows that ended because that side was found to be dead. */
void view_deaths(const struct relay_counters *sum, uint64_t ret[2]);

/* The caller's (json_decref()); NULL if out of memory. */
json_t *view_summary(struct server *s);			/* without the routes */
json_t *view_routes(const struct server *s);
json_t *view_limits(const struct route *r);
const char *view_when_full(unsigned when_full);
json_t *view_refusals(const struct relay_counters *sum);	/* by cause, those that there were */
json_t *view_backends_down(const struct server *s, const struct route *r);
json_t *view_backends(const struct server *s, const struct route *r);	/* with all that is known of each */
/*
 * Texts of the settings file may contain any bytes: what is not printable becomes a question mark. NULL becomes null.
 */
json_t *view_text(const char *text);
json_t *view_seconds(int64_t ms);
json_t *view_both_sides(const uint64_t count[2]);

/* Appends j and a newline, and takes it; nothing when it is NULL. 0 or -ENOMEM. */
int view_write(struct evbuffer *out, json_t *j);

#endif
