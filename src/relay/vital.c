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

#include "relay/flow.h"
#include "stent/log.h"
#include "stent/socket.h"

#define MISSES_AUTO 3

/* The codec that knows the protocol: behind `auto`, the one it found. */
static const struct codec *
actual_codec(const struct vital *v)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): asked only while there is a codec */
	const struct codec *inner = v->codec->actual != NULL ? v->codec->actual(v->state) : NULL;

	return inner != NULL ? inner : v->codec;
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
		.kind = leg->heartbeat_kind,
		.preferred = codec->leg[s].kind,
		.misses = leg->heartbeat_misses < 0 ? MISSES_AUTO : (unsigned)leg->heartbeat_misses,
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
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const struct beat_policy p = policy_of(f, s);

		beat_init(&f->vital->beat[s], &p, now_us, relay_random(f->relay));
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
	    LOG_INT("offset", f->leg[from].bytes + emitted(out)),
	}, 7);
	f->vital->codec = NULL;
}

/*
 * Passes on what a codec let through. False: the flow has begun to end; it may
 * be at its end, with f->vital gone, and have used `out` again on the way.
 */
static bool
pass_on(struct flow *f, enum side from, const struct codec_out *out, int64_t now_us)
{
	struct leg *l = leg_of(f, from);
	const uint64_t n = emitted(out);

	if (out->answers > 0) {
		beat_answered(&f->vital->beat[from], out->answers, now_us);
		counter_add(&f->relay->counters->answers[from], out->answers);
	}
	if (n == 0)
		return true;
	l->bytes += n;
	counter_add(&f->relay->counters->bytes[from], n);
	f->vital->app_us[from] = now_us;
	return pump_write(f, side_other(from), out->spans, out->n_spans, now_us);
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
	let_go(f, from, out);
	if (broken)
		ending_by_force(f, reason_on_side(REASON_CLIENT_ERROR, from));
	return !broken;
}

bool
vital_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len)
{
	struct vital *v = f->vital;
	struct codec_out *out = &f->relay->out;
	const int64_t now_us = leg_of(f, from)->rx_us;

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
	if (v->codec != NULL)
		v->codec->skipped(v->state, from, n);
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

/* Side s is vouched for by bytes, or by what the kernel heard: acknowledgements of probes too. */
static bool
is_alive(const struct flow *f, enum side s, int64_t now_us)
{
	const struct leg_settings *leg = leg_settings(f, s);
	const int64_t vouch_us = beat_vouch_us(leg->keepalive_idle_s * (int64_t)US_PER_S,
	    leg->keepalive_interval_s * (int64_t)US_PER_S, policy_of(f, s).interval_us);
	struct socket_facts facts;

	if (f->leg[s].dead)
		return false;
	if (now_us - f->leg[s].rx_us <= vouch_us)
		return true;
	socket_facts(leg_fd(&f->leg[s]), &facts);
	return !facts.is_tcp || facts.last_ack_ms * (int64_t)US_PER_MS <= vouch_us;
}

/* Bytes are stuck on their way to side s. */
static bool
is_busy(const struct flow *f, enum side s, bool waits_for_answer)
{
	const struct leg *l = &f->leg[s];
	struct socket_facts facts;

	if (l->backlog != NULL)
		return true;
	if (l->rx_us >= l->tx_us && f->vital->app_us[s] < l->rx_us)
		return false;	/* the last that came was its answer to a beat: it has read all before */
	socket_facts(leg_fd(l), &facts);
	if (waits_for_answer)
		return facts.unsent > 0 || facts.unacked > 0;
	return facts.unsent > 0 || (facts.unacked > 0 && facts.retransmits > 0);
}

/* False: the flow has begun to end. */
static bool
send_beat(struct flow *f, enum side s, const struct beat_policy *p, enum beat_kind kind, int64_t now_us)
{
	struct vital *v = f->vital;
	uint8_t buf[CODEC_BEAT_MAX];
	const size_t n = v->codec->beat(v->state, s, kind, buf);

	beat_sent(&v->beat[s], p, kind, now_us, relay_random(f->relay));
	counter_add(&f->relay->counters->beats[s], 1);
	return pump_write(f, s, &(struct iovec){ buf, n }, 1, now_us);
}

/* Looks at one leg; returns when to look again. */
static int64_t
tick_leg(struct flow *f, enum side s, int64_t now_us)
{
	const struct beat_policy p = policy_of(f, s);
	struct vital *v = f->vital;
	struct leg *l = leg_of(f, s);
	int64_t again;
	struct beat_facts facts;
	unsigned kind;

	if (l->shut)
		return INT64_MAX;
	if (beat_due_us(&v->beat[s], &p, l->rx_us, l->tx_us) > now_us)
		return beat_look_us(&v->beat[s], &p, l->rx_us, l->tx_us, now_us);
	facts = (struct beat_facts){
		.legal = v->codec->may_beat(v->state, s),
		.busy = is_busy(f, s, v->beat[s].asked_us != 0),
		.other_alive = is_alive(f, side_other(s), now_us),
		.other_app_us = leg_of(f, side_other(s))->rx_us,
		.rx_us = l->rx_us,
	};
	switch (beat_decide(&v->beat[s], &p, &facts, now_us, &kind, &again)) {
	case BEAT_DEAD:
		ending_on_death(f, s, reason_on_side(REASON_CLIENT_BEAT_TIMEOUT, s));
		return INT64_MAX;
	case BEAT_SEND:
		if (!send_beat(f, s, &p, (enum beat_kind)kind, now_us))
			return INT64_MAX;
		return beat_look_us(&v->beat[s], &p, l->rx_us, l->tx_us, now_us);
	default:
		return again;
	}
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
