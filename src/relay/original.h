/* original.h - where a redirected flow wanted to go. */
#ifndef STENT_RELAY_ORIGINAL_H
#define STENT_RELAY_ORIGINAL_H

#include "relay/flow.h"

/*
 * The original destination of a flow's client. 0; -ELOOP: it is the route's own listener, to which the flow would return
 * for ever; or -errno: there is none.
 */
int original_find(struct flow *f, struct sockaddr_storage *ret);

/* source = client, and the client's address can be the source of a connection to this one; or the route does without. */
bool original_can_source(const struct flow *f, const struct address *to);

#endif
