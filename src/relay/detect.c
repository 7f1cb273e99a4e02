/*
 * detect.c - a leg with `detect`: found dead in time, and not too early.
 *
 * The kernel's own means do not add up. Its probes stop while bytes are under
 * way, and TCP_USER_TIMEOUT begins anew with them: of a host that died, bytes
 * sent just before the last probe would hide the death for as long again. And
 * its probes come once a second at most, which is few in a short time on a path
 * that loses packets.
 *
 * So a leg that has left a probe unanswered is looked at here. Whatever was
 * sent, it is dead when nothing has come from it for the time of detect, by at
 * least four chances. Until then it is probed more often than the kernel would:
 * setting TCP_KEEPIDLE again sends a probe at once when that time is over.
 * Bytes under way on a path that loses packets get more time (be_patient()).
 *
 * It also tells of a path whose round trips are too long for the time.
 */
#include "relay/ending.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/lateness.h"
#include "stent/log.h"

/*
 * The first transmission and four further ones, each after twice the time of the one before, fit into 15 round trips:
 * on a path with longer ones four chances do not.
 */
#define ROUND_TRIPS 15

/* The longest that a round trip takes here, as far as it is known. */
static int64_t
round_trip_us(const struct flow *f, enum side s, const struct socket_facts *facts)
{
	const int64_t path_us = facts->rtt_us + INT64_C(4) * facts->rttvar_us;
	const int64_t reply_us = f->session != NULL ? f->session->heartbeat[s].srtt_us : 0;

	return path_us > reply_us ? path_us : reply_us;
}

bool
detect_is_too_short(const struct flow *f, enum side s, const struct socket_facts *facts)
{
	return leg_settings(f, s)->detect_ms > 0 && facts->is_tcp &&
	    ROUND_TRIPS * round_trip_us(f, s, facts) > leg_settings(f, s)->detect_ms * US_PER_MS;
}

static void
check_path(const struct flow *f, enum side s, const struct socket_facts *facts)
{
	const int64_t rtt_us = round_trip_us(f, s, facts);
	char client[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];

	if (!detect_is_too_short(f, s, facts) || !relay_log_once(f, s == CLIENT ? "slow client" : "slow backend"))
		return;
	counter_add(&counters_of(f)->detect_too_short[s], 1);
	log_event(LEVEL_WARN, "detect is too short", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("client", address_text(&f->client, client)),
	    LOG_TEXT("backend", address_text(&f->backend, backend)),
	    LOG_TEXT("side", side_name(s)),
	    LOG_MS("detect_seconds", leg_settings(f, s)->detect_ms),
	    LOG_MS("round_trip_seconds", rtt_us / US_PER_MS),
	    LOG_MS("needed_seconds", ROUND_TRIPS * rtt_us / US_PER_MS),
	}, 8);
}

/* How long side s has been silent. -1: this kernel does not tell, or a closed window makes its silence mean nothing (window.c). */
static int64_t
silent_us(const struct flow *f, enum side s, const struct socket_facts *facts, int64_t now_us)
{
	const int64_t unheard_us = now_us - f->leg[s].rx_us, unacked_us = facts->last_ack_ms * (int64_t)US_PER_MS;

	f->relay->kernel_has_times |= facts->last_ack_ms != 0 || facts->last_sent_ms != 0;
	if (!f->relay->kernel_has_times || (facts->unsent > 0 && facts->unacked == 0))
		return -1;
	return unheard_us < unacked_us ? unheard_us : unacked_us;
}

/*
 * On a path that loses packets bytes under way have more time to be acknowledged, here and in the kernel. It need not be
 * taken back there: an end in time is judged here.
 */
static void
be_patient(struct flow *f, enum side s, const struct socket_facts *facts, struct lateness_policy *policy)
{
	const struct leg_settings *settings = leg_settings(f, s);
	const unsigned stretch = lateness_stretch(facts->sent, facts->retransmitted, facts->retransmits);

	if (facts->unacked == 0 || facts->retransmits == 0 || stretch == 1 || settings->origin.user_timeout == ORIGIN_HAND)
		return;
	require_void(f, stretch > 1 && policy->detect_us > 0);		/* it only gets more time */
	policy->detect_us *= stretch;
	transport_set_user_timeout(&leg_of(f, s)->transport, settings->keepalive.user_timeout_ms * stretch);
}

struct verdict
detect_watch(struct flow *f, enum side s, int64_t now_us, int64_t *again_us)
{
	const struct leg_settings *settings = leg_settings(f, s);
	struct lateness_policy policy = {
		.detect_us = settings->detect_ms * US_PER_MS,
		.idle_us = settings->keepalive.idle_s * (int64_t)US_PER_S,
		.interval_us = settings->keepalive.interval_s * (int64_t)US_PER_S,
		.chances = DETECT_CHANCES,
	};
	struct lateness_facts late = { 0 };
	struct socket_facts facts;
	enum lateness verdict;

	require(f, f->state == FLOW_OPEN && policy.detect_us >= 0 && policy.idle_us >= 0);
	require(f, transport_is_open(&f->leg[s].transport));
	*again_us = INT64_MAX;
	if (policy.detect_us == 0 || policy.idle_us == 0 || f->leg[s].dead)
		return VERDICT(GO_ON);
	transport_facts(&f->leg[s].transport, &facts);
	if (!facts.is_tcp)
		return VERDICT(GO_ON);
	check_path(f, s, &facts);
	late.silent_us = silent_us(f, s, &facts, now_us);
	late.unanswered = facts.probes + facts.retransmits;
	*again_us = now_us + policy.idle_us;
	if (late.silent_us < 0)
		return VERDICT(GO_ON);
	be_patient(f, s, &facts, &policy);
	verdict = lateness_judge(&policy, &late, again_us);
	require_promises(f);
	*again_us += now_us;
	if (verdict == LATENESS_DEAD)
		return VERDICT_DEAD(s, reason_on_side(facts.unacked > 0 ? REASON_CLIENT_USER_TIMEOUT : REASON_CLIENT_KEEPALIVE_TIMEOUT, s));
	if (verdict == LATENESS_PROBE && facts.unacked == 0)
		transport_set_keepalive_idle(&leg_of(f, s)->transport, settings->keepalive.idle_s);
	return VERDICT(GO_ON);
}

unsigned
detect_misses(const struct flow *f, enum side s, unsigned misses, int64_t each_us)
{
	struct socket_facts facts;

	if (leg_settings(f, s)->detect_ms == 0)
		return misses;
	transport_facts(&f->leg[s].transport, &facts);
	misses = lateness_misses(misses, each_us, facts.sent, facts.retransmitted);
	require_promises_or(f, misses);
	return misses;
}
