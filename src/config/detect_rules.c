/*
 * detect_rules.c - what follows from `detect`: the one number from which the
 * values that find a dead peer are made.
 *
 * The time is cut into five. A leg that was quiet for one fifth is asked, by a
 * probe and by a heartbeat; in the other four it has at least four chances to
 * answer:
 *
 *   keepalive          idle: a fifth, at most 25 s; then a probe each twentieth, from 1 s to 25 s, until the time is over
 *   user_timeout       auto: idle + interval x probes
 *   heartbeat          a fifth, or what suits the protocol if that is less
 *   heartbeat_misses   4
 *   heartbeat_timeout  what is left after the heartbeat, divided by the misses
 *
 * The kernel counts in whole seconds, so of 6 s the first probe takes 1 s, and
 * five follow each second. The limits of 25 s keep a flow in tables that forget
 * it, however long its end may take to be found.
 *
 * What is set by hand in the same section, or in the route where detect is in
 * [defaults], wins. A detect of the route wins over keys in [defaults], except
 * heartbeat = off: what may be put into a stream is no matter of time. Values
 * by hand with which a death is found later than detect says are an error.
 */
#include <inttypes.h>
#include <string.h>

#include "config/make.h"
#include "config/profiles.h"
#include "config/units.h"

#define QUIET_MAX_S 25		/* below each limit that is known: see profiles.c */
#define PARTS 5
#define PROBES_MAX 127		/* the kernel's */

struct detection {
	struct parsed *d;
	const struct section *section;
	const struct entry *detect;	/* NULL: it is off */
	enum side side;
	struct leg_settings *leg;
};

static int64_t
clamp(int64_t n, int64_t min, int64_t max)
{
	return n < min ? min : n > max ? max : n;
}

struct keepalive
detect_keepalive(int64_t detect_ms)
{
	const int64_t all_s = detect_ms / 1000;
	const int64_t idle_s = clamp((detect_ms / PARTS + 500) / 1000, 1, QUIET_MAX_S);
	const int64_t least_s = (all_s - idle_s + PROBES_MAX - 1) / PROBES_MAX;
	const int64_t interval_s = clamp(all_s / (PARTS * DETECT_CHANCES), least_s, least_s > QUIET_MAX_S ? least_s : QUIET_MAX_S);

	return (struct keepalive){
		.idle_s = (int)idle_s, .interval_s = (int)interval_s, .probes = (int)((all_s - idle_s) / interval_s),
		.retransmit_ms = (int)clamp(detect_ms / (4 * DETECT_CHANCES), 1000, 120 * 1000),
	};
}

/* The entry that sets a key by hand, in a place that wins over `than`; NULL: none does. "auto" sets nothing. */
static const struct entry *
set_by_hand(const struct detection *x, const char *key, const struct entry *than)
{
	const struct entry *e = parsed_decides(x->d, x->section, key_find(key, SCOPE_ROUTE), x->side);

	if (e == NULL || !e->is_good || strcmp(e->text, "auto") == 0)
		return NULL;
	if (than != NULL && section_owns(x->section, than) && !section_owns(x->section, e))
		return NULL;
	return e;
}

/* A value by hand with which a death is found too late. */
static void
report_late(const struct detection *x, const struct entry *e, const char *what, int64_t found_ms)
{
	char detect[DURATION_TEXT_MAX], found[DURATION_TEXT_MAX];

	if (e->side < 0 && x->side == BACKEND && set_by_hand(x, e->key->name, parsed_decides(x->d, x->section, x->detect->key, CLIENT)) == e)
		return;		/* told of the other leg */
	if (found_ms == INT64_MAX)
		errors_add(&x->d->errors, e->line, "%s: with \"%s\" %s is never found, and detect = %s asks for it; remove one of the two",
		    e->name, e->text, what, duration_text(x->leg->detect_ms, detect));
	else
		errors_add(&x->d->errors, e->line, "%s: with \"%s\" %s is found after %s, and detect = %s asks for less; remove one of "
		    "the two, or change it", e->name, e->text, what, duration_text(found_ms, found), duration_text(x->leg->detect_ms, detect));
}

static void
set_probes(const struct detection *x)
{
	struct leg_settings *leg = x->leg;
	const struct entry *keepalive = set_by_hand(x, "keepalive", x->detect), *user_timeout = set_by_hand(x, "user_timeout", x->detect);
	int64_t found_ms;

	if (keepalive == NULL) {
		const struct keepalive k = detect_keepalive(leg->detect_ms);

		leg->keepalive.idle_s = k.idle_s;
		leg->keepalive.interval_s = k.interval_s;
		leg->keepalive.probes = k.probes;
		leg->origin.keepalive = ORIGIN_DETECT;
	}
	if (user_timeout == NULL) {
		leg->keepalive.user_timeout_ms = -1;
		leg->origin.user_timeout = ORIGIN_DETECT;
	}
	leg->keepalive.retransmit_ms = detect_keepalive(leg->detect_ms).retransmit_ms;
	found_ms = leg->keepalive.idle_s > 0 ? (leg->keepalive.idle_s + (int64_t)leg->keepalive.interval_s * leg->keepalive.probes) * 1000 : INT64_MAX;
	if (keepalive != NULL && found_ms > leg->detect_ms)
		report_late(x, keepalive, "a dead host", found_ms);
	else if (user_timeout != NULL && (leg->keepalive.user_timeout_ms == 0 || leg->keepalive.user_timeout_ms > leg->detect_ms))
		report_late(x, user_timeout, "a host that dies while bytes are under way",
		    leg->keepalive.user_timeout_ms > 0 ? leg->keepalive.user_timeout_ms : INT64_MAX);
}

static int
misses_of(const struct leg_settings *leg)
{
	return leg->heartbeat_misses < 0 ? DETECT_CHANCES : leg->heartbeat_misses;
}

static void
set_heartbeats(const struct detection *x)
{
	struct leg_settings *leg = x->leg;
	const struct entry *heartbeat = set_by_hand(x, "heartbeat", x->detect), *timeout = set_by_hand(x, "heartbeat_timeout", x->detect);
	const struct entry *misses = set_by_hand(x, "heartbeat_misses", x->detect);
	const int64_t quiet_ms = leg->detect_ms / PARTS;
	int64_t first_ms, found_ms;

	if (leg->heartbeat_ms == 0 && !leg->heartbeat_is_auto)
		return;
	if (heartbeat == NULL) {
		if (leg->heartbeat_ms > quiet_ms || leg->heartbeat_is_auto)
			leg->origin.heartbeat = ORIGIN_DETECT;
		if (leg->heartbeat_ms > quiet_ms)
			leg->heartbeat_ms = quiet_ms;
		leg->heartbeat_max_ms = leg->heartbeat_is_auto ? quiet_ms : 0;
	}
	if (misses == NULL) {
		leg->heartbeat_misses = DETECT_CHANCES;
		leg->origin.heartbeat_misses = ORIGIN_DETECT;
	}
	first_ms = leg->heartbeat_is_auto ? quiet_ms : leg->heartbeat_ms;
	if (timeout == NULL && first_ms < leg->detect_ms && misses_of(leg) > 0) {
		leg->heartbeat_timeout_ms = (leg->detect_ms - first_ms) / misses_of(leg);
		leg->origin.heartbeat_timeout = ORIGIN_DETECT;
	}
	found_ms = first_ms + leg->heartbeat_timeout_ms * misses_of(leg);
	if (first_ms == 0 || found_ms <= leg->detect_ms)
		return;
	if (heartbeat == NULL && timeout == NULL && misses == NULL)
		return;
	report_late(x, timeout != NULL ? timeout : misses != NULL && heartbeat == NULL ? misses : heartbeat, "a hung program", found_ms);
}

static void
note_hands(const struct detection *x)
{
	struct leg_settings *leg = x->leg;

	const struct {
		const char *key;
		enum origin *origin;
	} all[] = {
		{ "keepalive", &leg->origin.keepalive }, { "user_timeout", &leg->origin.user_timeout },
		{ "heartbeat", &leg->origin.heartbeat }, { "heartbeat_timeout", &leg->origin.heartbeat_timeout },
		{ "heartbeat_misses", &leg->origin.heartbeat_misses },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		*all[i].origin = set_by_hand(x, all[i].key, NULL) != NULL ? ORIGIN_HAND : ORIGIN_DEFAULT;
}

static void
resolve_user_timeout(struct leg_settings *leg)
{
	int64_t s = leg->keepalive.idle_s + (int64_t)leg->keepalive.interval_s * leg->keepalive.probes;

	if (leg->keepalive.user_timeout_ms < 0)
		leg->keepalive.user_timeout_ms = s * 1000 < INT32_MAX ? s * 1000 : INT32_MAX;	/* the kernel takes an int */
}

void
resolve_detect(struct route *r, struct parsed *d, const struct section *s)
{
	for (enum side side = CLIENT; side <= BACKEND; side++) {
		const struct detection x = {
			.d = d, .section = s, .side = side, .leg = &r->leg[side],
			.detect = parsed_decides(d, s, key_find("detect", SCOPE_ROUTE), side),
		};

		note_hands(&x);
		if (x.leg->detect_ms > 0) {
			set_probes(&x);
			set_heartbeats(&x);
		}
		resolve_profile(r, d, s, side);
		resolve_user_timeout(x.leg);
	}
}
