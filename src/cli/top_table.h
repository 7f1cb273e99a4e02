/* top_table.h - flows as lines of a table that fits a terminal. */
#ifndef STENT_CLI_TOP_TABLE_H
#define STENT_CLI_TOP_TABLE_H

#include <jansson.h>
#include <stdio.h>

struct top_view {
	size_t first, rows;	/* of the flows, those that are printed */
	int width;		/* the columns that matter least are left out until the lines are no wider; 0: none are */
	const char *line_end;
	json_int_t selected;	/* this flow's line is in reverse video; 0: none */
	const char *order;	/* the heads of the columns that this order is by are too; NULL: none */
};

/* A head, and a line for each flow. */
void top_print_table(FILE *out, const json_t *flows, const struct top_view *view);
/* Which legs get heartbeats: "both legs", "client", "backend"; or "probes", TCP's alone. */
const char *top_protection(const json_t *flow);

#endif
