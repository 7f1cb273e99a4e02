/* search.h - the part of the flows that a page shows: filtered, sorted, cut. */
#ifndef STENT_ADMIN_SEARCH_H
#define STENT_ADMIN_SEARCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;

#define SEARCH_ROWS_MAX 200

struct search {
	char text[64];		/* that a flow's names, addresses or reasons contain; "": any */
	char route[64];		/* "": any */
	int protection;		/* -1: any */
	size_t sort;		/* a row of the table in search.c */
	bool is_descending;
	size_t offset, limit;
	uint64_t id;		/* of a flow shown beside the list; 0: none */
};

#define SEARCH_DEFAULT { .protection = -1, .is_descending = true, .limit = 50 }
#define SEARCH_HELP "/events/flows takes q=TEXT, route=NAME, protection=both|one|probes, sort=age|route|client|backend|bytes|idle|rtt|heartbeats|protection, " \
	"order=up|down, offset=N, limit=N and id=N"

/* Reads a parameter. False: it is wrong. */
bool search_read(struct search *q, const char *name, const char *value);

/* {"total", "matched", "offset", "flows": [...], "flow": {...} or null}: the caller's; NULL if out of memory. */
json_t *search_run(const struct search *q, struct server *s);

#endif
