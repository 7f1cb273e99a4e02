/* program.h - the program under test, and its operator. */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include "plan.h"

/* It listens on the first of these, and a server on the second, for the first speech; on the following ports for others. */
#define PROGRAM_PORT 7000
#define PROGRAM_BACKEND_PORT 5000
/* A backend on its own machine, on which nobody listens. */
#define PROGRAM_OWN_PORT 61000

void program_start(const struct plan *p);
bool program_has_ended(void);
/* What its operator does within a second. */
void program_reload(void);
void program_kill_flows(void);
void program_drain(void);

#endif
