/*
 * fiber.h - the threads of the program under test, as fibers on one thread: one
 * runs until it waits. pthread_create() and its relatives are defined in fiber.c.
 */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

#include <stdbool.h>
#include <stdint.h>

struct fiber;

/* Begins one that belongs to the program under test. */
struct fiber *fiber_start(void (*run)(void *arg), void *arg);
bool fiber_has_ended(const struct fiber *f);
/* The one that runs; NULL: the world itself. */
struct fiber *fiber_current(void);
/* Within a fiber: waits until fiber_wake(), or until then. */
void fiber_wait(int64_t until_us);
void fiber_wake(struct fiber *f);	/* it runs within some microseconds; NULL is fine */
/* No fiber runs until then: the process is stopped. */
void fibers_stop(int64_t until_us);
int64_t fibers_stopped_until_us(void);	/* the last time when it was; 0: never */
/* Lets the world go on, and fibers run, until then, or until ended() says so (NULL: not asked), or something is wrong. */
void world_run(int64_t until_us, bool (*ended)(void));
void fibers_end(void);			/* all have ended: frees them */
void fibers_abandon(void);		/* frees them as they are, for a world that is wrong */

#endif
