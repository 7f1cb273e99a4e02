/* lateness.c - when a silent leg is probed again, and when it is dead. */
#include "stent/lateness.h"

#include <stdbool.h>

#include "stent/clock.h"
#include "stent/promise.h"

#define LATE_US (200 * US_PER_MS)	/* how late a timer of the kernel may be, and an acknowledgement */
#define STEP_MIN_US (200 * US_PER_MS)	/* between two extra probes */
#define STEPS 32			/* in the whole time */
#define INTERVAL_MAX_US (2 * (int64_t)US_PER_S)
#define LOSSY_PART 10			/* one packet of so many sent again: the path loses packets */

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

enum lateness
lateness_judge(const struct lateness_policy *p, const struct lateness_facts *f, int64_t *again_us)
{
	const int64_t late_us = p->idle_us + least(p->interval_us, INTERVAL_MAX_US) + LATE_US;	/* the first probe is unanswered */
	const int64_t step_us = p->detect_us / STEPS > STEP_MIN_US ? p->detect_us / STEPS : STEP_MIN_US;

	promise(p->idle_us > 0 && p->detect_us > 0 && f->silent_us >= 0);
	*again_us = late_us - f->silent_us;
	if (*again_us > 0)
		return LATENESS_NONE;
	if (f->silent_us >= p->detect_us && f->unanswered >= p->chances)
		return LATENESS_DEAD;
	*again_us = f->silent_us < p->detect_us ? least(step_us, p->detect_us - f->silent_us) : STEP_MIN_US;
	promise(*again_us > 0 && *again_us <= step_us);
	return LATENESS_PROBE;
}

static bool
is_lossy(uint32_t sent, uint32_t retransmitted)
{
	return (uint64_t)retransmitted * LOSSY_PART >= sent && retransmitted > 1;
}

unsigned
lateness_misses(unsigned misses, int64_t each_us, uint32_t sent, uint32_t retransmitted)
{
	int64_t most = (int64_t)misses * LATENESS_LOSSY;

	promise_or(each_us > 0, misses);
	if (misses == 0 || !is_lossy(sent, retransmitted))
		return misses;
	if (most * each_us < LATENESS_REPLY_US)
		most = (LATENESS_REPLY_US + each_us - 1) / each_us;
	return (unsigned)least(most, UINT16_MAX);	/* as many as are counted (struct heartbeat) */
}

unsigned
lateness_stretch(uint32_t sent, uint32_t retransmitted, uint32_t in_a_row)
{
	const uint32_t now = in_a_row > 0 ? in_a_row + 1 : 0;	/* a tail loss probe comes before those that are counted in a row */

	return retransmitted > now && is_lossy(sent - now, retransmitted - now) ? LATENESS_STRETCH : 1;
}
