/*
 * redis.h - what the files of the redis codec share: the state of one flow.
 *
 * redis_commands.c follows what the client sends, redis_replies.c what the
 * server sends; redis_ledger.c knows which replies are due and what they
 * change; redis.c decides on beats and takes their answers out.
 */
#ifndef STENT_CODEC_REDIS_H
#define STENT_CODEC_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"

#define REDIS_WORD_MAX 13	/* one more than the longest word that matters */
#define REDIS_HEAD_MAX 8	/* of a reply's first line: tells -EXECABORT from -ERR */
#define REDIS_STREAMS_MAX 3	/* streamed aggregates within each other */

/* A length being read: digits up to CR LF, cut anywhere. */
struct redis_number {
	uint64_t value;
	uint8_t digits;
	bool negative;
	bool streamed;	/* "?": the length is not known beforehand */
	bool cr;
};

enum redis_number_end { NUMBER_MORE, NUMBER_DONE, NUMBER_BAD };

/* The first bytes of a word, upper case; len is that of the whole word, or REDIS_WORD_MAX if that is longer. */
struct redis_word {
	uint8_t len;
	char text[REDIS_WORD_MAX];
};

/* Commands that change what may be sent or what is answered; all others are plain. */
enum redis_kind {
	KIND_NONE,	/* no word of it was read yet */
	KIND_PLAIN,
	KIND_EMPTY,	/* an empty line or *0: no command at all */
	KIND_MULTI,
	KIND_EXEC,	/* and DISCARD */
	KIND_SUBSCRIBE,
	KIND_SUNSUBSCRIBE,
	KIND_MONITOR,
	KIND_SYNC,
	KIND_HELLO,
	KIND_RESET,
	KIND_QUIT,
	KIND_ASKING,
	KIND_CLIENT,		/* and nothing behind it yet */
	KIND_CLIENT_OTHER,
	KIND_CLIENT_CACHING,
	KIND_CLIENT_REPLY,
	KIND_CLIENT_REPLY_ON,
	KIND_CLIENT_REPLY_OFF,
	KIND_CLIENT_REPLY_SKIP,
	KIND_COUNT,
};

/* A one-shot flag that the next command uses up, an empty line too. */
enum redis_hold { HOLD_SKIP = 1, HOLD_ASKING = 2, HOLD_CACHING = 4 };

struct redis {
	const char *why;	/* doubt: the codec lets go for this reason as soon as it may */

	struct {		/* what the client is in the middle of */
		uint64_t left;		/* of an argument's bytes, with its CR LF */
		struct redis_number number;
		uint32_t argc;		/* of this command */
		uint32_t args_left;
		uint8_t state;
		uint8_t kind;
		bool quoted;		/* inline: quotes, so that the words are not what they seem */
		struct redis_word word;
	} command;

	struct {		/* what the server is in the middle of */
		uint64_t left;
		struct redis_number number;
		uint32_t values_left;	/* until the reply is whole; 0: between two replies */
		uint32_t outer[REDIS_STREAMS_MAX];	/* values_left around each streamed aggregate */
		uint8_t depth;		/* of these */
		uint8_t state;
		uint8_t type;		/* first byte of the value */
		uint8_t reply_type;	/* first byte of the reply */
		bool chunked;		/* in a streamed string */
		bool naming;		/* the next value is a push's name */
		uint8_t head_len;
		char head[REDIS_HEAD_MAX];	/* of an error reply */
		struct redis_word word;		/* a push's name */
	} reply;

	/* The ledger: replies are numbered as they become due. */
	uint32_t sent;		/* commands that will be answered */
	uint32_t done;		/* and those that were */
	uint32_t confirms;	/* pushes that confirm a subscription, still to come (RESP3) */
	uint32_t exec_at;	/* number of the reply to the last EXEC */
	uint32_t hello_at;	/* number of the reply to HELLO or RESET */

	uint8_t asked;		/* answers still to come, before any other reply */
	uint8_t held;		/* bytes of an answer that are held back */
	uint8_t hold;		/* enum redis_hold */
	bool refused;		/* inside an error line that answers our ask */

	bool client_tell;	/* setting: pushes of ours to the client */
	bool started;		/* the client's first command is whole */
	bool proved;		/* a command that needs a login was answered well */
	bool in_multi;
	bool exec_due;		/* exec_at counts */
	bool hello_due;		/* hello_at counts */
	bool reset_due;		/* and it is that of RESET */
	bool resp3;
	bool muted;		/* CLIENT REPLY OFF */
	bool wary;		/* an error reply might be to a command that is not counted */
	bool no_ask;		/* never again */
	bool no_push;		/* never again */
	bool unsure;		/* the count of replies is not to be trusted */
	bool stream;		/* replies are no longer counted: MONITOR, RESP2 subscriptions, replication */
	bool replica;
	bool quit;
};

/* Reads up to CR LF. The number is cleared by whoever uses its value. */
enum redis_number_end redis_number_read(struct redis_number *n, const uint8_t **at,
    const uint8_t *end);
/* The same for one of at most eight digits that is there in one piece, with its CR LF; NULL: it is not. */
const uint8_t *redis_number_quick(const uint8_t *p, const uint8_t *end, size_t *value);
/* Adds bytes to a word. */
void redis_word_add(struct redis_word *w, const uint8_t *bytes, size_t len);
bool redis_word_is(const struct redis_word *w, const char *text);

/* Follows the client's bytes; stops at doubt (s->why). */
void redis_commands_read(struct redis *s, const uint8_t *p, const uint8_t *end);
bool redis_command_boundary(const struct redis *s);
uint64_t redis_command_unseen(const struct redis *s);
void redis_command_skipped(struct redis *s, uint64_t n);

/* Follows the server's bytes (until doubt) up to the end of one reply at most; returns where it stopped. */
const uint8_t *redis_reply_read(struct redis *s, const uint8_t *p, const uint8_t *end);
bool redis_reply_boundary(const struct redis *s);
uint64_t redis_reply_unseen(const struct redis *s);
void redis_reply_skipped(struct redis *s, uint64_t n);

/* The ledger. */
void redis_command_sent(struct redis *s, enum redis_kind kind, uint32_t argc);
void redis_reply_came(struct redis *s);
/* The server's bytes are not understood: let go at once. */
void redis_reply_doubt(struct redis *s, const char *why);

#endif
