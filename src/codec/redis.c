/*
 * redis.c - Redis and Valkey: the heartbeats, and their replies taken out again.
 *
 * Ping: PING, which every server and proxy knows. Its reply is recognized by its
 * place, as replies come in the order of the commands: so only while every
 * command is known to get one reply (redis_ledger.c). One-way, opt-in: an empty
 * line, which a real server skips, but proxies close at (twemproxy) or reply to
 * (Envoy); a reply while nothing is due, after empty lines, is to one of them.
 * Neither is sent after a command that affects only the next one, nor while a
 * command runs, unless configured; nor on a replication link, where a master
 * takes any byte for a sign of life (repl-timeout).
 *
 * To the client, opt-in: a RESP3 push of a kind that clients ignore.
 */
#include <stdio.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/redis.h"
#include "stent/promise.h"

#define PINGS_DUE_MAX 100

/* The replies to PING, distinguished by their first bytes. */
static const char *const pongs[] = {
	"+PONG\r\n",
	"*2\r\n$4\r\npong\r\n$0\r\n\r\n",	/* to a RESP2 subscriber */
	"$4\r\nPONG\r\n",
};

#define N_PONGS (sizeof(pongs) / sizeof(pongs[0]))

_Static_assert(PINGS_DUE_MAX < UINT8_MAX, "`pings_due` counts them");
_Static_assert(REDIS_HEAD_MAX == sizeof("ERR unkn") - 1, "errors are told apart by a whole head");

static const char *const refusals[REFUSED_COUNT] = {
	[REFUSED_PERMISSION] = "this user has no permission for PING",
	[REFUSED_UNKNOWN] = "PING is refused",
	[REFUSED_ODDLY] = "unexpected reply to PING",
	[REFUSED_LINE] = "an empty line gets a reply: set backend.heartbeat_kind = ping",
	[REFUSED_LATE] = "an extra reply after an empty line: set backend.heartbeat_kind = ping",
};

/* No reply to a heartbeat is due, nor held back. */
static bool
nothing_outstanding(const struct redis *s)
{
	return s->pings_due == 0 && !s->in_our_line;
}

/* Replies are no longer counted. */
static bool
is_stream(const struct redis *s)
{
	return s->stream && nothing_outstanding(s);
}

/* Every command has certainly got its reply: one that comes now is to a heartbeat. */
static bool
nothing_due(const struct redis *s)
{
	return s->sent == s->done && s->confirms == 0 && s->leaving == 0 && !s->count_is_unsure &&
	    !s->stream && !s->reply_off && !s->silence_is_unconfirmed && !s->hello_due;
}

/* --- replies to heartbeats --- */

static void
refuse(struct redis *s, enum redis_refusal why)
{
	promise_void(why > REFUSED_NOT && why < REFUSED_COUNT);
	s->refusal = (uint8_t)why;
	s->no_ping = true;
}

/*
 * An error is a reply, too, usually due to a temporary state: a code in capitals
 * (LOADING, BUSY, MASTERDOWN, MISCONF) before its text. PING itself is refused
 * if this user may not send it (the server logs each try); or if there is no
 * code but ERR: at once if the command is unknown, else the second time.
 */
static void
judge_error(struct redis *s)
{
	const char *head = s->reply.head;
	const size_t len = s->reply.head_len;
	const bool is_err = len >= 3 && memcmp(head, "ERR", 3) == 0;
	const bool is_second = is_err && s->ping_failed;

	promise(len <= REDIS_HEAD_MAX && s->reply.reply_type == '-');
	s->ping_failed = is_err;
	if (len >= 6 && memcmp(head, "NOPERM", 6) == 0)
		refuse(s, REFUSED_PERMISSION);
	else if (len >= 6 && memcmp(head, "NOAUTH", 6) == 0)
		s->logged_in = false;
	else if (is_second || len < 2 || head[0] < 'A' || head[0] > 'Z' || head[1] < 'A' ||
	    head[1] > 'Z' || (len == REDIS_HEAD_MAX && memcmp(head, "ERR unkn", REDIS_HEAD_MAX) == 0))
		refuse(s, REFUSED_UNKNOWN);
}

static void
count_reply(struct redis *s, struct codec_out *out)
{
	promise_void(s->pings_due > 0 || s->empty_lines > 0);
	if (s->pings_due > 0)
		s->pings_due--;
	else
		s->empty_lines--;
	out->replies++;
}

/* A line that replies to a heartbeat is known by its first byte: nothing of it is held. */
static const uint8_t *
take_line(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	const uint8_t *const from = p;

	promise_or(s->held == 0 && s->reply.head_len <= REDIS_HEAD_MAX, end);
	for (; p < end && *p != '\n'; p++)
		if (s->reply.head_len < REDIS_HEAD_MAX)
			s->reply.head[s->reply.head_len++] = (char)*p;
	out->left_out += (size_t)(p - from) + (p < end);
	if (p == end)
		return p;
	s->in_our_line = false;
	if (s->refusal == REFUSED_NOT && s->reply.reply_type == '-')
		judge_error(s);
	return p + 1;
}

static const uint8_t *
begin_line(struct redis *s, const uint8_t *p, struct codec_out *out)
{
	const bool is_pong = s->pings_due > 0;

	promise(!s->in_our_line && s->held == 0 && redis_reply_boundary(s));
	s->in_our_line = true;
	s->reply.head_len = 0;
	s->reply.reply_type = *p;
	count_reply(s, out);
	if (!is_pong)
		refuse(s, REFUSED_LINE);
	else if (*p != '-')
		refuse(s, REFUSED_ODDLY);
	return p + 1;
}

/* What is held is no reply to a heartbeat: it is read now, and emitted. */
static void
release(struct redis *s, struct codec_out *out)
{
	const uint8_t *text = (const uint8_t *)pongs[s->held_text];
	const uint8_t *end = text + s->held;

	promise_void(s->held > 0 && s->held < strlen(pongs[s->held_text]));
	codec_emit_copy(out, text, s->held);
	s->held = 0;
	if (!redis_may_get_messages(s))
		redis_reply_passthrough(s, "a reply without a command");
	else
		(void)redis_reply_read(s, text, end);
}

/* Not the text of a reply to PING; but a line in its place is still the reply. */
static const uint8_t *
differs(struct redis *s, const uint8_t *p, struct codec_out *out)
{
	static const uint8_t plus = '+';

	if (pongs[s->held_text][0] != '+') {
		release(s, out);
		return p;
	}
	out->left_out += s->held;
	s->held = 0;
	(void)begin_line(s, &plus, out);
	return p;
}

static const uint8_t *
take_pong(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	const char *text = s->held_text < N_PONGS ? pongs[s->held_text] : "";

	promise_or(s->held < strlen(text) && s->pings_due > 0 && !s->in_our_line, end);
	for (; p < end; p++) {
		if (*p != (uint8_t)text[s->held])
			return differs(s, p, out);
		if (text[++s->held] == '\0') {
			out->left_out += s->held;
			s->held = 0;
			s->ping_failed = false;
			count_reply(s, out);
			return p + 1;
		}
	}
	return p;
}

static const uint8_t *
take_reply(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	if (s->in_our_line)
		return take_line(s, p, end, out);
	if (s->held > 0)
		return take_pong(s, p, end, out);
	if (*p == '-' || *p == ':' || s->pings_due == 0) {
		out->left_out++;
		return begin_line(s, p, out);
	}
	for (size_t i = 0; i < N_PONGS; i++) {
		if (*p == (uint8_t)pongs[i][0]) {
			s->held_text = (uint8_t)i;
			return take_pong(s, p, end, out);
		}
	}
	redis_reply_passthrough(s, "a reply without a command");
	return p;
}

/* This byte begins, or continues, a reply to a heartbeat. */
static bool
is_ours(const struct redis *s, uint8_t first)
{
	if (s->in_our_line || s->held > 0)
		return true;
	if (!redis_reply_boundary(s) || first == '>')
		return false;
	if (s->pings_due > 0)
		return s->done == s->ping_at;
	return s->empty_lines > 0 && nothing_due(s) && redis_command_boundary(s) &&
	    (first == '-' || first == '+' || first == ':');
}

void
redis_reply_passthrough(struct redis *s, const char *why)
{
	if (s->passthrough == NULL)
		s->passthrough = why;
	s->pings_due = 0;	/* replies cannot be recognized any more */
	s->empty_lines = 0;
}

/* The rest of both streams is not read any more. */
static bool
is_passthrough(const struct redis *s)
{
	return s->passthrough != NULL && nothing_outstanding(s);
}

static size_t
feed_backend(struct redis *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const uint8_t *p = buf, *unsent = buf, *end = buf + len;
	const size_t before = s->held + codec_accounted(out);

	promise(s->pings_due <= PINGS_DUE_MAX && (s->held == 0 || (s->pings_due > 0 && !s->in_our_line)));
	while (p < end && !is_passthrough(s) && !promise_is_broken()) {
		if (is_stream(s)) {
			s->heard = true;
			p = end;
		} else if (!is_ours(s, *p)) {
			p = redis_reply_read(s, p, end);
		} else if (!codec_out_has_room(out)) {
			break;
		} else {
			codec_emit(out, unsent, (size_t)(p - unsent));
			p = unsent = take_reply(s, p, end, out);
		}
	}
	codec_emit(out, unsent, (size_t)(p - unsent));
	promise(before + (size_t)(p - buf) == s->held + codec_accounted(out));	/* every byte is emitted, held, or of a reply */
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
	promise_or(s->refusal < REFUSED_COUNT && (s->refusal != REFUSED_NOT || refusal == REFUSED_NOT), n);
	if (s->refusal != refusal)
		out->refused = refusals[s->refusal];
	promise(!is_passthrough(s) || s->held == 0);
	if (is_passthrough(s))
		out->passthrough = s->passthrough;
	return n;
}

static void
redis_finish(void *state, enum side from, struct codec_out *out)
{
	struct redis *s = state;

	if (from == BACKEND && s->held > 0) {
		codec_emit_copy(out, pongs[s->held_text], s->held);
		s->held = 0;
		s->count_is_unsure = true;	/* the client is inside a reply: no close message may follow */
	}
}

static uint64_t
redis_skippable(const void *state, enum side from)
{
	const struct redis *s = state;

	if (s->passthrough != NULL)
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

/* Why none may go to the client; NULL: one may go. */
static const char *
why_no_push(const struct redis *s)
{
	if (!s->client_oneway)
		return "none is configured for Redis clients";
	if (!s->resp3 || s->hello_due)
		return "the client does not speak RESP3";
	if (s->no_push || s->stream)
		return "it is not certain that pushes are legal";
	if (redis_is_busy(s) && !s->while_busy[CLIENT])
		return "command running";
	return redis_reply_boundary(s) ? NULL : "inside a reply";
}

/* Why PING may not go out where why_nothing() has no objection; NULL: it may. */
static const char *
why_no_ping(const struct redis *s)
{
	if (s->refusal != REFUSED_NOT)
		return refusals[s->refusal];
	if (s->replica)
		return "replication link";
	if (s->stream && !s->count_is_unsure)
		return "MONITOR, or a subscription kept by HELLO 2";
	if (s->count_is_unsure || s->no_ping)
		return "replies can no longer be counted";
	if (!s->logged_in)
		return "no login so far";
	if (s->in_multi)
		return "in a transaction, where PING would be queued";
	if (s->reply_off)
		return "CLIENT REPLY OFF";
	if (s->hello_due || s->confirms > 0 || s->leaving > 0)
		return "command running";
	if (s->pings_due > 0 && (s->ping_at != s->sent || s->pings_due >= PINGS_DUE_MAX))
		return "replies to PING are due";
	return NULL;
}

/* Why neither kind may go to the server; NULL: it depends on the kind. */
static const char *
why_nothing(const struct redis *s)
{
	if (!s->started)
		return "no command so far";
	if (!redis_command_boundary(s))
		return "inside a command";
	if (s->one_shot != 0)
		return "after a command that holds for the next one only";
	if (s->replica)
		return "replication link";
	if (redis_is_busy(s) && !s->while_busy[BACKEND])
		return "command running";
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

	if (s->passthrough != NULL || s->quit)
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
	if (s->passthrough != NULL)
		return s->passthrough;
	if (s->quit)
		return "QUIT was sent";
	if (to == CLIENT)
		return why_no_push(s);
	return why_nothing(s) != NULL ? why_nothing(s) : why_no_ping(s);
}

/* A server that rejects a client first sends an error, then closes with its command unread, which is a reset. */
static bool
redis_said_goodbye(const void *state, enum side from)
{
	const struct redis *s = state;

	return s->quit || (from == BACKEND && s->rejected);
}

static size_t
redis_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";
	static const char push[] = ">2\r\n$2\r\nhb\r\n$1\r\n1\r\n";
	struct redis *s = state;
	const char *text = to == CLIENT ? push : "\r\n";

	promise_or((redis_may_heartbeat(state, to) & kind) != 0, 0);
	if (kind == HEARTBEAT_PING) {
		promise_or(to == BACKEND && s->pings_due < PINGS_DUE_MAX, 0);
		promise(s->pings_due == 0 || s->ping_at == s->sent);	/* all replies come in one place */
		text = ping;
		s->pings_due++;
		s->ping_at = s->sent;
	} else if (to == BACKEND) {
		s->sent_oneway_ever = true;
		if (!nothing_due(s))
			s->empty_lines = 0;
		else if (s->empty_lines < UINT8_MAX)
			s->empty_lines++;
	}
	memcpy(buf, text, strlen(text));
	return strlen(text);
}

/* After a command that still runs PING waits for its turn, however long that takes. */
static bool
redis_awaits_reply(const void *state, enum side by, bool pinged)
{
	const struct redis *s = state;

	return by == BACKEND && pinged && s->pings_due > 0 && s->done == s->ping_at;
}

/* A subscriber is at rest between two messages. */
static enum codec_rest
redis_rest(const void *state)
{
	const struct redis *s = state;

	if (s->passthrough != NULL)
		return REST_UNSURE;
	if (!redis_command_boundary(s) || !redis_reply_boundary(s) || s->in_multi || s->quit || s->one_shot != 0 || redis_is_busy(s))
		return REST_NONE;
	return s->stream || s->count_is_unsure ? REST_UNSURE : REST_SURE;
}

/* An error in reply to the command that runs. Without one the client would take it for the reply to its next. */
static size_t
redis_close_message(void *state, enum side to, const struct codec_close_info *info,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	const struct redis *s = state;
	int n;

	if (to != CLIENT || s->stream || s->has_messages || s->count_is_unsure || s->passthrough != NULL || s->sent == s->done ||
	    !redis_reply_boundary(s))
		return 0;
	n = snprintf((char *)buf, CODEC_CLOSE_MESSAGE_MAX,
	    "-ERR stent: lost the connection to the server (%s), which was idle for %lld.%lld s; "
	    "the command may have run\r\n",
	    info->reason, (long long)(info->idle_ms / 1000), (long long)(info->idle_ms % 1000 / 100));
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
	.rest = redis_rest,
	.close_message = redis_close_message,
};
