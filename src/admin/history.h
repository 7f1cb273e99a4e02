/* history.h - what happened lately: sampled once a second from the counters, in rings of a fixed size. */
#ifndef STENT_ADMIN_HISTORY_H
#define STENT_ADMIN_HISTORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct history;
struct server;

#define HISTORY_MINUTES 60	/* of ends by reason */
#define HISTORY_STEPS 150	/* of heartbeats by route and side */
#define HISTORY_STEP_S 2

/* on_sample is called after each sample. 0 or -errno. */
int history_start(struct history **ret, struct server *s, struct event_base *base, void (*on_sample)(void *arg), void *arg);
void history_attach(struct history *h, void (*on_sample)(void *arg), void *arg);
void history_free(struct history *h);	/* NULL is fine */

/* Where a reader of it is. */
struct history_mark {
	uint64_t minute, step;		/* the first that it has not got whole; 0: nothing yet */
};

/* What is new since the mark, which moves on. The caller's; NULL if out of memory. */
json_t *history_json(const struct history *h, struct history_mark *mark);

#endif
