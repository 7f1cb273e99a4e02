/*
 * codec_peers.h - what the programs at the two ends do with our heartbeats, one
 * row a codec. The harness and the fuzzers use them instead of real ones.
 */
#ifndef STENT_TESTS_CODEC_PEERS_H
#define STENT_TESTS_CODEC_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"

#define PEER_REPLY_MAX 512

struct codec_peer {
	const char *codec;

	/* What `side` replies to a heartbeat that it received; its length, 0: it says nothing. */
	size_t (*reply)(const struct codec_settings *settings, enum side side,
	    const uint8_t *heartbeat, size_t len, uint8_t reply[PEER_REPLY_MAX]);

	/*
	 * A reply is known for one by so many of its first bytes, and from there
	 * on is ours even if the rest never comes. 0: only when it is whole.
	 */
	size_t known_by;

	/* What other peers make of a reply of that length, in place; how: any number. Returns its new length. NULL: nothing. */
	size_t (*mangle)(unsigned how, uint8_t reply[PEER_REPLY_MAX], size_t len);

	/* A one-way heartbeat looks as a reply may that was mangled: of two stents in a row one may take the other's for that. */
	bool oneway_is_alike;

	/* There are programs that reply to a one-way heartbeat, by something that the codec knows for it. */
	bool replies_to_oneway;

	/* What may be taken out of the speech of one that does not accept heartbeats is as looks_like_reply says, too. */
	bool refuses_alike;

	/* The reply may come behind this message of the same side, which was sent after the heartbeat. NULL: it never does. */
	bool (*may_overtake)(enum side side, const uint8_t *message, size_t len);

	/*
	 * For bytes that make no sense (the fuzzer's): the length of what a codec
	 * may rightly take for a reply at the start of these bytes (all of them,
	 * if that is cut off but known for one), 0: nothing.
	 * NULL: only what reply() wrote.
	 */
	size_t (*looks_like_reply)(enum side side, const uint8_t *bytes, size_t len);

	/* For the fuzzer; NULL: heartbeats on, all else unset. */
	const struct codec_settings *settings;
};

/* Never NULL: a codec without a row has a peer that replies nothing. */
const struct codec_peer *codec_peer_of(const struct codec *codec);

#endif
