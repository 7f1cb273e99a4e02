/*
 * search.h - which flows to measure with, and what their fates say about the path.
 *
 * Pure: no sockets, no clock. The prober asks for samples, runs each on a flow of its own, and records its outcome.
 */
#ifndef STENT_DOCTOR_SEARCH_H
#define STENT_DOCTOR_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLES_MAX 400		/* flows of one measurement, of all methods */

/* What a flow does in its quiet time. */
enum method { METHOD_QUIET, METHOD_PROBES, METHOD_HEARTBEATS, METHODS };

enum outcome {
	OUTCOME_PLANNED,	/* not started */
	OUTCOME_RUNNING,
	OUTCOME_SURVIVED,
	OUTCOME_SILENT,		/* forgotten: packets on it are not answered */
	OUTCOME_REJECTED,	/* forgotten: a packet on it is answered by a reset, or an ICMP error */
	OUTCOME_RESET,		/* a reset came by itself, in the quiet time */
	OUTCOME_FIN,		/* the server, or a proxy, closed it in order */
	OUTCOME_UNUSED,		/* stopped, or it could not be measured */
	OUTCOMES
};

struct sample {
	enum method method;
	enum outcome outcome;
	int64_t quiet_ms;
	int64_t ended_ms;	/* when it ended by itself, after the beginning of its quiet time; 0: it did not */
};

struct search_settings {
	int64_t first_ms, max_ms;	/* the shortest and the longest quiet time */
	int64_t tolerance_ms;		/* width of the answer; at least a twentieth of the time itself */
	int samples;			/* wanted at each end of the answer */
	int points;			/* new quiet times in each step of the narrowing */
	bool has_heartbeats;
};

struct search {
	struct search_settings settings;
	struct sample samples[SAMPLES_MAX];
	size_t n;
	int rounds, top_ups;		/* of METHOD_QUIET */
	int verified[METHODS];		/* rounds of samples beyond the limit */
	bool is_settled;		/* METHOD_QUIET needs no more samples */
};

void search_open(struct search *s, const struct search_settings *settings);
/* Adds the samples that are needed now. False: nothing is left to do, and none is running. */
bool search_plan(struct search *s);
void search_record(struct search *s, size_t i, enum outcome outcome, int64_t ended_ms);
/* A sample that is planned or runs, and whose outcome cannot change the answer any more. */
bool search_is_needless(const struct search *s, size_t i);

enum limit_kind {
	LIMIT_UNKNOWN,		/* no outcome yet */
	LIMIT_NONE,		/* no flow was lost, but for strays */
	LIMIT_FIXED,		/* lies in (from_ms, to_ms], which is as narrow as asked for */
	LIMIT_WIDE,		/* in there too, but not narrowed down: interrupted, or it differs between flows */
	LIMIT_RANDOM,		/* flows are lost after any time, others survive much longer ones */
};

/* What the samples of one method say. Times of flows that ended by themselves are exact. */
struct limit {
	enum limit_kind kind;
	int64_t from_ms;	/* the longest time that all flows of it, and of any shorter time, survived; 0: none */
	int64_t to_ms;		/* the shortest time from which on all were lost; 0: none */
	int64_t longest_ms;	/* that any flow survived */
	int count[OUTCOMES];
	int at_from;		/* flows that survived from_ms itself ... */
	int at_to;		/* ... and that were lost at to_ms itself */
	int strays;		/* lost while others lived several times as long: not by this limit; from_ms leaves them out */
	int64_t first_stray_ms;
};

void search_limit(const struct search *s, enum method m, struct limit *ret);
int limit_losses(const struct limit *l);
/* The most frequent way in which flows were lost; OUTCOME_SURVIVED: none was. */
enum outcome limit_how(const struct limit *l);

/* What keeps a flow beyond the limit of quiet ones. */
enum counts {
	COUNTS_UNKNOWN,		/* no limit was found, or the other methods have no outcome beyond it */
	COUNTS_ANY_PACKET,	/* TCP probes do */
	COUNTS_PAYLOAD,		/* heartbeats do, probes do not */
	COUNTS_NOT_PROBES,	/* probes do not; there were no heartbeats to try */
	COUNTS_NOTHING,		/* neither does: a limit on the age of a flow, or a server's rule */
};
enum counts search_counts(const struct search *s);
/* How many flows of a method survived times beyond the limit of quiet ones, and of how many that were tried. */
int search_outlived(const struct search *s, enum method m, int *tried);

/* The 95 % confidence limits of a share of which k in n were seen (Clopper and Pearson). */
void share_bounds(int k, int n, double *low, double *high);

#endif
