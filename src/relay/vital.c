/*
 * vital.c - the codec and the heartbeats of a flow: the seam between the pump
 * (sockets), the beat engine (time) and the codec (protocol).
 *
 * Bytes go through the codec on their way; a beat goes out from the flow's
 * timer, never in the middle of that. Facts that cost a system call (is the
 * other side alive? is anything stuck?) are asked for only when a leg is due.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/socket.h"

#define ACK_DUE_US (5 * US_PER_S)	/* bytes that are not acknowledged by then raise doubt */
#define ACK_DELAY_MOST_MS 200		/* Linux waits no longer with an acknowledgement (TCP_DELACK_MAX) */
#define UNREAD_SHARE 3		/* of its widest window: a kernel tells of a window that is twice as wide again, so of one above this */
#define UNREAD_UNIX (64 * 1024)	/* bytes as the kernel counts them, some hundreds a heartbeat */
#define ACK_SLACK_US (20 * US_PER_MS)	/* TCP_INFO tells the time in ticks of the kernel */

/* The codec that knows the protocol: behind `auto`, the one it found. */
static const struct codec *
actual_codec(const struct vital *v)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): asked only while there is a codec */
	const struct codec *inner = v->codec->actual != NULL ? v->codec->actual(v->state) : NULL;

	return inner != NULL ? inner : v->codec;
}

/* The kind that `auto` means. A protocol of one's own (line) asks where its settings name an answer. */
static unsigned
preferred_kind(const struct flow *f, enum side s, const struct codec *codec)
{
	if (codec->leg[s].kind != 0)
		return codec->leg[s].kind;
	return f->route->codec_settings.beat_expect[s].len > 0 ? BEAT_ASK : BEAT_TELL;
}

static struct beat_policy
policy_of(const struct flow *f, enum side s)
{
	const struct leg_settings *leg = leg_settings(f, s);
	const struct codec *codec = actual_codec(f->vital);
	const int64_t interval_ms = leg->heartbeat_is_auto ? codec->leg[s].interval_ms : leg->heartbeat_ms;

	return (struct beat_policy){
		.interval_us = interval_ms * US_PER_MS,
		.timeout_us = leg->heartbeat_timeout_ms * US_PER_MS,
		.limit_us = leg->heartbeat_limit_ms * US_PER_MS,
		/* A protocol that was found (auto, an upgrade) may lack the kind altogether: then it has its own way. */
		.kind = leg->heartbeat_kind & codec->leg[s].kinds,
		.preferred = preferred_kind(f, s, codec),
		.misses = leg->heartbeat_misses < 0 ? BEAT_MISSES_AUTO : (unsigned)leg->heartbeat_misses,
	};
}

int
vital_open(struct flow *f, int64_t now_us)
{
	const struct codec *codec = f->route->codec;

	f->vital = calloc(1, sizeof(*f->vital) + codec->state_size);
	if (f->vital == NULL)
		return -ENOMEM;
	f->vital->codec = codec;
	codec->init(f->vital->state, &f->route->codec_settings);
	if (codec->seed != NULL)
		codec->seed(f->vital->state, (uint64_t)relay_random(f->relay) << 32 | relay_random(f->relay));
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		beat_init(&f->vital->beat[s], now_us, relay_random(f->relay));
		f->vital->app_us[s] = now_us;
	}
	return 0;
}

static uint64_t
emitted(const struct codec_out *out)
{
	uint64_t n = 0;

	for (size_t i = 0; i < out->n_spans; i++)
		n += out->spans[i].iov_len;
	return n;
}

static void
let_go(struct flow *f, enum side from, const struct codec_out *out)
{
	char client[ADDRESS_TEXT_MAX];

	counter_add(&f->relay->counters->codec_lost, 1);
	log_event(LEVEL_INFO, "codec let go", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("client", address_text(&f->client, client)),
	    LOG_TEXT("protocol", actual_codec(f->vital)->name),
	    LOG_TEXT("why", out->lost),
	    LOG_TEXT("from", side_name(from)),
	    LOG_INT("offset", f->leg[from].bytes + emitted(out) + out->early),
	}, 7);
	f->vital->codec = NULL;
	f->vital->lost = out->lost;
}

/* Ends what is on trial, without a verdict. */
static void
withdraw_trial(struct flow *f, enum side s)
{
	struct beat_leg *b = &f->vital->beat[s];

	for (unsigned kind = BEAT_TELL; kind <= BEAT_AHEAD; kind <<= 1)
		if ((b->trying & kind) != 0)
			trial_undecided(&relay_route(f)->trial[s], kind);
	b->trying = 0;
}

static void
withdraw_trials(struct flow *f)
{
	withdraw_trial(f, CLIENT);
	withdraw_trial(f, BACKEND);
}

void
vital_free(struct flow *f)
{
	if (f->vital != NULL)
		withdraw_trials(f);
	free(f->vital);
	f->vital = NULL;
}

static const char *
kind_name(unsigned kind)
{
	return kind == BEAT_ASK ? "ask" : kind == BEAT_TELL ? "tell" : "ahead";
}

/* The kind that a reaction is held against. */
static unsigned
kind_to_blame(const struct beat_leg *b)
{
	if (b->trying == 0 || (b->trying & b->last_kind) != 0)
		return b->last_kind;
	return (b->trying & BEAT_ASK) != 0 ? BEAT_ASK : b->trying;
}

/* Side s reacted to a heartbeat as no peer does that bears them. */
static void
refuse(struct flow *f, enum side s, const char *why)
{
	struct beat_leg *b = &f->vital->beat[s];
	struct trial *t = &relay_route(f)->trial[s];
	const unsigned kind = kind_to_blame(b);
	char client[ADDRESS_TEXT_MAX];
	bool is_off;

	if (b->refused || kind == 0)
		return;
	is_off = (b->trying & kind) != 0 ? trial_refused(t, kind) : trial_refused_later(t, kind);
	b->trying &= (uint8_t)~kind;
	withdraw_trial(f, s);
	beat_refused(b);
	counter_add(&f->relay->counters->refused[s], 1);
	log_event(LEVEL_INFO, "heartbeat refused", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("client", address_text(&f->client, client)),
	    LOG_TEXT("protocol", vital_protocol(f)),
	    LOG_TEXT("side", side_name(s)),
	    LOG_TEXT("kind", kind_name(kind)),
	    LOG_TEXT("why", why),
	}, 7);
	if (is_off)
		log_say(LEVEL_WARN, "route %s: heartbeats (%s) to the %s are off: too many flows reacted to their first one, the last "
		    "by: %s; all flows live by TCP probes. Set %s.heartbeat = off to say so, or try another %s.heartbeat_kind",
		    f->route->name, kind_name(kind), side_name(s), why, side_name(s), side_name(s));
}

/*
 * What side s does now may be its reaction to a heartbeat: the last one went out a moment ago, has had no reply, and
 * nothing of the other side has been sent to it since, nor has the other side ended.
 */
static bool
is_right_behind_heartbeat(const struct flow *f, enum side s, int64_t now_us)
{
	const struct beat_leg *b = &f->vital->beat[s];
	const struct beat_policy p = policy_of(f, s);

	if (b->sent == 0 || f->leg[s].shut || vital_said_goodbye(f, side_other(s)))
		return false;
	if (b->last_kind == BEAT_ASK && b->since_us == 0)
		return false;	/* it has replied: it bears them */
	return f->vital->app_us[side_other(s)] <= b->last_us &&
	    now_us - b->last_us <= beat_trial_us(&p, (b->borne & b->last_kind) != 0);
}

/* A pooler that had no server to lend for it may close a while later. Whoever is silent for longer than a reply takes may just be so. */
static bool
closes_on_first_ping(const struct flow *f, int64_t now_us)
{
	const struct beat_leg *b = &f->vital->beat[BACKEND];

	return (b->trying & BEAT_ASK) != 0 && b->since_us != 0 && now_us - b->since_us <= policy_of(f, BACKEND).timeout_us &&
	    f->vital->app_us[CLIENT] <= b->since_us && !f->leg[BACKEND].shut && !vital_said_goodbye(f, CLIENT);
}

void
vital_judge_end(struct flow *f, enum side s, int64_t now_us)
{
	if (f->vital == NULL || f->vital->codec == NULL || vital_said_goodbye(f, s))
		return;
	if (is_right_behind_heartbeat(f, s, now_us))
		refuse(f, s, "it closed right behind one");
	else if (s == BACKEND && closes_on_first_ping(f, now_us))
		refuse(f, s, "it closed instead of replying to its first one");
}

bool
vital_said_goodbye(const struct flow *f, enum side s)
{
	const struct vital *v = f->vital;

	return v != NULL && v->codec != NULL && v->codec->said_goodbye != NULL && v->codec->said_goodbye(v->state, s);
}

/*
 * Whatever ends this process while a FIN would make a part look whole (bytes
 * sent ahead are not covered, or a body ends with its connection alone), the
 * kernel resets that leg.
 */
void
vital_guard(struct flow *f, enum side to)
{
	struct leg *l = leg_of(f, to);
	const bool needs = vital_is_ahead(f, to) || vital_ends_at_fin(f, to);

	if (l->guarded == needs)
		return;
	l->guarded = needs;
	socket_set_reset_at_close(leg_fd(l), needs);
}

/*
 * Passes on what a codec let through. False: the flow has begun to end; it may
 * be at its end, with f->vital gone, and have used `out` again on the way.
 */
static bool
pass_on(struct flow *f, enum side from, const struct codec_out *out, int64_t now_us)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	const uint64_t n = emitted(out);

	if (out->answers > 0) {
		const unsigned borne = beat_answered(&f->vital->beat[from], out->answers, now_us);

		if (borne != 0)
			trial_borne(&relay_route(f)->trial[from], borne);
		counter_add(&f->relay->counters->answers[from], out->answers);
	}
	if (out->refused != NULL)
		refuse(f, from, out->refused);
	if (out->complaint != NULL && is_right_behind_heartbeat(f, from, now_us))
		refuse(f, from, out->complaint);
	if (n + out->early == 0)
		return true;
	l->bytes += n + out->early;
	counter_add(&f->relay->counters->bytes[from], n + out->early);
	f->vital->app_us[from] = now_us;
	if (!pump_write(f, side_other(from), out->spans, out->n_spans, now_us))
		return false;
	if (!to->guarded || to->backlog == NULL)
		vital_guard(f, side_other(from));
	return true;
}

/* Bytes that the codec saw, or need not see any more. */
static bool
pass_plain(struct flow *f, enum side from, const uint8_t *buf, size_t len, int64_t now_us)
{
	struct codec_out *out = &f->relay->out;

	codec_out_clear(out);
	codec_emit(out, buf, len);
	return pass_on(f, from, out, now_us);
}

static void
note(struct flow *f, const struct codec_out *out)
{
	if (out->note != NULL)
		log_event(LEVEL_INFO, "codec note", (struct log_field[]){
		    LOG_INT("id", f->id), LOG_TEXT("route", f->route->name), LOG_TEXT("note", out->note) }, 3);
}

/*
 * A codec that lets go is not asked again: nor while its last bytes are passed
 * on, which may fail and end the flow. False: the flow has ended, as what was
 * promised to a side will not come as promised, and only a reset is honest.
 */
static bool
settle_doubt(struct flow *f, enum side from, const struct codec_out *out)
{
	bool broken;

	if (out->lost == NULL)
		return true;
	broken = vital_is_ahead(f, CLIENT) || vital_is_ahead(f, BACKEND);
	if (is_right_behind_heartbeat(f, from, clock_us()))
		refuse(f, from, out->lost);
	withdraw_trials(f);
	let_go(f, from, out);
	if (broken)
		ending_by_force(f, reason_on_side(REASON_CLIENT_ERROR, from));
	return !broken;
}

/* Side `from` has spoken: a leg that waited for that has no timer of its own. */
static void
wake_held(struct flow *f, enum side from)
{
	struct beat_leg *b = &f->vital->beat[side_other(from)];
	struct beat_policy p;

	if (b->hold != BEAT_HOLD_LIMIT)
		return;
	p = policy_of(f, side_other(from));
	b->hold = BEAT_HOLD_NONE;
	flow_wake_at(f, leg_of(f, from)->rx_us + beat_gap_us(b, &p));
}

bool
vital_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len)
{
	struct vital *v = f->vital;
	struct codec_out *out = &f->relay->out;
	const int64_t now_us = leg_of(f, from)->rx_us;

	if (v->codec != NULL)
		wake_held(f, from);
	while (len > 0 && v->codec != NULL) {
		size_t used;

		codec_out_clear(out);
		used = v->codec->feed(v->state, from, buf, len, out);
		buf += used;
		len -= used;
		note(f, out);
		if (!settle_doubt(f, from, out) || !pass_on(f, from, out, now_us))
			return false;	/* v may be gone */
	}
	return len == 0 || pass_plain(f, from, buf, len, now_us);
}

bool
vital_finish(struct flow *f, enum side from)
{
	struct vital *v = f->vital;
	struct codec_out *out = &f->relay->out;

	if (v->codec == NULL || v->codec->finish == NULL)
		return true;
	codec_out_clear(out);
	v->codec->finish(v->state, from, out);
	return settle_doubt(f, from, out) && pass_on(f, from, out, clock_us());
}

uint64_t
vital_unseen(const struct flow *f, enum side from)
{
	const struct vital *v = f->vital;

	if (v->codec == NULL)
		return UINT64_MAX;
	return v->codec->unseen != NULL ? v->codec->unseen(v->state, from) : 0;
}

void
vital_skipped(struct flow *f, enum side from, uint64_t n)
{
	struct vital *v = f->vital;

	v->app_us[from] = leg_of(f, from)->rx_us;
	if (v->codec == NULL)
		return;
	wake_held(f, from);
	v->codec->skipped(v->state, from, n);
}

bool
vital_ends_at_fin(const struct flow *f, enum side to)
{
	const struct vital *v = f->vital;

	return v != NULL && v->codec != NULL && v->codec->ends_at_fin != NULL && !f->leg[to].shut &&
	    v->codec->ends_at_fin(v->state, to);
}

bool
vital_is_ahead(const struct flow *f, enum side to)
{
	const struct vital *v = f->vital;

	return v->codec != NULL && v->codec->is_ahead != NULL && v->codec->is_ahead(v->state, to);
}

int64_t
vital_app_us(const struct flow *f, enum side s)
{
	return f->vital != NULL ? f->vital->app_us[s] : f->leg[s].rx_us;
}

const char *
vital_protocol(const struct flow *f)
{
	return f->vital != NULL && f->vital->codec != NULL ? actual_codec(f->vital)->name : "tcp";
}

size_t
vital_farewell(struct flow *f, enum side to, enum side dead, uint8_t buf[CODEC_FAREWELL_MAX])
{
	struct vital *v = f->vital;
	const struct codec_obituary o = {
		.dead = dead,
		.reason = reason_text((enum close_reason)f->reason),
		.quiet_ms = (clock_us() - leg_of(f, dead)->rx_us) / US_PER_MS,
	};

	if (v == NULL || v->codec == NULL || v->codec->farewell == NULL || vital_is_ahead(f, to))
		return 0;
	return v->codec->farewell(v->state, to, &o, buf);
}

/* What was sent to side s a while ago has been heard of: heard_us is the last sign of it. */
static bool
has_answered(const struct leg *l, int64_t heard_us, int64_t now_us)
{
	return heard_us + ACK_SLACK_US >= l->tx_us || now_us - l->tx_us <= ACK_DUE_US;
}

static bool
leg_is_unix(const struct flow *f, enum side s)
{
	return (s == CLIENT ? &f->client : &f->backend)->family == AF_UNIX;
}

/*
 * Times that this kernel does not tell are zero, as is a moment just past. One
 * that is not zero shows that it tells them; until then zero is no sign of life.
 */
static bool
kernel_tells(struct relay *r, const struct socket_facts *facts)
{
	r->kernel_tells |= facts->last_ack_ms != 0 || facts->last_sent_ms != 0;
	return facts->is_tcp && r->kernel_tells;
}

int64_t
vital_vouch_us(const struct flow *f, enum side s)
{
	const struct leg_settings *leg = leg_settings(f, s);
	const bool beats = f->vital != NULL && f->vital->codec != NULL;

	return beat_vouch_us(leg->keepalive_idle_s * (int64_t)US_PER_S, leg->keepalive_interval_s * (int64_t)US_PER_S,
	    beats ? policy_of(f, s).interval_us : 0);
}

/*
 * Side s is vouched for by bytes, or by what the kernel heard: acknowledgements
 * of probes too. But not by an old sign, when bytes sent since have none.
 */
static bool
is_alive(struct flow *f, enum side s, int64_t now_us)
{
	const struct leg *l = &f->leg[s];
	const int64_t vouch_us = vital_vouch_us(f, s);
	struct socket_facts facts;
	int64_t heard_us = l->rx_us;

	if (l->dead)
		return false;
	if (now_us - heard_us <= vouch_us && has_answered(l, heard_us, now_us))
		return true;
	socket_facts(leg_fd(l), &facts);
	if (!facts.is_tcp && leg_is_unix(f, s))
		return true;		/* the end of its program would have closed it */
	if (kernel_tells(f->relay, &facts) && heard_us < now_us - facts.last_ack_ms * (int64_t)US_PER_MS)
		heard_us = now_us - facts.last_ack_ms * (int64_t)US_PER_MS;
	if (now_us - heard_us > vouch_us)
		return false;
	/* Behind a window that is shut bytes wait here: its reader pauses, and answers window probes in their own time. */
	return (facts.unsent > 0 && facts.unacked == 0) || has_answered(l, heard_us, now_us);
}

/*
 * Bytes in flight hold no reply back while the peer's kernel goes on acknowledging:
 * it may wait a moment with each, so there are nearly always some.
 */
static bool
acknowledges(struct relay *r, const struct socket_facts *facts)
{
	return kernel_tells(r, facts) && facts->retransmits == 0 && facts->last_ack_ms <= ACK_DELAY_MOST_MS;
}

/*
 * Heartbeats must not fill the buffer of a peer that does not read. What it
 * has not read narrows the window that its kernel offers; between UNIX
 * sockets it is counted as ours.
 */
static void
find_unread(struct flow *f, enum side s, const struct socket_facts *facts, struct beat_facts *ret)
{
	uint32_t *widest = &f->vital->window[s];

	if (!facts->is_tcp && leg_is_unix(f, s)) {
		ret->unread = socket_unacked(leg_fd(&f->leg[s])) > UNREAD_UNIX;
		return;
	}
	ret->blind = !kernel_tells(f->relay, facts) || facts->window == UINT32_MAX;
	if (ret->blind)
		return;
	if (facts->window > *widest)
		*widest = facts->window;
	ret->unread = facts->window < *widest / UNREAD_SHARE;
}

/* What is under way to side s, or cannot come from it. */
static void
find_traffic(struct flow *f, enum side s, struct beat_facts *ret)
{
	const struct leg *l = &f->leg[s];
	struct vital *v = f->vital;
	const struct beat_leg *b = &v->beat[s];
	struct socket_facts facts;

	/* While the other side does not take its bytes we do not read it. */
	ret->stuck = l->readable || f->leg[side_other(s)].backlog != NULL;
	if (l->backlog != NULL) {
		ret->busy = ret->stuck = true;
		return;
	}
	/* The last that came was its answer to a beat, and nothing was sent since: it has read all. */
	if (l->tx_us <= b->last_us && l->rx_us >= l->tx_us && f->vital->app_us[s] < l->rx_us)
		return;
	socket_facts(leg_fd(l), &facts);
	ret->busy = facts.unsent > 0 || (facts.unacked > 0 && facts.retransmits > 0);
	ret->stuck |= facts.unsent > 0 || (facts.unacked > 0 && !acknowledges(f->relay, &facts));
	find_unread(f, s, &facts, ret);
	if (facts.is_tcp && v->path_us[s] == 0)
		v->path_us[s] = facts.min_rtt_us;
}

/* False: the flow has begun to end. */
static bool
send_beat(struct flow *f, enum side s, enum beat_kind kind, int64_t now_us)
{
	struct vital *v = f->vital;
	uint8_t buf[CODEC_BEAT_MAX];
	const size_t n = v->codec->beat(v->state, s, kind, buf);

	beat_sent(&v->beat[s], kind, now_us, relay_random(f->relay));
	counter_add(&f->relay->counters->beats[s], 1);
	vital_guard(f, s);
	return pump_write(f, s, &(struct iovec){ buf, n }, 1, now_us);
}

/* An answer may still come from side s. */
static bool
is_owed(const struct flow *f, enum side s)
{
	const struct vital *v = f->vital;

	const bool asked = v->beat[s].since_us != 0;

	if (f->leg[s].fin)
		return false;
	return v->codec->owes != NULL ? v->codec->owes(v->state, s, asked) : asked;
}

/* Why a heartbeat that the engine would send is not: in words for the operator. */
static const char *
hold_text(const struct beat_leg *b)
{
	switch ((enum beat_hold)b->hold) {
	case BEAT_HOLD_UNREAD:
		return "it does not read";
	case BEAT_HOLD_OTHER:
		return "the other side gives no sign of life";
	case BEAT_HOLD_LIMIT:
		return "heartbeat_limit is over";
	case BEAT_HOLD_REFUSED:
		return "it refused one";
	case BEAT_HOLD_ROUTE:
		return "refused on this route";
	case BEAT_HOLD_TRIAL:
		return "other flows try first";
	case BEAT_HOLD_MUTE:
		return "it never replied";
	case BEAT_HOLD_MESSAGE:
		return "inside a message";
	default:
		return NULL;	/* bytes or a reply are under way: it is not unprotected */
	}
}

const char *
vital_why_none(const struct flow *f, enum side s)
{
	const struct vital *v = f->vital;
	const char *why = NULL;

	if (v == NULL)
		return "protocol = tcp";
	if (v->codec == NULL)
		return v->lost;
	if (v->beat[s].refused)
		return hold_text(&v->beat[s]);
	if (policy_of(f, s).interval_us == 0)
		return leg_settings(f, s)->heartbeat_is_auto ? "the protocol has none" : "heartbeat = off";
	if (f->leg[s].shut)
		return "half-closed";
	if (v->codec->why_none != NULL)
		why = v->codec->why_none(v->state, s);
	return why != NULL ? why : hold_text(&v->beat[s]);
}

/* A leg that stays without heartbeats is told of once a route and cause: the listing has it of each flow. */
static void
note_hold(const struct flow *f, enum side s)
{
	const char *why = vital_why_none(f, s);
	const bool is_state = f->vital->beat[s].hold == BEAT_HOLD_STATE;	/* then the codec says why */

	if (why == NULL || f->vital->beat[s].hold == BEAT_HOLD_TRIAL || !relay_say_once(f, why))
		return;
	log_event(LEVEL_INFO, is_state ? "codec note" : "no heartbeats", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("protocol", vital_protocol(f)),
	    LOG_TEXT("side", side_name(s)),
	    LOG_TEXT(is_state ? "note" : "why", why),
	}, 5);
}

static void
note_miss(const struct flow *f, enum side s, const struct beat_policy *p)
{
	char client[ADDRESS_TEXT_MAX];

	log_event(LEVEL_INFO, "heartbeat missed", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("client", address_text(&f->client, client)),
	    LOG_TEXT("side", side_name(s)),
	    LOG_INT("misses", f->vital->beat[s].misses),
	    LOG_INT("of", p->misses),
	}, 6);
}

static void
note_mute(const struct flow *f, enum side s)
{
	if (relay_say_once(f, s == CLIENT ? "mute client" : "mute backend"))
		log_say(LEVEL_INFO, "route %s: the %s of flow %llu has never replied to a heartbeat: it is asked no more, nor given "
		    "up for it, and told instead where the protocol can; said once a route", f->route->name, side_name(s),
		    (unsigned long long)f->id);
}

/* The first heartbeat of a kind on this flow: it waits while enough other flows try it. */
static bool
may_try(struct flow *f, enum side s, unsigned kind)
{
	const struct beat_leg *b = &f->vital->beat[s];

	if (((b->borne | b->trying) & kind) != 0)
		return true;
	if (kind != BEAT_ASK && (b->trying & ~(unsigned)BEAT_ASK) != 0)
		return false;
	return trial_begin(&relay_route(f)->trial[s], kind);
}

/* While pings of other flows wait for their replies this one is told, where the protocol can. 0: it waits as well. */
static unsigned
kind_to_send(struct flow *f, enum side s, const struct beat_policy *p, unsigned kind, unsigned legal)
{
	if (may_try(f, s, kind))
		return kind;
	return kind == BEAT_ASK && p->kind == 0 && (legal & BEAT_TELL) != 0 && may_try(f, s, BEAT_TELL) ? BEAT_TELL : 0;
}

static void
gather_facts(struct flow *f, enum side s, unsigned legal, int64_t now_us, struct beat_facts *ret)
{
	const struct vital *v = f->vital;
	const unsigned allowed = trial_allowed(&relay_route(f)->trial[s], legal);

	ret->route_allows = allowed != 0;
	ret->legal = allowed != 0 ? allowed : legal;
	find_traffic(f, s, ret);
	ret->may_wait = v->codec->may_wait != NULL && v->codec->may_wait(v->state, s);
	ret->listens = v->codec->listens != NULL && v->codec->listens(v->state, s);
	ret->other_alive = is_alive(f, side_other(s), now_us);
	ret->other_app_us = leg_of(f, side_other(s))->rx_us;
	ret->rx_us = leg_of(f, s)->rx_us;
	ret->tx_us = leg_of(f, s)->tx_us;
}

static int64_t
due_us(const struct flow *f, enum side s, const struct beat_policy *p)
{
	return beat_due_us(&f->vital->beat[s], p, f->leg[s].rx_us, f->leg[s].tx_us);
}

/* Looks at one leg; returns when to look again. */
static int64_t
tick_leg(struct flow *f, enum side s, int64_t now_us)
{
	const struct beat_policy p = policy_of(f, s);
	struct vital *v = f->vital;
	struct beat_leg *b = &v->beat[s];
	struct leg *l = leg_of(f, s);
	struct beat_facts facts = { 0 };
	const unsigned borne = beat_settle_trial(b, &p, now_us);
	struct beat_outcome o;
	unsigned legal;

	if (borne != 0)
		trial_borne(&relay_route(f)->trial[s], borne);
	if (beat_drop_ask(b, &p, l->rx_us, now_us))
		trial_undecided(&relay_route(f)->trial[s], BEAT_ASK);
	if (l->shut)
		return INT64_MAX;
	if (due_us(f, s, &p) > now_us)
		return due_us(f, s, &p);
	legal = v->codec->may_beat(v->state, s);
	facts.owed = is_owed(f, s);
	if (l->fin)
		legal &= ~(unsigned)BEAT_ASK;	/* it can answer no more */
	if (beat_is_hopeless(b, legal, facts.owed)) {
		b->hold = BEAT_HOLD_STATE;
		note_hold(f, s);
		return beat_hopeless_us(&p, now_us);
	}
	gather_facts(f, s, legal, now_us, &facts);
	o = beat_decide(b, &p, &facts, now_us);
	if (o.missed && b->misses == 1)
		note_miss(f, s, &p);
	if (o.went_mute)
		note_mute(f, s);
	if (o.verdict == BEAT_DEAD) {
		ending_on_death(f, s, reason_on_side(REASON_CLIENT_BEAT_TIMEOUT, s));
		return INT64_MAX;
	}
	if (o.verdict == BEAT_SEND) {
		o.kind = kind_to_send(f, s, &p, o.kind, facts.legal);
		if (o.kind != 0)
			return send_beat(f, s, (enum beat_kind)o.kind, now_us) ? due_us(f, s, &p) : INT64_MAX;
		b->hold = BEAT_HOLD_TRIAL;
		return beat_again_us(b, &p, now_us);
	}
	note_hold(f, s);
	return o.again_us;
}

int64_t
vital_tick(struct flow *f, int64_t now_us)
{
	int64_t at = INT64_MAX;

	for (enum side s = CLIENT; s <= BACKEND; s++) {
		int64_t again = INT64_MAX;

		/* The other leg's death may have ended the flow, and freed its vital, just now. */
		if (f->state == FLOW_OPEN && f->vital->codec != NULL)
			again = tick_leg(f, s, now_us);
		at = again < at ? again : at;
	}
	return at;
}
