/* names.h - how name servers of the world behave; names.c answers the resolver's callers. */
#ifndef SIM_NAMES_H
#define SIM_NAMES_H

#include "network.h"
#include "world.h"

extern struct names_settings {
	bool server_is_down;
	bool are_cached;		/* no lookup is needed */
} names_settings;

#endif
