/* codec_chain.h - two stents in a row, each with heartbeats of its own. */
#ifndef STENT_TESTS_CODEC_CHAIN_H
#define STENT_TESTS_CODEC_CHAIN_H

#include "codec_harness.h"

/* Plays a transcript with settings and a peer through both. A broken law ends the program. */
void codec_check_chain(const struct transcript *t);

#endif
