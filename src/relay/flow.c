/*
 * flow.c - a flow from its opening to its last event.
 *
 * Both sockets are registered once, edge-triggered, for reading and writing:
 * no epoll_ctl follows until the end. An edge sets a flag ("there may be bytes
 * to read"); the pump clears it when the socket is empty. A socket that is
 * not being read (its peer is stalled, or it has said its last) still reports
 * a reset by an edge: then its error is asked for.
 *
 * The one timer of a flow is lazy: traffic never moves it. When it fires it
 * looks at the stamps that traffic left and sets itself anew, or not at all:
 * a quiet plain flow has none.
 */
#include <stdlib.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/socket.h"

#define STALL_LOOK_MOST_US (5 * US_PER_S)	/* how often a stalled leg is looked at */

#define HALF_CLOSED_IDLE_S 25	/* the most before the first probe, as the default of keepalive */
#define BEHIND_US (20 * US_PER_MS)

static void on_event(evutil_socket_t fd, short what, void *arg);
static void on_timer(struct timer *t, int64_t now_us);

void
flow_init_leg(struct flow *f, enum side s, int fd)
{
	struct leg *l = leg_of(f, s);

	l->side = (uint8_t)s;
	l->rx_us = l->tx_us = f->began_us;
	event_assign(&l->ev, f->relay->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, l);
	f->timer.fire = on_timer;
}

int
flow_listen_to(struct flow *f, enum side s)
{
	return event_add(&leg_of(f, s)->ev, NULL) == 0 ? 0 : -ENOMEM;
}

static struct flow *
flow_of(struct leg *l)
{
	struct leg *first = l - l->side;

	return (struct flow *)(void *)first;	/* leg[] is the first member */
}

void
flow_again(struct flow *f)
{
	if (f->again)
		return;
	f->again = true;
	STAILQ_INSERT_TAIL(&f->relay->again, f, again_link);
}

/*
 * A short read need not have emptied the socket: it ends before an urgent
 * byte, whatever stands behind it; and one edge may have told of bytes and of
 * a reset at once (libevent does not say which). No further edge will come.
 * To ask the kernel after each short read would cost a tenth of a round trip,
 * so it is asked a moment later, once for all reads since.
 */
void
flow_look_behind(struct flow *f, enum side s, int64_t now_us)
{
	leg_of(f, s)->read_short = true;
	if (f->behind_us != 0 || f->state != FLOW_OPEN)
		return;
	f->behind_us = now_us + BEHIND_US;
	flow_wake_at(f, f->behind_us);
}

/* The socket of a leg that is not being read may have died. False: the flow ends. */
static bool
check_unread_leg(struct flow *f, enum side s)
{
	int err = socket_error(leg_fd(leg_of(f, s)));

	if (err == 0)
		return true;
	ending_on_error(f, s, err);
	return false;
}

/*
 * Connection tracking forgets a half-closed connection sooner than an open one
 * (Linux: after 60 s), so its first probe must not wait longer than that.
 */
void
flow_half_closed(struct flow *f)
{
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (leg_settings(f, s)->keepalive_idle_s > HALF_CLOSED_IDLE_S)
			socket_set_keepalive_idle(leg_fd(leg_of(f, s)), HALF_CLOSED_IDLE_S);
}

static void
look_behind(struct flow *f)
{
	f->behind_us = 0;
	if (!f->kept && f->backend.family != AF_UNIX)
		(void)socket_keep_alive(leg_fd(leg_of(f, BACKEND)), leg_settings(f, BACKEND));
	if (!f->kept && (leg_of(f, CLIENT)->fin || leg_of(f, BACKEND)->fin))
		flow_half_closed(f);
	f->kept = true;
	for (enum side s = CLIENT; s <= BACKEND && f->state == FLOW_OPEN; s++) {
		struct leg *l = leg_of(f, s);
		const int more = l->read_short && !l->readable && !l->fin ? socket_has_more(leg_fd(l)) : 0;

		l->read_short = false;
		if (more < 0) {
			ending_on_error(f, s, -more);
		} else if (more > 0) {
			l->readable = true;
			pump(f, s);
		}
	}
}

static void
event_while_open(struct flow *f, enum side s, short what)
{
	const struct leg *l = leg_of(f, s), *to = leg_of(f, side_other(s));

	if ((what & EV_WRITE) && l->backlog != NULL) {
		switch (backlog_drain(f, s)) {
		case DRAINED_ERROR:
			ending_on_error(f, s, errno);
			return;
		case DRAINED_ALL:
			pump(f, side_other(s));	/* also passes on a FIN that waited */
			break;
		case DRAINED_PART:
			break;
		}
	}
	if (f->state != FLOW_OPEN)
		return;
	if ((what & EV_READ) && (l->fin || to->backlog != NULL) && !check_unread_leg(f, s))
		return;
	pump(f, s);
}

/*
 * A FIN alone does not say that the client has gone: it may have closed its half
 * and wait for what the server says. But in most protocols nobody is served who
 * has not said a word. A UNIX socket tells when both halves are closed.
 */
bool
flow_client_is_gone(struct flow *f, unsigned news)
{
	const int fd = leg_fd(leg_of(f, CLIENT));
	const bool is_unix = f->client.family == AF_UNIX, speaks = f->route->codec != NULL && f->route->codec->client_speaks;
	const int err = (news & SOCKET_DEAD) ? socket_error(fd) : 0;

	leg_of(f, CLIENT)->urgent |= f->route->urgent && (news & SOCKET_URGENT);	/* it came before its signal was watched for */
	if (err != 0)
		ending_before_open(f, reason_from_errno(CLIENT, err, fd, false));
	else if (((speaks && (news & SOCKET_FIN)) || (is_unix && (news & SOCKET_DEAD))) && socket_unread(fd) == 0)
		ending_unwanted(f);
	return f->state != FLOW_CONNECTING;
}

static void
event_while_connecting(struct flow *f, enum side s, short what)
{
	if (s == BACKEND)
		dial_event(f, what & EV_READ);
	else if (what & EV_READ)
		(void)flow_client_is_gone(f, socket_look(leg_fd(leg_of(f, CLIENT))));
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct leg *l = arg;
	struct flow *f = flow_of(l);

	(void)fd;
	if (what & EV_CLOSED)
		l->hup = true;
	if (what & (EV_READ | EV_CLOSED))
		l->readable = true;
	if (f->state == FLOW_OPEN)
		event_while_open(f, l->side, what);
	else if (f->state == FLOW_CONNECTING)
		event_while_connecting(f, l->side, what);
	else if (f->state == FLOW_ENDING)
		ending_progress(f, clock_us());
}

void
flow_opened(struct flow *f)
{
	char client[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];
	int64_t now = clock_us();

	f->state = FLOW_OPEN;
	for (enum side s = CLIENT; s <= BACKEND; s++)
		leg_of(f, s)->rx_us = leg_of(f, s)->tx_us = now;
	if (log_wants(LEVEL_DEBUG))
		log_event(LEVEL_DEBUG, "flow start", (struct log_field[]){
		    LOG_INT("id", f->id),
		    LOG_TEXT("route", f->route->name),
		    LOG_TEXT("client", address_text(&f->client, client)),
		    LOG_TEXT("backend", address_text(&f->backend, backend)),
		}, 4);
	if (f->route->codec != NULL && vital_open(f, now) != 0) {
		ending_by_force(f, REASON_MEMORY);
		return;
	}
	f->behind_us = now + BEHIND_US;		/* the backend's keepalive is set then, if the flow lives so long */
	flow_set_timer(f, now);
	if (f->state == FLOW_OPEN)
		pump(f, CLIENT);
	if (f->state == FLOW_OPEN)
		pump(f, BACKEND);
}

void
flow_wake_at(struct flow *f, int64_t at_us)
{
	if (f->timer.slot != 0 && f->timer.at_us <= at_us)
		return;
	if (timer_arm(f->relay->timers, &f->timer, at_us) == 0)
		return;
	f->doomed = true;	/* not at once: whoever calls is in the middle of something */
	flow_again(f);
}

/*
 * TCP_USER_TIMEOUT ends a connection whose peer keeps its window shut for so
 * long, even one that acknowledges every window probe: the kernel counts from
 * the first probe. A reader that pauses is not dead. So while a window is
 * shut the timeout is off, and the same is judged here: unanswered probes
 * and no acknowledgement for so long. Returns when to look again;
 * INT64_MAX: all that was written has been acknowledged.
 */
static int64_t
watch_stall(struct flow *f, enum side s, int64_t now_us)
{
	const int64_t timeout_us = leg_settings(f, s)->user_timeout_ms * US_PER_MS;
	struct leg *l = leg_of(f, s);
	struct socket_facts facts;
	bool shut;

	if (timeout_us == 0 || l->dead)
		return INT64_MAX;
	socket_facts(leg_fd(l), &facts);
	if (!facts.is_tcp)
		return INT64_MAX;
	shut = facts.unsent > 0 && facts.unacked == 0;
	if (shut != l->stalled) {
		l->stalled = shut;
		socket_set_user_timeout(leg_fd(l), shut ? 0 : leg_settings(f, s)->user_timeout_ms);
	}
	if (shut && facts.probes >= 2 && facts.last_ack_ms * (int64_t)US_PER_MS >= timeout_us) {
		ending_on_death(f, s, reason_on_side(REASON_CLIENT_USER_TIMEOUT, s));
		return INT64_MAX;
	}
	if (facts.unsent == 0 && facts.unacked == 0)
		return INT64_MAX;
	return now_us + (timeout_us / 4 < STALL_LOOK_MOST_US ? timeout_us / 4 : STALL_LOOK_MOST_US);
}

/* Looks at the legs' queues at that time, at the latest. */
static void
flow_watch(struct flow *f, int64_t at_us)
{
	if (at_us != INT64_MAX && (f->watch_us == 0 || at_us < f->watch_us))
		f->watch_us = at_us;
}

/* When side s has been idle too long; INT64_MAX: never. */
static int64_t
idle_at(struct flow *f, enum side s)
{
	const int64_t idle_ms = leg_settings(f, s)->idle_timeout_ms;

	return idle_ms == 0 ? INT64_MAX : vital_app_us(f, s) + idle_ms * US_PER_MS;
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Does what is due on an open flow; returns when to look again. */
static int64_t
tick_open(struct flow *f, int64_t now_us)
{
	int64_t at = INT64_MAX, watch_us = f->watch_us;

	if (f->behind_us != 0 && f->behind_us <= now_us)
		look_behind(f);
	if (watch_us != 0 && watch_us <= now_us)
		f->watch_us = 0;	/* unless a leg below, or a write, sets it again */
	for (enum side s = CLIENT; s <= BACKEND && f->state == FLOW_OPEN; s++) {
		if (idle_at(f, s) <= now_us) {
			ending_by_force(f, reason_on_side(REASON_CLIENT_IDLE, s));
			return INT64_MAX;
		}
		at = earlier(at, idle_at(f, s));
		if (watch_us != 0 && watch_us <= now_us)
			flow_watch(f, watch_stall(f, s, now_us));
	}
	if (f->watch_us != 0)
		at = earlier(at, f->watch_us);
	if (f->behind_us != 0)
		at = earlier(at, f->behind_us);
	if (f->state == FLOW_OPEN && f->vital != NULL)
		at = earlier(at, vital_tick(f, now_us));
	return at;
}

void
flow_set_timer(struct flow *f, int64_t now_us)
{
	int64_t at = INT64_MAX;

	switch (f->state) {
	case FLOW_CONNECTING:
		at = dial_tick(f, now_us);
		break;
	case FLOW_OPEN:
		at = tick_open(f, now_us);
		break;
	case FLOW_ENDING:
		at = ending_tick(f, now_us);
		break;
	}
	if (at != INT64_MAX && f->state != FLOW_ENDED)
		flow_wake_at(f, at > now_us ? at : now_us + US_PER_MS);
}

static void
on_timer(struct timer *t, int64_t now_us)
{
	flow_set_timer((struct flow *)(void *)((char *)t - offsetof(struct flow, timer)), now_us);
}

void
flow_describe(const struct flow *f, struct flow_info *info)
{
	const int64_t now = clock_us();

	*info = (struct flow_info){
		.flow = f,
		.id = f->id,
		.route = f->route,
		.client = f->client,
		.backend = f->backend,
		.backend_text = f->state == FLOW_CONNECTING ? NULL : f->route->backend[f->backend_index].text,
		.protocol = vital_protocol(f),
		.connecting = f->state == FLOW_CONNECTING,
		.age_ms = (now - f->began_us) / US_PER_MS,
	};
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const struct leg *l = &f->leg[s];
		const struct beat_leg *b = f->vital != NULL ? &f->vital->beat[s] : NULL;

		info->leg[s].bytes = l->bytes;
		info->leg[s].quiet_ms = info->leg[s].heard_ms = (now - l->rx_us) / US_PER_MS;
		info->leg[s].why_none = vital_why_none(f, s);
		info->leg[s].fin = l->fin;
		info->leg[s].dead = l->dead;
		info->leg[s].probes_max = (unsigned)leg_settings(f, s)->keepalive_probes;
		/* The end of a program closes its UNIX socket: there silence says nothing. */
		if ((s == CLIENT ? &f->client : &f->backend)->family != AF_UNIX)
			info->leg[s].vouch_ms = vital_vouch_us(f, s) / US_PER_MS;
		info->leg[s].rtt_us = info->leg[s].srtt_us = info->leg[s].worst_us = -1;
		if (b == NULL)
			continue;
		info->leg[s].misses = b->misses;
		info->leg[s].misses_max = leg_settings(f, s)->heartbeat_misses < 0 ? BEAT_MISSES_AUTO
		    : (unsigned)leg_settings(f, s)->heartbeat_misses;
		info->leg[s].asking = b->since_us != 0;
		info->leg[s].refused = b->refused;
		info->leg[s].beats = b->sent;
		info->leg[s].asks = b->asks;
		info->leg[s].answers = b->answered;
		if (b->worst_us > 0) {
			info->leg[s].rtt_us = b->rtt_us;
			info->leg[s].srtt_us = b->srtt_us;
			info->leg[s].worst_us = b->worst_us;
		}
	}
}

void
flow_info_ask(struct flow_info *info)
{
	const struct flow *f = info->flow;

	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const int fd = leg_fd(&f->leg[s]);
		struct socket_facts facts = { 0 };

		if (fd >= 0)
			socket_facts(fd, &facts);
		if (!facts.is_tcp)
			continue;
		if (f->relay->kernel_tells && facts.last_ack_ms < info->leg[s].heard_ms)
			info->leg[s].heard_ms = facts.last_ack_ms;
		/* One that went out just now has had no time to be answered; with bytes unsent they ask for the window. */
		if (facts.unsent == 0 && info->leg[s].heard_ms > (leg_settings(f, s)->keepalive_idle_s + 1) * INT64_C(1000))
			info->leg[s].probes = facts.probes;
		if (info->leg[s].rtt_us >= 0)
			continue;
		/*
		 * The acknowledgement of a single segment, as a heartbeat is one, is delayed: the kernel's average tells of that
		 * delay, its least does not, until it has seen nothing else for minutes.
		 */
		if (f->vital != NULL && f->vital->path_us[s] != 0)
			info->leg[s].rtt_us = f->vital->path_us[s];
		else if (facts.min_rtt_us != 0 && (info->leg[s].beats == 0 || f->vital == NULL))
			info->leg[s].rtt_us = facts.min_rtt_us;
	}
}
