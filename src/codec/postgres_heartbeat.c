/*
 * postgres_heartbeat.c - what the PostgreSQL codec sends itself, and when.
 *
 * To the client: a ParameterStatus that repeats a reported value, which every
 * driver ignores. To the server at rest: a Sync, a ping; while it works: a
 * Flush, one-way. A server that reads a Flush while it waits for the client
 * stops its idle timers (idle_in_transaction_session_timeout) until the next
 * ReadyForQuery. So a server that waits inside a transaction gets none, unless
 * configured; if it waits there after a query during which a Flush was sent, the
 * next heartbeat is a Sync, whose ReadyForQuery starts the timer again.
 *
 * A pooler as the server gets none: a Sync occupies a connection of its pool. A
 * pooler as the client takes one at rest for a busy connection.
 */
#include <stdio.h>
#include <string.h>

#include "codec/postgres.h"
#include "stent/codec.h"
#include "stent/promise.h"

static void
put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* Writes the head of a message with a body of this length; returns the whole length. */
static size_t
put_head(uint8_t *buf, char type, size_t body)
{
	promise(body + PG_HEAD_TYPED <= CODEC_HEARTBEAT_MAX);
	buf[0] = (uint8_t)type;
	put32(buf + 1, (uint32_t)(4 + body));
	return PG_HEAD_TYPED + body;
}

/* ---- when ---- */

/* The server may wait with its idle timer stopped by our Flush: it must be started again. */
static bool
is_rearm_due(const struct pg *pg)
{
	return pg->timer_is_off && pg->syncs_due < UINT8_MAX && !pg->ledger.unsure && pg_ledger_is_idle(&pg->ledger);
}

/*
 * At rest a Sync, whose reply shows that the server is alive; a pooler lends a
 * connection for it only until then. A Flush would keep the connection, so at
 * rest it is sent only if configured.
 */
static unsigned
kinds_at_rest(const struct pg *pg)
{
	const unsigned ping = pg->syncs_due == UINT8_MAX || pg->ledger.unsure ? 0 : HEARTBEAT_PING;

	if (pg->status != 'I' && !pg->in_transaction)
		return is_rearm_due(pg) ? HEARTBEAT_ONEWAY | HEARTBEAT_PING : 0;
	return ping | (pg->oneway_is_chosen || pg->status != 'I' ? HEARTBEAT_ONEWAY : 0);
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
	/* In a COPY a pooler was seen to wait forever after a Flush. */
	if (pg->is_walsender || !pg->busy_backend || pg->in_copy || pg->ledger.copying)
		return 0;
	/* It is busy. With an unsure ledger the timer could not be started again afterwards. */
	return pg->ledger.unsure && !pg->in_transaction ? 0 : HEARTBEAT_ONEWAY;
}

/*
 * While a statement runs the client may have a read timeout. In a COPY many
 * clients accept only messages of the COPY, up to its ReadyForQuery. A
 * half-closed client has usually been killed: it gets none at rest.
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
	if (pg->from_pooler && (pg->ledger.unsure || !pg_ledger_is_due(&pg->ledger)))
		return 0;
	return pg->param != 0 && pg->strict == PG_NOT_STRICT && !pg->in_copy && !pg->ledger.copying ? HEARTBEAT_ONEWAY : 0;
}

static bool
is_closing(const struct pg *pg)
{
	return pg->client_ended || pg->server_ended || pg->stream[BACKEND].fin;
}

unsigned
pg_may_heartbeat(const void *state, enum side to)
{
	const struct pg *pg = state;

	if (pg->phase != PG_READY || pg->passthrough != NULL || is_closing(pg) || !pg_at_boundary(&pg->stream[side_other(to)]))
		return 0;
	return to == CLIENT ? client_kinds(pg) : backend_kinds(pg);
}

const char *
pg_why_none(const void *state, enum side to)
{
	const struct pg *pg = state;

	if (pg_may_heartbeat(state, to) != 0)
		return NULL;
	if (pg->passthrough != NULL)
		return pg->passthrough;
	if (pg->phase == PG_CANCEL)
		return "a cancel request";
	if (pg->phase != PG_READY)
		return "logging in";
	if (is_closing(pg))
		return "the session ends";
	if (!pg_at_boundary(&pg->stream[side_other(to)]))
		return "inside a message";
	if (to == BACKEND && !pg->saw_key)
		return "the server sent no key: it may be a pooler";
	if (to == BACKEND && pg->is_pooler)
		return "the server is a pooler";
	if (to == CLIENT && pg->from_pooler)
		return "the client is a pooler";
	if (to == CLIENT && pg->strict != PG_NOT_STRICT && !pg->in_both)
		return pg->strict == PG_WAITS_FOR_NOTIFICATIONS ? "the client waits for notifications" : "the client uses function calls";
	if (pg->in_both)
		return "replication: both ends send their own";
	if (pg->in_copy || pg->ledger.copying)
		return "COPY running";
	if (!pg_ledger_is_idle(&pg->ledger))
		return "statement running";
	if (pg->status != 'I')
		return "in a transaction";
	return to == CLIENT ? "no parameter to repeat" : "replies cannot be recognized";
}

bool
pg_said_goodbye(const void *state, enum side from)
{
	const struct pg *pg = state;

	return from == CLIENT ? pg->client_ended : pg->server_ended;
}

/*
 * Outside a statement and a transaction. Replication is never at rest, so it may end between two messages: a
 * standby connects again, and goes on where it was.
 */
enum codec_rest
pg_rest(const void *state)
{
	const struct pg *pg = state;
	const bool between = pg_at_boundary(&pg->stream[CLIENT]) && (pg_at_boundary(&pg->stream[BACKEND]) || pg->stream[BACKEND].ours);

	if (pg->passthrough != NULL)
		return REST_UNSURE;
	if (pg->phase != PG_READY || is_closing(pg) || !between)
		return REST_NONE;
	if (pg->in_both)
		return REST_SURE;
	if (pg->in_copy || pg->ledger.copying || pg->status != 'I' || !pg_ledger_is_idle(&pg->ledger))
		return REST_NONE;
	return pg->ledger.unsure ? REST_UNSURE : REST_SURE;
}

/* ---- heartbeats ---- */

static size_t
heartbeat_client(struct pg *pg, uint8_t *buf)
{
	const char *name = pg_param_name(pg);
	const size_t len = strlen(name) + 1;

	promise_or(pg->value_len > 0 && pg->value_len <= PG_VALUE_MAX && pg->value[pg->value_len - 1] == '\0', 0);
	memcpy(buf + PG_HEAD_TYPED, name, len);
	memcpy(buf + PG_HEAD_TYPED + len, pg->value, pg->value_len);
	return put_head(buf, 'S', len + pg->value_len);
}

/* A walsender's keepalive: its kind, the last reported end of WAL and time, no reply wanted. */
static size_t
heartbeat_receiver(struct pg *pg, uint8_t *buf)
{
	uint8_t *body = buf + PG_HEAD_TYPED;

	promise(pg->has_wal && pg->both_from[BACKEND]);
	body[0] = 'k';
	memcpy(body + 1, pg->wal + 8, 16);
	body[17] = 0;
	return put_head(buf, 'd', 18);
}

/* The standby's own last report; any other numbers would be false. */
static size_t
heartbeat_walsender(struct pg *pg, uint8_t *buf)
{
	uint8_t *body = buf + PG_HEAD_TYPED;

	promise(pg->has_standby && pg->both_from[CLIENT]);
	body[0] = 'r';
	memcpy(body + 1, pg->standby, PG_STANDBY_LEN);
	body[1 + PG_STANDBY_LEN] = 0;
	return put_head(buf, 'd', 1 + PG_STANDBY_LEN + 1);
}

size_t
pg_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t *buf)
{
	struct pg *pg = state;

	promise_or((pg_may_heartbeat(state, to) & kind) != 0, 0);	/* between two messages */
	if (to == CLIENT)
		return pg->in_both ? heartbeat_receiver(pg, buf) : heartbeat_client(pg, buf);
	if (pg->in_both)
		return heartbeat_walsender(pg, buf);
	if (kind == HEARTBEAT_PING || is_rearm_due(pg)) {
		promise_or(pg->syncs_due < UINT8_MAX && pg_ledger_is_idle(&pg->ledger), 0);	/* its reply is known by its place */
		pg->syncs_due++;
		pg->timer_is_off = false;
		return put_head(buf, 'S', 0);
	}
	if (!pg->in_transaction && pg_ledger_is_due(&pg->ledger))
		pg->timer_is_off = true;
	return put_head(buf, 'H', 0);
}

/* ---- close messages ---- */

/* Appends a field of an ErrorResponse, or a string with its NUL when type is NUL; what does not fit is cut. */
/* The flow ends because a peer is dead, not for idleness or by the operator. */
static bool
is_death(const struct codec_close_info *info)
{
	const char *leg = side_name(info->dead);

	return strncmp(info->reason, leg, strlen(leg)) == 0 && strstr(info->reason, "-idle") == NULL;
}

/*
 * For a dead server the SQLSTATE is 08006, connection_failure, on which pools
 * discard a connection. The others are those of a server that ends a session
 * itself.
 */
static const char *
put_cause(const struct codec_close_info *info, char *text, size_t size)
{
	if (is_death(info)) {
		snprintf(text, size, "terminating connection: stent found the database server dead "
		    "(%s, idle for %lld.%lld s)", info->reason,
		    (long long)(info->idle_ms / 1000), (long long)(info->idle_ms % 1000 / 100));
		return "08006";
	}
	if (strstr(info->reason, "-idle") != NULL) {
		snprintf(text, size, "terminating connection: idle for too long (stent: %s)", info->reason);
		return "57P05";
	}
	snprintf(text, size, "terminating connection: closed by stent (%s)", info->reason);
	return "57P01";
}

static size_t
close_message_client(const struct pg *pg, const struct codec_close_info *info, uint8_t *buf)
{
	const struct pg_stream *s = &pg->stream[BACKEND];
	const char *state;
	char text[256];

	if ((pg->phase != PG_LOGIN && pg->phase != PG_READY) || !(pg_at_boundary(s) || s->ours || pg->holds_auth))
		return 0;
	state = put_cause(info, text, sizeof(text));
	return pg_fatal(buf, CODEC_CLOSE_MESSAGE_MAX, state, text,
	    "The session is lost, with any open transaction. Connect again.");
}

/* Terminate; a COPY that waits for rows is failed first, by a CopyFail. */
static size_t
close_message_backend(const struct pg *pg, const struct codec_close_info *info, uint8_t *buf)
{
	char text[128];
	size_t n = 0;

	if (pg->phase != PG_READY || !pg_at_boundary(&pg->stream[CLIENT]) || pg->client_ended)
		return 0;
	if (pg->ledger.copying && !pg->in_both) {
		snprintf(text, sizeof(text), "stent %s (%s)", is_death(info) ? "found the client dead" : "ends the session",
		    info->reason);
		n = strlen(text) + 1;
		memcpy(buf + PG_HEAD_TYPED, text, n);
		n = put_head(buf, 'f', n);
	}
	return n + put_head(buf + n, 'X', 0);
}

size_t
pg_close_message(void *state, enum side to, const struct codec_close_info *info, uint8_t *buf)
{
	const struct pg *pg = state;

	if (pg->passthrough != NULL)
		return 0;
	return to == CLIENT ? close_message_client(pg, info, buf) : close_message_backend(pg, info, buf);
}

size_t
pg_cancel(const void *state, uint8_t *buf)
{
	const struct pg *pg = state;
	const size_t len = 12u + pg->key_len;

	/* After Terminate the work is meant to be finished. */
	if (pg->phase != PG_READY || pg->key_len == 0 || pg_ledger_is_idle(&pg->ledger) || pg->client_ended)
		return 0;
	promise_or(pg->key_len <= PG_KEY_MAX && len <= PG_CANCEL_MAX, 0);
	put32(buf, (uint32_t)len);
	put32(buf + 4, PG_CODE_CANCEL);
	put32(buf + 8, pg->pid);
	memcpy(buf + 12, pg->key, pg->key_len);
	return len;
}
