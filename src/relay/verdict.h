/* verdict.h - the result of a step on the data path. */
#ifndef STENT_RELAY_VERDICT_H
#define STENT_RELAY_VERDICT_H

#include <stdint.h>

#include "stent/relay.h"

/*
 * The result of a step on the data path. It is returned up to the dispatcher in flow.c, which alone ends a flow,
 * changes its state, or runs its other side: below it a flow never disappears during a call.
 */
enum verdict_kind {
	GO_ON,
	NOTHING,		/* nothing to read now */
	LEG_FAILED,		/* the socket of `side` reported `err`: an errno */
	LEG_DEAD,		/* `side` was found dead, though its socket reports nothing: `reason` */
	CUT_OFF,		/* the flow must end now: `reason` */
	AT_REST,		/* a flow that is to end can end here, between two messages: `reason` */
	BOTH_CLOSED,		/* both directions are closed */
	CLIENT_ABORT,		/* the client closed by a FIN before the backend was connected */
	DIAL,			/* preface.c: the backend is to be connected */
	CONNECTED,		/* dial.c: the backend leg is connected; preface.c: the relay begins */
	CONNECT_FAILED,		/* the relay cannot begin: no backend, or no TLS: `reason` */
};

struct verdict {
	uint8_t kind;		/* enum verdict_kind */
	uint8_t side;
	uint8_t reason;		/* enum close_reason */
	int err;
};

#define VERDICT(k) ((struct verdict){ .kind = (k) })
#define VERDICT_FAILED(s, e) ((struct verdict){ .kind = LEG_FAILED, .side = (uint8_t)(s), .err = (e) })
#define VERDICT_DEAD(s, r) ((struct verdict){ .kind = LEG_DEAD, .side = (uint8_t)(s), .reason = (uint8_t)(r) })
#define VERDICT_CONNECT_FAILED(r) ((struct verdict){ .kind = CONNECT_FAILED, .reason = (uint8_t)(r) })
#define VERDICT_CUT_OFF(r) ((struct verdict){ .kind = CUT_OFF, .reason = (uint8_t)(r) })
#define VERDICT_AT_REST(r) ((struct verdict){ .kind = AT_REST, .reason = (uint8_t)(r) })

#endif
