/*
 * redis.c - Redis and Valkey: the heartbeats, and the replies taken out again.
 *
 * Ask: PING. Every server and every proxy of this protocol knows it. Its reply
 * is known by its place: replies come in the order of the commands, so with
 * nothing else outstanding the next reply is ours. That holds only while every
 * command is known to draw one reply. Where it might draw none, or several, or
 * one that depends on what went before, asking ends or waits: transactions,
 * MONITOR, CLIENT REPLY, a login not yet proved. To a RESP2 subscriber the
 * reply is an array of its own, between arrays that are messages.
 *
 * Tell, if the operator chose it: an empty line (CR LF) between two commands. A
 * real server skips it: no command, no reply, nothing in MONITOR or in a
 * transaction. But proxies close at it (twemproxy) or reply by an error
 * (Envoy), and no reply that may come from behind a proxy says that there is
 * none. So it never goes out unless it was chosen, nor in the place of PING.
 * It uses up the flags that hold for one command only (CLIENT REPLY SKIP,
 * CLIENT CACHING, ASKING), as PING does, so neither goes out behind these.
 *
 * A reply that comes while nothing is outstanding, and our empty lines were the
 * last that went out, is the reply to one: it is taken out, and the server gets
 * no more.
 *
 * While a command runs there is none unless wanted (while_busy): PING is then
 * sent behind the command and its reply expected behind the command's.
 *
 * On a replication link none goes either way. A master takes any byte for a
 * sign of the replica: one that hangs would look alive (repl-timeout,
 * min-replicas-max-lag), and one that waits for its data would be put off, for
 * the master begins when it has been quiet for repl-diskless-sync-delay. Nor
 * is one needed: both talk of themselves, in every phase.
 *
 * To the client nothing by default. In RESP3 a push of an unknown kind is
 * ignored by the clients that were tried, but that is for the operator to say.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/redis.h"

#define ASKED_MAX 100

/* How PING is replied to: the first byte tells which of them it may be. */
static const char *const pongs[] = {
	"+PONG\r\n",
	"*2\r\n$4\r\npong\r\n$0\r\n\r\n",	/* to a RESP2 subscriber */
	"$4\r\nPONG\r\n",
};

#define N_PONGS (sizeof(pongs) / sizeof(pongs[0]))

static const char *const refusals[REFUSED_COUNT] = {
	[REFUSED_PERMISSION] = "this user may not PING",
	[REFUSED_UNKNOWN] = "PING is refused",
	[REFUSED_ODDLY] = "PING is replied to by something else",
	[REFUSED_LINE] = "an empty line is replied to: set backend.heartbeat_kind = ping",
	[REFUSED_LATE] = "a reply too many, behind an empty line: set backend.heartbeat_kind = ping",
};

/* Nothing of ours is among the bytes to come, nor held back. */
static bool
nothing_outstanding(const struct redis *s)
{
	return s->asked == 0 && !s->taking;
}

/* Replies are no longer counted. */
static bool
is_stream(const struct redis *s)
{
	return s->stream && nothing_outstanding(s);
}

/* Every command was replied to, and that is certain: a reply that comes now is to something of ours, or to nothing. */
static bool
owes_nothing(const struct redis *s)
{
	return s->sent == s->done && s->confirms == 0 && s->leaving == 0 && !s->unsure &&
	    !s->stream && !s->muted && !s->wary && !s->hello_due;
}

/* --- replies to what we sent --- */

static void
refuse(struct redis *s, enum redis_refusal why)
{
	s->refusal = (uint8_t)why;
	s->no_ping = true;
}

/*
 * An error is a reply as well, and mostly tells of a state that passes: a code
 * in capitals (LOADING, BUSY, MASTERDOWN, MISCONF) before its text. It means
 * the PING itself when this user may not, and each try is written down at the
 * server; or when there is no code, or none but ERR, at once if the command is
 * unknown, else at the second time.
 */
static void
judge_error(struct redis *s)
{
	const char *head = s->reply.head;
	const size_t len = s->reply.head_len;
	const bool is_err = len >= 3 && memcmp(head, "ERR", 3) == 0;
	const bool is_second = is_err && s->erred;

	s->erred = is_err;
	if (len >= 6 && memcmp(head, "NOPERM", 6) == 0)
		refuse(s, REFUSED_PERMISSION);
	else if (len >= 6 && memcmp(head, "NOAUTH", 6) == 0)
		s->proved = false;
	else if (is_second || len < 2 || head[0] < 'A' || head[0] > 'Z' || head[1] < 'A' ||
	    head[1] > 'Z' || (len == REDIS_HEAD_MAX && memcmp(head, "ERR unkn", REDIS_HEAD_MAX) == 0))
		refuse(s, REFUSED_UNKNOWN);
}

static void
answer_came(struct redis *s, struct codec_out *out)
{
	assert(s->asked > 0 || s->told > 0);
	if (s->asked > 0)
		s->asked--;
	else
		s->told--;
	out->replies++;
}

/* A line that is a reply to us is one from its first byte on: nothing of it has to be held. */
static const uint8_t *
take_line(struct redis *s, const uint8_t *p, const uint8_t *end)
{
	for (; p < end && *p != '\n'; p++)
		if (s->reply.head_len < REDIS_HEAD_MAX)
			s->reply.head[s->reply.head_len++] = (char)*p;
	if (p == end)
		return p;
	s->taking = false;
	if (s->refusal == REFUSED_NOT && s->reply.reply_type == '-')
		judge_error(s);
	return p + 1;
}

static const uint8_t *
begin_line(struct redis *s, const uint8_t *p, struct codec_out *out)
{
	const bool is_pong = s->asked > 0;

	s->taking = true;
	s->reply.head_len = 0;
	s->reply.reply_type = *p;
	answer_came(s, out);
	if (!is_pong)
		refuse(s, REFUSED_LINE);
	else if (*p != '-')
		refuse(s, REFUSED_ODDLY);
	return p + 1;
}

/* What is held is none of ours: the reader gets it now, the client too. */
static void
give_back(struct redis *s, struct codec_out *out)
{
	const uint8_t *text = (const uint8_t *)pongs[s->held_text];
	const uint8_t *end = text + s->held;

	codec_emit_copy(out, text, s->held);
	s->held = 0;
	if (!redis_is_listening(s))
		redis_reply_doubt(s, "a reply that no command asked for");
	else
		(void)redis_reply_read(s, text, end);
}

/* A text that differs from what it began like: as a line it is a reply all the same, by its place. */
static const uint8_t *
differs(struct redis *s, const uint8_t *p, struct codec_out *out)
{
	static const uint8_t plus = '+';

	if (pongs[s->held_text][0] != '+') {
		give_back(s, out);
		return p;
	}
	s->held = 0;
	(void)begin_line(s, &plus, out);
	return p;
}

static const uint8_t *
take_pong(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	const char *text = pongs[s->held_text];

	for (; p < end; p++) {
		if (*p != (uint8_t)text[s->held])
			return differs(s, p, out);
		if (text[++s->held] == '\0') {
			s->held = 0;
			s->erred = false;
			answer_came(s, out);
			return p + 1;
		}
	}
	return p;
}

static const uint8_t *
take_answer(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	if (s->taking)
		return take_line(s, p, end);
	if (s->held > 0)
		return take_pong(s, p, end, out);
	if (*p == '-' || *p == ':' || s->asked == 0)
		return begin_line(s, p, out);
	for (size_t i = 0; i < N_PONGS; i++) {
		if (*p == (uint8_t)pongs[i][0]) {
			s->held_text = (uint8_t)i;
			return take_pong(s, p, end, out);
		}
	}
	redis_reply_doubt(s, "a reply that no command asked for");
	return p;
}

/* The byte at hand, between two replies, begins one that is to us. */
static bool
is_ours(const struct redis *s, uint8_t first)
{
	if (s->taking || s->held > 0)
		return true;
	if (!redis_reply_boundary(s) || first == '>')
		return false;
	if (s->asked > 0)
		return s->done == s->ask_at;
	return s->told > 0 && owes_nothing(s) && redis_command_boundary(s) &&
	    (first == '-' || first == '+' || first == ':');
}

void
redis_reply_doubt(struct redis *s, const char *why)
{
	if (s->why == NULL)
		s->why = why;
	s->asked = 0;	/* replies to us cannot be told from other bytes any more */
	s->told = 0;
}

static bool
is_lost(const struct redis *s)
{
	return s->why != NULL && nothing_outstanding(s);
}

static size_t
feed_backend(struct redis *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const uint8_t *p = buf, *from = buf, *end = buf + len;

	while (p < end && !is_lost(s)) {
		if (is_stream(s)) {
			s->heard = true;
			p = end;
		} else if (!is_ours(s, *p)) {
			p = redis_reply_read(s, p, end);
		} else if (!codec_out_has_room(out)) {
			break;
		} else {
			codec_emit(out, from, (size_t)(p - from));
			p = take_answer(s, p, end, out);
			from = p;
		}
	}
	codec_emit(out, from, (size_t)(p - from));
	return (size_t)(p - buf);
}

static size_t
redis_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct redis *s = state;
	const uint8_t refusal = s->refusal;
	size_t n = len;

	if (from == BACKEND) {
		n = feed_backend(s, buf, len, out);
	} else {
		redis_commands_read(s, buf, buf + len);
		codec_emit(out, buf, len);
	}
	if (s->refusal != refusal)
		out->refused = refusals[s->refusal];
	if (is_lost(s))
		out->passthrough = s->why;
	return n;
}

static void
redis_finish(void *state, enum side from, struct codec_out *out)
{
	struct redis *s = state;

	if (from == BACKEND && s->held > 0) {
		codec_emit_copy(out, pongs[s->held_text], s->held);
		s->held = 0;
		s->unsure = true;	/* the client is inside a reply: no farewell follows */
	}
}

static uint64_t
redis_skippable(const void *state, enum side from)
{
	const struct redis *s = state;

	if (s->why != NULL)
		return 0;
	if (from == CLIENT)
		return redis_command_skippable(s);
	return is_stream(s) ? UINT64_MAX : redis_reply_skippable(s);
}

static void
redis_skipped(void *state, enum side from, uint64_t n)
{
	struct redis *s = state;

	if (from == CLIENT)
		redis_command_skipped(s, n);
	else if (!is_stream(s))
		redis_reply_skipped(s, n);
}

/* --- heartbeats --- */

/* Why none may go to the client; NULL: one may. */
static const char *
why_no_push(const struct redis *s)
{
	if (!s->client_oneway)
		return "none was chosen for Redis clients";
	if (!s->resp3 || s->hello_due)
		return "the client does not speak RESP3";
	if (s->no_push || s->stream)
		return "pushes are not certain to be legal";
	if (redis_is_busy(s) && !s->while_busy[CLIENT])
		return "a command runs";
	return redis_reply_boundary(s) ? NULL : "inside a reply";
}

/* Why PING may not go out, where the server may get anything at all; NULL: it may. */
static const char *
why_no_ping(const struct redis *s)
{
	if (s->refusal != REFUSED_NOT)
		return refusals[s->refusal];
	if (s->replica)
		return "a replication link";
	if (s->stream && !s->unsure)
		return "MONITOR, or a subscription that HELLO 2 left standing";
	if (s->unsure || s->no_ping)
		return "replies can no longer be counted";
	if (!s->proved)
		return "no login so far";
	if (s->in_multi)
		return "in a transaction, where PING would be queued";
	if (s->muted)
		return "CLIENT REPLY OFF";
	if (s->hello_due || s->confirms > 0 || s->leaving > 0)
		return "a command runs";
	if (s->asked > 0 && (s->ask_at != s->sent || s->asked >= ASKED_MAX))
		return "replies to PING are still to come";
	return NULL;
}

/* Why neither kind may go to the server; NULL: that depends on the kind. */
static const char *
why_nothing(const struct redis *s)
{
	if (!s->started)
		return "no command so far";
	if (!redis_command_boundary(s))
		return "inside a command";
	if (s->hold != 0)
		return "behind a command that holds for the next one alone";
	if (s->replica)
		return "a replication link";
	if (redis_is_busy(s) && !s->while_busy[BACKEND])
		return "a command runs";
	return NULL;
}

static bool
may_send_oneway(const struct redis *s)
{
	return s->may_send_oneway && s->heard && s->refusal == REFUSED_NOT;
}

static unsigned
redis_may_heartbeat(const void *state, enum side to)
{
	const struct redis *s = state;

	if (s->why != NULL || s->quit)
		return 0;
	if (to == CLIENT)
		return why_no_push(s) == NULL ? HEARTBEAT_ONEWAY : 0;
	if (why_nothing(s) != NULL)
		return 0;
	return (may_send_oneway(s) ? HEARTBEAT_ONEWAY : 0) | (why_no_ping(s) == NULL ? HEARTBEAT_PING : 0);
}

static const char *
redis_why_none(const void *state, enum side to)
{
	const struct redis *s = state;

	if (redis_may_heartbeat(state, to) != 0)
		return NULL;
	if (s->why != NULL)
		return s->why;
	if (s->quit)
		return "QUIT was sent";
	if (to == CLIENT)
		return why_no_push(s);
	return why_nothing(s) != NULL ? why_nothing(s) : why_no_ping(s);
}

/* A server that will not serve says so first, and closes with the client's command unread: a reset. */
static bool
redis_said_goodbye(const void *state, enum side from)
{
	const struct redis *s = state;

	return s->quit || (from == BACKEND && s->dismissed);
}

static size_t
redis_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";
	static const char push[] = ">2\r\n$2\r\nhb\r\n$1\r\n1\r\n";
	struct redis *s = state;
	const char *text = to == CLIENT ? push : "\r\n";

	if (kind == HEARTBEAT_PING) {
		assert(s->asked == 0 || s->ask_at == s->sent);	/* all are replied to in one place */
		text = ping;
		s->asked++;
		s->ask_at = s->sent;
	} else if (to == BACKEND) {
		s->sent_oneway_ever = true;
		if (!owes_nothing(s))
			s->told = 0;
		else if (s->told < UINT8_MAX)
			s->told++;
	}
	memcpy(buf, text, strlen(text));
	return strlen(text);
}

/* Behind a command that still runs our PING waits for its turn, however long that is. */
static bool
redis_awaits_reply(const void *state, enum side by, bool asked)
{
	const struct redis *s = state;

	return by == BACKEND && asked && s->asked > 0 && s->done == s->ask_at;
}

/* An error to the command that the client waits for. Who waits for none would take it for the reply to his next. */
static size_t
redis_close_message(void *state, enum side to, const struct codec_close_info *o,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	const struct redis *s = state;
	int n;

	if (to != CLIENT || s->stream || s->listening || s->unsure || s->why != NULL || s->sent == s->done ||
	    !redis_reply_boundary(s))
		return 0;
	n = snprintf((char *)buf, CODEC_CLOSE_MESSAGE_MAX,
	    "-ERR stent: lost the connection to the server (%s), which was quiet for %lld.%lld s; "
	    "the command may have run\r\n",
	    o->reason, (long long)(o->quiet_ms / 1000), (long long)(o->quiet_ms % 1000 / 100));
	return n > 0 && n < CODEC_CLOSE_MESSAGE_MAX ? (size_t)n : 0;
}

static bool
redis_configure(void *state, const struct codec_settings *settings)
{
	struct redis *s = state;

	s->client_oneway = settings->kind[CLIENT] == HEARTBEAT_ONEWAY;
	s->may_send_oneway = settings->kind[BACKEND] == HEARTBEAT_ONEWAY;
	memcpy(s->while_busy, settings->while_busy, sizeof(s->while_busy));
	return true;
}

const struct codec codec_redis = {
	.name = "redis",
	.client_speaks = true,
	.summary = "Redis, Valkey, their proxies: PING, or an empty line between commands",
	.state_size = sizeof(struct redis),
	.leg = {
		[CLIENT] = { .kinds = HEARTBEAT_ONEWAY },
		[BACKEND] = { .kinds = HEARTBEAT_ONEWAY | HEARTBEAT_PING, .kind = HEARTBEAT_PING, .interval_ms = 60000 },
	},
	.configure = redis_configure,
	.feed = redis_feed,
	.finish = redis_finish,
	.skippable = redis_skippable,
	.skipped = redis_skipped,
	.may_heartbeat = redis_may_heartbeat,
	.why_none = redis_why_none,
	.said_goodbye = redis_said_goodbye,
	.heartbeat = redis_heartbeat,
	.awaits_reply = redis_awaits_reply,
	.close_message = redis_close_message,
};
