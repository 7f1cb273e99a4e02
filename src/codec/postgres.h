/*
 * postgres.h - what the files of the PostgreSQL codec share.
 *
 *   postgres.c            follows both streams: message by message, at any cut
 *   postgres_login.c      who is at the two ends, and whether it can be followed
 *   postgres_messages.c   what each message means to the state
 *   postgres_error.c      how the server ends a session, or refuses our Sync; errors of our own
 *   postgres_ledger.c     which ReadyForQuery are due
 *   postgres_heartbeat.c  heartbeats, close messages, the cancel request
 *   postgres_tls.c        how TLS begins, before there is a session
 *   postgres_scram.c      a login method that cannot work where stent ends TLS
 */
#ifndef STENT_CODEC_POSTGRES_H
#define STENT_CODEC_POSTGRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/words.h"
#include "stent/codec.h"

/*
 * The ledger: what the client has sent and the server has not settled yet, in
 * order, equal neighbours counted together.
 */
#define PG_RUNS 20

struct pg_ledger {
	uint16_t run[PG_RUNS];
	uint8_t n;
	bool copying : 1;	/* the server reads CopyData: a Sync gets no reply */
	bool took_sync : 1;	/* the running COPY has read a Sync */
	bool open : 1;		/* spilled: a batch without its Sync is last */
	bool unsure : 1;	/* the count may be wrong */
	bool alone : 1;		/* the last message was sent when nothing was under way */
	bool skipping : 1;	/* a batch has failed: the server drops all up to the next Sync */
	bool worked : 1;	/* a result has come since the last ReadyForQuery */
	uint16_t done;		/* extended messages that the server has settled since then */
	uint32_t spilled;	/* ReadyForQuery that are due, when there is too much to keep in order */
};

void pg_ledger_query(struct pg_ledger *l);	/* Query, FunctionCall: each gets a ReadyForQuery */
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
/* A ReadyForQuery is due. */
bool pg_ledger_is_due(const struct pg_ledger *l);

enum pg_phase {
	PG_FIRST,	/* the client sends a packet without a type: StartupMessage, SSLRequest, ... */
	PG_ENCRYPTION,	/* the server replies with one byte: SSL or GSS encryption, or not */
	PG_LOGIN,	/* until the first ReadyForQuery */
	PG_READY,
	PG_CANCEL,	/* a cancel request: nothing more to follow */
};

/* Why the client may accept only the messages that it waits for. */
enum pg_strict { PG_NOT_STRICT, PG_WAITS_FOR_NOTIFICATIONS, PG_CALLS_FUNCTIONS };

enum pg_note { PG_NOTE_NONE, PG_NOTE_POOLER, PG_NOTE_NO_KEY, PG_NOTE_FROM_POOLER, PG_NOTE_BINDING, PG_NOTE_LONG_LIST, PG_NOTE_REPORTED };

/* One direction: the message that its last byte belongs to. */
struct pg_stream {
	uint32_t left;		/* of its body */
	uint16_t look;		/* bytes of its body still to be read */
	uint16_t off;		/* bytes of its body that were read */
	uint8_t type;		/* 0: the packet without one */
	uint8_t got;		/* of its head */
	bool has_sql;		/* its SQL is searched as it passes */
	bool ours;		/* it is the reply to our Sync, or an error in its place: not forwarded */
	bool fin;
	uint8_t head[8];
};

enum pg_severity { PG_UNKNOWN, PG_ERROR, PG_FATAL };

/* The current ErrorResponse. */
struct pg_error {
	uint8_t field;		/* letter of the current field; NUL: between two */
	uint8_t len;		/* of word */
	uint8_t severity;	/* enum pg_severity */
	char word[6];		/* first bytes of the field, with a NUL: a code, or what distinguishes severities (ERRORE and FATALE are Italian) */
};

#define PG_KEY_MAX 32
#define PG_NAME_MAX 16		/* bytes of a parameter's name that are compared to the next one's */
#define PG_VALUE_MAX 24		/* bytes of a parameter's value, with its NUL */
#define PG_STANDBY_LEN 32	/* a standby's report: write, flush, apply, time */
#define PG_WAL_LEN 24		/* of a piece of WAL: where it starts, where WAL ends, the time */
#define PG_AUTH_MAX 112		/* bytes of an authentication request that are held back: the server's own lists have 46 */

struct pg {
	struct pg_stream stream[2];	/* indexed by the side that sends */
	struct pg_ledger ledger;
	const char *passthrough;	/* reason to become passthrough; NULL: none */
	uint32_t pid;
	uint8_t key_len;		/* 0: no key was seen, or one too long */
	uint8_t phase;			/* enum pg_phase */
	uint8_t status;			/* of the last ReadyForQuery: I, T, E */
	uint8_t note;			/* enum pg_note */
	uint8_t strict;			/* enum pg_strict: the client */
	uint8_t syncs_due;		/* how many of the next ReadyForQuery are replies to our Syncs */
	struct words name;		/* the current name of a StartupMessage or of a parameter */
	struct words sql_word;		/* the current word of a statement */
	int8_t name_order;		/* in the StartupMessage: the name sorts before (-1) or after the one before it */
	bool in_value : 1;		/* after the name */
	bool keeps_value : 1;		/* it may be the parameter to repeat */
	bool strikes : 1;		/* SCRAM-SHA-256-PLUS, from the list of methods: see postgres_scram.c */
	bool holds_auth : 1;		/* the server's current message: it is not forwarded yet */
	bool has_struck : 1;		/* ... and the client has not chosen yet */
	bool saw_key : 1;
	bool is_pooler : 1;		/* the server is one */
	bool from_pooler : 1;		/* the client is one */
	bool is_walsender : 1;
	/* The names in the StartupMessage: */
	bool saw_name : 1;
	bool saw_database : 1;
	bool as_pgbouncer : 1;		/* in PgBouncer's order */
	bool as_pgpool : 1;
	uint8_t last_key;
	bool timer_is_off : 1;		/* our Flush stops the server's idle timer */
	bool in_copy : 1;		/* either way, until its ReadyForQuery */
	bool in_both : 1;		/* CopyBoth, until its ReadyForQuery */
	bool both_from[2];		/* ... and that side has not sent its CopyDone */
	bool has_standby : 1;
	bool has_wal : 1;
	bool client_ended : 1;		/* it has sent Terminate */
	bool refuses : 1;		/* the server reacted to our Sync with something other than its reply; until reported */
	bool server_ended : 1;		/* it has ended the session by an error of its own */
	bool heartbeats[2];		/* settings: heartbeats to that side are on */
	bool in_transaction : 1;	/* ... also inside a transaction */
	bool busy_client : 1;		/* ... to that side also while a statement runs */
	bool busy_backend : 1;
	bool oneway_is_chosen : 1;	/* ... to the backend are one-way */
	uint8_t last_param;		/* index of the last parameter reported, + 1 */
	uint8_t param;			/* ... of the one to repeat, + 1; 0: none */
	uint8_t value_len;		/* of its value, with the NUL */
	union {
		uint8_t auth[PG_AUTH_MAX];	/* the body of an authentication request, held back; nothing below is needed then */
		struct {
			uint8_t key[PG_KEY_MAX];
			char value[PG_VALUE_MAX];
			union {
				uint8_t last_name[PG_NAME_MAX];		/* in the StartupMessage */
				uint8_t standby[PG_STANDBY_LEN];	/* in CopyBoth */
				uint8_t held[PG_STANDBY_LEN];		/* the first bytes of an error in place of the reply to our Sync */
			};
			union {
				uint8_t wal[PG_WAL_LEN];		/* in CopyBoth; an error ends it */
				struct pg_error error;
			};
		};
	};
	uint8_t wal_kind;		/* of the current message: w (WAL), k (keepalive), 0 */
	uint32_t wal_data;		/* bytes of WAL in it */
};

/* postgres.c: becomes passthrough because of what `from` sent. */
void pg_passthrough(struct pg *pg, enum side from, const char *reason);

#define PG_CANCEL_MAX 268	/* length of a CancelRequest, with the longest key of all */

static inline uint32_t
pg_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* postgres_login.c: a head is whole, a byte is to be read, a message is whole */
void pg_begin_untyped(struct pg *pg);
void pg_begin_encryption(struct pg *pg);
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

/* postgres_scram.c: as above */
void pg_auth_begin(struct pg *pg);
void pg_auth_at(struct pg *pg, uint16_t off, uint8_t byte);
void pg_choice_begin(struct pg *pg);
void pg_choice_at(struct pg *pg, uint16_t off, uint8_t byte);
#define PG_CHOICE_LOOK 19
void pg_tls(void *state, const struct codec_tls *tls);
/* The first byte of a message of the server: whether it is held back. */
bool pg_auth_is_held(const struct pg *pg, uint8_t type);
/* After each step while a message is held: emits it, once it is known what the client is to get. */
void pg_auth_settle(struct pg *pg, struct codec_out *out);
/* What is held goes to the client as it is. */
void pg_auth_give_back(struct pg *pg, struct codec_out *out);

/* postgres_error.c: as above */
void pg_error_begin(struct pg *pg);
void pg_error_at(struct pg *pg, uint16_t off, uint8_t byte);
void pg_error_end(struct pg *pg);

/* Writes an ErrorResponse that ends the session; text is cut to what room allows. Returns its length. */
size_t pg_fatal(uint8_t *buf, size_t room, const char *sqlstate, const char *text, const char *hint);

/* Codes of the packet without a type. */
#define PG_CODE_CANCEL 80877102u
#define PG_CODE_SSL 80877103u
#define PG_CODE_GSSENC 80877104u

/* postgres_messages.c */
#define PG_HEAD_TYPED 5
#define PG_HEAD_UNTYPED 8

/* The length of the next head that `from` sends; 0: it should send nothing now. */
size_t pg_head_size(const struct pg *pg, enum side from);
/* A head is whole: sets what is left of the message and what of it to read; ends it if nothing is left. */
void pg_begin(struct pg *pg, enum side from);
/* One byte of those to read; ends the message if it was the last. */
void pg_read_byte(struct pg *pg, enum side from, uint8_t byte);
/* A message is whole. */
void pg_end(struct pg *pg, enum side from);
/* The SQL of the current message is searched as it passes. */
bool pg_searches_sql(const struct pg *pg, enum side from);
void pg_search_sql(struct pg *pg, const uint8_t *p, size_t len);

/* postgres_heartbeat.c */
unsigned pg_may_heartbeat(const void *state, enum side to);
const char *pg_why_none(const void *state, enum side to);
bool pg_said_goodbye(const void *state, enum side from);
size_t pg_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t *buf);
enum codec_rest pg_rest(const void *state);
size_t pg_close_message(void *state, enum side to, const struct codec_close_info *info, uint8_t *buf);
size_t pg_cancel(const void *state, uint8_t *buf);

static inline bool
pg_at_boundary(const struct pg_stream *s)
{
	return s->left == 0 && s->got == 0;
}

#endif
