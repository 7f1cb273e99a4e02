/*
 * codec_run.h - drives one codec through one flow as the relay would, and
 * checks with each call what the contract promises. Whoever breaks a promise
 * ends the program, with a line that says how to see it again.
 */
#ifndef STENT_TESTS_CODEC_RUN_H
#define STENT_TESTS_CODEC_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"

struct bytes {
	uint8_t *data;
	size_t len, room;
};

void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_free(struct bytes *b);

/* A heartbeat in what a side received: where it lies. */
struct mark {
	size_t at, len;
	enum heartbeat_kind kind;
};

struct run {
	const struct codec *codec;	/* at work */
	void *state;
	size_t state_size;	/* of the codec that it began with */
	struct codec_out *out;
	struct bytes in[2];	/* what that side sent */
	struct bytes got[2];	/* what that side received, heartbeats included */
	struct mark *marks[2];	/* the heartbeats in got */
	size_t n_marks[2];
	unsigned pings[2];	/* pings written to that side */
	unsigned replies[2];	/* replies taken out of what that side sent */
	unsigned strays[2];	/* ... and those that count for nothing */
	uint64_t skipped;	/* bytes that were forwarded unread */
	bool fin[2];		/* that side sent its FIN */
	bool reset;		/* what was sent early never came: the relay resets the flow */
	const char *passthrough;
	const char *refused;	/* the last sign that a peer does not accept heartbeats */
	bool has_refused[2];	/* by the side that gave one */
	char what[256];		/* what is under way, for the line that reports a failure */
};

/* settings NULL: heartbeats on, all else unset. */
void run_start(struct run *r, const struct codec *codec, const struct codec_settings *settings);
void run_end(struct run *r);

#define RUN_SEED 0x9e3779b97f4a7c15u	/* what run_start() gives a codec for a random number */
/* Gives it another one, before anything else: as of another flow. */
void run_seed(struct run *r, uint64_t random);

/* A side sends bytes. */
void run_feed(struct run *r, enum side from, const void *data, size_t len);
/* A side sends bytes of which the codec says that it need not read them: returns how many went so, at most max. */
size_t run_skip(struct run *r, enum side from, const void *data, size_t max);
void run_fin(struct run *r, enum side from);

/* The kinds that may go to a side now; 0 too where the relay itself would send none (FIN sent, passthrough). */
unsigned run_may_heartbeat(struct run *r, enum side to);
/* Writes a heartbeat to a side. Returns its length; it lies at the end of got[to]. */
size_t run_heartbeat(struct run *r, enum side to, enum heartbeat_kind kind);

void run_fail(const struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
