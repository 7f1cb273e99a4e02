/*
 * findings.c - the answer in sentences, and the settings that follow from it.
 *
 * A value for the settings is half of the longest time that all flows survived: one packet may be lost, and limits
 * differ from day to day. It is never longer than stent's defaults, which fit all that is longer.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/measurement.h"

#define DEFAULT_IDLE_S 25	/* of keepalive; the test of the ini lines holds it to the table of keys */
#define DEFAULT_INTERVAL_S 10

static const char server_rule[] =
    "That is a rule of the server, or of a proxy in front of it, not of the path: the path itself remembers at\n"
    "least as long. For the path's own limit, measure against a port whose server keeps idle clients, such as one\n"
    "of `stent doctor --listen` on that host.";

const char *const method_names[METHODS] = { "quiet", "probes", "heartbeats" };
const char *const outcome_names[OUTCOMES] = {
	[OUTCOME_SURVIVED] = "survived",
	[OUTCOME_SILENT] = "silent",
	[OUTCOME_REJECTED] = "rejected",
	[OUTCOME_RESET] = "reset",
	[OUTCOME_FIN] = "fin",
};
const char *const limit_kind_names[] = {
	[LIMIT_UNKNOWN] = "unknown",
	[LIMIT_NONE] = "none",
	[LIMIT_FIXED] = "fixed",
	[LIMIT_WIDE] = "wide",
	[LIMIT_RANDOM] = "random",
};
const char *const counts_names[] = {
	[COUNTS_UNKNOWN] = "unknown",
	[COUNTS_ANY_PACKET] = "any-packet",
	[COUNTS_PAYLOAD] = "payload",
	[COUNTS_NOT_PROBES] = "not-probes",
	[COUNTS_NOTHING] = "nothing",
};

const char *
time_text(int64_t ms, char buf[TIME_TEXT_MAX])
{
	const int64_t s = ms / 1000;

	if (s < 100)
		snprintf(buf, TIME_TEXT_MAX, ms % 1000 >= 50 ? "%.1fs" : "%.0fs", (double)ms / 1000);
	else if (s < 6000 && s % 60 != 0)
		snprintf(buf, TIME_TEXT_MAX, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
	else if (s < 6000)
		snprintf(buf, TIME_TEXT_MAX, "%" PRId64 "m", s / 60);
	else
		snprintf(buf, TIME_TEXT_MAX, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
	return buf;
}

/* Half of it, rounded down to a number that one would write. */
static int64_t
half_of(int64_t ms)
{
	static const int numbers[] = { 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 90, 120, 150, 180, 240, 300 };
	int64_t best = 1;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i] * INT64_C(2000) <= ms)
			best = numbers[i];
	return best;
}

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void
findings_advise(const struct measurement *m, struct advice *ret)
{
	const enum counts counts = search_counts(&m->search);
	struct limit l;
	int64_t half;

	memset(ret, 0, sizeof(*ret));
	search_limit(&m->search, METHOD_QUIET, &l);
	half = half_of(l.from_ms > 0 ? l.from_ms : l.to_ms);
	if (counts == COUNTS_ANY_PACKET || l.kind == LIMIT_NONE || (counts == COUNTS_UNKNOWN && l.kind != LIMIT_UNKNOWN))
		ret->keepalive_s = smaller(half, DEFAULT_IDLE_S);
	if (m->course.codec != NULL && (counts == COUNTS_PAYLOAD || (counts == COUNTS_UNKNOWN && limit_losses(&l) > 0))) {
		const int64_t usual_s = m->course.codec->leg[BACKEND].interval_ms / 1000;

		ret->heartbeat_s = usual_s > 0 ? smaller(half, usual_s) : half;
	}
}

/* A line of the settings as `stent check` prints it, with the quotes that it needs. Returns its length, 0: it has no room. */
static int
add_setting(const struct measurement *m, const char *key, char *buf, size_t room)
{
	char *text = NULL, *line;
	size_t size = 0, len = 0;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return 0;
	config_print(m->config, out);
	if (fclose(out) != 0 || text == NULL)
		return 0;
	line = strstr(text, key);
	if (line != NULL && strcspn(line, "\n") + 1 < room) {
		len = strcspn(line, "\n") + 1;
		memcpy(buf, line, len);
	}
	buf[len] = '\0';
	free(text);
	return (int)len;
}

void
findings_settings(const struct measurement *m, char ret[ADVICE_MAX])
{
	struct advice a;
	int n = 0;

	findings_advise(m, &a);
	ret[0] = '\0';
	if (a.heartbeat_s > 0 || (a.keepalive_s > 0 && m->course.codec != NULL))
		n += snprintf(ret + n, ADVICE_MAX - (size_t)n, "protocol = %s\n", m->protocol);
	if (a.keepalive_s > 0)
		n += snprintf(ret + n, ADVICE_MAX - (size_t)n, "keepalive = %" PRId64 "s/%" PRId64 "s/6\n", a.keepalive_s,
		    smaller(a.keepalive_s, DEFAULT_INTERVAL_S));
	if (a.heartbeat_s > 0)
		n += snprintf(ret + n, ADVICE_MAX - (size_t)n, "heartbeat = %" PRId64 "s\n", a.heartbeat_s);
	if (n > 0 && m->options->send != NULL)
		n += add_setting(m, "backend.heartbeat_send", ret + n, ADVICE_MAX - (size_t)n);
	if (n > 0 && m->options->expect != NULL)
		(void)add_setting(m, "backend.heartbeat_expect", ret + n, ADVICE_MAX - (size_t)n);
}

/* "2 of 2 flows survived 9s (95 % confidence: at least 15 % of all do)" */
static void
tell_share(int k, int n, const char *what, const char *when, FILE *out)
{
	double low, high;

	share_bounds(k, n, &low, &high);
	fprintf(out, "%d of %d flows %s%s (95 %% confidence: ", k, n, what, when);
	if (k == n)
		fprintf(out, "at least %.0f %% of all)", floor(100 * low));
	else
		fprintf(out, "%.0f to %.0f %% of all)", floor(100 * low), ceil(100 * high));
}

static void
tell_how(const struct limit *l, FILE *out)
{
	static const char *const texts[OUTCOMES] = {
		[OUTCOME_SILENT] = "It forgets silently: packets on a forgotten flow are not answered.",
		[OUTCOME_REJECTED] = "A packet on a forgotten flow is answered by a reset.",
		[OUTCOME_RESET] = "A reset comes by itself at that time.",
		[OUTCOME_FIN] = server_rule,
	};
	const enum outcome how = limit_how(l);

	if (texts[how] != NULL)
		fprintf(out, "%s\n", texts[how]);
}

static void
tell_samples(const struct limit *l, FILE *out)
{
	const int timed = l->count[OUTCOME_FIN] + l->count[OUTCOME_RESET];
	char text[TIME_TEXT_MAX];

	if (timed > 0)
		fprintf(out, "%d flow%s timed as %s ended.\n", timed, timed == 1 ? " was" : "s were", timed == 1 ? "it" : "they");
	else if (l->at_from > 0) {
		tell_share(l->at_from, l->at_from, "survived ", time_text(l->from_ms, text), out);
	}
	if (timed == 0 && l->at_from > 0 && l->at_to > 0)
		fputs("; ", out);
	if (timed == 0 && l->at_to > 0)
		tell_share(l->at_to, l->at_to, "were lost at ", time_text(l->to_ms, text), out);
	if (timed == 0 && (l->at_from > 0 || l->at_to > 0))
		fputs(".\n", out);
	if (l->strays > 0)
		fprintf(out, "%d flow%s lost earlier, the first after %s, while others of that age survived.\n", l->strays,
		    l->strays == 1 ? " was" : "s were", time_text(l->first_stray_ms, text));
}

static void
tell_limit(const struct limit *l, FILE *out)
{
	const char *subject = limit_how(l) == OUTCOME_FIN ? "The server closes quiet flows (FIN)" : "The path forgets quiet flows";
	const int lost = limit_losses(l), resolved = lost + l->count[OUTCOME_SURVIVED];
	char from[TIME_TEXT_MAX], to[TIME_TEXT_MAX];

	switch (l->kind) {
	case LIMIT_UNKNOWN:
		fputs("Nothing is known yet of quiet flows.\n", out);
		return;
	case LIMIT_NONE:
		fprintf(out, "Quiet flows survive: no limit was found up to %s.\n", time_text(l->longest_ms, to));
		tell_samples(l, out);
		return;
	case LIMIT_RANDOM:
		fputs("Flows are lost after any time, as when a table is full and others are evicted:\n", out);
		tell_share(lost, resolved, "were lost", "", out);
		fprintf(out, ", the first after %s; some survived %s.\n", time_text(l->first_stray_ms > 0 ? l->first_stray_ms : l->from_ms,
		    from), time_text(l->longest_ms, to));
		break;
	case LIMIT_WIDE:
	case LIMIT_FIXED:
		if (l->to_ms == 0)
			fprintf(out, "%s after %s at the earliest, but not all of them.\n", subject, time_text(l->from_ms, from));
		else if (l->from_ms == 0)
			fprintf(out, "%s after %s or less.\n", subject, time_text(l->to_ms, to));
		else if (strcmp(time_text(l->from_ms, from), time_text(l->to_ms, to)) == 0)
			fprintf(out, "%s after %s.\n", subject, to);
		else
			fprintf(out, "%s after %s to %s%s.\n", subject, from, to,
			    l->longest_ms > l->from_ms && l->kind == LIMIT_WIDE ? ", not all of them at the same time" : "");
		tell_samples(l, out);
	}
	tell_how(l, out);
}

/* "2 of 2 flows survived up to 12s (...)" */
static void
tell_outlived(const struct measurement *m, enum method method, FILE *out)
{
	struct limit l;
	char text[TIME_TEXT_MAX];
	int tried;
	const int survived = search_outlived(&m->search, method, &tried);

	search_limit(&m->search, method, &l);
	tell_share(survived, tried, "lived longer than that, up to ", time_text(l.longest_ms, text), out);
	fputs(".\n", out);
}

/* What was found of the flows that were not quiet. */
static void
tell_counts(const struct measurement *m, FILE *out)
{
	switch (search_counts(&m->search)) {
	case COUNTS_UNKNOWN:
		break;
	case COUNTS_ANY_PACKET:
		fprintf(out, "Any packet counts. With TCP probes every %d s, ", m->course.interval_s);
		tell_outlived(m, METHOD_PROBES, out);
		break;
	case COUNTS_PAYLOAD:
		fprintf(out, "Payload alone counts. TCP probes every %d s do not keep a flow; with heartbeats, ", m->course.interval_s);
		tell_outlived(m, METHOD_HEARTBEATS, out);
		break;
	case COUNTS_NOT_PROBES:
		fprintf(out, "TCP probes every %d s do not keep a flow. Whether payload does is not known: measure with a protocol that has\n"
		    "heartbeats (--protocol=websocket or redis), or with a text that the server ignores (--send).\n", m->course.interval_s);
		break;
	case COUNTS_NOTHING:
		fputs("Neither TCP probes nor heartbeats keep a flow: its age is limited. No setting of stent changes that.\n", out);
		break;
	}
}

static void
tell_notes(const struct measurement *m, FILE *out)
{
	if (m->interrupted)
		fputs("Interrupted: this is what is known so far.\n", out);
	if (m->note[0] != '\0')
		fprintf(out, "Note: %s.\n", m->note);
	if (m->course.codec == NULL)
		fputs("Note: without payload, TCP probes ask whether a flow is remembered. A firewall that passes them unseen (it counts and\n"
		    "checks payload alone) is found only with --protocol or --send.\n", out);
	if (m->unopened > 0)
		fprintf(out, "Note: %d flow%s could not be measured (%s): the figures hold without them.\n", m->unopened,
		    m->unopened == 1 ? "" : "s", m->last_error != 0 ? strerror(m->last_error) : "closed by the server at its beginning");
	if (m->spoken > 0)
		fprintf(out, "Note: %d flow%s not quiet, as the server itself sent data or TCP probes, and %s not counted. Where those keep the\n"
		    "path, longer times cannot be measured here: use another port, such as one of `stent doctor --listen` on that host.\n",
		    m->spoken, m->spoken == 1 ? " was" : "s were", m->spoken == 1 ? "is" : "are");
}

void
findings_tell(const struct measurement *m, FILE *out)
{
	struct limit l;

	search_limit(&m->search, METHOD_QUIET, &l);
	tell_limit(&l, out);
	tell_counts(m, out);
	tell_notes(m, out);
}
