/* status.h - what /status and `stent status` show. */
#ifndef STENT_ADMIN_STATUS_H
#define STENT_ADMIN_STATUS_H

#include <jansson.h>

struct census;
struct server;

/* The caller's (json_decref()); NULL if out of memory. */
json_t *status_json(struct server *s, struct census *c);

#endif
