/*
 * backend_state.h - what all workers know of the backends of one route.
 *
 * A backend has a place, a number that stays its own while settings replace
 * each other; route->backend_place has them. All calls from any thread.
 */
#ifndef STENT_RELAY_BACKEND_STATE_H
#define STENT_RELAY_BACKEND_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/backends.h"
#include "stent/config.h"

struct backends;

struct backends *backends_new(void);	/* NULL: out of memory */
void backends_free(struct backends *b);	/* NULL is fine */

/* Gives each backend of the route its place. 0, -ENOMEM, -ENOSPC: too many since the start. One thread at a time. */
int backends_adopt(struct backends *b, const struct route *route);
/* These are in use now; of those that are not, nothing is known any more but their flows. */
void backends_use(struct backends *b, const struct route *route);

/* A flow, or an attempt to connect, more or less. False: out of memory, it was not counted. */
bool backends_count(struct backends *b, size_t place, const struct address *a);
void backends_uncount(struct backends *b, size_t place, const struct address *a);
/* Writes the number of flows of each place or address. */
void backends_flows(struct backends *b, const uint16_t *places, size_t n, unsigned *flows);
void backends_flows_of_addresses(struct backends *b, size_t place, const struct address *a, size_t n, unsigned *flows);
unsigned backends_turn(struct backends *b);	/* another number each time */

void backends_note_failure(struct backends *b, size_t place, const struct address *a);
enum backend_is backends_set(struct backends *b, size_t place, enum backend_is is, const char *why);	/* returns what it was */

/* --- checks; backend_checks.c --- */

/* What a flow may do with an address. UNKNOWN: wait for its check; *wanted: nobody checks it yet, now it will be. */
enum backend_is backends_health(struct backends *b, size_t place, const struct address *a, bool *wanted);
/* The addresses of a backend, as they are found now; writes all that are to be checked to ret, at most max. */
size_t backends_list(struct backends *b, size_t place, const struct address *found, size_t n, struct address *ret, size_t max);

struct check_change {
	enum backend_is address_is, address_was, backend_is, backend_was;
};

/* a NULL: no address was found. */
struct check_change backends_checked(struct backends *b, size_t place, const struct address *a, const struct backend_check *found);

/* --- */

bool backends_are_all_down(struct backends *b);
bool backends_is_down(struct backends *b, size_t index);	/* in the settings in use */
/* As relay_backend_facts(); retry_ms is left 0. */
int backends_facts(struct backends *b, size_t index, struct backend_facts *ret);

#endif
