/* report.c - what was found, with a drawing: a row for each quiet time, a column for each method, a mark for each flow. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/measurement.h"
#include "stent/clock.h"

#define MARKS_MAX 14	/* flows in a cell of the drawing */
#define COLUMN 16

static const char marks[OUTCOMES] = {
	[OUTCOME_SURVIVED] = '+', [OUTCOME_SILENT] = 'x', [OUTCOME_REJECTED] = 'r', [OUTCOME_RESET] = 'R', [OUTCOME_FIN] = 'F',
};

/* The quiet times that have outcomes, in order. Returns how many; free *ret. */
static size_t
quiet_times(const struct search *s, int64_t **ret)
{
	int64_t last = 0;
	size_t n = 0;

	*ret = calloc(s->n + 1, sizeof(**ret));
	for (; *ret != NULL;) {
		int64_t next = INT64_MAX;

		for (size_t i = 0; i < s->n; i++)
			if (s->samples[i].outcome != OUTCOME_UNUSED && s->samples[i].quiet_ms > last && s->samples[i].quiet_ms < next)
				next = s->samples[i].quiet_ms;
		if (next == INT64_MAX)
			break;
		(*ret)[n++] = last = next;
	}
	return n;
}

static int
count_at(const struct search *s, enum method m, int64_t quiet_ms, enum outcome outcome)
{
	int n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += s->samples[i].method == m && s->samples[i].quiet_ms == quiet_ms && s->samples[i].outcome == outcome;
	return n;
}

/* The marks of a cell, and the number of blanks to the next one. */
static int
draw_cell(const struct search *s, enum method m, int64_t quiet_ms, int blanks, FILE *out)
{
	char cell[MARKS_MAX + 1] = "";
	int n = 0;

	for (enum outcome o = OUTCOME_SURVIVED; o < OUTCOME_UNUSED; o++)
		for (int k = count_at(s, m, quiet_ms, o); k > 0 && n < MARKS_MAX; k--)
			cell[n++] = marks[o];
	if (n == 0)
		return blanks + COLUMN;
	fprintf(out, "%*s%s", blanks, "", cell);
	return COLUMN - n;
}

static void
draw(const struct measurement *m, FILE *out)
{
	const struct search *s = &m->search;
	const int methods = s->settings.has_heartbeats ? METHODS : METHOD_HEARTBEATS;
	int64_t *times;
	const size_t n = quiet_times(s, &times);
	char text[TIME_TEXT_MAX];

	fprintf(out, "\n%10s  %-*s%-*s%s\n", "quiet for", COLUMN, "nothing sent", methods == METHODS ? COLUMN : 0, "TCP probes",
	    methods == METHODS ? "heartbeats" : "");
	for (size_t i = 0; i < n; i++) {
		int blanks = 2;

		fprintf(out, "%10s", time_text(times[i], text));
		for (int k = 0; k < methods; k++)
			blanks = draw_cell(s, (enum method)k, times[i], blanks, out);
		fputs("\n", out);
	}
	fputs("  + survived   x forgotten silently   r forgotten, reset when used   R reset by itself   F closed by the server\n\n", out);
	free(times);
}

static double
seconds(int64_t ms)
{
	return (double)ms / 1000;
}

void
report_text(const struct measurement *m, FILE *out)
{
	char settings[ADVICE_MAX];

	fprintf(out, "%s%s%s%s, %s: %d flows, %.0f s, round trip %.1f ms\n", m->options->target, strcmp(m->options->target, m->address) ?
	    " (" : "", strcmp(m->options->target, m->address) ? m->address : "", strcmp(m->options->target, m->address) ? ")" : "",
	    m->protocol, m->opened, (double)(clock_us() - m->started_us) / US_PER_S, (double)m->round_trip_us / US_PER_MS);
	draw(m, out);
	findings_tell(m, out);
	findings_settings(m, settings);
	if (settings[0] == '\0') {
		fputs("\nNo settings follow from this.\n", out);
		return;
	}
	fputs("\nSettings for the route whose leg has this path (before a key, `backend.` or `client.` means that leg alone):\n\n", out);
	for (char *line = strtok(settings, "\n"); line != NULL; line = strtok(NULL, "\n"))
		fprintf(out, "    %s\n", line);
}

static json_t *
json_points(const struct search *s, enum method m)
{
	json_t *points = json_array();
	int64_t *times;
	const size_t n = quiet_times(s, &times);

	for (size_t i = 0; i < n; i++) {
		json_t *point = json_pack("{s:f}", "quiet_seconds", seconds(times[i]));
		int sum = 0;

		for (enum outcome o = OUTCOME_SURVIVED; o < OUTCOME_UNUSED; o++) {
			const int k = count_at(s, m, times[i], o);

			json_object_set_new(point, outcome_names[o], json_integer(k));
			sum += k;
		}
		if (sum > 0)
			json_array_append(points, point);
		json_decref(point);
	}
	free(times);
	return points;
}

static json_t *
seconds_or_null(int64_t ms)
{
	return ms > 0 ? json_real(seconds(ms)) : json_null();
}

static json_t *
json_method(const struct measurement *m, enum method method)
{
	struct limit l;
	const char *how;

	search_limit(&m->search, method, &l);
	how = outcome_names[limit_how(&l)];
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:o}", "method", method_names[method],
	    "interval_seconds", method == METHOD_QUIET ? json_null() : json_integer(m->course.interval_s),
	    "limit", limit_kind_names[l.kind], "from_seconds", seconds_or_null(l.from_ms), "to_seconds", seconds_or_null(l.to_ms),
	    "longest_survived_seconds", seconds_or_null(l.longest_ms), "how", limit_losses(&l) > 0 ? json_string(how) : json_null(),
	    "survived", l.count[OUTCOME_SURVIVED], "lost", limit_losses(&l), "strays", l.strays, "points", json_points(&m->search, method));
}

/* The settings as members of an object. */
static json_t *
json_settings(const struct measurement *m)
{
	char settings[ADVICE_MAX];
	json_t *j = json_object();

	findings_settings(m, settings);
	for (char *line = strtok(settings, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		char *equals = strstr(line, " = ");

		*equals = '\0';
		json_object_set_new(j, line, json_string(equals + 3));
	}
	return j;
}

static json_t *
json_findings(const struct measurement *m)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	json_t *lines = json_array();

	if (out == NULL)
		return lines;
	findings_tell(m, out);
	fclose(out);
	for (char *line = text != NULL ? strtok(text, "\n") : NULL; line != NULL; line = strtok(NULL, "\n"))
		json_array_append_new(lines, json_string(line));
	free(text);
	return lines;
}

void
report_json(const struct measurement *m, FILE *out)
{
	const int methods = m->search.settings.has_heartbeats ? METHODS : METHOD_HEARTBEATS;
	json_t *list = json_array(), *j;

	for (int k = 0; k < methods; k++)
		json_array_append_new(list, json_method(m, (enum method)k));
	j = json_pack("{s:s, s:s, s:s, s:b, s:f, s:f, s:i, s:i, s:i, s:s, s:o, s:o, s:o}", "target", m->options->target, "address",
	    m->address, "protocol", m->protocol, "complete", !m->interrupted, "seconds", (double)(clock_us() - m->started_us) / US_PER_S,
	    "round_trip_seconds", (double)m->round_trip_us / US_PER_S, "flows", m->opened, "flows_unopened", m->unopened,
	    "flows_not_quiet", m->spoken, "counts", counts_names[search_counts(&m->search)], "methods", list, "settings", json_settings(m),
	    "findings", json_findings(m));
	if (j != NULL)
		json_dumpf(j, out, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	putc('\n', out);
	json_decref(j);
}
