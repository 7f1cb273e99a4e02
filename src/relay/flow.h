/* flow.h - a flow and its legs; what flow.c, the dispatcher, does for the other files. */
#ifndef STENT_RELAY_FLOW_H
#define STENT_RELAY_FLOW_H

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "relay/verdict.h"
#include "stent/clock.h"
#include "stent/config.h"
#include "stent/relay.h"
#include "stent/timers.h"
#include "stent/transport.h"

struct backlog;
struct dial;
struct ending;
struct preface;
struct session;

struct leg {
	struct event ev;	/* both directions, edge-triggered: set up once, no epoll_ctl later */
	uint64_t bytes;		/* received from this side and forwarded */
	int64_t rx_us, tx_us;	/* last bytes from and to this side */
	struct backlog *backlog;	/* what this side's socket did not take; mostly NULL */
	uint8_t side;
	uint8_t error;		/* the socket's error, fetched while bytes were still unread: applies after them; mostly 0 */
	bool readable : 1;	/* there may be bytes to read */
	bool hup : 1;		/* the kernel has seen its FIN: read on to the end */
	bool fin : 1;		/* its FIN was read */
	bool shut : 1;		/* our FIN was sent to it */
	bool read_short : 1;	/* see flow_recheck() */
	bool bulk : 1;		/* reads are large: use splice() */
	bool stalled : 1;	/* its window is closed: TCP_USER_TIMEOUT is off meanwhile */
	bool dead : 1;		/* its socket is only read, for what is left */
	bool suspect : 1;	/* half of the time until it is dead is over, and that was told: suspect.c */
	bool urgent : 1;	/* an urgent byte is among those to be read */
	bool truncated : 1;	/* its FIN came without a close_notify before it */
	bool reset_at_close : 1;	/* a FIN would make a truncated message look complete: the kernel resets it if this process is killed */
	struct transport transport;
};

enum flow_state {
	FLOW_CONNECTING,
	FLOW_PREFACE,		/* TLS begins, perhaps by messages of the protocol: preface.c */
	FLOW_OPEN,
	FLOW_ENDING,		/* delivering the last bytes: ending.c */
	FLOW_ENDED,		/* freed by the next relay_work() */
};

struct flow {
	struct leg leg[2];
	struct relay *relay;
	const struct route *route;	/* held through its settings */
	TAILQ_ENTRY(flow) link;	/* all flows, or the dead */
	STAILQ_ENTRY(flow) requeue_link;
	struct timer timer;
	struct session *session;	/* NULL: plain */
	union {
		struct dial *dial;	/* FLOW_CONNECTING; it holds the preface, if there is one */
		struct preface *preface;	/* FLOW_PREFACE */
		int64_t recheck_us;	/* FLOW_OPEN: when to check for more after short reads; 0: there were none */
		struct ending *ending;	/* FLOW_ENDING */
	};
	uint64_t id;
	int64_t began_us;
	int64_t watch_us;	/* when to check that sent bytes were acknowledged; 0: none were sent */
	struct address client, backend;
	uint16_t place;		/* of its backend: see backend_state.h */
	uint8_t reason;		/* enum close_reason */
	uint8_t state;		/* enum flow_state */
	uint8_t urgent_seen;	/* the worker's count of urgent signals (low bits) when its legs were last checked */
	uint8_t hops;		/* flows of this process before it in a chain of routes */
	bool keepalive_is_set : 1;	/* on the backend leg: set once the flow has lived for FLOW_RECHECK_US */
	bool again : 1;		/* on the relay's list of flows with more to pump */
	uint8_t first_goodbye : 2;	/* 1 + the side that said goodbye in its protocol before the other; 0: neither did */
	bool is_counted : 1;	/* among the flows of its backend */
	bool out_of_memory : 1;	/* no memory for its timer: it ends between two rounds of the loop */
	bool broken : 1;	/* a require() of it was violated: it ends without another byte */
	bool retires : 1;	/* it is to end at its next message boundary: see retire.c */
	uint8_t admission : 4;	/* enum admission: counted as one of its client, or why it was refused */
	bool has_origin : 1;	/* a PROXY header named its client: see origin.c */
	bool has_old_settings : 1;	/* its codec has others than its route: see adopt.c */
};

static inline struct leg *
leg_of(struct flow *f, enum side s)
{
	return &f->leg[s];
}

/* The flow that a leg is of: leg[] is its first member. */
static inline struct flow *
flow_of_leg(struct leg *l)
{
	return (struct flow *)(void *)(l - l->side);
}

/* TLS has begun on it. */
static inline bool
leg_is_tls(const struct leg *l)
{
	return transport_is_tls(&l->transport);
}

/* The side that ended the flow, whose end was found on side `from`: the first to say goodbye, even if the other closes first. */
static inline enum side
flow_who_left(const struct flow *f, enum side from)
{
	if (f->first_goodbye == 0)
		return from;
	return f->first_goodbye == 1 ? CLIENT : BACKEND;
}

static inline const struct leg_settings *
leg_settings(const struct flow *f, enum side s)
{
	return &f->route->leg[s];
}

_Static_assert(offsetof(struct flow, leg) == 0, "flow_of_leg() takes a leg's address for its flow's");
_Static_assert(sizeof(struct flow) <= 504, "memory of idle flows counts: that is what its chunk of memory holds");
_Static_assert(REASON_COUNT <= UINT8_MAX, "a flow has eight bits for its reason");

void flow_start(struct flow *f);			/* the client is accepted */
void flow_init_leg(struct flow *f, enum side s, int fd);
int flow_register_leg(struct flow *f, enum side s);	/* 0 or -ENOMEM */
void flow_apply(struct flow *f, struct verdict v);	/* acts on it; other files call it only from callbacks of their own */
void flow_end(struct flow *f, enum close_reason reason);	/* forced: see ending.c */
void flow_close(struct flow *f);	/* ends at once one that is ending: what its peers were told is left to the kernel */
void flow_work(struct flow *f);			/* resumes a flow that yielded to others */
void flow_set_timer(struct flow *f, int64_t now_us);
void flow_wake_at(struct flow *f, int64_t at_us);	/* or earlier; never ends the flow itself */
void flow_half_closed(struct flow *f);		/* a FIN was passed on */
void flow_requeue(struct flow *f);
void flow_recheck(struct flow *f, enum side s, int64_t now_us);	/* after FLOW_RECHECK_US */

/*
 * Judges the client before the relay begins, by a set of SOCKET_ bits. Most clients that have closed by then are
 * health checks of a load balancer.
 */
struct verdict flow_check_client(struct flow *f, unsigned bits);

#endif
