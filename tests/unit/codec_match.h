/*
 * codec_match.h - is what a side received what the other sent, less our heartbeats
 * and the replies to them?
 */
#ifndef STENT_TESTS_CODEC_MATCH_H
#define STENT_TESTS_CODEC_MATCH_H

#include "codec_run.h"

struct match {
	const struct bytes *sent;	/* what the other side sent */
	unsigned replies;		/* so many pieces of it must be missing */

	/* The length of a reply of ours that may begin so, 0: none. NULL: no piece may be missing. */
	size_t (*reply_at)(void *arg, const uint8_t *bytes, size_t len);
	void *arg;

	bool is_cut;	/* the flow was reset: the end of what was sent may be missing */
};

#define MATCHED SIZE_MAX

/* MATCHED, or how many bytes of m->sent could be found in what `to` received. */
size_t codec_match(const struct run *r, enum side to, const struct match *m);

#endif
