/*
 * print_detect.c - what `stent check` says of detect and profile, as comments
 * after the settings: what follows from them, and what it costs.
 */
#include <inttypes.h>

#include "config/make.h"
#include "config/profiles.h"
#include "config/units.h"

#define HOUR_MS INT64_C(3600000)

static const char *
origin_text(enum origin origin)
{
	switch (origin) {
	case ORIGIN_HAND:
		return "set";
	case ORIGIN_DETECT:
		return "from detect";
	case ORIGIN_PROFILE:
		return "from profile";
	default:
		return "default";
	}
}

static unsigned
kinds_of(const struct route *r, enum side s)
{
	return r->codec != NULL ? r->codec->leg[s].kinds : 0;
}

/* A heartbeat of the leg may be a ping: only a reply shows that its program runs. */
static bool
may_ping(const struct route *r, enum side s)
{
	const struct leg_settings *l = &r->leg[s];

	if ((r->codec == NULL || (l->heartbeat_ms == 0 && !l->heartbeat_is_auto)) || (kinds_of(r, s) & HEARTBEAT_PING) == 0)
		return false;
	if ((r->codec->traits & CODEC_TAKES_TEXTS) != 0)
		return r->codec_settings.heartbeat_expect[s].len > 0;
	return l->heartbeat_kind == 0 ? r->codec->leg[s].kind == HEARTBEAT_PING || (r->codec->traits & CODEC_MAY_BE_ANY) != 0
	    : l->heartbeat_kind == HEARTBEAT_PING;
}

static int64_t
interval_ms(const struct leg_settings *l)
{
	return l->heartbeat_is_auto ? l->heartbeat_max_ms : l->heartbeat_ms;
}

/*
 * Packets an hour of a flow on which nothing is said: a ping, its reply and the acknowledgement of that, or a one-way
 * heartbeat and its acknowledgement; or a probe and its. A leg that is heard before a probe is due gets none. Gaps
 * between heartbeats are nine tenths of the interval on average.
 */
static int64_t
packets_an_hour(const struct route *r, enum side s)
{
	const struct leg_settings *l = &r->leg[s];
	const int64_t beat_ms = interval_ms(l) * 9 / 10, probe_ms = l->keepalive.idle_s * INT64_C(1000);
	int64_t n = 0;

	if (beat_ms > 0)
		n += HOUR_MS / beat_ms * (may_ping(r, s) ? 3 : 2);
	if (probe_ms > 0 && (beat_ms == 0 || probe_ms < beat_ms))
		n += beat_ms == 0 ? HOUR_MS / probe_ms * 2 : HOUR_MS / beat_ms * (beat_ms / probe_ms) * 2;
	return n;
}

static void
print_probes(const struct leg_settings *l, FILE *out)
{
	char idle[DURATION_TEXT_MAX], interval[DURATION_TEXT_MAX], all[DURATION_TEXT_MAX], user[DURATION_TEXT_MAX];

	if (l->keepalive.idle_s == 0)
		return;
	fprintf(out, ";   probes     after %s, then each %s (%s): a dead host or path is found within %s\n",
	    duration_text(l->keepalive.idle_s * INT64_C(1000), idle), duration_text(l->keepalive.interval_s * INT64_C(1000), interval),
	    origin_text(l->origin.keepalive),
	    duration_text(l->detect_ms > 0 ? l->detect_ms : (l->keepalive.idle_s + (int64_t)l->keepalive.interval_s * l->keepalive.probes) * 1000, all));
	if (l->keepalive.user_timeout_ms > 0)
		fprintf(out, ";   bytes      unacknowledged for %s (%s): dead\n", duration_text(l->keepalive.user_timeout_ms, user),
		    origin_text(l->origin.user_timeout));
}

static void
print_heartbeats(const struct route *r, enum side s, FILE *out)
{
	const struct leg_settings *l = &r->leg[s];
	const int misses = l->heartbeat_misses < 0 ? HEARTBEAT_MISSES_AUTO : l->heartbeat_misses;
	char after[DURATION_TEXT_MAX], timeout[DURATION_TEXT_MAX], found[DURATION_TEXT_MAX];

	if (interval_ms(l) == 0) {
		fprintf(out, ";   heartbeats none: %s; a hung program is not found\n",
		    kinds_of(r, s) == 0 ? "the protocol has none toward this side" : "heartbeat = off");
		return;
	}
	fprintf(out, ";   heartbeats after %s%s (%s)", l->heartbeat_is_auto ? "at most " : "", duration_text(interval_ms(l), after),
	    origin_text(l->origin.heartbeat));
	if (!may_ping(r, s))
		fputs(", which nobody replies to: a hung program is not found\n", out);
	else if (misses == 0)
		fputs("; heartbeat_misses = off: a hung program is not found\n", out);
	else
		fprintf(out, "; %d replies missing for %s each (%s): a hung program is found within %s\n",
		    misses, duration_text(l->heartbeat_timeout_ms, timeout),
		    origin_text(l->origin.heartbeat_timeout),
		    duration_text(interval_ms(l) + l->heartbeat_timeout_ms * misses, found));
}

static void
print_profile(const struct route *r, enum side s, FILE *out)
{
	const struct profile *p = r->leg[s].profile;
	char limit[DURATION_TEXT_MAX];

	fprintf(out, "; [route %s] %s.profile = %s: a flow without %s for %s is %s\n", r->name, side_name(s), p->name,
	    p->counts_data ? "data" : "packets", duration_text(p->limit_ms, limit), p->then);
	fprintf(out, ";   source     %s (read %s)\n", p->source, p->read);
}

void
config_print_detection(const struct config *c, FILE *out)
{
	char detect[DURATION_TEXT_MAX];

	for (size_t i = 0; i < c->n_routes; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			const struct route *r = &c->routes[i];
			const struct leg_settings *l = &r->leg[s];

			if (l->detect_ms == 0 && l->profile == NULL)
				continue;
			putc('\n', out);
			if (l->detect_ms > 0)
				fprintf(out, "; [route %s] %s.detect = %s\n", r->name, side_name(s), duration_text(l->detect_ms, detect));
			if (l->profile != NULL)
				print_profile(r, s, out);
			print_probes(l, out);
			print_heartbeats(r, s, out);
			fprintf(out, ";   costs      %" PRId64 " packets an hour and flow at rest\n", packets_an_hour(r, s));
		}
}
