/*
 * sample_flow.c - see sample_flow.h. Each flow is used once: the question at its end is traffic.
 *
 * How to learn whether a flow is remembered: with a protocol, by a heartbeat, whose bytes are retransmitted until they
 * are acknowledged (or replied to, by a server that replies). A firewall that counts payload alone is asked the right
 * question by that. Without a protocol nothing may be sent, so TCP's own probe asks: TCP_KEEPIDLE is lowered to 1 s,
 * which makes the kernel send one at once (it counts from the last packet received), and TCP_INFO tells when the last
 * acknowledgement came. A machine that takes up unknown flows in their middle (loose pickup of Linux connection
 * tracking) answers both as if it had remembered: it does not forget for practical purposes.
 *
 * All flows have keepalive on, those that send none with an idle time that never passes: turning it on only at the end
 * would wait for a whole idle time first.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "doctor/sample_flow.h"
#include "stent/clock.h"
#include "stent/promise.h"
#include "stent/socket.h"

#define NEVER_S 32767		/* the largest TCP_KEEPIDLE */
#define PROBES_MAX 127		/* the largest TCP_KEEPCNT: the kernel gives no flow up before us */
#define SETTLE_MS 300		/* a server that speaks first has spoken */
#define POLL_MS 40
#define SLACK_US (20 * US_PER_MS)	/* TCP_INFO counts in ticks of the kernel */

struct sample_flow {
	const struct course *course;
	enum method method;
	int64_t quiet_ms;
	void (*done)(void *arg, const struct fate *fate);
	void *arg;
	int fd;
	struct event *io, *timer;
	enum stage stage;
	int64_t connected_us, stage_us;	/* when it was connected; when the stage began */
	int64_t received_us;		/* when bytes came last, or it was connected: the path counts from there */
	int64_t heartbeat_us;		/* when the last went out */
	unsigned replies;
	bool restarted;			/* the quiet time, because the server spoke */
	bool was_disturbed;		/* packets came in it: those of the server's own probes, too */
	uint32_t segments_in;		/* received when it began */
	enum heartbeat_kind asked_by;	/* 0: by a probe */
	struct fate fate;
	const struct codec *codec;	/* NULL: none, or it has become passthrough */
	struct codec_out out;
	_Alignas(max_align_t) uint8_t state[CODEC_STATE_MAX];
};

static void
arm(struct sample_flow *f, int64_t us)
{
	const struct timeval t = { .tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S };

	(void)evtimer_add(f->timer, us > 0 ? &t : &(struct timeval){ 0 });
}

void
sample_flow_free(struct sample_flow *f)
{
	if (f == NULL)
		return;
	if (f->io != NULL)
		event_free(f->io);
	if (f->timer != NULL)
		event_free(f->timer);
	if (f->fd >= 0 && f->fate.outcome == OUTCOME_SURVIVED)
		close(f->fd);
	else if (f->fd >= 0)
		socket_reset(f->fd);	/* a FIN would be retransmitted into nowhere */
	free(f);
}

/* The owner may free the flow within this: nothing may follow. */
static void
end(struct sample_flow *f, enum outcome outcome, int error, int64_t now_us)
{
	if (outcome == OUTCOME_SURVIVED && f->was_disturbed) {
		f->fate.has_spoken = true;
		outcome = OUTCOME_UNUSED;
	}
	f->fate.outcome = outcome;
	f->fate.stage = f->stage;
	f->fate.error = error;
	if (f->connected_us > 0)
		f->fate.lived_ms = (now_us - f->connected_us) / US_PER_MS;
	if (f->stage == STAGE_QUIET && outcome != OUTCOME_SURVIVED) {
		f->fate.ended_ms = (now_us - f->stage_us) / US_PER_MS;
		if (f->fate.ended_ms == 0)
			f->fate.ended_ms = 1;
	}
	if (f->io != NULL)
		(void)event_del(f->io);
	(void)event_del(f->timer);
	f->done(f->arg, &f->fate);
}

static uint32_t
segments_in(const struct sample_flow *f)
{
	struct socket_facts facts;

	socket_facts(f->fd, &facts);
	return facts.segments_in;
}

static void
enter(struct sample_flow *f, enum stage stage, int64_t now_us)
{
	if (stage == STAGE_QUIET)
		f->segments_in = segments_in(f);
	else if (stage == STAGE_ASKING && f->method == METHOD_QUIET && f->quiet_ms > SETTLE_MS)
		f->was_disturbed = segments_in(f) != f->segments_in;
	f->stage = stage;
	f->stage_us = now_us;
}

/* False: the codec has violated a promise, so it is not used any more. */
static bool
codec_is_sound(struct sample_flow *f)
{
	if (!promise_is_broken())
		return true;
	(void)promise_take();
	f->codec = NULL;
	return false;
}

static unsigned
kinds_now(struct sample_flow *f)
{
	const unsigned kinds = f->codec != NULL ? f->codec->may_heartbeat(f->state, BACKEND) : 0;

	return codec_is_sound(f) ? kinds : 0;
}

/* Sends a heartbeat, a ping where one is legal. 0 or an errno; *kind: 0 if none is legal now. */
static int
send_heartbeat(struct sample_flow *f, enum heartbeat_kind *kind, int64_t now_us)
{
	uint8_t buf[CODEC_HEARTBEAT_MAX];
	const unsigned kinds = kinds_now(f);
	size_t len;

	*kind = kinds & HEARTBEAT_PING ? HEARTBEAT_PING : kinds & HEARTBEAT_ONEWAY ? HEARTBEAT_ONEWAY : 0;
	if (*kind == 0)
		return 0;
	len = f->codec->heartbeat(f->state, BACKEND, *kind, buf);
	if (!codec_is_sound(f))
		return EPROTO;
	f->heartbeat_us = now_us;
	if (send(f->fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len)
		return 0;
	return errno;	/* so few bytes of a buffer that is empty fit, or the socket has failed */
}

/* What an error of the socket means for the flow. */
static void
fail(struct sample_flow *f, int err, int64_t now_us)
{
	if (f->stage < STAGE_QUIET)
		end(f, OUTCOME_UNUSED, err, now_us);
	else if (err == ETIMEDOUT)
		end(f, OUTCOME_SILENT, err, now_us);
	else if (f->stage == STAGE_QUIET && f->method == METHOD_QUIET)
		end(f, OUTCOME_RESET, err, now_us);
	else
		end(f, OUTCOME_REJECTED, err, now_us);	/* a packet of ours caused it */
}

static bool
is_answered(const struct sample_flow *f, int64_t now_us)
{
	struct socket_facts facts;

	if (f->asked_by == HEARTBEAT_PING && f->replies > 0)
		return true;
	if (f->asked_by == HEARTBEAT_PING && f->course->needs_reply)
		return false;
	if (f->asked_by != 0)
		return socket_unacked(f->fd) == 0;
	socket_facts(f->fd, &facts);
	return (int64_t)facts.last_ack_ms * US_PER_MS <= now_us - f->stage_us + SLACK_US;
}

/* Before it is known whether a server replies, a reply is waited for. */
static bool
may_still_reply(const struct sample_flow *f, int64_t waited_us)
{
	return f->asked_by == HEARTBEAT_PING && f->replies == 0 && waited_us < f->course->patience_ms * US_PER_MS;
}

static void
look(struct sample_flow *f, int64_t now_us)
{
	const int64_t waited_us = now_us - f->stage_us;
	struct socket_facts facts;

	if (is_answered(f, now_us) && !may_still_reply(f, waited_us)) {
		socket_facts(f->fd, &facts);
		f->fate.round_trip_us = facts.rtt_us;
		f->fate.is_replied = f->asked_by == HEARTBEAT_PING && f->replies > 0;
		end(f, OUTCOME_SURVIVED, 0, now_us);
	} else if (waited_us >= f->course->patience_ms * US_PER_MS) {
		end(f, OUTCOME_SILENT, 0, now_us);
	} else {
		arm(f, POLL_MS * US_PER_MS);
	}
}

static void
ask(struct sample_flow *f, int64_t now_us)
{
	int err;

	enter(f, STAGE_ASKING, now_us);
	f->replies = 0;
	err = send_heartbeat(f, &f->asked_by, now_us);
	if (err != 0) {
		fail(f, err, now_us);
		return;
	}
	if (f->asked_by == 0 && f->course->codec != NULL) {
		end(f, OUTCOME_UNUSED, EPROTO, now_us);
		return;
	}
	if (f->asked_by == 0)
		socket_set_keepalive_idle(f->fd, 1);
	arm(f, POLL_MS * US_PER_MS / 4);
}

/* Quiet, but for what the method sends. */
static void
stay_quiet(struct sample_flow *f, int64_t now_us)
{
	const int64_t end_us = f->stage_us + f->quiet_ms * US_PER_MS, interval_us = (int64_t)f->course->interval_s * US_PER_S;
	enum heartbeat_kind kind;
	int64_t next_us = end_us;
	int err;

	if (now_us >= end_us) {
		ask(f, now_us);
		return;
	}
	if (f->method == METHOD_HEARTBEATS) {
		/* None behind bytes that were not acknowledged: TCP retransmits those. */
		if (now_us >= f->heartbeat_us + interval_us && socket_unacked(f->fd) == 0) {
			err = send_heartbeat(f, &kind, now_us);
			if (err != 0) {
				fail(f, err, now_us);
				return;
			}
			f->heartbeat_us = now_us;
		}
		next_us = f->heartbeat_us + interval_us;
		if (next_us <= now_us)
			next_us = now_us + POLL_MS * US_PER_MS;
		if (next_us > end_us)
			next_us = end_us;
	}
	arm(f, next_us - now_us);
}

static void
begin_quiet(struct sample_flow *f, int64_t now_us)
{
	const int seconds = f->method == METHOD_PROBES ? f->course->interval_s : NEVER_S;
	const struct keepalive keepalive = { .idle_s = seconds, .interval_s = f->course->interval_s, .probes = PROBES_MAX };
	const int r = socket_keep_alive(f->fd, &keepalive);

	if (r != 0) {
		end(f, OUTCOME_UNUSED, -r, now_us);
		return;
	}
	enter(f, STAGE_QUIET, f->received_us);
	f->heartbeat_us = now_us;
	stay_quiet(f, now_us);
}

/* The codec sees both directions, as in a relay. True: it follows still. */
static bool
feed(struct sample_flow *f, enum side from, const uint8_t *buf, size_t len, size_t *emitted)
{
	*emitted = 0;
	while (len > 0 && f->codec != NULL) {
		size_t n;

		codec_out_clear(&f->out);
		n = f->codec->feed(f->state, from, buf, len, &f->out);
		if (!codec_is_sound(f))
			break;
		f->replies += f->out.replies;
		*emitted += codec_emitted(&f->out);
		f->codec = f->out.passthrough != NULL || f->out.ends != NULL ? NULL : codec_next(f->codec, f->state);
		buf += n;
		len -= n;
	}
	*emitted += len;
	return f->codec != NULL;
}

static void
begin_opening(struct sample_flow *f, int64_t now_us)
{
	const struct course *c = f->course;
	size_t len = c->request != NULL ? strlen(c->request) : 0, emitted;

	f->connected_us = f->received_us = now_us;
	enter(f, STAGE_OPENING, now_us);
	if (len > 0) {
		feed(f, CLIENT, (const uint8_t *)c->request, len, &emitted);
		if (send(f->fd, c->request, len, MSG_NOSIGNAL) != (ssize_t)len) {
			end(f, OUTCOME_UNUSED, errno, now_us);
			return;
		}
		arm(f, c->connect_ms * US_PER_MS);
	} else {
		arm(f, SETTLE_MS * US_PER_MS);
	}
}

static void
keep_said(struct sample_flow *f, const uint8_t *buf, size_t len)
{
	const size_t room = SAID_MAX - 1 - f->fate.said_len;

	if (f->stage > STAGE_OPENING)
		return;
	len = len < room ? len : room;
	memcpy(f->fate.said + f->fate.said_len, buf, len);
	f->fate.said_len += len;
}

/* Bytes of the server's own, which are no reply to a heartbeat. */
static void
on_bytes(struct sample_flow *f, int64_t now_us)
{
	if (f->stage == STAGE_OPENING && f->course->request == NULL) {
		arm(f, SETTLE_MS * US_PER_MS);
	} else if (f->stage == STAGE_OPENING && kinds_now(f) != 0) {
		arm(f, SETTLE_MS * US_PER_MS);	/* for what else it says, and the delayed acknowledgement */
	} else if (f->stage == STAGE_OPENING && f->codec == NULL) {
		end(f, OUTCOME_UNUSED, 0, now_us);
	} else if (f->stage == STAGE_QUIET && f->restarted) {
		f->fate.has_spoken = true;
		end(f, OUTCOME_UNUSED, 0, now_us);
	} else if (f->stage == STAGE_QUIET) {
		f->restarted = true;
		enter(f, STAGE_QUIET, now_us);
		stay_quiet(f, now_us);
	}
}

static void
on_fin(struct sample_flow *f, int64_t now_us)
{
	if (f->stage < STAGE_QUIET)
		end(f, OUTCOME_UNUSED, 0, now_us);
	else if (f->stage == STAGE_QUIET)
		end(f, OUTCOME_FIN, 0, now_us);
	else
		end(f, OUTCOME_SURVIVED, 0, now_us);	/* it came through */
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct sample_flow *f = arg;
	const int64_t now_us = clock_us();
	uint8_t buf[4096];
	size_t emitted;
	ssize_t n;

	(void)what;
	if (f->stage == STAGE_CONNECTING) {
		const int err = socket_error(fd);

		if (err != 0) {
			end(f, OUTCOME_UNUSED, err, now_us);
			return;
		}
		event_free(f->io);
		f->io = event_new(f->course->base, fd, EV_READ | EV_PERSIST, on_event, f);
		if (f->io == NULL || event_add(f->io, NULL) != 0)
			end(f, OUTCOME_UNUSED, ENOMEM, now_us);
		else
			begin_opening(f, now_us);
		return;
	}
	n = recv(fd, buf, sizeof(buf), 0);
	if (n > 0) {
		f->received_us = now_us;
		keep_said(f, buf, (size_t)n);
		(void)feed(f, BACKEND, buf, (size_t)n, &emitted);
		if (f->stage == STAGE_ASKING)
			look(f, now_us);
		else if (emitted > 0)
			on_bytes(f, now_us);
	} else if (n == 0) {
		on_fin(f, now_us);
	} else if (errno != EAGAIN && errno != EINTR) {
		fail(f, errno, now_us);
	}
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sample_flow *f = arg;
	const int64_t now_us = clock_us();

	(void)fd;
	(void)what;
	if (f->stage >= STAGE_QUIET && (socket_look(f->fd) & (SOCKET_DEAD | SOCKET_FIN)) != 0)
		on_event(f->fd, EV_READ, f);	/* its end comes before what it would be asked */
	else if (f->stage == STAGE_CONNECTING)
		end(f, OUTCOME_UNUSED, f->fate.error != 0 ? f->fate.error : ETIMEDOUT, now_us);
	else if (f->stage == STAGE_OPENING && f->course->codec != NULL && kinds_now(f) == 0)
		end(f, OUTCOME_UNUSED, 0, now_us);
	else if (f->stage == STAGE_OPENING)
		begin_quiet(f, now_us);
	else if (f->stage == STAGE_QUIET)
		stay_quiet(f, now_us);
	else
		look(f, now_us);
}

/* The first steps of a codec, as a session of the relay takes them. */
static void
open_codec(struct sample_flow *f)
{
	uint64_t random = 0;

	f->codec = f->course->codec;
	if (f->codec == NULL)
		return;
	(void)f->codec->configure(f->state, f->course->settings);
	(void)getrandom(&random, sizeof(random), GRND_NONBLOCK);	/* only to tell replies apart */
	if (f->codec->seed != NULL)
		f->codec->seed(f->state, random);
}

struct sample_flow *
sample_flow_new(const struct course *course, enum method method, int64_t quiet_ms,
    void (*done)(void *arg, const struct fate *fate), void *arg)
{
	struct sample_flow *f = calloc(1, sizeof(*f));
	struct address local;

	if (f == NULL)
		return NULL;
	f->course = course;
	f->method = method;
	f->quiet_ms = quiet_ms;
	f->done = done;
	f->arg = arg;
	f->fate.outcome = OUTCOME_UNUSED;
	open_codec(f);
	f->fd = socket_connect((const struct sockaddr *)&course->addr, course->addr_len, 0, &local);
	f->fate.error = f->fd < 0 ? -f->fd : 0;
	f->timer = evtimer_new(course->base, on_timer, f);
	if (f->timer != NULL && f->fd >= 0)
		f->io = event_new(course->base, f->fd, EV_WRITE, on_event, f);
	if (f->timer == NULL || (f->fd >= 0 && (f->io == NULL || event_add(f->io, NULL) != 0))) {
		sample_flow_free(f);
		return NULL;
	}
	arm(f, f->fd < 0 ? 0 : course->connect_ms * US_PER_MS);
	return f;
}
