/*
 * words.h - finds which word of a table passes, byte by byte, without keeping
 * it: a set of bits says which words still match.
 */
#ifndef STENT_CODEC_WORDS_H
#define STENT_CODEC_WORDS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/promise.h"

#define WORDS_MAX 8	/* in a table */

struct words {
	uint8_t matching;	/* words that begin with the bytes so far; 0: none, the rest need not be added */
	uint8_t len;		/* bytes so far, at most UINT8_MAX */
};

static inline void
words_start(struct words *w, size_t n_words)
{
	assert(n_words <= WORDS_MAX);
	w->matching = (uint8_t)((1u << n_words) - 1);
	w->len = 0;
}

/* One more byte, other than NUL. */
static inline void
words_add(struct words *w, const char *const table[], size_t n_words, uint8_t byte)
{
	promise_dear(byte != '\0' && w->matching >> n_words == 0);
	for (size_t i = 0; i < n_words && w->matching >> i != 0; i++)
		if ((w->matching >> i & 1) != 0 && (uint8_t)table[i][w->len] != byte)
			w->matching &= (uint8_t)~(1u << i);
	if (w->len < UINT8_MAX)
		w->len++;
}

/* The word has ended: its index, n_words if it is none of the table. */
static inline unsigned
words_end(const struct words *w, const char *const table[], unsigned n_words)
{
	promise_dear(w->matching >> n_words == 0);	/* else of another table */
	for (unsigned i = 0; i < n_words; i++)
		if ((w->matching >> i & 1) != 0 && table[i][w->len] == '\0')
			return i;
	return n_words;
}

#endif
