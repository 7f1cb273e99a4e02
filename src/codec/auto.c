/*
 * auto.c - detects the protocol by its first bytes, then hands over to its codec.
 *
 * The side that speaks first decides, by a table of how protocols begin. A row
 * is chosen as soon as it matches and no row above it can still match. The flow
 * becomes passthrough when no row matches in full within LOOK_MAX bytes, or the
 * protocol of the row has no codec.
 *
 * Bytes are forwarded meanwhile, as either side may wait for them. The chosen
 * codec first reads a copy of them, with its output dropped: no codec holds
 * bytes back before it has sent a heartbeat. A row need not be proof: a codec
 * chosen wrongly meets bytes that it does not understand, and switches to
 * passthrough. Typed commands (`set a 1`) are shared by Redis and memcached,
 * so those rows are guesses, which the first byte of the reply decides.
 */
#include <ctype.h>
#include <string.h>

#include "codec/codecs.h"
#include "stent/negotiation.h"
#include "stent/promise.h"

#define LOOK_MAX 32	/* bytes of a side; twice what the longest row needs */
#define INNER_MAX 256	/* bytes; the largest state of a codec that may be found */

#define UNKNOWN "no known protocol"

/*
 * How a protocol begins. A shape has a letter for each byte: '=' this one,
 * '#' a digit, '.' any; without a shape they are all '='.
 */
struct beginning {
	const char *codec;	/* NULL: there is none */
	const char *why;	/* reason for passthrough: there is no codec, or the guess was wrong */
	const char *bytes;
	const char *shape;
	bool is_guess;		/* bytes are a word, in upper or lower case, with a blank or a line end after it */
};

#define KNOWN(codec, ...) { (codec), "no heartbeats for " codec, __VA_ARGS__, false }
#define OTHER(name, ...) { NULL, "no heartbeats for " name, __VA_ARGS__, false }
#define TYPED(word) { "redis", UNKNOWN, word, NULL, true }
#define TYPED_OR(name, word) { "redis", "no heartbeats for " name, word, NULL, true }
#define END { NULL, NULL, NULL, NULL, false }

static const struct beginning client_first[] = {
	{ NULL, "TLS", "\x16\x03", "==", false },
	KNOWN("http", "GET /", NULL),
	KNOWN("http", "GET http:", NULL),
	KNOWN("http", "GET https:", NULL),
	KNOWN("http", "HEAD /", NULL),
	KNOWN("http", "POST /", NULL),
	KNOWN("http", "POST http", NULL),
	KNOWN("http", "PUT /", NULL),
	KNOWN("http", "PATCH /", NULL),
	KNOWN("http", "DELETE /", NULL),
	KNOWN("http", "OPTIONS /", NULL),
	KNOWN("http", "OPTIONS *", NULL),
	KNOWN("postgres", "\0\0\0\x08\x04\xd2\x16", "======="),		/* TLS or GSSAPI wanted */
	KNOWN("postgres", "\0\0\0\x10\x04\xd2\x16\x2e", "========"),	/* cancel */
	KNOWN("postgres", "\0\0..\0\3\0", "==..==="),			/* version 3 */
	KNOWN("redis", "*0\r\n$", "=#==="),
	KNOWN("redis", "*00\r\n$", "=##==="),
	KNOWN("redis", "*000\r\n$", "=###==="),
	{ NULL, "a PROXY header comes first", "PROXY ", NULL, false },
	{ NULL, "a PROXY header comes first", "\r\n\r\n\0\r\nQUIT\n", "============", false },
	OTHER("HTTP/2", "PRI * HTTP/2", NULL),
	OTHER("HTTP tunnels", "CONNECT ", NULL),
	OTHER("SSH", "SSH-", NULL),
	OTHER("MQTT", "\x10.\0\4MQTT", "=.======"),
	OTHER("MQTT", "\x10..\0\4MQTT", "=..======"),
	OTHER("MQTT", "\x10.\0\6MQIsdp", "=.========"),
	OTHER("AMQP", "AMQP", NULL),
	OTHER("STOMP", "CONNECT\n", NULL),
	OTHER("STOMP", "CONNECT\r\n", NULL),
	OTHER("STOMP", "STOMP\n", NULL),
	OTHER("memcached", "\x80.\0", "=.="),
	OTHER("memcached", "gets ", NULL),
	OTHER("memcached", "mn\r\n", NULL),
	OTHER("memcached", "version\r\n", NULL),
	OTHER("LDAP", "0.\2\1.`", "=.==.="),
	OTHER("LDAP", "0\x84....\2\1.`", "==....==.="),
	OTHER("IRC", "NICK ", NULL),
	OTHER("IRC", "USER ", NULL),
	OTHER("IRC", "CAP LS", NULL),
	OTHER("XMPP", "<?xml", NULL),
	OTHER("XMPP", "<stream:stream", NULL),
	OTHER("SIP", "REGISTER sip", NULL),
	OTHER("SIP", "INVITE sip", NULL),
	OTHER("SIP", "SUBSCRIBE sip", NULL),
	OTHER("SIP", "PUBLISH sip", NULL),
	OTHER("SIP", "INFO sip", NULL),
	OTHER("SIP", "OPTIONS sip", NULL),
	OTHER("RTSP", "OPTIONS rtsp", NULL),
	OTHER("RTSP", "DESCRIBE rtsp", NULL),
	OTHER("Kafka", "\0\0..\0\x12\0", "==..==="),
	OTHER("Cassandra", "\3\0..\1\0\0", "==..==="),
	OTHER("Cassandra", "\3\0..\5\0\0", "==..==="),
	OTHER("Cassandra", "\4\0..\1\0\0", "==..==="),
	OTHER("Cassandra", "\4\0..\5\0\0", "==..==="),
	OTHER("Cassandra", "\5\0..\1\0\0", "==..==="),
	OTHER("Cassandra", "\5\0..\5\0\0", "==..==="),
	OTHER("TDS", "\x12\1..\0\0", "==..=="),
	OTHER("MongoDB", "..\0\0........\xdd\7\0\0", "..==........===="),
	OTHER("MongoDB", "..\0\0........\xd4\7\0\0", "..==........===="),
	TYPED("PING"), TYPED("AUTH"), TYPED("HELLO"), TYPED("ECHO"), TYPED("SELECT"),
	TYPED("INFO"), TYPED("CLIENT"), TYPED("COMMAND"), TYPED("CLUSTER"), TYPED("ROLE"),
	TYPED("TIME"), TYPED("DBSIZE"), TYPED("ACL"), TYPED("MULTI"), TYPED("WATCH"),
	TYPED("MONITOR"), TYPED("SUBSCRIBE"), TYPED("PSUBSCRIBE"), TYPED("SSUBSCRIBE"),
	TYPED("PUBLISH"), TYPED("DEL"), TYPED("UNLINK"), TYPED("EXISTS"), TYPED("KEYS"),
	TYPED("SCAN"), TYPED("TYPE"), TYPED("TTL"), TYPED("PTTL"), TYPED("EXPIRE"),
	TYPED("PERSIST"), TYPED("RENAME"), TYPED("OBJECT"), TYPED("MEMORY"), TYPED("MGET"),
	TYPED("MSET"), TYPED("SETEX"), TYPED("SETNX"), TYPED("GETSET"), TYPED("GETDEL"),
	TYPED("STRLEN"), TYPED("INCRBY"), TYPED("DECRBY"), TYPED("HGET"), TYPED("HSET"),
	TYPED("HGETALL"), TYPED("HDEL"), TYPED("LPUSH"), TYPED("RPUSH"), TYPED("LPOP"),
	TYPED("RPOP"), TYPED("LLEN"), TYPED("LRANGE"), TYPED("BLPOP"), TYPED("BRPOP"),
	TYPED("SADD"), TYPED("SREM"), TYPED("SCARD"), TYPED("SMEMBERS"), TYPED("ZADD"),
	TYPED("ZRANGE"), TYPED("ZSCORE"), TYPED("ZCARD"), TYPED("XADD"), TYPED("XLEN"),
	TYPED("XREAD"), TYPED("XRANGE"), TYPED("EVAL"), TYPED("SCRIPT"), TYPED("SLOWLOG"),
	TYPED("LATENCY"), TYPED("FLUSHDB"), TYPED("FLUSHALL"), TYPED("LASTSAVE"),
	TYPED("READONLY"), TYPED("ASKING"), TYPED("RESET"),
	TYPED_OR("memcached", "GET"), TYPED_OR("memcached", "SET"),
	TYPED_OR("memcached", "APPEND"), TYPED_OR("memcached", "INCR"),
	TYPED_OR("memcached", "DECR"), TYPED_OR("memcached", "TOUCH"),
	TYPED_OR("memcached", "CONFIG"), TYPED_OR("memcached", "QUIT"),
	TYPED_OR("memcached", "SHUTDOWN"),
	END
};

static const struct beginning backend_first[] = {
	KNOWN("mysql", ".\0\0\0\n0", ".====#"),
	OTHER("SSH", "SSH-", NULL),
	OTHER("SMTP or FTP", "220 ", NULL),
	OTHER("SMTP or FTP", "220-", NULL),
	OTHER("POP3", "+OK", NULL),
	OTHER("IMAP", "* OK", NULL),
	OTHER("IMAP", "* PREAUTH", NULL),
	OTHER("NATS", "INFO {", NULL),
	OTHER("Telnet", "\xff\xfb", NULL),
	OTHER("Telnet", "\xff\xfd", NULL),
	OTHER("VNC", "RFB 0", NULL),
	END
};

static const struct beginning *const beginnings[] = {
	[CLIENT] = client_first, [BACKEND] = backend_first
};

struct look {			/* until the protocol is known */
	const struct codec_settings *settings;
	uint8_t n[2];		/* bytes that each side has sent */
	bool has_first;
	uint8_t first;		/* the side that spoke first */
	bool is_finished[2];	/* that side has sent its FIN, and nothing else */
	uint8_t bytes[2][LOOK_MAX];
};

struct finder {
	const struct codec *inner;	/* the codec found; NULL: none yet */
	const char *guess;		/* reason for passthrough if it is wrong; NULL: no guess, or a confirmed one */
	uint64_t random;		/* for its seed() */
	struct codec_tls tls;		/* for its tls() */
	union {
		struct look look;
		uint64_t inner_state[INNER_MAX / sizeof(uint64_t)];
	};
};

_Static_assert(sizeof(struct finder) <= CODEC_STATE_MAX, "an inner state has no room");
_Static_assert(LOOK_MAX <= UINT8_MAX, "`n` counts them");
_Static_assert(sizeof(struct look) <= INNER_MAX, "a look takes more than an inner state");

static bool
auto_configure(void *state, const struct codec_settings *settings)
{
	struct finder *f = state;

	if (f->inner != NULL)
		return f->inner->configure(f->inner_state, settings);
	f->look.settings = settings;
	return true;
}

static void
auto_seed(void *state, uint64_t random)
{
	struct finder *f = state;

	f->random = random;
}

static void
auto_tls(void *state, const struct codec_tls *tls)
{
	struct finder *f = state;

	f->tls = *tls;
}

/* ---- looking ---- */

enum match { MATCH_NONE, MATCH_PARTIAL, MATCH_FULL };

static enum match
match_word(const char *word, const uint8_t *bytes, size_t n)
{
	size_t len = strlen(word);

	promise(len > 0 && len <= LOOK_MAX / 2);
	for (size_t i = 0; i < n && i < len; i++)
		if (toupper(bytes[i]) != word[i])
			return MATCH_NONE;
	if (n <= len)
		return MATCH_PARTIAL;
	return memchr(" \t\r\n", bytes[len], 4) != NULL ? MATCH_FULL : MATCH_NONE;
}

static enum match
match_row(const struct beginning *b, const uint8_t *bytes, size_t n)
{
	size_t len = strlen(b->shape != NULL ? b->shape : b->bytes);

	if (b->is_guess)
		return match_word(b->bytes, bytes, n);
	promise(len > 0 && len <= LOOK_MAX / 2);	/* else a row could never match */
	for (size_t i = 0; i < n && i < len; i++) {
		char shape = b->shape != NULL ? b->shape[i] : '=';

		if (shape == '#' ? bytes[i] < '0' || bytes[i] > '9' :
		    shape == '=' && bytes[i] != (uint8_t)b->bytes[i])
			return MATCH_NONE;
	}
	return n < len ? MATCH_PARTIAL : MATCH_FULL;
}

/* The row that matches; NULL: none yet (*is_open), or none can any more. */
static const struct beginning *
recognise(enum side first, const uint8_t *bytes, size_t n, bool *is_open)
{
	*is_open = false;
	promise_or(n > 0 && n <= LOOK_MAX, NULL);
	for (const struct beginning *b = beginnings[first]; b->why != NULL; b++) {
		enum match match = match_row(b, bytes, n);

		if (match == MATCH_FULL && !*is_open)
			return b;
		*is_open |= match != MATCH_NONE;
	}
	*is_open &= n < LOOK_MAX;
	return NULL;
}

/* Feeds the bytes that have passed already to the codec that was found. False: it cannot go on from here. */
static bool
replay(struct finder *f, const struct look *seen, struct codec_out *out)
{
	const enum side sides[] = { (enum side)seen->first, side_other((enum side)seen->first) };
	struct codec_out past;

	for (size_t i = 0; i < 2; i++) {
		const uint8_t *bytes = seen->bytes[sides[i]];
		const size_t len = seen->n[sides[i]];

		codec_out_clear(&past);
		if (len == 0)
			continue;
		if (f->inner->feed(f->inner_state, sides[i], bytes, len, &past) != len && past.passthrough == NULL)
			return false;
		promise(past.replies == 0 && past.strays == 0 && past.refused == NULL);	/* no heartbeat was sent */
		if (past.note != NULL)
			out->note = past.note;
		out->passthrough = past.passthrough;
		if (out->passthrough != NULL || codec_emitted(&past) != len)
			return false;
	}
	return true;
}

static void
hand_over(struct finder *f, const struct codec *inner, struct codec_out *out)
{
	const struct look seen = f->look;
	bool is_configured;

	promise_void(f->inner == NULL && inner->state_size <= sizeof(f->inner_state));
	promise_void(seen.settings != NULL && seen.n[CLIENT] <= LOOK_MAX && seen.n[BACKEND] <= LOOK_MAX);
	f->inner = inner;
	memset(f->inner_state, 0, sizeof(f->inner_state));
	is_configured = inner->configure(f->inner_state, seen.settings);
	promise(is_configured);		/* a fresh state waits for no reply */
	if (inner->seed != NULL)
		inner->seed(f->inner_state, f->random);
	if (inner->tls != NULL && (f->tls.leg[CLIENT] || f->tls.leg[BACKEND]))
		inner->tls(f->inner_state, &f->tls);
	if (!replay(f, &seen, out) && out->passthrough == NULL)
		out->passthrough = UNKNOWN;
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (seen.is_finished[s] && out->passthrough == NULL)
			inner->finish(f->inner_state, s, out);
}

/* A reply of Redis may begin with this byte. */
static bool
begins_reply(uint8_t byte)
{
	return memchr("+-:$*%", byte, 6) != NULL;
}

/* Looks at one more byte. */
static void
look(struct finder *f, enum side from, uint8_t byte, struct codec_out *out)
{
	struct look *l = &f->look;
	const struct beginning *b;
	const struct codec *inner;
	bool is_open;

	promise_void(f->inner == NULL && l->n[from] <= LOOK_MAX);
	promise(l->has_first || (l->n[CLIENT] == 0 && l->n[BACKEND] == 0));
	promise(l->first == CLIENT || l->first == BACKEND);
	if (!l->has_first) {
		l->has_first = true;
		l->first = (uint8_t)from;
	}
	if (l->n[from] == LOOK_MAX) {
		out->passthrough = UNKNOWN;	/* the other side spoke first, and its protocol is still not known */
		return;
	}
	l->bytes[from][l->n[from]++] = byte;
	if (from != (enum side)l->first)
		return;
	b = recognise(from, l->bytes[from], l->n[from], &is_open);
	if (b == NULL) {
		out->passthrough = is_open ? NULL : UNKNOWN;
		return;
	}
	inner = b->codec != NULL ? codec_find(b->codec) : NULL;
	if (b->is_guess && l->n[BACKEND] > 0 && !begins_reply(l->bytes[BACKEND][0])) {
		out->passthrough = b->why;
		return;
	}
	f->guess = b->is_guess && l->n[BACKEND] == 0 ? b->why : NULL;
	if (inner != NULL && inner->state_size <= sizeof(f->inner_state))
		hand_over(f, inner, out);
	else
		out->passthrough = b->why;
}

/* ---- the contract ---- */

static size_t
auto_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct finder *f = state;
	size_t n = 0;

	promise(f->guess == NULL || f->inner != NULL);
	while (n < len && f->inner == NULL && out->passthrough == NULL)
		look(f, from, buf[n++], out);
	codec_emit(out, buf, n);
	if (n < len && out->passthrough == NULL && f->guess != NULL && from == BACKEND) {
		promise(f->inner != NULL);
		out->passthrough = begins_reply(buf[n]) ? NULL : f->guess;
		f->guess = NULL;
	}
	if (n < len && out->passthrough == NULL) {
		promise_or(f->inner != NULL, n);
		n += f->inner->feed(f->inner_state, from, buf + n, len - n, out);
	}
	return n;
}

static void
auto_finish(void *state, enum side from, struct codec_out *out)
{
	struct finder *f = state;

	if (f->inner != NULL)
		f->inner->finish(f->inner_state, from, out);
	else if (f->look.has_first)
		out->passthrough = "it ended before its protocol was detected";
	else
		f->look.is_finished[from] = true;	/* usually a health check */
}

/* A guess is not handed over before a reply has confirmed it: auto itself sends no heartbeats. */
static const struct codec *
auto_hand_over(void *state)
{
	struct finder *f = state;
	const struct codec *inner = f->guess == NULL ? f->inner : NULL;

	if (inner != NULL) {
		promise_or(inner->state_size <= sizeof(f->inner_state), NULL);
		memmove(state, f->inner_state, inner->state_size);
	}
	return inner;
}

static unsigned
auto_may_heartbeat(const void *state, enum side to)
{
	(void)state;
	(void)to;
	return 0;
}

static const char *
auto_why_none(const void *state, enum side to)
{
	(void)state;
	(void)to;
	return "protocol not detected yet";
}

static const struct codec *
auto_actual(const void *state)
{
	const struct finder *f = state;

	return f->inner;
}

/* The interval is the shortest of any codec: the first heartbeat is scheduled before the protocol is known. */
#define ALL_KINDS (HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY)

const struct codec codec_auto = {
	.name = "auto",
	.traits = CODEC_MAY_BE_ANY,
	.summary = "detected from the first bytes",
	.negotiation = &negotiation_auto,
	/* Toward the backend none: what the client speaks is not known then, and a server may refuse names that it does not have. */
	.alpn = { [CLIENT] = "http/1.1,postgresql" },
	.state_size = sizeof(struct finder),
	.leg = {
		[CLIENT] = { .kinds = ALL_KINDS, .interval_ms = 25000 },
		[BACKEND] = { .kinds = ALL_KINDS, .interval_ms = 25000 },
	},
	.configure = auto_configure,
	.seed = auto_seed,
	.tls = auto_tls,
	.feed = auto_feed,
	.finish = auto_finish,
	.hand_over = auto_hand_over,
	.may_heartbeat = auto_may_heartbeat,
	.why_none = auto_why_none,
	.actual = auto_actual,
};
