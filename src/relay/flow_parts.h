/* flow_parts.h - what the dispatcher's files share: flow.c, flow_events.c, flow_timer.c. */
#ifndef STENT_RELAY_FLOW_PARTS_H
#define STENT_RELAY_FLOW_PARTS_H

#include "relay/flow.h"

#define FLOW_RECHECK_US (20 * US_PER_MS)	/* see flow_recheck() */

/* flow.c */
void flow_progress_ending(struct flow *f);	/* FLOW_ENDING: goes on with its end */

/* flow_events.c */
void flow_run(struct flow *f, enum side from);	/* pumps what side `from` sent, if the flow is still open */
void flow_retire_now(struct flow *f);	/* ends a flow that is to end, if it can end now */

/* flow_timer.c */
void flow_on_timer(struct timer *t, int64_t now_us);

#endif
