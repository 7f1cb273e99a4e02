/* backend_parts.h - for the files that keep what is known of backends: backend_state.c, backend_checks.c. */
#ifndef STENT_RELAY_BACKEND_PARTS_H
#define STENT_RELAY_BACKEND_PARTS_H

#include <pthread.h>

#include "relay/backend_state.h"

struct backend_address {
	struct address address;
	unsigned flows;
	int64_t failed_us;		/* when an attempt last failed; 0: none did */
	bool is_listed;			/* a check found it: it is one of the backend's */
	int64_t wanted_us;		/* when a flow last found it, and the checks did not; 0: never */
	enum backend_is is;		/* by its checks */
	int streak;			/* of checks with the other result */
	int64_t checked_us, took_us;	/* the last check */
	char result[BACKEND_RESULT_MAX];
};

struct backend_state {
	struct endpoint endpoint;
	bool is_in_use;			/* by the newest settings */
	enum backend_is is;
	char why[BACKEND_WHY_MAX];
	int64_t since;
	unsigned flows;
	uint64_t failures;
	struct backend_address *at;
	size_t n, room;
};

struct backends {
	pthread_mutex_t lock;
	struct backend_state **list;	/* by place */
	size_t n;
	uint16_t *current;		/* places of the newest settings, by index */
	size_t n_current;
	unsigned turn;
	bool has_checks;		/* written with the lock held; atomic */
};

/* All with the lock held. */
struct backend_address *backends_find_address(const struct backend_state *s, const struct address *a);
struct backend_address *backends_take_address(struct backend_state *s, const struct address *a);	/* adds it if needed; NULL: out of memory */
void backends_drop_address(struct backend_state *s, struct backend_address *at);	/* if nothing is known of it */
enum backend_is backends_change(struct backend_state *s, enum backend_is is, const char *why);	/* returns what it was */
void backends_forget(struct backend_state *s);

#endif
