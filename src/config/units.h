/* units.h - durations and counts as they are written in the settings. */
#ifndef STENT_CONFIG_UNITS_H
#define STENT_CONFIG_UNITS_H

#include <stdint.h>

#define UNITS_WHY_MAX 160
#define DURATION_TEXT_MAX 24
#define DURATION_MAX_MS (INT64_C(3650) * 24 * 60 * 60 * 1000)

/*
 * Reads "500ms", "25s", "1.5h" as milliseconds; 0 needs no unit. 0, or -EINVAL
 * and `why` says what is wrong and what to do; the same for counts.
 */
int duration_parse(const char *text, int64_t *ms, char why[UNITS_WHY_MAX]);
/* Reads a whole number without sign or unit, up to 999,999,999. */
int count_parse(const char *text, int64_t *n, char why[UNITS_WHY_MAX]);

/* In the largest unit that keeps it whole and readable: "60s", "2m", "12h", "1500ms", "0". Returns buf. */
const char *duration_text(int64_t ms, char buf[DURATION_TEXT_MAX]);

#endif
