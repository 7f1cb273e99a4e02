/*
 * search.c - the interval search for the time after which a path forgets flows.
 *
 * All quiet times of a ladder run at once, so the first pass takes as long as the first of them that is lost. Each
 * next one tries several times between the longest that survived and the shortest that was lost, again at once. A
 * limit is a property of many flows: it may differ between them (expiry in steps, several machines in turn), or be none
 * (a full table evicts any flow). So nothing assumes that survival ends in one place: losses and survivors are
 * compared, and where they overlap the answer is the range in which they do.
 *
 * Flows with probes and with heartbeats are not searched by themselves. What matters is whether they outlive the limit
 * of the quiet ones, so they need outcomes beyond it.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "doctor/search.h"

#define ROUNDS_MAX 5
#define STRAY_RATIO 2		/* a flow that was lost while others live so many times longer: not by a limit on time */
#define RANDOM_RATIO 3		/* survivors so many times older than a loss, and no age at which all are lost */
#define TOP_UPS_MAX 3
#define MIXED_ROUNDS_MAX 3	/* where flows of one age both survive and are lost, more samples do not narrow that */
#define SECURE 3		/* losses without a survivor of that age that make longer flows needless */

/* Quiet times that machines are set to lie between these, in seconds. */
static const int ladder[] = { 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 45, 70, 100, 140, 200, 270, 330, 400, 650, 950, 1250, 1900, 3700, 7300,
    14500, 29000, 86400 };

void
search_open(struct search *s, const struct search_settings *settings)
{
	assert(settings->first_ms > 0 && settings->first_ms <= settings->max_ms && settings->samples > 0);
	memset(s, 0, sizeof(*s));
	s->settings = *settings;
}

static void
add(struct search *s, enum method m, int64_t quiet_ms, int n)
{
	for (int i = 0; i < n && s->n < SAMPLES_MAX; i++)
		s->samples[s->n++] = (struct sample){ .method = m, .quiet_ms = quiet_ms };
}

void
search_record(struct search *s, size_t i, enum outcome outcome, int64_t ended_ms)
{
	assert(i < s->n);
	s->samples[i].outcome = outcome;
	s->samples[i].ended_ms = ended_ms;
}

static bool
is_open(const struct sample *x)
{
	return x->outcome == OUTCOME_PLANNED || x->outcome == OUTCOME_RUNNING;
}

static bool
is_lost(const struct sample *x)
{
	return x->outcome >= OUTCOME_SILENT && x->outcome <= OUTCOME_FIN;
}

/* When a lost flow was gone at the latest. */
static int64_t
lost_ms(const struct sample *x)
{
	return x->ended_ms > 0 ? x->ended_ms : x->quiet_ms;
}

/* How long a flow was certainly there; 0: not known. */
static int64_t
survived_ms(const struct sample *x)
{
	if (x->outcome == OUTCOME_SURVIVED)
		return x->quiet_ms;
	return is_lost(x) && x->ended_ms > 0 ? x->ended_ms - 1 : 0;
}

int
limit_losses(const struct limit *l)
{
	return l->count[OUTCOME_SILENT] + l->count[OUTCOME_REJECTED] + l->count[OUTCOME_RESET] + l->count[OUTCOME_FIN];
}

enum outcome
limit_how(const struct limit *l)
{
	enum outcome most = OUTCOME_SURVIVED;

	for (enum outcome o = OUTCOME_SILENT; o <= OUTCOME_FIN; o++)
		if (l->count[o] > (most == OUTCOME_SURVIVED ? 0 : l->count[most]))
			most = o;
	return most;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool
is_narrow(const struct search *s, int64_t from_ms, int64_t to_ms)
{
	return to_ms > 0 && to_ms - from_ms <= larger(s->settings.tolerance_ms, from_ms / 20);
}

/* A loss that says nothing of a limit: flows of several times that age live. (Servers end idle clients late by seconds.) */
static bool
is_stray(const struct search *s, const struct sample *x, int64_t longest_ms)
{
	return is_lost(x) && lost_ms(x) * STRAY_RATIO <= longest_ms && longest_ms - lost_ms(x) > 3 * s->settings.tolerance_ms;
}

/* from_ms and to_ms of a method, from its longest survivor and its earliest loss but for strays. */
static void
find_range(const struct search *s, enum method m, int64_t first_lost, struct limit *ret)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct sample *x = &s->samples[i];
		const int64_t there = survived_ms(x);

		if (x->method != m)
			continue;
		if (there < first_lost)
			ret->from_ms = larger(ret->from_ms, there);
		if (is_lost(x) && lost_ms(x) > ret->longest_ms && (ret->to_ms == 0 || lost_ms(x) < ret->to_ms))
			ret->to_ms = lost_ms(x);
	}
	for (size_t i = 0; i < s->n; i++) {
		const struct sample *x = &s->samples[i];

		if (x->method != m)
			continue;
		ret->at_from += ret->from_ms > 0 && x->outcome == OUTCOME_SURVIVED && x->quiet_ms == ret->from_ms;
		ret->at_to += is_lost(x) && lost_ms(x) == ret->to_ms;
	}
}

/* Counts outcomes and strays. Returns the earliest loss that is none; INT64_MAX: there is none. */
static int64_t
count_losses(const struct search *s, enum method m, struct limit *ret)
{
	int64_t first_lost = INT64_MAX;

	for (size_t i = 0; i < s->n; i++)
		if (s->samples[i].method == m) {
			ret->count[s->samples[i].outcome]++;
			ret->longest_ms = larger(ret->longest_ms, survived_ms(&s->samples[i]));
		}
	for (size_t i = 0; i < s->n; i++) {
		const struct sample *x = &s->samples[i];

		if (x->method != m || !is_lost(x))
			continue;
		if (is_stray(s, x, ret->longest_ms)) {
			ret->strays++;
			if (ret->first_stray_ms == 0 || lost_ms(x) < ret->first_stray_ms)
				ret->first_stray_ms = lost_ms(x);
		} else if (lost_ms(x) < first_lost) {
			first_lost = lost_ms(x);
		}
	}
	return first_lost;
}

/* Too many strays, or losses that become no more with the time. */
static bool
is_random(const struct limit *l, int64_t first_lost)
{
	const int lost = limit_losses(l), resolved = lost + l->count[OUTCOME_SURVIVED];

	if (l->strays * 10 > resolved)
		return true;
	if (l->first_stray_ms > 0)
		first_lost = l->first_stray_ms;
	return lost > 2 && l->to_ms == 0 && l->longest_ms / RANDOM_RATIO >= first_lost;
}

void
search_limit(const struct search *s, enum method m, struct limit *ret)
{
	int64_t first_lost;

	memset(ret, 0, sizeof(*ret));
	first_lost = count_losses(s, m, ret);
	find_range(s, m, first_lost, ret);
	if (is_random(ret, first_lost))
		ret->kind = LIMIT_RANDOM;
	else if (first_lost == INT64_MAX)
		ret->kind = ret->count[OUTCOME_SURVIVED] > 0 ? LIMIT_NONE : LIMIT_UNKNOWN;
	else
		ret->kind = is_narrow(s, ret->from_ms, ret->to_ms) ? LIMIT_FIXED : LIMIT_WIDE;
}

/* The time from which on flows of this method are lost for all that is known, by several losses; INT64_MAX: there is none. */
static int64_t
decided_ms(const struct search *s, enum method m)
{
	int64_t longest = 0, decided = INT64_MAX, last = 0;

	for (size_t i = 0; i < s->n; i++)
		if (s->samples[i].method == m)
			longest = larger(longest, survived_ms(&s->samples[i]));
	/* The SECURE-th smallest of the losses that no survivor is older than. */
	for (int k = 0; k < SECURE; k++) {
		size_t at = s->n;

		decided = INT64_MAX;
		for (size_t i = 0; i < s->n; i++) {
			const struct sample *x = &s->samples[i];
			const int64_t order = lost_ms(x) * SAMPLES_MAX + (int64_t)i;	/* equal times count one by one */

			if (x->method == m && is_lost(x) && lost_ms(x) > longest && order > last && order < decided) {
				decided = order;
				at = i;
			}
		}
		if (at == s->n)
			return INT64_MAX;
		last = decided;
	}
	return decided / SAMPLES_MAX;
}

/* Resolved outcomes of flows that were to be quiet for so long, or ended by themselves. */
static int
count_beyond(const struct search *s, enum method m, int64_t ms, bool with_open)
{
	int n = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct sample *x = &s->samples[i];

		if (x->method == m && x->quiet_ms >= ms && x->outcome != OUTCOME_UNUSED && (with_open || !is_open(x)))
			n++;
	}
	return n;
}

/* How long a flow must live to have outlived the limit of the quiet ones; 0: no such limit is known. */
static int64_t
beyond_ms(const struct search *s)
{
	struct limit quiet;

	search_limit(s, METHOD_QUIET, &quiet);
	if (quiet.to_ms == 0 || quiet.kind == LIMIT_RANDOM)
		return 0;
	return quiet.to_ms + larger(quiet.to_ms / 5, s->settings.tolerance_ms);
}

/* A sample of METHOD_QUIET runs, or is planned, that may still change the limit. */
static bool
quiet_is_open(const struct search *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->samples[i].method == METHOD_QUIET && is_open(&s->samples[i]) && !search_is_needless(s, i))
			return true;
	return false;
}

bool
search_is_needless(const struct search *s, size_t i)
{
	const struct sample *x = &s->samples[i];
	int64_t beyond;

	if (!is_open(x))
		return false;
	if (x->quiet_ms > decided_ms(s, x->method))
		return true;
	if (x->method == METHOD_QUIET || !s->is_settled || quiet_is_open(s))
		return false;
	beyond = beyond_ms(s);
	return beyond > 0 && count_beyond(s, x->method, beyond, false) >= s->settings.samples;
}

static void
plan_ladder(struct search *s)
{
	const int64_t max_ms = s->settings.max_ms;
	const int methods = s->settings.has_heartbeats ? METHODS : METHOD_HEARTBEATS;

	for (int m = 0; m < methods; m++) {
		const int n = m == METHOD_QUIET ? 2 : 1;

		for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]); i++) {
			const int64_t quiet_ms = (int64_t)ladder[i] * 1000;

			/* Not two that are nearly the same at the end. */
			if (quiet_ms >= s->settings.first_ms && quiet_ms < max_ms - max_ms / 12)
				add(s, (enum method)m, quiet_ms, n);
		}
		add(s, (enum method)m, max_ms, s->settings.samples);
	}
}

/* New quiet times between the two ends. */
static void
plan_between(struct search *s, int64_t from_ms, int64_t to_ms)
{
	for (int k = 1; k <= s->settings.points; k++) {
		int64_t quiet_ms = from_ms + (to_ms - from_ms) * k / (s->settings.points + 1);

		quiet_ms -= quiet_ms % 100;
		if (quiet_ms > from_ms && quiet_ms < to_ms)
			add(s, METHOD_QUIET, quiet_ms, s->settings.samples > 2 ? 3 : 2);
	}
}

/* More samples at both ends of the answer. */
static void
top_up(struct search *s, const struct limit *l)
{
	if (l->kind == LIMIT_NONE || l->kind == LIMIT_RANDOM || l->count[OUTCOME_FIN] + l->count[OUTCOME_RESET] > 0)
		return;		/* those that ended by themselves were timed: nothing lies between */
	if (l->from_ms > 0)
		add(s, METHOD_QUIET, l->from_ms, s->settings.samples - l->at_from);
	if (l->to_ms > 0)
		add(s, METHOD_QUIET, l->to_ms, s->settings.samples - l->at_to);
}

static void
plan_quiet(struct search *s)
{
	const size_t before = s->n;
	struct limit l;

	if (s->is_settled || quiet_is_open(s))
		return;
	search_limit(s, METHOD_QUIET, &l);
	if (l.kind == LIMIT_WIDE && l.to_ms > 0 && s->rounds < (l.longest_ms > l.from_ms ? MIXED_ROUNDS_MAX : ROUNDS_MAX)) {
		s->rounds++;
		plan_between(s, l.from_ms, l.to_ms);
		if (l.longest_ms > l.from_ms && !is_narrow(s, l.longest_ms, l.to_ms))
			plan_between(s, l.longest_ms, l.to_ms);
	}
	if (s->n == before && s->top_ups++ < TOP_UPS_MAX)
		top_up(s, &l);
	s->is_settled = s->n == before;
}

/* Flows with probes and heartbeats that live longer than quiet ones do. */
static void
plan_beyond(struct search *s)
{
	const int64_t beyond = beyond_ms(s);
	const int methods = s->settings.has_heartbeats ? METHODS : METHOD_HEARTBEATS;

	if (beyond == 0 || !s->is_settled || quiet_is_open(s))
		return;
	for (int m = METHOD_PROBES; m < methods; m++) {
		const int missing = s->settings.samples - count_beyond(s, (enum method)m, beyond, true);

		if (missing > 0 && s->verified[m]++ < 2 && decided_ms(s, (enum method)m) == INT64_MAX)
			add(s, (enum method)m, beyond, missing);
	}
}

bool
search_plan(struct search *s)
{
	if (s->n == 0)
		plan_ladder(s);
	plan_quiet(s);
	plan_beyond(s);
	for (size_t i = 0; i < s->n; i++)
		if (is_open(&s->samples[i]) && !search_is_needless(s, i))
			return true;
	return false;
}

enum counts
search_counts(const struct search *s)
{
	const int64_t beyond = beyond_ms(s);
	struct limit l;
	bool has_outlived[METHODS] = { false }, is_tried[METHODS] = { false };

	if (beyond == 0)
		return COUNTS_UNKNOWN;
	for (int m = METHOD_PROBES; m < METHODS; m++) {
		search_limit(s, (enum method)m, &l);
		has_outlived[m] = l.longest_ms >= beyond && (l.from_ms >= beyond || l.kind == LIMIT_NONE);
		is_tried[m] = has_outlived[m] || limit_losses(&l) > 0;
	}
	if (has_outlived[METHOD_PROBES])
		return COUNTS_ANY_PACKET;
	if (!is_tried[METHOD_PROBES])
		return COUNTS_UNKNOWN;
	if (has_outlived[METHOD_HEARTBEATS])
		return COUNTS_PAYLOAD;
	return is_tried[METHOD_HEARTBEATS] ? COUNTS_NOTHING : COUNTS_NOT_PROBES;
}

int
search_outlived(const struct search *s, enum method m, int *tried)
{
	const int64_t beyond = beyond_ms(s);
	int survived = 0;

	for (size_t i = 0; i < s->n; i++)
		survived += s->samples[i].method == m && s->samples[i].quiet_ms >= beyond && s->samples[i].outcome == OUTCOME_SURVIVED;
	*tried = count_beyond(s, m, beyond, false);
	return survived;
}

/* The chance of at most k in n, each of them with chance p. */
static double
chance_up_to(int k, int n, double p)
{
	double sum = 0;

	if (p <= 0)
		return 1;
	if (p >= 1)
		return k >= n ? 1 : 0;
	for (int i = 0; i <= k; i++)
		sum += exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log1p(-p));
	return sum;
}

/* The share at which the chance of at most k in n falls to `chance`. */
static double
share_at(int k, int n, double chance)
{
	double low = 0, high = 1;

	for (int i = 0; i < 50; i++) {
		const double p = (low + high) / 2;

		if (chance_up_to(k, n, p) > chance)
			low = p;
		else
			high = p;
	}
	return low;
}

void
share_bounds(int k, int n, double *low, double *high)
{
	assert(k >= 0 && k <= n && n > 0);
	*low = k == 0 ? 0 : share_at(k - 1, n, 0.975);
	*high = k == n ? 1 : share_at(k, n, 0.025);
}
