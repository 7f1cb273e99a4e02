/* view.h - a running stent as JSON and as sums; for the control socket and HTTP. */
#ifndef STENT_ADMIN_VIEW_H
#define STENT_ADMIN_VIEW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;
struct server;
struct relay_counters;

/* The counters of all workers together: of all routes, or of one slot. */
void view_sum(const struct server *s, struct relay_counters *ret);
void view_sum_slot(const struct server *s, size_t slot, struct relay_counters *ret);

/* The caller's (json_decref()); NULL if out of memory. */
json_t *view_status(struct server *s);
json_t *view_summary(struct server *s);			/* the same without its routes */
json_t *view_routes(const struct server *s);
/*
 * Texts of the settings file may contain any bytes: what is not printable becomes a question mark. NULL becomes null.
 */
json_t *view_text(const char *text);
json_t *view_seconds(int64_t ms);

/* Appends j and a newline, and takes it; nothing when it is NULL. 0 or -ENOMEM. */
int view_write(struct evbuffer *out, json_t *j);

#endif
