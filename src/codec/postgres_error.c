/*
 * postgres_error.c - a server's errors: those that end the session, and those
 * in place of the reply to our Sync.
 *
 * An error of severity FATAL ends the session: by the server's own timeouts, an
 * administrator, a crash, a conflict with recovery. That is an orderly end,
 * whenever it comes. A FATAL with another code in place of our ReadyForQuery is
 * a reaction to the Sync (PgBouncer's query_wait_timeout), and goes to the
 * client too, as the session is over.
 *
 * An ERROR in that place comes from a pooler that found no server for the Sync,
 * and the session continues: it is left out like the ReadyForQuery after it. Its
 * first bytes are held until its severity is known.
 */
#include <assert.h>
#include <string.h>

#include "codec/postgres.h"
#include "stent/promise.h"

void
pg_error_begin(struct pg *pg)
{
	pg->both_from[BACKEND] = false;
	pg->error = (struct pg_error){ .severity = PG_UNKNOWN };
	/* While a reply to our Sync is due, it comes before any to what the client has sent since. */
	if (pg->syncs_due == 0)
		pg_ledger_error(&pg->ledger);
}

static enum pg_severity
severity_of(const char *word)
{
	if (strcmp(word, "FATAL") == 0 || strcmp(word, "PANIC") == 0)
		return PG_FATAL;
	/* S may be in the server's language; V has it in English. */
	return strcmp(word, "ERROR") == 0 ? PG_ERROR : PG_UNKNOWN;
}

/* Codes with which a server ends a session by itself: administrator, timeouts, recovery; another stent's. */
static bool
is_own_end(const char *code)
{
	static const char *const codes[] = { "25P03", "25P04", "40001", "08006" };

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(code, codes[i]) == 0)
			return true;
	return strncmp(code, "57", 2) == 0;
}

static void
field_end(struct pg *pg)
{
	struct pg_error *e = &pg->error;

	promise(e->field != '\0' && e->len < sizeof(e->word) && e->severity <= PG_FATAL);
	if ((e->field == 'S' || e->field == 'V') && e->severity == PG_UNKNOWN)
		e->severity = (uint8_t)severity_of(e->word);
	if (e->field != 'C' || e->severity != PG_FATAL)
		return;
	if (is_own_end(e->word))
		pg->server_ended = true;
	else
		pg->refuses |= pg->syncs_due > 0;
}

/* Fields: a letter, a text with its NUL. */
void
pg_error_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	struct pg_error *e = &pg->error;
	const bool is_held = pg->stream[BACKEND].ours && e->severity == PG_UNKNOWN;
	const bool is_end = e->field == '\0' && byte == '\0';	/* no field may follow */

	promise_void(e->len < sizeof(e->word));
	if (is_held) {
		promise_void(off < sizeof(pg->held));
		pg->held[off] = byte;
	}
	if (e->field == '\0') {
		e->field = byte;
		e->len = 0;
		memset(e->word, 0, sizeof(e->word));
	} else if (byte != '\0') {
		if (e->len < sizeof(e->word) - 1)
			e->word[e->len++] = (char)byte;
	} else {
		field_end(pg);
		e->field = '\0';
	}
	if (is_held && e->severity == PG_UNKNOWN && (is_end || off + 1u == sizeof(pg->held)))
		e->severity = PG_FATAL;		/* it has none, or no more of it can be held: it goes to the client */
}

void
pg_error_end(struct pg *pg)
{
	pg->refuses |= pg->error.severity == PG_ERROR && pg->syncs_due > 0;
}

/* ---- errors of our own ---- */

static size_t
put_field(uint8_t *buf, size_t at, char field, const char *text, size_t len)
{
	buf[at++] = (uint8_t)field;
	memcpy(buf + at, text, len);
	buf[at + len] = '\0';
	return at + len + 1;
}

size_t
pg_fatal(uint8_t *buf, size_t room, const char *sqlstate, const char *text, const char *hint)
{
	static const char severity[] = "FATAL";
	const size_t others = PG_HEAD_TYPED + 2 * (sizeof(severity) + 1) + strlen(sqlstate) + 2 + strlen(hint) + 2 + 1;
	size_t len = strlen(text), n = PG_HEAD_TYPED;

	promise_or(others + 2 <= room, 0);
	if (len > room - others - 2)
		len = room - others - 2;
	n = put_field(buf, n, 'S', severity, sizeof(severity) - 1);
	n = put_field(buf, n, 'V', severity, sizeof(severity) - 1);
	n = put_field(buf, n, 'C', sqlstate, strlen(sqlstate));
	n = put_field(buf, n, 'M', text, len);
	n = put_field(buf, n, 'H', hint, strlen(hint));
	buf[n++] = '\0';
	buf[0] = 'E';
	buf[1] = 0;
	buf[2] = 0;
	buf[3] = (uint8_t)((n - 1) >> 8);
	buf[4] = (uint8_t)(n - 1);
	assert(n <= room && n <= UINT16_MAX);
	return n;
}
