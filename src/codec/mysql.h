/*
 * mysql.h - what the files of the MySQL codec share: the state of one flow.
 *
 * mysql.c reads the packets of both sides, and decides on heartbeats;
 * mysql_client.c follows the client's commands and queues them;
 * mysql_statement.c searches the text of its statements; mysql_server.c follows
 * the replies; mysql_reply.c recognizes those to our heartbeats. Where stent ends
 * TLS, mysql_tls.c begins the session and mysql_login.c watches its login.
 */
#ifndef STENT_CODEC_MYSQL_H
#define STENT_CODEC_MYSQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"

#define MYSQL_QUEUE 32		/* runs of commands that await their replies */
#define MYSQL_RUN_MAX 32	/* commands of one kind in a run */
#define MYSQL_BODY_MAX 24	/* bytes of a reply's packet that are read */
#define MYSQL_HEAD 4		/* 3 bytes of length, one of sequence */
#define MYSQL_FULL 0xffffffu	/* a packet of this length is continued in the next */
#define MYSQL_JUDGED 3		/* bytes of a payload by which a reply to a heartbeat is recognized */

/* Capabilities that change the protocol. */
#define CAP_MYSQL 0x1u			/* not MariaDB: then there are no extended ones */
#define CAP_WITH_DB 0x8u
#define CAP_COMPRESS 0x20u
#define CAP_LOCAL_FILES 0x80u
#define CAP_PROTOCOL_41 0x200u
#define CAP_SSL 0x800u
#define CAP_SECURE_CONNECTION 0x8000u
#define CAP_PLUGIN_AUTH 0x80000u
#define CAP_LENENC_AUTH 0x200000u
#define CAP_DEPRECATE_EOF 0x1000000u
#define CAP_OPTIONAL_METADATA 0x2000000u
#define CAP_ZSTD 0x4000000u
#define EXT_PROGRESS 0x1u		/* MariaDB: progress reports */
#define EXT_CACHE_METADATA 0x10u	/* MariaDB: column definitions may be left out */

/* What kind of reply a command gets. */
enum mysql_kind {
	KIND_QUERY,
	KIND_EXECUTE,	/* as a query, but may leave a cursor instead of rows */
	KIND_PREPARE,
	KIND_FETCH,
	KIND_FIELDS,
	KIND_SINGLE,	/* one packet */
	KIND_AUTH,	/* login or change of user: packets in both directions until OK or ERR */
};

enum { MYSQL_OK = 0x00, MYSQL_INFILE = 0xfb, MYSQL_EOF = 0xfe, MYSQL_ERR = 0xff };	/* the first byte of a reply */

enum mysql_phase {
	PHASE_GREETING,	/* the server speaks first */
	PHASE_LOGIN,	/* then the client */
	PHASE_COMMANDS,
};

/* Where in a reply the next packet belongs. */
enum mysql_reply { REPLY_FIRST, REPLY_COLUMNS, REPLY_COLUMNS_EOF, REPLY_ROWS, REPLY_PREPARED };

/* How a method of authentication sends the password, by what the client believes of its connection. */
enum mysql_method {
	METHOD_HASHED,		/* never itself */
	METHOD_CACHING_SHA2,	/* in the clear or by RSA, where the server has no hash in its cache */
	METHOD_SHA256,		/* in the clear or by RSA */
	METHOD_CLEAR,		/* in the clear, or unknown */
};

enum mysql_guard {
	GUARD_CLIENT_PLAIN = 1,	/* the server takes its connection for secure (TLS, a UNIX socket), the client does not */
	GUARD_SERVER_PLAIN = 2,	/* the client does, the server does not */
	GUARD_CLEAR = 4,	/* the client has TLS, and the server is reached over a network without it */
};

/* Locks that a session may hold at rest, by the text of its statements. */
struct mysql_locks {
	uint8_t named;		/* GET_LOCK */
	uint8_t handlers;	/* HANDLER ... OPEN */
	bool tables;		/* LOCK TABLES, FLUSH TABLES WITH READ LOCK or FOR EXPORT */
	bool backup;		/* BACKUP STAGE, BACKUP LOCK, LOCK INSTANCE, LOCK BINLOG */
};

/* The search through a statement's text. */
struct mysql_scan {
	uint64_t high, low;	/* its last 16 bytes: upper case, a blank for each run of white space */
	bool on;		/* more of it is searched */
	bool handler;		/* HANDLER was seen */
};

/* One direction's packets. */
struct mysql_packet {
	uint32_t left;		/* of the payload */
	uint8_t head[MYSQL_HEAD];
	uint8_t got;		/* bytes of the head; 0: between two packets */
	bool more;		/* the current packet (or the last) is continued in the next */
	bool continued;		/* this one continues the last */
};

struct mysql {
	const char *passthrough;	/* reason to become passthrough, as soon as no reply is due; NULL: none */
	struct mysql_scan scan;	/* of the client's statement */
	struct mysql_locks locks;
	struct mysql_packet packet[2];
	uint32_t caps, ext;	/* of the server; from the login on, of both */
	uint32_t login_caps, login_ext;	/* of the client */
	uint32_t at;		/* offset in the client's packet */
	uint32_t left;		/* column definitions still to come */
	uint32_t body_len;	/* of the server's packet */
	uint32_t threads;	/* of the server, as COM_STATISTICS last reported */
	uint16_t status;	/* as the server last reported */
	uint8_t body[MYSQL_BODY_MAX];
	uint8_t body_got;

	uint8_t phase;
	uint8_t role;		/* of the client's packet */
	uint8_t command;	/* its first byte */
	uint8_t reply;		/* enum mysql_reply */
	uint8_t next_seq;	/* of the next packet of the exchange */
	uint8_t greeting_at;	/* bytes read after the server's version, plus one */

	uint8_t runs[MYSQL_QUEUE];	/* a ring: kind << 5 | commands - 1 */
	uint8_t first_run;
	uint8_t n_runs;

	uint8_t pings_due;	/* pings whose replies are due, before any other */
	uint8_t oneways_sent;	/* one-way heartbeats that the server may still reply to */
	uint8_t oneways_left;	/* one-way heartbeats to send before the next ping */
	uint8_t mark_at;	/* bytes of the mark seen in COM_STATISTICS' text */
	bool holding;		/* the current packet may be a reply to a heartbeat: it is held back */
	bool swallowing;	/* inside such a reply, which is taken out */

	bool heartbeat_in_transaction;	/* settings */
	bool while_busy;
	bool oneway_is_chosen;
	bool ping_is_chosen;

	bool is_full_server;	/* MySQL or MariaDB, by its greeting */
	bool refused;		/* the server does not accept heartbeats */
	bool oneway_before_command;	/* a one-way heartbeat went out before a command that is open */
	bool oneway_is_accepted;	/* and such a command got its own reply */
	bool in_transaction;	/* or it may be */
	bool auth;		/* logging in, or changing the user */
	bool logged_in;
	bool infile;		/* the client sends a file's contents (LOAD DATA LOCAL) */
	bool may_load_file;	/* so might a statement under way */
	bool prepared_may_load_file;	/* ... or a prepared one */
	bool ended;		/* QUIT, the first login failed, or the server has ended the session */
	bool closing[2];	/* that side has sent that it ends the session */

	bool watched;		/* a login that mysql_login.c watches */
	bool cut_off;		/* ... and has refused: neither side's bytes are passed on */
	uint8_t shift;		/* the client's packets of the login are numbered so much higher (modulo 256) than the server's */
	uint8_t guards;		/* a set of enum mysql_guard: where stent ended TLS */
	uint8_t method;		/* of the login under way */
};

_Static_assert(MYSQL_RUN_MAX == 1 << 5 && KIND_AUTH < 1 << 3, "a run is a byte: kind << 5 | commands - 1");
_Static_assert(MYSQL_BODY_MAX >= MYSQL_JUDGED && MYSQL_BODY_MAX <= UINT8_MAX, "`body_got` counts the bytes that are read");

/* The queue of commands that await their replies. */
bool mysql_is_idle(const struct mysql *s);
enum mysql_kind mysql_queue_first(const struct mysql *s);
void mysql_queue_add(struct mysql *s, enum mysql_kind kind);
void mysql_queue_drop(struct mysql *s);

/* Gathers a packet's head; true when it is whole. */
bool mysql_packet_head(struct mysql_packet *k, const uint8_t **at, const uint8_t *end);
/* True between two packets that belong to two messages. */
bool mysql_packet_boundary(const struct mysql_packet *k);

/* The text of a statement: it begins; more bytes of it. */
void mysql_scan_begin(struct mysql *s);
void mysql_scan(struct mysql *s, const uint8_t *p, size_t n);
bool mysql_holds_locks(const struct mysql *s);

/* A packet of a side: its head is whole; some of its payload; it ends. A client's are not read after `passthrough` is set. */
void mysql_client_begins(struct mysql *s);
void mysql_client_payload(struct mysql *s, const uint8_t *p, size_t n);
void mysql_client_ends(struct mysql *s);
void mysql_server_begins(struct mysql *s);
void mysql_server_payload(struct mysql *s, const uint8_t *p, size_t n);
void mysql_server_ends(struct mysql *s);

/* The payload must be read from here on. */
bool mysql_client_reads(const struct mysql *s);

/*
 * A packet of the server begins that may be a reply to a heartbeat: it is held
 * back until mysql_reply_is_ours() can decide. That sets out->refused, too.
 */
bool mysql_reply_may_be_ours(const struct mysql *s);
bool mysql_reply_is_ours(struct mysql *s, struct codec_out *out);
/* Payload of a reply to a heartbeat. */
void mysql_reply_read(struct mysql *s, const uint8_t *p, size_t n);

/* The packet is an error by which a server ends a session. */
bool mysql_is_close_error(const struct mysql *s);

/* A login begins or goes on; a packet of the server has ended. */
void mysql_login_begins(struct mysql *s);
void mysql_login_packet_ended(struct mysql *s);
/* The server's packet (its first MYSQL_BODY_MAX bytes) asks the client for what cannot or must not pass: the flow ends. */
bool mysql_login_refuses(struct mysql *s, struct codec_out *out);
/* Then the error that the client gets in its place. Returns its length. */
size_t mysql_login_error(const struct mysql *s, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);
enum mysql_method mysql_method_of(const uint8_t *name, size_t len);
/* Why a method cannot be used, in words for the client; NULL: it can. */
const char *mysql_method_refused(enum mysql_method method, unsigned guards);

/* Errors that stent sends itself. */
#define ER_HANDSHAKE_ERROR 1043u		/* with 08S01: pools try again */
#define ER_SECURE_TRANSPORT_REQUIRED 3159u	/* with HY000: something is to be configured */
/* Writes one; without a state before the greeting, when the client cannot know of states. Returns its length. */
size_t mysql_error(uint8_t *buf, size_t room, uint8_t seq, unsigned number, const char *state, const char *text);

/* The server's bytes are not understood: passthrough, at once. */
void mysql_server_passthrough(struct mysql *s, const char *why);

#endif
