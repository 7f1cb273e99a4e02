/*
 * postgres.c - PostgreSQL's protocol, version 3: the streams.
 *
 * A session opens with one packet without a type from the client (after any
 * number of requests for encryption, each replied to by one byte); from then on
 * both sides send messages: a type, a length, a body. Heads are gathered,
 * bodies are counted, and the first bytes of a few kinds are read
 * (postgres_messages.c). Nothing is copied or held back, except the
 * ReadyForQuery that replies to our own Sync, or an error in its place: its
 * bytes are left out as they arrive. If it turns out not to be ours, they are
 * still in the head, and are sent after all. Where stent terminates TLS, the list of
 * login methods is held back too (postgres_scram.c).
 */
#include <string.h>

#include "codec/codecs.h"
#include "codec/postgres.h"
#include "stent/negotiation.h"
#include "stent/promise.h"

static bool
pg_configure(void *state, const struct codec_settings *settings)
{
	struct pg *pg = state;

	pg->heartbeats[CLIENT] = settings->heartbeats[CLIENT];
	pg->heartbeats[BACKEND] = settings->heartbeats[BACKEND];
	pg->in_transaction = settings->in_transaction;
	pg->busy_client = settings->while_busy[CLIENT];
	pg->busy_backend = settings->while_busy[BACKEND];
	pg->oneway_is_chosen = settings->kind[BACKEND] == HEARTBEAT_ONEWAY;
	return true;
}

void
pg_passthrough(struct pg *pg, enum side from, const char *reason)
{
	if (pg->passthrough == NULL)
		pg->passthrough = reason;
	if (from == BACKEND)
		pg->syncs_due = 0;		/* the replies cannot be recognized any more */
}

/* What comes from that side is not read: after a cancel request, or before passthrough. */
static bool
is_blind(const struct pg *pg, enum side from)
{
	if (pg->phase == PG_CANCEL)
		return true;
	return pg->passthrough != NULL && (from == CLIENT || (pg->syncs_due == 0 && !pg->holds_auth));
}

/* The next head byte of a side. */
static size_t
gather_head(struct pg *pg, enum side from, const uint8_t *p, size_t len)
{
	struct pg_stream *s = &pg->stream[from];
	size_t size = pg_head_size(pg, from), n;

	promise_or(size <= sizeof(s->head) && (size == 0 || s->got < size), 0);
	if (size == 0) {
		pg_passthrough(pg, from, from == CLIENT ? "the client did not wait for the server's reply" :
		    "the server spoke before the client");
		return 0;
	}
	if (s->got == 0) {
		s->ours = from == BACKEND && pg->syncs_due > 0 && (*p == 'Z' || *p == 'E');
		pg->holds_auth |= from == BACKEND && pg_auth_is_held(pg, *p);
	}
	n = size - s->got < len ? size - s->got : len;
	memcpy(s->head + s->got, p, n);
	s->got = (uint8_t)(s->got + n);
	if (s->got == size) {
		s->got = 0;
		pg_begin(pg, from);
	}
	return n;
}

/* An error in place of our reply goes to the client after all: what was held of it goes first. */
static void
give_back_error(struct pg *pg, struct codec_out *out)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	promise_void(s->ours && s->type == 'E' && s->got == 0 && s->off <= sizeof(pg->held));
	s->ours = false;
	codec_emit_copy(out, s->head, PG_HEAD_TYPED);
	codec_emit_copy(out, pg->held, s->off);
}

/* Bytes of a side that were consumed and may still be emitted. */
static size_t
held(const struct pg *pg, enum side from)
{
	const struct pg_stream *s = &pg->stream[from];

	if (from == CLIENT || (!s->ours && !pg->holds_auth))
		return 0;
	if (s->got > 0)
		return s->got;
	return s->ours ? PG_HEAD_TYPED + pg_be32(s->head + 1) - 4u - s->left : PG_HEAD_TYPED + (size_t)s->off;
}

static void
leave_out_error(struct pg *pg, struct codec_out *out)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	promise(s->ours && s->type == 'E');
	out->left_out += held(pg, BACKEND);
	s->ours = false;
	out->strays++;
}

/* The message that was left out is whole, or turns out not to be ours. */
static void
settle_ours(struct pg *pg, unsigned syncs_before, struct codec_out *out)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	promise(s->ours && pg->syncs_due <= syncs_before && syncs_before > 0);
	if (pg->syncs_due == syncs_before) {
		if (s->type != 'E' || s->got > 0)
			return;
		if (pg->error.severity == PG_FATAL || (s->left == 0 && pg->error.severity == PG_UNKNOWN))
			give_back_error(pg, out);
		else if (s->left == 0)
			leave_out_error(pg, out);
		return;
	}
	if (s->off > 0)
		out->left_out += held(pg, BACKEND);
	s->ours = false;
	if (s->off > 0)
		out->replies++;
	else
		codec_emit_copy(out, s->head, PG_HEAD_TYPED);	/* it is not the reply */
}

/* Reads some of the bytes, all of one part of one message. Returns how many. */
static size_t
step(struct pg *pg, enum side from, const uint8_t *p, size_t len)
{
	struct pg_stream *s = &pg->stream[from];
	size_t n;

	if (s->left == 0)
		return gather_head(pg, from, p, len);
	if (s->look > 0) {
		pg_read_byte(pg, from, *p);
		return 1;
	}
	n = s->left < len ? s->left : len;
	if (pg_searches_sql(pg, from))
		pg_search_sql(pg, p, n);
	promise_or(n > 0 && n <= s->left && s->look == 0, 0);
	s->left -= (uint32_t)n;
	if (s->left == 0)
		pg_end(pg, from);
	return n;
}

static void
report_note(struct pg *pg, struct codec_out *out)
{
	static const char *const notes[] = {
		[PG_NOTE_POOLER] = "the server is a connection pooler: no heartbeats to the backend",
		[PG_NOTE_NO_KEY] = "the server sent no process number: no heartbeats to the backend",
		[PG_NOTE_FROM_POOLER] = "the client looks like a connection pooler: heartbeats to it only while a query runs "
		    "(if it is not one, like Go's pgx, give it a parameter that sorts after \"user\", such as work_mem)",
		[PG_NOTE_BINDING] = "the server will refuse this SCRAM login: the client supports channel binding, but has other TLS than "
		    "the server. Use channel_binding=disable at the client, or the server's own certificate as client.tls_cert",
		[PG_NOTE_LONG_LIST] = "the server's list of login methods is too long to strike SCRAM-SHA-256-PLUS from it",
	};

	promise_void(pg->note <= PG_NOTE_REPORTED);
	if (pg->note != PG_NOTE_NONE && pg->note != PG_NOTE_REPORTED) {
		out->note = notes[pg->note];
		pg->note = PG_NOTE_REPORTED;
	}
}

static size_t
pg_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct pg *pg = state;
	struct pg_stream *s = &pg->stream[from];
	const uint8_t *p = buf, *unsent = buf, *const end = buf + len;
	const size_t before = held(pg, from) + codec_accounted(out);
	const bool strikes = pg->strikes && pg->phase == PG_LOGIN;	/* a list that is made shorter */

	promise_or(s->look <= s->left && (s->got == 0 || s->left == 0) && pg->phase <= PG_CANCEL, 0);
	promise(!s->ours || (from == BACKEND && pg->syncs_due > 0));
	while (p < end && !is_blind(pg, from) && codec_out_has_room(out)) {
		const unsigned syncs_before = pg->syncs_due;
		const size_t n = step(pg, from, p, (size_t)(end - p));

		if (s->ours) {
			codec_emit(out, unsent, (size_t)(p - unsent));
			unsent = p + n;
			settle_ours(pg, syncs_before, out);
		} else if (from == BACKEND && pg->holds_auth) {
			codec_emit(out, unsent, (size_t)(p - unsent));
			unsent = p + n;
			pg_auth_settle(pg, out);
		}
		p += n;
	}
	if (is_blind(pg, from))
		p = end;
	codec_emit(out, unsent, (size_t)(p - unsent));
	report_note(pg, out);
	if (pg->refuses)
		out->refused = "it replied to a Sync with something other than ReadyForQuery";
	pg->refuses = false;
	if (pg->passthrough != NULL && pg->syncs_due == 0 && !pg->holds_auth)
		out->passthrough = pg->passthrough;
	promise(strikes || before + (size_t)(p - buf) == held(pg, from) + codec_accounted(out));	/* every byte is emitted, held, or of a reply */
	promise(out->passthrough == NULL || held(pg, from) == 0);
	return (size_t)(p - buf);
}

static void
pg_finish(void *state, enum side from, struct codec_out *out)
{
	struct pg *pg = state;
	struct pg_stream *s = &pg->stream[from];

	promise(!s->ours || from == BACKEND);
	/* Part of a reply is no reply, so it is passed on. */
	if (s->ours && s->got > 0)
		codec_emit_copy(out, s->head, s->got);
	else if (s->ours && s->left > 0 && s->type == 'E' && pg->error.severity == PG_UNKNOWN)
		give_back_error(pg, out);
	else if (s->ours && s->left > 0 && s->type == 'E')
		leave_out_error(pg, out);
	else if (s->ours && s->left > 0)
		codec_emit_copy(out, s->head, PG_HEAD_TYPED);
	else if (from == BACKEND && pg->holds_auth)
		pg_auth_give_back(pg, out);
	s->ours = false;
	s->fin = true;
}

static uint64_t
pg_skippable(const void *state, enum side from)
{
	const struct pg *pg = state;
	const struct pg_stream *s = &pg->stream[from];

	if (is_blind(pg, from))
		return UINT64_MAX;
	return s->look > 0 || s->ours || pg_searches_sql(pg, from) ? 0 : s->left;
}

static void
pg_skipped(void *state, enum side from, uint64_t n)
{
	struct pg *pg = state;
	struct pg_stream *s = &pg->stream[from];

	if (is_blind(pg, from))
		return;
	promise_void(n <= s->left && (n == 0 || (s->look == 0 && s->got == 0 && !s->ours)));
	s->left -= (uint32_t)n;
	if (n > 0 && s->left == 0)
		pg_end(pg, from);
}

const struct codec codec_postgres = {
	.name = "postgres",
	.traits = CODEC_HAS_TRANSACTIONS | CODEC_HAS_DIRECT_TLS,
	.client_speaks = true,
	.summary = "PostgreSQL, protocol 3",
	.negotiation = &negotiation_postgres,
	.alpn = { "postgresql", "postgresql" },
	.state_size = sizeof(struct pg),
	.leg = {
		[CLIENT] = { .kinds = HEARTBEAT_ONEWAY, .kind = HEARTBEAT_ONEWAY, .interval_ms = 60000 },
		[BACKEND] = { .kinds = HEARTBEAT_ONEWAY | HEARTBEAT_PING, .kind = HEARTBEAT_PING, .interval_ms = 60000 },
	},
	.configure = pg_configure,
	.tls = pg_tls,
	.feed = pg_feed,
	.finish = pg_finish,
	.skippable = pg_skippable,
	.skipped = pg_skipped,
	.may_heartbeat = pg_may_heartbeat,
	.why_none = pg_why_none,
	.said_goodbye = pg_said_goodbye,
	.heartbeat = pg_heartbeat,
	.rest = pg_rest,
	.close_message = pg_close_message,
	.cancel = pg_cancel,
};
