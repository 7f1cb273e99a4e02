/* retire.h - flows that are to end at their next message boundary. */
#ifndef STENT_RELAY_RETIRE_H
#define STENT_RELAY_RETIRE_H

#include "relay/flow.h"
#include "stent/codec.h"

/*
 * The flow is to end at its next message boundary, with its protocol's goodbye; at by_us (clock_us()) as by
 * flow_end(), wherever it is then. Of several calls the one with the earliest by_us counts. Ends nothing itself, so
 * that it may be called while the flows are walked.
 */
void flow_retire(struct flow *f, enum close_reason reason, int64_t by_us);
enum codec_rest retire_rest(const struct flow *f);	/* what the codec knows of a message, statement or transaction under way */
void retire_forget(struct flow *f);	/* it has ended */
struct verdict retire_check(const struct flow *f, int64_t now_us);	/* GO_ON, AT_REST or CUT_OFF */
int64_t retire_again_us(const struct flow *f, int64_t now_us);	/* when to check without an event; INT64_MAX: it does not retire */
/* max_age: has a flow retire that is too old. Returns when to look again. */
int64_t retire_by_age(struct flow *f, int64_t now_us);

#endif
