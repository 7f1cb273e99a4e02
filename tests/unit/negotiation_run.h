/*
 * negotiation_run.h - drives one negotiation as the relay's preface would, and
 * checks with each step what the contract promises. Whoever breaks a promise
 * ends the program.
 */
#ifndef STENT_TESTS_NEGOTIATION_RUN_H
#define STENT_TESTS_NEGOTIATION_RUN_H

#include "codec_run.h"
#include "stent/negotiation.h"

struct negotiation_run {
	const struct negotiation *negotiation;
	void *state;
	struct codec_out *out[2];
	struct bytes unread[2];		/* sent by that side, and not consumed */
	bool fin[2];
	enum negotiation_reach reach[2];	/* set by the test, after the start */
	struct bytes got[2];		/* what that side was sent */
	bool dialled, tls[2];
	size_t plain_got[2];		/* how much of got came before TLS */
	size_t hello[2];		/* bytes that were unread when it began: they are TLS's */
	enum negotiation_want want;	/* the last one: READ, DONE or FAILED */
	enum side side;
	const char *why;
	bool had_all;			/* the last step had all that there is of the side that it wants to read */
};

/* Up to where it first wants to read. TLS and the dial succeed at once. */
void negotiation_run_start(struct negotiation_run *r, const struct negotiation *n, const struct negotiation_settings *settings);
/* A side sends bytes, as one piece. What is not asked for stays unread. */
void negotiation_run_feed(struct negotiation_run *r, enum side from, const void *data, size_t len);
void negotiation_run_fin(struct negotiation_run *r, enum side from);
void negotiation_run_end(struct negotiation_run *r);

#endif
