/*
 * nearest.h - the valid word nearest to a wrong one: "did you mean ...?".
 * Call nearest_start(), nearest_offer() for every valid word, nearest_best().
 */
#ifndef STENT_NEAREST_H
#define STENT_NEAREST_H

#include <stdbool.h>

#define NEAREST_MAX 64	/* bytes; longer words match nothing */

struct nearest {
	const char *word;
	char best[NEAREST_MAX];
	unsigned score;
	bool is_former;		/* a name of an earlier version or of another program */
};

void nearest_start(struct nearest *n, const char *word);
void nearest_offer(struct nearest *n, const char *right);
/* NULL: none is near enough. Belongs to n. */
const char *nearest_best(const struct nearest *n);

/* What a key of an earlier version or of another program is called here; NULL: it is none. */
const char *nearest_successor(const char *word);

#endif
