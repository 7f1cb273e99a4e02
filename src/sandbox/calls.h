/* calls.h - the system calls that a thread may make. */
#ifndef STENT_SANDBOX_CALLS_H
#define STENT_SANDBOX_CALLS_H

#include "stent/sandbox.h"

#define CALLS_FILTER_MAX 1024	/* instructions */

struct sock_filter;

/* Writes the filter of such a thread of this process to code[CALLS_FILTER_MAX]; returns the number of its instructions, or -errno. */
int calls_write(enum sandbox_thread kind, struct sock_filter *code);
/* For the calling thread, which has no_new_privs, for good. 0 or -errno. */
int calls_enter(enum sandbox_thread kind);

#endif
