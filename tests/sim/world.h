/*
 * world.h - the simulated world: one clock, one queue of what is to come, one
 * source of chance, and the story of what happened. A run is decided by its seed.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MS INT64_C(1000)
#define SECONDS INT64_C(1000000)
#define MINUTES (60 * SECONDS)
#define NEVER INT64_MAX

/* The time in microseconds. A world begins at one that is not round, so that nothing depends on a small clock. */
extern int64_t world_us;

/* Something that is to happen; embedded in what it happens to. Zeroed: not set. */
struct happening {
	void (*fn)(void *arg);
	void *arg;
	int64_t at_us;
	uint64_t order;		/* of those at the same time, the one that was set first */
	size_t slot;		/* in the queue; 0: not set */
};

void world_begin(uint64_t seed);
void world_end(void);

void happen_at(struct happening *h, int64_t at_us);	/* sets it, or moves it */
void happen_not(struct happening *h);
/* Lets the next one happen if it is due until then, and moves the clock to it. False: there is none. */
bool world_step(int64_t until_us);
int64_t world_next_us(void);		/* NEVER: nothing is to come */
uint64_t world_happenings(void);	/* so far */

uint64_t rnd(void);
uint64_t rnd_below(uint64_t n);			/* n > 0 */
int64_t rnd_between(int64_t low, int64_t high);	/* both included */
bool rnd_chance(unsigned of_10000);
/* A time that is equally likely in each order of magnitude. */
int64_t rnd_scale(int64_t low, int64_t high);

/*
 * A line of the story, with its time: what happened, to whom. It is kept, and printed when something is
 * wrong, or at once with --story.
 */
void story(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern bool story_is_told;		/* printed at once */
uint64_t story_hash(void);		/* of all lines: equal in two runs of a seed */
void story_print_end(size_t lines);	/* the last lines, to stderr */

/* An oracle's finding: the world is wrong from here. The run ends after the current step. */
void wrong(const char *oracle, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* NULL: nothing is wrong. The first finding: "exact: ..." */
const char *what_is_wrong(void);

#endif
