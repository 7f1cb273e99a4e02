/*
 * admission.h - which clients may have a flow of a route: allow and deny, and the
 * limits of each client. Its state is shared by all threads; any of them may call.
 *
 * The acceptor asks before a flow exists. On a route whose clients' addresses come in a PROXY header, relay/preface.c
 * asks, by flow_admit() (relay/shared.h), as soon as the header was read; the acceptor does not.
 */
#ifndef STENT_ADMISSION_H
#define STENT_ADMISSION_H

#include <stdbool.h>

#include "stent/config.h"
#include "stent/endpoint.h"

struct relay_shared;

#define ADMISSION_LIST(X) \
	X(DENIED, "denied", REASON_DENIED) \
	X(MAX_FLOWS, "max_flows", REASON_LIMIT) \
	X(ROUTE_MAX_FLOWS, "route_max_flows", REASON_LIMIT) \
	X(MAX_FLOWS_PER_CLIENT, "max_flows_per_client", REASON_LIMIT) \
	X(ACCEPT_RATE, "accept_rate", REASON_LIMIT) \
	X(PROXY_HEADER, "proxy_header", REASON_DENIED) \
	X(MEMORY, "memory", REASON_MEMORY)
#define ADMISSION_ENUM(name, text, reason) ADMISSION_##name,

enum admission {
	ADMITTED,
	ADMITTED_COUNTED,	/* and counted as one of this client: admission_leave() */
	/* The causes of a refusal. */
	ADMISSION_LIST(ADMISSION_ENUM)
	ADMISSION_COUNT,
};

static inline bool
admission_is_refused(enum admission a)
{
	return a > ADMITTED_COUNTED;
}

const char *admission_text(enum admission a);	/* of a cause: "max_flows_per_client" */

/*
 * May this client have one more flow? Counts it if so. UNIX clients have no address: none of these limits applies to them.
 * ADMITTED_COUNTED has to be given back by admission_leave() once, with the same address, when that flow is gone.
 */
enum admission admission_enter(struct relay_shared *s, const struct route *route, const struct address *client);
void admission_leave(struct relay_shared *s, unsigned slot, const struct address *client);
/* What admission_enter() admitted did not begin, as there was no room for it: it does not count for the rate, nor as a flow. */
void admission_undo(struct relay_shared *s, const struct route *route, const struct address *client, enum admission admitted);

#endif
