/*
 * postgres_login.c - what is learned of a PostgreSQL session while it opens:
 * whether it is encrypted, who is at its two ends, and what can be told later.
 *
 * The packet without a type comes first: it asks for encryption, cancels the
 * work of another session, or starts one. The names of a StartupMessage, and
 * later those of the parameters that the server reports, are compared byte by
 * byte as they pass: nothing is gathered.
 */
#include <string.h>

#include "codec/postgres.h"

#define STARTUP_MAX 10000	/* the server's own limit */

#define CODE_CANCEL 80877102u
#define CODE_SSL 80877103u
#define CODE_GSSENC 80877104u

#define PID_MAX (1u << 22)	/* of Linux; a pooler's invented ones are spread over 32 bits */

/* ---- names, compared as they pass ---- */

static void
scan_start(struct pg *pg, size_t n_names)
{
	pg->scan_fits = (uint8_t)((1u << n_names) - 1);
	pg->scan_len = 0;
	pg->scan_order = 0;
	pg->scan_in_value = false;
}

static void
scan_byte(struct pg *pg, const char *const names[], size_t n_names, uint8_t byte)
{
	for (size_t i = 0; i < n_names; i++)
		if ((pg->scan_fits & 1u << i) != 0 && names[i][pg->scan_len] != (char)byte)
			pg->scan_fits &= (uint8_t)~(1u << i);
	if (pg->scan_len < UINT8_MAX)
		pg->scan_len++;
}

/* The name is whole: which it is, n_names for none of them. */
static size_t
scan_result(const struct pg *pg, const char *const names[], size_t n_names)
{
	size_t i;

	for (i = 0; i < n_names; i++)
		if ((pg->scan_fits & 1u << i) != 0 && names[i][pg->scan_len] == '\0')
			break;
	return i;
}

/* ---- the packet without a type, and the one-byte answer ---- */

/* Those that PgBouncer sends, in its order; one that tells something else. */
enum { KEY_DATABASE, KEY_USER = 5, KEY_REPLICATION, N_KEYS };

static const char *const keys[N_KEYS] = {
	"database", "client_encoding", "datestyle", "timezone", "application_name", "user", "replication",
};

/* One more byte of a name, its NUL too: is it behind the name before? As much of it is kept as tells names apart. */
static void
compare_name(struct pg *pg, uint8_t byte)
{
	uint8_t *before;

	if (pg->scan_len >= PG_NAME_MAX)
		return;
	before = &pg->last_name[pg->scan_len];
	if (pg->scan_order == 0)
		pg->scan_order = (int8_t)((byte > *before) - (byte < *before));
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
	if (pg->scan_order < 0)
		pg->as_pgpool = false;
	if (key == KEY_DATABASE)
		pg->saw_database = true;
	pg->last_key = (uint8_t)key;
	pg->saw_name = true;
}

/* Names and values take turns; a name of no length is the end. */
void
pg_startup_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	(void)off;
	if (byte != '\0' && pg->scan_in_value)
		return;
	if (!pg->scan_in_value && (byte != '\0' || pg->scan_len > 0))
		compare_name(pg, byte);
	if (byte != '\0') {
		scan_byte(pg, keys, N_KEYS, byte);
		return;
	}
	if (pg->scan_in_value) {
		scan_start(pg, N_KEYS);
	} else if (pg->scan_len > 0) {
		startup_named(pg, scan_result(pg, keys, N_KEYS));
		pg->scan_in_value = true;
	}
}

/*
 * A driver names the user first. PgBouncer names the database first, then what
 * its settings say of encoding, date style, time zone and application, and the
 * user last. Pgpool-II sorts its client's names. So a pooler in front of us is
 * known. With the two names that everybody sends it may be another client as
 * well: Go's pgx sends its names in a different order each time. No heartbeats at
 * rest harm nobody, one does harm a pooler. A name that sorts behind "user"
 * makes the difference: neither pooler puts one before it.
 */
void
pg_startup_end(struct pg *pg)
{
	pg->phase = PG_LOGIN;
	pg->from_pooler = pg->saw_database && pg->last_key == KEY_USER && (pg->as_pgbouncer || pg->as_pgpool);
}

void
pg_begin_untyped(struct pg *pg)
{
	struct pg_stream *s = &pg->stream[CLIENT];
	uint32_t len = pg_be32(s->head), code = pg_be32(s->head + 4);

	if (s->head[0] == 0x16 && s->head[1] == 3)
		pg_doubt(pg, CLIENT, "TLS from the first byte");
	else if ((code == CODE_SSL || code == CODE_GSSENC) && len == PG_HEAD_UNTYPED)
		pg->phase = PG_ANSWER;
	else if (code == CODE_CANCEL && len > 12 && len <= PG_CANCEL_MAX)
		pg->phase = PG_OPAQUE;
	else if (len < PG_HEAD_UNTYPED || len > STARTUP_MAX)
		pg_doubt(pg, CLIENT, "the client's first bytes are not PostgreSQL");
	else if (code >> 16 != 3)
		pg_doubt(pg, CLIENT, "a protocol version other than 3");
	else {
		scan_start(pg, N_KEYS);
		pg->as_pgbouncer = true;
		pg->as_pgpool = true;
		s->left = len - PG_HEAD_UNTYPED;
		s->look = (uint16_t)s->left;
		if (s->left == 0)
			pg_startup_end(pg);
	}
}

void
pg_begin_answer(struct pg *pg)
{
	switch (pg->stream[BACKEND].head[0]) {
	case 'N':
		pg->phase = PG_FIRST;
		break;
	case 'S':
		pg_doubt(pg, BACKEND, "TLS");
		break;
	case 'G':
		pg_doubt(pg, BACKEND, "GSS encryption");
		break;
	default:
		pg_doubt(pg, BACKEND, "the server refused to answer an SSLRequest or GSSENCRequest");
	}
}

/* ---- the key, and the parameters ---- */

/* Parameters: the first three never change in a session, so that they can be repeated; the others tell a pooler. */
static const char *const params[] = {
	"integer_datetimes", "server_encoding", "server_version",
	"standard_conforming_strings", "application_name",
};
#define N_PARAMS (sizeof(params) / sizeof(params[0]))
#define N_REPEATABLE 3
#define PARAM_STRINGS 3
#define PARAM_APPLICATION 4

const char *
pg_param_name(const struct pg *pg)
{
	return params[pg->param - 1];
}

void
pg_key_begin(struct pg *pg)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	pg->pid = 0;
	pg->key_len = s->left - 4 <= PG_KEY_MAX ? (uint8_t)(s->left - 4) : 0;
	s->look = (uint16_t)(4 + pg->key_len);
}

void
pg_key_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	if (off < 4)
		pg->pid = pg->pid << 8 | byte;
	else
		pg->key[off - 4] = byte;
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
	scan_start(pg, N_PARAMS);
}

/*
 * A name is whole. PgBouncer reports the parameters that it keeps for its
 * clients in an order of its own, one that no PostgreSQL has: told by that, a
 * pooler is known even when the process number that it invented is a small one.
 */
static void
param_named(struct pg *pg)
{
	const size_t i = scan_result(pg, params, N_PARAMS);

	if (i == PARAM_APPLICATION && pg->last_param == PARAM_STRINGS + 1 && pg->phase == PG_LOGIN)
		pg->is_pooler = true;
	pg->last_param = i < N_PARAMS ? (uint8_t)(i + 1) : 0;
	pg->scan_in_value = true;
	pg->scan_fits = i < N_REPEATABLE && (pg->param == 0 || i + 1 <= pg->param);
	if (pg->scan_fits != 0) {
		pg->param = (uint8_t)(i + 1);
		pg->value_len = 0;
	}
}

void
pg_param_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	(void)off;
	if (pg->scan_in_value) {
		if (pg->scan_fits != 0 && pg->value_len < PG_VALUE_MAX)
			pg->value[pg->value_len++] = (char)byte;
		return;
	}
	if (byte == '\0') {
		param_named(pg);
		return;
	}
	scan_byte(pg, params, N_PARAMS, byte);
}

void
pg_param_end(struct pg *pg)
{
	const char *nul = memchr(pg->value, '\0', pg->value_len);

	/* One that is too long is not repeated; nor one with something behind it. */
	if (pg->scan_in_value && pg->scan_fits != 0 && (nul == NULL || nul + 1 != pg->value + pg->value_len))
		pg->param = 0;
}
