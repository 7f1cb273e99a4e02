/*
 * spare.h - descriptors held back for the backends of accepted clients. Shared
 * by the process; any thread.
 */
#ifndef STENT_SPARE_H
#define STENT_SPARE_H

#include <stdbool.h>

#define SPARE_MOST 64

/* Holds n of them, or as many as are available, from now on. */
void spare_hold(int n);

/* Refills them. 0 or -errno: no more clients should be accepted. Costs nothing if none was given away. */
int spare_fill(void);

/* Closes one, so that the caller can open something at once; another thread may be faster. False: none is left. */
bool spare_give(void);

#endif
