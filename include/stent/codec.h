/*
 * codec.h - the contract of a protocol codec.
 *
 * A codec watches both directions of one flow, knows where a heartbeat (a
 * heartbeat) may be put into it, writes one, and takes its answer out again. It is
 * a pure state machine: no sockets, no clock, no logging, no allocation. All
 * it knows of a flow is in one state of state_size bytes, which the relay
 * allocates, zeroes and frees; it holds no pointers to memory of its own.
 *
 * The laws a codec is tested by:
 *   exact  with no heartbeat written, what it emits is what it was fed, byte for
 *          byte, however that was cut. With heartbeats: the same, plus the heartbeats,
 *          less the replies to them.
 *   legal  may_heartbeat() names a kind only where the protocol allows it in a
 *          state that the codec is sure of.
 *   doubt  whatever it does not understand makes it let go for good
 *          (out->passthrough): it emits what it holds and the relay goes on without.
 *
 * A new protocol is one file and one row of the table in codec.c.
 */
#ifndef STENT_CODEC_H
#define STENT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "stent/side.h"

/* Kinds of heartbeat, as bits: may_heartbeat() replies with a set of them. */
enum heartbeat_kind {
	HEARTBEAT_ONEWAY = 1,	/* nobody waits for an answer (the codec takes out what comes all the same) */
	HEARTBEAT_PING = 2,	/* answered by the peer; the codec takes the answer out */
	HEARTBEAT_EARLY = 4,	/* bytes certain to come, sent early, left out later */
};

#define CODEC_STATE_MAX 512	/* bytes; a state with all that it holds back */
#define CODEC_HEARTBEAT_MAX 256	/* bytes; room that heartbeat() and cancel() may fill */
#define CODEC_COMMENT_MAX 200	/* bytes; of struct codec_settings */
#define CODEC_CLOSE_MESSAGE_MAX 512	/* bytes; room that farewell() may fill */

/*
 * What one feed() lets through, in order: pieces of the fed buffer (not
 * copied), and small pieces of the codec's own (copied into scratch: bytes
 * that it held back, or had to rewrite). Belongs to the relay, which keeps one
 * a worker and clears it before each call.
 */
#define CODEC_SPANS 64
#define CODEC_SCRATCH 2048

struct codec_out {
	struct iovec spans[CODEC_SPANS];
	size_t n_spans;
	size_t scratch_used;
	unsigned replies;	/* replies to our heartbeats taken out by this call */
	unsigned strays;	/* ... and those that count for nothing: repeated, too late to be waited for, or errors in the place of one */
	unsigned early;		/* bytes left out by this call, having been sent ahead */
	const char *refused;	/* set when what came shows that this peer does not bear our heartbeats: a static string. See feed() */
	const char *complaint;	/* set when a goodbye of `from` passed that names a fault of what it was sent: a static string. Right behind a heartbeat it is evidence against that */
	const char *passthrough;	/* set once, when the codec lets go: the reason, a static string */
	const char *note;	/* set once, what the operator should know of a flow that goes on (no heartbeats to a pooler): a static string, logged at info */
	uint8_t scratch[CODEC_SCRATCH];
};

static inline void
codec_out_clear(struct codec_out *out)
{
	out->n_spans = 0;
	out->scratch_used = 0;
	out->replies = 0;
	out->strays = 0;
	out->early = 0;
	out->refused = NULL;
	out->complaint = NULL;
	out->passthrough = NULL;
	out->note = NULL;
}

/*
 * True while one more step of a codec fits: a step emits at most four spans
 * and CODEC_STATE_MAX bytes of scratch. A codec that sees false returns what
 * it consumed so far and is called again.
 */
bool codec_out_has_room(const struct codec_out *out);
/* Emits bytes of the fed buffer; a piece that continues the last one joins it. */
void codec_emit(struct codec_out *out, const uint8_t *data, size_t len);
/* Emits a copy of bytes that will not outlive the call. */
void codec_emit_copy(struct codec_out *out, const void *data, size_t len);

/* Settings of a route that a codec may need; see configure(). */
struct codec_bytes {
	uint8_t *data;
	size_t len;
};

struct codec_settings {
	struct codec_bytes heartbeat_send[2];	/* protocol = line: what to send to a side ... */
	struct codec_bytes heartbeat_expect[2];	/* ... and the answer; empty: none comes */
	enum heartbeat_kind kind[2];			/* kind configured for the heartbeats to a side; 0: auto */
	bool heartbeats[2];			/* heartbeats to that side are on */
	bool in_transaction;			/* heartbeat the backend inside a transaction too */
	struct codec_bytes comment;		/* into event streams: ":words\n", with or without an empty line behind it; empty: by the stream */
	bool comment_at_start;			/* ... also before the first byte of one */
	bool while_busy[2];			/* heartbeats to that side also while a statement or command runs */
};

/* Why and since when the other side is dead; for farewell(). */
struct codec_close_info {
	enum side dead;
	const char *reason;	/* the close reason: "backend-user-timeout" */
	int64_t quiet_ms;	/* nothing was heard of it for so long */
};

/* What a protocol makes of the settings. */
enum codec_trait {
	CODEC_MAY_BE_ANY = 1,		/* it may turn out to be any other */
	CODEC_TAKES_TEXTS = 2,		/* its heartbeats are texts of the settings */
	CODEC_HAS_TRANSACTIONS = 4,	/* it knows them, and keeps out of them */
	CODEC_HAS_COMMENTS = 8,		/* into event streams */
};

struct codec {
	const char *name;	/* as in `protocol = NAME` */
	const char *summary;	/* a few words for help and docs */
	unsigned traits;	/* a set of enum codec_trait */
	size_t state_size;	/* bytes, at most CODEC_STATE_MAX; relay memory is counted: keep it small */
	struct {
		unsigned kinds;		/* kinds that this protocol has toward that side; 0: never a heartbeat */
		enum heartbeat_kind kind;	/* what `auto` means; 0 where it means off */
		uint32_t interval_ms;	/* what `heartbeat = auto` means; 0: off */
	} leg[2];		/* indexed by the side that receives the heartbeat */
	bool client_speaks;	/* a client that has closed before its first byte wants nothing, whoever speaks first */

	/*
	 * Takes the settings: at first, when the state is zeroed, and again whenever
	 * they have changed. A pointer to them may be kept until then. False: not
	 * now, as a reply by the former ones is under way; call again later.
	 */
	bool (*configure)(void *state, const struct codec_settings *settings);

	/* Behind init(): a random number for this flow, by which its heartbeats are told from those of others. NULL: needs none. */
	void (*seed)(void *state, uint64_t random);

	/*
	 * Looks at the next len > 0 bytes that `from` sent, cut wherever they were
	 * cut, and emits what the other side is to get. Returns how many bytes it
	 * consumed: less than len only when out is full (then called again with
	 * the rest). Bytes consumed and not emitted are held in the state (few:
	 * an answer's head cut in two) or were an answer of ours.
	 * out->passthrough: it let go. It emitted all that it held; the relay forwards
	 * the rest itself and never calls again. So a codec lets go only when the
	 * other direction holds nothing and no answer of ours is still to come;
	 * until then it merely stops beating. Exception: with is_early() true for
	 * a side, what came is not what was sent ahead; nothing more can be made
	 * right, and the relay resets the flow.
	 * out->refused: something came back unasked, or mangled, that can only be
	 * the reaction of `from` to a heartbeat of ours (an error to a one-way
	 * heartbeat, an empty reply). The codec took it out where that was exact.
	 * The relay sends `from` no more heartbeats on this flow, and counts it
	 * against that kind on the route; the codec goes on watching, so that
	 * what still comes of those under way is taken out too.
	 */
	size_t (*feed)(void *state, enum side from, const uint8_t *buf, size_t len,
	    struct codec_out *out);

	/* `from` sent its FIN: emits what is held of that direction. */
	void (*finish)(void *state, enum side from, struct codec_out *out);

	/*
	 * Another codec goes on from here in the place of this one, which has moved
	 * that one's state to the beginning of its own; see codec_next(). NULL:
	 * not yet. The function NULL: never.
	 */
	const struct codec *(*hand_over)(void *state);

	/*
	 * How many of the next bytes from `from` the codec need not see: the
	 * relay may forward up to so many unseen and then says so by skipped().
	 * NULL: none ever. UINT64_MAX: all that will ever come.
	 */
	uint64_t (*skippable)(const void *state, enum side from);
	void (*skipped)(void *state, enum side from, uint64_t n);

	/* The kinds of heartbeat that may go to side `to` right now, before any other byte. */
	unsigned (*may_heartbeat)(const void *state, enum side to);

	/*
	 * Why no heartbeat may go to side `to` in the state that the flow is in
	 * now, in a few words for the operator ("statement running", "in a
	 * transaction", "inside a message", "pooler behind"): a static string.
	 * NULL: one may. This function itself may be NULL: nothing to say.
	 */
	const char *(*why_none)(const void *state, enum side to);

	/*
	 * A heartbeat to side `to` is legal here, but a better place is near (it
	 * is within a message or event whose rest may come): one interval more
	 * is let pass without bytes to that side before it goes out here. NULL: never.
	 */
	bool (*may_wait)(const void *state, enum side to);

	/* Side `from` said goodbye in its protocol: its end is in order, even by a reset. NULL: it has no goodbye. */
	bool (*said_goodbye)(const void *state, enum side from);

	/*
	 * Writes a heartbeat of one kind that may_heartbeat() just allowed, and counts it
	 * as sent. Returns its length, 1..CODEC_HEARTBEAT_MAX.
	 */
	size_t (*heartbeat)(void *state, enum side to, enum heartbeat_kind kind,
	    uint8_t buf[CODEC_HEARTBEAT_MAX]);

	/*
	 * An answer to an ask of ours may still come from side `by`, and it
	 * alone is to blame if none does: not so where it may answer the other
	 * side's own question in its place. asked: an ask of ours has had no
	 * answer so far; without this call that alone counts. Called for a side
	 * that has not sent its FIN.
	 */
	bool (*awaits_reply)(const void *state, enum side by, bool asked);

	/*
	 * Side `to` listens to a stream and says nothing meanwhile, so heartbeats that
	 * it does not react to are no sign that it does not read. NULL: never.
	 */
	bool (*receive_only)(const void *state, enum side to);

	/* The codec at work behind this one (protocol = auto, an upgrade); NULL: none yet. NULL: always itself. */
	const struct codec *(*actual)(const void *state);

	/* Bytes sent ahead to side `to` have not come yet: a FIN to it now would lie. NULL: never. */
	bool (*is_early)(const void *state, enum side to);

	/*
	 * What side `to` is being sent has no other end than a FIN: with one that the
	 * sender did not send a part would pass for the whole. NULL: never.
	 */
	bool (*ends_at_fin)(const void *state, enum side to);

	/*
	 * The protocol's own goodbye to side `to`, the other side being dead.
	 * Returns its length, 0 where none is legal now. NULL: has none.
	 */
	size_t (*close_message)(void *state, enum side to, const struct codec_close_info *o,
	    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);

	/*
	 * The client is dead while the backend still works for it: bytes to send
	 * on a new connection to the backend so that it stops (PostgreSQL's
	 * cancel request). Returns their length, 0: nothing to cancel. NULL: has none.
	 */
	size_t (*cancel)(const void *state, uint8_t buf[CODEC_HEARTBEAT_MAX]);
};

/* The table: codecs by `protocol` name; NULL for an unknown one. "tcp" is no codec: see codec_name_is_known(). */
const struct codec *codec_find(const char *name);
/* Behind each feed() and finish(): the codec that this state belongs to from now on. */
const struct codec *codec_next(const struct codec *codec, void *state);
/* The i-th row, NULL past the end. */
const struct codec *codec_at(size_t i);

#endif
