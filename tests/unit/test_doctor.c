/*
 * test_doctor.c - the search of `stent doctor` against simulated machines on the path.
 *
 * The world is a list of flows with a virtual clock: each sample runs from when the search asks for it, and its
 * outcome comes when a real flow would have it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "doctor/search.h"

#define PATIENCE_MS 2500	/* until an unanswered question counts as lost */

struct world {
	/* How long a flow of this method lives; INT64_MAX: for ever. */
	int64_t (*life_ms)(struct world *w, enum method m);
	enum outcome how;	/* of a flow that is gone; RESET and FIN come by themselves, when it goes */
	int64_t limit_ms, jitter_ms;
	bool probes_count, payload_counts;
	int evict_percent;
	unsigned seed;
	int64_t now_ms;
	int64_t ends_ms[SAMPLES_MAX];	/* when the outcome of a running sample comes */
	int64_t lives_ms[SAMPLES_MAX];
	int opened, most_open;
};

static unsigned
random_below(struct world *w, unsigned n)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 16) % n;
}

static int64_t
by_limit(struct world *w, enum method m)
{
	if ((m == METHOD_PROBES && w->probes_count) || (m == METHOD_HEARTBEATS && w->payload_counts))
		return INT64_MAX;
	return w->limit_ms + (w->jitter_ms > 0 ? random_below(w, (unsigned)w->jitter_ms) : 0);
}

static int64_t
for_ever(struct world *w, enum method m)
{
	(void)w;
	(void)m;
	return INT64_MAX;
}

/* Some flows are thrown out of a full table, whatever they do. */
static int64_t
by_eviction(struct world *w, enum method m)
{
	(void)m;
	return (int)random_below(w, 100) < w->evict_percent ? 1 + (int64_t)random_below(w, 100000) : INT64_MAX;
}

/* A limit, and a path that also loses a few flows. */
static int64_t
by_limit_and_mishap(struct world *w, enum method m)
{
	return random_below(w, 100) < 2 ? 500 : by_limit(w, m);
}

static bool
ends_by_itself(const struct world *w)
{
	return w->how == OUTCOME_FIN || w->how == OUTCOME_RESET;
}

static void
start_planned(struct world *w, struct search *s)
{
	int open = 0;

	for (size_t i = 0; i < s->n; i++) {
		const int64_t quiet_ms = s->samples[i].quiet_ms;

		if (s->samples[i].outcome == OUTCOME_PLANNED) {
			s->samples[i].outcome = OUTCOME_RUNNING;
			w->lives_ms[i] = w->life_ms(w, s->samples[i].method);
			w->ends_ms[i] = w->now_ms + quiet_ms + (w->lives_ms[i] <= quiet_ms ? PATIENCE_MS : 0);
			if (w->lives_ms[i] <= quiet_ms && ends_by_itself(w))
				w->ends_ms[i] = w->now_ms + w->lives_ms[i];
			w->opened++;
		}
		open += s->samples[i].outcome == OUTCOME_RUNNING;
	}
	if (open > w->most_open)
		w->most_open = open;
}

static void
finish_next(struct world *w, struct search *s)
{
	size_t next = s->n;

	for (size_t i = 0; i < s->n; i++)
		if (s->samples[i].outcome == OUTCOME_RUNNING && (next == s->n || w->ends_ms[i] < w->ends_ms[next]))
			next = i;
	assert_true(next < s->n);	/* else the search waits for nothing */
	w->now_ms = w->ends_ms[next];
	if (w->lives_ms[next] > s->samples[next].quiet_ms)
		search_record(s, next, OUTCOME_SURVIVED, 0);
	else
		search_record(s, next, w->how, ends_by_itself(w) ? w->lives_ms[next] : 0);
}

/* Runs a search to its end, or to a time at which it is interrupted. */
static void
run_until(struct world *w, struct search *s, const struct search_settings *settings, int64_t until_ms)
{
	search_open(s, settings);
	while (search_plan(s) && w->now_ms < until_ms) {
		for (size_t i = 0; i < s->n; i++)
			if (search_is_needless(s, i))
				search_record(s, i, OUTCOME_UNUSED, 0);
		start_planned(w, s);
		finish_next(w, s);
	}
	assert_true(w->most_open <= 150);
}

static const struct search_settings thorough = { .first_ms = 8000, .max_ms = 20 * 60 * 1000, .tolerance_ms = 1000, .samples = 5,
    .points = 7, .has_heartbeats = true };
static const struct search_settings quick = { .first_ms = 1000, .max_ms = 2 * 60 * 1000, .tolerance_ms = 1000, .samples = 2,
    .points = 3, .has_heartbeats = true };

static void
test_a_fixed_limit_is_found_wherever_it_lies(void **state)
{
	static const int64_t limits[] = { 1500, 3000, 5000, 9000, 30000, 60000, 75000, 110000, 240000, 300000, 350000, 600000, 900000 };

	(void)state;
	for (size_t k = 0; k < sizeof(limits) / sizeof(limits[0]); k++)
		for (int is_quick = 0; is_quick < 2; is_quick++) {
			const struct search_settings *settings = is_quick ? &quick : &thorough;
			struct world w = { .life_ms = by_limit, .how = OUTCOME_SILENT, .limit_ms = limits[k], .probes_count = true,
			    .payload_counts = true };
			struct search s;
			struct limit l;

			if (limits[k] > settings->max_ms)
				continue;
			run_until(&w, &s, settings, INT64_MAX);
			search_limit(&s, METHOD_QUIET, &l);
			assert_int_equal(l.kind, LIMIT_FIXED);
			assert_in_range(limits[k], l.from_ms, l.to_ms);
			assert_true(l.to_ms - l.from_ms <= 1000 || l.to_ms - l.from_ms <= limits[k] / 20);
			assert_true(l.from_ms == 0 || l.at_from >= settings->samples);
			assert_true(l.at_to >= settings->samples);
			assert_int_equal(limit_how(&l), OUTCOME_SILENT);
			assert_int_equal(search_counts(&s), COUNTS_ANY_PACKET);
			/* Passes of about the limit's time each: the longest quiet time is not waited for. */
			assert_true(w.now_ms <= 6 * limits[k] + 60000);
			assert_true(w.opened <= 200);
		}
}

static void
test_what_counts_is_told_by_who_outlives_the_limit(void **state)
{
	static const struct {
		bool probes, payload, has_heartbeats;
		enum counts expected;
	} cases[] = {
		{ true, true, true, COUNTS_ANY_PACKET }, { false, true, true, COUNTS_PAYLOAD }, { false, false, true, COUNTS_NOTHING },
		{ true, true, false, COUNTS_ANY_PACKET }, { false, true, false, COUNTS_NOT_PROBES },
	};

	(void)state;
	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++)
		for (enum outcome how = OUTCOME_SILENT; how <= OUTCOME_FIN; how++)
			for (int64_t limit_ms = 1500; limit_ms <= 100000; limit_ms *= 3) {
				struct search_settings settings = quick;
				struct world w = { .life_ms = by_limit, .how = how, .limit_ms = limit_ms, .probes_count = cases[k].probes,
				    .payload_counts = cases[k].payload };
				struct search s;
				struct limit l;

				settings.has_heartbeats = cases[k].has_heartbeats;
				run_until(&w, &s, &settings, INT64_MAX);
				search_limit(&s, METHOD_QUIET, &l);
				assert_int_equal(search_counts(&s), cases[k].expected);
				assert_int_equal(limit_how(&l), how);
			}
}

/* Then there is no interval to narrow: the moment was seen. */
static void
test_flows_that_end_by_themselves_are_timed(void **state)
{
	struct world w = { .life_ms = by_limit, .how = OUTCOME_FIN, .limit_ms = 61234 };
	struct search s;
	struct limit l;

	(void)state;
	run_until(&w, &s, &thorough, INT64_MAX);
	search_limit(&s, METHOD_QUIET, &l);
	assert_int_equal(l.kind, LIMIT_FIXED);
	assert_int_equal(l.to_ms, 61234);
	assert_int_equal(l.from_ms, 61233);
	assert_true(w.now_ms < 2 * 61234);
}

static void
test_a_limit_that_differs_between_flows_is_told_as_a_range(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 50; seed++) {
		struct world w = { .life_ms = by_limit, .how = OUTCOME_SILENT, .limit_ms = 60000, .jitter_ms = 30000, .probes_count = true,
		    .payload_counts = true, .seed = seed };
		struct search s;
		struct limit l;

		run_until(&w, &s, &thorough, INT64_MAX);
		search_limit(&s, METHOD_QUIET, &l);
		assert_int_equal(l.kind, LIMIT_WIDE);
		assert_in_range(l.from_ms, 45000, 80000);	/* 60 s for all, or a few were lucky in all samples */
		assert_in_range(l.to_ms, 70000, 100000);
		assert_true(l.longest_ms > l.from_ms);
		assert_int_equal(search_counts(&s), COUNTS_ANY_PACKET);
		assert_true(w.now_ms < 12 * 60 * 1000);
	}
}

static void
test_no_limit_is_told_as_none(void **state)
{
	struct world w = { .life_ms = for_ever };
	struct search s;
	struct limit l;

	(void)state;
	run_until(&w, &s, &thorough, INT64_MAX);
	search_limit(&s, METHOD_QUIET, &l);
	assert_int_equal(l.kind, LIMIT_NONE);
	assert_int_equal(l.longest_ms, thorough.max_ms);
	assert_int_equal(l.from_ms, thorough.max_ms);
	assert_int_equal(l.at_from, thorough.samples);
	assert_int_equal(search_counts(&s), COUNTS_UNKNOWN);
	assert_int_equal(w.now_ms, thorough.max_ms);	/* all at once */
}

static void
test_a_full_table_is_not_taken_for_a_limit(void **state)
{
	int random = 0;

	(void)state;
	for (unsigned seed = 1; seed <= 50; seed++) {
		struct world w = { .life_ms = by_eviction, .how = OUTCOME_SILENT, .evict_percent = 30, .seed = seed };
		struct search s;
		struct limit l;

		run_until(&w, &s, &thorough, INT64_MAX);
		search_limit(&s, METHOD_QUIET, &l);
		assert_int_not_equal(l.kind, LIMIT_FIXED);
		assert_int_not_equal(l.kind, LIMIT_NONE);
		random += l.kind == LIMIT_RANDOM;
	}
	assert_true(random >= 45);
}

/* A loss by mishap neither hides the limit nor becomes one. */
static void
test_a_few_mishaps_leave_the_limit_to_be_found(void **state)
{
	int with_strays = 0;

	(void)state;
	for (unsigned seed = 1; seed <= 50; seed++) {
		struct world w = { .life_ms = by_limit_and_mishap, .how = OUTCOME_SILENT, .limit_ms = 300000, .probes_count = true,
		    .payload_counts = true, .seed = seed };
		struct search s;
		struct limit l;

		run_until(&w, &s, &thorough, INT64_MAX);
		search_limit(&s, METHOD_QUIET, &l);
		with_strays += l.strays > 0;
		assert_true(l.kind == LIMIT_FIXED || l.kind == LIMIT_WIDE);	/* wide: one struck close to the limit */
		assert_true(l.to_ms >= 300000 && l.to_ms <= 316000);
	}
	assert_true(with_strays >= 10);
}

static void
test_an_interrupted_search_tells_what_it_knows(void **state)
{
	struct world w = { .life_ms = by_limit, .how = OUTCOME_SILENT, .limit_ms = 300000, .probes_count = true, .payload_counts = true };
	struct search s;
	struct limit l;

	(void)state;
	search_open(&s, &thorough);
	search_limit(&s, METHOD_QUIET, &l);
	assert_int_equal(l.kind, LIMIT_UNKNOWN);
	run_until(&w, &s, &thorough, 100000);
	search_limit(&s, METHOD_QUIET, &l);
	assert_int_equal(l.kind, LIMIT_NONE);	/* up to there */
	assert_int_equal(l.longest_ms, 100000);
	w.now_ms = 0;
	run_until(&w, &s, &thorough, 333000);
	search_limit(&s, METHOD_QUIET, &l);
	assert_int_equal(l.kind, LIMIT_WIDE);
	assert_in_range(300000, l.from_ms, l.to_ms);
}

/* The tables of Clopper and Pearson. */
static void
test_confidence_of_shares(void **state)
{
	static const struct { int k, n; double low, high; } known[] = {
		{ 0, 10, 0, 0.3085 }, { 10, 10, 0.6915, 1 }, { 5, 10, 0.1871, 0.8129 }, { 1, 20, 0.0013, 0.2487 }, { 2, 2, 0.1581, 1 },
		{ 50, 100, 0.3983, 0.6017 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		double low, high;

		share_bounds(known[i].k, known[i].n, &low, &high);
		assert_true(fabs(low - known[i].low) < 0.0001 && fabs(high - known[i].high) < 0.0001);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fixed_limit_is_found_wherever_it_lies),
		cmocka_unit_test(test_what_counts_is_told_by_who_outlives_the_limit),
		cmocka_unit_test(test_flows_that_end_by_themselves_are_timed),
		cmocka_unit_test(test_a_limit_that_differs_between_flows_is_told_as_a_range),
		cmocka_unit_test(test_no_limit_is_told_as_none),
		cmocka_unit_test(test_a_full_table_is_not_taken_for_a_limit),
		cmocka_unit_test(test_a_few_mishaps_leave_the_limit_to_be_found),
		cmocka_unit_test(test_an_interrupted_search_tells_what_it_knows),
		cmocka_unit_test(test_confidence_of_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
