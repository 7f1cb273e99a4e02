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
 * decides about that, an error reply is what gives it up (wary).
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

/*
 * In RESP2 the connection now carries messages, and replies of another form.
 * In RESP3 each channel draws a push; but a refusal is one error reply, which
 * would be taken for another command's.
 */
static uint32_t
sent_subscribe(struct redis *s, uint32_t argc)
{
	if (!s->resp3 && !s->hello_due)
		s->stream = true;
	if (!s->resp3 || s->hello_due || s->in_multi || s->muted || argc < 2)
		s->unsure = true;
	s->wary = true;
	s->confirms += argc - 1;
	if (s->confirms > INT32_MAX)
		s->unsure = true;
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

/* A second one before the first is answered: too many futures to follow. */
static uint32_t
sent_hello(struct redis *s, uint32_t argc)
{
	(void)argc;
	if (s->hello_due || s->in_multi) {
		s->no_ask = true;
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

static uint32_t
sent_reply_off(struct redis *s, uint32_t argc)
{
	if (argc != 3)
		return 1;
	s->muted = true;
	s->wary = true;
	return 0;
}

static uint32_t
sent_reply_skip(struct redis *s, uint32_t argc)
{
	if (argc != 3)
		return 1;
	s->hold |= HOLD_SKIP;
	s->wary = true;
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
	[KIND_SUNSUBSCRIBE] = { sent_sunsubscribe },
	[KIND_MONITOR] = { sent_monitor },
	[KIND_SYNC] = { sent_sync },
	[KIND_HELLO] = { sent_hello },
	[KIND_RESET] = { sent_reset, .speaks = 1 },
	[KIND_QUIT] = { sent_quit },
	[KIND_ASKING] = { sent_asking },
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
		s->no_ask = true;
	}
	if (s->hello_due && s->hello_at == number) {
		s->hello_due = false;
		s->no_ask = true;
		s->no_push = true;
	}
}

void
redis_command_sent(struct redis *s, enum redis_kind kind, uint32_t argc)
{
	bool answered = !s->muted && (s->hold & HOLD_SKIP) == 0;
	uint32_t replies;

	s->hold = kinds[kind].is_client ? s->hold & HOLD_CACHING : 0;
	if (kind == KIND_EMPTY)
		return;
	if (kinds[kind].is_reply && s->in_multi && !s->exec_due) {
		s->why = "CLIENT REPLY inside a transaction";
		return;
	}
	replies = kinds[kind].sent(s, argc);
	if (answered || (kinds[kind].speaks != 0 && kinds[kind].speaks == argc))
		s->sent += replies;
	else
		sent_in_silence(s, s->sent + 1);
}

/* --- what a reply tells --- */

static void
exec_answered(struct redis *s)
{
	bool aborted = s->reply.head_len >= 4 && memcmp(s->reply.head, "EXEC", 4) == 0;

	s->exec_due = false;
	if (s->reply.reply_type != '-' || aborted)
		s->in_multi = false;
	else
		s->no_ask = true;	/* whether a transaction is still open is not known */
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
	/* Back in RESP2 with its subscriptions, if it has any (wary): then replies are as behind SUBSCRIBE there. */
	if (s->resp3 && s->reply.reply_type != '%' && s->wary && !was_reset)
		s->stream = true;
	s->resp3 = s->reply.reply_type == '%';
	if (was_reset)
		s->proved = false;
}

/* In RESP3 subscriptions are confirmed by pushes. */
static void
push_came(struct redis *s)
{
	const struct redis_word *w = &s->reply.word;

	if (w->len < 9 || w->len >= REDIS_WORD_MAX ||
	    memcmp(w->text + w->len - 9, "SUBSCRIBE", 9) != 0)
		return;
	if (s->confirms == 0 || redis_word_is(w, "SUNSUBSCRIBE"))
		s->unsure = true;
	else
		s->confirms--;
}

void
redis_reply_came(struct redis *s)
{
	if (s->reply.reply_type == '>') {
		push_came(s);
		return;
	}
	if (s->sent == s->done) {
		s->unsure = true;
		return;
	}
	s->done++;
	if (s->reply.reply_type != '-')
		s->proved = true;
	else if (s->wary)
		s->unsure = true;
	if (s->exec_due && s->exec_at == s->done)
		exec_answered(s);
	if (s->hello_due && s->hello_at == s->done)
		hello_answered(s);
}
