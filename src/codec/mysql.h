/*
 * mysql.h - what the files of the MySQL codec share: the state of one flow.
 *
 * mysql_client.c follows the client's packets and queues its commands;
 * mysql_statement.c looks through the text of its statements; mysql_server.c
 * follows the replies; mysql_reply.c tells the replies to our heartbeats from
 * the client's; mysql.c decides on heartbeats.
 */
#ifndef STENT_CODEC_MYSQL_H
#define STENT_CODEC_MYSQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/codec.h"

#define MYSQL_QUEUE 32		/* runs of commands that await their replies */
#define MYSQL_RUN_MAX 32	/* commands of one kind in a run */
#define MYSQL_BODY_MAX 24	/* bytes of a reply's packet that are looked at */
#define MYSQL_HEAD 4		/* 3 bytes of length, one of sequence */
#define MYSQL_FULL 0xffffffu	/* a packet of this length is continued in the next */
#define MYSQL_JUDGED 3		/* bytes of a payload by which a reply to a heartbeat is known */

/* Capabilities that change the protocol. */
#define CAP_MYSQL 0x1u			/* not MariaDB: then there are no extended ones */
#define CAP_COMPRESS 0x20u
#define CAP_LOCAL_FILES 0x80u
#define CAP_PROTOCOL_41 0x200u
#define CAP_SSL 0x800u
#define CAP_DEPRECATE_EOF 0x1000000u
#define CAP_OPTIONAL_METADATA 0x2000000u
#define CAP_ZSTD 0x4000000u
#define EXT_PROGRESS 0x1u		/* MariaDB: progress reports */
#define EXT_CACHE_METADATA 0x10u	/* MariaDB: column definitions may be left out */

/* What kind of reply a command draws. */
enum mysql_kind {
	KIND_QUERY,
	KIND_EXECUTE,	/* as a query, but may leave a cursor instead of rows */
	KIND_PREPARE,
	KIND_FETCH,
	KIND_FIELDS,
	KIND_SINGLE,	/* one packet */
	KIND_AUTH,	/* login or change of user: packets go to and fro until OK or ERR */
};

enum { MYSQL_OK = 0x00, MYSQL_INFILE = 0xfb, MYSQL_EOF = 0xfe, MYSQL_ERR = 0xff };	/* the first byte of a reply */

enum mysql_phase {
	PHASE_GREETING,	/* the server speaks first */
	PHASE_LOGIN,	/* then the client */
	PHASE_COMMANDS,
};

/* Where in a reply the next packet is. */
enum mysql_reply { REPLY_FIRST, REPLY_COLUMNS, REPLY_COLUMNS_EOF, REPLY_ROWS, REPLY_PREPARED };

/* What a session may hold at rest, by the words of its statements. */
struct mysql_locks {
	uint8_t named;		/* GET_LOCK */
	uint8_t handlers;	/* HANDLER ... OPEN */
	bool tables;		/* LOCK TABLES, FLUSH TABLES WITH READ LOCK or FOR EXPORT */
	bool backup;		/* BACKUP STAGE, BACKUP LOCK, LOCK INSTANCE, LOCK BINLOG */
};

/* The search through a statement's text. */
struct mysql_scan {
	uint64_t high, low;	/* its last 16 bytes: upper case, a blank for each run of white space */
	bool on;		/* more of it is looked at */
	bool handler;		/* HANDLER was seen */
};

/* One direction's packets. */
struct mysql_packet {
	uint32_t left;		/* of the payload */
	uint8_t head[MYSQL_HEAD];
	uint8_t got;		/* bytes of the head; 0: between two packets */
	bool more;		/* the packet at hand (or the last) is continued in the next */
	bool continued;		/* this one continues the last */
};

struct mysql {
	const char *why;	/* doubt: the codec lets go for this reason as soon as it may */
	struct mysql_scan scan;	/* of the client's statement */
	struct mysql_locks locks;
	struct mysql_packet packet[2];
	uint32_t caps, ext;	/* of the server; from the login on, of both */
	uint32_t login_caps, login_ext;	/* of the client */
	uint32_t at;		/* offset in the client's packet */
	uint32_t left;		/* column definitions still to come */
	uint32_t body_len;	/* of the server's packet */
	uint32_t threads;	/* of the server, as COM_STATISTICS last told */
	uint16_t status;	/* the server's, as last told */
	uint8_t body[MYSQL_BODY_MAX];
	uint8_t body_got;

	uint8_t phase;
	uint8_t role;		/* of the client's packet */
	uint8_t command;	/* its first byte */
	uint8_t reply;		/* enum mysql_reply */
	uint8_t next_seq;	/* of the next packet of the exchange */
	uint8_t greeting_at;	/* bytes seen behind the server's version, and one */

	uint8_t runs[MYSQL_QUEUE];	/* a ring: kind << 5 | commands - 1 */
	uint8_t first_run;
	uint8_t n_runs;

	uint8_t asked;		/* pings whose replies are to come, before any other */
	uint8_t told;		/* one-way heartbeats that the server may yet have replied to */
	uint8_t spare;		/* one-way heartbeats to send before the next ping */
	uint8_t mark_at;	/* bytes of the mark seen in COM_STATISTICS' text */
	bool holding;		/* the packet at hand may be a reply to a heartbeat: what came of it is kept back */
	bool swallowing;	/* inside such a reply */

	bool heartbeat_in_transaction;	/* settings */
	bool while_busy;
	bool oneway_is_chosen;
	bool ping_is_chosen;

	bool is_full_server;	/* by its greeting: what is known of MySQL and MariaDB holds */
	bool refused;		/* the server does not bear heartbeats */
	bool told_ahead;	/* a one-way heartbeat went out before a command that is open */
	bool oneway_is_borne;	/* and the reply to one such was the command's own */
	bool in_transaction;	/* or it may be */
	bool auth;		/* logging in, or changing the user */
	bool logged_in;
	bool infile;		/* the client sends a file's contents (LOAD DATA LOCAL) */
	bool suspect;		/* a statement under way might become one */
	bool suspect_prepared;	/* so might a prepared one */
	bool ended;		/* QUIT, the (first) login failed, or the server's last words */
	bool goodbye[2];	/* that side said that it ends the session */
};

/* The queue of commands that await their replies. */
bool mysql_is_idle(const struct mysql *s);
enum mysql_kind mysql_queue_first(const struct mysql *s);
void mysql_queue_add(struct mysql *s, enum mysql_kind kind);
void mysql_queue_drop(struct mysql *s);

/* Gathers a packet's head; true when it is whole. */
bool mysql_packet_head(struct mysql_packet *k, const uint8_t **at, const uint8_t *end);
/* True between two packets that belong to two messages. */
bool mysql_packet_boundary(const struct mysql_packet *k);

/* The text of a statement: it begins; some more bytes of it. */
void mysql_scan_begin(struct mysql *s);
void mysql_scan(struct mysql *s, const uint8_t *p, size_t n);
bool mysql_holds_locks(const struct mysql *s);

/* Follows the client's bytes; stops at doubt. */
void mysql_client_read(struct mysql *s, const uint8_t *p, const uint8_t *end);
uint64_t mysql_client_skippable(const struct mysql *s);

/* A packet of the server: its head is whole; some of its payload; it ends. */
void mysql_server_begins(struct mysql *s);
void mysql_server_payload(struct mysql *s, const uint8_t *p, size_t n);
void mysql_server_ends(struct mysql *s);

/*
 * A packet of the server begins: it may be a reply to a heartbeat of ours, and
 * is kept back until so much of it has come that mysql_reply_is_ours() can
 * tell. That notes in out what it is a sign of.
 */
bool mysql_reply_may_be_ours(const struct mysql *s);
bool mysql_reply_is_ours(struct mysql *s, struct codec_out *out);
/* Payload of a reply of ours. */
void mysql_reply_read(struct mysql *s, const uint8_t *p, size_t n);

/* The number of an error by which a server ends a session. */
bool mysql_is_goodbye(const struct mysql *s);

/* The server's bytes are not understood: let go at once. */
void mysql_server_doubt(struct mysql *s, const char *why);

#endif
