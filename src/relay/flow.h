/*
 * flow.h - the inside of a flow, shared by the files of src/relay alone.
 *
 * What each file does:
 *   relay.c   the relay of one worker: its flows, shared buffers, counters
 *   flow.c    a flow's life: opening, events, its one timer
 *   dial.c    finding and connecting the backend
 *   failed.c  addresses that are tried last for a while
 *   pump.c    bytes from one leg to the other
 *   backlog.c what a socket did not take
 *   ending.c  how a flow ends: delivered, told, logged
 *   vital.c   the codec and the beats of a flow
 *   errand.c  a cancel request on a connection of its own
 *   refusals.c the log lines of flows that never opened
 *   reason.c  close reasons
 *
 * A flow is never freed while code runs that may still look at it: ending
 * puts it on the relay's list of the dead, emptied between two rounds of the loop.
 */
#ifndef STENT_RELAY_FLOW_H
#define STENT_RELAY_FLOW_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "stent/beat.h"
#include "stent/clock.h"
#include "stent/codec.h"
#include "stent/config.h"
#include "stent/relay.h"
#include "stent/resolve.h"
#include "stent/timers.h"
#include "stent/trial.h"

#define RELAY_BUFFER (128 * 1024)	/* bytes read at once; all that a direction may hold in memory */
#define PIPE_BYTES (512 * 1024)		/* spliced at once, in the kernel; asked for, it may give less */

struct backlog;
struct dial;
struct vital;

struct leg {
	struct event ev;	/* both directions, edge-triggered: set up once, no epoll_ctl later */
	uint64_t bytes;		/* received from this side and forwarded */
	int64_t rx_us, tx_us;	/* last bytes from and to this side */
	struct backlog *backlog;	/* what this side's socket did not take; mostly NULL */
	uint8_t side;
	uint8_t error;		/* taken from the socket before its last bytes were read: comes after them; mostly 0 */
	bool readable : 1;	/* there may be bytes to read */
	bool hup : 1;		/* the kernel has seen its FIN: read on to the end */
	bool fin : 1;		/* its FIN was read */
	bool shut : 1;		/* our FIN was sent to it */
	bool read_short : 1;	/* see flow_look_behind() */
	bool bulk : 1;		/* it has much to be read at once: splice */
	bool stalled : 1;	/* its window is shut: TCP_USER_TIMEOUT is off meanwhile */
	bool dead : 1;		/* its socket is of no use any more, but for reading what is left */
	bool urgent : 1;	/* an urgent byte is among those to be read */
	bool guarded : 1;	/* a FIN would make a part look whole to it: its socket resets when this process is killed */
};

enum flow_state {
	FLOW_CONNECTING,
	FLOW_OPEN,
	FLOW_ENDING,		/* delivering the last bytes: ending.c */
	FLOW_ENDED,
};

struct flow {
	struct leg leg[2];
	struct relay *relay;
	const struct route *route;
	TAILQ_ENTRY(flow) link;	/* all flows, or the dead */
	STAILQ_ENTRY(flow) again_link;
	struct timer timer;
	struct vital *vital;	/* NULL: plain */
	union {
		struct dial *dial;	/* FLOW_CONNECTING */
		struct ending *ending;	/* FLOW_ENDING */
	};
	uint64_t id;
	int64_t began_us;
	int64_t watch_us;	/* bytes were sent: see then whether they were acknowledged; 0: none were */
	int64_t behind_us;	/* see then what stands behind a short read; 0: none was short */
	struct address client, backend;
	uint16_t backend_index;	/* of the route */
	uint8_t reason;		/* enum close_reason */
	uint8_t state;		/* enum flow_state */
	uint8_t urgent_seen;	/* of the worker's signals of urgent data, as many as fit, when its legs were asked */
	uint8_t hops;		/* so many flows of ours came before it in a chain of routes */
	bool kept : 1;		/* the backend leg has its keepalive: set when the flow has lived for a moment */
	bool again : 1;		/* on the relay's list of flows with more to pump */
	bool doomed : 1;	/* no memory for its timer: it ends between two rounds of the loop */
};

/* Bytes between two sockets that never come to user space. */
struct pipe {
	SLIST_ENTRY(pipe) link;
	int in, out;
	size_t len;		/* bytes inside */
};

TAILQ_HEAD(flow_list, flow);

/* Facts about a route that are told to the operator once, by any worker; a set of static strings. */
#define ROUTE_SAID 24

/* What the workers share of a route: nothing that the data path looks at. */
struct route_shared {
	struct trial trial[2];		/* of heartbeats to that side */
	const char *said[ROUTE_SAID];
};

struct relay_shared {
	struct route_shared *routes;	/* as in the settings */
};

/* failed.c */
#define FAILED_MOST 64

struct failed {
	int64_t until_us;		/* none counts after it */
	struct failed_address {
		struct address address;
		int64_t until_us;	/* 0: a free place */
		int64_t for_us;		/* so long, until then */
	} list[FAILED_MOST];
};

struct relay {
	struct event_base *base;
	const struct config *config;
	struct relay_shared *shared;
	bool kernel_tells;		/* TCP_INFO was seen to tell times: see is_alive() */
	struct timers *timers;
	struct resolver *resolver;
	struct refusals *refusals;
	struct relay_counters *counters;
	void (*on_end)(void *arg);	/* a flow is gone */
	void *on_end_arg;
	struct flow_list flows, dead;
	STAILQ_HEAD(, flow) again;
	SLIST_HEAD(, pipe) pipes;	/* idle */
	size_t n_pipes;			/* all there are */
	struct {
		TAILQ_HEAD(, errand) running, waiting;
		size_t n_running, n_waiting;
		uint64_t dropped;
		int64_t said_us;	/* when that was told last */
	} errands;
	struct codec_out out;
	uint64_t last_id;
	struct flow *list_next;		/* where a listing goes on; NULL: nowhere */
	uint64_t list_last_id;		/* where it ends */
	uint32_t random;
	int64_t warned_us;		/* the last warning about a backend */
	unsigned urgent_signals;	/* that have been seen */
	int64_t urgent_until_us;	/* so long each read asks whether it begins with an urgent byte */
	int64_t denied_us;		/* the last flow of our own that came back */
	struct failed failed;
	uint8_t buf[RELAY_BUFFER];
};

/* relay.c */
struct route_shared *relay_route(const struct flow *f);
uint16_t relay_route_index(const struct flow *f);
bool relay_say_once(const struct flow *f, const char *what);	/* true: nobody said it of this route before */
uint32_t relay_random(struct relay *r);
struct pipe *relay_take_pipe(struct relay *r);	/* empty; NULL: none to be had */
void relay_give_pipe(struct relay *r, struct pipe *p);
static inline void
counter_add(uint64_t *c, uint64_t n)
{
	__atomic_store_n(c, *c + n, __ATOMIC_RELAXED);	/* one writer: no need for an atomic add */
}

/* flow.c */
static inline struct leg *
leg_of(struct flow *f, enum side s)
{
	return &f->leg[s];
}

static inline int
leg_fd(const struct leg *l)
{
	return event_get_fd(&l->ev);
}

static inline const struct leg_settings *
leg_settings(const struct flow *f, enum side s)
{
	return &f->route->leg[s];
}

void flow_init_leg(struct flow *f, enum side s, int fd);
int flow_listen_to(struct flow *f, enum side s);	/* 0 or -ENOMEM */
void flow_opened(struct flow *f);		/* both legs stand */
void flow_set_timer(struct flow *f, int64_t now_us);
void flow_wake_at(struct flow *f, int64_t at_us);	/* at the latest; never ends the flow while it runs */
void flow_half_closed(struct flow *f);		/* a FIN was passed on */
void flow_again(struct flow *f);
void flow_look_behind(struct flow *f, enum side s, int64_t now_us);	/* a moment from now */
void flow_describe(const struct flow *f, struct flow_info *info);

/*
 * While there is no backend yet: what the kernel says of the client. True: it is gone, and the flow has ended. Most such
 * clients are a balancer's checks.
 */
bool flow_client_is_gone(struct flow *f, unsigned news);

/* dial.c: connects the backend; ends the flow when it cannot. */
int dial_start(struct flow *f);
/* Ends it as denied, a moment from now: a client that tries again at once would keep us busy. 0 or -ENOMEM. */
int dial_deny(struct flow *f);
void dial_event(struct flow *f, bool may_have_failed);
int64_t dial_tick(struct flow *f, int64_t now_us);	/* when to call again */
void dial_free(struct dial *d);

/* failed.c: of one worker */
void failed_add(struct failed *all, const struct address *a, int64_t now_us);
bool failed_lately(struct failed *all, const struct address *a, int64_t now_us);
void failed_forget(struct failed *all, const struct address *a, int64_t now_us);	/* it has answered */

/* pump.c */
void pump(struct flow *f, enum side from);
/* One read from side `from`, while the flow is open or ending. False: nothing to read now. */
bool pump_once(struct flow *f, enum side from);
/*
 * Sends to side `to`, keeping what its socket does not take. False: the flow
 * has begun to end.
 */
bool pump_write(struct flow *f, enum side to, const struct iovec *v, size_t n, int64_t now_us);
/* Stamps what side `to` was sent, and has the timer look whether it arrived. */
void pump_sent(struct flow *f, enum side to, int64_t now_us);

/* backlog.c */
enum drained { DRAINED_ALL, DRAINED_PART, DRAINED_ERROR };
int backlog_add(struct leg *l, const uint8_t *data, size_t len);	/* 0 or -ENOMEM */
int backlog_add_pipe(struct leg *l, struct pipe *p);			/* takes p; 0 or -ENOMEM */
int backlog_add_urgent(struct leg *l, uint8_t byte);
enum drained backlog_drain(struct flow *f, enum side s);		/* errno set on error */
size_t backlog_len(const struct leg *l);
void backlog_free(struct relay *r, struct leg *l);

/* ending.c */
/* A leg's socket reported an error. The flow ends, or has ended, when this returns. */
void ending_on_error(struct flow *f, enum side s, int err);
/* Side s is proved dead by something that its socket has not reported. */
void ending_on_death(struct flow *f, enum side s, enum close_reason reason);
/* Both directions were closed in good order. */
void ending_in_order(struct flow *f);
/*
 * Ends it: what is queued is dropped, each side gets a farewell, and a moment to close, or a reset. Called again, it
 * ends at once.
 */
bool ending_is_forced(const struct flow *f);	/* that was called, and a side is waited for */
void ending_by_force(struct flow *f, enum close_reason reason);
/* The flow never opened. */
void ending_before_open(struct flow *f, enum close_reason reason);
void ending_unwanted(struct flow *f);	/* nor does its client want anything any more: it closed in good order */
void ending_log(const struct flow *f);	/* the line that tells of its end */
void ending_progress(struct flow *f, int64_t now_us);
int64_t ending_tick(struct flow *f, int64_t now_us);

/* vital.c */
struct vital {
	const struct codec *codec;	/* NULL: it let go */
	const char *lost;		/* why it did */
	struct beat_leg beat[2];
	int64_t app_us[2];		/* last bytes of that side's application */
	uint32_t window[2];		/* the widest that this side's has been; bytes */
	uint32_t path_us[2];		/* the kernel's least round trip before heartbeats blurred it; 0: not known */
	_Alignas(8) uint8_t state[];
};

int vital_open(struct flow *f, int64_t now_us);	/* 0 or -ENOMEM */
bool vital_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len);
bool vital_finish(struct flow *f, enum side from);
uint64_t vital_unseen(const struct flow *f, enum side from);
void vital_skipped(struct flow *f, enum side from, uint64_t n);
bool vital_is_ahead(const struct flow *f, enum side to);
void vital_guard(struct flow *f, enum side to);		/* keeps leg->guarded right */
bool vital_ends_at_fin(const struct flow *f, enum side to);	/* a FIN to `to`, which has got none, would say that it has the whole */
/* Side s has closed, by a FIN or a reset: is it a heartbeat's doing? */
void vital_judge_end(struct flow *f, enum side s, int64_t now_us);
bool vital_said_goodbye(const struct flow *f, enum side s);
const char *vital_why_none(const struct flow *f, enum side s);	/* why side s gets no heartbeats now; NULL: it does */
void vital_free(struct flow *f);
int64_t vital_tick(struct flow *f, int64_t now_us);
int64_t vital_vouch_us(const struct flow *f, enum side s);	/* how old a sign of life of side s may be */
int64_t vital_app_us(const struct flow *f, enum side s);
const char *vital_protocol(const struct flow *f);
size_t vital_farewell(struct flow *f, enum side to, enum side dead, uint8_t buf[CODEC_FAREWELL_MAX]);

/* errand.c */
void errand_run(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len);
void errand_free_all(struct relay *r);

/* refusals.c */
int refusals_init(struct relay *r);	/* 0 or -ENOMEM */
void refusals_free(struct relay *r);	/* tells what is untold */
bool refusal_log(struct flow *f);	/* the line of a flow that never opened; false: it was only counted, for a line later */

/* reason.c */
enum close_reason reason_on_side(enum close_reason client_reason, enum side s);
enum close_reason reason_from_errno(enum side s, int err, int fd, bool was_stalled);
bool reason_is_death(enum close_reason r);

#endif
