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
#define REDIS_HEAD_MAX 8	/* of a reply's first line: distinguishes -EXECABORT from -ERR */
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

/* Commands that change what may be sent, or which replies come; all others are plain. */
enum redis_kind {
	KIND_NONE,	/* no word of it was read yet */
	KIND_PLAIN,
	KIND_EMPTY,	/* an empty line or *0: not a command */
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
	KIND_CLUSTER,		/* and no word after it yet; likewise SCRIPT, CLIENT ... */
	KIND_SCRIPT,
	KIND_SCRIPT_DEBUG,
	KIND_DEBUGGER,		/* SCRIPT DEBUG, except NO */
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
	QUOTE_DOUBLE_ESCAPE,	/* after a backslash */
	QUOTE_SINGLE,
	QUOTE_SINGLE_ESCAPE,
	QUOTE_CLOSED,		/* a blank must follow */
};

/* Signs that the server does not accept our heartbeats. */
enum redis_refusal {
	REFUSED_NOT,
	REFUSED_PERMISSION,	/* this user may not ping */
	REFUSED_UNKNOWN,	/* it does not know PING */
	REFUSED_ODDLY,		/* it replies to PING with something else */
	REFUSED_LINE,		/* it replies to an empty line */
	REFUSED_LATE,		/* it seems to, but the reply was taken for that to a command */
	REFUSED_COUNT,
};

/* Flags that hold only for the next command or empty line. */
enum redis_one_shot { ONE_SHOT_SKIP = 1, ONE_SHOT_ASKING = 2, ONE_SHOT_CACHING = 4 };

struct redis {
	const char *passthrough;	/* reason to become passthrough, as soon as no reply is due; NULL: none */

	struct {		/* the current command of the client */
		uint64_t left;		/* of an argument's bytes, with its CR LF */
		struct redis_number number;
		uint32_t argc;		/* of this command */
		uint32_t args_left;
		uint8_t state;
		uint8_t kind;
		uint8_t quote;		/* enum redis_quote, of a line of words */
		struct redis_word word;
	} command;

	struct {		/* the current reply of the server */
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
	uint32_t sent;		/* commands that get a reply */
	uint32_t done;		/* ... and those that have got it */
	uint32_t confirms;	/* confirmations of subscriptions, still to come */
	uint32_t exec_at;	/* number of the reply to the last EXEC */
	uint32_t hello_at;	/* number of the reply to HELLO or RESET */
	uint32_t leave_at;	/* after this many replies the last of `leaving` went out */
	uint32_t silence_at;	/* after this many replies comes the error of a refused CLIENT REPLY */
	uint32_t messages_at;	/* RESP2: after this many replies messages may come */
	uint32_t ping_at;	/* after this many replies those to PING come */

	uint8_t pings_due;	/* replies to PING that are due */
	uint8_t held;		/* bytes of such a reply that are held back ... */
	uint8_t held_text;	/* ... and which of the texts it is */
	uint8_t one_shot;	/* enum redis_one_shot */
	uint8_t refusal;	/* enum redis_refusal */
	uint8_t leaving;	/* UNSUBSCRIBE of all: each gets as many confirmations as there are subscriptions */
	uint8_t empty_lines;	/* of ours since the last command, sent with nothing due */
	bool while_busy[2];	/* setting: also while a command runs */
	bool in_our_line : 1;		/* inside a line that replies to a heartbeat */

	bool may_send_oneway : 1;		/* setting: empty lines to the backend */
	bool client_oneway : 1;	/* setting: pushes of ours to the client */
	bool started : 1;		/* the client's first command is whole */
	bool heard : 1;		/* a whole reply came */
	bool logged_in : 1;		/* a command that needs a login has succeeded */
	bool sent_oneway_ever : 1;
	bool ping_failed : 1;		/* the last PING got an error of unknown meaning */
	bool in_multi : 1;
	bool exec_due : 1;		/* exec_at is set */
	bool hello_due : 1;		/* hello_at is set */
	bool reset_due : 1;		/* ... by RESET */
	bool resp3 : 1;
	bool has_messages : 1;		/* RESP2: subscribed, or about to be; messages_at is set */
	bool subscribed : 1;		/* at any time so far */
	bool reply_off : 1;		/* CLIENT REPLY OFF */
	bool silence_is_unconfirmed : 1;	/* CLIENT REPLY OFF or SKIP may have been refused; silence_at is set */
	bool no_ping : 1;		/* never again */
	bool no_push : 1;		/* never again */
	bool count_is_unsure : 1;	/* the count of replies may be wrong */
	bool stream : 1;		/* replies are no longer counted: MONITOR, replication, subscriptions that were not followed */
	bool replica : 1;
	bool quit : 1;
	bool rejected : 1;		/* the server's first reply was that it does not serve this client */
};

/* Reads up to CR LF. The caller clears the number before the next one. */
enum redis_number_end redis_number_read(struct redis_number *n, const uint8_t **at,
    const uint8_t *end);
/* The same for a number of at most eight digits that is here in one piece, with its CR LF; NULL: it is not. */
const uint8_t *redis_number_quick(const uint8_t *p, const uint8_t *end, size_t *value);
/* Reads bytes of a bulk string, with its CR LF, of which *left are to come; adds them to a word, unless that is NULL. */
const uint8_t *redis_bulk_read(uint64_t *left, struct redis_word *w, const uint8_t *p, const uint8_t *end);
/* Adds bytes to a word. */
void redis_word_add(struct redis_word *w, const uint8_t *bytes, size_t len);
bool redis_word_is(const struct redis_word *w, const char *text);

/* Follows the client's bytes, until s->passthrough is set. */
void redis_commands_read(struct redis *s, const uint8_t *p, const uint8_t *end);
bool redis_command_boundary(const struct redis *s);
uint64_t redis_command_skippable(const struct redis *s);
void redis_command_skipped(struct redis *s, uint64_t n);

/* Follows the server's bytes up to the end of one reply at most; returns where it stopped. */
const uint8_t *redis_reply_read(struct redis *s, const uint8_t *p, const uint8_t *end);
bool redis_reply_boundary(const struct redis *s);
/* RESP2: arrays that come now may be messages. */
bool redis_may_get_messages(const struct redis *s);
uint64_t redis_reply_skippable(const struct redis *s);
void redis_reply_skipped(struct redis *s, uint64_t n);

/* The ledger. */
void redis_command_sent(struct redis *s, enum redis_kind kind, uint32_t argc);
void redis_reply_came(struct redis *s);
/* The server runs a command. */
bool redis_is_busy(const struct redis *s);
/* The server's bytes are not understood: passthrough, at once. */
void redis_reply_passthrough(struct redis *s, const char *why);

#endif
