/* machine.h - what bites later: limits of this machine that the settings may exceed. */
#ifndef STENT_CLI_MACHINE_H
#define STENT_CLI_MACHINE_H

#include <stdbool.h>

struct config;

/* Calls say with each warning. The queue of listeners is told at a start anyway, by the acceptor. */
void machine_warn(const struct config *c, bool queue_too, void (*say)(const char *text));

#endif
