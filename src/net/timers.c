/*
 * timers.c - a binary heap of timers, woken by one libevent timer.
 *
 * The libevent timer is set to the earliest of ours; it is changed only when
 * a new one is the earliest. Timers are lazy: traffic never moves one; when it
 * fires, its owner checks what happened meanwhile.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>

#include "stent/clock.h"
#include "stent/timers.h"

/* The time is kept beside the pointer, so that a comparison does not touch the owner, which is cold in the cache. */
struct entry {
	int64_t at_us;
	struct timer *timer;
};

struct timers {
	struct entry *heap;	/* 1-based */
	size_t n, room;
	int64_t wake_us;	/* what the libevent timer is set to; 0: not set */
	struct event wake;
};

static void on_wake(evutil_socket_t fd, short what, void *arg);

struct timers *
timers_new(struct event_base *base)
{
	struct timers *ts = calloc(1, sizeof(*ts));

	if (ts != NULL)
		evtimer_assign(&ts->wake, base, on_wake, ts);
	return ts;
}

void
timers_free(struct timers *ts)
{
	if (ts == NULL)
		return;
	evtimer_del(&ts->wake);
	free(ts->heap);
	free(ts);
}

static void
place(struct timers *ts, size_t slot, struct entry e)
{
	assert(slot >= 1 && slot <= ts->n && ts->n < ts->room);
	ts->heap[slot] = e;
	e.timer->slot = slot;
}

static void
sift_up(struct timers *ts, size_t slot, struct entry e)
{
	for (; slot > 1 && ts->heap[slot / 2].at_us > e.at_us; slot /= 2)
		place(ts, slot, ts->heap[slot / 2]);
	place(ts, slot, e);
}

static void
sift_down(struct timers *ts, size_t slot, struct entry e)
{
	for (;;) {
		size_t child = slot * 2;

		if (child < ts->n && ts->heap[child + 1].at_us < ts->heap[child].at_us)
			child++;
		if (child > ts->n || ts->heap[child].at_us >= e.at_us)
			break;
		place(ts, slot, ts->heap[child]);
		slot = child;
	}
	place(ts, slot, e);
}

/* Puts t where it belongs, starting from a slot that is free for it. */
static void
settle(struct timers *ts, size_t slot, struct timer *t)
{
	const struct entry e = { t->at_us, t };

	if (slot > 1 && ts->heap[slot / 2].at_us > e.at_us)
		sift_up(ts, slot, e);
	else
		sift_down(ts, slot, e);
}

static void
set_wake(struct timers *ts)
{
	int64_t left;
	struct timeval tv;

	if (ts->n == 0 || (ts->wake_us != 0 && ts->wake_us <= ts->heap[1].at_us))
		return;		/* waking too early is harmless: on_wake() sets it again */
	ts->wake_us = ts->heap[1].at_us;
	left = ts->wake_us - clock_us();
	if (left < 0)
		left = 0;
	tv.tv_sec = left / US_PER_S;
	tv.tv_usec = left % US_PER_S;
	if (evtimer_add(&ts->wake, &tv) != 0)
		ts->wake_us = 0;	/* out of memory: the next timer that is armed tries again */
}

int
timer_arm(struct timers *ts, struct timer *t, int64_t at_us)
{
	if (t->slot == 0 && ts->n + 1 >= ts->room) {
		size_t room = ts->room == 0 ? 64 : ts->room * 2;
		struct entry *heap = realloc(ts->heap, room * sizeof(*heap));

		if (heap == NULL)
			return -ENOMEM;
		ts->heap = heap;
		ts->room = room;
	}
	t->at_us = at_us;
	settle(ts, t->slot != 0 ? t->slot : ++ts->n, t);
	set_wake(ts);
	return 0;
}

void
timer_disarm(struct timers *ts, struct timer *t)
{
	struct timer *last;
	size_t slot = t->slot;

	if (slot == 0)
		return;
	assert(slot <= ts->n && ts->heap[slot].timer == t);
	t->slot = 0;
	last = ts->heap[ts->n--].timer;
	if (last != t)
		settle(ts, slot, last);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct timers *ts = arg;
	int64_t now = clock_us();

	(void)fd;
	(void)what;
	/* wake_us stays set while timers fire: those that they arm wait for set_wake() below. */
	while (ts->n > 0 && ts->heap[1].at_us <= now) {
		struct timer *t = ts->heap[1].timer;

		timer_disarm(ts, t);
		t->fire(t, now);
	}
	ts->wake_us = 0;
	set_wake(ts);
}
