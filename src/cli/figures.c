/* figures.c - numbers for a terminal: short, with two or three significant digits. */
#include "cli/figures.h"

#include <inttypes.h>
#include <stdio.h>

#include "stent/utf8.h"

const char *
figure_count(char buf[FIGURE_MAX], uint64_t n)
{
	static const char units[] = "kMGTPE";
	double value = (double)n;
	size_t i = 0;

	if (n < 1000) {
		snprintf(buf, FIGURE_MAX, "%" PRIu64, n);
		return buf;
	}
	/* 999.5 would be printed as 1000. */
	for (value /= 1000; value >= 999.5; i++)
		value /= 1000;
	snprintf(buf, FIGURE_MAX, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[i]);
	return buf;
}

const char *
figure_time(char buf[FIGURE_MAX], double seconds)
{
	int64_t s = (int64_t)seconds;

	if (seconds < 9.95)
		snprintf(buf, FIGURE_MAX, "%.1fs", seconds);
	else if (s < 120)
		snprintf(buf, FIGURE_MAX, "%ds", (int)s);
	else if (s < 2 * 3600)
		snprintf(buf, FIGURE_MAX, "%dm", (int)(s / 60));
	else if (s < 48 * 3600)
		snprintf(buf, FIGURE_MAX, "%dh%02dm", (int)(s / 3600), (int)(s / 60 % 60));
	else
		snprintf(buf, FIGURE_MAX, "%" PRId64 "d%dh", s / 86400, (int)(s / 3600 % 24));
	return buf;
}

const char *
figure_rtt(char buf[FIGURE_MAX], double ms)
{
	if (ms >= 999.5)
		snprintf(buf, FIGURE_MAX, "%.1fs", ms / 1000);
	else
		snprintf(buf, FIGURE_MAX, ms < 9.995 ? "%.2fms" : "%.0fms", ms);
	return buf;
}

char *
figure_harmless(char *text)
{
	for (char *s = text; *s != '\0';) {
		const size_t len = utf8_fit(s);

		if (len == 0)
			*s = '?';
		s += len > 0 ? len : 1;
	}
	return text;
}
