/*
 * redis_ledger.c - which replies are still to come, and what they will change.
 *
 * Each command is told here when it is whole, each reply likewise. A command
 * changes what may be sent at once, and what its reply decides when that
 * comes. Only the last EXEC and the last HELLO on their way are remembered:
 * what an earlier one did no longer matters by the time that nothing is
 * outstanding, and only then is anything asked.
 *
 * Where a command might draw no reply, or several, or one whose form is not
 * known beforehand, the count is given up for good (unsure). Where its success
 * decides about that, the next reply is what tells (wary).
 *
 * A subscriber gets messages, which nobody counts. In RESP2 they are arrays, as
 * are many replies, and only their first element tells them apart. A reply that
 * merely looks like a message is left uncounted: then no PING goes out any
 * more. The other way round would be the fault, and no server sends a message
 * of another name.
 */
#include <string.h>

#include "codec/redis.h"

/* --- what a command changes; each returns the number of replies that it draws --- */

static uint32_t
sent_plain(struct redis *s, uint32_t argc)
{
	(void)s;
	(void)argc;
	return 1;
}

static uint32_t
sent_multi(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->in_multi = true;
	s->exec_due = false;
	return 1;
}

static uint32_t
sent_exec(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->exec_due = true;
	s->exec_at = s->sent + 1;
	return 1;
}

/* Whether and how it will be confirmed is not known. */
static void
lose_confirmations(struct redis *s)
{
	s->unsure = true;
	if (!s->resp3 && !s->hello_due)
		s->stream = true;
}

static void
listen(struct redis *s)
{
	if (!s->resp3 && !s->listening) {
		s->listening = true;
		s->listen_at = s->sent;
	}
	if (s->hello_due || s->in_multi || s->muted || s->unsure || s->confirms > INT32_MAX)
		lose_confirmations(s);
}

/*
 * Each channel draws a confirmation: in RESP3 a push, in RESP2 an array, behind
 * which messages come as arrays too. A refusal is one error reply instead.
 */
static uint32_t
sent_subscribe(struct redis *s, uint32_t argc)
{
	if (argc < 2)
		return 1;	/* an error */
	s->subscribed = true;
	s->confirms += argc - 1;
	listen(s);
	if (s->leaving > 0)
		lose_confirmations(s);
	return 0;
}

/* Without a channel: from all. So many confirmations come, but at least one; with the last subscription gone, it is the last. */
static uint32_t
sent_unsubscribe(struct redis *s, uint32_t argc)
{
	if (argc >= 2)
		return sent_subscribe(s, argc);
	listen(s);
	if (s->confirms > 0 || s->leaving == UINT8_MAX)
		lose_confirmations(s);
	else
		s->leaving++;
	s->leave_at = s->sent;
	return 0;
}

/* Slots that move away unsubscribe on their own. */
static uint32_t
sent_sunsubscribe(struct redis *s, uint32_t argc)
{
	s->unsure = true;
	return sent_subscribe(s, argc);
}

static uint32_t
sent_monitor(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->stream = true;
	return 1;
}

static uint32_t
sent_sync(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->stream = true;
	s->replica = true;
	return 1;
}

/* The server reads what comes next by its debugger's own rules. */
static uint32_t
sent_debugger(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->why = "SCRIPT DEBUG";
	return 1;
}

/* A second one before the first is answered: too many futures to follow. */
static uint32_t
sent_hello(struct redis *s, uint32_t argc)
{
	(void)argc;
	if (s->hello_due || s->in_multi) {
		s->no_ping = true;
		s->no_push = true;
	}
	s->hello_due = true;
	s->hello_at = s->sent + 1;
	return 1;
}

/* Leaves a transaction and CLIENT REPLY's silence at once; the rest is known with its reply. */
static uint32_t
sent_reset(struct redis *s, uint32_t argc)
{
	if (argc != 1)
		return 1;
	s->in_multi = false;
	s->exec_due = false;
	s->muted = false;
	s->reset_due = true;
	return sent_hello(s, argc);
}

static uint32_t
sent_quit(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->quit = true;
	return 1;
}

static uint32_t
sent_asking(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->hold |= HOLD_ASKING;
	return 1;
}

static uint32_t
sent_caching(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->hold |= HOLD_CACHING;
	return 1;
}

static uint32_t
sent_reply_on(struct redis *s, uint32_t argc)
{
	if (argc == 3)
		s->muted = false;
	return 1;
}

/* It may be refused. */
static void
doubt_silence(struct redis *s)
{
	if (!s->wary)
		s->wary_at = s->sent;
	s->wary = true;
}

static uint32_t
sent_reply_off(struct redis *s, uint32_t argc)
{
	if (argc != 3)
		return 1;
	s->muted = true;
	doubt_silence(s);
	return 0;
}

static uint32_t
sent_reply_skip(struct redis *s, uint32_t argc)
{
	if (argc != 3)
		return 1;
	s->hold |= HOLD_SKIP;
	doubt_silence(s);
	return 0;
}

static const struct {
	uint32_t (*sent)(struct redis *s, uint32_t argc);
	bool is_client;		/* CLIENT ...: leaves CLIENT CACHING's flag standing */
	bool is_reply;		/* CLIENT REPLY ...: inside a transaction it would silence half of EXEC */
	uint8_t speaks;		/* with so many words it is answered even if CLIENT REPLY said otherwise */
} kinds[KIND_COUNT] = {
	[KIND_PLAIN] = { sent_plain },
	[KIND_MULTI] = { sent_multi },
	[KIND_EXEC] = { sent_exec },
	[KIND_SUBSCRIBE] = { sent_subscribe },
	[KIND_UNSUBSCRIBE] = { sent_unsubscribe },
	[KIND_SUNSUBSCRIBE] = { sent_sunsubscribe },
	[KIND_MONITOR] = { sent_monitor },
	[KIND_SYNC] = { sent_sync },
	[KIND_HELLO] = { sent_hello },
	[KIND_RESET] = { sent_reset, .speaks = 1 },
	[KIND_QUIT] = { sent_quit },
	[KIND_ASKING] = { sent_asking },
	[KIND_CLUSTER] = { sent_plain },
	[KIND_SCRIPT] = { sent_plain },
	[KIND_SCRIPT_DEBUG] = { sent_plain },
	[KIND_DEBUGGER] = { sent_debugger },
	[KIND_CLIENT] = { sent_plain, .is_client = true },
	[KIND_CLIENT_OTHER] = { sent_plain, .is_client = true },
	[KIND_CLIENT_CACHING] = { sent_caching, .is_client = true },
	[KIND_CLIENT_REPLY] = { sent_plain, .is_client = true },
	[KIND_CLIENT_REPLY_ON] = { sent_reply_on, .is_client = true, .is_reply = true, .speaks = 3 },
	[KIND_CLIENT_REPLY_OFF] = { sent_reply_off, .is_client = true, .is_reply = true },
	[KIND_CLIENT_REPLY_SKIP] = { sent_reply_skip, .is_client = true, .is_reply = true },
};

/* A command whose reply would have told what it did is not answered. */
static void
sent_in_silence(struct redis *s, uint32_t number)
{
	if (s->exec_due && s->exec_at == number) {
		s->exec_due = false;
		s->in_multi = false;
		s->no_ping = true;
	}
	if (s->hello_due && s->hello_at == number) {
		s->hello_due = false;
		s->no_ping = true;
		s->no_push = true;
	}
}

void
redis_command_sent(struct redis *s, enum redis_kind kind, uint32_t argc)
{
	bool answered = !s->muted && (s->hold & HOLD_SKIP) == 0;
	uint32_t replies;

	s->hold = kinds[kind].is_client ? s->hold & HOLD_CACHING : 0;
	s->told = 0;
	if (kind == KIND_EMPTY)
		return;
	if (kinds[kind].is_reply && s->in_multi && !s->exec_due) {
		s->why = "CLIENT REPLY inside a transaction";
		return;
	}
	if (!answered && kind >= KIND_SUBSCRIBE && kind <= KIND_SUNSUBSCRIBE)
		s->unsure = true;
	replies = kinds[kind].sent(s, argc);
	if (answered || (kinds[kind].speaks != 0 && kinds[kind].speaks == argc))
		s->sent += replies;
	else
		sent_in_silence(s, s->sent + 1);
}

/* --- what a reply tells --- */

static bool
head_is(const struct redis *s, const char *text)
{
	return s->reply.head_len >= strlen(text) && memcmp(s->reply.head, text, strlen(text)) == 0;
}

static void
exec_answered(struct redis *s)
{
	bool aborted = head_is(s, "EXEC");

	s->exec_due = false;
	if (s->reply.reply_type != '-' || aborted)
		s->in_multi = false;
	else
		s->no_ping = true;	/* whether a transaction is still open is not known */
}

static void
hello_answered(struct redis *s)
{
	bool was_reset = s->reset_due;

	s->hello_due = false;
	s->reset_due = false;
	if (s->reply.reply_type == '-') {
		if (was_reset)
			s->unsure = true;
		return;
	}
	/* Back in RESP2 with its subscriptions, if it has any: then messages look like replies. */
	if (s->resp3 && s->reply.reply_type != '%' && s->subscribed && !was_reset)
		s->stream = true;
	s->resp3 = s->reply.reply_type == '%';
	if (s->resp3 || was_reset)
		s->listening = false;
	if (was_reset)
		s->proved = false;
}

/* RESP3 confirms subscriptions by pushes, RESP2 by arrays. False: it is no confirmation. */
static bool
confirmation_came(struct redis *s)
{
	const struct redis_word *w = &s->reply.word;
	const bool is_last = head_is(s, "0\r");	/* it ends with the number of subscriptions that are left */

	if (w->len < 9 || w->len >= REDIS_WORD_MAX ||
	    memcmp(w->text + w->len - 9, "SUBSCRIBE", 9) != 0)
		return false;
	if (redis_word_is(w, "SUNSUBSCRIBE") || s->confirms + s->leaving == 0) {
		s->unsure = true;
		return true;
	}
	s->proved = true;
	if (s->confirms > 0)
		s->confirms--;
	else if (is_last)
		s->leaving--;
	/* Without any subscription, arrays are replies again. */
	if (s->confirms == 0 && s->leaving == 0 && is_last)
		s->listening = false;
	return true;
}

/* RESP2, subscribed: whatever is a message by its name draws no reply. */
static bool
message_came(struct redis *s)
{
	const struct redis_word *w = &s->reply.word;

	return confirmation_came(s) || redis_word_is(w, "MESSAGE") ||
	    redis_word_is(w, "PMESSAGE") || redis_word_is(w, "SMESSAGE");
}

bool
redis_is_listening(const struct redis *s)
{
	return s->listening && (int32_t)(s->done - s->listen_at) >= 0;
}

bool
redis_is_busy(const struct redis *s)
{
	return !s->stream && !s->unsure && (s->sent != s->done || s->confirms > 0 || s->leaving > 0);
}

/* The server would not have this client: too many, or from outside. Then it closes. */
static void
first_reply_came(struct redis *s)
{
	s->heard = true;
	s->dismissed = s->reply.reply_type == '-' && (head_is(s, "ERR max ") || head_is(s, "DENIED"));
}

/* Other protocols have lines that begin with these types too: ":server 001 me :Welcome", "# a comment". */
static bool
is_sane(const struct redis *s)
{
	const char first = s->reply.head_len > 0 ? s->reply.head[0] : '\r';

	switch (s->reply.reply_type) {
	case ':':
	case '(':
		return first == '-' || first == '+' || (first >= '0' && first <= '9');
	case '#':
		return first == 't' || first == 'f';
	case '_':
		return first == '\r';
	default:
		return true;
	}
}

/* The first reply behind CLIENT REPLY OFF or SKIP: had that been refused, it would be the error that says so. */
static void
settle_silence(struct redis *s)
{
	s->wary = false;
	if (s->reply.reply_type == '-')
		s->unsure = true;
}

void
redis_reply_came(struct redis *s)
{
	if (!is_sane(s)) {
		redis_reply_doubt(s, "replies that are not RESP");
		return;
	}
	if (!s->heard)
		first_reply_came(s);
	if (s->reply.reply_type == '>') {
		(void)confirmation_came(s);
		return;
	}
	if (s->reply.reply_type == '*' && redis_is_listening(s) && message_came(s))
		return;
	if (s->sent == s->done) {
		if (s->sent_oneway_ever && s->refusal == REFUSED_NOT && !s->unsure && !s->wary)
			s->refusal = REFUSED_LATE;
		s->unsure = true;
		return;
	}
	s->done++;
	if (s->reply.reply_type != '-')
		s->proved = true;
	else if (s->confirms > 0)
		s->unsure = true;
	if (s->wary && (int32_t)(s->done - s->wary_at) > 0)
		settle_silence(s);
	if (s->leaving > 0 && (int32_t)(s->done - s->leave_at) > 0)
		s->leaving = 0;		/* all that it drew has come before this */
	if (s->exec_due && s->exec_at == s->done)
		exec_answered(s);
	if (s->hello_due && s->hello_at == s->done)
		hello_answered(s);
}
