/* profiles.h - what is known of load balancers, firewalls and proxies that end or forget quiet flows. */
#ifndef STENT_CONFIG_PROFILES_H
#define STENT_CONFIG_PROFILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stent/config.h"

struct profile {
	const char *name;
	const char *what;
	int64_t limit_ms;	/* the shortest one that it has by default */
	bool counts_data;	/* only packets with data are counted: TCP probes do not help */
	const char *then;	/* what happens to the flow: "closed" */
	const char *detail;	/* more about that; may be empty */
	const char *source, *read;	/* where that is written, and when it was read there */
};

const struct profile *profile_at(size_t i);	/* NULL: there are no more */
/* The longest time that a flow should be quiet there: half of the limit, in whole seconds, so that one lost packet does no harm. */
int64_t profile_quiet_ms(const struct profile *p);

/* What a profile does for the settings of a leg, which are resolved otherwise. Warns where they do not suffice. */
struct parsed;
struct section;
void resolve_profile(struct route *r, struct parsed *d, const struct section *s, enum side side);

#endif
