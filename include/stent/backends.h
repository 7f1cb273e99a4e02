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
#define BACKEND_RESULT_MAX 64

struct backend_address_facts {
	struct address address;
	unsigned flows;			/* open, with attempts to connect under way */
	enum backend_is is;		/* by its checks */
	int64_t checked_ms;		/* since the last check; -1: none yet */
	int64_t took_us;		/* how long that took */
	char result[BACKEND_RESULT_MAX];	/* "HTTP 200", "Connection refused" */
	int64_t failed_ms;		/* since an attempt to connect to it last failed; -1: none did */
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
struct route;

/* backend: its index in the route, which is of the settings in use. 0, -ENOENT or -ENOMEM. */
int relay_backend_facts(struct relay_shared *s, const struct route *route, size_t backend, struct backend_facts *ret);

/* --- checks: worker/health.c --- */

struct backend_check {
	bool passed;
	int64_t took_us;
	const char *text;		/* "HTTP 503" */
	int rise, fall;
};

/* The addresses of a backend, as they are found now; writes those that are to be checked to ret, at most max. */
size_t relay_backend_addresses(struct relay_shared *s, const struct route *route, size_t backend, const struct address *found, size_t n,
    struct address *ret, size_t max);
/* What a check found, a NULL: that there is no address. Logs changes. True: this address went down. */
bool relay_backend_checked(struct relay_shared *s, const struct route *route, size_t backend, const struct address *a,
    const struct backend_check *found);
/* An eventfd that is written to when an address is to be checked that is not yet; -1: none. */
void relay_shared_checks_fd(struct relay_shared *s, int fd);

void backend_facts_clear(struct backend_facts *facts);

#endif
