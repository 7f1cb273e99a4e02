/*
 * top_table.c - flows as lines of a table that fits a terminal.
 *
 * Every column has a function that formats its cell, and a rank. All cells are
 * formatted first, to find the widths; then the columns of lowest rank are left
 * out until the rest fits.
 */
#include "cli/top_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/figures.h"
#include "stent/side.h"

#define CELL_MAX 96
#define RANK_MAX 13
#define REVERSE "\033[7m"
#define NORMAL "\033[0m"

static double
real(const json_t *j, const char *name)
{
	return json_number_value(json_object_get(j, name));
}

static void
put_string(const json_t *j, const char *name, char *buf)
{
	const char *text = json_string_value(json_object_get(j, name));

	snprintf(buf, CELL_MAX, "%s", text != NULL ? text : "-");
	figure_harmless(buf);
}

static void
put_id(const json_t *flow, const json_t *leg, char *buf)
{
	(void)leg;
	snprintf(buf, CELL_MAX, "%lld", (long long)json_integer_value(json_object_get(flow, "id")));
}

static void
put_route(const json_t *flow, const json_t *leg, char *buf)
{
	(void)leg;
	put_string(flow, "route", buf);
}

static void
put_protocol(const json_t *flow, const json_t *leg, char *buf)
{
	(void)leg;
	put_string(flow, "protocol", buf);
}

static void
put_state(const json_t *flow, const json_t *leg, char *buf)
{
	(void)leg;
	put_string(flow, "state", buf);
}

static void
put_age(const json_t *flow, const json_t *leg, char *buf)
{
	(void)leg;
	figure_time(buf, real(flow, "age_seconds"));
}

static void
put_address(const json_t *flow, const json_t *leg, char *buf)
{
	(void)flow;
	put_string(leg, "address", buf);
}

static void
put_idle(const json_t *flow, const json_t *leg, char *buf)
{
	(void)flow;
	figure_time(buf, real(leg, "idle_seconds"));
}

static void
put_rtt(const json_t *flow, const json_t *leg, char *buf)
{
	(void)flow;
	if (json_is_number(json_object_get(leg, "rtt_ms")))
		figure_rtt(buf, real(leg, "rtt_ms"));
	else
		strcpy(buf, "-");
}

static void
put_bytes(const json_t *flow, const json_t *leg, char *buf)
{
	(void)flow;
	figure_count(buf, (uint64_t)json_integer_value(json_object_get(leg, "bytes")));
}

/* "pinging 2 of 3"; most is 0 where there is no limit. */
static void
put_count_of(char *buf, const char *what, long long n, long long most)
{
	if (most > 0)
		snprintf(buf, CELL_MAX, "%s %lld of %lld", what, n, most);
	else
		snprintf(buf, CELL_MAX, "%s %lld", what, n);
}

/* When the side last gave a sign of life, or which ping or probe in a row is unanswered. */
static void
put_verdict(const json_t *flow, const json_t *leg, char *buf)
{
	const char *verdict = json_string_value(json_object_get(leg, "verdict"));
	const long long misses = json_integer_value(json_object_get(leg, "misses"));
	char time[FIGURE_MAX];

	(void)flow;
	if (verdict == NULL)
		strcpy(buf, "-");
	else if (strcmp(verdict, "probing") == 0 && misses > 0)
		put_count_of(buf, "pinging", misses + 1, json_integer_value(json_object_get(leg, "misses_max")));
	else if (strcmp(verdict, "probing") == 0)
		put_count_of(buf, "probing", json_integer_value(json_object_get(leg, "probes")),
		    json_integer_value(json_object_get(leg, "probes_max")));
	else if (strcmp(verdict, "alive") == 0 || strcmp(verdict, "silent") == 0)
		snprintf(buf, CELL_MAX, "%s %s", verdict, figure_time(time, real(leg, "last_sign_seconds")));
	else
		put_string(leg, "verdict", buf);
}

/* Heartbeats sent; of pings also how many got a reply. */
static void
put_heartbeats(const json_t *flow, const json_t *leg, char *buf)
{
	uint64_t heartbeats = (uint64_t)json_integer_value(json_object_get(leg, "heartbeats"));
	uint64_t pings = (uint64_t)json_integer_value(json_object_get(leg, "pings"));
	uint64_t replies = (uint64_t)json_integer_value(json_object_get(leg, "replies"));
	char a[FIGURE_MAX], b[FIGURE_MAX];

	(void)flow;
	if (pings > 0)
		snprintf(buf, CELL_MAX, "%s (%s replies)", figure_count(b, pings), figure_count(a, replies));
	else
		snprintf(buf, CELL_MAX, "%s", figure_count(a, heartbeats));
}

static bool
has_heartbeats(const json_t *flow, enum side side)
{
	return json_is_null(json_object_get(json_object_get(flow, side_name(side)), "why_none"));
}

const char *
top_protection(const json_t *flow)
{
	if (has_heartbeats(flow, CLIENT))
		return has_heartbeats(flow, BACKEND) ? "both legs" : "client";
	return has_heartbeats(flow, BACKEND) ? "backend" : "probes";
}

static void
put_protection(const json_t *flow, const json_t *leg, char *buf)
{
	(void)leg;
	strcpy(buf, top_protection(flow));
}

/* Why no heartbeats are sent to this side. */
static void
put_why(const json_t *flow, const json_t *leg, char *buf)
{
	(void)flow;
	put_string(leg, "why_none", buf);
}

static void
put_tls(const json_t *flow, const json_t *leg, char *buf)
{
	(void)flow;
	put_string(leg, "tls", buf);
}

static const struct column {
	const char *name;
	enum side side;
	void (*put)(const json_t *flow, const json_t *leg, char *buf);
	int rank;		/* the lowest is left out first */
	bool left;
	const char *order;	/* that is by this column; NULL: none */
} columns[] = {
	{ "ID", CLIENT, put_id, 13, false, NULL },
	{ "ROUTE", CLIENT, put_route, 8, true, "route" },
	{ "PROTOCOL", CLIENT, put_protocol, 4, true, NULL },
	{ "STATE", CLIENT, put_state, 3, true, NULL },
	{ "AGE", CLIENT, put_age, 7, false, "age new" },
	{ "CLIENT", CLIENT, put_address, 12, true, NULL },
	{ "IDLE", CLIENT, put_idle, 2, false, "idle" },
	{ "LIVENESS", CLIENT, put_verdict, 10, true, NULL },
	{ "RTT", CLIENT, put_rtt, 2, false, "rtt" },
	{ "BYTES", CLIENT, put_bytes, 5, false, "bytes" },
	{ "HEARTBEATS", CLIENT, put_heartbeats, 6, false, "heartbeats" },
	{ "BACKEND", BACKEND, put_address, 11, true, NULL },
	{ "IDLE", BACKEND, put_idle, 2, false, "idle" },
	{ "LIVENESS", BACKEND, put_verdict, 10, true, NULL },
	{ "RTT", BACKEND, put_rtt, 2, false, "rtt" },
	{ "BYTES", BACKEND, put_bytes, 5, false, "bytes" },
	{ "HEARTBEATS", BACKEND, put_heartbeats, 6, false, "heartbeats" },
	{ "PROTECTED", CLIENT, put_protection, 9, true, "protection" },
	{ "NONE TO CLIENT", CLIENT, put_why, 0, true, NULL },
	{ "NONE TO BACKEND", BACKEND, put_why, 0, true, NULL },
	{ "CLIENT TLS", CLIENT, put_tls, 1, true, NULL },
	{ "BACKEND TLS", BACKEND, put_tls, 1, true, NULL },
};

#define N_COLUMNS (sizeof(columns) / sizeof(columns[0]))

struct row {
	char cell[N_COLUMNS][CELL_MAX];
};

static void
fill(struct row *row, const json_t *flow)
{
	for (size_t c = 0; c < N_COLUMNS; c++)
		columns[c].put(flow, json_object_get(flow, side_name(columns[c].side)), row->cell[c]);
}

static void
measure(size_t width[N_COLUMNS], const struct row *rows, size_t n)
{
	for (size_t c = 0; c < N_COLUMNS; c++) {
		width[c] = strlen(columns[c].name);
		for (size_t i = 0; i < n; i++)
			if (strlen(rows[i].cell[c]) > width[c])
				width[c] = strlen(rows[i].cell[c]);
	}
}

/* Leaves out columns, by setting their width to 0, until the line is no wider than most. */
static void
narrow(size_t width[N_COLUMNS], size_t most)
{
	for (int rank = 0;; rank++) {
		size_t total = 0;

		for (size_t c = 0; c < N_COLUMNS; c++)
			total += width[c] > 0 ? width[c] + 2 : 0;
		if (total <= most + 2 || rank > RANK_MAX)
			return;
		for (size_t c = 0; c < N_COLUMNS; c++)
			if (columns[c].rank == rank)
				width[c] = 0;
	}
}

static void
print_heads(FILE *out, const size_t width[N_COLUMNS], const struct top_view *view)
{
	const char *between = "";

	for (size_t c = 0; c < N_COLUMNS; c++) {
		const bool is_order = view->order != NULL && columns[c].order != NULL && strstr(columns[c].order, view->order) != NULL;

		if (width[c] == 0)
			continue;
		fprintf(out, columns[c].left ? "%s%s%-*s%s" : "%s%s%*s%s", between, is_order ? REVERSE : "", (int)width[c],
		    columns[c].name, is_order ? NORMAL : "");
		between = "  ";
	}
	fputs(view->line_end, out);
}

static void
print_row(FILE *out, const size_t width[N_COLUMNS], const struct row *row, const char *line_end)
{
	const char *between = "";

	for (size_t c = 0; c < N_COLUMNS; c++) {
		if (width[c] == 0)
			continue;
		fprintf(out, columns[c].left ? "%s%-*s" : "%s%*s", between, (int)width[c], row->cell[c]);
		between = "  ";
	}
	fputs(line_end, out);
}

void
top_print_table(FILE *out, const json_t *flows, const struct top_view *view)
{
	const size_t all = json_array_size(flows), left = all > view->first ? all - view->first : 0;
	const size_t n = left < view->rows ? left : view->rows;
	struct row *filled = calloc(n + 1, sizeof(*filled));
	size_t widths[N_COLUMNS];

	if (filled == NULL)
		return;
	for (size_t i = 0; i < n; i++)
		fill(&filled[i], json_array_get(flows, view->first + i));
	measure(widths, filled, n);
	if (view->width > 0)
		narrow(widths, (size_t)view->width);
	print_heads(out, widths, view);
	for (size_t i = 0; i < n; i++) {
		const json_t *id = json_object_get(json_array_get(flows, view->first + i), "id");
		const bool is_selected = view->selected != 0 && json_integer_value(id) == view->selected;

		fputs(is_selected ? REVERSE : "", out);
		print_row(out, widths, &filled[i], is_selected ? NORMAL : "");
		fputs(view->line_end, out);
	}
	free(filled);
}
