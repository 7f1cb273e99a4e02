/* idle.h - the oracle of what idle flows cost: wake-ups, calls, memory, descriptors. */
#ifndef SIM_IDLE_H
#define SIM_IDLE_H

#include "plan.h"

void idle_begin(const struct plan *plan);
/* The program has started, and there was no flow yet. */
void idle_empty(void);
/* Nobody says anything until then. */
void idle_hush(int64_t until_us);
/* Now and then. */
void idle_check(void);

#endif
