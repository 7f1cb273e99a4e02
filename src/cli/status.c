/* status.c - `stent status`: version, counters and routes of a running stent. */
#include <stdio.h>
#include <time.h>

#include "cli/control_client.h"
#include "cli/figures.h"
#include "stent/cli.h"

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

static void
print_load(const json_t *j)
{
	const json_t *load = json_object_get(j, "load");
	char at[FIGURE_MAX], failed[FIGURE_MAX];

	printf("settings     %s, read %s ago", string(j, "settings"), ago(at, number(load, "loaded_at")));
	if (json_is_true(json_object_get(load, "last_failed")))
		printf("; the last reload failed %s ago, see the log", ago(failed, number(load, "failed_at")));
	printf("\n");
}

static void
print_head(const json_t *j)
{
	char up[FIGURE_MAX];

	printf("stent %s, pid %d, up for %s, %zu worker%s%s\n", string(j, "version"), (int)number(j, "pid"),
	    figure_time(up, json_number_value(json_object_get(j, "uptime_seconds"))),
	    json_array_size(json_object_get(j, "flows_by_worker")),
	    json_array_size(json_object_get(j, "flows_by_worker")) == 1 ? "" : "s",
	    json_is_true(json_object_get(j, "draining")) ? ", draining" : "");
	print_load(j);
}

static void
print_counters(const json_t *j)
{
	const json_t *bytes = json_object_get(j, "bytes"), *heartbeats = json_object_get(j, "heartbeats");
	const json_t *replies = json_object_get(j, "replies");
	char a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX], d[FIGURE_MAX];

	printf("flows        %s open (limit %s), %s total\n", figure_count(a, number(j, "flows_open")),
	    figure_count(b, number(j, "max_flows")), figure_count(c, number(j, "flows_total")));
	printf("bytes        %s from clients, %s from backends\n", figure_count(a, number(bytes, "client")),
	    figure_count(b, number(bytes, "backend")));
	printf("heartbeats   %s to clients (%s replies), %s to backends (%s replies)\n",
	    figure_count(a, number(heartbeats, "client")), figure_count(b, number(replies, "client")),
	    figure_count(c, number(heartbeats, "backend")), figure_count(d, number(replies, "backend")));
}

static void
print_reasons(const char *label, json_t *counts)
{
	const char *before = label;

	for (void *i = json_object_iter(counts); i != NULL; i = json_object_iter_next(counts, i)) {
		printf("%s%s %lld", before, json_object_iter_key(i),
		    (long long)json_integer_value(json_object_iter_value(i)));
		before = ", ";
	}
	if (json_object_size(counts) > 0)
		printf("\n");
}

static void
print_list(const char *before, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		printf("%s%s", i == 0 ? before : ", ", json_string_value(json_array_get(list, i)));
}

static void
print_pause(const json_t *pause)
{
	const json_t *left = json_object_get(pause, "seconds_left"), *waiting = json_object_get(pause, "clients_waiting");
	char time[FIGURE_MAX];

	if (!json_is_object(pause))
		return;
	printf(", paused");
	if (json_is_number(left))
		printf(" for %s", figure_time(time, json_number_value(left)));
	if (json_is_integer(waiting))
		printf(", %lld of at most %lld clients wait", (long long)json_integer_value(waiting),
		    (long long)json_integer_value(json_object_get(pause, "clients_limit")));
}

static void
print_routes(const json_t *routes)
{
	for (size_t i = 0; i < json_array_size(routes); i++) {
		const json_t *route = json_array_get(routes, i);

		printf("route        %s (%s)", string(route, "name"), string(route, "protocol"));
		print_list(" from ", json_object_get(route, "listen"));
		print_list(" to ", json_object_get(route, "backends"));
		print_pause(json_object_get(route, "paused"));
		printf("\n");
	}
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
	if (values.json) {
		json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
		printf("\n");
	} else {
		print_head(j);
		print_counters(j);
		print_reasons("passthrough  ", json_object_get(j, "passthrough"));
		print_reasons("ended        ", json_object_get(j, "ended"));
		print_routes(json_object_get(j, "routes"));
	}
	json_decref(j);
	return status;
}
