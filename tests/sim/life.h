/* life.h - a whole world: the program under test in it, what happens to it, and what must hold. */
#ifndef SIM_LIFE_H
#define SIM_LIFE_H

#include "plan.h"

struct life {
	size_t talks, messages, calls;
	uint64_t happenings, story;
	int64_t lasted_us;
};

/* Lives the plan in this process; at most once in it, as the program keeps some state. NULL: nothing was wrong. */
const char *life_run(const struct plan *p, struct life *ret);

#endif
