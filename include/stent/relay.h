/*
 * relay.h - the relay of one worker: flows, each of two legs and what is
 * between them. All calls on the worker's thread.
 */
#ifndef STENT_RELAY_H
#define STENT_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/admission.h"
#include "stent/config.h"
#include "stent/endpoint.h"
#include "stent/side.h"
#include "stent/transport.h"

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
	REASON_CLIENT_TLS,
	REASON_BACKEND_FIN,
	REASON_BACKEND_RESET,
	REASON_BACKEND_KEEPALIVE_TIMEOUT,
	REASON_BACKEND_USER_TIMEOUT,
	REASON_BACKEND_HEARTBEAT_TIMEOUT,
	REASON_BACKEND_IDLE,
	REASON_BACKEND_UNREACHABLE,
	REASON_BACKEND_ERROR,
	REASON_BACKEND_TLS,
	REASON_BACKEND_REFUSED,
	REASON_BACKEND_CONNECT_TIMEOUT,
	REASON_BACKEND_LOOKUP,
	REASON_BACKEND_DOWN,
	REASON_LIMIT,
	REASON_DENIED,
	REASON_ADMIN_KILL,
	REASON_DRAIN,
	REASON_MAX_AGE,
	REASON_EVICTED,
	REASON_MEMORY,
	REASON_INTERNAL,	/* something was not true of the flow that must be: relay/require.h */
	REASON_COUNT,
};

const char *reason_text(enum close_reason r);
enum close_reason admission_reason(enum admission cause);	/* REASON_LIMIT, REASON_DENIED or REASON_MEMORY */
bool reason_is_death(enum close_reason r);	/* that side was found to be dead, rather than closing or being ended */

/* A flow as a listing shows it; also what the end-of-flow log line is made of. */
struct flow_info {
	const struct flow *flow;	/* for flow_info_add_kernel(), as long as it is there */
	uint64_t id;
	const struct route *route;
	struct address client, backend;	/* client: the real one, where a PROXY header named it */
	struct address client_peer;	/* then the balancer that sent the header; else family 0 */
	const char *backend_text;	/* the backend as written in the settings; NULL while connecting, and when they do not name it any more */
	const char *protocol;		/* the codec at work; "tcp" for none, also after passthrough */
	bool connecting;
	bool ending;		/* it has a reason to end; its last bytes and its goodbye are under way */
	bool awaits_client;	/* then: for the client's PROXY header or first byte; no backend is dialled yet */
	int64_t began_us, age_ms;
	struct {
		uint64_t bytes;		/* received from this side and forwarded */
		uint64_t heartbeats, replies;	/* sent to this side, and its replies */
		uint64_t pings;		/* of the heartbeats, the pings */
		int64_t rtt_us;		/* last, smoothed and worst round trip of a reply; -1: none yet. */
		int64_t srtt_us;	/* without replies rtt_us is the kernel's estimate, from flow_info_add_kernel() */
		int64_t worst_us;
		int64_t idle_ms;	/* since the last bytes from this side */
		int64_t heard_ms;	/* since its last known sign of life: bytes, or an acknowledgement (flow_info_add_kernel()) */
		int64_t sign_max_age_ms;	/* an older sign of life does not count; 0: any counts */
		unsigned probes, probes_max;	/* TCP probes without an acknowledgement in a row; with probes_max it is dead */
		unsigned misses, misses_max;	/* replies missed in a row; with misses_max it is dead; 0: never */
		bool reply_awaited;	/* a ping has had no reply yet */
		bool detect_too_short;	/* its round trips are too long for `detect` (flow_info_add_kernel()) */
		bool refused;		/* it refused a heartbeat, and gets no more */
		const char *why_none;	/* why it gets no heartbeats now; NULL: it gets them */
		struct transport_tls tls;	/* version NULL: plain */
		bool fin;		/* half-closed: its FIN was read */
		bool dead;		/* what it sent before is being delivered */
	} leg[2];
};

struct event_base;
struct relay;
struct relay_counters;

#define RELAY_CANCELS 64	/* limit of cancel requests under way in a relay, with a descriptor each */

/*
 * Limit of pipes for splice() in a relay, with two descriptors each, idle or
 * holding what a socket did not take. Beyond it, bulk goes through memory.
 */
#define RELAY_PIPES 32

/* What the relays of all workers share about the routes. NULL: out of memory. Freed after the last relay. */
struct relay_shared;
struct relay_shared *relay_shared_new(const struct config *config);
void relay_shared_free(struct relay_shared *s);	/* NULL is fine */
size_t relay_shared_room(const struct relay_shared *s);	/* limit of slots */
size_t relay_shared_slots(const struct relay_shared *s);	/* in use: all names that there have been */
int relay_shared_open(const struct relay_shared *s, unsigned slot);	/* flows of a route, of all workers, that are given and not yet freed */
void relay_shared_count(struct relay_shared *s, unsigned slot, int more);
const char *relay_shared_name(const struct relay_shared *s, size_t slot);
/* Clients that wait for a backend (connect_retry), of all routes together; the number of those of one. */
void relay_shared_limit_waiting(struct relay_shared *s, unsigned limit);
unsigned relay_shared_waiting(const struct relay_shared *s, size_t slot);
bool relay_backend_is_down(const struct relay_shared *s, size_t slot, size_t backend);	/* the last flow could not connect to it */
/*
 * For settings that replace others: gives each route the slot of its name, a new one to a name that was not there yet.
 * What is kept by route (trials, counters) thus goes on. -ENOMEM; -ENOSPC: too many names since the start. One thread at a time.
 */
int relay_shared_adopt(struct relay_shared *s, struct config *config);
/* They are in use now: what is known of a route's peers is forgotten where its protocol has changed. */
void relay_shared_use(struct relay_shared *s, const struct config *config);

/*
 * The relay of worker number `index`. config, shared and counters (of counters_new(), for relay_shared_room()
 * slots) must outlive it; on_end is called once for each flow that is gone. NULL: out of memory.
 */
struct relay *relay_new(struct event_base *base, const struct config *config, struct relay_shared *shared,
    struct relay_counters **counters, int index, void (*on_end)(void *arg, unsigned slot), void *arg);
void relay_free(struct relay *r);	/* ends the remaining flows at once, reason drain; NULL is fine */

/* A new flow from an accepted socket, which the relay owns from now on. admitted: ADMITTED, or ADMITTED_COUNTED. */
void relay_open(struct relay *r, int fd, const struct route *route, const struct address *client, enum admission admitted);

/* Resets an accepted socket, and counts and logs it as a flow that ended. on_end is not called. */
void relay_refuse(struct relay *r, int fd, const struct route *route, const struct address *client,
    enum admission cause);

/* To be called when others events are wanted than before (events_set_wanted()). */
void relay_watch(struct relay *r);

/* Between two rounds of the loop: resumes flows with more to pump, gives some the newest settings, frees those that have ended. */
void relay_work(struct relay *r);
/*
 * These settings replace the ones before, for new flows and, in slices of relay_work(), for those that are open. The
 * routes have slots by relay_shared_adopt(), and workers is the same.
 */
void relay_adopt(struct relay *r, const struct config *config);
bool relay_is_adopting(const struct relay *r);	/* flows are left to be moved */
bool relay_has_work(const struct relay *r);	/* relay_work() should be called without waiting */

/*
 * Visits some of the flows, from the first (restart) or where the last call stopped; true: there are more. All at once
 * would take milliseconds for some thousands, during which no byte is relayed.
 */
bool relay_list_flows(struct relay *r, bool restart, void (*visit)(struct flow_info *info, void *arg), void *arg);
/* For visit: adds what the kernel knows: round trips without replies, acknowledgements, probes. A few microseconds. */
void flow_info_add_kernel(struct flow_info *info);
/* For visit: ends the flow. False: it is ending already. */
bool flow_info_kill(struct flow_info *info, enum close_reason reason);
bool relay_kill(struct relay *r, uint64_t id, enum close_reason reason);	/* false: no such flow */
/* Ends the open flows to an address of a backend, with reason backend-down. How many. */
size_t relay_kill_backend(struct relay *r, const struct route *route, size_t backend, const struct address *address);
size_t relay_kill_all(struct relay *r, enum close_reason reason);		/* how many */

/* When flows end in a drain, by clock_us(). */
struct drain_times {
	int64_t from_us, until_us;	/* within this time they are told, evenly, to end at their next message boundary */
	int64_t by_us;			/* then they end wherever they are */
};
void relay_drain(struct relay *r, const struct drain_times *when);	/* reason drain; new flows too */
bool relay_has_flows(const struct relay *r);	/* after a kill a flow may take two seconds to close */

#endif
