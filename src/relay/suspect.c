/*
 * suspect.c - legs of which half of the time until they are dead is over.
 *
 * While somebody wants these events, and only then, all flows of the worker are
 * looked at again and again, in slices. A leg that was heard lately costs a
 * comparison; the kernel is asked only of one that should have acknowledged a
 * probe or bytes by now. Every flow is seen once in an eighth of the shortest
 * time to a death that the settings give, but at most every five seconds.
 */
#include <assert.h>

#include "relay/ending.h"
#include "relay/session.h"
#include "relay/shared.h"
#include "stent/events.h"

#define SLICE_US 200		/* limit of a slice: no bytes are relayed meanwhile */
#define SLICE_EVERY_US (20 * US_PER_MS)
#define ROUND_MIN_US (100 * US_PER_MS)
#define ROUND_MAX_US (5 * US_PER_S)

/* Until a silent peer is dead by its probes; 0: never. */
static int64_t
probes_us(const struct leg_settings *l)
{
	return (int64_t)(l->keepalive.idle_s + l->keepalive.interval_s * l->keepalive.probes) * US_PER_S * (l->keepalive.idle_s > 0);
}

/* The time after which an answer to the first probe, or the acknowledgement of bytes, is late. */
static int64_t
late_us(const struct leg_settings *l)
{
	const int64_t user_us = l->keepalive.user_timeout_ms * US_PER_MS / 2;
	const int64_t interval_us = l->keepalive.interval_s * US_PER_S;
	const int64_t probe_us = l->keepalive.idle_s * US_PER_S + (interval_us < 2 * US_PER_S ? interval_us / 2 : US_PER_S);

	if (l->keepalive.idle_s == 0)
		return user_us > 0 ? user_us : INT64_MAX;
	return user_us > 0 && user_us < probe_us ? user_us : probe_us;
}

/* What is unanswered for half of the time that it may be, and since when the peer is silent; NULL: nothing. */
static const char *
unanswered(const struct flow *f, enum side s, int64_t now_us, int64_t *silent_us)
{
	const struct leg_settings *settings = leg_settings(f, s);
	const struct transport *t = &f->leg[s].transport;
	struct socket_facts facts = { 0 };

	*silent_us = now_us - f->leg[s].rx_us;
	if (heartbeats_are_half_missed(f, s, now_us))
		return "heartbeats";
	if (*silent_us < late_us(settings) || !transport_is_open(t))
		return NULL;
	transport_facts(t, &facts);
	if (f->relay->kernel_has_times && facts.last_ack_ms * (int64_t)US_PER_MS < *silent_us)
		*silent_us = facts.last_ack_ms * (int64_t)US_PER_MS;
	if (!facts.is_tcp || *silent_us < late_us(settings))
		return NULL;
	if (facts.retransmits > 0 && !f->leg[s].stalled && settings->keepalive.user_timeout_ms > 0 &&
	    2 * *silent_us >= settings->keepalive.user_timeout_ms * US_PER_MS)
		return "sent bytes";
	return facts.probes > 0 && facts.unsent == 0 && probes_us(settings) > 0 && 2 * *silent_us >= probes_us(settings) ? "probes" : NULL;
}

static void
tell(const struct flow *f, enum side s, enum event_kind kind, const char *what, int64_t silent_us)
{
	char client[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];
	struct log_field fields[8] = {
		LOG_INT("id", f->id),
		LOG_TEXT("route", f->route->name),
		LOG_TEXT("protocol", session_protocol(f)),
		LOG_TEXT("client", address_text(&f->client, client)),
		LOG_TEXT("backend", address_text(&f->backend, backend)),
		LOG_TEXT("side", side_name(s)),
	};
	size_t n = 6;

	if (what != NULL) {
		fields[n++] = LOG_TEXT("unanswered", what);
		fields[n++] = LOG_MS("silent_seconds", silent_us / US_PER_MS);
	}
	assert(n <= sizeof(fields) / sizeof(fields[0]));
	events_say(kind, fields, n);
}

static void
check_leg(struct flow *f, enum side s, int64_t now_us)
{
	struct leg *l = leg_of(f, s);
	int64_t silent_us = 0;
	const char *what = f->state == FLOW_OPEN && !l->dead ? unanswered(f, s, now_us, &silent_us) : NULL;

	if (f->state != FLOW_OPEN || l->suspect == (what != NULL))
		return;
	l->suspect = what != NULL;
	tell(f, s, what != NULL ? EVENT_SUSPECT : EVENT_RECOVERED, what, silent_us);
}

void
suspect_forget(struct relay *r, const struct flow *f)
{
	if (r->watch.next == f)
		r->watch.next = TAILQ_NEXT(f, link);
}

static bool
is_wanted(void)
{
	return events_want(EVENT_SUSPECT) || events_want(EVENT_RECOVERED);
}

/* The shortest time to a death of all legs, an eighth of it. */
static int64_t
round_us(const struct config *c)
{
	int64_t least_us = 8 * ROUND_MAX_US;

	for (size_t i = 0; i < c->n_routes; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			const struct leg_settings *l = &c->routes[i].leg[s];
			const int64_t times[] = { probes_us(l), l->keepalive.user_timeout_ms * US_PER_MS,
				l->heartbeat_timeout_ms * US_PER_MS * (l->heartbeat_misses > 0 ? l->heartbeat_misses : HEARTBEAT_MISSES_AUTO) };

			for (size_t t = 0; t < sizeof(times) / sizeof(times[0]); t++)
				if (times[t] > 0 && times[t] < least_us)
					least_us = times[t];
		}
	assert(least_us > 0);
	return least_us / 8 > ROUND_MIN_US ? least_us / 8 : ROUND_MIN_US;
}

static void
on_watch(struct timer *t, int64_t now_us)
{
	struct relay *r = (struct relay *)(void *)((char *)t - offsetof(struct relay, watch.timer));
	const int64_t until_us = now_us + SLICE_US;

	if (!is_wanted())
		return;
	while (r->watch.next != NULL && clock_us() < until_us) {
		struct flow *f = r->watch.next;

		assert(f->relay == r && f->state != FLOW_ENDED);	/* suspect_forget() steps over it */
		r->watch.next = TAILQ_NEXT(f, link);
		for (enum side s = CLIENT; s <= BACKEND; s++)
			check_leg(f, s, now_us);
	}
	if (r->watch.next != NULL) {
		(void)timer_arm(r->timers, t, now_us + SLICE_EVERY_US);
		return;
	}
	r->watch.next = TAILQ_FIRST(&r->flows);
	r->watch.began_us += round_us(r->config);
	if (r->watch.began_us <= now_us)
		r->watch.began_us = now_us + SLICE_EVERY_US;
	(void)timer_arm(r->timers, t, r->watch.began_us);
}

void
relay_watch(struct relay *r)
{
	if (!is_wanted() || r->watch.timer.slot != 0)
		return;
	r->watch.timer.fire = on_watch;
	r->watch.next = TAILQ_FIRST(&r->flows);
	r->watch.began_us = clock_us();
	(void)timer_arm(r->timers, &r->watch.timer, r->watch.began_us + ROUND_MIN_US);
}
