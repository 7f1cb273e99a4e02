/*
 * flow.h - the inside of a flow, shared by the files of src/relay alone.
 *
 *   relay.c       the relay of one worker: its flows, shared buffers, counters
 *   flow.c        the dispatcher: events, the one timer, and every change of a flow's state
 *   dial.c        finding and connecting the backend; failed.c: addresses that are tried last for a while
 *   pump.c        bytes from one leg to the other
 *   backlog.c     what a socket did not take
 *   session.c     the codec over these bytes
 *   heartbeats.c  runs the engine (src/heartbeat, heartbeat_*) on the legs of a flow (heartbeats_*)
 *   signs.c       what the kernel reports about a leg
 *   window.c      a leg whose peer has closed its window
 *   ending.c      delivers the last bytes and notifies the peers
 *   cancel.c      a cancel request on a connection of its own
 *   listing.c, end_log.c, refusals.c, reason.c   what the operator sees
 */
#ifndef STENT_RELAY_FLOW_H
#define STENT_RELAY_FLOW_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "stent/heartbeat.h"
#include "stent/clock.h"
#include "stent/codec.h"
#include "stent/config.h"
#include "stent/relay.h"
#include "stent/resolve.h"
#include "stent/timers.h"
#include "stent/transport.h"
#include "stent/trial.h"

#define RELAY_BUFFER (128 * 1024)	/* bytes per read; also the limit of what a direction holds in memory, but for heartbeats */
#define PIPE_BYTES (512 * 1024)		/* per splice(); requested as the size of the pipe, the kernel may give less */

struct backlog;
struct dial;
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
	bool dead : 1;		/* its socket is only good for reading what is left */
	bool urgent : 1;	/* an urgent byte is among those to be read */
	bool reset_at_close : 1;	/* a FIN would make a truncated message look complete: the kernel resets it if this process is killed */
	struct transport transport;
};

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
	BOTH_CLOSED,		/* both directions are closed */
	CLIENT_ABORT,		/* the client closed by a FIN before the backend was connected */
	CONNECTED,		/* dial.c: the backend leg is connected */
	CONNECT_FAILED,		/* dial.c: no backend could be connected: `reason` */
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

enum flow_state {
	FLOW_CONNECTING,
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
		struct dial *dial;	/* FLOW_CONNECTING */
		struct ending *ending;	/* FLOW_ENDING */
	};
	uint64_t id;
	int64_t began_us;
	int64_t watch_us;	/* when to check that sent bytes were acknowledged; 0: none were sent */
	int64_t recheck_us;	/* when to check for more after short reads; 0: there were none */
	struct address client, backend;
	uint16_t backend_index;	/* of the route */
	uint8_t reason;		/* enum close_reason */
	uint8_t state;		/* enum flow_state */
	uint8_t urgent_seen;	/* the worker's count of urgent signals (low bits) when its legs were last checked */
	uint8_t hops;		/* flows of this process before it in a chain of routes */
	bool keepalive_is_set : 1;	/* on the backend leg: set once the flow has lived for RECHECK_US */
	bool again : 1;		/* on the relay's list of flows with more to pump */
	uint8_t first_goodbye : 2;	/* 1 + the side that said goodbye in its protocol before the other; 0: neither did */
	bool out_of_memory : 1;	/* no memory for its timer: it ends between two rounds of the loop */
};

/* Bytes between two sockets that never come to user space. */
struct pipe {
	SLIST_ENTRY(pipe) link;
	int in, out;
	size_t len;		/* bytes inside */
};

TAILQ_HEAD(flow_list, flow);

/* Facts about a route that are logged once, by any worker; a set of static strings. */
#define ROUTE_LOGGED 24

/* What the workers share of a route. The data path does not use it. */
struct route_shared {
	struct trial trial[2];		/* of heartbeats to that side */
	const char *logged[ROUTE_LOGGED];
};

struct relay_shared {
	struct route_shared *routes;	/* as in the settings */
};

/* failed.c */
#define FAILED_MAX 64

struct failed {
	int64_t until_us;		/* the latest of all entries */
	struct failed_address {
		struct address address;
		int64_t until_us;	/* tried last until then; 0: a free entry */
		int64_t for_us;		/* the length of that time */
	} list[FAILED_MAX];
};

struct relay {
	struct event_base *base;
	const struct config *config;
	struct relay_shared *shared;
	bool kernel_has_times;		/* TCP_INFO was seen to report times: see kernel_has_times() */
	struct timers *timers;
	struct resolver *resolver;
	struct refusals *refusals;
	struct relay_counters *counters;
	void (*on_end)(void *arg);	/* a flow is gone */
	void *on_end_arg;
	struct flow_list flows, dead;
	STAILQ_HEAD(, flow) again;
	SLIST_HEAD(, pipe) pipes;	/* idle */
	size_t n_pipes;			/* idle or in use */
	struct {
		TAILQ_HEAD(, cancel) running, waiting;
		size_t n_running, n_waiting;
		uint64_t dropped;
		int64_t warned_us;	/* when that was last logged */
	} cancels;
	struct codec_out out;
	uint64_t last_id;
	struct flow *list_next;		/* where a listing continues; NULL: none is in progress */
	uint64_t list_last_id;		/* the last flow it shows */
	uint32_t random;
	int64_t warned_us;		/* the last warning about a backend */
	unsigned urgent_signals;	/* seen so far */
	int64_t urgent_until_us;	/* until then each read first checks for an urgent byte */
	int64_t denied_us;		/* the last warning about a flow that looped back */
	struct failed failed;
	uint8_t buf[RELAY_BUFFER];
};

/* relay.c */
struct route_shared *relay_route(const struct flow *f);
uint16_t relay_route_index(const struct flow *f);
bool relay_log_once(const struct flow *f, const char *what);	/* true: not logged of this route before; `what` is static */
uint32_t relay_random(struct relay *r);
struct pipe *relay_take_pipe(struct relay *r);	/* empty; NULL: none available */
void relay_give_pipe(struct relay *r, struct pipe *p);
static inline void
counter_add(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);	/* there is one writer: no atomic add is needed */
}

/* flow.c */
static inline struct leg *
leg_of(struct flow *f, enum side s)
{
	return &f->leg[s];
}

static inline const struct leg_settings *
leg_settings(const struct flow *f, enum side s)
{
	return &f->route->leg[s];
}

void flow_init_leg(struct flow *f, enum side s, int fd);
int flow_register_leg(struct flow *f, enum side s);	/* 0 or -ENOMEM */
void flow_apply(struct flow *f, struct verdict v);	/* acts on it; other files call it only from callbacks of their own */
void flow_end(struct flow *f, enum close_reason reason);	/* forced: see ending.c */
void flow_work(struct flow *f);			/* resumes a flow that yielded to others */
void flow_set_timer(struct flow *f, int64_t now_us);
void flow_wake_at(struct flow *f, int64_t at_us);	/* or earlier; never ends the flow itself */
void flow_half_closed(struct flow *f);		/* a FIN was passed on */
void flow_requeue(struct flow *f);
void flow_recheck(struct flow *f, enum side s, int64_t now_us);	/* after RECHECK_US */

/*
 * Judges the client while the backend is not connected yet, by a set of SOCKET_ bits. Most clients that have
 * closed by then are health checks of a load balancer.
 */
struct verdict flow_check_client(struct flow *f, unsigned bits);

/* dial.c: connects the backend */
struct verdict dial_start(struct flow *f);
/* Denies the flow after DENIED_AFTER_US: a client that reconnects at once would keep us busy. */
struct verdict dial_deny(struct flow *f);
struct verdict dial_event(struct flow *f, bool may_have_failed);
struct verdict dial_tick(struct flow *f, int64_t now_us, int64_t *again_us);	/* when to call again */
void dial_free(struct dial *d);

/* failed.c: of one worker */
void failed_add(struct failed *all, const struct address *a, int64_t now_us);
bool failed_lately(struct failed *all, const struct address *a, int64_t now_us);
void failed_forget(struct failed *all, const struct address *a, int64_t now_us);	/* it accepted a connection */

/* pump.c */
/* Reads from side `from` while there is more and the other side takes it, for a few rounds. */
struct verdict pump(struct flow *f, enum side from);
/* One read, while the flow is open or ending. */
struct verdict pump_once(struct flow *f, enum side from);
/* Sends to side `to`; what its socket does not take becomes its backlog. */
struct verdict pump_write(struct flow *f, enum side to, const struct iovec *v, size_t n, int64_t now_us);
/* Records that bytes were sent to side `to`, and has the timer check that they arrive. */
void pump_sent(struct flow *f, enum side to, int64_t now_us);

/* backlog.c */
int backlog_add(struct leg *l, const uint8_t *data, size_t len);	/* 0 or -ENOMEM */
int backlog_add_pipe(struct leg *l, struct pipe *p);			/* takes p; 0 or -ENOMEM */
int backlog_add_urgent(struct leg *l, uint8_t byte);			/* 0 or -ENOMEM */
struct verdict backlog_drain(struct flow *f, enum side s);		/* GO_ON: all was sent if l->backlog is NULL */
size_t backlog_len(const struct leg *l);
void backlog_free(struct relay *r, struct leg *l);

/* window.c */
/* Judges a leg whose window may be closed; *again_us: when to check again, INT64_MAX: all was acknowledged. */
struct verdict window_watch(struct flow *f, enum side s, int64_t now_us, int64_t *again_us);

/* ending.c */
struct ending {
	enum side dead, to;	/* to: the surviving peer, which is notified */
	enum on_dead how;
	bool forced;		/* neither side is dead: see waits_for */
	bool notified;		/* close message and FIN were sent to `to` */
	bool waits_for[2];	/* forced: the side was notified and has not closed yet */
	bool reset[2];		/* how to close the legs at the end */
	size_t left;		/* bytes not delivered at the last check */
	int64_t progress_us;	/* when that last decreased */
};

void ending_begin(struct ending *e, enum side dead, enum on_dead how);	/* by the death of one side */
void ending_begin_forced(struct ending *e, const bool notified[2]);
/* Sends the protocol's close message and a FIN to side s. False: not legal now; it gets a reset instead. */
bool ending_notify(struct flow *f, enum side s);
/* True: all is done, close the legs as e->reset says. */
bool ending_check(struct flow *f, struct ending *e, int64_t now_us);

/* session.c */
struct session {
	const struct codec *codec;	/* NULL: passthrough */
	const char *passthrough;	/* the reason for it; NULL: none yet */
	struct heartbeat_leg heartbeat[2];
	int64_t app_us[2];		/* last bytes of that side's application */
	uint32_t window[2];		/* the largest receive window that this side has offered; bytes */
	uint32_t path_us[2];		/* the kernel's minimum round trip, taken before heartbeats distort it; 0: not known */
	_Alignas(8) uint8_t state[];
};

int session_open(struct flow *f, int64_t now_us);	/* 0 or -ENOMEM */
void session_free(struct flow *f);
struct verdict session_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len);
struct verdict session_finish(struct flow *f, enum side from);	/* its FIN was read, or nothing more will come */
uint64_t session_skippable(const struct flow *f, enum side from);
void session_skipped(struct flow *f, enum side from, uint64_t n);
bool session_is_early(const struct flow *f, enum side to);
bool session_ends_at_fin(const struct flow *f, enum side to);	/* `to`, which has had no FIN, would take one for the end of a complete message */
void session_update_reset_at_close(struct flow *f, enum side to);	/* keeps leg->reset_at_close current */
bool session_said_goodbye(const struct flow *f, enum side s);
const struct codec *session_codec(const struct session *ss);	/* for `auto`, the one it found */
int64_t session_app_us(const struct flow *f, enum side s);
const char *session_protocol(const struct flow *f);
size_t session_close_message(struct flow *f, enum side to, enum side dead, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);
size_t session_cancel(const struct flow *f, uint8_t buf[CODEC_HEARTBEAT_MAX]);

/* heartbeats.c */
void heartbeats_open(struct flow *f, int64_t now_us);
struct verdict heartbeats_tick(struct flow *f, int64_t now_us, int64_t *again_us);
void heartbeats_refused(struct flow *f, enum side s, const char *why);
int64_t heartbeats_interval_us(const struct flow *f, enum side s);	/* 0: it gets none */
int64_t heartbeats_gap_us(const struct flow *f, enum side s);	/* how long side s is idle before its next one */
bool heartbeats_are_fresh(const struct flow *f, enum side s, int64_t now_us);
/* Side s has closed, by a FIN or a reset: judges whether a heartbeat was the cause. */
void heartbeats_judge_end(struct flow *f, enum side s, int64_t now_us);
void heartbeats_withdraw_trials(struct flow *f);	/* ends them undecided */
const char *heartbeats_why_none(const struct flow *f, enum side s);	/* why side s gets none now; NULL: it gets them */

/* signs.c */
int64_t signs_max_age_us(const struct flow *f, enum side s);	/* how old a sign of life of side s may be to count */
bool signs_of_life(struct flow *f, enum side s, int64_t now_us);	/* side s is known to be alive */
void signs_of_traffic(struct flow *f, enum side s, struct heartbeat_facts *ret);

/* cancel.c */
void cancel_send(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len);
void cancel_free_all(struct relay *r);

/* listing.c, end_log.c */
void flow_describe(const struct flow *f, struct flow_info *info);
void end_log(const struct flow *f);

/* refusals.c */
int refusals_init(struct relay *r);	/* 0 or -ENOMEM */
void refusals_free(struct relay *r);	/* logs what was only counted so far */
bool refusal_log(struct flow *f);	/* logs a flow that never opened; false: it was only counted, for a later line */

/* reason.c */
enum close_reason reason_on_side(enum close_reason client_reason, enum side s);
/* t: the socket, for what the kernel still knows of it; NULL: it never connected. */
enum close_reason reason_from_errno(enum side s, int err, const struct transport *t, bool was_stalled);
bool reason_is_death(enum close_reason r);

#endif
