/*
 * timers.h - many timers on one libevent timer.
 *
 * A libevent timer is 128 bytes; a flow may cost 640 in all and needs one. A
 * timer here is 24 bytes inside its owner, plus 8 in a heap while it is armed.
 */
#ifndef STENT_TIMERS_H
#define STENT_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct timers;

/* Embedded in its owner and zeroed by it; never moved while armed. */
struct timer {
	int64_t at_us;
	void (*fire)(struct timer *t, int64_t now_us);
	size_t slot;		/* 1-based place in the heap; 0: not armed */
};

struct timers *timers_new(struct event_base *base);	/* NULL: out of memory */
void timers_free(struct timers *ts);			/* NULL is fine; nothing may be armed */

/*
 * Arms t, or moves it. Never fails for a timer that is armed already; else
 * -ENOMEM when the heap cannot grow.
 */
int timer_arm(struct timers *ts, struct timer *t, int64_t at_us);
void timer_disarm(struct timers *ts, struct timer *t);	/* not armed is fine */

#endif
