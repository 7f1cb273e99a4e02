/*
 * units.c - durations and counts.
 *
 * A duration is digits, perhaps a fraction, and a unit, and must come out as a
 * whole number of milliseconds. A number without unit is refused: some programs
 * take it for seconds, others for milliseconds.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config/units.h"

#define DIGITS_MAX 12		/* so that no product below overflows */
#define FRACTION_MAX 6

static const struct unit {
	const char *name;
	int64_t ms;
} units[] = {
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", INT64_C(60) * 1000 },
	{ "h", INT64_C(60) * 60 * 1000 },
	{ "d", INT64_C(24) * 60 * 60 * 1000 },
};

#define N_UNITS (sizeof(units) / sizeof(units[0]))

__attribute__((format(printf, 2, 3)))
static int
wrong(char why[UNITS_WHY_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, UNITS_WHY_MAX, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Reads digits; returns how many there were. */
static size_t
read_digits(const char *text, int64_t *n)
{
	size_t len = 0;

	*n = 0;
	for (; isdigit((unsigned char)text[len]); len++)
		if (len < DIGITS_MAX)
			*n = *n * 10 + (text[len] - '0');
	return len;
}

static const struct unit *
find_unit(const char *name)
{
	for (size_t i = 0; i < N_UNITS; i++)
		if (strcmp(units[i].name, name) == 0)
			return &units[i];
	return NULL;
}

int
duration_parse(const char *text, int64_t *ms, char why[UNITS_WHY_MAX])
{
	int64_t whole, fraction = 0, scale = 1;
	size_t digits = read_digits(text, &whole), n;
	const char *rest = text + digits;
	const struct unit *unit;

	if (digits == 0)
		return wrong(why, "is not a duration; write a number and a unit, such as 25s");
	if (digits > DIGITS_MAX)
		return wrong(why, "is too long; the limit is 3650d");
	if (*rest == '.') {
		n = read_digits(rest + 1, &fraction);
		if (n == 0 || n > FRACTION_MAX)
			return wrong(why, "needs 1 to %d digits after the point; write a value such as 1.5h", FRACTION_MAX);
		for (size_t i = 0; i < n; i++)
			scale *= 10;
		rest += 1 + n;
	}
	if (*rest == '\0' && whole == 0 && fraction == 0) {
		*ms = 0;
		return 0;
	}
	if (*rest == '\0')
		return wrong(why, "has no unit; write %.20sms, %.20ss, %.20sm, %.20sh or %.20sd", text, text, text, text, text);
	unit = find_unit(rest);
	if (unit == NULL)
		return wrong(why, "has an unknown unit \"%.20s\"; the units are ms, s, m, h, d", rest);
	if (whole > DURATION_MAX_MS / unit->ms)
		return wrong(why, "is too long; the limit is 3650d");
	if (fraction * unit->ms % scale != 0)
		return wrong(why, "is finer than a millisecond; write whole milliseconds");
	*ms = whole * unit->ms + fraction * unit->ms / scale;
	return 0;
}

int
count_parse(const char *text, int64_t *n, char why[UNITS_WHY_MAX])
{
	size_t digits = read_digits(text, n);

	if (digits == 0 || text[digits] != '\0')
		return wrong(why, "is not a whole number; write digits only");
	if (digits > 9)
		return wrong(why, "is too large; write at most 9 digits");
	return 0;
}

const char *
duration_text(int64_t ms, char buf[DURATION_TEXT_MAX])
{
	size_t best = 0;

	/* 60s and not 1m, 24h and not 1d: a single larger unit is harder to read. */
	for (size_t i = 1; i < N_UNITS; i++)
		if (ms % units[i].ms == 0 && ms / units[i].ms >= (i == 1 ? 1 : 2))
			best = i;
	if (ms == 0)
		snprintf(buf, DURATION_TEXT_MAX, "0");
	else
		snprintf(buf, DURATION_TEXT_MAX, "%" PRId64 "%s", ms / units[best].ms, units[best].name);
	return buf;
}
