/* failed.h - addresses that failed lately; shared by all workers. */
#ifndef STENT_RELAY_FAILED_H
#define STENT_RELAY_FAILED_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "stent/endpoint.h"

#define FAILED_MAX 128

struct failed {
	pthread_mutex_t lock;
	int64_t last_us;		/* no entry is of use later; atomic */
	struct failed_address {
		struct address address;
		int64_t until_us;	/* passed over until then; 0: a free entry */
		int64_t for_us, most_us;	/* the length of that time, and its limit */
		bool has_refused;	/* rather than timed out */
		bool is_claimed;	/* a flow is trying it */
	} list[FAILED_MAX];
};

struct failure {
	bool has_refused;
	int64_t retry_after_us;		/* > 0 */
	double jitter;			/* 0 to 1: what part of a fifth of the time is left out */
};

void failed_add(struct failed *all, const struct address *a, const struct failure *why, int64_t now_us);
/* False: it is to be tried now, and if it had failed, no other flow will try it within claim_us. */
bool failed_pass_over(struct failed *all, const struct address *a, bool refusals_too, int64_t claim_us, int64_t now_us);
void failed_forget(struct failed *all, const struct address *a, int64_t now_us);	/* it accepted a connection */
/* Until when it is passed over; 0: it is not. */
int64_t failed_retry_at(struct failed *all, const struct address *a, bool refusals_too, int64_t now_us);

#endif
