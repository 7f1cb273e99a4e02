/*
 * spare.h - descriptors held back for the backends of clients that are in
 * already. The process's, as descriptors are; any thread.
 */
#ifndef STENT_SPARE_H
#define STENT_SPARE_H

#include <stdbool.h>

#define SPARE_MOST 64

/* Holds n of them, or what can be had, from now on. */
void spare_hold(int n);

/* Sees that all are held. 0 or -errno: no more clients should be accepted. Costs nothing when none was given. */
int spare_fill(void);

/* Gives one to the caller, who opens something at once; another thread may be quicker. False: none is left. */
bool spare_give(void);

#endif
