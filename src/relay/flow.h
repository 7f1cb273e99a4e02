/*
 * flow.h - the inside of a flow, shared by the files of src/relay alone.
 *
 *   relay.c       the relay of one worker: its flows, shared buffers, counters
 *   flow.c        the dispatcher: events, the one timer, and every change of a flow's state
 *   dial.c        finding and connecting the backend; failed.c: addresses that are tried last for a while
 *   pump.c        bytes from one leg to the other
 *   backlog.c     what a socket did not take
 *   session.c     the codec over these bytes
 *   heartbeats.c  when a leg gets one, and whether it is alive
 *   signs.c       what the kernel tells of a leg
 *   window.c      a leg whose window is shut
 *   ending.c      the last bytes, and how the peers are told
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

#define RELAY_BUFFER (128 * 1024)	/* bytes read at once; all that a direction may hold in memory */
#define PIPE_BYTES (512 * 1024)		/* spliced at once, in the kernel; asked for, it may give less */

struct backlog;
struct dial;
struct session;

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
	struct transport transport;
};

/*
 * What came of a step on the data path. Whoever finds it returns it, up to the dispatcher in flow.c, which alone
 * ends a flow, changes its state, or lets its other side run: no function has to fear that its flow is gone.
 */
enum verdict_kind {
	GO_ON,
	NOTHING,		/* nothing to read now */
	LEG_FAILED,		/* the socket of `side` reported `err`: an errno */
	LEG_DEAD,		/* `side` was found dead, though its socket reports nothing: `reason` */
	CUT_OFF,		/* the flow cannot go on, or shall not: `reason` */
	IN_ORDER,		/* both directions are closed */
	UNWANTED,		/* the client closed in good order before there was a backend */
	OPENED,			/* dial.c: the backend leg stands */
	NOT_OPENED,		/* dial.c: nor will it: `reason` */
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
#define VERDICT_NOT_OPENED(r) ((struct verdict){ .kind = NOT_OPENED, .reason = (uint8_t)(r) })
#define VERDICT_CUT_OFF(r) ((struct verdict){ .kind = CUT_OFF, .reason = (uint8_t)(r) })

enum flow_state {
	FLOW_CONNECTING,
	FLOW_OPEN,
	FLOW_ENDING,		/* delivering the last bytes: ending.c */
	FLOW_ENDED,
};

struct flow {
	struct leg leg[2];
	struct relay *relay;
	const struct route *route;	/* held through its settings */
	TAILQ_ENTRY(flow) link;	/* all flows, or the dead */
	STAILQ_ENTRY(flow) again_link;
	struct timer timer;
	struct session *session;	/* NULL: plain */
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
	bool keepalive_is_set : 1;		/* the backend leg has its keepalive: set when the flow has lived for a moment */
	bool again : 1;		/* on the relay's list of flows with more to pump */
	bool out_of_memory : 1;	/* no memory for its timer: it ends between two rounds of the loop */
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
		TAILQ_HEAD(, cancel) running, waiting;
		size_t n_running, n_waiting;
		uint64_t dropped;
		int64_t said_us;	/* when that was told last */
	} cancels;
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

static inline const struct leg_settings *
leg_settings(const struct flow *f, enum side s)
{
	return &f->route->leg[s];
}

void flow_init_leg(struct flow *f, enum side s, int fd);
int flow_listen_to(struct flow *f, enum side s);	/* 0 or -ENOMEM */
void flow_settle(struct flow *f, struct verdict v);	/* acts on it; for what does not begin in flow.c: a lookup's end */
void flow_end(struct flow *f, enum close_reason reason);	/* by force: see ending.c */
void flow_work(struct flow *f);			/* goes on where it stopped for others' sake */
void flow_set_timer(struct flow *f, int64_t now_us);
void flow_wake_at(struct flow *f, int64_t at_us);	/* at the latest; never ends the flow while it runs */
void flow_half_closed(struct flow *f);		/* a FIN was passed on */
void flow_again(struct flow *f);
void flow_look_behind(struct flow *f, enum side s, int64_t now_us);	/* a moment from now */

/*
 * While there is no backend yet: what the kernel says of the client, a set of SOCKET_ bits. Most clients that have gone
 * by then are a balancer's checks.
 */
struct verdict flow_look_at_client(struct flow *f, unsigned news);

/* dial.c: connects the backend */
struct verdict dial_start(struct flow *f);
/* Ends it as denied, a moment from now: a client that tries again at once would keep us busy. */
struct verdict dial_deny(struct flow *f);
struct verdict dial_event(struct flow *f, bool may_have_failed);
struct verdict dial_tick(struct flow *f, int64_t now_us, int64_t *again_us);	/* when to call again */
void dial_free(struct dial *d);

/* failed.c: of one worker */
void failed_add(struct failed *all, const struct address *a, int64_t now_us);
bool failed_lately(struct failed *all, const struct address *a, int64_t now_us);
void failed_forget(struct failed *all, const struct address *a, int64_t now_us);	/* it has answered */

/* pump.c */
/* Reads from side `from` while there is more and the other side takes it, for some rounds. */
struct verdict pump(struct flow *f, enum side from);
/* One read, while the flow is open or ending. */
struct verdict pump_once(struct flow *f, enum side from);
/* Sends to side `to`, keeping what its socket does not take. */
struct verdict pump_write(struct flow *f, enum side to, const struct iovec *v, size_t n, int64_t now_us);
/* Stamps what side `to` was sent, and has the timer look whether it arrived. */
void pump_sent(struct flow *f, enum side to, int64_t now_us);

/* backlog.c */
int backlog_add(struct leg *l, const uint8_t *data, size_t len);	/* 0 or -ENOMEM */
int backlog_add_pipe(struct leg *l, struct pipe *p);			/* takes p; 0 or -ENOMEM */
int backlog_add_urgent(struct leg *l, uint8_t byte);
struct verdict backlog_drain(struct flow *f, enum side s);		/* GO_ON: l->backlog tells whether all went */
size_t backlog_len(const struct leg *l);
void backlog_free(struct relay *r, struct leg *l);

/* window.c */
/* Judges a leg whose window may be shut; *again_us: when to look again, INT64_MAX: all was acknowledged. */
struct verdict window_watch(struct flow *f, enum side s, int64_t now_us, int64_t *again_us);

/* ending.c */
struct ending {
	enum side dead, to;	/* to: the side that lives and is told */
	enum on_dead how;
	bool forced;		/* nobody is dead: see waits_for */
	bool told;		/* farewell and FIN are out to `to` */
	bool waits_for[2];	/* forced: a side that has been told, and has not closed yet */
	bool reset[2];		/* at the very end: how to close */
	size_t left;		/* bytes not delivered at the last look */
	int64_t progress_us;	/* when that last became less */
};

void ending_begin(struct ending *e, enum side dead, enum on_dead how);	/* by the death of one side */
void ending_begin_forced(struct ending *e, const bool told[2]);
/* The protocol's goodbye and a FIN to side s. False: not legal now; it gets a reset instead. */
bool ending_dismiss(struct flow *f, enum side s);
/* True: nothing is waited for any more, close the legs as e->reset says. */
bool ending_look(struct flow *f, struct ending *e, int64_t now_us);

/* session.c */
struct session {
	const struct codec *codec;	/* NULL: it let go */
	const char *passthrough;		/* why it did */
	struct heartbeat_leg heartbeat[2];
	int64_t app_us[2];		/* last bytes of that side's application */
	uint32_t window[2];		/* the widest that this side's has been; bytes */
	uint32_t path_us[2];		/* the kernel's least round trip before heartbeats blurred it; 0: not known */
	_Alignas(8) uint8_t state[];
};

int session_open(struct flow *f, int64_t now_us);	/* 0 or -ENOMEM */
void session_free(struct flow *f);
struct verdict session_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len);
struct verdict session_finish(struct flow *f, enum side from);	/* its FIN was read, or nothing more will come */
uint64_t session_skippable(const struct flow *f, enum side from);
void session_skipped(struct flow *f, enum side from, uint64_t n);
bool session_is_early(const struct flow *f, enum side to);
bool session_ends_at_fin(const struct flow *f, enum side to);	/* a FIN to `to`, which has got none, would say that it has the whole */
void session_guard(struct flow *f, enum side to);	/* keeps leg->guarded right */
bool session_said_goodbye(const struct flow *f, enum side s);
const struct codec *session_codec(const struct session *v);	/* behind `auto`, the one it found */
int64_t session_app_us(const struct flow *f, enum side s);
const char *session_protocol(const struct flow *f);
size_t session_close_message(struct flow *f, enum side to, enum side dead, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);
size_t session_cancel(const struct flow *f, uint8_t buf[CODEC_HEARTBEAT_MAX]);

/* heartbeats.c */
void heartbeats_open(struct flow *f, int64_t now_us);
struct verdict heartbeats_tick(struct flow *f, int64_t now_us, int64_t *again_us);
void heartbeats_refused(struct flow *f, enum side s, const char *why);
int64_t heartbeats_interval_us(const struct flow *f, enum side s);	/* 0: it gets none */
int64_t heartbeats_gap_us(const struct flow *f, enum side s);	/* how long side s is quiet before its next one */
bool heartbeats_are_fresh(const struct flow *f, enum side s, int64_t now_us);
/* Side s has closed, by a FIN or a reset: is it a heartbeat's doing? */
void heartbeats_judge_end(struct flow *f, enum side s, int64_t now_us);
void heartbeats_withdraw_trials(struct flow *f);	/* without a verdict */
const char *heartbeats_why_none(const struct flow *f, enum side s);	/* why side s gets none now; NULL: it does */

/* signs.c */
int64_t signs_vouch_us(const struct flow *f, enum side s);	/* how old a sign of life of side s may be */
bool signs_of_life(struct flow *f, enum side s, int64_t now_us);
void signs_of_traffic(struct flow *f, enum side s, struct heartbeat_facts *ret);

/* cancel.c */
void cancel_send(struct relay *r, struct flow *f, const uint8_t *bytes, size_t len);
void cancel_free_all(struct relay *r);

/* listing.c, end_log.c */
void flow_describe(const struct flow *f, struct flow_info *info);
void end_log(const struct flow *f);

/* refusals.c */
int refusals_init(struct relay *r);	/* 0 or -ENOMEM */
void refusals_free(struct relay *r);	/* tells what is untold */
bool refusal_log(struct flow *f);	/* the line of a flow that never opened; false: it was only counted, for a line later */

/* reason.c */
enum close_reason reason_on_side(enum close_reason client_reason, enum side s);
/* t: for what the socket still tells; NULL: it never connected. */
enum close_reason reason_from_errno(enum side s, int err, const struct transport *t, bool was_stalled);
bool reason_is_death(enum close_reason r);

#endif
