/* backends.h - what is known of the backends of a route, as the administration shows it. Any thread. */
#ifndef STENT_BACKENDS_H
#define STENT_BACKENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/endpoint.h"

enum backend_is { BACKEND_UNKNOWN, BACKEND_UP, BACKEND_DOWN };

const char *backend_is_text(enum backend_is is);	/* "unknown", "up", "down" */

#define BACKEND_WHY_MAX 96

struct backend_address_facts {
	struct address address;
	unsigned flows;			/* open, with attempts to connect under way */
	int64_t retry_ms;		/* passed over for so long; 0: it is not */
};

struct backend_facts {
	enum backend_is is;
	char why[BACKEND_WHY_MAX];	/* it is down; "" */
	int64_t since;			/* it is so, in seconds since 1970; 0: from the start */
	unsigned flows;
	uint64_t failures;		/* attempts to connect that failed, since the start */
	struct backend_address_facts *at;	/* those in use, or that failed lately; freed by backend_facts_clear() */
	size_t n;
};

struct relay_shared;

/* backend: its index in the settings in use. 0, -ENOENT or -ENOMEM. */
int relay_backend_facts(struct relay_shared *s, size_t slot, size_t backend, struct backend_facts *ret);
void backend_facts_clear(struct backend_facts *facts);

#endif
