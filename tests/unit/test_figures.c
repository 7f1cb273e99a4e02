/* test_figures.c - tests of figures, and of the table of `stent top`. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/figures.h"
#include "cli/top_table.h"

static void
test_counts(void **state)
{
	static const struct { uint64_t n; const char *text; } cases[] = {
		{ 0, "0" }, { 999, "999" }, { 1000, "1.0k" }, { 1049, "1.0k" }, { 9949, "9.9k" }, { 9950, "10k" },
		{ 999499, "999k" }, { 999500, "1.0M" }, { 34000000, "34M" }, { UINT64_MAX, "18E" },
	};
	char buf[FIGURE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(figure_count(buf, cases[i].n), cases[i].text);
}

static void
test_times(void **state)
{
	static const struct { double s; const char *text; } cases[] = {
		{ 0, "0.0s" }, { 0.44, "0.4s" }, { 9.94, "9.9s" }, { 10.6, "10s" }, { 119.9, "119s" }, { 120, "2m" },
		{ 7199, "119m" }, { 7200, "2h00m" }, { 47 * 3600 + 60, "47h01m" }, { 1e9, "11574d1h" },
	};
	char buf[FIGURE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(figure_time(buf, cases[i].s), cases[i].text);
}

static void
test_round_trips(void **state)
{
	static const struct { double ms; const char *text; } cases[] = {
		{ 0.123, "0.12ms" }, { 9.99, "9.99ms" }, { 9.999, "10ms" }, { 34.4, "34ms" }, { 1234, "1.2s" },
	};
	char buf[FIGURE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(figure_rtt(buf, cases[i].ms), cases[i].text);
}

static json_t *
some_flows(void)
{
	return json_pack("[{s:i, s:s, s:s, s:s, s:f, s:{s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:s, s:f}, "
	    "s:{s:s, s:i, s:i, s:i, s:i, s:n, s:f, s:s, s:i, s:i}}]",
	    "id", 7, "route", "p\033[2Jg", "protocol", "postgres", "state", "open", "age_seconds", 75.0,
	    "client", "address", "192.0.2.1:5000", "bytes", 1234, "heartbeats", 25, "pings", 20, "replies", 19, "rtt_ms", 1.5,
	    "idle_seconds", 3.0, "verdict", "alive", "last_sign_seconds", 2.0,
	    "backend", "address", "10.0.0.7:5432", "bytes", 5, "heartbeats", 3, "pings", 3, "replies", 0, "rtt_ms",
	    "idle_seconds", 4.0, "verdict", "probing", "misses", 1, "misses_max", 3);
}

static const char *
table(int width)
{
	static char text[4096];
	json_t *flows = some_flows();
	FILE *out = fmemopen(text, sizeof(text), "w");

	assert_non_null(flows);
	top_print_table(out, flows, &(struct top_view){ .rows = 10, .width = width, .line_end = "\n" });
	fclose(out);
	json_decref(flows);
	return text;
}

static void
test_table_shows_both_legs(void **state)
{
	const char *text = table(0);

	(void)state;
	assert_non_null(strstr(text, "ID  ROUTE"));
	assert_non_null(strstr(text, " 7  p?[2Jg  postgres  open   75s  192.0.2.1:5000  3.0s  alive 2.0s  1.50ms   1.2k  "
	    "20 (19 replies)  10.0.0.7:5432  4.0s  pinging 2 of 3    -      5  3 (0 replies)  probes"));
}

/* When narrow it leaves out columns, but never the id and the client, and every line fits. */
static void
test_table_fits(void **state)
{
	(void)state;
	for (int width = 20; width < 160; width++) {
		const char *text = table(width);

		assert_non_null(strstr(text, "ID"));
		assert_non_null(strstr(text, "192.0.2.1:5000"));
		assert_true(width < 80 || (strstr(text, "alive 2.0s") != NULL && strstr(text, "pinging 2 of 3") != NULL));
		for (const char *s = text; *s != '\0'; s += strcspn(s, "\n") + 1)
			assert_true(strcspn(s, "\n") <= (size_t)width);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_table_shows_both_legs),
		cmocka_unit_test(test_table_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
