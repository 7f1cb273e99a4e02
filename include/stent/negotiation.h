/*
 * negotiation.h - how a protocol begins TLS: from the first byte, or inside its
 * own stream. Pure like a codec: bytes in; bytes, and "TLS now", out. It runs
 * before the relay begins (relay/preface.c) and is freed then.
 *
 * It drives both legs, as some protocols begin TLS on one leg only after the
 * other has spoken (MySQL). step() is called first without input, and after
 * that with what it asked for, until it is done or has failed.
 */
#ifndef STENT_NEGOTIATION_H
#define STENT_NEGOTIATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"
#include "stent/side.h"

#define NEGOTIATION_STATE_MAX 512
#define NEGOTIATION_INPUT_MAX (32 * 1024)	/* bytes of one side that may be waited for in one piece */
#define NEGOTIATION_REFUSAL_MAX 768		/* bytes; room that refusal() may fill */

struct negotiation_settings {
	/* client.tls = off | accept | require; or there is no client: the relay itself connects, to cancel something */
	enum { CLIENT_PLAIN, CLIENT_MAY_TLS, CLIENT_MUST_TLS, CLIENT_ABSENT } client;
	bool backend;			/* backend.tls is on */
	bool backend_direct;		/* backend.tls_start = direct */
};

enum negotiation_want {
	NEGOTIATION_READ,	/* more bytes of `side` than are left of what the call had, or its FIN */
	NEGOTIATION_DIAL,	/* the backend is to be connected */
	NEGOTIATION_TLS,	/* TLS is to begin on `side`, with its next byte */
	NEGOTIATION_DONE,	/* the relay begins */
	NEGOTIATION_FAILED,	/* the flow ends: `why`; `side` is whose fault it is. What tells the client is in out[CLIENT] */
};

/* How far the bytes of a leg travel: a UNIX socket is taken for secure by clients and servers, loopback is not. */
enum negotiation_reach { REACH_NETWORK, REACH_LOOPBACK, REACH_UNIX };

/* What a step asks for. Before that, out[] is sent, and the first `consumed` bytes that the call had are gone. */
struct negotiation_step {
	enum negotiation_want want;
	enum side side;
	size_t consumed;
	const char *why;	/* a static string, in the operator's words */
	struct codec_out *out[2];	/* to each side; the caller's, cleared before each step */
	enum negotiation_reach reach[2];	/* of each leg, the caller's; the backend's once it is connected */
};

struct negotiation {
	size_t state_size;	/* at most NEGOTIATION_STATE_MAX; comes zeroed */
	void (*begin)(void *state, const struct negotiation_settings *settings);
	/*
	 * buf: all that is there to read of side `from` (of a plain leg that is only peeked at), cut anywhere; len 0, and
	 * buf perhaps NULL, at the first call, after NEGOTIATION_DIAL and after NEGOTIATION_TLS, when that was done, and
	 * with a FIN. fin: nothing more comes.
	 * A client whose FIN is its first sign is not for this: see client_speaks in codec.h.
	 */
	void (*step)(void *state, enum side from, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret);
	/*
	 * After NEGOTIATION_DONE: brings the codec's fresh state to where the stream is, as it has not seen what was
	 * exchanged before. NULL: nothing was.
	 */
	void (*hand_over)(const void *state, void *codec_state);
	/*
	 * The flow ends before NEGOTIATION_DONE for a reason of the relay's (the backend is unreachable, its TLS failed):
	 * writes what tells the client so, `why` in it, in its protocol. Returns the length, 0 if nothing can be said
	 * now. NULL: never. The client's first message may be unread: a close must not turn into a reset that discards this.
	 */
	size_t (*refusal)(const void *state, const char *why, uint8_t buf[NEGOTIATION_REFUSAL_MAX]);
};

/* Without TLS: the backend is dialled, and the relay begins. */
extern const struct negotiation negotiation_none;
/* TLS from the first byte; a client that may choose is known by its first byte. */
extern const struct negotiation negotiation_direct;
/* PostgreSQL's requests; auto: the same where the client speaks PostgreSQL, else TLS from the first byte. */
extern const struct negotiation negotiation_postgres, negotiation_auto;
/* Inside the login, which the server begins by its greeting. */
extern const struct negotiation negotiation_mysql;

#endif
