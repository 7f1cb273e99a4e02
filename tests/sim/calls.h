/*
 * calls.h - the system calls of the program under test. calls.c defines the C
 * library's functions by their names, so that the program, libevent and
 * OpenSSL call them; descriptors that are not the world's go on to the kernel.
 */
#ifndef SIM_CALLS_H
#define SIM_CALLS_H

#include <stdbool.h>
#include <stddef.h>

#include "network.h"

/* The program's machine from now on. */
void calls_begin(struct host *machine);
/* Closes all; says which descriptors are still open, which is a leak, unless abandoned. */
void calls_end(bool abandoned);
size_t calls_open(void);		/* descriptors */

/* What can go wrong with the machine. */
extern struct call_faults {
	size_t descriptor_limit;	/* EMFILE beyond it; 0: none */
	bool no_pipes;			/* pipe2() fails */
	unsigned spurious;		/* of 10,000: a wake-up reports descriptors to look at in vain */
	unsigned interrupted;		/* of 10,000: a wait is interrupted (EINTR); calls that do not block are not */
	unsigned shortened;		/* of 10,000: a read or write moves fewer bytes than it could */
} call_faults;

extern size_t calls_count;		/* since calls_begin(): a measure of work */
extern size_t calls_wakeups;		/* waits that ended */

/* Each line that the program logs, without its end. */
extern void (*on_log_line)(const char *line);

#endif
