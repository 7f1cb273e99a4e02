/*
 * codec_harness.h - holds a codec to the laws over a transcript of a real
 * conversation, cut in every way, with heartbeats in every place.
 *
 *	static const struct step hello[] = {
 *		STEP(CLIENT, "GET k\r\n"), STEP(BACKEND, "$1\r\nv\r\n"), FIN(CLIENT),
 *	};
 *	static const struct transcript t = { .name = "hello", .codec = &codec_redis, TRANSCRIPT_STEPS(hello) };
 *	struct tally tally = codec_check(&t);
 *	assert_true(tally.moments[BACKEND][HEARTBEAT_ONEWAY] > 0);
 *
 * A step is one or more whole messages of a side (a reply to a ping is put
 * between two steps of that side), or its FIN. Missing FINs are sent at the
 * end. For a test of one moment use codec_run.h.
 */
#ifndef STENT_TESTS_CODEC_HARNESS_H
#define STENT_TESTS_CODEC_HARNESS_H

#include "codec_peers.h"
#include "codec_run.h"

struct step {
	enum side from;
	const void *data;	/* NULL: FIN */
	size_t len;
};

#define STEP(side, text) { (side), (text), sizeof(text) - 1 }	/* a string or an array that ends in one byte too many */
#define FIN(side) { (side), NULL, 0 }
#define TRANSCRIPT_STEPS(array) .steps = (array), .n_steps = sizeof(array) / sizeof((array)[0])

struct transcript {
	const char *name;
	const struct codec *codec;
	const struct step *steps;
	size_t n_steps;
	const struct codec_settings *settings;	/* NULL: heartbeats on, all else unset */
	const struct codec_peer *peer;		/* NULL: the codec's row of codec_peers.c */
	const char *passthrough;	/* the codec must go over to passthrough, for a reason with these words; NULL: it must not */
	size_t fault;		/* the step that leads to passthrough; 0: unknown. Replies behind it on its side must come out */
};

/* What the runs with a heartbeat at every legal moment saw, fed one byte at a time. */
struct tally {
	unsigned moments[2][8];	/* heartbeats written to a side, by enum heartbeat_kind */
	unsigned replies[2];	/* replies taken out of what a side sent */
	uint64_t skipped;	/* bytes forwarded unread, where that was tried */
};

/*
 * Runs it all; a broken law ends the program with a line that says how to see
 * it again. With CODEC_CORPUS=DIR in the environment also writes the
 * transcript to DIR/CODEC/NAME as an input of the fuzzer.
 */
struct tally codec_check(const struct transcript *t);

#endif
