/* calls.h - the system calls that a thread may make. */
#ifndef STENT_SANDBOX_CALLS_H
#define STENT_SANDBOX_CALLS_H

#include "stent/sandbox.h"

/* For the calling thread, which has no_new_privs, for good. 0 or -errno. */
int calls_enter(enum sandbox_thread kind);

#endif
