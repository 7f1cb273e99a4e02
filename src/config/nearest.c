/*
 * nearest.c - how near two words are.
 *
 * The distance counts letters put in, left out, exchanged, and neighbours
 * swapped; capitals do not count. A third of the letters may be wrong. Further
 * off, a word may still be an abbreviation: "pg" has its letters in
 * "postgres" in that order, and begins as it does; or the right word with
 * more behind it: "warning" for "warn". That is the weaker hint.
 */
#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "stent/nearest.h"

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static bool
is_same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Optimal string alignment; both shorter than NEAREST_MAX. */
static unsigned
distance(const char *a, const char *b)
{
	static const size_t max = NEAREST_MAX;
	unsigned rows[3][NEAREST_MAX];		/* this one and the two before it */
	size_t n = strlen(a), m = strlen(b);

	if (n >= max || m >= max)
		return UINT_MAX / 4;
	for (size_t j = 0; j <= m; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			row[j] = up[j - 1] + (is_same(a[i - 1], b[j - 1]) ? 0 : 1);
			row[j] = least(row[j], least(up[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && is_same(a[i - 1], b[j - 2]) && is_same(a[i - 2], b[j - 1]))
				row[j] = least(row[j], up2[j - 2] + 1);
		}
	}
	return rows[n % 3][m];
}

static bool
is_longer(const char *word, const char *right)
{
	return strlen(right) > 2 && strncasecmp(word, right, strlen(right)) == 0;
}

static bool
is_abbreviation(const char *word, const char *right)
{
	if (strlen(word) < 2 || !is_same(*word, *right))
		return false;
	for (; *word != '\0'; word++, right++) {
		while (*right != '\0' && !is_same(*word, *right))
			right++;
		if (*right == '\0')
			return false;
	}
	return true;
}

void
nearest_start(struct nearest *n, const char *word)
{
	n->word = word;
	n->best[0] = '\0';
	n->score = UINT_MAX;
}

void
nearest_offer(struct nearest *n, const char *right)
{
	unsigned d = distance(n->word, right), limit = (unsigned)strlen(n->word) / 3;
	unsigned score = UINT_MAX;

	if (d <= (limit > 0 ? limit : 1))
		score = d;
	else if (is_abbreviation(n->word, right) || is_longer(n->word, right))
		score = NEAREST_MAX;	/* behind every distance */
	if (score < n->score) {
		n->score = score;
		snprintf(n->best, sizeof(n->best), "%s", right);
	}
}

const char *
nearest_best(const struct nearest *n)
{
	return n->best[0] != '\0' ? n->best : NULL;
}
