/*
 * postgres_heartbeat.c - what the PostgreSQL codec says itself, and when.
 *
 * Where a Flush may go was measured: at any message boundary after login, in
 * every state but CopyBoth. It has one effect: read by a server that waits
 * for the client, it stops idle_in_transaction_session_timeout (and
 * idle_session_timeout) until the next ReadyForQuery. So none goes to a server
 * that waits inside a transaction, unless the operator wants it. While a
 * query runs a Flush is due all the same (it is then that pools die); the
 * server reads it when the query has ended. Should it then wait inside a
 * transaction, the next heartbeat is a Sync: its ReadyForQuery starts the timer
 * again. The timer may thus start late by one interval, and never stays off.
 *
 * A walsender reads what comes while it starts to stream as part of the
 * stream, and would die of a Flush: it is told nothing while it works. While
 * it streams each end watches for the other's own keepalives (wal_sender_timeout,
 * wal_receiver_timeout), so ours go out only with heartbeat_while_busy.
 */
#include <stdio.h>
#include <string.h>

#include "codec/postgres.h"
#include "stent/codec.h"

static void
put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* Writes a message's head in front of a body of so many bytes; returns the whole length. */
static size_t
put_head(uint8_t *buf, char type, size_t body)
{
	buf[0] = (uint8_t)type;
	put32(buf + 1, (uint32_t)(4 + body));
	return PG_HEAD_TYPED + body;
}

/* ---- when ---- */

/* The last message came to nothing but its ReadyForQuery: the server's timer must be started again. */
static bool
is_rearm_due(const struct pg *pg)
{
	return pg->disarmed && !pg->ledger.doubt && pg_ledger_is_idle(&pg->ledger);
}

/*
 * At rest a Sync, which is replied to: it finds a server that hangs, and a
 * pooler lends a connection for it no longer than that takes. A Flush would
 * keep the connection, so at rest it goes out only when it was chosen.
 */
static unsigned
kinds_at_rest(const struct pg *pg)
{
	const unsigned ping = pg->asked == UINT8_MAX || pg->ledger.doubt ? 0 : HEARTBEAT_PING;

	if (pg->status != 'I' && !pg->in_transaction)
		return is_rearm_due(pg) ? HEARTBEAT_ONEWAY | HEARTBEAT_PING : 0;
	return ping | (pg->chose_oneway || pg->status != 'I' ? HEARTBEAT_ONEWAY : 0);
}

static unsigned
backend_kinds(const struct pg *pg)
{
	if (!pg->saw_key || pg->is_pooler || pg->stream[CLIENT].fin)
		return 0;
	if (pg->in_both)
		return pg->busy_backend && pg->both_from[CLIENT] && pg->has_standby ? HEARTBEAT_ONEWAY : 0;
	if (pg_ledger_is_idle(&pg->ledger))
		return kinds_at_rest(pg);
	/* In a COPY a pooler was seen to wait for ever behind a Flush. */
	if (pg->is_walsender || !pg->busy_backend || pg->in_copy || pg->ledger.copying)
		return 0;
	/* It works. Without a ledger the timer could not be started again afterwards. */
	return pg->ledger.doubt && !pg->in_transaction ? 0 : HEARTBEAT_ONEWAY;
}

/*
 * While a statement runs the client may be watching the connection's silence
 * (a read timeout). In a COPY many clients know no messages but those of the
 * COPY, up to the ReadyForQuery behind it. One that has sent its FIN is mostly
 * one that was killed: there is nothing to say to it at rest.
 */
static unsigned
client_kinds(const struct pg *pg)
{
	const bool idle = pg_ledger_is_idle(&pg->ledger);

	if (pg->stream[CLIENT].fin && idle)
		return 0;
	if (pg->in_both)
		return pg->busy_client && pg->both_from[BACKEND] && pg->has_wal ? HEARTBEAT_ONEWAY : 0;
	if (!idle && !pg->busy_client)
		return 0;
	if (pg->from_pooler && (pg->ledger.doubt || !pg_ledger_is_owed(&pg->ledger)))
		return 0;
	return pg->param != 0 && pg->wary == PG_NOT_WARY && !pg->in_copy && !pg->ledger.copying ? HEARTBEAT_ONEWAY : 0;
}

static bool
is_closing(const struct pg *pg)
{
	return pg->ended || pg->took_leave || pg->stream[BACKEND].fin;
}

unsigned
pg_may_heartbeat(const void *state, enum side to)
{
	const struct pg *pg = state;

	if (pg->phase != PG_READY || pg->reason != NULL || is_closing(pg) || !pg_at_boundary(&pg->stream[side_other(to)]))
		return 0;
	return to == CLIENT ? client_kinds(pg) : backend_kinds(pg);
}

const char *
pg_why_none(const void *state, enum side to)
{
	const struct pg *pg = state;

	if (pg_may_heartbeat(state, to) != 0)
		return NULL;
	if (pg->reason != NULL)
		return pg->reason;
	if (pg->phase == PG_OPAQUE)
		return "a cancel request";
	if (pg->phase != PG_READY)
		return "the login is not over";
	if (is_closing(pg))
		return "the session is ending";
	if (!pg_at_boundary(&pg->stream[side_other(to)]))
		return "inside a message";
	if (to == BACKEND && !pg->saw_key)
		return "the server told no key: it may be a pooler";
	if (to == BACKEND && pg->is_pooler)
		return "a pooler behind";
	if (to == CLIENT && pg->from_pooler)
		return "the client is a pooler";
	if (to == CLIENT && pg->wary != PG_NOT_WARY && !pg->in_both)
		return pg->wary == PG_LISTENS ? "it listens for notifications" : "it calls functions by their number";
	if (pg->in_both)
		return "replication: its two ends send their own";
	if (pg->in_copy || pg->ledger.copying)
		return "a COPY runs";
	if (!pg_ledger_is_idle(&pg->ledger))
		return "a statement runs";
	if (pg->status != 'I')
		return "in a transaction";
	return to == CLIENT ? "no parameter to repeat" : "replies cannot be told apart";
}

bool
pg_said_goodbye(const void *state, enum side from)
{
	const struct pg *pg = state;

	return from == CLIENT ? pg->ended : pg->took_leave;
}

/* ---- heartbeats ---- */

static size_t
heartbeat_client(struct pg *pg, uint8_t *buf)
{
	const char *name = pg_param_name(pg);
	const size_t len = strlen(name) + 1;

	memcpy(buf + PG_HEAD_TYPED, name, len);
	memcpy(buf + PG_HEAD_TYPED + len, pg->value, pg->value_len);
	return put_head(buf, 'S', len + pg->value_len);
}

/* A walsender's keepalive: its kind, the end of WAL and the time that it said last, no reply wanted. */
static size_t
heartbeat_receiver(struct pg *pg, uint8_t *buf)
{
	uint8_t *body = buf + PG_HEAD_TYPED;

	body[0] = 'k';
	memcpy(body + 1, pg->wal + 8, 16);
	body[17] = 0;
	return put_head(buf, 'd', 18);
}

/* The standby's own last report; zeroes would erase its progress, other numbers would be lies. */
static size_t
heartbeat_walsender(struct pg *pg, uint8_t *buf)
{
	uint8_t *body = buf + PG_HEAD_TYPED;

	body[0] = 'r';
	memcpy(body + 1, pg->standby, PG_STANDBY_LEN);
	body[1 + PG_STANDBY_LEN] = 0;
	return put_head(buf, 'd', 1 + PG_STANDBY_LEN + 1);
}

size_t
pg_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t *buf)
{
	struct pg *pg = state;

	if (to == CLIENT)
		return pg->in_both ? heartbeat_receiver(pg, buf) : heartbeat_client(pg, buf);
	if (pg->in_both)
		return heartbeat_walsender(pg, buf);
	if (kind == HEARTBEAT_PING || is_rearm_due(pg)) {
		pg->asked++;
		pg->disarmed = false;
		return put_head(buf, 'S', 0);
	}
	if (!pg->in_transaction && pg_ledger_is_owed(&pg->ledger))
		pg->disarmed = true;
	return put_head(buf, 'H', 0);
}

/* ---- goodbyes ---- */

/* Appends a field of an ErrorResponse, or a string with its NUL when type is NUL; what does not fit is cut. */
static size_t
put_text(uint8_t *buf, size_t at, char type, const char *text)
{
	const size_t room = CODEC_CLOSE_MESSAGE_MAX - 8 - at, len = strlen(text);
	const size_t n = len < room ? len : room;

	if (type != '\0')
		buf[at++] = (uint8_t)type;
	memcpy(buf + at, text, n);
	buf[at + n] = '\0';
	return at + n + 1;
}

/* Why the flow ends: by a death, by idleness, or by the operator's will. */
static bool
is_death(const struct codec_close_info *o)
{
	const char *leg = side_name(o->dead);

	return strncmp(o->reason, leg, strlen(leg)) == 0 && strstr(o->reason, "-idle") == NULL;
}

/*
 * The state of a dead server is class 08, connection_failure: it is what
 * happened, and what pools take as "throw this connection away". The others
 * are what a server says that ends a session itself.
 */
static const char *
put_cause(const struct codec_close_info *o, char *text, size_t size)
{
	if (is_death(o)) {
		snprintf(text, size, "terminating connection: stent found the database server dead "
		    "(%s, nothing heard of it for %lld.%lld s)", o->reason,
		    (long long)(o->quiet_ms / 1000), (long long)(o->quiet_ms % 1000 / 100));
		return "08006";
	}
	if (strstr(o->reason, "-idle") != NULL) {
		snprintf(text, size, "terminating connection: nothing was sent for too long (stent: %s)", o->reason);
		return "57P05";
	}
	snprintf(text, size, "terminating connection: stent was told to end it (%s)", o->reason);
	return "57P01";
}

static size_t
close_message_client(const struct pg *pg, const struct codec_close_info *o, uint8_t *buf)
{
	const struct pg_stream *s = &pg->stream[BACKEND];
	const char *state;
	char text[256];
	size_t n = PG_HEAD_TYPED;

	if ((pg->phase != PG_LOGIN && pg->phase != PG_READY) || !(pg_at_boundary(s) || s->ours))
		return 0;
	state = put_cause(o, text, sizeof(text));
	n = put_text(buf, n, 'S', "FATAL");
	n = put_text(buf, n, 'V', "FATAL");
	n = put_text(buf, n, 'C', state);
	n = put_text(buf, n, 'M', text);
	n = put_text(buf, n, 'H', "The session is lost, and with it the transaction that was open. Connect again.");
	buf[n++] = '\0';
	return put_head(buf, 'E', n - PG_HEAD_TYPED);
}

/* Terminate; a COPY that waits for rows is failed first, by the message made for that. */
static size_t
close_message_backend(const struct pg *pg, const struct codec_close_info *o, uint8_t *buf)
{
	char text[128];
	size_t n = 0;

	if (pg->phase != PG_READY || !pg_at_boundary(&pg->stream[CLIENT]) || pg->ended)
		return 0;
	if (pg->ledger.copying && !pg->in_both) {
		snprintf(text, sizeof(text), "stent %s (%s)", is_death(o) ? "found the client dead" : "ends the session",
		    o->reason);
		n = put_text(buf, PG_HEAD_TYPED, '\0', text);
		put_head(buf, 'f', n - PG_HEAD_TYPED);
	}
	return n + put_head(buf + n, 'X', 0);
}

size_t
pg_close_message(void *state, enum side to, const struct codec_close_info *o, uint8_t *buf)
{
	const struct pg *pg = state;

	if (pg->reason != NULL)
		return 0;
	return to == CLIENT ? close_message_client(pg, o, buf) : close_message_backend(pg, o, buf);
}

size_t
pg_cancel(const void *state, uint8_t *buf)
{
	const struct pg *pg = state;
	const size_t len = 12u + pg->key_len;

	/* Who says Terminate leaves its work to be done. */
	if (pg->phase != PG_READY || pg->key_len == 0 || pg_ledger_is_idle(&pg->ledger) || pg->ended)
		return 0;
	put32(buf, (uint32_t)len);
	put32(buf + 4, 80877102);	/* CancelRequest */
	put32(buf + 8, pg->pid);
	memcpy(buf + 12, pg->key, pg->key_len);
	return len;
}
