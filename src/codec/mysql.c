/*
 * mysql.c - MySQL and MariaDB: the packets, and the heartbeats to the server.
 *
 * Ping: COM_STATISTICS, the only command whose reply leaves the session of a
 * real server unchanged (COM_PING resets ROW_COUNT). It is expensive on a server
 * with thousands of sessions: there most heartbeats are one-way. Other
 * servers, recognized by their greeting, get COM_PING. One-way: COM_STMT_CLOSE
 * of a statement that does not exist. Other servers may reply to it (Sphinx), so
 * there only if configured.
 *
 * Both are sent only between two commands; by default not while the session is
 * in a transaction or has locks (the server's own limit should free them), nor
 * while a statement runs (MariaDB takes unread bytes for a sign of life;
 * ProxySQL closes). No client expects an unsolicited packet, so it gets none.
 */
#include <stdio.h>
#include <string.h>

#include "codec/codecs.h"
#include "codec/mysql.h"
#include "stent/negotiation.h"
#include "stent/promise.h"

#define PINGS_DUE_MAX 100
#define ER_SERVER_SHUTDOWN 1053

/* --- the queue: runs of commands of one kind --- */

bool
mysql_is_idle(const struct mysql *s)
{
	return s->n_runs == 0;
}

enum mysql_kind
mysql_queue_first(const struct mysql *s)
{
	promise_or(s->n_runs > 0 && s->n_runs <= MYSQL_QUEUE && s->first_run < MYSQL_QUEUE, KIND_SINGLE);
	return s->runs[s->first_run] >> 5;
}

void
mysql_queue_add(struct mysql *s, enum mysql_kind kind)
{
	uint8_t *last = &s->runs[(s->first_run + s->n_runs + MYSQL_QUEUE - 1) % MYSQL_QUEUE];

	promise_void(s->n_runs <= MYSQL_QUEUE && s->first_run < MYSQL_QUEUE && kind <= KIND_AUTH);
	if (s->n_runs > 0 && *last >> 5 == kind && (*last & (MYSQL_RUN_MAX - 1)) < MYSQL_RUN_MAX - 1) {
		++*last;
	} else if (s->n_runs == MYSQL_QUEUE) {
		s->passthrough = "too many commands without a reply";
	} else {
		s->runs[(s->first_run + s->n_runs) % MYSQL_QUEUE] = (uint8_t)(kind << 5);
		s->n_runs++;
	}
}

void
mysql_queue_drop(struct mysql *s)
{
	uint8_t *first = &s->runs[s->first_run % MYSQL_QUEUE];

	promise_void(s->n_runs > 0 && s->n_runs <= MYSQL_QUEUE && s->first_run < MYSQL_QUEUE);
	if ((*first & (MYSQL_RUN_MAX - 1)) != 0) {
		--*first;
		return;
	}
	s->first_run = (uint8_t)((s->first_run + 1) % MYSQL_QUEUE);
	s->n_runs--;
}

/* --- bytes --- */

/* The rest of both streams is not read any more. */
static bool
is_passthrough(const struct mysql *s)
{
	return s->passthrough != NULL && s->pings_due == 0 && !s->holding && !s->swallowing && !s->watched;
}

/* What was held back goes out. */
static void
release(struct mysql *s, struct codec_out *out)
{
	const struct mysql_packet *k = &s->packet[BACKEND];
	const uint8_t seq = (uint8_t)(k->head[3] + s->shift);

	promise_void(s->holding && !s->swallowing && k->got <= MYSQL_HEAD && s->body_got <= MYSQL_BODY_MAX);
	codec_emit_copy(out, k->head, k->got < MYSQL_HEAD ? k->got : MYSQL_HEAD - 1);
	if (k->got == MYSQL_HEAD)
		codec_emit_copy(out, &seq, 1);
	codec_emit_copy(out, s->body, s->body_got);
	s->holding = false;
}

/* A packet of a login, unless it may be the reply to a ping. */
static bool
is_judged_as_login(const struct mysql *s)
{
	return s->watched && s->pings_due == 0;
}

/* Enough of a packet may have come to decide whether it is a reply to a heartbeat, or passes in a login. */
static void
judge(struct mysql *s, struct codec_out *out)
{
	promise_void(s->holding && !s->swallowing && s->packet[BACKEND].got == MYSQL_HEAD && s->body_got <= MYSQL_BODY_MAX);
	if (!is_judged_as_login(s) && mysql_reply_is_ours(s, out)) {
		out->replies++;
		out->left_out += MYSQL_HEAD + s->body_got;
		s->holding = false;
		s->swallowing = true;
		mysql_reply_read(s, s->body, s->body_got);
		return;
	}
	if (is_judged_as_login(s)) {
		if (s->packet[BACKEND].left > 0 && s->body_got < MYSQL_BODY_MAX)
			return;		/* it was taken for a reply at first, and fewer bytes were enough */
		if (mysql_login_refuses(s, out)) {
			s->holding = false;
			return;
		}
	}
	s->next_seq = (uint8_t)(s->packet[BACKEND].head[3] + 1);
	release(s, out);
}

static const struct {
	void (*begins)(struct mysql *s);
	void (*payload)(struct mysql *s, const uint8_t *p, size_t n);
	void (*ends)(struct mysql *s);
} on_packet[2] = {
	[CLIENT] = { mysql_client_begins, mysql_client_payload, mysql_client_ends },
	[BACKEND] = { mysql_server_begins, mysql_server_payload, mysql_server_ends },
};

/* Reads some bytes, of the head or of the payload of one packet. Returns where it stopped. */
static const uint8_t *
read_packet(struct mysql *s, enum side from, const uint8_t *p, const uint8_t *end, struct codec_out *out)
{
	struct mysql_packet *k = &s->packet[from];
	const bool is_held = from == BACKEND && s->holding;
	const uint8_t judged = is_judged_as_login(s) ? MYSQL_BODY_MAX : MYSQL_JUDGED;
	const bool is_left_out = from == BACKEND && s->swallowing;
	size_t n = 0;

	promise_or(k->got <= MYSQL_HEAD && (k->got == MYSQL_HEAD || k->left == 0), end);
	promise_or(!is_held || s->body_got <= judged, end);
	if (k->got < MYSQL_HEAD) {
		if (!mysql_packet_head(k, &p, end))
			return p;
		on_packet[from].begins(s);
		if (k->left > 0)
			return p;
	} else {
		n = k->left < (size_t)(end - p) ? k->left : (size_t)(end - p);
		if (is_held && n > (size_t)(judged - s->body_got))
			n = (size_t)(judged - s->body_got);
		promise_or(n > 0 && n <= k->left, end);
		out->left_out += is_left_out ? n : 0;
		on_packet[from].payload(s, p, n);
		k->left -= (uint32_t)n;
	}
	if (is_held && (k->left == 0 || s->body_got == judged))
		judge(s, out);
	if (k->left == 0 && !s->cut_off && (from == BACKEND || s->passthrough == NULL || s->watched))
		on_packet[from].ends(s);
	return p + n;
}

/* Skips rows that are here in one piece, most of what a server sends; not what may end them. */
static const uint8_t *
skip_rows(struct mysql *s, const uint8_t *p, const uint8_t *end)
{
	while (end - p > MYSQL_HEAD) {
		size_t len = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16;

		if (len == 0 || len == MYSQL_FULL || p[MYSQL_HEAD] >= 0xfe ||
		    (size_t)(end - p) < MYSQL_HEAD + len)
			break;
		s->next_seq = (uint8_t)(p[3] + 1);
		p += MYSQL_HEAD + len;
	}
	return p;
}

/* Bytes of the server that were consumed and may still be emitted. */
static size_t
held(const struct mysql *s)
{
	return s->holding ? (size_t)s->packet[BACKEND].got + s->body_got : 0;
}

static size_t
feed_backend(struct mysql *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const struct mysql_packet *k = &s->packet[BACKEND];
	const uint8_t *p = buf, *unsent = buf, *end = buf + len;
	const size_t before = held(s) + codec_accounted(out);

	promise(!(s->holding && s->swallowing) && s->pings_due <= PINGS_DUE_MAX && s->reply <= REPLY_PREPARED);
	while (p < end && !is_passthrough(s) && !s->cut_off && codec_out_has_room(out)) {
		if (s->reply == REPLY_ROWS && mysql_packet_boundary(k))
			p = skip_rows(s, p, end);
		if (p == end)
			break;
		if (mysql_packet_boundary(k) && (mysql_reply_may_be_ours(s) || s->watched)) {
			s->holding = true;
			s->body_got = 0;
		}
		if (s->holding || s->swallowing) {
			codec_emit(out, unsent, (size_t)(p - unsent));
			p = unsent = read_packet(s, BACKEND, p, end, out);	/* which emits what is for the client */
		} else {
			p = read_packet(s, BACKEND, p, end, out);
		}
	}
	codec_emit(out, unsent, (size_t)(p - unsent));
	/* Every byte is emitted, held or of a reply. */
	promise(s->cut_off || before + (size_t)(p - buf) == held(s) + codec_accounted(out));
	return s->cut_off ? len : (size_t)(p - buf);
}

/* The client's packets of a login, renumbered. A number of 0 begins a command, which is early, but not part of it. */
static size_t
feed_login(struct mysql *s, const uint8_t *buf, size_t len, struct codec_out *out)
{
	const struct mysql_packet *k = &s->packet[CLIENT];
	const uint8_t *p = buf, *unsent = buf, *end = buf + len;
	const size_t before = codec_accounted(out);

	promise(s->watched && s->auth);
	while (p < end && codec_out_has_room(out)) {
		const bool was_head = k->got < MYSQL_HEAD;
		uint8_t seq;

		p = read_packet(s, CLIENT, p, end, out);
		if (!was_head || (k->got > 0 && k->got < MYSQL_HEAD) || k->head[MYSQL_HEAD - 1] == 0)
			continue;
		seq = (uint8_t)(k->head[MYSQL_HEAD - 1] - s->shift);
		codec_emit(out, unsent, (size_t)(p - 1 - unsent));
		codec_emit_copy(out, &seq, 1);
		unsent = p;
	}
	codec_emit(out, unsent, (size_t)(p - unsent));
	promise(before + (size_t)(p - buf) == codec_accounted(out));	/* other numbers, but not other lengths */
	return (size_t)(p - buf);
}

static size_t
mysql_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct mysql *s = state;
	size_t n = len;

	if (s->cut_off)
		return len;
	if (from == BACKEND) {
		n = feed_backend(s, buf, len, out);
	} else if (s->watched && s->shift != 0) {
		n = feed_login(s, buf, len, out);
	} else {
		for (const uint8_t *p = buf; p < buf + len && s->passthrough == NULL && !promise_is_broken();)
			p = read_packet(s, CLIENT, p, buf + len, out);
		codec_emit(out, buf, len);
	}
	if (is_passthrough(s))
		out->passthrough = s->passthrough;
	promise(n <= len && (out->passthrough == NULL || held(s) == 0));
	return n;
}

static void
mysql_finish(void *state, enum side from, struct codec_out *out)
{
	struct mysql *s = state;

	if (from == BACKEND && s->holding)
		release(s, out);
}

/* The last byte of a packet is read, as it ends the packet. */
static uint64_t
mysql_skippable(const void *state, enum side from)
{
	const struct mysql *s = state;
	const struct mysql_packet *k = &s->packet[from];
	bool is_read;

	if (s->passthrough != NULL || s->watched || s->cut_off || k->got < MYSQL_HEAD || k->left <= 1)
		return 0;
	if (from == CLIENT)
		is_read = mysql_client_reads(s);
	else
		is_read = s->holding || s->swallowing || s->phase == PHASE_GREETING ||
		    (!k->continued && s->body_got < MYSQL_BODY_MAX);
	return is_read ? 0 : k->left - 1;
}

static void
mysql_skipped(void *state, enum side from, uint64_t n)
{
	struct mysql *s = state;

	promise_void(n == 0 || n < s->packet[from].left);	/* the last byte ends the packet */
	promise(from == CLIENT || (!s->holding && !s->swallowing));
	s->packet[from].left -= (uint32_t)n;
}

/* --- heartbeats --- */

/* The next thing that the server reads is a command. */
static bool
takes_commands(const struct mysql *s)
{
	return s->passthrough == NULL && s->phase == PHASE_COMMANDS && !s->auth && !s->ended &&
	    !s->infile && mysql_packet_boundary(&s->packet[CLIENT]);
}

/* Why none may go to a server while it runs a statement. */
static const char *
why_none_busy(const struct mysql *s)
{
	if (!s->while_busy)
		return "statement running";
	if (!s->is_full_server)
		return "statement running, and the server is neither MySQL nor MariaDB by its greeting";
	return s->may_load_file ? "statement running that may load a file" : NULL;
}

static const char *
mysql_why_none(const void *state, enum side to)
{
	const struct mysql *s = state;

	if (to == CLIENT)
		return "the protocol has none";
	if (s->passthrough != NULL)
		return s->passthrough;
	if (s->phase != PHASE_COMMANDS || s->auth)
		return "logging in";
	if (s->ended)
		return "the session ends";
	if (s->refused)
		return "the server refused a heartbeat";
	if (s->infile)
		return "loading a file";
	if (!mysql_packet_boundary(&s->packet[CLIENT]))
		return "inside a command";
	if (!mysql_is_idle(s))
		return why_none_busy(s);
	if (s->heartbeat_in_transaction)
		return NULL;
	if (s->in_transaction)
		return "in a transaction";
	return mysql_holds_locks(s) ? "the session may hold locks" : NULL;
}

static bool
may_send_oneway(const struct mysql *s)
{
	return s->is_full_server || (s->oneway_is_chosen && mysql_is_idle(s));
}

static bool
may_ping(const struct mysql *s)
{
	return mysql_is_idle(s) && s->oneways_left == 0 && s->pings_due < PINGS_DUE_MAX && mysql_packet_boundary(&s->packet[BACKEND]);
}

static unsigned
mysql_may_heartbeat(const void *state, enum side to)
{
	const struct mysql *s = state;
	unsigned kinds = 0;

	if (mysql_why_none(state, to) != NULL)
		return 0;
	promise_or(takes_commands(s), 0);
	if (may_send_oneway(s))
		kinds |= HEARTBEAT_ONEWAY;
	if (may_ping(s))
		kinds |= HEARTBEAT_PING;
	return kinds;
}

static bool
mysql_said_goodbye(const void *state, enum side from)
{
	const struct mysql *s = state;

	return s->closing[from];
}

static size_t
mysql_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	static const uint8_t close_none[] = { 5, 0, 0, 0, 0x19, 0xfe, 0xff, 0xff, 0xff };
	static const uint8_t statistics[] = { 1, 0, 0, 0, 0x09 }, ping[] = { 1, 0, 0, 0, 0x0e };
	struct mysql *s = state;

	promise_or((mysql_may_heartbeat(state, to) & kind) != 0, 0);	/* between two commands */
	if (kind == HEARTBEAT_PING) {
		promise(mysql_is_idle(s) && s->oneways_left == 0);
		s->pings_due++;
		promise(s->pings_due <= PINGS_DUE_MAX);
		memcpy(buf, s->is_full_server ? statistics : ping, sizeof(ping));
		return sizeof(ping);
	}
	if (s->oneways_sent < UINT8_MAX)
		s->oneways_sent++;
	if (s->oneways_left > 0)
		s->oneways_left--;
	memcpy(buf, close_none, sizeof(close_none));
	return sizeof(close_none);
}

/* COM_QUIT, so that the server logs no aborted connection. After a command it would be read too late. */
static size_t
quit(const struct mysql *s, uint8_t *buf)
{
	static const uint8_t com_quit[] = { 1, 0, 0, 0, 0x01 };

	if (!takes_commands(s) || !mysql_is_idle(s))
		return 0;
	memcpy(buf, com_quit, sizeof(com_quit));
	return sizeof(com_quit);
}

/* Outside a statement and a transaction, and with no locks, which the end of the session would release. */
static enum codec_rest
mysql_rest(const void *state)
{
	const struct mysql *s = state;
	const bool between = s->holding || s->swallowing || mysql_packet_boundary(&s->packet[BACKEND]);

	if (s->passthrough != NULL)
		return REST_UNSURE;
	if (!takes_commands(s) || !mysql_is_idle(s) || !between || s->in_transaction || mysql_holds_locks(s))
		return REST_NONE;
	return REST_SURE;
}

/*
 * An ERR packet as the reply to the oldest open command, or as the end of its
 * rows. Client libraries refuse their own numbers (2013, "lost connection") from
 * a server; on 1053, ER_SERVER_SHUTDOWN, and 08S01 pools discard a connection.
 * At rest there is none: after a FIN alone clients report 2006 ("server has gone
 * away") for their next command, on which they may connect again; an error before
 * it, as servers send, is one that some pools do not take for a lost connection.
 */
static size_t
mysql_close_message(void *state, enum side to, const struct codec_close_info *info,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX])
{
	const struct mysql *s = state;
	const struct mysql_packet *k = &s->packet[BACKEND];
	bool between = s->holding || s->swallowing || mysql_packet_boundary(k);
	int n;

	if (s->cut_off)
		return to == CLIENT ? mysql_login_error(s, buf) : 0;
	if (to == BACKEND)
		return quit(s, buf);
	if (s->passthrough != NULL || s->phase != PHASE_COMMANDS || s->auth || s->infile ||
	    mysql_is_idle(s) || !between || (s->reply != REPLY_FIRST && s->reply != REPLY_ROWS))
		return 0;
	n = snprintf((char *)buf + MYSQL_HEAD, CODEC_CLOSE_MESSAGE_MAX - MYSQL_HEAD,
	    "\xff%c%c#08S01stent: lost the connection to the server (%s), which was idle for "
	    "%lld.%lld s; the statement may have run", ER_SERVER_SHUTDOWN & 0xff, ER_SERVER_SHUTDOWN >> 8, info->reason,
	    (long long)(info->idle_ms / 1000), (long long)(info->idle_ms % 1000 / 100));
	if (n <= 0 || n >= CODEC_CLOSE_MESSAGE_MAX - MYSQL_HEAD)
		return 0;
	buf[0] = (uint8_t)n;
	buf[1] = (uint8_t)(n >> 8);
	buf[2] = 0;
	buf[3] = s->next_seq;
	return (size_t)n + MYSQL_HEAD;
}

static bool
mysql_configure(void *state, const struct codec_settings *settings)
{
	struct mysql *s = state;

	s->heartbeat_in_transaction = settings->in_transaction;
	s->while_busy = settings->while_busy[BACKEND];
	s->oneway_is_chosen = settings->kind[BACKEND] == HEARTBEAT_ONEWAY;
	s->ping_is_chosen = settings->kind[BACKEND] == HEARTBEAT_PING;
	return true;
}

const struct codec codec_mysql = {
	.name = "mysql",
	.negotiation = &negotiation_mysql,
	.traits = CODEC_HAS_TRANSACTIONS | CODEC_SERVER_FIRST,
	.client_speaks = true,
	.server_idle = { 8 * 60 * 60 * 1000, "wait_timeout" },
	.summary = "MySQL, MariaDB: COM_STATISTICS, COM_PING or COM_STMT_CLOSE",
	.state_size = sizeof(struct mysql),
	.leg = {
		[BACKEND] = { .kinds = HEARTBEAT_ONEWAY | HEARTBEAT_PING, .kind = HEARTBEAT_PING, .interval_ms = 60000 },
	},
	.configure = mysql_configure,
	.feed = mysql_feed,
	.finish = mysql_finish,
	.skippable = mysql_skippable,
	.skipped = mysql_skipped,
	.may_heartbeat = mysql_may_heartbeat,
	.why_none = mysql_why_none,
	.said_goodbye = mysql_said_goodbye,
	.heartbeat = mysql_heartbeat,
	.rest = mysql_rest,
	.close_message = mysql_close_message,
};
