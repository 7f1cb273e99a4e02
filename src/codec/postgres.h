/*
 * postgres.h - the inside of the PostgreSQL codec, shared by its files alone.
 *
 *   postgres.c           follows both streams: message by message, at any cut
 *   postgres_login.c     who is at the two ends, and whether it can be followed
 *   postgres_messages.c  what each message means to the state
 *   postgres_error.c     how it ends a session, or refuses our Sync
 *   postgres_ledger.c    which ReadyForQuery the server still owes
 *   postgres_heartbeat.c      heartbeats, farewells, the cancel request
 */
#ifndef STENT_CODEC_POSTGRES_H
#define STENT_CODEC_POSTGRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"

/*
 * The ledger: what the client has sent that the server has not settled yet,
 * in order, equal neighbours counted together.
 */
#define PG_RUNS 20

struct pg_ledger {
	uint16_t run[PG_RUNS];
	uint8_t n;
	bool copying : 1;	/* the server reads CopyData: a Sync gets no answer */
	bool eaten : 1;		/* the running COPY took a Sync */
	bool open : 1;		/* spilled: a batch without its Sync is last */
	bool doubt : 1;		/* the count may be wrong */
	bool alone : 1;		/* what was sent last was sent when nothing was under way */
	bool skipping : 1;	/* a batch has failed: the server drops all up to the next Sync */
	bool worked : 1;	/* a result has come since the last ReadyForQuery */
	uint16_t done;		/* extended messages that the server has settled since then */
	uint32_t spilled;	/* too much to be kept in order: so many ReadyForQuery are owed */
};

void pg_ledger_query(struct pg_ledger *l);	/* Query, FunctionCall: answered by ReadyForQuery */
void pg_ledger_extended(struct pg_ledger *l);	/* Parse, Bind, Describe, Execute, Close */
void pg_ledger_sync(struct pg_ledger *l);
void pg_ledger_copy_end(struct pg_ledger *l);	/* CopyDone, CopyFail */
void pg_ledger_copy_in(struct pg_ledger *l);	/* CopyInResponse, CopyBothResponse */
void pg_ledger_step(struct pg_ledger *l);	/* what settles an extended message: ParseComplete, ... */
void pg_ledger_result(struct pg_ledger *l);	/* CommandComplete, EmptyQueryResponse */
void pg_ledger_error(struct pg_ledger *l);
void pg_ledger_ready(struct pg_ledger *l);
/* Nothing is under way: not even a batch without its Sync. */
bool pg_ledger_is_idle(const struct pg_ledger *l);
/* A ReadyForQuery is owed. */
bool pg_ledger_is_owed(const struct pg_ledger *l);

enum pg_phase {
	PG_FIRST,	/* the client owes a packet without a type: StartupMessage, SSLRequest, ... */
	PG_ANSWER,	/* the server owes one byte: SSL or GSS encryption, or not */
	PG_LOGIN,	/* until the first ReadyForQuery */
	PG_READY,
	PG_OPAQUE,	/* a cancel request: nothing more to follow */
};

/* Why the client may take none but the messages that it waits for. */
enum pg_wary { PG_NOT_WARY, PG_LISTENS, PG_CALLS_FUNCTIONS };

enum pg_note { PG_NOTE_NONE, PG_NOTE_POOLER, PG_NOTE_NO_KEY, PG_NOTE_FROM_POOLER, PG_NOTE_SAID };

/* One direction: the message that its last byte belongs to. */
struct pg_stream {
	uint32_t left;		/* of its body */
	uint16_t look;		/* bytes of its body still to be looked at */
	uint16_t off;		/* bytes of its body looked at */
	uint8_t type;		/* 0: the packet without one */
	uint8_t got;		/* of its head */
	bool reads;		/* its text is read as it passes */
	bool ours;		/* it is the answer to our Sync, or an error in its place: not forwarded */
	bool fin;
	uint8_t head[8];
};

enum pg_severity { PG_UNKNOWN, PG_ERROR, PG_FATAL };

/* The ErrorResponse at hand. */
struct pg_error {
	uint8_t field;		/* letter of the field at hand; NUL: between two */
	uint8_t len;		/* of word */
	uint8_t severity;	/* enum pg_severity */
	char word[6];		/* first bytes of the field, with a NUL */
};

#define PG_KEY_MAX 32
#define PG_NAME_MAX 16		/* bytes of a parameter's name that are compared to the next's */
#define PG_VALUE_MAX 24		/* bytes of a parameter's value, with its NUL */
#define PG_STANDBY_LEN 32	/* a standby's report: write, flush, apply, time */
#define PG_WAL_LEN 24		/* of a piece of WAL: where it starts, where WAL ends, the time */

struct pg {
	struct pg_stream stream[2];	/* indexed by the side that sends */
	struct pg_ledger ledger;
	const char *reason;		/* why it lets go */
	uint32_t pid;
	uint8_t key[PG_KEY_MAX];
	uint8_t key_len;		/* 0: no key was seen, or one too long */
	uint8_t phase;			/* enum pg_phase */
	uint8_t status;			/* of the last ReadyForQuery: I, T, E */
	uint8_t note;			/* enum pg_note */
	uint8_t wary;			/* enum pg_wary */
	uint8_t asked;			/* so many of the next ReadyForQuery are ours */
	/* A string that is compared as it passes. */
	uint8_t scan_fits;		/* the names that it may still be, as bits */
	uint8_t scan_len;
	int8_t scan_order;		/* in the StartupMessage: whether it sorts before (-1) or behind the name before it */
	uint8_t word_len;		/* of the word LISTEN, so many letters have passed */
	bool scan_in_value : 1;
	bool saw_key : 1;
	bool is_pooler : 1;		/* the server is one */
	bool from_pooler : 1;		/* the client is one */
	bool is_walsender : 1;
	/* Of the names in the StartupMessage. */
	bool saw_name : 1;
	bool saw_database : 1;
	bool as_pgbouncer : 1;		/* in the order of that */
	bool as_pgpool : 1;
	uint8_t last_key;
	bool disarmed : 1;		/* our Flush will stop the server's idle timer */
	bool in_copy : 1;		/* either way, until its ReadyForQuery */
	bool in_both : 1;		/* CopyBoth, until its ReadyForQuery */
	bool both_from[2];		/* ... and that side has not sent its CopyDone */
	bool has_standby : 1;
	bool has_wal : 1;
	bool ended : 1;			/* the client has said Terminate */
	bool refuses : 1;		/* it has reacted to our Sync by something else than its reply; until that is told */
	bool took_leave : 1;		/* the server has ended the session by an error of its own */
	bool wants[2];			/* settings: heartbeats to that side are on */
	bool in_transaction : 1;	/* ... also inside a transaction */
	bool busy_client : 1;		/* ... to that side also while a statement runs */
	bool busy_backend : 1;
	bool chose_oneway : 1;		/* ... to the backend by the kind `tell` */
	uint8_t last_param;		/* index of the last parameter reported, + 1 */
	uint8_t param;			/* ... of the one to repeat, + 1; 0: none */
	uint8_t value_len;		/* of its value, with the NUL */
	char value[PG_VALUE_MAX];
	union {
		uint8_t last_name[PG_NAME_MAX];		/* in the StartupMessage */
		uint8_t standby[PG_STANDBY_LEN];	/* in CopyBoth */
		uint8_t held[PG_STANDBY_LEN];		/* of an error in place of our Sync's reply: its first bytes */
	};
	union {
		uint8_t wal[PG_WAL_LEN];		/* in CopyBoth; an error ends it */
		struct pg_error error;
	};
	uint8_t wal_kind;		/* of the message at hand: w (WAL), k (keepalive), 0 */
	uint32_t wal_data;		/* bytes of WAL in it */
};

/* postgres.c: lets go, because of what `from` sent. */
void pg_doubt(struct pg *pg, enum side from, const char *reason);

#define PG_CANCEL_MAX 268	/* length of a CancelRequest, with the longest key of all */

static inline uint32_t
pg_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* postgres_login.c: a head is whole, a byte is to be looked at, a message is whole */
void pg_begin_untyped(struct pg *pg);
void pg_begin_answer(struct pg *pg);
void pg_startup_at(struct pg *pg, uint16_t off, uint8_t byte);
void pg_startup_end(struct pg *pg);
void pg_key_begin(struct pg *pg);
void pg_key_at(struct pg *pg, uint16_t off, uint8_t byte);
void pg_key_end(struct pg *pg);
void pg_param_begin(struct pg *pg);
void pg_param_at(struct pg *pg, uint16_t off, uint8_t byte);
void pg_param_end(struct pg *pg);
/* The parameter to repeat: its name. */
const char *pg_param_name(const struct pg *pg);

/* postgres_error.c: as above */
void pg_error_begin(struct pg *pg);
void pg_error_at(struct pg *pg, uint16_t off, uint8_t byte);
void pg_error_end(struct pg *pg);

/* postgres_messages.c */
#define PG_HEAD_TYPED 5
#define PG_HEAD_UNTYPED 8

/* How many bytes the next head has that `from` sends; 0: it should send nothing now. */
size_t pg_head_size(const struct pg *pg, enum side from);
/* A head is whole: sets what is left of the message and what of it to look at; ends it if that is nothing. */
void pg_begin(struct pg *pg, enum side from);
/* One byte that was to be looked at; ends the message if it was the last. */
void pg_look(struct pg *pg, enum side from, uint8_t byte);
/* A message is whole. */
void pg_end(struct pg *pg, enum side from);
/* The text of the message at hand is read as it passes. */
bool pg_reads_text(const struct pg *pg, enum side from);
void pg_read_text(struct pg *pg, const uint8_t *p, size_t len);

/* postgres_heartbeat.c */
unsigned pg_may_heartbeat(const void *state, enum side to);
const char *pg_why_none(const void *state, enum side to);
bool pg_said_goodbye(const void *state, enum side from);
size_t pg_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t *buf);
size_t pg_close_message(void *state, enum side to, const struct codec_close_info *o, uint8_t *buf);
size_t pg_cancel(const void *state, uint8_t *buf);

static inline bool
pg_at_boundary(const struct pg_stream *s)
{
	return s->left == 0 && s->got == 0;
}

#endif
