/*
 * mysql.c - MySQL and MariaDB: the beats, and the answers taken out again.
 *
 * Tell: COM_STMT_CLOSE of a statement that does not exist. It draws no reply
 * and leaves row counts, insert ids, warnings, statements and the transaction
 * as they are. The id is fffffffe: MariaDB takes ffffffff for "the statement
 * prepared last" and closes that.
 *
 * Ask: COM_STATISTICS, the only command with a reply that a session cannot
 * notice (COM_PING resets ROW_COUNT). Its reply is one packet of text, known
 * by its place and its sequence number: so it is asked only when every command
 * was answered in full.
 *
 * Both only between two commands of a client that is logged in, never while a
 * file is being loaded, and by default not to a session that idles inside a
 * transaction: there the server's own limit shall free its locks. While a
 * statement runs a tell is due all the same; the server reads it when it has
 * answered, and counts from then.
 *
 * To the client nothing: no client expects a packet of its own accord. MariaDB
 * has progress reports, but few clients take them, and all sequence numbers
 * behind one would have to be rewritten.
 */
#include <stdio.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/mysql.h"

#define ASKED_MAX 100
#define ER_SERVER_SHUTDOWN 1053
#define ANSWER_MAX 4096	/* bytes of text; a longer one is not COM_STATISTICS' */

/* --- the queue: runs of commands of one kind --- */

bool
mysql_is_idle(const struct mysql *s)
{
	return s->n_runs == 0;
}

enum mysql_kind
mysql_queue_first(const struct mysql *s)
{
	return s->runs[s->first_run] >> 5;
}

void
mysql_queue_add(struct mysql *s, enum mysql_kind kind)
{
	uint8_t *last = &s->runs[(s->first_run + s->n_runs + MYSQL_QUEUE - 1) % MYSQL_QUEUE];

	if (s->n_runs > 0 && *last >> 5 == kind && (*last & (MYSQL_RUN_MAX - 1)) < MYSQL_RUN_MAX - 1) {
		++*last;
	} else if (s->n_runs == MYSQL_QUEUE) {
		s->why = "too many commands ahead of their replies";
	} else {
		s->runs[(s->first_run + s->n_runs) % MYSQL_QUEUE] = (uint8_t)(kind << 5);
		s->n_runs++;
	}
}

void
mysql_queue_drop(struct mysql *s)
{
	uint8_t *first = &s->runs[s->first_run];

	if ((*first & (MYSQL_RUN_MAX - 1)) != 0) {
		--*first;
		return;
	}
	s->first_run = (uint8_t)((s->first_run + 1) % MYSQL_QUEUE);
	s->n_runs--;
}

/* --- bytes --- */

static bool
is_lost(const struct mysql *s)
{
	return s->why != NULL && s->asked == 0 && !s->swallowing;
}

/*
 * The head of a packet that came while an answer is due. One with another
 * number is the server's own, such as its last words: the client's to read.
 */
static void
judge_head(struct mysql *s, struct codec_out *out)
{
	const struct mysql_packet *k = &s->packet[BACKEND];

	s->holding = false;
	if (k->head[3] == 1 && k->left > 0 && k->left <= ANSWER_MAX) {
		s->swallowing = true;
		s->asked--;
		out->answers++;
		return;
	}
	codec_emit_copy(out, k->head, MYSQL_HEAD);
	mysql_server_doubt(s, "a packet that no command asked for");
}

static void
answer_ends(struct mysql *s, struct codec_out *out)
{
	s->swallowing = false;
	if (s->body[0] == 0xff && !s->no_ask) {
		s->no_ask = true;
		out->refused = "the server refuses COM_STATISTICS";
	}
}

/* Bytes of a head that may be an answer's stay where they are gathered until it is whole. */
static const uint8_t *
read_head(struct mysql *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	struct mysql_packet *k = &s->packet[BACKEND];

	if (!mysql_packet_head(k, &p, end))
		return p;
	mysql_server_begins(s);
	if (s->holding)
		judge_head(s, out);
	if (k->left == 0 && !is_lost(s))
		mysql_server_ends(s);
	return p;
}

static const uint8_t *
read_payload(struct mysql *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	struct mysql_packet *k = &s->packet[BACKEND];
	size_t n = k->left < (size_t)(end - p) ? k->left : (size_t)(end - p);

	mysql_server_payload(s, p, n);
	k->left -= (uint32_t)n;
	if (k->left > 0)
		return p + n;
	mysql_server_ends(s);
	if (s->swallowing)
		answer_ends(s, out);
	return p + n;
}

/* Rows that are there in one piece; most of what a server sends is rows. What may end them is left. */
static const uint8_t *
skip_rows(struct mysql *s, const uint8_t *p, const uint8_t *end)
{
	while (end - p > MYSQL_HEAD) {
		size_t len = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16;

		if (len == 0 || len == MYSQL_FULL || p[MYSQL_HEAD] >= 0xfe ||
		    (size_t)(end - p) < MYSQL_HEAD + len)
			break;
		s->next_seq = (uint8_t)(p[3] + 1);
		p += MYSQL_HEAD + len;
	}
	return p;
}

static size_t
feed_backend(struct mysql *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const uint8_t *p = buf, *from = buf, *end = buf + len;
	const struct mysql_packet *k = &s->packet[BACKEND];

	while (p < end && !is_lost(s)) {
		bool ours;

		if (!codec_out_has_room(out))
			break;
		if (s->reply == REPLY_ROWS && mysql_packet_boundary(k))
			p = skip_rows(s, p, end);
		if (p == end)
			break;
		if (k->got == 0 && s->asked > 0)
			s->holding = true;
		ours = s->holding || s->swallowing;
		if (ours)
			codec_emit(out, from, (size_t)(p - from));
		p = k->got < MYSQL_HEAD ? read_head(s, p, end, out) : read_payload(s, p, end, out);
		if (ours)
			from = p;
	}
	codec_emit(out, from, (size_t)(p - from));
	return (size_t)(p - buf);
}

static size_t
mysql_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct mysql *s = state;
	size_t n = len;

	if (from == BACKEND) {
		n = feed_backend(s, buf, len, out);
	} else {
		mysql_client_read(s, buf, buf + len);
		codec_emit(out, buf, len);
	}
	if (is_lost(s))
		out->lost = s->why;
	return n;
}

static void
mysql_finish(void *state, enum side from, struct codec_out *out)
{
	struct mysql *s = state;

	if (from == BACKEND && s->holding) {
		codec_emit_copy(out, s->packet[BACKEND].head, s->packet[BACKEND].got);
		s->holding = false;
	}
}

static uint64_t
mysql_unseen(const void *state, enum side from)
{
	const struct mysql *s = state;
	const struct mysql_packet *k = &s->packet[BACKEND];

	if (s->why != NULL)
		return 0;
	if (from == CLIENT)
		return mysql_client_unseen(s);
	if (k->got < MYSQL_HEAD || k->left <= 1 || s->swallowing || s->phase == PHASE_GREETING ||
	    (!k->continued && s->body_got < MYSQL_BODY_MAX))
		return 0;
	return k->left - 1;
}

static void
mysql_skipped(void *state, enum side from, uint64_t n)
{
	struct mysql *s = state;

	s->packet[from].left -= (uint32_t)n;
}

/* --- beats --- */

/* The server would read a command now, or next. */
static bool
takes_commands(const struct mysql *s)
{
	return s->why == NULL && s->phase == PHASE_COMMANDS && !s->auth && !s->ended &&
	    !s->infile && mysql_packet_boundary(&s->packet[CLIENT]);
}

static unsigned
mysql_may_beat(const void *state, enum side to)
{
	const struct mysql *s = state;
	unsigned kinds = 0;
	bool idle = mysql_is_idle(s);

	if (to == CLIENT || !takes_commands(s))
		return 0;
	if (idle && s->in_transaction && !s->beat_in_transaction)
		return 0;
	if (!idle && (!s->while_busy || s->suspect))
		return 0;
	/* At rest a server that is no MySQL may answer it by an error: only where that kind was chosen. */
	if (!idle || s->tell_is_chosen)
		kinds |= BEAT_TELL;
	if (idle && !s->no_ask && s->asked < ASKED_MAX &&
	    mysql_packet_boundary(&s->packet[BACKEND]))
		kinds |= BEAT_ASK;
	return kinds;
}

static const char *
mysql_why_none(const void *state, enum side to)
{
	const struct mysql *s = state;

	if (to == CLIENT)
		return "the protocol has none";
	if (mysql_may_beat(state, to) != 0)
		return NULL;
	if (s->why != NULL)
		return s->why;
	if (!takes_commands(s))
		return "logging in, ending, or inside a command";
	if (!mysql_is_idle(s))
		return "a statement runs";
	if (s->in_transaction && !s->beat_in_transaction)
		return "in a transaction";
	return s->no_ask ? "the server refused one" : "inside a reply";
}

static bool
mysql_said_goodbye(const void *state, enum side from)
{
	const struct mysql *s = state;

	return from == CLIENT && s->ended;
}

static size_t
mysql_beat(void *state, enum side to, enum beat_kind kind, uint8_t buf[CODEC_BEAT_MAX])
{
	static const uint8_t close_none[] = { 5, 0, 0, 0, 0x19, 0xfe, 0xff, 0xff, 0xff };
	static const uint8_t statistics[] = { 1, 0, 0, 0, 0x09 };
	struct mysql *s = state;

	(void)to;
	if (kind == BEAT_ASK) {
		s->asked++;
		memcpy(buf, statistics, sizeof(statistics));
		return sizeof(statistics);
	}
	memcpy(buf, close_none, sizeof(close_none));
	return sizeof(close_none);
}

/* COM_QUIT, so that the server does not log an aborted connection. Behind a command it would come too late. */
static size_t
quit(const struct mysql *s, uint8_t *buf)
{
	static const uint8_t com_quit[] = { 1, 0, 0, 0, 0x01 };

	if (!takes_commands(s) || !mysql_is_idle(s))
		return 0;
	memcpy(buf, com_quit, sizeof(com_quit));
	return sizeof(com_quit);
}

/*
 * An ERR packet as the reply to the oldest open command, or as the end of its
 * rows. Client libraries refuse numbers of their own (2013, "lost connection")
 * from a server; 1053, ER_SERVER_SHUTDOWN, and 08S01 are what pools throw a
 * connection away for.
 */
static size_t
mysql_farewell(void *state, enum side to, const struct codec_obituary *o,
    uint8_t buf[CODEC_FAREWELL_MAX])
{
	const struct mysql *s = state;
	const struct mysql_packet *k = &s->packet[BACKEND];
	bool between = s->holding || s->swallowing || mysql_packet_boundary(k);
	int n;

	if (to == BACKEND)
		return quit(s, buf);
	if (s->why != NULL || s->phase != PHASE_COMMANDS || s->auth || s->infile ||
	    mysql_is_idle(s) || !between || (s->reply != REPLY_FIRST && s->reply != REPLY_ROWS))
		return 0;
	n = snprintf((char *)buf + MYSQL_HEAD, CODEC_FAREWELL_MAX - MYSQL_HEAD,
	    "\xff%c%c#08S01stent: lost the connection to the server (%s), which was quiet for "
	    "%lld.%lld s; the statement may have run", ER_SERVER_SHUTDOWN & 0xff, ER_SERVER_SHUTDOWN >> 8, o->reason,
	    (long long)(o->quiet_ms / 1000), (long long)(o->quiet_ms % 1000 / 100));
	if (n <= 0 || n >= CODEC_FAREWELL_MAX - MYSQL_HEAD)
		return 0;
	buf[0] = (uint8_t)n;
	buf[1] = (uint8_t)(n >> 8);
	buf[2] = 0;
	buf[3] = s->next_seq;
	return (size_t)n + MYSQL_HEAD;
}

static void
mysql_init(void *state, const struct codec_settings *settings)
{
	struct mysql *s = state;

	s->beat_in_transaction = settings->in_transaction;
	s->while_busy = settings->while_busy[BACKEND];
	s->tell_is_chosen = settings->kind[BACKEND] == BEAT_TELL;
}

const struct codec codec_mysql = {
	.name = "mysql",
	.summary = "MySQL, MariaDB: COM_STMT_CLOSE of no statement; or COM_STATISTICS",
	.state_size = sizeof(struct mysql),
	.leg = {
		[BACKEND] = { .kinds = BEAT_TELL | BEAT_ASK, .kind = BEAT_ASK, .interval_ms = 60000 },
	},
	.init = mysql_init,
	.feed = mysql_feed,
	.finish = mysql_finish,
	.unseen = mysql_unseen,
	.skipped = mysql_skipped,
	.may_beat = mysql_may_beat,
	.why_none = mysql_why_none,
	.said_goodbye = mysql_said_goodbye,
	.beat = mysql_beat,
	.farewell = mysql_farewell,
};
