/*
 * fiber.c - threads as fibers.
 *
 * A thread of the program gives way where it waits: in epoll_wait(), on a
 * condition, for another's end. Each wake-up takes a few microseconds that
 * chance decides, so that what happens meanwhile is merged, and the order in
 * which threads run differs by seed.
 */
#include "fiber.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <ucontext.h>

#include "world.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN			/* it is told which stack is in use; its frames are larger */
#include <sanitizer/common_interface_defs.h>
#define STACK (2 * 1024 * 1024)
#else
#define STACK (512 * 1024)
#endif

struct fiber {
	TAILQ_ENTRY(fiber) link;
	ucontext_t context;
	void *stack;
	void (*run)(void *arg);
	void *(*thread)(void *arg);	/* instead of run */
	void *arg;
	struct happening wake;
	const void *waits_for;		/* a condition, or a fiber */
	bool has_ended;
	void *fake;			/* of the address sanitizer */
};

static TAILQ_HEAD(, fiber) fibers = TAILQ_HEAD_INITIALIZER(fibers);
static ucontext_t world_context;
static struct fiber *current;
static int64_t stopped_until_us;

static struct {
	const void *bottom;
	size_t size;
	void *fake;
} world_stack;			/* for the address sanitizer */

/* About to switch to a fiber, or, NULL, to the world; keep: where its own stack is remembered, NULL: it ends. */
static void
leave_stack(void **keep, const struct fiber *to)
{
#ifdef HAS_ASAN
	__sanitizer_start_switch_fiber(keep, to != NULL ? to->stack : world_stack.bottom, to != NULL ? STACK : world_stack.size);
#else
	(void)keep;
	(void)to;
	(void)world_stack;
#endif
}

/* Switched; from the world: where its stack is, is noted. */
static void
take_stack(void *kept, bool from_world)
{
#ifdef HAS_ASAN
	__sanitizer_finish_switch_fiber(kept, from_world ? &world_stack.bottom : NULL, from_world ? &world_stack.size : NULL);
#else
	(void)kept;
	(void)from_world;
#endif
}

static void
enter(void)
{
	struct fiber *f = current;

	take_stack(NULL, true);

	if (f->thread != NULL)
		(void)f->thread(f->arg);
	else
		f->run(f->arg);
	f->has_ended = true;
	for (struct fiber *o = TAILQ_FIRST(&fibers); o != NULL; o = TAILQ_NEXT(o, link))
		if (o->waits_for == f)
			fiber_wake(o);
	current = NULL;
	leave_stack(NULL, NULL);
	(void)setcontext(&world_context);
}

static void
resume(void *arg)
{
	struct fiber *f = arg;

	assert(current == NULL && !f->has_ended);
	if (world_us < stopped_until_us) {
		happen_at(&f->wake, stopped_until_us + rnd_between(0, 100));
		return;
	}
	current = f;
	leave_stack(&world_stack.fake, f);
	(void)swapcontext(&world_context, &f->context);
	take_stack(world_stack.fake, false);
	current = NULL;
}

static struct fiber *
start(void (*run)(void *), void *(*thread)(void *), void *arg)
{
	struct fiber *f = calloc(1, sizeof(*f));

	assert(f != NULL);
	f->stack = malloc(STACK);
	assert(f->stack != NULL);
	f->run = run;
	f->thread = thread;
	f->arg = arg;
	f->wake = (struct happening){ .fn = resume, .arg = f };
	(void)getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, enter, 0);
	TAILQ_INSERT_TAIL(&fibers, f, link);
	fiber_wake(f);
	return f;
}

struct fiber *
fiber_start(void (*run)(void *), void *arg)
{
	return start(run, NULL, arg);
}

bool
fiber_has_ended(const struct fiber *f)
{
	return f->has_ended;
}

struct fiber *
fiber_current(void)
{
	return current;
}

void
fiber_wait(int64_t until_us)
{
	struct fiber *f = current;

	assert(f != NULL);
	if (until_us != NEVER)
		happen_at(&f->wake, until_us);
	leave_stack(&f->fake, NULL);
	(void)swapcontext(&f->context, &world_context);
	take_stack(f->fake, true);
}

void
fiber_wake(struct fiber *f)
{
	const int64_t at_us = world_us + rnd_between(1, 30);

	if (f != NULL && !f->has_ended && f != current && (f->wake.slot == 0 || f->wake.at_us > at_us))
		happen_at(&f->wake, at_us);
}

void
fibers_stop(int64_t until_us)
{
	if (until_us > stopped_until_us)	/* a shorter stop does not end a longer one */
		stopped_until_us = until_us;
}

int64_t
fibers_stopped_until_us(void)
{
	return stopped_until_us;
}

void
world_run(int64_t until_us, bool (*ended)(void))
{
	assert(current == NULL);
	while (what_is_wrong() == NULL && (ended == NULL || !ended()))
		if (!world_step(until_us))
			break;
	if (world_us < until_us && what_is_wrong() == NULL && (ended == NULL || !ended()))
		world_us = until_us;
}

void
fibers_abandon(void)
{
	struct fiber *f;

	while ((f = TAILQ_FIRST(&fibers)) != NULL) {
		happen_not(&f->wake);
		TAILQ_REMOVE(&fibers, f, link);
		free(f->stack);
		free(f);
	}
	stopped_until_us = 0;
}

void
fibers_end(void)
{
	for (struct fiber *f = TAILQ_FIRST(&fibers); f != NULL; f = TAILQ_NEXT(f, link))
		if (!f->has_ended)
			wrong("ends", "a thread has not ended");
	fibers_abandon();
}

/* --- pthreads --- */

int
pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	(void)attr;
	*ret = (pthread_t)(uintptr_t)start(NULL, fn, arg);
	return 0;
}

int
pthread_join(pthread_t thread, void **result)
{
	const struct fiber *f = (const struct fiber *)(uintptr_t)thread;

	if (result != NULL)
		*result = NULL;
	assert(current != NULL);
	current->waits_for = f;
	while (!f->has_ended)
		fiber_wait(NEVER);
	current->waits_for = NULL;
	return 0;
}

int
pthread_setname_np(pthread_t thread, const char *name)
{
	(void)thread;
	(void)name;
	return 0;
}

/* One thread of the machine: a lock is never contended, as no fiber waits while it holds one. */
int
pthread_mutex_lock(pthread_mutex_t *m)
{
	(void)m;
	return 0;
}

int
pthread_mutex_unlock(pthread_mutex_t *m)
{
	(void)m;
	return 0;
}

int
pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	(void)m;
	assert(current != NULL);
	current->waits_for = c;
	fiber_wait(NEVER);
	current->waits_for = NULL;
	return 0;
}

int
pthread_cond_broadcast(pthread_cond_t *c)
{
	for (struct fiber *f = TAILQ_FIRST(&fibers); f != NULL; f = TAILQ_NEXT(f, link))
		if (f->waits_for == c)
			fiber_wake(f);
	return 0;
}

int
pthread_cond_signal(pthread_cond_t *c)
{
	return pthread_cond_broadcast(c);
}
