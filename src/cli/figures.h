/* figures.h - short numbers for a terminal. */
#ifndef STENT_CLI_FIGURES_H
#define STENT_CLI_FIGURES_H

#include <stddef.h>
#include <stdint.h>

#define FIGURE_MAX 24	/* bytes with the NUL */

/* "999", "1.2k", "34M": a thousand is a k. Returns buf. */
const char *figure_count(char buf[FIGURE_MAX], uint64_t n);
/* "0.4s", "12s", "3m", "2h05m", "4d3h". */
const char *figure_time(char buf[FIGURE_MAX], double seconds);
/* "0.12ms", "34ms", "1.2s". */
const char *figure_rtt(char buf[FIGURE_MAX], double ms);

/* Replaces bytes that could control a terminal with question marks. Returns text. */
char *figure_harmless(char *text);

#endif
