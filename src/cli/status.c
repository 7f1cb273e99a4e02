/*
 * status.c - `stent status`: a running stent on one screen of 80 columns, by route.
 *
 * Lists are broken at 80 columns, behind a comma.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/control_client.h"
#include "cli/figures.h"
#include "stent/cli.h"
#include "stent/side.h"

#define WIDTH 80
#define LABEL 13	/* columns before what a label is for */
#define NAME_WIDTH 16
#define ITEM_MAX 512

static uint64_t
number(const json_t *j, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(j, name));
}

static const char *
string(const json_t *j, const char *name)
{
	const char *text = json_string_value(json_object_get(j, name));

	return text != NULL ? text : "-";
}

/* "12m" since a time in seconds since 1970. */
static const char *
ago(char buf[FIGURE_MAX], uint64_t at)
{
	const double passed = difftime(time(NULL), (time_t)at);

	return figure_time(buf, passed > 0 ? passed : 0);
}

/* --- lines --- */

struct line {
	size_t column;
};

static void
begin_line(struct line *l, const char *label)
{
	printf("%-*s", LABEL, label);
	l->column = LABEL;
}

/* An item of a list, after a comma, on the next line where it does not fit. */
static void __attribute__((format(printf, 2, 3)))
add_item(struct line *l, const char *fmt, ...)
{
	char text[ITEM_MAX];
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	len = strlen(figure_harmless(text));
	if (l->column > LABEL && l->column + 2 + len + 1 > WIDTH) {
		printf(",\n%*s", LABEL, "");
		l->column = LABEL;
	} else if (l->column > LABEL) {
		printf(", ");
		l->column += 2;
	}
	printf("%s", text);
	l->column += len;
}

static void
print_reasons(const char *label, json_t *counts)
{
	struct line l;

	if (json_object_size(counts) == 0)
		return;
	begin_line(&l, label);
	for (void *i = json_object_iter(counts); i != NULL; i = json_object_iter_next(counts, i))
		add_item(&l, "%s %lld", json_object_iter_key(i), (long long)json_integer_value(json_object_iter_value(i)));
	printf("\n");
}

/* --- the whole --- */

static void
print_head(const json_t *j)
{
	const json_t *load = json_object_get(j, "load");
	const size_t workers = json_array_size(json_object_get(j, "flows_by_worker"));
	char text[FIGURE_MAX];
	struct line l;

	printf("stent %s, pid %d, up for %s, %zu worker%s%s\n", string(j, "version"), (int)number(j, "pid"),
	    figure_time(text, json_number_value(json_object_get(j, "uptime_seconds"))), workers, workers == 1 ? "" : "s",
	    json_is_true(json_object_get(j, "draining")) ? ", draining" : "");
	begin_line(&l, "settings");
	add_item(&l, "%s", string(j, "settings"));
	add_item(&l, "read %s ago", ago(text, number(load, "loaded_at")));
	if (json_is_true(json_object_get(load, "last_failed")))
		add_item(&l, "the last reload failed %s ago: see the log", ago(text, number(load, "failed_at")));
	else if (json_is_true(json_object_get(load, "moving_flows")))
		add_item(&l, "flows are being moved to them");
	printf("\n");
}

static void
print_protection(const json_t *p)
{
	char a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX];

	printf("protected    %s by heartbeats on both legs, %s on one, %s by TCP probes alone\n", figure_count(a, number(p, "both")),
	    figure_count(b, number(p, "one")), figure_count(c, number(p, "probes")));
}

static void
print_counters(const json_t *j)
{
	const json_t *bytes = json_object_get(j, "bytes");
	char a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX];
	struct line l;

	printf("flows        %s open (limit %s%s), %s total\n", figure_count(a, number(j, "flows_open")),
	    figure_count(b, number(j, "max_flows")), strcmp(string(j, "when_full"), "evict") == 0 ? ", then the idlest go" : "",
	    figure_count(c, number(j, "flows_total")));
	print_protection(json_object_get(j, "protection"));
	print_reasons("none because", json_object_get(j, "why_none"));
	printf("bytes        %s from clients, %s from backends\n", figure_count(a, number(bytes, "client")),
	    figure_count(b, number(bytes, "backend")));
	begin_line(&l, "heartbeats");
	for (enum side s = CLIENT; s <= BACKEND; s++)
		add_item(&l, "%s to %ss (%s replies, %s missed)", figure_count(a, number(json_object_get(j, "heartbeats"), side_name(s))),
		    side_name(s), figure_count(b, number(json_object_get(j, "replies"), side_name(s))),
		    figure_count(c, number(json_object_get(j, "misses"), side_name(s))));
	printf("\n");
	print_reasons("passthrough", json_object_get(j, "passthrough"));
	print_reasons("ended", json_object_get(j, "ended"));
	print_reasons("refused", json_object_get(j, "refused"));
}

/* --- routes --- */

static bool
has(const json_t *list, const char *text)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
			return true;
	return false;
}

static void
print_pause(const json_t *pause)
{
	const json_t *left = json_object_get(pause, "seconds_left"), *waiting = json_object_get(pause, "clients_waiting");
	char time[FIGURE_MAX];

	if (!json_is_object(pause))
		return;
	printf("  paused");
	if (json_is_number(left))
		printf(" for %s", figure_time(time, json_number_value(left)));
	if (json_is_integer(waiting))
		printf(", %lld of at most %lld clients wait", (long long)json_integer_value(waiting),
		    (long long)json_integer_value(json_object_get(pause, "clients_limit")));
	printf("\n");
}

static void
print_check(struct line *l, const json_t *check)
{
	char when[FIGURE_MAX], took[FIGURE_MAX];

	if (json_is_object(check))
		add_item(l, "checked %s ago in %s: %s", figure_time(when, json_number_value(json_object_get(check, "seconds_ago"))),
		    figure_time(took, json_number_value(json_object_get(check, "took_seconds"))), string(check, "result"));
}

/* "db1:5432 down, for 3m, backend-refused, 12 flows, 3 failed connects": where there are several, or one is down. */
static void
print_backends(const json_t *states)
{
	char time[FIGURE_MAX], flows[FIGURE_MAX], failures[FIGURE_MAX];
	struct line l;

	for (size_t i = 0; i < json_array_size(states); i++) {
		const json_t *s = json_array_get(states, i);
		const bool is_down = strcmp(string(s, "state"), "down") == 0;

		if (json_array_size(states) < 2 && !is_down && !json_is_object(json_object_get(
		    json_array_get(json_object_get(s, "addresses"), 0), "check")))
			continue;
		begin_line(&l, "");
		add_item(&l, "%s %s", string(s, "backend"), string(s, "state"));
		if (json_is_integer(json_object_get(s, "since")))
			add_item(&l, "for %s", ago(time, number(s, "since")));
		if (is_down)
			add_item(&l, "%s", string(s, "why"));
		add_item(&l, "%s flows", figure_count(flows, number(s, "flows")));
		print_check(&l, json_object_get(json_array_get(json_object_get(s, "addresses"), 0), "check"));
		if (number(s, "connect_failures") > 0)
			add_item(&l, "%s failed connects", figure_count(failures, number(s, "connect_failures")));
		printf("\n");
	}
}

/* Those that are set. */
static void
print_limits(const json_t *limits)
{
	static const char *const lists[] = { "allow", "deny" };
	const json_t *rate = json_object_get(limits, "accept_rate");
	const uint64_t flows = number(limits, "max_flows"), flows_per_client = number(limits, "max_flows_per_client"), seconds = number(rate, "seconds");
	struct line l = { 0 };

	if (flows > 0 || flows_per_client > 0 || seconds > 0 || json_is_string(json_object_get(limits, "allow")) ||
	    json_is_string(json_object_get(limits, "deny")))
		begin_line(&l, "  limits");
	if (flows > 0)
		add_item(&l, "%llu flows%s", (unsigned long long)flows, strcmp(string(limits, "when_full"), "evict") == 0 ? " (then the idlest go)" : "");
	if (flows_per_client > 0)
		add_item(&l, "%llu flows a client", (unsigned long long)flows_per_client);
	if (seconds > 0)
		add_item(&l, "%llu new ones a client and %s (%llu at once)", (unsigned long long)number(rate, "flows"),
		    seconds == 1 ? "second" : seconds == 60 ? "minute" : "hour", (unsigned long long)number(rate, "burst"));
	for (size_t i = 0; i < 2; i++)
		if (json_is_string(json_object_get(limits, lists[i])))
			add_item(&l, "%s %s", lists[i], string(limits, lists[i]));
	if (l.column > 0)
		printf("\n");
}

static void
print_too_short(const json_t *sides)
{
	struct line l = { 0 };

	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (json_is_true(json_object_get(sides, side_name(s)))) {
			if (l.column == 0)
				begin_line(&l, "  detect");
			add_item(&l, "too short for the path to %s: see the log", s == CLIENT ? "a client" : "a backend");
		}
	if (l.column > 0)
		printf("\n");
}

/* Where it listens and where it goes; nothing for a route that was removed. */
static void
print_way(const json_t *route)
{
	const json_t *listen = json_object_get(route, "listen"), *backends = json_object_get(route, "backends");
	const json_t *down = json_object_get(route, "backends_down");
	char protocol[LABEL];
	struct line l;

	if (listen == NULL) {
		printf("  removed from the settings; its open flows continue\n");
		return;
	}
	snprintf(protocol, sizeof(protocol), "  %s", string(route, "protocol"));
	begin_line(&l, protocol);
	for (size_t i = 0; i < json_array_size(listen); i++)
		add_item(&l, "%s%s", i == 0 ? "from " : "", json_string_value(json_array_get(listen, i)));
	for (size_t i = 0; i < json_array_size(backends); i++) {
		const char *text = json_string_value(json_array_get(backends, i));

		add_item(&l, "%s%s%s", i == 0 ? "to " : "", text, has(down, text) ? " (down)" : " (up)");
	}
	printf("\n");
	print_backends(json_object_get(route, "backend_states"));
	if (number(route, "waiting_for_backend") > 0)
		printf("%*s%llu clients wait for a backend\n", LABEL, "", (unsigned long long)number(route, "waiting_for_backend"));
	print_pause(json_object_get(route, "paused"));
	print_limits(json_object_get(route, "limits"));
	print_too_short(json_object_get(route, "detect_too_short"));
	print_reasons("  refused", json_object_get(route, "refused"));
}

static uint64_t
both(const json_t *route, const char *name)
{
	const json_t *j = json_object_get(route, name);

	return number(j, side_name(CLIENT)) + number(j, side_name(BACKEND));
}

/* A route's name, of which no more is shown than has room. */
static void
print_name(const json_t *route)
{
	char name[NAME_WIDTH + 1];

	snprintf(name, sizeof(name), "%s", string(route, "name"));
	printf("%-*s", NAME_WIDTH, figure_harmless(name));
}

static void
print_row(const json_t *route)
{
	const json_t *p = json_object_get(route, "protection");
	const struct {
		uint64_t n;
		int width;
	} cells[] = {
		{ number(route, "flows_open"), 6 }, { number(p, "both"), 6 }, { number(p, "one"), 6 }, { number(p, "probes"), 7 },
		{ both(route, "bytes"), 7 }, { both(route, "heartbeats"), 11 }, { both(route, "replies"), 8 },
		{ both(route, "misses"), 7 }, { both(route, "deaths"), 6 },
	};
	char text[FIGURE_MAX];

	print_name(route);
	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
		printf("%*s", cells[i].width, figure_count(text, cells[i].n));
	printf("\n");
}

static void
print_routes(const json_t *routes)
{
	for (size_t i = 0; i < json_array_size(routes); i++) {
		print_row(json_array_get(routes, i));
		print_way(json_array_get(routes, i));
	}
}

static void
print_screen(const json_t *j)
{
	print_head(j);
	print_counters(j);
	printf("\n%-*s%6s%6s%6s%7s%7s%11s%8s%7s%6s\n", NAME_WIDTH, "ROUTE", "FLOWS", "BOTH", "ONE", "PROBES", "BYTES", "HEARTBEATS",
	    "REPLIES", "MISSED", "DEAD");
	print_routes(json_object_get(j, "routes"));
	print_routes(json_object_get(j, "removed_routes"));
}

int
cli_status(int argc, char **argv)
{
	struct cli_values values = { 0 };
	json_t *j;
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	j = control_client_request("status", &values, "status", &status);
	if (j == NULL)
		return status;
	if (values.json)
		control_client_print(j);
	else
		print_screen(j);
	json_decref(j);
	return status;
}
