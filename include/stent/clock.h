/* clock.h - the clock of the whole program: monotonic, in microseconds. */
#ifndef STENT_CLOCK_H
#define STENT_CLOCK_H

#include <stdint.h>
#include <time.h>

#define US_PER_MS 1000
#define US_PER_S 1000000

static inline int64_t
clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

#endif
