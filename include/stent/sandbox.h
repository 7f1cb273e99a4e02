/*
 * sandbox.h - what the threads of a running stent may still ask of the kernel: system calls by seccomp, files and ports by
 * Landlock. It limits what an attacker can do who runs code of his own in stent.
 */
#ifndef STENT_SANDBOX_H
#define STENT_SANDBOX_H

#include "stent/config.h"

enum sandbox_thread { SANDBOX_MAIN, SANDBOX_WORKER, SANDBOX_LOG, SANDBOX_THREADS };

struct sandbox;

/*
 * From the settings that are in use, and the files that are there now. For a thread with no_new_privs. NULL: it is off, out
 * of memory, or not in this build; the last two are logged.
 */
struct sandbox *sandbox_new(const struct config *c);
/* For the calling thread, for good. What this kernel cannot do is remembered for sandbox_say(). Threads of different kinds may call it at once. */
void sandbox_enter(struct sandbox *s, enum sandbox_thread kind);
/* One line in the log: what is in force. */
void sandbox_say(const struct sandbox *s);
void sandbox_free(struct sandbox *s);	/* NULL is fine; what was entered stays */

#endif
