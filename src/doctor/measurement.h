/*
 * measurement.h - what the files of src/doctor share.
 *
 *   search.c       which flows to measure with, and what their fates say; pure
 *   sample_flow.c  one flow: opened, quiet, asked
 *   opening.c      the options, and what each protocol needs at first
 *   doctor.c       the measurement from start to end
 *   progress.c     how far it is, on stderr
 *   findings.c     the answer in sentences, and the settings that follow; pure
 *   report.c       both, with a drawing, on stdout; or as JSON
 */
#ifndef STENT_DOCTOR_MEASUREMENT_H
#define STENT_DOCTOR_MEASUREMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "doctor/sample_flow.h"
#include "doctor/search.h"
#include "stent/config.h"
#include "stent/doctor.h"

#define TIME_TEXT_MAX 24
#define ADVICE_MAX 2048	/* two texts of CODEC_HEARTBEAT_MAX, each byte escaped */

struct measurement {
	const struct doctor_options *options;
	struct config *config;		/* of a route to the target, for its endpoint and its codec's settings */
	struct course course;
	struct search search;
	char request[512];
	char address[ADDRESS_TEXT_MAX];	/* that was measured */
	char protocol[16];		/* whose heartbeats are sent */
	char note[256];			/* why it has none; "": it has, or none were asked for */
	int64_t started_us, round_trip_us;
	int opened, unopened, spoken;	/* flows: that could not be connected; whose server sent something in between */
	int last_error;			/* of those unopened */
	bool interrupted;
};

/* --- opening.c --- */

/* Reads the options. DOCTOR_DONE, or DOCTOR_WRONG with the error printed. */
enum doctor_result measurement_open(struct measurement *m, const struct doctor_options *options);
void measurement_close(struct measurement *m);
/* What the fate of a first flow, which was hardly quiet, means for all. DOCTOR_FAILED: an error was printed. */
enum doctor_result measurement_judge_first(struct measurement *m, const struct fate *fate);

/* --- progress.c --- */

void progress_line(const struct measurement *m, const struct sample *x);	/* a sample has an outcome */
void progress_draw(const struct measurement *m);	/* from time to time */
void progress_end(void);

/* --- findings.c --- */

extern const char *const method_names[METHODS];		/* in the JSON */
extern const char *const outcome_names[OUTCOMES];
extern const char *const limit_kind_names[];
extern const char *const counts_names[];

/* "8.5s", "2m", "2m30s". Returns buf. */
const char *time_text(int64_t ms, char buf[TIME_TEXT_MAX]);

/* What the measurement says of the settings. */
struct advice {
	int64_t keepalive_s;	/* before the first probe; also the interval of the next; 0: the defaults fit */
	int64_t heartbeat_s;	/* 0: none, or no heartbeats were measured */
	bool heartbeats_off;	/* they do not help */
};
void findings_advise(const struct measurement *m, struct advice *ret);
/* The settings, a line "key = value" each; "": no change is needed. */
void findings_settings(const struct measurement *m, char ret[ADVICE_MAX]);
/* The answer in sentences, a line each. */
void findings_tell(const struct measurement *m, FILE *out);

/* --- report.c --- */

void report_text(const struct measurement *m, FILE *out);
void report_json(const struct measurement *m, FILE *out);

#endif
