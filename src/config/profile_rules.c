/*
 * profile_rules.c - what a profile does for a leg, and who else ends its quiet flows.
 *
 * It only makes values smaller: the defaults and what follows from detect are
 * smaller than most limits, and how soon a death is known must not become worse
 * by it. What is set by hand stays, with a warning if it is too long.
 */
#include <inttypes.h>
#include <string.h>

#include "config/make.h"
#include "config/profiles.h"
#include "config/units.h"

struct behind {
	struct parsed *d;
	const struct section *section;
	const struct entry *profile;
	const struct profile *p;
	const struct route *route;
	enum side side;
	struct leg_settings *leg;
};

static const struct entry *
entry_of(const struct behind *b, const char *key)
{
	const struct entry *e = parsed_decides(b->d, b->section, key_find(key, SCOPE_ROUTE), b->side);

	return e != NULL && e->is_good && strcmp(e->text, "auto") != 0 ? e : NULL;
}

/* A value by hand that is not below the limit. */
static void
warn_of_value(const struct behind *b, const char *key, int64_t ms)
{
	const struct entry *e = entry_of(b, key);
	char limit[DURATION_TEXT_MAX], quiet[DURATION_TEXT_MAX];

	if (e == NULL || ms < b->p->limit_ms)
		return;
	errors_warn(&b->d->errors, e->line, "%s: \"%s\" is too long for profile = %s (the %s leg), where a flow without %s for %s is %s; "
	    "write at most %s", e->name, e->text, b->p->name, side_name(b->side), b->p->counts_data ? "data" : "packets",
	    duration_text(b->p->limit_ms, limit), b->p->then, duration_text(profile_quiet_ms(b->p), quiet));
}

static void
limit_probes(const struct behind *b)
{
	const int64_t quiet_s = profile_quiet_ms(b->p) / 1000;

	if (b->leg->origin.keepalive == ORIGIN_HAND)
		warn_of_value(b, "keepalive", b->leg->keepalive.idle_s * INT64_C(1000));
	else if (b->leg->keepalive.idle_s > quiet_s) {
		b->leg->keepalive.idle_s = (int)quiet_s;
		b->leg->origin.keepalive = ORIGIN_PROFILE;
	}
}

static void
limit_heartbeats(const struct behind *b)
{
	struct leg_settings *leg = b->leg;
	const int64_t quiet_ms = profile_quiet_ms(b->p);

	if (leg->origin.heartbeat == ORIGIN_HAND) {
		warn_of_value(b, "heartbeat", leg->heartbeat_ms);
		return;
	}
	if (leg->heartbeat_is_auto && (leg->heartbeat_max_ms == 0 || leg->heartbeat_max_ms > quiet_ms)) {
		leg->heartbeat_max_ms = quiet_ms;
		leg->origin.heartbeat = ORIGIN_PROFILE;
	}
	if (leg->heartbeat_ms > quiet_ms) {
		leg->heartbeat_ms = quiet_ms;
		leg->origin.heartbeat = ORIGIN_PROFILE;
	}
}

/* Nothing keeps an idle flow of this leg alive. */
static void
warn_of_nothing(const struct behind *b)
{
	const unsigned kinds = b->route->codec != NULL ? b->route->codec->leg[b->side].kinds : 0;
	char limit[DURATION_TEXT_MAX];

	duration_text(b->p->limit_ms, limit);
	if (b->p->counts_data && kinds == 0)
		errors_warn(&b->d->errors, b->profile->line, "%s: %s counts data alone, and protocol = %s has no heartbeats toward the %s: "
		    "a flow without data for %s is %s; name the protocol, or raise that limit", b->profile->name, b->p->name,
		    b->route->protocol, side_name(b->side), limit, b->p->then);
	else if (b->p->counts_data)
		errors_warn(&b->d->errors, b->profile->line, "%s: %s counts data alone, and there are no heartbeats toward the %s: a flow "
		    "without data for %s is %s; write %s.heartbeat = auto", b->profile->name, b->p->name, side_name(b->side), limit,
		    b->p->then, side_name(b->side));
	else
		errors_warn(&b->d->errors, b->profile->line, "%s: there are neither probes nor heartbeats toward the %s, and with %s a quiet "
		    "flow is %s after %s; remove %s.keepalive = off", b->profile->name, side_name(b->side), b->p->name, b->p->then,
		    limit, side_name(b->side));
}

/* Without heartbeats the server's own idle rule holds, which few know of. */
static void
warn_of_server(const struct behind *b)
{
	const struct codec *codec = b->route->codec;
	const struct entry *e = entry_of(b, "heartbeat");
	char after[DURATION_TEXT_MAX];
	int64_t ended_ms = INT64_MAX;

	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (b->route->leg[s].idle_timeout_ms > 0 && b->route->leg[s].idle_timeout_ms < ended_ms)
			ended_ms = b->route->leg[s].idle_timeout_ms;
	if (codec == NULL || e == NULL || codec->server_idle.ms == 0 || ended_ms <= codec->server_idle.ms)
		return;
	duration_text(codec->server_idle.ms, after);
	errors_warn(&b->d->errors, e->line, "%s: with \"%s\" the server closes a connection on which nothing was said for %s, its default "
	    "%s; remove this, or write idle_timeout = %s if that is wanted", e->name, e->text, after, codec->server_idle.setting, after);
}

void
resolve_profile(struct route *r, struct parsed *d, const struct section *s, enum side side)
{
	struct behind b = { .d = d, .section = s, .p = r->leg[side].profile, .route = r, .side = side, .leg = &r->leg[side] };
	const bool beats = b.leg->heartbeat_ms > 0 || b.leg->heartbeat_is_auto;

	if (side == BACKEND && !beats)
		warn_of_server(&b);
	if (b.p == NULL)
		return;
	b.profile = entry_of(&b, "profile");
	if (b.leg->keepalive.idle_s > 0 && !b.p->counts_data)
		limit_probes(&b);
	else if (beats)
		limit_heartbeats(&b);
	else if (b.profile != NULL)
		warn_of_nothing(&b);
}
