/*
 * postgres_login.c - what is learned about a PostgreSQL session as it opens:
 * whether it is encrypted, who is at its two ends, and what a heartbeat to the
 * client can repeat.
 *
 * The packet without a type comes first: it requests encryption, cancels the
 * work of another session, or starts one. The names of a StartupMessage, and
 * later those of the parameters that the server reports, are matched as they
 * pass (words.h): nothing is gathered.
 */
#include <string.h>

#include "codec/postgres.h"
#include "stent/promise.h"

#define STARTUP_MAX 10000	/* the server's own limit */

#define PID_MAX (1u << 22)	/* of Linux; a pooler's invented ones are spread over 32 bits */

static void
name_start(struct pg *pg, size_t n_names)
{
	words_start(&pg->name, n_names);
	pg->name_order = 0;
	pg->in_value = false;
}

/* ---- the packet without a type, and the one-byte reply ---- */

/* Those that PgBouncer sends, in its order; and one that means replication. */
enum { KEY_DATABASE, KEY_USER = 5, KEY_REPLICATION, N_KEYS };

static const char *const keys[N_KEYS] = {
	"database", "client_encoding", "datestyle", "timezone", "application_name", "user", "replication",
};

/* One more byte of a name or its NUL: whether it sorts after the name before. PG_NAME_MAX bytes of it are kept. */
static void
compare_name(struct pg *pg, uint8_t byte)
{
	uint8_t *before;

	if (pg->name.len >= PG_NAME_MAX)
		return;
	before = &pg->last_name[pg->name.len];
	if (pg->name_order == 0)
		pg->name_order = (int8_t)((byte > *before) - (byte < *before));
	*before = byte;
}

/* PgBouncer adds its client's own names to "replication". */
static void
startup_named(struct pg *pg, size_t key)
{
	const bool in_order = pg->saw_name ? key > pg->last_key && key <= KEY_USER : key == KEY_DATABASE;

	if (key == KEY_REPLICATION)
		pg->is_walsender = true;
	if (!in_order && !pg->is_walsender)
		pg->as_pgbouncer = false;
	if (pg->name_order < 0)
		pg->as_pgpool = false;
	if (key == KEY_DATABASE)
		pg->saw_database = true;
	pg->last_key = (uint8_t)key;
	pg->saw_name = true;
}

/* Names and values alternate; an empty name is the end. */
void
pg_startup_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	(void)off;
	if (byte != '\0' && pg->in_value)
		return;
	if (!pg->in_value && (byte != '\0' || pg->name.len > 0))
		compare_name(pg, byte);
	if (byte != '\0') {
		words_add(&pg->name, keys, N_KEYS, byte);
		return;
	}
	if (pg->in_value) {
		name_start(pg, N_KEYS);
	} else if (pg->name.len > 0) {
		startup_named(pg, words_end(&pg->name, keys, N_KEYS));
		pg->in_value = true;
	}
}

/*
 * A driver names the user first. PgBouncer names the database first, then
 * encoding, date style, time zone and application by its settings, and the user
 * last. Pgpool-II sorts its client's names. So the order reveals a pooler in
 * front of us. With only the two names that everybody sends it may be another
 * client: Go's pgx sends its names in a random order. It is taken for a pooler,
 * since a heartbeat at rest harms a pooler, and its absence harms nobody. A name
 * that sorts after "user" rules a pooler out: both poolers would put it last.
 */
void
pg_startup_end(struct pg *pg)
{
	promise(pg->phase == PG_FIRST);
	pg->phase = PG_LOGIN;
	pg->from_pooler = pg->saw_database && pg->last_key == KEY_USER && (pg->as_pgbouncer || pg->as_pgpool);
}

void
pg_begin_untyped(struct pg *pg)
{
	struct pg_stream *s = &pg->stream[CLIENT];
	uint32_t len = pg_be32(s->head), code = pg_be32(s->head + 4);

	promise(pg->phase == PG_FIRST && pg->stream[BACKEND].got == 0 && pg_ledger_is_idle(&pg->ledger));
	if (s->head[0] == 0x16 && s->head[1] == 3)
		pg_passthrough(pg, CLIENT, "TLS from the first byte");
	else if ((code == PG_CODE_SSL || code == PG_CODE_GSSENC) && len == PG_HEAD_UNTYPED)
		pg->phase = PG_ENCRYPTION;
	else if (code == PG_CODE_CANCEL && len > 12 && len <= PG_CANCEL_MAX)
		pg->phase = PG_CANCEL;
	else if (len < PG_HEAD_UNTYPED || len > STARTUP_MAX)
		pg_passthrough(pg, CLIENT, "the client's first bytes are not PostgreSQL");
	else if (code >> 16 != 3)
		pg_passthrough(pg, CLIENT, "a protocol version other than 3");
	else {
		name_start(pg, N_KEYS);
		pg->as_pgbouncer = true;
		pg->as_pgpool = true;
		s->left = len - PG_HEAD_UNTYPED;
		s->look = (uint16_t)s->left;
		if (s->left == 0)
			pg_startup_end(pg);
	}
}

void
pg_begin_encryption(struct pg *pg)
{
	promise(pg->phase == PG_ENCRYPTION && pg->stream[CLIENT].got == 0);
	switch (pg->stream[BACKEND].head[0]) {
	case 'N':
		pg->phase = PG_FIRST;
		break;
	case 'S':
		pg_passthrough(pg, BACKEND, "TLS");
		break;
	case 'G':
		pg_passthrough(pg, BACKEND, "GSS encryption");
		break;
	default:
		pg_passthrough(pg, BACKEND, "the server refused an SSLRequest or GSSENCRequest");
	}
}

/* ---- the key, and the parameters ---- */

/* Parameters: the first three never change in a session, so they can be repeated; the others reveal a pooler. */
static const char *const params[] = {
	"integer_datetimes", "server_encoding", "server_version",
	"standard_conforming_strings", "application_name",
};
#define N_PARAMS (sizeof(params) / sizeof(params[0]))
#define N_REPEATABLE 3

_Static_assert(N_KEYS <= WORDS_MAX && N_PARAMS <= WORDS_MAX, "a bit for each name");
#define PARAM_STRINGS 3
#define PARAM_APPLICATION 4

const char *
pg_param_name(const struct pg *pg)
{
	promise_or(pg->param > 0 && pg->param <= N_REPEATABLE, "");
	return params[pg->param - 1];
}

void
pg_key_begin(struct pg *pg)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	promise_void(s->left >= 8);
	pg->pid = 0;
	pg->key_len = s->left - 4 <= PG_KEY_MAX ? (uint8_t)(s->left - 4) : 0;
	s->look = (uint16_t)(4 + pg->key_len);
}

void
pg_key_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	if (off < 4) {
		pg->pid = pg->pid << 8 | byte;
	} else {
		promise_void(off - 4u < pg->key_len && pg->key_len <= PG_KEY_MAX);
		pg->key[off - 4] = byte;
	}
}

void
pg_key_end(struct pg *pg)
{
	pg->saw_key = true;
	if (pg->pid == 0 || pg->pid > PID_MAX)	/* no process has the number 0 */
		pg->is_pooler = true;
}

void
pg_param_begin(struct pg *pg)
{
	name_start(pg, N_PARAMS);
}

/*
 * A name is whole. PgBouncer reports the parameters that it keeps for its
 * clients in an order that no PostgreSQL has. This reveals it even when the
 * process number that it invented is a small one.
 */
static void
param_named(struct pg *pg)
{
	const size_t i = words_end(&pg->name, params, N_PARAMS);

	if (i == PARAM_APPLICATION && pg->last_param == PARAM_STRINGS + 1 && pg->phase == PG_LOGIN)
		pg->is_pooler = true;
	promise(!pg->in_value && pg->param <= N_REPEATABLE);
	pg->last_param = i < N_PARAMS ? (uint8_t)(i + 1) : 0;
	pg->in_value = true;
	pg->keeps_value = i < N_REPEATABLE && (pg->param == 0 || i + 1 <= pg->param);
	if (pg->keeps_value) {
		pg->param = (uint8_t)(i + 1);
		pg->value_len = 0;
	}
}

void
pg_param_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	(void)off;
	if (pg->in_value) {
		if (pg->keeps_value && pg->value_len < PG_VALUE_MAX)
			pg->value[pg->value_len++] = (char)byte;
		return;
	}
	if (byte == '\0') {
		param_named(pg);
		return;
	}
	words_add(&pg->name, params, N_PARAMS, byte);
}

void
pg_param_end(struct pg *pg)
{
	const char *nul = memchr(pg->value, '\0', pg->value_len <= PG_VALUE_MAX ? pg->value_len : 0);

	promise(pg->value_len <= PG_VALUE_MAX && pg->param <= N_REPEATABLE);
	/* A value that is too long is not repeated; nor one with something after it. */
	if (pg->in_value && pg->keeps_value && (nul == NULL || nul + 1 != pg->value + pg->value_len))
		pg->param = 0;
}
