/*
 * wrap.c - linked into stent by -Wl,--wrap in a build with AddressSanitizer, whose malloc() fault.c cannot replace: the
 * program's own allocations fail by number, too. What libraries allocate does not fail there.
 */
#include <stdbool.h>
#include <stddef.h>

bool fault_hits(void *from) __attribute__((weak));	/* of fault.c, when that is preloaded */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

#define HITS (fault_hits != NULL && fault_hits(__builtin_return_address(0)))

void *
__wrap_malloc(size_t n)
{
	return HITS ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return HITS ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return HITS ? NULL : __real_realloc(p, n);
}
