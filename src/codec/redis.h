/*
 * redis.h - what the files of the redis codec share: the state of one flow.
 *
 * redis_commands.c follows what the client sends, redis_replies.c what the
 * server sends; redis_ledger.c knows which replies are due and what they
 * change; redis.c decides on heartbeats and takes their replies out.
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
	KIND_UNSUBSCRIBE,
	KIND_SUNSUBSCRIBE,
	KIND_MONITOR,
	KIND_SYNC,
	KIND_HELLO,
	KIND_RESET,
	KIND_QUIT,
	KIND_ASKING,
	KIND_CLUSTER,		/* and nothing behind it yet; so SCRIPT, CLIENT and their like */
	KIND_SCRIPT,
	KIND_SCRIPT_DEBUG,
	KIND_DEBUGGER,		/* SCRIPT DEBUG, but for NO */
	KIND_CLIENT,
	KIND_CLIENT_OTHER,
	KIND_CLIENT_CACHING,
	KIND_CLIENT_REPLY,
	KIND_CLIENT_REPLY_ON,
	KIND_CLIENT_REPLY_OFF,
	KIND_CLIENT_REPLY_SKIP,
	KIND_COUNT,
};

/* Where in a line of words its reader is. */
enum redis_quote {
	QUOTE_NO_WORD,
	QUOTE_PLAIN,		/* in a word, outside quotes */
	QUOTE_DOUBLE,
	QUOTE_DOUBLE_ESCAPE,	/* behind a backslash */
	QUOTE_SINGLE,
	QUOTE_SINGLE_ESCAPE,
	QUOTE_CLOSED,		/* a blank must follow */
};

/* Signs that the server does not bear our heartbeats. */
enum redis_refusal {
	REFUSED_NOT,
	REFUSED_PERMISSION,	/* this user may not ping */
	REFUSED_UNKNOWN,	/* it does not know PING */
	REFUSED_ODDLY,		/* it replies to PING by something else */
	REFUSED_LINE,		/* it replies to an empty line */
	REFUSED_LATE,		/* so it seems, but the reply was taken for that to a command */
	REFUSED_COUNT,
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
		uint8_t quote;		/* enum redis_quote, of a line of words */
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
		bool naming;		/* the next value is the name of a push or a message */
		uint8_t head_len;
		char head[REDIS_HEAD_MAX];	/* of a reply that is a line, or of the line at its end */
		struct redis_word word;		/* a push's name, or a message's */
	} reply;

	/* The ledger: replies are numbered as they become due. */
	uint32_t sent;		/* commands that will be answered */
	uint32_t done;		/* and those that were */
	uint32_t confirms;	/* confirmations of subscriptions, still to come */
	uint32_t exec_at;	/* number of the reply to the last EXEC */
	uint32_t hello_at;	/* number of the reply to HELLO or RESET */
	uint32_t leave_at;	/* behind so many replies the last of `leaving` went out */
	uint32_t wary_at;	/* behind so many replies comes the error that wary means */
	uint32_t listen_at;	/* RESP2: behind so many replies messages may come */
	uint32_t ask_at;	/* behind so many replies ours come */

	uint8_t asked;		/* replies to PING still to come */
	uint8_t held;		/* bytes of such a reply that are held back ... */
	uint8_t held_text;	/* ... and which of the texts it is */
	uint8_t hold;		/* enum redis_hold */
	uint8_t refusal;	/* enum redis_refusal */
	uint8_t leaving;	/* UNSUBSCRIBE of all, each of which draws as many confirmations as there are */
	uint8_t told;		/* empty lines of ours since the last command, with nothing outstanding */
	bool while_busy[2];	/* setting: also while a command runs */
	bool taking : 1;		/* inside a line that is a reply to us */

	bool may_send_oneway : 1;		/* setting: empty lines to the backend */
	bool client_oneway : 1;	/* setting: pushes of ours to the client */
	bool started : 1;		/* the client's first command is whole */
	bool heard : 1;		/* a whole reply came */
	bool proved : 1;		/* a command that needs a login was answered well */
	bool sent_oneway_ever : 1;
	bool erred : 1;		/* the last PING drew an error of no known meaning */
	bool in_multi : 1;
	bool exec_due : 1;		/* exec_at counts */
	bool hello_due : 1;		/* hello_at counts */
	bool reset_due : 1;		/* and it is that of RESET */
	bool resp3 : 1;
	bool listening : 1;		/* RESP2: subscribed, or about to be; listen_at counts */
	bool subscribed : 1;	/* it was, once */
	bool muted : 1;		/* CLIENT REPLY OFF */
	bool wary : 1;		/* the next error reply might be to a command that is not counted; wary_at counts */
	bool no_ping : 1;		/* never again */
	bool no_push : 1;		/* never again */
	bool unsure : 1;		/* the count of replies is not to be trusted */
	bool stream : 1;		/* replies are no longer counted: MONITOR, replication, subscriptions that were not followed */
	bool replica : 1;
	bool quit : 1;
	bool dismissed : 1;		/* the server's first words were that it will not serve this client */
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
uint64_t redis_command_skippable(const struct redis *s);
void redis_command_skipped(struct redis *s, uint64_t n);

/* Follows the server's bytes (until doubt) up to the end of one reply at most; returns where it stopped. */
const uint8_t *redis_reply_read(struct redis *s, const uint8_t *p, const uint8_t *end);
bool redis_reply_boundary(const struct redis *s);
/* RESP2: arrays that come now may be messages. */
bool redis_is_listening(const struct redis *s);
uint64_t redis_reply_skippable(const struct redis *s);
void redis_reply_skipped(struct redis *s, uint64_t n);

/* The ledger. */
void redis_command_sent(struct redis *s, enum redis_kind kind, uint32_t argc);
void redis_reply_came(struct redis *s);
/* Commands whose replies are still to come run at the server. */
bool redis_is_busy(const struct redis *s);
/* The server's bytes are not understood: let go at once. */
void redis_reply_doubt(struct redis *s, const char *why);

#endif
