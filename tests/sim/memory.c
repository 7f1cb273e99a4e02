/*
 * memory.c - the program's allocations.
 *
 * The linker sends the calls of the program's own objects here (--wrap), and
 * libevent is told to allocate by these functions, too. The simulation itself is
 * compiled to call the C library (see meson.build). What is allocated on a fiber is
 * the program's, and is kept in a table, so that leaks are found.
 */
#include "memory.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "world.h"

#define GONE ((void *)1)		/* a place in the table that was used */

struct owned {
	void *at;
	size_t size;
};

static struct {
	struct owned *at;		/* a power of two of them */
	size_t room, n, n_used;		/* n_used: with those that are gone */
	size_t bytes;
} table;

static size_t until_failure = SIZE_MAX, failures;
static size_t short_of;			/* of so many bytes, or more, each fails; 0: none does */
static bool has_failed;

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *p);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
int __real_pthread_setspecific(pthread_key_t key, const void *value);

static size_t
place_of(const void *p)
{
	size_t i = (size_t)((uintptr_t)p / 16 * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (table.room - 1);

	while (table.at[i].at != NULL && table.at[i].at != p)
		i = (i + 1) & (table.room - 1);
	return i;
}

static void
grow(void)
{
	const struct owned *old = table.at;
	const size_t room = table.room;

	table.room = table.n * 4 > 4096 ? table.room * (table.n * 2 > table.room ? 2 : 1) : 4096;
	table.at = calloc(table.room, sizeof(*table.at));
	assert(table.at != NULL);
	table.n_used = table.n;
	for (size_t i = 0; i < room; i++)
		if (old[i].at != NULL && old[i].at != GONE)
			table.at[place_of(old[i].at)] = old[i];
	free((void *)(uintptr_t)old);
}

static void *
own(void *p, size_t size)
{
	if (p == NULL || fiber_current() == NULL)
		return p;
	if ((table.n_used + 1) * 2 > table.room)
		grow();
	table.at[place_of(p)] = (struct owned){ p, size };
	table.n++;
	table.n_used++;
	table.bytes += size;
	return p;
}

static void
disown(const void *p)
{
	size_t i;

	if (p == NULL || table.room == 0)
		return;
	i = place_of(p);
	if (table.at[i].at == NULL)
		return;
	table.bytes -= table.at[i].size;
	table.at[i].at = GONE;
	table.n--;
}

static bool
is_counted_out(void)
{
	if (until_failure == SIZE_MAX)
		return false;
	if (until_failure > 0) {
		until_failure--;
		return false;
	}
	if (--failures == 0)
		until_failure = SIZE_MAX;
	return true;
}

static bool
fails(size_t size)
{
	if (fiber_current() == NULL || !(is_counted_out() || (short_of > 0 && size >= short_of)))
		return false;
	has_failed = true;
	story("no memory");
	errno = ENOMEM;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return fails(size) ? NULL : own(malloc(size), size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails(n * size) ? NULL : own(calloc(n, size), n * size);
}

void *
__wrap_realloc(void *old, size_t size)
{
	void *p;

	if (fails(size))
		return NULL;
	p = realloc(old, size);
	if (p == NULL && size > 0)
		return NULL;
	disown(old);
	return own(p, size);
}

void
__wrap_free(void *p)
{
	disown(p);
	free(p);
}

/* What a thread keeps for itself until it ends: all fibers are one thread, and have it in common. */
int
__wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
	disown(value);
	return __real_pthread_setspecific(key, value);
}

void
memory_begin(void)
{
	/* OpenSSL keeps for good what it makes on a fiber: its allocations are its own again, are not counted, and do not fail here. */
	const int replaced = CRYPTO_set_mem_functions(CRYPTO_malloc, CRYPTO_realloc, CRYPTO_free);

	assert(replaced == 1);		/* it has allocated nothing yet */
	(void)replaced;
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, __wrap_free);
}

void
memory_fail(size_t after, size_t times)
{
	until_failure = after;
	failures = times;
}

void
memory_short(size_t size)
{
	short_of = size;
}

void
memory_check(void)
{
	if (table.n > 0)
		wrong("leak", "%zu allocations of %zu bytes are left at the end", table.n, table.bytes);
	for (size_t i = 0; i < table.room; i++)
		if (table.at[i].at != NULL && table.at[i].at != GONE)
			story("not freed: %zu bytes", table.at[i].size);
}

bool
memory_has_failed(void)
{
	return has_failed;
}

size_t
memory_used(void)
{
	return table.bytes;
}
