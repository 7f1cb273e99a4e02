/*
 * speech_mysql.c - MySQL's protocol: the server's greeting, logins by several
 * methods, statements with results of each form, prepared statements, cursors,
 * files that the client sends, pipelines. The text of a statement says what the
 * server is to do, by its first word.
 *
 * A heartbeat toward the server is COM_STATISTICS or COM_PING, or COM_STMT_CLOSE
 * of a statement that does not exist, while nothing is under way; toward the
 * client there is none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

#define BACKLOG 64
#define ROW_MAX 20000
#define STATEMENTS 1000		/* the numbers of prepared ones are lower */
#define MANY_SESSIONS 2000

enum { QUIT = 1, INIT_DB = 2, QUERY = 3, FIELD_LIST = 4, STATISTICS = 9, PING = 0xe, CHANGE_USER = 0x11, PREPARE = 0x16, EXECUTE = 0x17,
	LONG_DATA = 0x18, CLOSE_STATEMENT = 0x19, RESET_STATEMENT = 0x1a, SET_OPTION = 0x1b, FETCH = 0x1c, RESET = 0x1f };
enum { IN_TRANSACTION = 1, AUTOCOMMIT = 2, MORE_RESULTS = 8, CURSOR_EXISTS = 0x40, LAST_ROW = 0x80 };

#define LONG_PASSWORD 0x1u
#define WITH_DATABASE 0x8u
#define NO_SCHEMA 0x10u			/* means nothing any more; real servers say it, proxies do not */
#define ODBC 0x40u			/* the same */
#define LOCAL_FILES 0x80u
#define PROTOCOL_41 0x200u
#define TRANSACTIONS 0x2000u
#define RESERVED 0x4000u		/* the same */
#define SECURE 0x8000u
#define MULTI_STATEMENTS 0x10000u
#define MULTI_RESULTS 0x20000u
#define PLUGIN_AUTH 0x80000u
#define DEPRECATE_EOF 0x1000000u
#define ALWAYS (LONG_PASSWORD | WITH_DATABASE | LOCAL_FILES | PROTOCOL_41 | TRANSACTIONS | SECURE | MULTI_STATEMENTS | MULTI_RESULTS | PLUGIN_AUTH)
#define REAL (NO_SCHEMA | ODBC | 0x100u | 0x400u | 0x1000u | RESERVED)	/* with IGNORE_SPACE, INTERACTIVE, IGNORE_SIGPIPE */

enum work { SELECT, UPDATE, FAIL, START, COMMIT, SEVERAL, LOAD, LOCK, UNLOCK, WORKS };

static const char *const work_texts[WORKS] = { "SELECT a FROM t", "UPDATE t SET a = 1", "FAIL", "START TRANSACTION", "COMMIT", "SEVERAL",
	"LOAD DATA LOCAL INFILE 'f' INTO TABLE t", "LOCK TABLES t WRITE", "UNLOCK TABLES" };

/* Who the server is; the login's database names it, so that the server's party knows. */
enum kind { ORDINARY, CROWDED, PROXY, KINDS };
static const char *const kind_names[KINDS] = { "ordinary", "crowded", "proxy" };

struct item {
	uint8_t command, work;
	bool is_ours;
	bool has_cursor;
};

struct mysql {
	bool logs_in, is_ready;
	bool uses_eof;			/* packets of their own end the columns */
	uint8_t kind;
	uint8_t seq;			/* of the next packet that it says in the exchange */
	/* The client's. */
	unsigned due;			/* replies */
	bool holds;			/* it says nothing more until these have come */
	bool loads;			/* it sends a file; the server: it gets one */
	uint8_t expected;		/* the number of the next packet of the reply that is due */
	uint32_t heard;			/* packets that the server said */
	/* The server's. */
	struct item backlog[BACKLOG];
	unsigned n;
	struct item now;
	bool is_running;
	unsigned rows, results;		/* still to be said */
	uint16_t status;
	bool has_locks;
	bool heard_goodbye;
	uint8_t method;
	uint32_t said;			/* packets */
	/* Of replies that the client has not heard to their ends: the number of their last packets. A ring. */
	uint32_t ends[BACKLOG];
	unsigned first_end, n_ends;
};

static uint8_t scratch[ROW_MAX + 4200];

static void
say(struct party *p, const void *body, size_t len)
{
	static uint8_t packet[sizeof(scratch) + 4];
	struct mysql *m = p->state;

	packet[0] = (uint8_t)len;
	packet[1] = (uint8_t)(len >> 8);
	packet[2] = (uint8_t)(len >> 16);
	packet[3] = m->seq++;
	memcpy(packet + 4, body, len);
	m->said++;
	party_say(p, packet, len + 4);
}

static void
put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void
fill(uint8_t *bytes, size_t len)
{
	uint8_t b = (uint8_t)rnd();

	for (size_t i = 0; i < len; i++)
		bytes[i] = b = (uint8_t)(b * 5 + 1);
}

static size_t
some_len(void)
{
	return (size_t)rnd_scale(1, rnd_chance(300) ? ROW_MAX : 200);
}

/* --- the login --- */

static size_t
greet(uint8_t *bytes, unsigned serial)
{
	const uint32_t caps = ALWAYS | (serial % 2 ? DEPRECATE_EOF : 0) | (serial % 5 != 0 ? REAL : 0);
	uint8_t *at = bytes + 4;

	*at++ = 10;
	memcpy(at, "8.0.36", 7);
	at += 7;
	put32(at, serial);
	at += 4;
	for (unsigned i = 0; i < 8; i++)
		*at++ = (uint8_t)(serial * (i + 3) | 1);
	*at++ = 0;
	*at++ = (uint8_t)caps;
	*at++ = (uint8_t)(caps >> 8);
	*at++ = 33;
	*at++ = AUTOCOMMIT;
	*at++ = 0;
	*at++ = (uint8_t)(caps >> 16);
	*at++ = (uint8_t)(caps >> 24);
	*at++ = 21;
	memset(at, 0, 10);
	at += 10;
	memset(at, 'x', 12);
	at += 12;
	*at++ = 0;
	memcpy(at, "mysql_native_password", 22);
	at += 22;
	bytes[0] = (uint8_t)(at - bytes - 4);
	bytes[1] = bytes[2] = bytes[3] = 0;
	return (size_t)(at - bytes);
}

static void
say_login(struct party *p, const uint8_t *greeting)
{
	struct mysql *m = p->state;
	const uint32_t offered = (uint32_t)greeting[4 + 21] | (uint32_t)greeting[4 + 22] << 8 | (uint32_t)greeting[4 + 26] << 16 |
	    (uint32_t)greeting[4 + 27] << 24;
	const uint32_t serial = get32(greeting + 4 + 8);
	uint8_t *at = scratch;
	uint32_t caps;

	m->kind = (offered & NO_SCHEMA) == 0 ? PROXY : serial % 4 == 0 ? CROWDED : ORDINARY;
	m->uses_eof = (offered & DEPRECATE_EOF) == 0 || rnd_chance(3000);
	caps = ALWAYS | (m->uses_eof ? 0 : DEPRECATE_EOF);
	put32(at, caps);
	put32(at + 4, 1u << 24);
	at[8] = 33;
	memset(at + 9, 0, 23);
	at += 32;
	at += snprintf((char *)at, 40, "talk%07ld", p->talk->number) + 1;
	*at++ = 20;
	memset(at, 'p', 20);
	at += 20;
	at += snprintf((char *)at, 40, "%s", kind_names[m->kind]) + 1;
	at += snprintf((char *)at, 40, "mysql_native_password") + 1;
	m->seq = 1;
	say(p, scratch, (size_t)(at - scratch));
	m->logs_in = true;
}

static size_t
write_ok(const struct mysql *m, uint8_t *body, uint8_t first, uint16_t more)
{
	const uint16_t status = m->status | more;
	size_t n = 0;

	body[n++] = first;
	if (first == 0xfe && m->uses_eof) {
		body[n++] = 0;			/* warnings */
		body[n++] = 0;
	} else {
		body[n++] = 3;			/* rows */
		body[n++] = 0;
	}
	body[n++] = (uint8_t)status;
	body[n++] = (uint8_t)(status >> 8);
	if (first == 0xfe && m->uses_eof)
		return n;
	body[n++] = 0;
	body[n++] = 0;
	return n;
}

static void
say_ok(struct party *p, uint8_t first, uint16_t more)
{
	uint8_t body[16];

	say(p, body, write_ok(p->state, body, first, more));
}

static void
say_error(struct party *p, unsigned number)
{
	uint8_t body[64];
	const int n = snprintf((char *)body, sizeof(body), "%c%c%c#HY000it is so", 0xff, (int)(number & 0xff), (int)(number >> 8));

	say(p, body, (size_t)n);
}

/* The reply that is said ends with the packet before. */
static void
end_reply(struct mysql *m)
{
	m->ends[(m->first_end + m->n_ends++) % BACKLOG] = m->said;
}

/* The server's answer to a login, or a change of user: what it wants more, or the end. */
static void
answer_login(struct party *p)
{
	static const uint8_t change[] = "\376mysql_native_password\0xxxxxxxxxxxxxxxxxxxx";
	static const uint8_t cached[] = { 1, 3 };
	struct mysql *m = p->state;

	if (m->method == 1) {
		m->method = 0;
		say(p, change, sizeof(change));
		return;
	}
	if (m->method == 2)
		say(p, cached, 2);
	m->logs_in = false;
	if (rnd_chance(200)) {
		say_error(p, 1045);
		if (m->is_ready)
			end_reply(m);
		else
			party_quit(p);
		return;
	}
	m->is_ready = true;
	say_ok(p, 0, 0);
	end_reply(m);
}

/* --- the client --- */

static void
begin(struct party *p)
{
	struct mysql *m = p->state;

	m->status = AUTOCOMMIT;
	m->said = p->side == BACKEND;	/* the greeting */
}

static void
say_command(struct party *p, uint8_t command, const void *more, size_t len, bool has_reply)
{
	struct mysql *m = p->state;

	if (more != scratch + 1)
		memcpy(scratch + 1, more, len);
	scratch[0] = command;
	m->seq = 0;
	if (m->due == 0)
		m->expected = 1;
	m->due += has_reply;
	say(p, scratch, len + 1);
}

static void
say_query(struct party *p, uint8_t command, enum work w)
{
	struct mysql *m = p->state;
	size_t n = (size_t)snprintf((char *)scratch + 1, 60, "%s", work_texts[w]);

	if (rnd_chance(3000)) {
		const size_t more = some_len();

		memset(scratch + 1 + n, ' ', 3);
		n += 3;
		for (size_t i = 0; i < more; i++)
			scratch[1 + n++] = (uint8_t)('a' + i % 26);
	}
	m->holds = w == LOAD;
	say_command(p, command, scratch + 1, n, true);
}

static void
say_execute(struct party *p)
{
	const size_t len = some_len();
	const uint8_t number = (uint8_t)rnd_below(100);

	put32(scratch + 1, number);
	scratch[5] = rnd_chance(2000) ? 1 : 0;		/* a cursor */
	put32(scratch + 6, 1);
	fill(scratch + 10, len);
	say_command(p, EXECUTE, scratch + 1, 9 + len, true);
}

static void
say_statement_command(struct party *p)
{
	static const uint8_t commands[] = { EXECUTE, EXECUTE, LONG_DATA, CLOSE_STATEMENT, RESET_STATEMENT, FETCH, PREPARE };
	const uint8_t command = commands[rnd_below(sizeof(commands))];

	if (command == EXECUTE) {
		say_execute(p);
		return;
	}
	if (command == PREPARE) {
		say_query(p, PREPARE, (enum work)rnd_below(LOAD));
		return;
	}
	put32(scratch + 1, (uint32_t)rnd_below(STATEMENTS));
	put32(scratch + 5, 10);
	say_command(p, command, scratch + 1, command == CLOSE_STATEMENT || command == RESET_STATEMENT ? 4 : 8,
	    command != CLOSE_STATEMENT && command != LONG_DATA);
}

static void
say_rare(struct party *p)
{
	struct mysql *m = p->state;

	switch (rnd_below(8)) {
	case 0:
		say_command(p, PING, "", 0, true);
		break;
	case 1:
		say_command(p, STATISTICS, "", 0, true);
		break;
	case 2:
		say_command(p, INIT_DB, "db", 2, true);
		break;
	case 3:
		say_command(p, FIELD_LIST, "t\0%", 3, true);
		break;
	case 4:
		say_command(p, SET_OPTION, "\0", 2, true);
		break;
	case 5:
		say_command(p, RESET, "", 0, true);
		break;
	case 6:
		if (m->due > 0)
			break;
		m->holds = true;
		m->logs_in = true;
		say_command(p, CHANGE_USER, "other\0\24pppppppppppppppppppp" "db\0\41\0mysql_native_password", 54, true);
		break;
	default:
		say_query(p, QUERY, rnd_chance(5000) ? LOCK : UNLOCK);
		break;
	}
}

static void
say_file(struct party *p)
{
	struct mysql *m = p->state;
	const size_t len = some_len();

	if (rnd_chance(7000)) {
		fill(scratch, len);
		say(p, scratch, len);
	} else {
		m->loads = false;
		say(p, scratch, 0);
	}
	m->expected = m->seq;
}

static void
end_client(struct party *p)
{
	if (rnd_chance(500)) {
		party_abort(p);
	} else if (rnd_chance(500)) {
		party_finish(p);
	} else {
		if (!((struct mysql *)p->state)->logs_in && rnd_chance(9000))	/* there is no command during a login */
			say_command(p, QUIT, "", 0, false);
		party_quit(p);
	}
}

static void
client_act(struct party *p)
{
	struct mysql *m = p->state;

	if (!m->is_ready || p->says_fin)
		return;
	if (world_us >= p->talk->stops_us && !m->loads && (m->due == 0 || rnd_chance(500))) {
		end_client(p);
		return;
	}
	if (m->loads)
		say_file(p);
	else if (m->holds || m->due >= 5 || (m->due > 0 && rnd_chance(8000)) || world_us >= p->talk->stops_us)
		;			/* it waits */
	else if (rnd_chance(5000))
		say_query(p, QUERY, (enum work)rnd_below(LOCK));
	else if (rnd_chance(7000))
		say_statement_command(p);
	else
		say_rare(p);
	party_think(p, m->loads ? rnd_scale(10, 100 * MS) : rnd_scale(10, rnd_chance(1500) ? 20 * MINUTES : 2 * SECONDS));
}

static void
client_hear(struct party *p, const uint8_t *packet, size_t len)
{
	struct mysql *m = p->state, *server = party_other(p)->state;

	m->heard++;
	m->seq = m->expected = (uint8_t)(packet[3] + 1);
	if (m->heard == 1) {
		say_login(p, packet);
		return;
	}
	if (m->logs_in && len > 4 && packet[4] == 0xfe && !p->says_fin)
		say(p, "01234567890123456789", 20);
	if (m->holds && !m->logs_in && len == 6 && packet[4] == 0xfb && !p->says_fin) {
		m->loads = true;
		party_think(p, rnd_scale(10, SECONDS));
	}
	if (server->n_ends == 0 || server->ends[server->first_end] != m->heard)
		return;
	server->first_end = (server->first_end + 1) % BACKLOG;
	server->n_ends--;
	m->expected = 1;		/* of the next reply, if one is due */
	m->logs_in = false;
	if (!m->is_ready) {
		m->is_ready = true;
		party_think(p, rnd_scale(10, SECONDS));
	} else if (--m->due == 0) {
		m->holds = false;
	}
}

/* --- the server --- */

static void
say_column(struct party *p)
{
	static const uint8_t column[] = "\3def\0\1t\1t\1a\1a\14\41\0\100\0\0\0\375\0\0\0\0";

	say(p, column, sizeof(column));
}

/* Columns, and the packet behind them. */
static void
say_columns(struct party *p, unsigned n)
{
	const struct mysql *m = p->state;

	for (unsigned i = 0; i < n; i++)
		say_column(p);
	if (m->uses_eof && n > 0)
		say_ok(p, 0xfe, 0);
}

static void
say_row(struct party *p)
{
	const struct mysql *m = p->state;
	size_t len = some_len(), n = 0;

	if (m->now.command != QUERY) {
		scratch[n++] = 0;
		scratch[n++] = 0;
	} else if (rnd_chance(500)) {
		say(p, "\373", 1);		/* NULL */
		return;
	}
	if (len <= 250) {
		scratch[n++] = (uint8_t)len;
	} else {
		scratch[n++] = 0xfc;
		scratch[n++] = (uint8_t)len;
		scratch[n++] = (uint8_t)(len >> 8);
	}
	fill(scratch + n, len);
	say(p, scratch, n + len);
}

static void
finish_work(struct party *p)
{
	struct mysql *m = p->state;

	m->is_running = false;
	end_reply(m);
}

static void
start_result(struct party *p)
{
	struct mysql *m = p->state;
	const uint8_t n = (uint8_t)rnd_between(1, 3);

	m->rows = (unsigned)rnd_scale(1, 10);
	say(p, &n, 1);
	for (unsigned i = 0; i < n; i++)
		say_column(p);
	if (m->now.has_cursor) {
		say_ok(p, 0xfe, CURSOR_EXISTS);
		finish_work(p);
		return;
	}
	if (m->uses_eof)
		say_ok(p, 0xfe, m->results > 0 ? MORE_RESULTS : 0);
}

static void
start_query(struct party *p)
{
	struct mysql *m = p->state;

	m->results = 0;
	switch ((enum work)m->now.work) {
	case SEVERAL:
		m->results = (unsigned)rnd_between(1, 3);
		/* fallthrough */
	case SELECT:
		start_result(p);
		return;
	case FAIL:
		say_error(p, 1064);
		break;
	case LOAD:
		m->loads = true;
		say(p, "\373f", 2);
		return;
	case START:
	case COMMIT:
		m->status = (uint16_t)(m->now.work == START ? m->status | IN_TRANSACTION : m->status & ~IN_TRANSACTION);
		say_ok(p, 0, 0);
		break;
	case LOCK:
	case UNLOCK:
		m->has_locks = m->now.work == LOCK;
		say_ok(p, 0, 0);
		break;
	default:
		say_ok(p, 0, 0);
		break;
	}
	finish_work(p);
}

static void
say_prepared(struct party *p)
{
	struct mysql *m = p->state;
	const unsigned parameters = (unsigned)rnd_below(3), columns = (unsigned)rnd_below(3);
	uint8_t body[12] = { 0 };

	if (m->now.work == FAIL) {
		say_error(p, 1064);
		return;
	}
	put32(body + 1, (uint32_t)rnd_below(STATEMENTS));
	body[5] = (uint8_t)columns;
	body[7] = (uint8_t)parameters;
	say(p, body, 12);
	say_columns(p, parameters);
	say_columns(p, columns);
}

static size_t
write_statistics(const struct mysql *m, uint8_t *body)
{
	return (size_t)snprintf((char *)body, 120, "Uptime: 7  Threads: %d  Questions: 1  Slow queries: 0  Opens: 1  Open tables: 1  "
	    "Queries per second avg: 0.1", m->kind == CROWDED ? MANY_SESSIONS : 3);
}

/* To a heartbeat. */
static void
reply(struct party *p, uint8_t command)
{
	const struct mysql *m = p->state;
	uint8_t packet[140] = { 0 };
	const size_t n = command == PING ? write_ok(m, packet + 4, 0, 0) : write_statistics(m, packet + 4);

	if (command == PING)
		packet[5] = 0;
	packet[0] = (uint8_t)n;
	packet[3] = 1;
	party_reply(p, packet, n + 4);
}

static void
start_work(struct party *p, const struct item *i)
{
	struct mysql *m = p->state;
	uint8_t body[140];

	if (i->is_ours) {
		reply(p, i->command);
		return;
	}
	m->now = *i;
	m->seq = 1;
	m->is_running = true;
	switch (i->command) {
	case QUERY:
		start_query(p);
		return;
	case EXECUTE:
		m->now.work = (uint8_t)(i->has_cursor ? SELECT : rnd_below(SEVERAL));
		start_query(p);
		return;
	case FETCH:
		m->results = 0;
		m->rows = 3;
		return;
	case CHANGE_USER:
		m->is_running = false;
		m->logs_in = true;
		m->status = AUTOCOMMIT;
		m->has_locks = false;
		answer_login(p);
		return;
	case PREPARE:
		say_prepared(p);
		break;
	case FIELD_LIST:
		for (int c = 0; c < 2; c++)
			say_column(p);
		say_ok(p, 0xfe, 0);
		break;
	case SET_OPTION:
		say_ok(p, 0xfe, 0);
		break;
	case STATISTICS:
		say(p, body, write_statistics(m, body));
		break;
	case PING:
		(void)write_ok(m, body, 0, 0);
		body[1] = 0;
		say(p, body, 7);
		break;
	case RESET:
		m->status = AUTOCOMMIT;
		m->has_locks = false;
		/* fallthrough */
	default:
		say_ok(p, 0, 0);
		break;
	}
	finish_work(p);
}

static void
continue_work(struct party *p)
{
	struct mysql *m = p->state;

	if (m->rows > 0 && rnd_chance(9900)) {
		m->rows--;
		say_row(p);
		return;
	}
	if (m->rows > 0 || rnd_chance(100)) {
		say_error(p, 1317);		/* in place of a row */
		finish_work(p);
		return;
	}
	say_ok(p, 0xfe, m->results > 0 ? MORE_RESULTS : m->now.command == FETCH ? LAST_ROW : 0);
	if (m->results == 0) {
		finish_work(p);
		return;
	}
	m->results--;
	if (rnd_chance(5000)) {
		start_result(p);
		return;
	}
	say_ok(p, 0, 0);			/* a statement without rows ends the several */
	m->results = 0;
	finish_work(p);
}

static int64_t
server_pause_us(const struct mysql *m)
{
	return m->is_running && rnd_chance(200) ? rnd_scale(MS, 5 * MINUTES) : rnd_between(5, 300);
}

/* It ends the session, as wait_timeout and KILL do. */
static void
end_server(struct party *p)
{
	struct mysql *m = p->state;

	m->seq = 0;
	if (rnd_chance(5000))
		say_error(p, rnd_chance(5000) ? 1053 : 4031);
	party_quit(p);
}

static void
server_act(struct party *p)
{
	struct mysql *m = p->state;
	const unsigned most = (unsigned)rnd_between(1, 8);

	if (m->logs_in) {
		answer_login(p);
		return;
	}
	if (m->is_ready && !m->is_running && m->n == 0) {
		end_server(p);
		return;
	}
	for (unsigned i = 0; i < most && p->tcp != NULL && !m->loads && !m->logs_in; i++) {
		if (m->is_running) {
			continue_work(p);
		} else if (m->n > 0) {
			const struct item first = m->backlog[0];

			memmove(m->backlog, m->backlog + 1, --m->n * sizeof(first));
			start_work(p, &first);
		}
	}
	if (p->tcp == NULL || m->loads || m->logs_in)
		return;
	if (m->n > 0 || m->is_running)
		party_think(p, server_pause_us(m));
	else if (rnd_chance(100))
		party_think(p, rnd_scale(MS, 10 * MINUTES));
}

static void
put_item(struct party *p, struct item item)
{
	struct mysql *m = p->state;

	if (m->n == BACKLOG) {
		wrong("sim", "talk %ld: too much is said at once", p->talk->number);
		return;
	}
	if (m->n == 0 && !m->is_running)
		party_think(p, server_pause_us(m));
	m->backlog[m->n++] = item;
}

static void
hear_file(struct party *p, size_t len)
{
	struct mysql *m = p->state;

	m->seq++;
	if (len > 4)
		return;
	m->loads = false;
	if (rnd_chance(1000))
		say_error(p, 1062);
	else
		say_ok(p, 0, 0);
	finish_work(p);
	if (m->n > 0)
		party_think(p, server_pause_us(m));
}

static enum work
work_of(const uint8_t *text, size_t len)
{
	for (int w = 0; w < WORKS; w++)
		if (len >= strlen(work_texts[w]) && memcmp(text, work_texts[w], strlen(work_texts[w])) == 0)
			return (enum work)w;
	return UPDATE;
}

static void
hear_login(struct party *p, const uint8_t *packet, size_t len)
{
	struct mysql *m = p->state;

	m->seq = (uint8_t)(packet[3] + 1);
	if (!m->is_ready && packet[3] == 1) {
		m->logs_in = true;
		m->method = (uint8_t)rnd_below(3);
		m->uses_eof = (get32(packet + 4) & DEPRECATE_EOF) == 0;
		for (unsigned k = 0; k < KINDS; k++)
			if (memmem(packet, len, kind_names[k], strlen(kind_names[k])) != NULL)
				m->kind = (uint8_t)k;
	}
	party_think(p, rnd_scale(10, rnd_chance(500) ? 10 * SECONDS : 10 * MS));
}

static void
server_hear(struct party *p, const uint8_t *packet, size_t len)
{
	struct mysql *m = p->state;
	struct item item = { .command = len > 4 ? packet[4] : 0 };

	if (!m->is_ready || m->logs_in) {
		hear_login(p, packet, len);
		return;
	}
	if (m->loads) {
		hear_file(p, len);
		return;
	}
	if (item.command == QUIT) {
		party_quit(p);
		return;
	}
	if (item.command == CLOSE_STATEMENT || item.command == LONG_DATA)
		return;			/* no reply */
	if (item.command == QUERY || item.command == PREPARE)
		item.work = (uint8_t)work_of(packet + 5, len - 5);
	item.has_cursor = item.command == EXECUTE && packet[9] != 0;
	put_item(p, item);
}

/* --- both --- */

/* The length of the packet that is whole there; 0: more is needed; -1: it does not begin a command. */
static long
whole_command(const uint8_t *bytes, size_t len)
{
	if (len < 5)
		return 0;
	if (bytes[1] != 0 || bytes[2] != 0 || bytes[3] != 0)
		return -1;
	return len < (size_t)bytes[0] + 4 ? 0 : bytes[0] + 4;
}

/* Nothing of the client's is under way; its own pings look like ours. */
static bool
is_at_rest(const struct mysql *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (!m->backlog[i].is_ours && m->backlog[i].command != PING && m->backlog[i].command != STATISTICS)
			return false;
	return !m->is_running && !m->loads && !m->logs_in;
}

/* A statement is under way that makes the server ask for a file. */
static bool
may_load(const struct mysql *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->backlog[i].command == QUERY && m->backlog[i].work == LOAD)
			return true;
	return m->is_running && m->now.command == QUERY && m->now.work == LOAD;
}

/* Where no heartbeat is legal; NULL: where one is. */
static const char *
why_not(const struct party *p, bool is_oneway)
{
	const struct mysql *m = p->state;
	const bool while_busy = p->talk->speech == &speech_mysql_busy;

	if (!m->is_ready || m->logs_in)
		return "in a login";
	if (m->heard_goodbye)
		return "after the end";
	if (m->loads || may_load(m))
		return "within a file, or where one may be asked for";
	if (!is_at_rest(m) && !(while_busy && is_oneway))
		return "while a command runs";
	if ((m->status & IN_TRANSACTION) != 0 && !while_busy)
		return "in a transaction";
	return m->has_locks && !while_busy ? "with locks" : NULL;
}

static long
heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	struct mysql *m = p->state;
	const char *where;
	long n;

	if (p->side == CLIENT)
		return -1;
	n = whole_command(bytes, len);
	if (n <= 0)
		return n;
	if (n == 9 && bytes[4] == CLOSE_STATEMENT) {
		if (get32(bytes + 5) < STATEMENTS || get32(bytes + 5) == UINT32_MAX)
			wrong("legal", "talk %ld: COM_STMT_CLOSE of a statement that may exist", p->talk->number);
		if (m->kind == PROXY)
			wrong("legal", "talk %ld: COM_STMT_CLOSE to a proxy", p->talk->number);
	} else if (n != 5 || (bytes[4] != PING && bytes[4] != STATISTICS)) {
		return -1;
	} else if ((bytes[4] == PING) != (m->kind == PROXY)) {
		wrong("legal", "talk %ld: %s to %s", p->talk->number, bytes[4] == PING ? "COM_PING" : "COM_STATISTICS", kind_names[m->kind]);
	}
	where = why_not(p, n == 9);
	if (where != NULL) {
		wrong("legal", "talk %ld: a heartbeat %s", p->talk->number, where);
		return -1;
	}
	if (n == 5)
		put_item(p, (struct item){ .command = bytes[4], .is_ours = true });
	return n;
}

/* To the client an error in place of the next packet of a reply that is due; to the server COM_QUIT. */
static long
goodbye(struct party *p, const uint8_t *bytes, size_t len)
{
	struct mysql *m = p->state;

	if (p->side == BACKEND) {
		const long n = whole_command(bytes, len);

		if (n == 5 && bytes[4] == QUIT && m->is_ready && !m->loads && !m->logs_in) {
			m->heard_goodbye = true;
			return n;
		}
		return n == 0 ? 0 : -1;
	}
	if (len < 5 || len < 4 + ((size_t)bytes[0] | (size_t)bytes[1] << 8))
		return 0;
	if (bytes[4] != 0xff || ((size_t)bytes[0] | (size_t)bytes[1] << 8) < 9)
		return -1;
	if (bytes[3] != m->expected || (m->is_ready && m->due == 0))
		wrong("legal", "talk %ld: an error that is no reply, or has number %u in place of %u", p->talk->number, bytes[3], m->expected);
	return (long)(4 + ((size_t)bytes[0] | (size_t)bytes[1] << 8));
}

static bool
is_engaged(const struct party *p)
{
	const struct mysql *m = p->state;

	return m->is_ready && ((m->status & IN_TRANSACTION) != 0 || m->has_locks) && m->n == 0 && !m->is_running && !m->heard_goodbye;
}

const struct speech speech_mysql = { .name = "mysql", .state_size = sizeof(struct mysql), .begin = begin, .hear = { client_hear, server_hear }, .act = { client_act, server_act },
	.heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .greet = greet };
const struct speech speech_mysql_auto = { .name = "mysql_auto", .protocol = "auto", .state_size = sizeof(struct mysql), .begin = begin,
	.hear = { client_hear, server_hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .greet = greet };
const struct speech speech_mysql_busy = { .name = "mysql_busy", .protocol = "mysql",
	.keys = "backend.heartbeat_while_busy = on\nbackend.heartbeat_in_transaction = on\n", .state_size = sizeof(struct mysql), .begin = begin,
	.hear = { client_hear, server_hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .greet = greet };
