/* adopt.h - settings that replace others, for flows that are open. */
#ifndef STENT_RELAY_ADOPT_H
#define STENT_RELAY_ADOPT_H

#include "relay/flow.h"

/* Gives an open flow the settings of its route's name in the relay's settings, if there is one. */
void adopt_flow(struct flow *f);
/* The next slice of the flows; see relay_adopt(). */
void adopt_some(struct relay *r);
/* The route whose settings the flow's codec has: mostly the flow's. */
const struct route *adopt_codec_route(const struct flow *f);
/* A codec that could not take the settings of the flow's route is asked again. */
void adopt_retry(struct flow *f);
/* The flow's session ends. */
void adopt_forget(struct flow *f);

#endif
