/*
 * mysql_reply.c - distinguishes the server's replies to our heartbeats from
 * those to the client's commands.
 *
 * A server replies in order, and the first packet of each reply has the number
 * 1. A ping goes out only when no command is open, so its reply is the next
 * packet with that number: a text (COM_STATISTICS), an OK (COM_PING), or an
 * error, which means that the server does not accept heartbeats. A result
 * instead belongs to the client's next command: the ping got no reply.
 *
 * A one-way heartbeat gets no reply, or an error from a server that does not
 * know the command: with no command open, any packet with the number 1; else,
 * until a command is seen to get its own reply, only "unknown command".
 */

#include "codec/mysql.h"
#include "stent/promise.h"

#define STATISTICS_MARK "Threads: "
#define THREADS_AT_ONCE 1000	/* COM_STATISTICS reads them all; with more of them pings are rarer */
#define TEXT_MIN 5		/* bytes; a number of columns is shorter */

enum {
	ER_UNKNOWN_COM_ERROR = 1047,
	ER_SERVER_SHUTDOWN = 1053,
	ER_ABORTING_CONNECTION = 1152,
	ER_NEW_ABORTING_CONNECTION = 1184,
	ER_UNKNOWN_STMT_HANDLER = 1243,
	ER_CONNECTION_KILLED = 1927,		/* MariaDB */
	ER_SESSION_WAS_KILLED = 3169,		/* MySQL */
	ER_CLIENT_INTERACTION_TIMEOUT = 4031,	/* MySQL */
};

enum shape { SHAPE_TEXT, SHAPE_OK, SHAPE_ERROR, SHAPE_OTHER };

static enum shape
shape_of(const struct mysql *s)
{
	const uint8_t first = s->body[0];

	if (s->body_got == 0)
		return SHAPE_OTHER;
	if (first == MYSQL_ERR)
		return SHAPE_ERROR;
	if (first == MYSQL_OK || (first == MYSQL_EOF && s->body_len < 9))
		return SHAPE_OK;
	return first >= ' ' && first <= '~' && s->body_len >= TEXT_MIN ? SHAPE_TEXT : SHAPE_OTHER;
}

static unsigned
error_number(const struct mysql *s)
{
	return s->body_got >= 3 && s->body[0] == MYSQL_ERR ? s->body[1] | (unsigned)s->body[2] << 8 : 0;
}

bool
mysql_is_close_error(const struct mysql *s)
{
	switch (error_number(s)) {
	case ER_SERVER_SHUTDOWN:
	case ER_ABORTING_CONNECTION:
	case ER_NEW_ABORTING_CONNECTION:
	case ER_CONNECTION_KILLED:
	case ER_SESSION_WAS_KILLED:
	case ER_CLIENT_INTERACTION_TIMEOUT:
		return true;
	default:
		return false;
	}
}

static void
refuse(struct mysql *s, const char *why, struct codec_out *out)
{
	s->refused = true;
	out->refused = why;
}

/* The first packet after a ping. */
static bool
is_reply_to_ping(struct mysql *s, struct codec_out *out)
{
	const enum shape shape = shape_of(s), expected = s->is_full_server ? SHAPE_TEXT : SHAPE_OK;
	const bool idle = mysql_is_idle(s), is_close = mysql_is_close_error(s);

	promise_or(s->pings_due > 0, false);
	if (s->packet[BACKEND].head[3] != 1 || s->body_len == MYSQL_FULL ||
	    (!idle && shape != expected && (is_close || (shape != SHAPE_OK && shape != SHAPE_ERROR)))) {
		s->pings_due = 0;
		if (!is_close && s->packet[BACKEND].head[3] == 1)
			refuse(s, "no reply to a ping", out);
		return false;
	}
	s->pings_due--;
	s->ended |= is_close;
	if (shape != expected && !is_close)
		refuse(s, shape == SHAPE_ERROR ? "an error as the reply to a ping" :
		    "an unexpected reply to a ping", out);
	return true;
}

/* A packet without a command, or an error before any reply that is certainly the client's. */
static bool
is_reply_to_oneway(const struct mysql *s)
{
	const unsigned error = error_number(s);

	if (s->packet[BACKEND].head[3] != 1 || s->body_len == MYSQL_FULL)
		return false;
	if (mysql_is_idle(s))
		return !mysql_is_close_error(s);
	return mysql_queue_first(s) == KIND_QUERY &&
	    (error == ER_UNKNOWN_COM_ERROR || error == ER_UNKNOWN_STMT_HANDLER);
}

/* Where one-way heartbeats are known to be accepted, errors of these numbers are the client's. */
static bool
may_reply_to_oneway(const struct mysql *s)
{
	if (s->oneways_sent == 0 || s->passthrough != NULL)
		return false;
	return mysql_is_idle(s) || (!s->is_full_server && !s->oneway_is_accepted && s->reply == REPLY_FIRST);
}

bool
mysql_reply_may_be_ours(const struct mysql *s)
{
	return s->pings_due > 0 || may_reply_to_oneway(s);
}

bool
mysql_reply_is_ours(struct mysql *s, struct codec_out *out)
{
	promise_or(s->holding && s->body_got <= MYSQL_BODY_MAX, false);
	s->mark_at = 0;
	if (s->pings_due > 0)
		return is_reply_to_ping(s, out);
	if (!may_reply_to_oneway(s) || !is_reply_to_oneway(s))
		return false;
	promise_or(s->oneways_sent > 0, false);
	s->oneways_sent--;
	refuse(s, "a reply to COM_STMT_CLOSE, which has none", out);
	return true;
}

/* "Uptime: 12  Threads: 3  Questions: ...": how many sessions the server has. */
static void
read_statistics(struct mysql *s, uint8_t c)
{
	static const char mark[] = STATISTICS_MARK;
	const uint8_t end = sizeof(mark) - 1;

	promise_void(s->mark_at <= sizeof(mark));
	if (s->mark_at < end) {
		s->mark_at = c == (uint8_t)mark[s->mark_at] ? s->mark_at + 1 : c == (uint8_t)mark[0];
		s->threads = 0;
	} else if (s->mark_at == end && c >= '0' && c <= '9' && s->threads < UINT32_MAX / 20) {
		s->threads = s->threads * 10 + (c - '0');
	} else {
		s->mark_at = end + 1;
	}
}

void
mysql_reply_read(struct mysql *s, const uint8_t *p, size_t n)
{
	uint32_t rounds;

	promise(s->swallowing);
	if (!s->is_full_server)
		return;
	for (size_t i = 0; i < n; i++)
		read_statistics(s, p[i]);
	rounds = s->threads / THREADS_AT_ONCE;
	s->oneways_left = s->ping_is_chosen ? 0 : rounds < UINT8_MAX ? (uint8_t)rounds : UINT8_MAX;
}
