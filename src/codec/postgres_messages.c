/*
 * postgres_messages.c - what each message of the protocol means to the codec.
 *
 * One table a direction, indexed by the message's type: its length, what to do
 * when its head is known, how many of its first bytes to read, and what to do
 * when it is whole. A row of zeroes is no message of PostgreSQL, and leads to
 * passthrough. Most rows only bound the length, so that a stream that is not
 * PostgreSQL is soon detected.
 */
#include <string.h>

#include "codec/postgres.h"
#include "stent/promise.h"

#define ANY_LEN 0x40000000u	/* the server can neither build nor take a longer one */
#define SMALL_LEN (1u << 20)	/* for messages that carry no data */

struct message {
	uint32_t min, max;	/* length as the head says it: body and the length itself */
	uint16_t look;		/* first bytes of the body to read */
	void (*begin)(struct pg *pg);
	void (*at)(struct pg *pg, uint16_t off, uint8_t byte);
	void (*end)(struct pg *pg);
	bool sql;		/* in which LISTEN may be */
};

static uint64_t
be64(const uint8_t *p)
{
	return (uint64_t)pg_be32(p) << 32 | pg_be32(p + 4);
}

static void
put64(uint8_t *p, uint64_t v)
{
	for (int i = 7; i >= 0; i--, v >>= 8)
		p[i] = (uint8_t)v;
}

/* ---- clients that accept few messages only ---- */

/*
 * While pgjdbc waits for notifications, it takes a ParameterStatus for an error
 * and closes the connection. A client that may wait for them has sent a
 * statement with the word LISTEN anywhere (one of several statements, or inside
 * DO), or has got a notification (a function may LISTEN too).
 */
static void
waits_for_notifications(struct pg *pg)
{
	pg->strict = PG_WAITS_FOR_NOTIFICATIONS;
}

/* Letters beyond ASCII are part of a word, too. */
static bool
is_of_word(uint8_t byte)
{
	const uint8_t lower = byte | 0x20;

	return (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '_' || byte == '$' || byte >= 0x80;
}

bool
pg_searches_sql(const struct pg *pg, enum side from)
{
	return from == CLIENT && pg->stream[CLIENT].has_sql && pg->strict == PG_NOT_STRICT;
}

void
pg_search_sql(struct pg *pg, const uint8_t *p, size_t len)
{
	static const char *const listen[] = { "listen" };

	for (size_t i = 0; i < len; i++) {
		if (is_of_word(p[i])) {
			if (pg->sql_word.matching != 0)
				words_add(&pg->sql_word, listen, 1, p[i] | 0x20);
			continue;
		}
		if (words_end(&pg->sql_word, listen, 1) == 0)
			waits_for_notifications(pg);
		words_start(&pg->sql_word, 1);
	}
}

/* ---- from the client ---- */

static void
client_works(struct pg *pg)
{
	pg->timer_is_off = false;	/* its ReadyForQuery will start the timer again */
}

static void
query_begin(struct pg *pg)
{
	client_works(pg);
	pg_ledger_query(&pg->ledger);
}

/* Before 42.2.24, pgjdbc accepts no ParameterStatus in the reply. */
static void
function_begin(struct pg *pg)
{
	if (pg->strict == PG_NOT_STRICT)
		pg->strict = PG_CALLS_FUNCTIONS;
	query_begin(pg);
}

static void
extended_begin(struct pg *pg)
{
	client_works(pg);
	pg_ledger_extended(&pg->ledger);
}

static void
sync_begin(struct pg *pg)
{
	client_works(pg);
	pg_ledger_sync(&pg->ledger);
}

static void
client_copy_end(struct pg *pg)
{
	pg->both_from[CLIENT] = false;
	pg_ledger_copy_end(&pg->ledger);
}

static void
terminate_begin(struct pg *pg)
{
	pg->client_ended = true;
}

#define STANDBY_MESSAGE (4 + 1 + PG_STANDBY_LEN + 1)	/* type r, the report, "reply at once" */

static void
client_copy_begin(struct pg *pg)
{
	struct pg_stream *s = &pg->stream[CLIENT];

	if (!pg->both_from[CLIENT] || s->left + 4 != STANDBY_MESSAGE)
		s->look = 0;
}

/* The report is copied byte by byte; it is not used before it is whole. */
static void
client_copy_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	promise_void(off <= PG_STANDBY_LEN);
	if (off == 0 && byte != 'r')
		pg->stream[CLIENT].look = 0;
	else if (off > 0)
		pg->standby[off - 1] = byte;
	if (off == PG_STANDBY_LEN)
		pg->has_standby = true;
}

/* ---- from the server ---- */

static void
ready_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	(void)off;
	if (byte != 'I' && byte != 'T' && byte != 'E')
		pg_passthrough(pg, BACKEND, "a ReadyForQuery with an unknown state");
	pg->status = byte;
}

static void
first_ready(struct pg *pg)
{
	promise(pg->phase == PG_LOGIN && pg->syncs_due == 0);
	pg->phase = PG_READY;
	if (pg->heartbeats[BACKEND] && pg->is_pooler)
		pg->note = PG_NOTE_POOLER;
	else if (pg->heartbeats[BACKEND] && !pg->saw_key)
		pg->note = PG_NOTE_NO_KEY;
	else if (pg->heartbeats[CLIENT] && pg->from_pooler)
		pg->note = PG_NOTE_FROM_POOLER;
}

static void
ready_end(struct pg *pg)
{
	if (pg->phase == PG_LOGIN) {
		first_ready(pg);
		return;
	}
	if (pg->syncs_due > 0) {
		pg->syncs_due--;
		return;
	}
	pg_ledger_ready(&pg->ledger);
	pg->in_copy = false;
	pg->in_both = false;
	/* Outside a transaction there is no timer to start. But a query under way may open one, with our Flush behind it. */
	if (pg->status == 'I' && pg_ledger_is_idle(&pg->ledger))
		pg->timer_is_off = false;
}

static void
step_begin(struct pg *pg)
{
	pg_ledger_step(&pg->ledger);
}

static void
result_begin(struct pg *pg)
{
	pg_ledger_step(&pg->ledger);
	pg_ledger_result(&pg->ledger);
}

static void
copy_in_begin(struct pg *pg)
{
	pg->in_copy = true;
	pg_ledger_copy_in(&pg->ledger);
}

static void
copy_out_begin(struct pg *pg)
{
	pg->in_copy = true;
}

static void
copy_both_begin(struct pg *pg)
{
	pg_ledger_copy_in(&pg->ledger);
	pg->in_both = true;
	pg->both_from[CLIENT] = pg->ledger.copying;	/* else its CopyDone has passed already */
	pg->both_from[BACKEND] = true;
	pg->has_standby = false;
	pg->has_wal = false;
}

static void
server_copy_end(struct pg *pg)
{
	pg->both_from[BACKEND] = false;
}

/*
 * In CopyBoth, WAL is: its kind, its start, the end of WAL, the time, data; a
 * keepalive: its kind, the end of WAL, the time, "reply at once". Both fill
 * pg->wal from the end of WAL on.
 */
#define WAL_LOOK (1 + PG_WAL_LEN)
#define KEEPALIVE_LOOK (1 + PG_WAL_LEN - 8)

static void
server_copy_begin(struct pg *pg)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	pg->wal_kind = 0;
	pg->wal_data = s->left - s->look;
	if (!pg->both_from[BACKEND])
		s->look = 0;
}

static void
server_copy_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	promise_void(off - 1 + (pg->wal_kind == 'k' ? 8 : 0) < PG_WAL_LEN && (off == 0 || pg->wal_kind != 0));
	if (off > 0) {
		pg->wal[off - 1 + (pg->wal_kind == 'k' ? 8 : 0)] = byte;
	} else if (byte == 'w' && s->left + 1 >= WAL_LOOK) {
		pg->wal_kind = 'w';
	} else if (byte == 'k' && s->left + 1 >= KEEPALIVE_LOOK) {
		pg->wal_kind = 'k';
		s->look = KEEPALIVE_LOOK - 1;
	} else {
		s->look = 0;
	}
}

/*
 * The end of WAL in a piece of a physical stream may be past what was sent, but
 * a keepalive means "sent so far": so it is limited to the end of this piece.
 */
static void
server_copy_data_end(struct pg *pg)
{
	uint64_t start, end;

	if (pg->wal_kind == 0)
		return;
	pg->has_wal = true;
	if (pg->wal_kind == 'k')
		return;
	start = be64(pg->wal);
	end = be64(pg->wal + 8);
	promise(pg->wal_kind == 'w' && pg->both_from[BACKEND]);
	if (end > start && end - start > pg->wal_data)
		put64(pg->wal + 8, start + pg->wal_data);
}

/* ---- the tables ---- */

#define ERROR_LOOK 64	/* bytes in which its severity and its code come, whatever the language */

#define FIXED(n) .min = (n), .max = (n)
#define SMALL(n) .min = (n), .max = SMALL_LEN
#define DATA(n) .min = (n), .max = ANY_LEN

static const struct message messages[2][128] = {
	[CLIENT] = {
		[0] = { .at = pg_startup_at, .end = pg_startup_end },
		['Q'] = { DATA(5), .begin = query_begin, .sql = true },
		['F'] = { DATA(14), .begin = function_begin },
		['P'] = { DATA(8), .begin = extended_begin, .sql = true },
		['B'] = { DATA(10), .begin = extended_begin },
		['D'] = { SMALL(6), .begin = extended_begin },
		['E'] = { SMALL(9), .begin = extended_begin },
		['C'] = { SMALL(6), .begin = extended_begin },
		['H'] = { FIXED(4) },
		['S'] = { FIXED(4), .begin = sync_begin },
		['X'] = { FIXED(4), .begin = terminate_begin },
		['d'] = { DATA(4), .look = 1 + PG_STANDBY_LEN, .begin = client_copy_begin, .at = client_copy_at },
		['c'] = { FIXED(4), .begin = client_copy_end },
		['f'] = { DATA(5), .begin = client_copy_end },
		['p'] = { DATA(4), .look = PG_CHOICE_LOOK, .begin = pg_choice_begin, .at = pg_choice_at },
	},
	[BACKEND] = {
		['R'] = { SMALL(8), .look = PG_AUTH_MAX, .begin = pg_auth_begin, .at = pg_auth_at },
		['K'] = { .min = 12, .max = PG_CANCEL_MAX, .begin = pg_key_begin, .at = pg_key_at, .end = pg_key_end },
		['S'] = { SMALL(6), .look = UINT16_MAX, .begin = pg_param_begin, .at = pg_param_at, .end = pg_param_end },
		['Z'] = { FIXED(5), .look = 1, .at = ready_at, .end = ready_end },
		['v'] = { SMALL(12) },
		['E'] = { DATA(5), .look = ERROR_LOOK, .begin = pg_error_begin, .at = pg_error_at, .end = pg_error_end },
		['N'] = { DATA(5) },
		['A'] = { DATA(10), .begin = waits_for_notifications },
		['T'] = { DATA(6), .begin = step_begin },
		['D'] = { DATA(6) },
		['V'] = { DATA(8) },
		['C'] = { SMALL(5), .begin = result_begin },
		['I'] = { FIXED(4), .begin = result_begin },
		['1'] = { FIXED(4), .begin = step_begin },
		['2'] = { FIXED(4), .begin = step_begin },
		['3'] = { FIXED(4), .begin = step_begin },
		['n'] = { FIXED(4), .begin = step_begin },
		['s'] = { FIXED(4), .begin = step_begin },
		['t'] = { SMALL(6) },
		['G'] = { SMALL(7), .begin = copy_in_begin },
		['H'] = { SMALL(7), .begin = copy_out_begin },
		['W'] = { SMALL(7), .begin = copy_both_begin },
		['d'] = { DATA(4), .look = WAL_LOOK, .begin = server_copy_begin, .at = server_copy_at,
		    .end = server_copy_data_end },
		['c'] = { FIXED(4), .begin = server_copy_end },
	},
};

size_t
pg_head_size(const struct pg *pg, enum side from)
{
	if (pg->phase == PG_FIRST)
		return from == CLIENT ? PG_HEAD_UNTYPED : 0;
	if (pg->phase == PG_ENCRYPTION)
		return from == BACKEND ? 1 : 0;
	return PG_HEAD_TYPED;
}

static void
begin_typed(struct pg *pg, enum side from)
{
	struct pg_stream *s = &pg->stream[from];
	const struct message *m;
	uint32_t len = pg_be32(s->head + 1);

	promise_dear(pg->phase == PG_LOGIN || pg->phase == PG_READY);
	s->type = s->head[0];
	m = &messages[from][s->type & 127];
	if (s->type == 0 || s->type > 127 || m->max == 0) {
		pg_passthrough(pg, from, from == CLIENT ? "the client sent an unknown message" :
		    "the server sent an unknown message");
		return;
	}
	if (len < m->min || len > m->max) {
		pg_passthrough(pg, from, from == CLIENT ? "the client sent a message of an impossible length" :
		    "the server sent a message of an impossible length");
		return;
	}
	/* Replies come in order, so one to a later message of the client means that our Sync was dropped. */
	if (from == BACKEND && pg->syncs_due > 0 && strchr("ZENAS", s->type) == NULL) {
		pg->syncs_due = 0;
		pg->refuses = true;
	}
	promise_dear(m->min >= 4 && m->max >= m->min && (m->look == 0 || m->at != NULL));
	s->left = len - 4;
	s->look = s->left < m->look ? (uint16_t)s->left : m->look;
	s->has_sql = m->sql;
	if (m->sql)
		words_start(&pg->sql_word, 1);
	if (m->begin != NULL)
		m->begin(pg);
	if (s->left == 0)
		pg_end(pg, from);
}

void
pg_begin(struct pg *pg, enum side from)
{
	struct pg_stream *s = &pg->stream[from];

	promise_dear(s->got == 0 && s->left == 0 && s->look == 0);
	s->off = 0;
	s->look = 0;
	s->left = 0;
	s->has_sql = false;
	if (pg->phase == PG_ENCRYPTION) {
		pg_begin_encryption(pg);
	} else if (pg->phase == PG_FIRST) {
		s->type = 0;
		pg_begin_untyped(pg);
	} else {
		begin_typed(pg, from);
	}
}

void
pg_read_byte(struct pg *pg, enum side from, uint8_t byte)
{
	struct pg_stream *s = &pg->stream[from];
	const struct message *m = &messages[from][s->type & 127];
	const uint16_t off = s->off++;

	promise_void(s->look > 0 && s->left >= s->look && s->type < 128 && m->at != NULL);
	s->look--;
	s->left--;
	m->at(pg, off, byte);
	if (s->left == 0)
		pg_end(pg, from);
}

void
pg_end(struct pg *pg, enum side from)
{
	const struct message *m = &messages[from][pg->stream[from].type & 127];

	promise_dear(pg->stream[from].left == 0 && pg->stream[from].look == 0 && pg->stream[from].type < 128);
	if (m->end != NULL)
		m->end(pg);
}
