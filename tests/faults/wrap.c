/*
 * wrap.c - linked into stent by -Wl,--wrap in a build with AddressSanitizer, whose malloc() fault.c cannot replace: the
 * program's own allocations fail by number, too, and those of OpenSSL, which goes through functions of the program
 * (src/transport/tls_memory.c), and of libevent and Jansson, which can be given others. What the C library allocates for itself (fopen(), getifaddrs(), ...) and libmicrohttpd fails in the other build only.
 */
#include <event2/event.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

bool fault_hits(void *from) __attribute__((weak));	/* of fault.c, when that is preloaded */

#define HITS (fault_hits != NULL && fault_hits(__builtin_return_address(0)))

/* NULL, when it is this call's turn. */
#define WRAP(type, name, parameters, arguments) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters \
	{ \
		return HITS ? NULL : __real_##name arguments; \
	}

WRAP(void *, malloc, (size_t n), (n))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *p, size_t n), (p, n))
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
WRAP(char *, strdup, (const char *s), (s))
WRAP(char *, strndup, (const char *s, size_t n), (s, n))
WRAP(FILE *, open_memstream, (char **ret, size_t *n), (ret, n))
WRAP(FILE *, fmemopen, (void *buf, size_t n, const char *mode), (buf, n, mode))

int __real_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap_asprintf(char **ret, const char *format, ...);

int
__wrap_vasprintf(char **ret, const char *format, va_list arguments)
{
	return HITS ? -1 : __real_vasprintf(ret, format, arguments);
}

int
__wrap_asprintf(char **ret, const char *format, ...)
{
	va_list arguments;
	int r = -1;

	va_start(arguments, format);
	if (!HITS)
		r = __real_vasprintf(ret, format, arguments);
	va_end(arguments);
	return r;
}

__attribute__((constructor)) static void
replace_allocators(void)
{
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
	json_set_alloc_funcs(__wrap_malloc, free);
}
