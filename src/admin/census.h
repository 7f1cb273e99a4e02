/* census.h - how many flows are protected how, by route, and why others are not. */
#ifndef STENT_ADMIN_CENSUS_H
#define STENT_ADMIN_CENSUS_H

#include <jansson.h>

struct census;
struct flow_info;
struct server;

/* Heartbeats on so many legs; without them a leg has TCP probes alone. */
enum protection { PROTECTION_PROBES, PROTECTION_ONE, PROTECTION_BOTH, PROTECTIONS };

enum protection protection_of(const struct flow_info *f);
const char *protection_name(enum protection p);	/* "probes", "one", "both" */

struct census *census_new(void);		/* NULL: out of memory */
void census_free(struct census *c);	/* NULL is fine */
/* Counts the flows, unless that was done lately: at most one part in fifty of the time goes into it. */
void census_take(struct census *c, struct server *s);
size_t census_of(const struct census *c, size_t slot, enum protection p);	/* flows of that route, at that time */
/* The caller's; NULL if out of memory. */
json_t *census_json(const struct census *c, struct server *s);

#endif
