/*
 * top_screen.c - the screen of `stent top`.
 *
 *	version, flows, bytes			1
 *	protection, filter			1
 *	orders and their keys			1
 *	the flows, with a head
 *	the legs of the selected flow		2
 *	keys, a question or a message		1
 *
 * Only as many flows as fit are asked for, and those above them. A flow that is
 * followed, and not among these, is asked for by its id and stands above the others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/figures.h"
#include "cli/top.h"
#include "cli/top_table.h"
#include "stent/cli.h"
#include "stent/side.h"

#define FIXED_LINES 7	/* all but the flows */
#define LINE_END "\033[K\r\n"

static double
real(const json_t *j, const char *name)
{
	return json_number_value(json_object_get(j, name));
}

static const char *
string(const json_t *j, const char *name)
{
	const char *text = json_string_value(json_object_get(j, name));

	return text != NULL ? text : "-";
}

/* --- above the flows --- */

static void
print_head(struct top *t, FILE *out, const json_t *status)
{
	const json_t *bytes = json_object_get(status, "bytes");
	const double now = real(status, "uptime_seconds"), total = real(bytes, "client") + real(bytes, "backend");
	char a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX];

	fprintf(out, "stent %s  up %s  flows: %lld open, %s total  bytes: %s", string(status, "version"), figure_time(a, now),
	    (long long)json_integer_value(json_object_get(status, "flows_open")),
	    figure_count(b, (uint64_t)real(status, "flows_total")), figure_count(c, (uint64_t)total));
	if (t->at > 0 && now > t->at && total >= t->bytes)
		fprintf(out, " (%s/s)", figure_count(a, (uint64_t)((total - t->bytes) / (now - t->at))));
	fputs(json_is_true(json_object_get(status, "draining")) ? "  draining" : "", out);
	fputs(LINE_END, out);
	t->at = now;
	t->bytes = total;
}

static void
print_protection(const struct top *t, FILE *out, const json_t *status)
{
	const json_t *p = json_object_get(status, "protection");
	char a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX];

	fprintf(out, "protected: %s on both legs, %s on one, %s by probes alone", figure_count(a, (uint64_t)real(p, "both")),
	    figure_count(b, (uint64_t)real(p, "one")), figure_count(c, (uint64_t)real(p, "probes")));
	if (t->filter[0] != '\0')
		fprintf(out, "  filter: %s", t->filter);
	if (t->follows)
		fprintf(out, "  following %lld", (long long)t->selected);
	fputs(LINE_END, out);
}

static void
print_orders(const struct top *t, FILE *out)
{
	static const char *const texts[] = {
		"a age", "n newest", "b bytes", "i idle", "r round trip", "h heartbeats", "p protection", "o route",
	};

	fputs("order:", out);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		fprintf(out, i == t->order ? " \033[7m%s\033[0m" : " %s", texts[i]);
	fputs(LINE_END, out);
}

/* --- the flows --- */

static json_t *
ask_flows(const struct top *t, const char *words, char why[CONTROL_WHY_MAX])
{
	char request[CONTROL_REQUEST_MAX];

	snprintf(request, sizeof(request), "flows sort=%s %s", top_orders[t->order], words);
	return control_client_try(t->path, request, why);
}

/* The flows down to the last line of the screen. */
static json_t *
ask_screen(const struct top *t, char why[CONTROL_WHY_MAX])
{
	const size_t last = t->first + t->rows;
	char words[TOP_FILTER_MAX + 64];
	const int n = snprintf(words, sizeof(words), "limit=%zu%s", last < TOP_LIMIT ? last : TOP_LIMIT, t->filter[0] != '\0' ? " text=" : "");

	for (size_t i = 0; t->filter[i] != '\0'; i++) {
		words[(size_t)n + i] = t->filter[i];
		if (t->filter[i] == ' ')
			words[(size_t)n + i] = '+';	/* words of a request are separated by blanks */
		words[(size_t)n + i + 1] = '\0';
	}
	return ask_flows(t, words, why);
}

static size_t
find(const json_t *flows, json_int_t id)
{
	size_t i = 0;

	while (i < json_array_size(flows) && json_integer_value(json_object_get(json_array_get(flows, i), "id")) != id)
		i++;
	return i;
}

/* Puts the followed flow on the screen, if it is not there. */
static void
follow(struct top *t, json_t *flows)
{
	const size_t at = find(flows, t->selected);
	char words[64], why[CONTROL_WHY_MAX];
	json_t *one;

	if (at < json_array_size(flows)) {
		t->cursor = at;
		t->first = at < t->first ? at : t->first;
		return;
	}
	snprintf(words, sizeof(words), "id=%lld", (long long)t->selected);
	one = ask_flows(t, words, why);
	if (json_array_size(one) == 1) {
		t->first = t->first < json_array_size(flows) ? t->first : json_array_size(flows);
		json_array_insert(flows, t->first, json_array_get(one, 0));
		t->cursor = t->first;
	} else if (one != NULL) {
		snprintf(t->message, sizeof(t->message), "flow %lld, which was followed, has ended", (long long)t->selected);
		t->follows = false;
	}
	json_decref(one);
}

/* The line at the cursor; the last one, where there are not so many. NULL: there are none. */
static const json_t *
select_flow(struct top *t, json_t *flows)
{
	const json_t *flow;
	size_t n;

	if (t->follows)
		follow(t, flows);
	n = json_array_size(flows);
	if (t->cursor >= n)
		t->cursor = n > 0 ? n - 1 : 0;
	if (t->cursor < t->first || t->cursor >= t->first + t->rows)
		t->first = t->cursor >= t->rows ? t->cursor - t->rows + 1 : 0;
	flow = json_array_get(flows, t->cursor);
	t->selected = json_integer_value(json_object_get(flow, "id"));
	snprintf(t->selected_text, sizeof(t->selected_text), "route %s, client %s", string(flow, "route"),
	    string(json_object_get(flow, "client"), "address"));
	figure_harmless(t->selected_text);
	t->is_stale = false;
	return flow;
}

/* --- below them --- */

static void
print_leg(FILE *out, const json_t *flow, enum side side)
{
	const json_t *leg = json_object_get(flow, side_name(side));
	const char *why = json_string_value(json_object_get(leg, "why_none")), *tls = json_string_value(json_object_get(leg, "tls"));
	char text[256], rtt[FIGURE_MAX];
	size_t n;

	n = (size_t)snprintf(text, sizeof(text), "%-8s%s  ", side_name(side), string(leg, "address"));
	if (why != NULL)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "no heartbeats: %s", why);
	else
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%lld heartbeats, %lld replies",
		    (long long)json_integer_value(json_object_get(leg, "heartbeats")),
		    (long long)json_integer_value(json_object_get(leg, "replies")));
	if (n < sizeof(text) && json_is_number(json_object_get(leg, "rtt_ms")))
		n += (size_t)snprintf(text + n, sizeof(text) - n, ", round trip %s", figure_rtt(rtt, real(leg, "rtt_ms")));
	if (n < sizeof(text) && json_is_true(json_object_get(leg, "detect_too_short")))
		n += (size_t)snprintf(text + n, sizeof(text) - n, " (too long for detect)");
	if (n < sizeof(text) && tls != NULL)
		snprintf(text + n, sizeof(text) - n, ", %s %s%s", tls, string(leg, "cipher"),
		    json_is_true(json_object_get(leg, "resumed")) ? " resumed" : "");
	fputs(figure_harmless(text), out);
}

static void
print_bottom(const struct top *t, FILE *out)
{
	switch (t->mode) {
	case TOP_KILL:
		fprintf(out, "\033[7mend flow %lld (%s)? y/n\033[0m", (long long)t->asked, t->asked_text);
		break;
	case TOP_FILTER:
		fprintf(out, "filter: %s\033[7m \033[0m  Enter keeps it, Esc clears it", t->filter);
		break;
	case TOP_LIST:
		if (t->message[0] != '\0')
			fprintf(out, "\033[7m%s\033[0m", t->message);
		else
			fputs("arrows select  f follow  k end a flow  / filter  < > order  Esc clear  q quit", out);
	}
}

/* --- the whole --- */

static void
print_gone(struct top *t, FILE *out, char *why)
{
	t->is_gone = true;
	t->is_stale = false;
	t->selected = t->follows ? t->selected : 0;	/* it may come back with its flows */
	t->mode = TOP_LIST;
	t->at = 0;
	fprintf(out, "%s" LINE_END LINE_END "Trying again every second; q quits." LINE_END "\033[J", figure_harmless(why));
}

/* A stent that was started anew has other flows. */
static void
note_stent(struct top *t, const json_t *status)
{
	const json_int_t pid = json_integer_value(json_object_get(status, "pid"));

	if (t->pid != 0 && t->pid != pid) {
		snprintf(t->message, sizeof(t->message), "stent was started again, pid %lld", (long long)pid);
		t->follows = false;
		t->mode = TOP_LIST;
		t->at = 0;
	} else if (t->is_gone) {
		snprintf(t->message, sizeof(t->message), "stent answers again");
	}
	t->is_gone = false;
	t->pid = pid;
}

static void
print_all(struct top *t, FILE *out, const json_t *status, json_t *flows, const struct top_view *view, size_t lines)
{
	const json_t *flow = select_flow(t, flows);
	struct top_view shown = *view;

	shown.first = t->first;
	shown.selected = t->selected;
	print_head(t, out, status);
	print_protection(t, out, status);
	print_orders(t, out);
	top_print_table(out, flows, &shown);
	fputs("\033[J", out);
	for (enum side s = CLIENT; s <= BACKEND && flow != NULL && lines > FIXED_LINES; s++) {
		fprintf(out, "\033[%zu;1H", lines - 2 + s);
		print_leg(out, flow, s);
	}
	fprintf(out, "\033[%zu;1H", lines);
	print_bottom(t, out);
}

static void
print_screen(struct top *t, FILE *out, size_t lines, size_t columns)
{
	const struct top_view view = { .rows = t->rows, .width = (int)columns, .line_end = LINE_END, .order = top_orders[t->order] };
	char why[CONTROL_WHY_MAX];
	json_t *status = control_client_try(t->path, "status", why), *flows = NULL;

	if (status != NULL) {
		const size_t open = (size_t)json_integer_value(json_object_get(status, "flows_open"));

		note_stent(t, status);
		if (t->cursor >= open)
			t->cursor = open > 0 ? open - 1 : 0;
		if (t->cursor < t->first || t->cursor >= t->first + t->rows)
			t->first = t->cursor < t->first ? t->cursor : t->cursor - t->rows + 1;
		flows = ask_screen(t, why);
	}
	if (flows == NULL)
		print_gone(t, out, why);
	else
		print_all(t, out, status, flows, &view, lines);
	json_decref(status);
	json_decref(flows);
}

char *
top_screen(struct top *t, size_t lines, size_t columns)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	t->rows = lines > FIXED_LINES ? lines - FIXED_LINES : 1;
	fputs("\033[?7l\033[H", out);	/* long lines are cut, not wrapped */
	print_screen(t, out, lines, columns);
	fputs("\033[?7h", out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}
