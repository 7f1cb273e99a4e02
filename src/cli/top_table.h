/* top_table.h - flows as lines of a table that fits a terminal. */
#ifndef STENT_CLI_TOP_TABLE_H
#define STENT_CLI_TOP_TABLE_H

#include <jansson.h>
#include <stdio.h>

/*
 * Prints a head and a line for each of the first rows flows. width > 0: the
 * columns that matter least are left out until the lines are no wider.
 */
void top_print_table(FILE *out, const json_t *flows, size_t rows, int width, const char *line_end);

#endif
