/* top.h - the state of `stent top`: what its keys change, and its screen shows. */
#ifndef STENT_CLI_TOP_H
#define STENT_CLI_TOP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "cli/control_client.h"

#define TOP_FILTER_MAX 64
#define TOP_LIMIT 10000	/* of a listing */

enum top_mode {
	TOP_LIST,
	TOP_FILTER,	/* keys go into the filter */
	TOP_KILL,	/* a question is asked */
};

struct top {
	char *path;		/* of the control socket */
	enum top_mode mode;
	size_t order;		/* in top_orders[] */
	char filter[TOP_FILTER_MAX];
	size_t cursor;		/* the selected line of the listing */
	size_t first;		/* the line at the top of the screen */
	size_t rows;		/* lines of flows on the screen */
	json_int_t selected;	/* the flow there; 0: none */
	char selected_text[128];
	bool is_stale;		/* keys have changed what is selected, and the screen has not found it yet */
	bool follows;		/* the flow stays selected, wherever it goes */
	json_int_t asked;	/* the flow that the question is about */
	char asked_text[128];
	char message[CONTROL_WHY_MAX];	/* until the next key */
	json_int_t pid;		/* of the stent that answered last; 0: none yet */
	bool is_gone;		/* it does not answer */
	double bytes, at;	/* at the last refresh, for the rate */
};

/* Acts on what was typed. How many bytes it took, as some keys need the screen that those before them lead to; 0: the end. */
size_t top_keys(struct top *t, const char *keys, size_t n);
/* Asks stent, and returns the whole screen, the caller's; NULL: out of memory. */
char *top_screen(struct top *t, size_t lines, size_t columns);

#endif
