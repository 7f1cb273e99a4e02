/*
 * redis_ledger.c - which replies are due, and what they will change.
 *
 * A command changes what may be sent, at once or when its reply comes, as that
 * reply decides. Only the last EXEC and the last HELLO under way are remembered,
 * as PING goes out only when nothing is due. Where a command may get no reply,
 * several, or one of unknown form, the count is given up (count_is_unsure).
 *
 * A subscriber gets messages, which are not counted. In RESP2 they are arrays,
 * as many replies are, distinguished by their first element only. A reply that
 * looks like a message is not counted, which merely stops our PINGs; a message
 * that is counted would do harm, but no server sends one of another name.
 */
#include <string.h>

#include "codec/redis.h"
#include "stent/promise.h"

/* --- what a command changes; each returns the number of replies that it gets --- */

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

/* The confirmations cannot be counted. */
static void
lose_confirmations(struct redis *s)
{
	s->count_is_unsure = true;
	if (!s->resp3 && !s->hello_due)
		s->stream = true;
}

static void
expect_messages(struct redis *s)
{
	if (!s->resp3 && !s->has_messages) {
		s->has_messages = true;
		s->messages_at = s->sent;
	}
	if (s->hello_due || s->in_multi || s->reply_off || s->count_is_unsure || s->confirms > INT32_MAX)
		lose_confirmations(s);
}

/*
 * Each channel gets a confirmation: in RESP3 a push, in RESP2 an array, after
 * which messages come as arrays too. A refusal is one error reply instead.
 */
static uint32_t
sent_subscribe(struct redis *s, uint32_t argc)
{
	if (argc < 2)
		return 1;	/* an error */
	s->subscribed = true;
	s->confirms += argc - 1;
	expect_messages(s);
	if (s->leaving > 0)
		lose_confirmations(s);
	return 0;
}

/* Without a channel: from all, with a confirmation of each, but at least one. The last one reports no subscriptions. */
static uint32_t
sent_unsubscribe(struct redis *s, uint32_t argc)
{
	if (argc >= 2)
		return sent_subscribe(s, argc);
	expect_messages(s);
	if (s->confirms > 0 || s->leaving == UINT8_MAX)
		lose_confirmations(s);
	else
		s->leaving++;
	s->leave_at = s->sent;
	return 0;
}

/* The server unsubscribes by itself when a slot moves away. */
static uint32_t
sent_sunsubscribe(struct redis *s, uint32_t argc)
{
	s->count_is_unsure = true;
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

/* What comes next is read by the rules of the server's debugger. */
static uint32_t
sent_debugger(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->passthrough = "SCRIPT DEBUG";
	return 1;
}

/* A second one before the reply to the first: too many possible outcomes. */
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

/* Ends a transaction and CLIENT REPLY OFF at once; the rest is known with its reply. */
static uint32_t
sent_reset(struct redis *s, uint32_t argc)
{
	if (argc != 1)
		return 1;
	s->in_multi = false;
	s->exec_due = false;
	s->reply_off = false;
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
	s->one_shot |= ONE_SHOT_ASKING;
	return 1;
}

static uint32_t
sent_caching(struct redis *s, uint32_t argc)
{
	(void)argc;
	s->one_shot |= ONE_SHOT_CACHING;
	return 1;
}

static uint32_t
sent_reply_on(struct redis *s, uint32_t argc)
{
	if (argc == 3)
		s->reply_off = false;
	return 1;
}

/* CLIENT REPLY OFF or SKIP may be refused: the next reply shows that. */
static void
expect_silence(struct redis *s)
{
	if (!s->silence_is_unconfirmed)
		s->silence_at = s->sent;
	s->silence_is_unconfirmed = true;
}

static uint32_t
sent_reply_off(struct redis *s, uint32_t argc)
{
	if (argc != 3)
		return 1;
	s->reply_off = true;
	expect_silence(s);
	return 0;
}

static uint32_t
sent_reply_skip(struct redis *s, uint32_t argc)
{
	if (argc != 3)
		return 1;
	s->one_shot |= ONE_SHOT_SKIP;
	expect_silence(s);
	return 0;
}

static const struct {
	uint32_t (*sent)(struct redis *s, uint32_t argc);
	bool is_client;		/* CLIENT ...: keeps the flag of CLIENT CACHING */
	bool is_reply;		/* CLIENT REPLY ...: inside a transaction it would silence half of EXEC */
	uint8_t speaks;		/* with this many words it gets a reply even after CLIENT REPLY OFF */
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

/* The reply that would have shown what the command did is not sent. */
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
	const bool gets_reply = !s->reply_off && (s->one_shot & ONE_SHOT_SKIP) == 0;
	uint32_t replies;

	promise_void(kind > KIND_NONE && kind < KIND_COUNT);
	promise_dear(kind == KIND_EMPTY || (kinds[kind].sent != NULL && argc > 0));
	promise_dear(s->one_shot <= (ONE_SHOT_SKIP | ONE_SHOT_ASKING | ONE_SHOT_CACHING));
	s->one_shot = kinds[kind].is_client ? s->one_shot & ONE_SHOT_CACHING : 0;
	s->empty_lines = 0;
	if (kind == KIND_EMPTY)
		return;
	if (kinds[kind].is_reply && s->in_multi && !s->exec_due) {
		s->passthrough = "CLIENT REPLY inside a transaction";
		return;
	}
	if (!gets_reply && kind >= KIND_SUBSCRIBE && kind <= KIND_SUNSUBSCRIBE)
		s->count_is_unsure = true;
	replies = kinds[kind].sent(s, argc);
	promise_dear(replies <= 1);	/* confirmations of subscriptions are counted apart */
	if (gets_reply || (kinds[kind].speaks != 0 && kinds[kind].speaks == argc))
		s->sent += replies;
	else
		sent_in_silence(s, s->sent + 1);
}

/* --- what a reply changes --- */

static bool
head_is(const struct redis *s, const char *text)
{
	return s->reply.head_len >= strlen(text) && memcmp(s->reply.head, text, strlen(text)) == 0;
}

static void
exec_replied(struct redis *s)
{
	bool aborted = head_is(s, "EXEC");

	promise(s->exec_due && s->exec_at == s->done);
	s->exec_due = false;
	if (s->reply.reply_type != '-' || aborted)
		s->in_multi = false;
	else
		s->no_ping = true;	/* a transaction may still be open */
}

static void
hello_replied(struct redis *s)
{
	bool was_reset = s->reset_due;

	promise(s->hello_due && s->hello_at == s->done);
	s->hello_due = false;
	s->reset_due = false;
	if (s->reply.reply_type == '-') {
		if (was_reset)
			s->count_is_unsure = true;
		return;
	}
	/* Back in RESP2 with any subscriptions kept: messages look like replies. */
	if (s->resp3 && s->reply.reply_type != '%' && s->subscribed && !was_reset)
		s->stream = true;
	s->resp3 = s->reply.reply_type == '%';
	if (s->resp3 || was_reset)
		s->has_messages = false;
	if (was_reset)
		s->logged_in = false;
}

/* RESP3 confirms subscriptions by pushes, RESP2 by arrays. False: it is not a confirmation. */
static bool
confirmation_came(struct redis *s)
{
	const struct redis_word *w = &s->reply.word;
	const bool is_last = head_is(s, "0\r");	/* it ends with the number of subscriptions that are left */

	if (w->len < 9 || w->len >= REDIS_WORD_MAX ||
	    memcmp(w->text + w->len - 9, "SUBSCRIBE", 9) != 0)
		return false;
	if (redis_word_is(w, "SUNSUBSCRIBE") || s->confirms + s->leaving == 0) {
		s->count_is_unsure = true;
		return true;
	}
	promise_or(s->confirms > 0 || s->leaving > 0, true);
	s->logged_in = true;
	if (s->confirms > 0)
		s->confirms--;
	else if (is_last)
		s->leaving--;
	/* Without any subscription, arrays are replies again. */
	if (s->confirms == 0 && s->leaving == 0 && is_last)
		s->has_messages = false;
	return true;
}

/* RESP2, subscribed: an array that is a message by its name is no reply. */
static bool
message_came(struct redis *s)
{
	const struct redis_word *w = &s->reply.word;

	return confirmation_came(s) || redis_word_is(w, "MESSAGE") ||
	    redis_word_is(w, "PMESSAGE") || redis_word_is(w, "SMESSAGE");
}

bool
redis_may_get_messages(const struct redis *s)
{
	return s->has_messages && (int32_t)(s->done - s->messages_at) >= 0;
}

bool
redis_is_busy(const struct redis *s)
{
	return !s->stream && !s->count_is_unsure && (s->sent != s->done || s->confirms > 0 || s->leaving > 0);
}

/* The server may reject this client (too many, or protected mode), and then closes. */
static void
first_reply_came(struct redis *s)
{
	promise(!s->rejected && s->done == 0);
	s->heard = true;
	s->rejected = s->reply.reply_type == '-' && (head_is(s, "ERR max ") || head_is(s, "DENIED"));
}

/* Lines of other protocols may begin with these types: ":server 001 me :Welcome", "# a comment". */
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

/* The first reply after CLIENT REPLY OFF or SKIP: if that was refused, this is its error. */
static void
settle_silence(struct redis *s)
{
	promise(s->silence_is_unconfirmed && s->done != s->silence_at);
	s->silence_is_unconfirmed = false;
	if (s->reply.reply_type == '-')
		s->count_is_unsure = true;
}

void
redis_reply_came(struct redis *s)
{
	promise_void(s->reply.values_left == 0 && s->reply.depth == 0 && s->reply.head_len <= REDIS_HEAD_MAX);
	if (!is_sane(s)) {
		redis_reply_passthrough(s, "replies that are not RESP");
		return;
	}
	if (!s->heard)
		first_reply_came(s);
	if (s->reply.reply_type == '>') {
		(void)confirmation_came(s);
		return;
	}
	if (s->reply.reply_type == '*' && redis_may_get_messages(s) && message_came(s))
		return;
	if (s->sent == s->done) {
		if (s->sent_oneway_ever && s->refusal == REFUSED_NOT && !s->count_is_unsure && !s->silence_is_unconfirmed)
			s->refusal = REFUSED_LATE;
		s->count_is_unsure = true;
		return;
	}
	promise(s->stream || s->count_is_unsure || (int32_t)(s->sent - s->done) > 0);	/* no more replies than commands */
	s->done++;
	if (s->reply.reply_type != '-')
		s->logged_in = true;
	else if (s->confirms > 0)
		s->count_is_unsure = true;
	if (s->silence_is_unconfirmed && (int32_t)(s->done - s->silence_at) > 0)
		settle_silence(s);
	if (s->leaving > 0 && (int32_t)(s->done - s->leave_at) > 0)
		s->leaving = 0;		/* all its confirmations have come before this */
	if (s->exec_due && s->exec_at == s->done)
		exec_replied(s);
	if (s->hello_due && s->hello_at == s->done)
		hello_replied(s);
	promise(!s->exec_due || s->exec_at != s->done);
	promise(!s->hello_due || s->hello_at != s->done);
}
