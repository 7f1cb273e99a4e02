/*
 * relay.h - a flow: two legs and everything between them.
 *
 * A flow lives and dies on one worker's thread; none of these calls is safe
 * from another.
 */
#ifndef STENT_RELAY_H
#define STENT_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/config.h"
#include "stent/endpoint.h"
#include "stent/side.h"

/* Close reasons: `LEG-WHAT` says which side ended a flow and why. The texts are in reason.c. */
enum close_reason {
	REASON_NONE,
	REASON_CLIENT_FIN,
	REASON_CLIENT_RESET,
	REASON_CLIENT_KEEPALIVE_TIMEOUT,
	REASON_CLIENT_USER_TIMEOUT,
	REASON_CLIENT_HEARTBEAT_TIMEOUT,
	REASON_CLIENT_IDLE,
	REASON_CLIENT_UNREACHABLE,
	REASON_CLIENT_ERROR,
	REASON_BACKEND_FIN,
	REASON_BACKEND_RESET,
	REASON_BACKEND_KEEPALIVE_TIMEOUT,
	REASON_BACKEND_USER_TIMEOUT,
	REASON_BACKEND_HEARTBEAT_TIMEOUT,
	REASON_BACKEND_IDLE,
	REASON_BACKEND_UNREACHABLE,
	REASON_BACKEND_ERROR,
	REASON_BACKEND_REFUSED,
	REASON_BACKEND_CONNECT_TIMEOUT,
	REASON_BACKEND_LOOKUP,
	REASON_LIMIT,
	REASON_DENIED,
	REASON_ADMIN_KILL,
	REASON_DRAIN,
	REASON_MEMORY,
	REASON_COUNT,
};

const char *reason_text(enum close_reason r);

/* A flow as a listing shows it; also what the end-of-flow log line is made of. */
struct flow_info {
	const struct flow *flow;	/* for flow_info_ask(), as long as it is there */
	uint64_t id;
	const struct route *route;
	struct address client, backend;	/* peers */
	const char *backend_text;	/* the backend as written in the settings; NULL before one answered */
	const char *protocol;		/* the codec at work; "tcp" when there is none or it let go */
	bool connecting;
	int64_t age_ms;
	struct {
		uint64_t bytes;		/* received from this side and forwarded */
		uint64_t heartbeats, replies;	/* sent to this side, answered by it */
		uint64_t pings;		/* of the heartbeats, those that are replied to */
		int64_t rtt_us;		/* last, smoothed and worst round trip of an answer; -1: none yet. */
		int64_t srtt_us;	/* without replies rtt_us is the kernel's estimate, if asked for */
		int64_t worst_us;
		int64_t quiet_ms;	/* since the last bytes from this side */
		int64_t heard_ms;	/* since its last sign of life that we know of: bytes, or an acknowledgement if asked for */
		int64_t vouch_ms;	/* a sign of life older than this says nothing any more; 0: any says something */
		unsigned probes, probes_max;	/* TCP probes unanswered in a row, where one is overdue; as many mean death */
		unsigned misses, misses_max;	/* replies missed in a row; as many mean death; 0: any number does not */
		bool asking;		/* a reply is waited for */
		bool refused;		/* it reacted to heartbeats, and gets no more */
		const char *why_none;	/* why it gets no heartbeats now; NULL: it does */
		bool fin;		/* this side has said its last */
		bool dead;		/* proved: what it sent before is being delivered */
	} leg[2];
};

#define PASSTHROUGH_ROWS 64	/* the last is for reasons that did not fit: "other" */

/* Flows that went over to passthrough for one reason. */
struct passthrough_count {
	uint64_t reason;		/* the address of a static string; 0: the row is unused */
	uint64_t flows;
};

/* NULL: the row is unused. */
const char *passthrough_reason(const struct passthrough_count *c);
/* Of one writer; reason is a static string. */
void passthrough_add(struct passthrough_count counts[PASSTHROUGH_ROWS], const char *reason, uint64_t flows);

/* Counters that one relay alone writes (relaxed) and anyone may read. */
struct relay_counters {
	uint64_t flows_open;
	uint64_t flows_total;
	uint64_t flows_ended[REASON_COUNT];
	uint64_t bytes[2];		/* received from that side and forwarded */
	uint64_t heartbeats[2], replies[2];	/* sent to, answered by that side */
	struct passthrough_count passthrough[PASSTHROUGH_ROWS];
	uint64_t cancels;		/* cancel requests under way */
	uint64_t refused[2];		/* flows of which that side refused a heartbeat */
};

struct event_base;
struct relay;

#define RELAY_CANCELS 64	/* cancel requests that a relay has under way at once, with a descriptor each */

/*
 * So many pipes for splice() a relay has at most, with two descriptors each,
 * whether they are idle or hold what a socket did not take. Beyond, bulk goes
 * through memory.
 */
#define RELAY_PIPES 32

/* What the relays of all workers know together of the routes. NULL: out of memory. Freed after the last relay. */
struct relay_shared;
struct relay_shared *relay_shared_new(const struct config *config);
void relay_shared_free(struct relay_shared *s);	/* NULL is fine */

/*
 * The relay of worker number `index`. config, shared and counters must outlive it; on_end is
 * called once for each flow that is gone. NULL: out of memory.
 */
struct relay *relay_new(struct event_base *base, const struct config *config, struct relay_shared *shared,
    struct relay_counters *counters, int index, void (*on_end)(void *arg), void *arg);
void relay_free(struct relay *r);	/* ends what is left at once, reason drain; NULL is fine */

/* A new flow from an accepted socket, which the relay owns from now on. */
void relay_open(struct relay *r, int fd, const struct route *route, const struct address *client);

/* Resets an accepted socket, and counts and logs it as a flow that ended. on_end is not called. */
void relay_refuse(struct relay *r, int fd, const struct route *route, const struct address *client,
    enum close_reason reason);

/* Between two rounds of the loop: pumps on where there is more, frees the dead. */
void relay_work(struct relay *r);
bool relay_has_work(const struct relay *r);	/* relay_work() should be called without waiting */

/*
 * Visits some of the flows, from the first (anew) or where the last call stopped; true: there are more. To see them
 * all at once would take milliseconds for some thousands, during which no byte is passed on.
 */
bool relay_list_flows(struct relay *r, bool anew, void (*visit)(struct flow_info *info, void *arg), void *arg);
/* For visit: asks the kernel for its estimate of the round trips that no replies tell. A few microseconds. */
void flow_info_ask(struct flow_info *info);
bool relay_kill(struct relay *r, uint64_t id, enum close_reason reason);	/* false: no such flow */
size_t relay_kill_all(struct relay *r, enum close_reason reason);		/* how many */
bool relay_has_flows(const struct relay *r);	/* those that were killed may take two seconds to say goodbye */

#endif
