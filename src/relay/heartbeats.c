/*
 * heartbeats.c - runs the engine (src/heartbeat: heartbeat_*, pure) on the legs
 * of a flow (heartbeats_*). It gives the engine its facts, from the codec (what
 * is legal) and the kernel (signs.c), and does what it decides: sends, judges a
 * peer dead, turns heartbeats off after a refusal. It runs from the flow's
 * timer, not while bytes pass.
 */
#include <assert.h>

#include "relay/adopt.h"
#include "relay/ending.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/events.h"
#include "stent/log.h"

/* The kind that `auto` means. `line` pings where its settings name a reply. */
static unsigned
preferred_kind(const struct flow *f, enum side s, const struct codec *codec)
{
	if (codec->leg[s].kind != 0)
		return codec->leg[s].kind;
	return adopt_codec_route(f)->codec_settings.heartbeat_expect[s].len > 0 ? HEARTBEAT_PING : HEARTBEAT_ONEWAY;
}

static int64_t
interval_ms_of(const struct leg_settings *leg, const struct codec *codec, enum side s)
{
	const int64_t own_ms = codec->leg[s].interval_ms;

	if (!leg->heartbeat_is_auto)
		return leg->heartbeat_ms;
	return leg->heartbeat_max_ms > 0 && own_ms > leg->heartbeat_max_ms ? leg->heartbeat_max_ms : own_ms;
}

static struct heartbeat_policy
policy_of(const struct flow *f, enum side s)
{
	const struct leg_settings *leg = leg_settings(f, s);
	const struct codec *codec = session_codec(f->session);
	const int64_t interval_ms = interval_ms_of(leg, codec, s);

	struct heartbeat_policy p = {
		.interval_us = interval_ms * US_PER_MS,
		.timeout_us = leg->heartbeat_timeout_ms * US_PER_MS,
		.limit_us = leg->heartbeat_limit_ms * US_PER_MS,
		/* A protocol that was detected (auto, an upgrade) may lack the configured kind: then `auto` applies. */
		.kind = leg->heartbeat_kind & codec->leg[s].kinds,
		.preferred = preferred_kind(f, s, codec),
		.misses = leg->heartbeat_misses < 0 ? HEARTBEAT_MISSES_AUTO : (unsigned)leg->heartbeat_misses,
	};

	if (f->session->codec->limits != NULL) {
		struct codec_limits limits = { 0 };

		f->session->codec->limits(f->session->state, s, &limits);
		heartbeat_limit_policy(&p, &limits);
	}
	assert(p.interval_us >= 0 && p.timeout_us >= 0 && p.limit_us >= 0);	/* settings are not below 0 */
	return p;
}

int64_t
heartbeats_interval_us(const struct flow *f, enum side s)
{
	return f->session != NULL && f->session->codec != NULL ? policy_of(f, s).interval_us : 0;
}

int64_t
heartbeats_gap_us(const struct flow *f, enum side s)
{
	struct heartbeat_policy p;
	int64_t gap_us;

	require_or(f, f->session != NULL && f->session->codec != NULL, US_PER_S);
	p = policy_of(f, s);
	gap_us = heartbeat_gap_us(&f->session->heartbeat[s], &p);
	require_promises_or(f, p.interval_us);
	return gap_us;
}

void
heartbeats_open(struct flow *f, int64_t now_us)
{
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		heartbeat_init(&f->session->heartbeat[s], now_us, relay_random(f->relay));
		f->session->app_us[s] = now_us;
	}
}

static void
withdraw_trial(struct flow *f, enum side s)
{
	struct heartbeat_leg *h = &f->session->heartbeat[s];

	require_void(f, h->on_trial < HEARTBEAT_EARLY << 1);
	for (unsigned kind = HEARTBEAT_ONEWAY; kind <= HEARTBEAT_EARLY; kind <<= 1)
		if ((h->on_trial & kind) != 0)
			trial_undecided(&relay_route(f)->trial[s], kind);
	h->on_trial = 0;
}

void
heartbeats_withdraw_trials(struct flow *f)
{
	withdraw_trial(f, CLIENT);
	withdraw_trial(f, BACKEND);
}

static const char *
kind_name(unsigned kind)
{
	return kind == HEARTBEAT_PING ? "ping" : kind == HEARTBEAT_ONEWAY ? "oneway" : "early";
}

/* The kind to blame for a peer's reaction. */
static unsigned
kind_to_blame(const struct heartbeat_leg *h)
{
	if (h->on_trial == 0 || (h->on_trial & h->last_kind) != 0)
		return h->last_kind;
	return (h->on_trial & HEARTBEAT_PING) != 0 ? HEARTBEAT_PING : h->on_trial;
}

/* Side s reacted to a heartbeat other than by a reply. */
void
heartbeats_refused(struct flow *f, enum side s, const char *why)
{
	struct heartbeat_leg *h = &f->session->heartbeat[s];
	struct trial *t = &relay_route(f)->trial[s];
	const unsigned kind = kind_to_blame(h);
	char client[ADDRESS_TEXT_MAX];
	bool is_off;

	require_void(f, why != NULL && f->session != NULL);
	if (h->refused || kind == 0)
		return;
	is_off = (h->on_trial & kind) != 0 ? trial_refused(t, kind) : trial_refused_after_accepted(t, kind);
	h->on_trial &= (uint8_t)~kind;
	withdraw_trial(f, s);
	heartbeat_refused(h);
	counter_add(&counters_of(f)->refused[s], 1);
	log_event(LEVEL_INFO, "heartbeat refused", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("client", address_text(&f->client, client)),
	    LOG_TEXT("protocol", session_protocol(f)),
	    LOG_TEXT("side", side_name(s)),
	    LOG_TEXT("kind", kind_name(kind)),
	    LOG_TEXT("reason", why),
	}, 7);
	if (is_off)
		log_say(LEVEL_WARN, "route %s: heartbeats (%s) to the %s are off: too many peers refused their first one, last: "
		    "%s; TCP keepalive probes continue. Set %s.heartbeat = off to confirm, or try another %s.heartbeat_kind",
		    f->route->name, kind_name(kind), side_name(s), why, side_name(s), side_name(s));
}

/*
 * What side s does now may be its reaction to a heartbeat: the last one was sent a moment ago and has had no reply, the
 * other side has sent nothing since, and has not closed.
 */
bool
heartbeats_are_fresh(const struct flow *f, enum side s, int64_t now_us)
{
	const struct heartbeat_leg *h = &f->session->heartbeat[s];
	struct heartbeat_policy p;

	if (f->session->codec == NULL)
		return false;	/* passthrough, perhaps due to the bytes just read, which were judged then */
	if (h->sent == 0 || f->leg[s].shut || session_said_goodbye(f, side_other(s)))
		return false;
	p = policy_of(f, s);
	if (h->last_kind == HEARTBEAT_PING && h->oldest_ping_us == 0)
		return false;	/* it has replied, so it accepts them */
	return f->session->app_us[side_other(s)] <= h->last_us &&
	    now_us - h->last_us <= heartbeat_trial_us(&p, (h->accepted & h->last_kind) != 0);
}

/* A pooler with no free server for the ping may close late; a close after the reply timeout is not blamed on the ping. */
static bool
closed_on_first_ping(const struct flow *f, int64_t now_us)
{
	const struct heartbeat_leg *h = &f->session->heartbeat[BACKEND];

	return (h->on_trial & HEARTBEAT_PING) != 0 && h->oldest_ping_us != 0 && now_us - h->oldest_ping_us <= policy_of(f, BACKEND).timeout_us &&
	    f->session->app_us[CLIENT] <= h->oldest_ping_us && !f->leg[BACKEND].shut && !session_said_goodbye(f, CLIENT);
}

void
heartbeats_judge_end(struct flow *f, enum side s, int64_t now_us)
{
	if (f->session == NULL || f->session->codec == NULL || session_said_goodbye(f, s))
		return;
	if (heartbeats_are_fresh(f, s, now_us))
		heartbeats_refused(f, s, "it closed right after a heartbeat");
	else if (s == BACKEND && closed_on_first_ping(f, now_us))
		heartbeats_refused(f, s, "it closed instead of replying to its first heartbeat");
}

static struct verdict
send_heartbeat(struct flow *f, enum side s, enum heartbeat_kind kind, int64_t now_us)
{
	struct session *ss = f->session;
	uint8_t buf[CODEC_HEARTBEAT_MAX];
	size_t n;

	require(f, f->leg[s].backlog == NULL && !f->leg[s].shut);	/* never behind unsent bytes, nor after our FIN */
	require(f, !ss->heartbeat[s].refused && (kind != HEARTBEAT_PING || !f->leg[s].fin));
	require_dear(f, (ss->codec->may_heartbeat(ss->state, s) & kind) != 0);	/* only at a boundary */
	n = ss->codec->heartbeat(ss->state, s, kind, buf);
	assert(n <= sizeof(buf));	/* else it wrote past it */
	require_promises(f);
	require(f, n > 0);
	heartbeat_sent(&ss->heartbeat[s], kind, now_us, relay_random(f->relay));
	require_promises(f);
	counter_add(&counters_of(f)->heartbeats[s], 1);
	session_update_reset_at_close(f, s);
	return pump_write(f, s, &(struct iovec){ buf, n }, 1, now_us);
}

/* A reply may still come from side s. */
static bool
is_reply_awaited(const struct flow *f, enum side s)
{
	const struct session *ss = f->session;
	const bool pinged = ss->heartbeat[s].oldest_ping_us != 0;

	if (f->leg[s].fin)
		return false;
	return ss->codec->awaits_reply != NULL ? ss->codec->awaits_reply(ss->state, s, pinged) : pinged;
}

/* Why the engine holds heartbeats back, for the operator. */
static const char *
hold_text(const struct heartbeat_leg *h)
{
	switch ((enum heartbeat_hold)h->hold) {
	case HEARTBEAT_HOLD_UNREAD:
		return "the peer does not read";
	case HEARTBEAT_HOLD_OTHER:
		return "no sign of life from the other side";
	case HEARTBEAT_HOLD_LIMIT:
		return "heartbeat_limit exceeded";
	case HEARTBEAT_HOLD_REFUSED:
		return "the peer refused one";
	case HEARTBEAT_HOLD_ROUTE:
		return "refused on this route";
	case HEARTBEAT_HOLD_TRIAL:
		return "on trial in other flows first";
	case HEARTBEAT_HOLD_MUTE:
		return "the peer never replied";
	case HEARTBEAT_HOLD_MESSAGE:
		return "inside a message";
	default:
		return NULL;	/* bytes or a reply are under way: the leg is in use */
	}
}

const char *
heartbeats_why_none(const struct flow *f, enum side s)
{
	const struct session *ss = f->session;
	const char *why = NULL;

	if (ss == NULL)
		return "protocol = tcp";
	if (ss->codec == NULL)
		return ss->passthrough;
	if (ss->heartbeat[s].refused)
		return hold_text(&ss->heartbeat[s]);
	if (policy_of(f, s).interval_us == 0)
		return leg_settings(f, s)->heartbeat_is_auto ? "the protocol has none" : "heartbeat = off";
	if (f->leg[s].shut)
		return "half-closed";
	if (ss->codec->why_none != NULL)
		why = ss->codec->why_none(ss->state, s);
	require_promises_or(f, why);
	return why != NULL ? why : hold_text(&ss->heartbeat[s]);
}

/* A leg that gets no heartbeats is logged once per route and cause; the listing shows it for each flow. */
static void
note_hold(const struct flow *f, enum side s)
{
	const char *why = heartbeats_why_none(f, s);
	const bool is_state = f->session->heartbeat[s].hold == HEARTBEAT_HOLD_STATE;	/* then the codec says why */

	if (why == NULL || f->session->heartbeat[s].hold == HEARTBEAT_HOLD_TRIAL || !relay_log_once(f, why))
		return;
	log_event(LEVEL_INFO, is_state ? "codec note" : "no heartbeats", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("protocol", session_protocol(f)),
	    LOG_TEXT("side", side_name(s)),
	    LOG_TEXT(is_state ? "note" : "reason", why),
	}, 5);
}

static void
note_miss(const struct flow *f, enum side s, const struct heartbeat_policy *p)
{
	char client[ADDRESS_TEXT_MAX];
	const struct log_field fields[] = {
		LOG_INT("id", f->id),
		LOG_TEXT("route", f->route->name),
		LOG_TEXT("client", address_text(&f->client, client)),
		LOG_TEXT("side", side_name(s)),
		LOG_INT("misses", f->session->heartbeat[s].misses),
		LOG_INT("of", p->misses),
	};

	counter_add(&counters_of(f)->misses[s], 1);
	if (f->session->heartbeat[s].misses == 1)	/* the others follow from it */
		log_event(LEVEL_INFO, "heartbeat missed", fields, 6);
	events_say(EVENT_HEARTBEAT_MISSED, fields, 6);
}

/* On a path that loses packets more replies may be missing. The kernel is asked when the next one would be the last. */
static void
allow_for_loss(const struct flow *f, enum side s, struct heartbeat_policy *p)
{
	if (p->misses > 0 && f->session->heartbeat[s].misses + 1U >= p->misses)
		p->misses = detect_misses(f, s, p->misses, p->timeout_us);
}

bool
heartbeats_are_half_missed(const struct flow *f, enum side s, int64_t now_us)
{
	const struct heartbeat_leg *h = f->session != NULL ? &f->session->heartbeat[s] : NULL;
	struct heartbeat_policy p;

	if (h == NULL || f->session->codec == NULL || h->timeout_from_us == 0 || h->replied == 0 || h->mute)
		return false;
	p = policy_of(f, s);
	require_promises_or(f, false);
	allow_for_loss(f, s, &p);
	return 2 * (h->misses * p.timeout_us + now_us - h->timeout_from_us) >= p.misses * p.timeout_us && p.misses > 0;
}

static void
note_mute(const struct flow *f, enum side s)
{
	if (relay_log_once(f, s == CLIENT ? "mute client" : "mute backend"))
		log_say(LEVEL_INFO, "route %s: the %s of flow %llu has never replied to a ping: no more pings to it, and no "
		    "heartbeat timeout; one-way heartbeats instead where the protocol has them (logged once per route)",
		    f->route->name, side_name(s), (unsigned long long)f->id);
}

/* The first heartbeat of a kind on this flow waits while enough other flows are trying that kind. */
static bool
may_try(struct flow *f, enum side s, unsigned kind)
{
	const struct heartbeat_leg *h = &f->session->heartbeat[s];

	if (((h->accepted | h->on_trial) & kind) != 0)
		return true;
	if (kind != HEARTBEAT_PING && (h->on_trial & ~(unsigned)HEARTBEAT_PING) != 0)
		return false;
	return trial_begin(&relay_route(f)->trial[s], kind);
}

/* While other flows try pings, this one gets one-way heartbeats where the protocol has them. 0: it waits, too. */
static unsigned
kind_to_send(struct flow *f, enum side s, const struct heartbeat_policy *p, unsigned kind, unsigned legal)
{
	if (may_try(f, s, kind))
		return kind;
	return kind == HEARTBEAT_PING && p->kind == 0 && (legal & HEARTBEAT_ONEWAY) != 0 && may_try(f, s, HEARTBEAT_ONEWAY) ? HEARTBEAT_ONEWAY : 0;
}

static void
gather_facts(struct flow *f, enum side s, unsigned legal, int64_t now_us, struct heartbeat_facts *ret)
{
	const struct session *ss = f->session;
	const unsigned allowed = trial_allowed(&relay_route(f)->trial[s], legal);

	ret->route_allows = allowed != 0;
	ret->legal = allowed != 0 ? allowed : legal;
	signs_of_traffic(f, s, ret);
	ret->may_wait = ss->codec->may_wait != NULL && ss->codec->may_wait(ss->state, s);
	ret->receive_only = ss->codec->receive_only != NULL && ss->codec->receive_only(ss->state, s);
	ret->other_alive = signs_of_life(f, side_other(s), now_us);
	ret->other_app_us = leg_of(f, side_other(s))->rx_us;
	ret->rx_us = leg_of(f, s)->rx_us;
	ret->tx_us = leg_of(f, s)->tx_us;
}

static int64_t
due_us(const struct flow *f, enum side s, const struct heartbeat_policy *p)
{
	return heartbeat_due_us(&f->session->heartbeat[s], p, f->leg[s].rx_us, f->leg[s].tx_us);
}

/* Checks one leg; *again_us: when to check again. */
static struct verdict
tick_leg(struct flow *f, enum side s, int64_t now_us, int64_t *again_us)
{
	struct heartbeat_policy p = policy_of(f, s);
	struct session *ss = f->session;
	struct heartbeat_leg *h = &ss->heartbeat[s];
	struct leg *l = leg_of(f, s);
	struct heartbeat_facts facts = { 0 };
	const unsigned accepted = heartbeat_settle_trial(h, &p, now_us);
	struct verdict verdict = VERDICT(GO_ON);
	struct heartbeat_outcome o;
	unsigned legal;

	require(f, f->state == FLOW_OPEN && ss->codec != NULL);
	require(f, h->last_us <= now_us + US_PER_S && !l->dead);	/* the clock does not go back */
	*again_us = INT64_MAX;
	if (accepted != 0)
		trial_accepted(&relay_route(f)->trial[s], accepted);
	if (heartbeat_end_ping_trial(h, &p, l->rx_us, now_us))
		trial_undecided(&relay_route(f)->trial[s], HEARTBEAT_PING);
	if (l->shut)
		return verdict;
	*again_us = due_us(f, s, &p);
	require_promises(f);
	if (*again_us > now_us)
		return verdict;
	legal = ss->codec->may_heartbeat(ss->state, s);
	facts.reply_awaited = is_reply_awaited(f, s);
	require_promises(f);
	require(f, (legal & ~ss->codec->leg[s].kinds) == 0);
	if (l->fin)
		legal &= ~(unsigned)HEARTBEAT_PING;	/* it cannot reply any more */
	if (heartbeat_is_impossible(h, legal, facts.reply_awaited)) {
		h->hold = HEARTBEAT_HOLD_STATE;
		note_hold(f, s);
		*again_us = heartbeat_impossible_us(&p, now_us);
		return verdict;
	}
	gather_facts(f, s, legal, now_us, &facts);
	allow_for_loss(f, s, &p);
	o = heartbeat_decide(h, &p, &facts, now_us);
	require_promises(f);
	*again_us = o.again_us;
	require(f, o.verdict != HEARTBEAT_SEND || l->backlog == NULL);
	require(f, o.verdict != HEARTBEAT_DEAD || (h->replied > 0 && h->misses > 0));	/* only who has replied before is missed */
	if (o.missed)
		note_miss(f, s, &p);
	if (o.went_mute)
		note_mute(f, s);
	if (o.verdict == HEARTBEAT_DEAD)
		return VERDICT_DEAD(s, reason_on_side(REASON_CLIENT_HEARTBEAT_TIMEOUT, s));
	if (o.verdict != HEARTBEAT_SEND) {
		note_hold(f, s);
		return verdict;
	}
	require(f, (o.kind & facts.legal) == o.kind && o.kind != 0 && (o.kind & (o.kind - 1)) == 0);
	o.kind = kind_to_send(f, s, &p, o.kind, facts.legal);
	if (o.kind == 0) {
		h->hold = HEARTBEAT_HOLD_TRIAL;
		*again_us = heartbeat_again_us(h, &p, now_us);
		require_promises(f);
		return verdict;
	}
	verdict = send_heartbeat(f, s, (enum heartbeat_kind)o.kind, now_us);
	*again_us = due_us(f, s, &p);
	return verdict;
}

struct verdict
heartbeats_tick(struct flow *f, int64_t now_us, int64_t *again_us)
{
	struct verdict v = VERDICT(GO_ON);

	require(f, f->state == FLOW_OPEN && f->session != NULL);
	*again_us = INT64_MAX;
	if (f->session->codec != NULL)
		adopt_retry(f);
	require_promises(f);
	for (enum side s = CLIENT; s <= BACKEND && v.kind == GO_ON && f->session->codec != NULL; s++) {
		int64_t at;

		require_or(f, !f->broken, require_verdict());

		v = tick_leg(f, s, now_us, &at);
		*again_us = at < *again_us ? at : *again_us;
	}
	return v;
}
