/*
 * codec.h - the contract of a protocol codec.
 *
 * A codec follows both directions of one flow, knows where a heartbeat may be
 * inserted, writes it, and removes its reply. It is a pure state
 * machine: no sockets, no clock, no logging, no allocation. All its state is
 * in state_size bytes, which the relay allocates, zeroes and frees. The laws:
 *   exact        it emits what it was fed, byte for byte, plus its heartbeats,
 *                minus the replies to them, however the stream is cut.
 *   legal        may_heartbeat() returns a kind only where the protocol allows it.
 *   passthrough  bytes that it does not understand make it emit what it holds
 *                and set out->passthrough; the relay continues without it.
 * What it states of its own state is a promise (promise.h): after each call the
 * caller asks whether one was violated, and then ends that flow.
 *
 * A new protocol is one file and one row of the table in codec.c.
 */
#ifndef STENT_CODEC_H
#define STENT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "stent/promise.h"
#include "stent/side.h"

/* Kinds of heartbeat, as bits: may_heartbeat() returns a set of them. */
enum heartbeat_kind {
	HEARTBEAT_ONEWAY = 1,	/* no reply is expected; if one comes, the codec may remove it */
	HEARTBEAT_PING = 2,	/* the peer replies; the codec removes the reply */
	HEARTBEAT_EARLY = 4,	/* bytes that are certain to come, sent early and left out when they come */
};

#define CODEC_STATE_MAX 512	/* bytes; a state with all that it holds back */
#define CODEC_HEARTBEAT_MAX 256	/* bytes; room that heartbeat() and cancel() may fill */
#define CODEC_COMMENT_MAX 200	/* bytes; of struct codec_settings */
#define CODEC_CLOSE_MESSAGE_MAX 512	/* bytes; room that close_message() may fill */

/*
 * What one feed() emits, in order: pieces of the fed buffer (not copied), and
 * pieces of the codec's own (copied into scratch: bytes that it held back, or
 * rewrote). Belongs to the relay, which keeps one a worker and clears it
 * before each call. All texts are static strings.
 */
#define CODEC_SPANS 64
#define CODEC_SCRATCH 2048

struct codec_out {
	struct iovec spans[CODEC_SPANS];
	size_t n_spans;
	size_t scratch_used;
	unsigned replies;	/* replies to our heartbeats, removed by this call */
	unsigned strays;	/* removed without counting as a reply: duplicates, late ones, errors */
	unsigned early;		/* bytes left out by this call because they were sent early */
	size_t left_out;	/* bytes of replies that this call found to be such, with those held until then */
	const char *refused;	/* this peer does not accept our heartbeats: why. See feed() */
	const char *complaint;	/* `from` ended the session because of what it was sent: why. Right after a heartbeat this is evidence against heartbeats */
	const char *passthrough;	/* set once, when the codec becomes passthrough: why */
	const char *ends;	/* set once: the flow must end now, as a leg (ends_on) lacks TLS: why. close_message() then tells the client */
	enum side ends_on;
	const char *note;	/* set once: what the operator should know of this flow ("no heartbeats to a pooler"); logged at info */
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
	out->left_out = 0;
	out->refused = NULL;
	out->complaint = NULL;
	out->passthrough = NULL;
	out->ends = NULL;
	out->note = NULL;
}

/*
 * True while one more step of a codec fits: a step emits at most four spans
 * and CODEC_STATE_MAX bytes of scratch. False too after a violated promise
 * (promise.h): what is emitted is not used then. A codec that sees false returns what
 * it consumed so far and is called again.
 */
static inline bool
codec_out_has_room(const struct codec_out *out)
{
	return out->n_spans + 4 <= CODEC_SPANS && out->scratch_used + CODEC_STATE_MAX <= CODEC_SCRATCH && !promise_is_broken();
}

/* Emits bytes of the fed buffer; a piece that continues the last one joins it. */
void codec_emit(struct codec_out *out, const uint8_t *data, size_t len);
/* Emits a copy, for bytes that do not outlive the call. */
void codec_emit_copy(struct codec_out *out, const void *data, size_t len);
/* Bytes emitted so far. */
size_t codec_emitted(const struct codec_out *out);
/* ... and those that are left out for good: with what is held back, all that was consumed. */
size_t codec_accounted(const struct codec_out *out);

/* Settings of a route that a codec may need; see configure(). */
struct codec_bytes {
	uint8_t *data;
	size_t len;
};

struct codec_settings {
	struct codec_bytes heartbeat_send[2];	/* protocol = line: what to send to a side ... */
	struct codec_bytes heartbeat_expect[2];	/* ... and its reply; empty: none comes */
	enum heartbeat_kind kind[2];			/* kind of the heartbeats to a side; 0: auto */
	bool heartbeats[2];			/* heartbeats to that side are on */
	bool in_transaction;			/* heartbeats to the backend inside a transaction too */
	struct codec_bytes comment;		/* for event streams: ":text\n", with or without an empty line after it; empty: depends on the stream */
	bool comment_at_start;			/* ... also before the first byte of one */
	bool while_busy[2];			/* heartbeats to that side also while a statement or command runs */
};

/* For close_message(): why the flow ends. */
struct codec_close_info {
	enum side dead;
	const char *reason;	/* the close reason: "backend-user-timeout" */
	int64_t idle_ms;	/* since the last bytes from that side */
	bool at_rest;		/* nobody is dead, and rest() says that the flow may end here: an orderly end */
};

/* What the two sides have agreed on in their protocol, such as MQTT's keep-alive. Milliseconds; 0: nothing. */
struct codec_limits {
	int64_t interval_ms;	/* that side expects something at least this often */
	int64_t silence_ms;	/* and considers the other one dead after this time without a byte of its application */
};

/* For tls(): where stent ended TLS. */
struct codec_tls {
	bool leg[2];
	bool same_certificate;	/* the client was shown the certificate that the backend has shown */
};

/* For rest(): may the flow end here without anything being cut or lost? */
enum codec_rest {
	REST_NONE,	/* inside a message, or a reply, statement or transaction is outstanding */
	REST_UNSURE,	/* between messages as far as is known: only after some silence */
	REST_SURE,	/* yes */
};

/* Which settings apply to a protocol. */
enum codec_trait {
	CODEC_MAY_BE_ANY = 1,		/* it may turn out to be any other protocol */
	CODEC_TAKES_TEXTS = 2,		/* heartbeat_send and heartbeat_expect */
	CODEC_HAS_TRANSACTIONS = 4,	/* heartbeat_in_transaction */
	CODEC_HAS_COMMENTS = 8,		/* heartbeat_text */
	CODEC_HAS_DIRECT_TLS = 16,	/* backend.tls_start: its servers take TLS in two ways */
	CODEC_SERVER_FIRST = 32,	/* the client waits for the server's first bytes */
};

struct codec {
	const char *name;	/* as in `protocol = NAME` */
	const char *summary;	/* a few words for help and docs */
	unsigned traits;	/* a set of enum codec_trait */
	size_t state_size;	/* bytes, at most CODEC_STATE_MAX; relay memory is counted: keep it small */
	struct {
		unsigned kinds;		/* that this protocol has toward that side; 0: never a heartbeat */
		enum heartbeat_kind kind;	/* what `auto` means; 0 where it means off */
		uint32_t interval_ms;	/* what `heartbeat = auto` means; 0: off */
	} leg[2];		/* indexed by the side that receives the heartbeat */
	struct {
		uint32_t ms;		/* by default the server closes a connection on which nothing was said for this time; 0: it does not */
		const char *setting;	/* the server's name for it */
	} server_idle;
	bool client_speaks;	/* a client that closes before its first byte wants nothing (a health check) */
	const struct negotiation *negotiation;	/* how TLS begins; NULL: from the first byte */
	const char *alpn[2];	/* names for ALPN on that leg, separated by commas; NULL: none */

	/*
	 * Takes the settings: first when the state is zeroed, and again whenever
	 * they have changed. A pointer to them may be kept until then. False: not
	 * now, a reply to a heartbeat of the old settings is due; call again later.
	 */
	bool (*configure)(void *state, const struct codec_settings *settings);

	/* After the first configure(): a random number that marks the heartbeats of this flow. NULL: needs none. */
	void (*seed)(void *state, uint64_t random);

	/* After the first configure(), only where stent ended TLS on a leg. NULL: it does not matter. */
	void (*tls)(void *state, const struct codec_tls *tls);

	/*
	 * Reads the next len > 0 bytes from `from`, cut anywhere, and emits what
	 * the other side is to get. Returns how many bytes it consumed: less than
	 * len only when out is full (it is then called again with the rest).
	 * Bytes consumed and not emitted are held in the state, or were a reply to
	 * a heartbeat.
	 * out->passthrough: it has emitted all that it held; the relay forwards
	 * the rest itself and never calls again. So it is set only when nothing is
	 * held and no reply is due in either direction; until then the codec only
	 * stops sending heartbeats. Exception: is_early() is true of a side, so
	 * what came is not what was sent early, and the relay resets the flow.
	 * out->refused: `from` reacted to a heartbeat with something that is not a
	 * reply (an error to a one-way heartbeat). It was removed where that was
	 * exact. The relay sends `from` no more heartbeats on this flow, and counts
	 * it against that kind on the route; the codec still removes the replies
	 * that are due.
	 */
	size_t (*feed)(void *state, enum side from, const uint8_t *buf, size_t len,
	    struct codec_out *out);

	/* `from` sent its FIN: emits what is held of that direction. */
	void (*finish)(void *state, enum side from, struct codec_out *out);

	/*
	 * The codec that takes over from here, its state moved to the beginning of
	 * this one's; see codec_next(). NULL: not yet. The function NULL: never.
	 */
	const struct codec *(*hand_over)(void *state);

	/*
	 * How many of the next bytes from `from` the codec need not read: the
	 * relay may forward up to so many itself, and then calls skipped().
	 * NULL: none. UINT64_MAX: all that will ever come.
	 */
	uint64_t (*skippable)(const void *state, enum side from);
	void (*skipped)(void *state, enum side from, uint64_t n);

	/* The kinds of heartbeat that may go to side `to` right now, before any other byte. */
	unsigned (*may_heartbeat)(const void *state, enum side to);

	/* The limits that hold for heartbeats to side `to`; *ret comes zeroed. NULL: the protocol has none. */
	void (*limits)(const void *state, enum side to, struct codec_limits *ret);

	/*
	 * Why may_heartbeat() allows none to side `to` now, in a few words for the
	 * operator ("statement running", "inside a message"): a static string.
	 * NULL: one may go. The function NULL: nothing to say.
	 */
	const char *(*why_none)(const void *state, enum side to);

	/*
	 * A heartbeat to side `to` is legal here, but a better place may come soon
	 * (the end of a message or event): the relay waits one more interval
	 * without bytes to that side before it sends it here. NULL: never.
	 */
	bool (*may_wait)(const void *state, enum side to);

	/* Side `from` has sent its close message, so its end is orderly, even with a reset. NULL: the protocol has none. */
	bool (*said_goodbye)(const void *state, enum side from);

	/*
	 * Writes a heartbeat of a kind that may_heartbeat() just allowed, and counts
	 * it as sent. Returns its length, 1..CODEC_HEARTBEAT_MAX.
	 */
	size_t (*heartbeat)(void *state, enum side to, enum heartbeat_kind kind,
	    uint8_t buf[CODEC_HEARTBEAT_MAX]);

	/*
	 * A reply to a ping is due from side `by`, and its absence means
	 * that this side is dead (not so while it may reply to the other side's
	 * own ping instead). pinged: a ping has had no reply so far; where the
	 * function is NULL that alone counts. Called for a side that has not sent
	 * its FIN.
	 */
	bool (*awaits_reply)(const void *state, enum side by, bool pinged);

	/*
	 * Side `to` only receives (a stream), so if it does not react to
	 * heartbeats, it may still be reading. NULL: never.
	 */
	bool (*receive_only)(const void *state, enum side to);

	/* The codec whose protocol is spoken now (after auto, or an upgrade); NULL: not known yet. The function NULL: this one. */
	const struct codec *(*actual)(const void *state);

	/* Bytes sent early to side `to` have not come yet: a FIN to it now would be wrong. NULL: never. */
	bool (*is_early)(const void *state, enum side to);

	/*
	 * What side `to` receives ends only with a FIN: one that the sender did not
	 * send would make a partial message look complete. NULL: never.
	 */
	bool (*ends_at_fin)(const void *state, enum side to);

	/* May the flow end here? NULL: not known, as REST_UNSURE. */
	enum codec_rest (*rest)(const void *state);

	/*
	 * Writes the protocol's close message to side `to`, the surviving peer.
	 * Returns its length, 0 where none is legal now. NULL: has none.
	 */
	size_t (*close_message)(void *state, enum side to, const struct codec_close_info *info,
	    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);

	/*
	 * The client is gone while the backend still works for it: writes what to
	 * send on a new connection to the backend to stop that (PostgreSQL's
	 * CancelRequest). Returns its length, 0: nothing to cancel. NULL: has none.
	 */
	size_t (*cancel)(const void *state, uint8_t buf[CODEC_HEARTBEAT_MAX]);
};

/* The codec of a `protocol` name; NULL for an unknown one, and for "tcp", which needs none. */
const struct codec *codec_find(const char *name);
/* To be called after each feed() and finish(): the codec that this state belongs to from now on. */
const struct codec *codec_next(const struct codec *codec, void *state);
/* The i-th row, NULL past the end. */
const struct codec *codec_at(size_t i);

#endif
