/* memory.h - the allocations of the program under test: counted, and made to fail. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* To be called before anything of libevent. */
void memory_begin(void);
/* After that many further allocations of the program, so many fail. */
void memory_fail(size_t after, size_t times);
/* From now on each allocation of so many bytes or more fails; 0: that is over. */
void memory_short(size_t size);
/* What the program has allocated and not freed is a leak. */
void memory_check(void);
size_t memory_used(void);		/* bytes */
bool memory_has_failed(void);		/* ever */

#endif
