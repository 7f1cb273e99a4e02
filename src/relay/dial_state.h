/* dial_state.h - what connecting a flow consists of, for the files of the dial: dial.c, attempts.c, targets.c. */
#ifndef STENT_RELAY_DIAL_STATE_H
#define STENT_RELAY_DIAL_STATE_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "relay/dial.h"
#include "relay/shared.h"
#include "stent/log.h"
#include "stent/resolve.h"

#define ATTEMPTS_PARALLEL_MAX 3
#define NEXT_ADDRESS_US (250 * US_PER_MS)	/* RFC 8305's Connection Attempt Delay */

/* An address of a backend. */
struct target {
	struct sockaddr_storage at;
	struct address address;
	uint32_t backend;			/* of the route's list */
};

struct deferred {
	STAILQ_ENTRY(deferred) link;
	struct target target;
};

/* A connection under way. */
struct attempt {
	TAILQ_ENTRY(attempt) link;	/* of the parallel ones */
	struct event *ev;		/* owned; NULL: the flow's own leg has it */
	struct flow *flow;
	struct target target;
	int64_t began_us;
	bool is_counted;		/* among the flows of its backend */
};

/* It leaves a hole for a moment or for good when a flow is open: the smaller, the less memory an idle flow costs. */
struct dial {
	uint16_t *order;		/* of the backends, by balance; NULL: as in the settings */
	struct host_addresses *found;	/* the addresses of the one whose turn it is; NULL: not known yet */
	uint32_t turn;			/* index into order: whose addresses are tried */
	uint32_t next;			/* index into found */
	STAILQ_HEAD(, deferred) deferred;	/* failed recently: tried after all others */
	uint32_t n_deferred, n_parallel;
	struct lookup *lookup;		/* under way; NULL: none */
	struct attempt own;		/* on the flow's own leg; under way while that has a socket */
	TAILQ_HEAD(, attempt) parallel;
	uint64_t failed;		/* a set of backends, by index, of which an address failed */
	int64_t deadline_us;		/* connect_timeout */
	int64_t next_us;		/* then continue without the lookup, or with a parallel attempt */
	int64_t retry_until_us;		/* connect_retry */
	int64_t retry_delay_us;		/* before the next round */
	struct flow *waiter;		/* it has waited: its flow; NULL: this is the first round */
	bool is_last_of_backend;	/* of the newest attempt: the next one is to another backend */
	bool awaits_check;		/* the next address has not been checked yet: looked at again at next_us */
	bool is_resting;		/* between two rounds, until next_us */
	enum close_reason last;		/* why the last one failed */
	struct preface *preface;	/* owned; NULL: none */
};

static inline uint64_t
backend_bit(size_t backend)
{
	return backend < 64 ? UINT64_C(1) << backend : 0;
}

static inline size_t
dial_backend_at(const struct dial *d, size_t turn)
{
	return d->order != NULL ? d->order[turn] : turn;
}

/* The index of the backend whose turn it is. */
static inline size_t
dial_backend_index(const struct flow *f)
{
	return dial_backend_at(f->dial, f->dial->turn);
}

static inline const struct endpoint *
dial_backend(const struct flow *f)
{
	return &f->route->backend[dial_backend_index(f)];
}

/* dial.c */
void dial_on_parallel(evutil_socket_t fd, short what, void *arg);
void dial_on_looked_up(void *arg, const struct host_addresses *list);

/* attempts.c */
const struct address *target_key(const struct target *t, struct address *buf);	/* by which its failures are known */
bool attempt_start(struct flow *f, struct target *t);	/* false: it failed immediately */
void attempt_failed(struct flow *f, const struct attempt *a, int err);	/* err: an errno */
void attempt_uncount(struct attempt *a);
int attempt_take(struct dial *d, struct attempt *a);	/* of the parallel ones: frees it, returns its socket */
void attempt_free(struct dial *d, struct attempt *a);	/* the same, and resets the socket */
void attempts_drop_own(struct flow *f);
bool attempts_have_own(const struct flow *f);
bool attempts_blame_client(const struct flow *f, int err);	/* this error says nothing of the backend */
bool attempts_have_any(const struct flow *f);
void attempts_time_out(struct flow *f);		/* ends all */
void dial_note_failure(struct flow *f, const struct endpoint *backend, enum close_reason reason, const char *what);

/* connect_retry.c */
struct verdict connect_retry_wait(struct flow *f);	/* after a round that failed: waits, or fails */
bool connect_retry_begin(struct flow *f, int64_t now_us);	/* the next round; false: not yet */
void connect_retry_leave(struct dial *d);

/* targets.c */
enum have { HAVE_ADDRESSES, HAVE_TO_WAIT, HAVE_NONE, HAVE_DENIED };

enum have targets_next(struct flow *f, struct target *t);	/* the address to try next */
int targets_set_found(struct flow *f, const struct sockaddr_storage *at, size_t n);	/* 0 or -ENOMEM */
void targets_free_deferred(struct dial *d);	/* the first one */
void dial_set_next(struct flow *f);		/* when the next is tried if the one that begins now has not failed by then */

#endif
