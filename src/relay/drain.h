/* drain.h - the flows of a relay retire one after the other. */
#ifndef STENT_RELAY_DRAIN_H
#define STENT_RELAY_DRAIN_H

#include "relay/flow.h"

void drain_forget(struct relay *r, const struct flow *f);	/* it is gone from the list of flows */

#endif
