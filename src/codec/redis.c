/*
 * redis.c - Redis and Valkey: the beats, and the answers taken out again.
 *
 * Tell: an empty line (CR LF) between two commands. The server skips it: no
 * command, no reply, nothing in MONITOR or in a transaction. But it uses up
 * the flags that hold for one command only (CLIENT REPLY SKIP, CLIENT CACHING,
 * ASKING), so none goes out behind these.
 *
 * Ask: PING, known by its place: replies come in the order of the commands, so
 * with nothing else outstanding the next reply is ours. That holds only while
 * every command is known to draw one reply. Where it might draw none, or
 * several, or one that depends on what went before, asking ends or waits:
 * transactions, subscriptions, MONITOR, CLIENT REPLY, a login not yet proved.
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
#include <stdio.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/redis.h"

#define ASKED_MAX 100

static const char pong[] = "+PONG\r\n";

/* Nothing of ours is among the bytes to come, nor held back. */
static bool
is_square(const struct redis *s)
{
	return s->asked == 0 && !s->refused;
}

/* Replies are no longer counted. */
static bool
is_stream(const struct redis *s)
{
	return s->stream && is_square(s);
}

/* --- answers to our PING --- */

/* Errors that pass; any other means that this user may not ping, and each try is written down at the server. */
static bool
refusal_passes(const char *head, size_t len)
{
	static const char *const passing[] = { "LOADING", "BUSY", "MISCONF", "MASTERDO" };

	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		if (len >= strlen(passing[i]) && memcmp(head, passing[i], strlen(passing[i])) == 0)
			return true;
	return false;
}

static void
answer_came(struct redis *s, struct codec_out *out)
{
	s->asked--;
	out->answers++;
}

/* An error is an answer as well, known by its first byte: nothing of it has to be held. */
static const uint8_t *
take_refusal(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	for (; p < end && *p != '\n'; p++)
		if (s->reply.head_len < REDIS_HEAD_MAX)
			s->reply.head[s->reply.head_len++] = (char)*p;
	if (p == end)
		return p;
	s->refused = false;
	if (!s->no_ask && !refusal_passes(s->reply.head, s->reply.head_len)) {
		s->no_ask = true;
		out->note = "the server refuses PING to this user: it is asked no more";
	}
	return p + 1;
}

static const uint8_t *
take_answer(struct redis *s, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	if (s->refused)
		return take_refusal(s, p, end, out);
	if (s->held == 0 && *p == '-') {
		s->refused = true;
		s->reply.head_len = 0;
		answer_came(s, out);
		return p + 1;
	}
	for (; p < end; p++) {
		if (*p != (uint8_t)pong[s->held]) {
			codec_emit_copy(out, pong, s->held);
			s->held = 0;
			redis_reply_doubt(s, "a reply that no command asked for");
			return p;
		}
		if (++s->held == sizeof(pong) - 1) {
			s->held = 0;
			answer_came(s, out);
			return p + 1;
		}
	}
	return p;
}

void
redis_reply_doubt(struct redis *s, const char *why)
{
	if (s->why == NULL)
		s->why = why;
	s->asked = 0;	/* answers cannot be told from other bytes any more */
}

static bool
is_lost(const struct redis *s)
{
	return s->why != NULL && is_square(s);
}

static size_t
feed_backend(struct redis *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const uint8_t *p = buf, *from = buf, *end = buf + len;

	while (p < end && !is_lost(s)) {
		bool ours = s->refused || (s->asked > 0 && redis_reply_boundary(s) &&
		    (*p != '>' || s->held > 0));

		if (is_stream(s)) {
			p = end;
		} else if (!ours) {
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
	size_t n = len;

	if (from == BACKEND) {
		n = feed_backend(s, buf, len, out);
	} else {
		redis_commands_read(s, buf, buf + len);
		codec_emit(out, buf, len);
	}
	if (is_lost(s))
		out->lost = s->why;
	return n;
}

static void
redis_finish(void *state, enum side from, struct codec_out *out)
{
	struct redis *s = state;

	if (from == BACKEND && s->held > 0) {
		codec_emit_copy(out, pong, s->held);
		s->held = 0;
	}
}

static uint64_t
redis_unseen(const void *state, enum side from)
{
	const struct redis *s = state;

	if (s->why != NULL)
		return 0;
	if (from == CLIENT)
		return redis_command_unseen(s);
	return is_stream(s) ? UINT64_MAX : redis_reply_unseen(s);
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

/* --- beats --- */

static bool
may_ask(const struct redis *s)
{
	return s->proved && !s->no_ask && !s->unsure && !s->stream && !s->muted &&
	    !s->in_multi && !s->hello_due && s->sent == s->done && s->confirms == 0 &&
	    s->asked < ASKED_MAX;
}

static unsigned
redis_may_beat(const void *state, enum side to)
{
	const struct redis *s = state;

	if (s->why != NULL || s->quit)
		return 0;
	if (to == CLIENT)
		return s->client_tell && s->resp3 && !s->no_push && !s->hello_due &&
		    !s->stream && redis_reply_boundary(s) ? BEAT_TELL : 0;
	if (!redis_command_boundary(s) || s->hold != 0 || s->replica)
		return 0;
	return BEAT_TELL | (may_ask(s) ? BEAT_ASK : 0);
}

static size_t
redis_beat(void *state, enum side to, enum beat_kind kind, uint8_t buf[CODEC_BEAT_MAX])
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";
	static const char push[] = ">2\r\n$2\r\nhb\r\n$1\r\n1\r\n";
	struct redis *s = state;
	const char *text = to == CLIENT ? push : "\r\n";

	if (kind == BEAT_ASK) {
		text = ping;
		s->asked++;
	}
	memcpy(buf, text, strlen(text));
	return strlen(text);
}

/* An error to the command that the client waits for. Who waits for none would take it for the reply to his next. */
static size_t
redis_farewell(void *state, enum side to, const struct codec_obituary *o,
    uint8_t buf[CODEC_FAREWELL_MAX])
{
	const struct redis *s = state;
	int n;

	if (to != CLIENT || s->stream || s->unsure || s->why != NULL || s->sent == s->done ||
	    !redis_reply_boundary(s))
		return 0;
	n = snprintf((char *)buf, CODEC_FAREWELL_MAX,
	    "-ERR stent: lost the connection to the server (%s), which was quiet for %lld.%lld s; "
	    "the command may have run\r\n",
	    o->reason, (long long)(o->quiet_ms / 1000), (long long)(o->quiet_ms % 1000 / 100));
	return n > 0 && n < CODEC_FAREWELL_MAX ? (size_t)n : 0;
}

static void
redis_init(void *state, const struct codec_settings *settings)
{
	struct redis *s = state;

	s->client_tell = settings->kind[CLIENT] == BEAT_TELL;
}

const struct codec codec_redis = {
	.name = "redis",
	.summary = "Redis, Valkey: an empty line between two commands; or PING",
	.state_size = sizeof(struct redis),
	.leg = {
		[CLIENT] = { .kinds = BEAT_TELL },
		[BACKEND] = { .kinds = BEAT_TELL | BEAT_ASK, .kind = BEAT_TELL, .interval_ms = 60000 },
	},
	.init = redis_init,
	.feed = redis_feed,
	.finish = redis_finish,
	.unseen = redis_unseen,
	.skipped = redis_skipped,
	.may_beat = redis_may_beat,
	.beat = redis_beat,
	.farewell = redis_farewell,
};
