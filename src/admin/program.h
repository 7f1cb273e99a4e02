/* program.h - starts the program of on_event. */
#ifndef STENT_ADMIN_PROGRAM_H
#define STENT_ADMIN_PROGRAM_H

#include <sys/types.h>

/* With `in` as its standard input, in a process group of its own. 0 or an errno. */
int program_start(pid_t *ret, const char *path, const char *event, int in);

#endif
