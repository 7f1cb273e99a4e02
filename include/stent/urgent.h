/*
 * urgent.h - notification of TCP's urgent data: the kernel signals it (SIGURG)
 * to the thread that a socket was given to.
 */
#ifndef STENT_URGENT_H
#define STENT_URGENT_H

#include <stdbool.h>

/* This thread handles the signal from now on. */
void urgent_attend(void);

/* Has the kernel signal this socket's urgent data to the calling thread. */
void urgent_watch(int fd);

/* How often it was signalled to this thread, for any of its sockets. The byte may still be in flight. */
unsigned urgent_signals(void);

#endif
