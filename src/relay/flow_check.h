/* flow_check.h - what is true of a flow in each of its states. False: it is not, and the flow ends (require.h). */
#ifndef STENT_RELAY_FLOW_CHECK_H
#define STENT_RELAY_FLOW_CHECK_H

#include "relay/flow.h"

struct ending;
struct preface;

bool flow_check(const struct flow *f);		/* at any time */
bool dial_check(const struct flow *f);		/* dial.c: of a flow that has a dial */
bool preface_check(const struct flow *f, const struct preface *p);	/* preface.c */
bool ending_holds(const struct flow *f, const struct ending *e);	/* ending.c */

#ifdef STENT_DEAR
bool flow_check_settled(const struct flow *f);	/* between two events */
#else
static inline bool
flow_check_settled(const struct flow *f)
{
	(void)f;
	return true;
}
#endif

#endif
