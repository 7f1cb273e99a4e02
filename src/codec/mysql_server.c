/*
 * mysql_server.c - follows what a MySQL or MariaDB server sends.
 *
 * The greeting has its capabilities. After that every packet belongs to the
 * reply to the oldest command in the queue, and only its first bytes are read:
 * enough for the status of OK and EOF, the numbers of columns, and the byte
 * that distinguishes a row from an end. Each place in a reply has a function.
 *
 * With DEPRECATE_EOF results end with an OK packet that begins like EOF, and
 * none follows the column definitions; MariaDB may leave definitions out,
 * and sends progress reports that look like errors.
 */

#include "codec/mysql.h"
#include "stent/promise.h"

#define STATUS_IN_TRANS 0x1u
#define STATUS_AUTOCOMMIT 0x2u
#define STATUS_MORE_RESULTS 0x8u
#define STATUS_CURSOR 0x40u

/*
 * Capabilities that every MySQL and MariaDB server has named since 5.1, even
 * those without a meaning today. Other servers name only what they have.
 */
#define CAPS_FULL_SERVER (0x10u | 0x40u | 0x100u | 0x400u | 0x1000u | 0x4000u)	/* NO_SCHEMA, ODBC, IGNORE_SPACE,
										 * INTERACTIVE, IGNORE_SIGPIPE, RESERVED */

/* --- the greeting --- */

/* After the version's NUL: thread 4, salt 8, filler 1, capabilities 2, charset 1, status 2, capabilities 2, ... */
static void
greeting_byte(struct mysql *s, uint8_t c)
{
	unsigned at = s->greeting_at;

	if (at == 0) {
		if (c == 0)
			s->greeting_at = 1;
		return;
	}
	if (at < 64)
		s->greeting_at++;
	at--;
	if (at == 13 || at == 14)
		s->caps |= (uint32_t)c << (8 * (at - 13));
	else if (at == 18 || at == 19)
		s->caps |= (uint32_t)c << (8 * (at - 16));
	else if (at >= 27 && at < 31 && (s->caps & CAP_MYSQL) == 0)
		s->ext |= (uint32_t)c << (8 * (at - 27));
}

static void
greeting_ends(struct mysql *s)
{
	promise(s->phase == PHASE_GREETING && mysql_is_idle(s));
	if (s->body[0] == MYSQL_ERR && s->body_got > 0)
		s->ended = s->closing[BACKEND] = true;	/* too many connections, host blocked */
	else if (s->body[0] != 10 || s->greeting_at < 21)
		mysql_server_passthrough(s, "the greeting is not that of MySQL");
	s->is_full_server = (s->caps & CAPS_FULL_SERVER) == CAPS_FULL_SERVER;
	s->phase = PHASE_LOGIN;
}

/* --- replies --- */

static void
reply_ends(struct mysql *s)
{
	mysql_queue_drop(s);
	s->reply = REPLY_FIRST;
	s->next_seq = 1;
	if (!mysql_is_idle(s))
		return;
	s->may_load_file = false;
	s->oneway_is_accepted |= s->oneway_before_command;
}

static void
status_came(struct mysql *s, uint16_t status)
{
	s->status = status;
	s->in_transaction = (status & STATUS_IN_TRANS) != 0;
}

/* More results of the same command may follow. */
static void
result_ends(struct mysql *s)
{
	if ((s->status & STATUS_MORE_RESULTS) != 0)
		s->reply = REPLY_FIRST;
	else
		reply_ends(s);
}

/*
 * An error has no status. With autocommit the command cannot have opened a
 * transaction (except a procedure that fails after its own START TRANSACTION);
 * without autocommit there may be one.
 */
static void
error_ends(struct mysql *s)
{
	bool is_last = mysql_is_close_error(s);

	promise_void(!mysql_is_idle(s) && s->body_got > 0);
	if ((s->status & STATUS_AUTOCOMMIT) == 0)
		s->in_transaction = true;
	if (mysql_queue_first(s) == KIND_AUTH) {
		s->auth = false;
		is_last |= !s->logged_in;	/* a refused change of user keeps the old one */
	}
	s->ended |= is_last;
	s->closing[BACKEND] |= is_last;
	reply_ends(s);
}

static unsigned
lenenc_size(uint8_t first)
{
	return first < 0xfb ? 1 : first == 0xfc ? 3 : first == 0xfd ? 4 : 9;
}

/* The status in an OK packet, after two numbers of variable length. */
static bool
read_ok(struct mysql *s)
{
	unsigned at = 1;

	promise_or(s->body_got <= MYSQL_BODY_MAX, false);
	for (int i = 0; i < 2; i++)
		at += at < s->body_got ? lenenc_size(s->body[at]) : MYSQL_BODY_MAX;
	if (at + 2 > s->body_got) {
		mysql_server_passthrough(s, "an OK packet cut short");
		return false;
	}
	status_came(s, (uint16_t)(s->body[at] | s->body[at + 1] << 8));
	return true;
}

static bool
read_eof(struct mysql *s)
{
	if ((s->caps & CAP_DEPRECATE_EOF) != 0 && s->body_len >= 7)
		return read_ok(s);
	if (s->body_got < 5) {
		mysql_server_passthrough(s, "an EOF packet cut short");
		return false;
	}
	status_came(s, (uint16_t)(s->body[3] | s->body[4] << 8));
	return true;
}

/* A row may begin like EOF, when its first value is 16 MiB long or more: then the packet is full. */
static bool
is_eof(const struct mysql *s)
{
	if (s->body[0] != MYSQL_EOF)
		return false;
	return (s->caps & CAP_DEPRECATE_EOF) != 0 ? s->body_len < MYSQL_FULL : s->body_len < 9;
}

static void
after_columns(struct mysql *s)
{
	s->reply = (s->caps & CAP_DEPRECATE_EOF) != 0 ? REPLY_ROWS : REPLY_COLUMNS_EOF;
}

static void
read_column_count(struct mysql *s)
{
	unsigned size = lenenc_size(s->body[0]);
	bool left_out = (s->ext & EXT_CACHE_METADATA) != 0 && s->body_got > size &&
	    s->body[size] == 0;

	s->left = s->body[0] < 0xfb ? s->body[0] : (uint32_t)(s->body[1] | s->body[2] << 8);
	if (size > 3 || s->body_got < size || s->left == 0) {
		mysql_server_passthrough(s, "a reply that is not a result");
		return;
	}
	s->reply = REPLY_COLUMNS;
	if (left_out)
		after_columns(s);
}

static void
first_of_prepare(struct mysql *s)
{
	uint32_t columns, params;

	promise(mysql_queue_first(s) == KIND_PREPARE);
	if (s->body[0] != MYSQL_OK || s->body_got < 9) {
		mysql_server_passthrough(s, "a reply that is not a prepared statement");
		return;
	}
	columns = (uint32_t)(s->body[5] | s->body[6] << 8);
	params = (uint32_t)(s->body[7] | s->body[8] << 8);
	s->left = columns + params;
	if ((s->caps & CAP_DEPRECATE_EOF) == 0)
		s->left += (uint32_t)(columns > 0) + (uint32_t)(params > 0);
	s->reply = REPLY_PREPARED;
	if (s->left == 0)
		reply_ends(s);
}

static void
first_of_query(struct mysql *s)
{
	if (s->body[0] == MYSQL_OK) {
		if (read_ok(s))
			result_ends(s);
	} else if (s->body[0] == MYSQL_INFILE) {
		s->infile = true;
	} else {
		read_column_count(s);
	}
}

static void
first_of_auth(struct mysql *s)
{
	promise(s->auth);
	if (s->body[0] != MYSQL_OK)
		return;		/* more packets to come */
	s->auth = false;
	s->logged_in = true;
	s->locks = (struct mysql_locks){ 0 };
	if (read_ok(s))
		reply_ends(s);
}

static void
read_row(struct mysql *s)
{
	s->reply = REPLY_ROWS;
	if (is_eof(s) && read_eof(s))
		result_ends(s);
}

/* One packet: OK, EOF, or a text. */
static void
first_of_single(struct mysql *s)
{
	bool ok = s->body[0] != MYSQL_OK || s->body_len < 7 || read_ok(s);

	if (ok && s->body[0] == MYSQL_EOF && s->body_len >= 5)
		ok = read_eof(s);
	if (ok)
		reply_ends(s);
}

static void
read_first(struct mysql *s)
{
	static void (*const firsts[])(struct mysql *s) = {
		[KIND_QUERY] = first_of_query,
		[KIND_EXECUTE] = first_of_query,
		[KIND_PREPARE] = first_of_prepare,
		[KIND_FETCH] = read_row,
		[KIND_FIELDS] = read_row,
		[KIND_SINGLE] = first_of_single,
		[KIND_AUTH] = first_of_auth,
	};

	promise_void(mysql_queue_first(s) <= KIND_AUTH);
	firsts[mysql_queue_first(s)](s);
}

static void
read_column(struct mysql *s)
{
	promise_void(s->left > 0);
	if (--s->left == 0)
		after_columns(s);
}

static void
read_columns_eof(struct mysql *s)
{
	if (!is_eof(s)) {
		mysql_server_passthrough(s, "columns that do not end");
		return;
	}
	if (!read_eof(s))
		return;
	s->reply = REPLY_ROWS;
	if (mysql_queue_first(s) == KIND_EXECUTE && (s->status & STATUS_CURSOR) != 0)
		reply_ends(s);	/* a cursor: rows come when fetched */
}

static void
read_prepared(struct mysql *s)
{
	promise_void(s->left > 0);
	if (--s->left == 0)
		reply_ends(s);
}

static void (*const readers[])(struct mysql *s) = {
	[REPLY_FIRST] = read_first,
	[REPLY_COLUMNS] = read_column,
	[REPLY_COLUMNS_EOF] = read_columns_eof,
	[REPLY_ROWS] = read_row,
	[REPLY_PREPARED] = read_prepared,
};

static bool
is_progress(const struct mysql *s)
{
	return (s->ext & EXT_PROGRESS) != 0 && s->body_got >= 3 && s->body[1] == 0xff &&
	    s->body[2] == 0xff;
}

static void
packet_came(struct mysql *s)
{
	promise_void(s->reply <= REPLY_PREPARED && s->body_got <= s->body_len);
	promise(!mysql_is_idle(s) || s->reply == REPLY_FIRST);	/* a reply of several packets belongs to a command */
	if (s->phase == PHASE_GREETING) {
		greeting_ends(s);
	} else if (mysql_is_idle(s) && s->body[0] == MYSQL_ERR && s->body_got > 0) {
		s->ended = s->closing[BACKEND] = true;	/* killed, idle for too long, shut down */
	} else if (mysql_is_idle(s)) {
		mysql_server_passthrough(s, "a packet without a command");
	} else if (s->body_got == 0 && !s->infile && mysql_queue_first(s) == KIND_AUTH) {
		return;		/* of the method's own exchange */
	} else if (s->infile || s->body_got == 0) {
		mysql_server_passthrough(s, "an unexpected reply");
	} else if (s->body[0] != MYSQL_ERR) {
		readers[s->reply](s);
	} else if (!is_progress(s)) {
		error_ends(s);
	}
}

/* --- packets --- */

void
mysql_server_begins(struct mysql *s)
{
	const struct mysql_packet *k = &s->packet[BACKEND];

	promise(k->got == MYSQL_HEAD && !s->swallowing);
	if (!s->holding)
		s->next_seq = (uint8_t)(k->head[3] + 1);
	if (k->continued)
		return;
	s->body_len = k->left;
	s->body_got = 0;
}

void
mysql_server_payload(struct mysql *s, const uint8_t *p, size_t n)
{
	const size_t room = sizeof(s->body) - s->body_got;

	promise_void(s->body_got <= sizeof(s->body) && n <= s->packet[BACKEND].left);
	if (s->packet[BACKEND].continued)
		return;
	if (s->phase == PHASE_GREETING)
		for (size_t i = 0; i < n; i++)
			greeting_byte(s, p[i]);
	if (s->swallowing)
		mysql_reply_read(s, p, n);
	for (size_t i = 0; i < n && i < room; i++)
		s->body[s->body_got++] = p[i];
}

/* A continued packet was read by its first part. */
void
mysql_server_ends(struct mysql *s)
{
	struct mysql_packet *k = &s->packet[BACKEND];

	promise_void(!s->holding && k->got == MYSQL_HEAD && k->left == 0);
	k->got = 0;
	if (!s->swallowing && !k->continued)
		packet_came(s);
	s->swallowing = false;
	if (s->watched)
		mysql_login_packet_ended(s);
}

void
mysql_server_passthrough(struct mysql *s, const char *why)
{
	if (s->passthrough == NULL)
		s->passthrough = why;
	s->pings_due = 0;	/* replies cannot be recognized any more */
}
