/*
 * tls_memory.c - notes that an allocation of OpenSSL failed.
 *
 * OpenSSL tells of it what it could not do then ("internal error", "not able to copy ctx"), a certificate that cannot be
 * verified, or nothing. So that lack of memory is not told as a fault of the peer, its allocations go through here.
 */
#include "transport/tls_memory.h"

#include <openssl/crypto.h>
#include <stddef.h>
#include <stdlib.h>

static _Thread_local bool has_failed;

void
tls_memory_watch(void)
{
	has_failed = false;
}

bool
tls_memory_has_failed(void)
{
	return has_failed;
}

static void *
noted(void *p)
{
	has_failed |= p == NULL;
	return p;
}

static void *
allocate(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return n > 0 ? noted(malloc(n)) : NULL;
}

static void
release(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	free(p);
}

/* As CRYPTO_realloc(). */
static void *
reallocate(void *p, size_t n, const char *file, int line)
{
	if (n > 0)
		return noted(realloc(p, n));
	release(p, file, line);
	return NULL;
}

/* OpenSSL takes other functions before its first allocation only. */
__attribute__((constructor)) static void
replace_allocators(void)
{
	(void)CRYPTO_set_mem_functions(allocate, reallocate, release);
}
