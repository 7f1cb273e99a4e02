/* test_units.c - tests of durations, counts, and the nearest word. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "stent/nearest.h"
#include "config/units.h"

static const struct {
	const char *text;
	int64_t ms;
} good_durations[] = {
	{ "0", 0 }, { "0s", 0 }, { "0.0", 0 }, { "1ms", 1 }, { "500ms", 500 }, { "25s", 25000 }, { "2m", 120000 },
	{ "12h", 43200000 }, { "1d", 86400000 }, { "1.5h", 5400000 }, { "0.25s", 250 }, { "0.001s", 1 },
	{ "1.000000s", 1000 }, { "3650d", DURATION_MAX_MS }, { "007s", 7000 },
};

/* Wrong texts, and a word that the error must contain. */
static const struct {
	const char *text, *word;
} bad_durations[] = {
	{ "", "not a duration" }, { "s", "not a duration" }, { "-1s", "not a duration" }, { "+1s", "not a duration" },
	{ " 1s", "not a duration" }, { ".5s", "not a duration" }, { "fast", "not a duration" },
	{ "25", "write 25ms, 25s, 25m, 25h or 25d" }, { "1.5", "no unit" }, { "1", "no unit" },
	{ "25S", "ms, s, m, h, d" }, { "25 s", "ms, s, m, h, d" }, { "25sec", "unknown unit \"sec\"" },
	{ "25us", "ms, s, m, h, d" }, { "1h30m", "ms, s, m, h, d" }, { "25s ", "ms, s, m, h, d" },
	{ "1e3s", "ms, s, m, h, d" }, { "0x1s", "ms, s, m, h, d" },
	{ "1.s", "digits after the point" }, { "1.0000001s", "digits after the point" },
	{ "1.5ms", "finer" }, { "0.0001s", "finer" },
	{ "3651d", "limit is 3650d" }, { "9223372036854775807ms", "limit is 3650d" }, { "99999999999999999999999s", "limit is 3650d" },
	{ "999999999999d", "limit is 3650d" },
};

static void
test_durations(void **state)
{
	char why[UNITS_WHY_MAX];
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(good_durations) / sizeof(good_durations[0]); i++) {
		ms = -1;
		assert_int_equal(duration_parse(good_durations[i].text, &ms, why), 0);
		assert_int_equal(ms, good_durations[i].ms);
	}
}

static void
test_wrong_durations_say_what_to_do(void **state)
{
	char why[UNITS_WHY_MAX];
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(bad_durations) / sizeof(bad_durations[0]); i++) {
		why[0] = '\0';
		assert_int_equal(duration_parse(bad_durations[i].text, &ms, why), -EINVAL);
		if (strstr(why, bad_durations[i].word) == NULL)
			fail_msg("\"%s\" %s", bad_durations[i].text, why);
	}
}

static void
test_duration_text(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "0" }, { 1, "1ms" }, { 999, "999ms" }, { 1000, "1s" }, { 1500, "1500ms" }, { 60000, "60s" },
		{ 90000, "90s" }, { 120000, "2m" }, { 3600000, "60m" }, { 43200000, "12h" }, { 86400000, "24h" },
		{ DURATION_MAX_MS, "3650d" },
	};
	char buf[DURATION_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(duration_text(rows[i].ms, buf), rows[i].text);
}

/* What is printed reads back as the same time. */
static void
test_durations_round_trip(void **state)
{
	char buf[DURATION_TEXT_MAX], why[UNITS_WHY_MAX];
	int64_t back;

	(void)state;
	for (int64_t ms = 0; ms <= DURATION_MAX_MS; ms = ms * 7 / 4 + 1) {
		assert_int_equal(duration_parse(duration_text(ms, buf), &back, why), 0);
		assert_int_equal(back, ms);
	}
}

static void
test_counts(void **state)
{
	static const char *const bad[] = { "", "-1", "+1", "1.5", "10k", "0x10", " 1", "1 ", "1000000000", "99999999999999999999" };
	char why[UNITS_WHY_MAX];
	int64_t n;

	(void)state;
	assert_int_equal(count_parse("0", &n, why), 0);
	assert_int_equal(n, 0);
	assert_int_equal(count_parse("999999999", &n, why), 0);
	assert_int_equal(n, 999999999);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(count_parse(bad[i], &n, why), -EINVAL);
}

static const char *
near(const char *word)
{
	static const char *const right[] = { "postgres", "websocket", "redis", "mysql", "tcp", "heartbeat", "heartbeat_kind" };
	static struct nearest n;

	nearest_start(&n, word);
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		nearest_offer(&n, right[i]);
	return nearest_best(&n);
}

static void
test_nearest_word(void **state)
{
	char huge[NEAREST_MAX * 4];

	(void)state;
	assert_string_equal(near("posgres"), "postgres");
	assert_string_equal(near("postgresql"), "postgres");
	assert_string_equal(near("webscoket"), "websocket");
	assert_string_equal(near("Redis"), "redis");
	assert_string_equal(near("REDIS"), "redis");
	assert_string_equal(near("tpc"), "tcp");		/* a swap is one mistake */
	assert_string_equal(near("hearbeat"), "heartbeat");
	assert_string_equal(near("heartbeatkind"), "heartbeat_kind");
	assert_string_equal(near("pg"), "postgres");		/* abbreviations */
	assert_string_equal(near("ws"), "websocket");
	assert_null(near("kafka"));
	assert_null(near("x"));
	assert_null(near(""));
	memset(huge, 'p', sizeof(huge));
	huge[sizeof(huge) - 1] = '\0';
	assert_null(near(huge));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_wrong_durations_say_what_to_do),
		cmocka_unit_test(test_duration_text),
		cmocka_unit_test(test_durations_round_trip),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_nearest_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
