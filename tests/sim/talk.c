/*
 * talk.c - what is said is heard.
 *
 * What a party says is kept until the other one has heard it, message by
 * message. What arrives is compared with it. Between two messages, bytes that
 * differ from the next message must be a heartbeat that the protocol allows at
 * that point; the party replies to it, and the other party must not hear that.
 */
#include "judge.h"
#include "kernel.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SURE 48			/* so many equal bytes are the message, not a heartbeat that begins like it */
#define READ 65536

struct talk_list talks = TAILQ_HEAD_INITIALIZER(talks);
size_t talks_begun, talks_heard_messages;

/* A server's connection whose conversation is not known yet. */
struct arrival {
	TAILQ_ENTRY(arrival) link;
	struct server *server;
	struct host *host;
	struct tcp *tcp;		/* NULL: it is gone, and a client may still hear its greeting */
	struct secure *secure;
	enum harm harm;
	struct happening look;
	struct queue bytes;
	uint8_t greeting[GREETING_MAX];
	size_t greeting_len;
};

struct server {
	TAILQ_ENTRY(server) link;
	const struct speech *speech;
	struct tcp *listener;
	struct address at;
	struct happening look;
};

static unsigned greetings;
static int64_t hushed_until_us;
static TAILQ_HEAD(, arrival) arrivals = TAILQ_HEAD_INITIALIZER(arrivals);
static TAILQ_HEAD(, server) servers = TAILQ_HEAD_INITIALIZER(servers);

static int take_greeting(struct party *p);

static const char *
name_of(const struct party *p)
{
	return p->side == CLIENT ? "client" : "server";
}

struct party *
party_other(const struct party *p)
{
	return &p->talk->party[side_other(p->side)];
}

/* --- saying --- */

/* The program may end what has come to that, and this side expects it. */
static void
note_spoilt(struct party *p)
{
	if (!secure_is_spoilt(p->secure))
		return;
	p->has_spoilt = p->expects_end = true;
}

/* The bytes before an urgent one, or that alone. */
static long
send_until_urgent(struct party *p)
{
	const bool is_urgent = p->urgent_in == 1;
	const long n = tcp_send(p->tcp, queue_front(&p->unsent), is_urgent ? 1 : p->urgent_in - 1, is_urgent);

	if (n > 0)
		p->urgent_in -= (size_t)n;
	if (n > 0 && is_urgent)
		p->urgent_at = p->tcp->una + p->tcp->out.len;
	return n;
}

static long
send_some(struct party *p)
{
	long n;

	if (p->urgent_in > 0)
		return send_until_urgent(p);
	if (p->secure == NULL)
		return tcp_send(p->tcp, queue_front(&p->unsent), p->unsent.len, false);
	n = secure_send(p->secure, queue_front(&p->unsent), p->unsent.len);
	note_spoilt(p);
	return n;
}

static void
flush(struct party *p)
{
	if (p->secure != NULL && !p->is_stopped)
		secure_go_on(p->secure);
	while (p->tcp != NULL && p->unsent.len > 0 && !p->is_stopped) {
		const long n = send_some(p);

		if (n == -EAGAIN)
			return;
		if (n < 0) {
			story("talk %ld: the %s gets %s", p->talk->number, name_of(p), strerror((int)-n));
			queue_free(&p->unsent);
			p->urgent_in = 0;
			p->got_reset = true;
			happen_at(&p->look, world_us);	/* where it is closed: the caller is at work on it */
			return;
		}
		queue_drop(&p->unsent, (size_t)n);
	}
	if (p->tcp != NULL && p->unsent.len == 0 && p->says_fin && !p->said_fin && !p->is_stopped && (p->secure == NULL || secure_finish(p->secure))) {
		p->said_fin = true;
		p->said.since_us = world_us;
		(void)tcp_shutdown(p->tcp);
	}
}

static void
note_said(struct party *p, const void *message, size_t len)
{
	struct said *s = &p->said;

	queue_put(&s->bytes, message, len);
	if (s->from + s->n == s->room) {
		if (s->from > s->room / 2) {
			memmove(s->lengths, s->lengths + s->from, s->n * sizeof(*s->lengths));
			s->from = 0;
		} else {
			s->room = s->room > 0 ? s->room * 2 : 16;
			s->lengths = realloc(s->lengths, s->room * sizeof(*s->lengths));
			assert(s->lengths != NULL);
		}
	}
	if (s->n == 0)
		s->since_us = world_us;
	s->lengths[s->from + s->n++] = len;
}

void
party_say(struct party *p, const void *message, size_t len)
{
	assert(len > 0 && !p->says_fin);
	note_said(p, message, len);
	p->said_us = world_us;
	queue_put(&p->unsent, message, len);
	p->said_more = true;
	flush(p);
}

/* TCP has one urgent byte at a time: a second one makes the first a normal one, unless it has been read. */
void
party_say_urgent(struct party *p)
{
	const uint8_t byte = (uint8_t)rnd();

	if (p->said.n > 0 || p->unsent.len > 0 || (p->urgent_at != 0 && !p->said_more) || p->says_fin || p->tcp == NULL)
		return;
	p->said_more = false;
	if (p->talk->speech->urgent == URGENT_RELAYED)
		note_said(p, &byte, 1);
	queue_put(&p->unsent, &byte, 1);
	p->urgent_in = p->unsent.len;
	flush(p);
}

void
party_reply(struct party *p, const void *bytes, size_t len)
{
	if (p->is_mute)
		return;
	queue_put(&p->unsent, bytes, len);
	flush(p);
}

void
party_think(struct party *p, int64_t after_us)
{
	happen_at(&p->think, world_us + after_us);
}

size_t
party_unsaid(const struct party *p)
{
	return p->unsent.len;
}

static void
close_party(struct party *p)
{
	if (p->tcp == NULL)
		return;
	p->tcp->user = (struct tcp_user){ 0 };
	p->tcp = NULL;
	if (p->secure != NULL && !secure_is_open(p->secure))
		p->has_spoilt = true;	/* it closes within its handshake */
	secure_free(p->secure);
	p->secure = NULL;
	p->end_us = world_us;
	happen_not(&p->think);
	happen_not(&p->look);
}

void
party_finish(struct party *p)
{
	p->expects_end = true;
	p->says_fin = true;
	flush(p);
}

void
party_quit(struct party *p)
{
	struct tcp *t = p->tcp;

	p->expects_end = true;
	if (t == NULL)
		return;
	story("talk %ld: the %s closes", p->talk->number, name_of(p));
	flush(p);
	if (p->secure != NULL && p->unsent.len == 0)
		(void)secure_finish(p->secure);
	p->has_spoilt |= p->secure != NULL && tcp_unread(t) > 0;	/* then it is a reset */
	close_party(p);
	tcp_close(t);
}

void
party_abort(struct party *p)
{
	struct tcp *t = p->tcp;

	p->expects_end = true;
	if (t == NULL)
		return;
	story("talk %ld: the %s resets", p->talk->number, name_of(p));
	p->has_spoilt |= p->secure != NULL;	/* the reset may overtake the end of its handshake */
	close_party(p);
	tcp_abort(t);
}

/* --- hearing --- */

/* The message that the other one said next; NULL: it said nothing more. */
static const uint8_t *
next_message(const struct said *s, size_t *len)
{
	if (s->n == 0)
		return NULL;
	*len = s->lengths[s->from];
	return queue_front(&s->bytes);
}

static void
heard_message(struct party *p)
{
	struct said *s = &party_other(p)->said;
	const size_t len = s->lengths[s->from];
	uint8_t *copy = malloc(len);

	assert(copy != NULL && s->heard == len);
	memcpy(copy, queue_front(&s->bytes), len);
	queue_drop(&s->bytes, len);
	s->from++;
	s->n--;
	s->heard = 0;
	s->since_us = world_us;
	talks_heard_messages++;
	if (p->talk->speech->hear[p->side] != NULL && !p->is_stopped)
		p->talk->speech->hear[p->side](p, copy, len);
	free(copy);
}

/* Takes what continues the message that has begun. */
static size_t
continue_message(struct party *p, const uint8_t *bytes, size_t len)
{
	struct said *s = &party_other(p)->said;
	size_t whole, n;
	const uint8_t *message = next_message(s, &whole);

	n = whole - s->heard < len ? whole - s->heard : len;
	if (memcmp(message + s->heard, bytes, n) != 0) {
		wrong("exact", "talk %ld (%s): the %s hears other bytes than were said, within a message of %zu bytes after %zu", p->talk->number,
		    p->talk->speech->name, name_of(p), whole, s->heard);
		return len;
	}
	s->heard += n;
	if (s->heard == whole)
		heard_message(p);
	return n;
}

static void
describe(const struct party *p, const uint8_t *bytes, size_t len)
{
	char text[128];
	size_t n = 0;

	for (size_t i = 0; i < len && n + 5 < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, bytes[i] >= 0x20 && bytes[i] < 0x7f ? "%c" : "\\x%02x", bytes[i]);
	text[n] = '\0';
	wrong("exact", "talk %ld (%s): the %s hears what was not said, and is no heartbeat that is legal there: %s", p->talk->number,
	    p->talk->speech->name, name_of(p), text);
}

/* A message begins here: is it short, and here as a whole? */
static void
note_short(struct party *p, const uint8_t *message, size_t whole)
{
	p->short_len = 0;
	if (p->tcp == NULL || whole > sizeof(p->short_message) || whole > p->unheard.len)
		return;
	memcpy(p->short_message, message, whole);
	p->short_len = whole;
	p->short_end = p->tcp->read - p->unheard.len + whole;
}

/* The heartbeat at this position, and the message before it, are the same bytes: either may have been the heartbeat. */
static bool
is_like_message(const struct party *p, const uint8_t *bytes, size_t len, uint64_t at)
{
	return len > 0 && p->short_len == len && p->short_end == at && memcmp(p->short_message, bytes, len) == 0;
}

/* At the boundary of two messages. False: more bytes are needed. */
static bool
take_boundary(struct party *p)
{
	const uint8_t *bytes = queue_front(&p->unheard), *message;
	const struct speech *sp = p->talk->speech;
	const size_t before = p->unheard.len;		/* a reply may end the connection */
	size_t whole = 0, n;
	long used = -1;

	if (sp->greet != NULL && p->side == CLIENT && p->talk->party[BACKEND].host == NULL) {
		const int taken = take_greeting(p);

		if (taken >= 0)
			return taken > 0;
	}
	message = next_message(&party_other(p)->said, &whole);
	n = whole < p->unheard.len ? whole : p->unheard.len;
	if (message != NULL && memcmp(message, bytes, n) == 0) {
		if (n < whole && n < SURE)
			return false;	/* it may still differ */
		note_short(p, message, whole);
		queue_drop(&p->unheard, continue_message(p, bytes, n));
		return true;
	}
	if (sp->heartbeat != NULL)
		used = sp->heartbeat(p, bytes, p->unheard.len);
	if (used > 0) {
		p->heartbeats++;
		judge_heartbeat(p);
		if (p->tcp != NULL && !is_like_message(p, bytes, (size_t)used, p->tcp->read - before))
			kernel_judge_heartbeat(p, p->tcp->read - before);
		queue_drop(&p->unheard, (size_t)used);
		return true;
	}
	if (used < 0 && sp->goodbye != NULL) {
		used = sp->goodbye(p, bytes, p->unheard.len);
		if (used > 0) {
			p->heard_goodbye = true;
			judge_heard_end(p, false);
			queue_drop(&p->unheard, (size_t)used);
			return true;
		}
	}
	if (used < 0)
		describe(p, bytes, p->unheard.len);
	return false;
}

static void
hear_bytes(struct party *p, const uint8_t *bytes, size_t len)
{
	p->last_heard_us = world_us;
	while (len > 0 && what_is_wrong() == NULL) {
		if (p->unheard.len == 0 && party_other(p)->said.heard > 0) {
			const size_t n = continue_message(p, bytes, len);

			bytes += n;
			len -= n;
			continue;
		}
		queue_put(&p->unheard, bytes, len);
		len = 0;
		while (p->unheard.len > 0 && what_is_wrong() == NULL) {
			if (party_other(p)->said.heard > 0)
				queue_drop(&p->unheard, continue_message(p, queue_front(&p->unheard), p->unheard.len));
			else if (!take_boundary(p))
				break;
		}
	}
}

/* The other one's FIN has come: everything that it said before must have. */
static void
heard_end(struct party *p)
{
	const struct party *o = party_other(p);

	p->got_fin = true;
	p->follows = !p->expects_end && !p->said_fin;
	p->heard_orderly = !p->heard_goodbye && !p->expects_end && !o->says_fin && !o->expects_end;
	if (o->said_fin && o->harm == UNHARMED && p->harm == UNHARMED && !p->talk->was_ended && o->said.n > 0 && !o->got_reset && !p->heard_goodbye)
		p->odd_fin = "messages before it are missing";
	if (!o->said_fin && o->tcp != NULL && o->harm == UNHARMED && !p->talk->was_ended && !p->heard_goodbye && (!p->expects_end || p->said_fin))
		p->odd_fin = "nobody sent it";
	if (p->secure != NULL && secure_is_truncated(p->secure) && o->harm == UNHARMED && p->harm == UNHARMED && !p->talk->was_ended)
		p->odd_fin = "no close_notify came before it";
	if (p->talk->was_logged && p->odd_fin != NULL)
		wrong("exact", "talk %ld (%s): the %s hears a FIN, but %s", p->talk->number, p->talk->speech->name, name_of(p), p->odd_fin);
	story("talk %ld: the %s hears the end", p->talk->number, name_of(p));
	judge_heard_end(p, true);
}

/* The mark of an urgent byte is where the other one has set it, and nowhere else. Reading stops before it. */
static long
receive_marked(struct party *p, uint8_t *buf, size_t len)
{
	const uint64_t before = p->tcp->read, at = p->talk->speech->urgent == URGENT_RELAYED ? party_other(p)->urgent_at : 0;
	const bool is_marked = p->tcp->in.len > 0 && tcp_at_urgent(p->tcp);
	const long n = tcp_receive(p->tcp, buf, is_marked ? 1 : len, false);

	if (n <= 0)
		return n;
	if (is_marked && before + 1 != at)
		wrong("exact", "talk %ld (%s): the %s hears byte %llu as urgent, which is not (%llu is)", p->talk->number, p->talk->speech->name,
		    name_of(p), (unsigned long long)before + 1, (unsigned long long)at);
	else if (!is_marked && before < at && p->tcp->read >= at)
		wrong("exact", "talk %ld (%s): the %s hears the urgent byte %llu as a normal one", p->talk->number, p->talk->speech->name,
		    name_of(p), (unsigned long long)at);
	return n;
}

static long
receive_some(struct party *p, uint8_t *buf, size_t len)
{
	long n;

	if (p->talk->speech->urgent != URGENT_NOT)
		return receive_marked(p, buf, len);
	if (p->secure == NULL)
		return tcp_receive(p->tcp, buf, len, false);
	n = secure_receive(p->secure, buf, len);
	note_spoilt(p);
	return n;
}

static void
listen_to(struct party *p)
{
	static uint8_t buf[READ];
	const size_t most = p->slow_us > 0 && p->slow_bytes < sizeof(buf) ? p->slow_bytes : sizeof(buf);
	long n = 1;

	while (p->tcp != NULL && !p->is_paused && !p->is_stopped && !p->got_fin) {
		n = receive_some(p, buf, most);
		if (n <= 0)
			break;
		hear_bytes(p, buf, (size_t)n);
		if (p->slow_us > 0) {
			happen_at(&p->look, world_us + p->slow_us);
			return;
		}
	}
	if (p->tcp == NULL || n > 0 || n == -EAGAIN)
		return;
	if (n == 0 && p->tcp->was_reset)
		n = -ECONNRESET;	/* a write, maybe of TLS, got the error */
	if (n == 0) {
		heard_end(p);
		/* Most programs close then. */
		if (p->tcp != NULL && (!p->expects_end || !p->said_fin)) {
			p->expects_end = true;
			happen_at(&p->think, world_us + rnd_scale(MS, SECONDS));
		}
		if (p->said_fin && p->tcp != NULL)
			party_quit(p);
		return;
	}
	p->got_reset = true;
	story("talk %ld: the %s gets %s", p->talk->number, name_of(p), strerror((int)-n));
	party_abort(p);
}

static void
on_look(void *arg)
{
	struct party *p = arg;

	if (p->tcp != NULL && !p->got_reset && (tcp_poll(p->tcp) & POLLOUT))
		flush(p);
	if (p->tcp != NULL && p->got_reset)
		party_abort(p);
	if (p->tcp != NULL)
		listen_to(p);
	if (p->secure != NULL && p->unsent.len > 0 && secure_is_open(p->secure) && !p->got_reset)
		flush(p);		/* what waited for the handshake */
}

static void
on_change(void *arg, unsigned bits)
{
	struct party *p = arg;

	(void)bits;
	if (p->look.slot == 0)
		happen_at(&p->look, world_us + rnd_between(1, 200));
}

/* A server that speaks when it was asked something; others also speak by themselves. */
static bool
only_answers(const struct party *p)
{
	const struct speech *s = p->talk->speech;

	return p->side == BACKEND && s->act[CLIENT] != s->act[BACKEND] && strncmp(s->name, "http", 4) != 0;
}

static void
on_think(void *arg)
{
	struct party *p = arg;

	if (p->tcp == NULL)
		return;
	if (p->is_stopped) {
		party_think(p, SECONDS);
		return;
	}
	if (world_us < hushed_until_us && !only_answers(p)) {
		party_think(p, hushed_until_us - world_us + rnd_between(0, MINUTES));
		return;
	}
	if (p->got_fin) {
		if (p->unsent.len == 0 || (p->secure != NULL && !secure_is_open(p->secure)))
			party_quit(p);
		else
			party_think(p, SECONDS);
		return;
	}
	p->talk->speech->act[p->side](p);
}

static void
begin_party(struct party *p, struct talk *t, enum side side)
{
	p->talk = t;
	p->side = side;
	p->look = (struct happening){ .fn = on_look, .arg = p };
	p->think = (struct happening){ .fn = on_think, .arg = p };
	p->state = t->speech->state_size > 0 ? calloc(1, t->speech->state_size) : NULL;
	p->last_heard_us = world_us;
}

static void
connect_party(struct party *p, struct tcp *tcp)
{
	p->tcp = tcp;
	p->host = tcp->host;
	p->id = tcp->id;
	if (p->host->harm != UNHARMED)
		party_harmed(p, (enum harm)p->host->harm);
	p->is_mute = p->talk->speech->may_be_mute && rnd_chance(300);
	tcp->user = (struct tcp_user){ on_change, p };
	/* Some applications want probes of their own. */
	if (rnd_chance(2000)) {
		tcp->keepalive = true;
		tcp->idle_s = 60;
		tcp_options_changed(tcp);
	}
	if (rnd_chance(500)) {
		p->slow_us = rnd_scale(MS, 50 * MS);
		p->slow_bytes = (size_t)rnd_scale(1, 100) * (size_t)(p->slow_us / MS) * 16;	/* 16 kB a second, or more */
	}
}

struct talk *
talk_begin(const struct speech *s, struct host *client, struct address listener, int64_t for_us)
{
	struct talk *t = calloc(1, sizeof(*t));
	struct tcp *tcp = tcp_new(client);

	assert(t != NULL);
	t->speech = s;
	t->number = (long)++talks_begun;
	t->began_us = world_us;
	t->stops_us = world_us + for_us;
	t->via = listener;
	TAILQ_INSERT_TAIL(&talks, t, link);
	begin_party(&t->party[CLIENT], t, CLIENT);
	begin_party(&t->party[BACKEND], t, BACKEND);
	tcp->inline_urgent = s->urgent != URGENT_NOT;
	(void)tcp_connect(tcp, listener);
	t->at = tcp->local;
	story("talk %ld (%s): %s:%u connects", t->number, s->name, client->name, tcp->local.port);
	connect_party(&t->party[CLIENT], tcp);
	if (s->secrecy[CLIENT] != SECURE_NOT && !(s->may_be_plain && rnd_chance(5000)))
		t->party[CLIENT].secure = secure_new(tcp, s->secrecy[CLIENT], false, client->spoils_tls);
	s->begin(&t->party[CLIENT]);
	flush(&t->party[CLIENT]);
	return t;
}

/* --- servers --- */

static struct talk *
find_talk(const struct speech *s, long number)
{
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		if (t->number == number && t->speech == s)
			return t;
	return NULL;
}

static void
free_arrival(struct arrival *a)
{
	TAILQ_REMOVE(&arrivals, a, link);
	secure_free(a->secure);
	happen_not(&a->look);
	queue_free(&a->bytes);
	free(a);
}

static void
close_arrival(struct arrival *a)
{
	a->tcp->user = (struct tcp_user){ 0 };
	tcp_close(a->tcp);
	a->tcp = NULL;
	secure_free(a->secure);
	a->secure = NULL;
	happen_not(&a->look);
	if (a->greeting_len == 0)
		free_arrival(a);
}

/* The server's connection has become that of a conversation. */
static void
settle_arrival(struct arrival *a, struct talk *t)
{
	struct party *p = &t->party[BACKEND];

	p->host = a->host;
	if (a->tcp != NULL)
		connect_party(p, a->tcp);
	p->secure = a->secure;
	a->secure = NULL;
	if (a->harm != UNHARMED)
		party_harmed(p, a->harm);
	if (a->tcp == NULL)
		return;
	t->speech->begin(p);
	on_change(p, POLLIN);
}

/* What a client hears first: 1: the greeting of a server, whose connection is settled thereby; 0: a part of one; -1: neither. */
static int
take_greeting(struct party *p)
{
	struct said *s = &p->talk->party[BACKEND].said;
	struct arrival *a;
	size_t n;

	TAILQ_FOREACH(a, &arrivals, link) {
		n = p->unheard.len < a->greeting_len ? p->unheard.len : a->greeting_len;
		if (a->server->speech != p->talk->speech || memcmp(queue_front(&p->unheard), a->greeting, n) != 0)
			continue;
		if (n < a->greeting_len)
			return 0;
		settle_arrival(a, p->talk);
		note_said(&p->talk->party[BACKEND], a->greeting, n);
		free_arrival(a);
		queue_drop(&p->unheard, n);
		s->heard = n;
		heard_message(p);
		return 1;
	}
	return -1;
}

/* The speeches read it with strtol(), so what came is ended by a NUL. */
static long
number_of(const struct arrival *a)
{
	const struct speech *s = a->server->speech;
	uint8_t *text = calloc(1, a->bytes.len + 1);
	long number;

	assert(text != NULL);
	memcpy(text, queue_front(&a->bytes), a->bytes.len);
	number = s->number != NULL ? s->number(text, a->bytes.len) : -1;
	free(text);
	return number;
}

/* What has come is looked at for the conversation that it is of. True: it may be read on. */
static bool
take_arrival(struct arrival *a, const uint8_t *bytes, size_t n)
{
	struct party *p;
	struct talk *t;
	long number;

	queue_put(&a->bytes, bytes, n);
	number = number_of(a);
	if (number == NUMBER_REFUSED)
		(void)tcp_send(a->tcp, (const uint8_t *)"N", 1, false);
	if (number == NUMBER_NO_TALK)
		close_arrival(a);
	if (number == -2 || number == NUMBER_REFUSED || number == NUMBER_NO_TALK)
		return number != NUMBER_NO_TALK;
	t = number >= 0 ? find_talk(a->server->speech, number) : NULL;
	if (t == NULL || t->party[BACKEND].tcp != NULL) {
		wrong("exact", "a %s server hears what no client has said at the beginning%s: %zu bytes, %.20s", a->server->speech->name,
		    t != NULL ? ", or has said to another one" : "", a->bytes.len, (const char *)queue_front(&a->bytes));
		return false;
	}
	p = &t->party[BACKEND];
	settle_arrival(a, t);
	hear_bytes(p, queue_front(&a->bytes), a->bytes.len);
	free_arrival(a);
	return false;
}

/* Its first message tells which conversation it is. */
static void
look_at_arrival(void *arg)
{
	struct arrival *a = arg;
	uint8_t buf[4096];
	long n;

	if (a->secure != NULL)
		secure_go_on(a->secure);
	do {
		n = a->secure != NULL ? secure_receive(a->secure, buf, sizeof(buf)) : tcp_receive(a->tcp, buf, sizeof(buf), false);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			close_arrival(a);
			return;
		}
	} while (take_arrival(a, buf, (size_t)n));
}

static void
on_arrival_change(void *arg, unsigned bits)
{
	struct arrival *a = arg;

	(void)bits;
	happen_at(&a->look, world_us + rnd_between(1, 200));
}

static void
accept_all(void *arg)
{
	struct server *s = arg;
	struct tcp *t;

	while ((t = tcp_accept(s->listener)) != NULL) {
		struct arrival *a = calloc(1, sizeof(*a));

		assert(a != NULL);
		*a = (struct arrival){ .server = s, .host = t->host, .tcp = t, .harm = (enum harm)t->host->harm, .look = { .fn = look_at_arrival, .arg = a } };
		t->user = (struct tcp_user){ on_arrival_change, a };
		t->inline_urgent = s->speech->urgent != URGENT_NOT;
		if (s->speech->secrecy[BACKEND] != SECURE_NOT)
			a->secure = secure_new(t, s->speech->secrecy[BACKEND], true, t->host->spoils_tls);
		TAILQ_INSERT_TAIL(&arrivals, a, link);
		if (s->speech->greet != NULL) {
			a->greeting_len = s->speech->greet(a->greeting, ++greetings);
			(void)tcp_send(t, a->greeting, a->greeting_len, false);
		}
		on_arrival_change(a, 0);
	}
}

static void
on_listener_change(void *arg, unsigned bits)
{
	struct server *s = arg;

	(void)bits;
	happen_at(&s->look, world_us + rnd_between(1, 500));
}

static void
open_listener(struct server *s, struct host *host)
{
	s->listener = tcp_new(host);
	s->listener->user = (struct tcp_user){ on_listener_change, s };
	(void)tcp_listen(s->listener, s->at);
}

void
server_listen(const struct speech *speech, struct host *host, uint16_t port)
{
	struct server *s = calloc(1, sizeof(*s));

	assert(s != NULL);
	*s = (struct server){ .speech = speech, .at = host->address, .look = { .fn = accept_all, .arg = s } };
	s->at.port = port;
	open_listener(s, host);
	TAILQ_INSERT_TAIL(&servers, s, link);
}

/* --- faults --- */

void
party_pause(struct party *p, bool on)
{
	p->is_paused = on;
	p->resumed_us = world_us;
	if (!on && p->tcp != NULL)
		on_change(p, POLLIN);
}

void
party_stop(struct party *p, bool on)
{
	p->is_stopped = on;
	p->resumed_us = world_us;
	if (!on && p->tcp != NULL)
		on_change(p, POLLIN);
}

void
party_harmed(struct party *p, enum harm harm)
{
	p->harms |= 1u << harm;
	if (p->harm != UNHARMED)
		return;
	p->harm = harm;
	p->harmed_us = world_us;
}

void
talks_harmed(struct host *h, enum harm harm)
{
	struct arrival *a;
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++)
			if (t->party[s].host == h)
				party_harmed(&t->party[s], harm);
	TAILQ_FOREACH(a, &arrivals, link)
		if (a->host == h && a->harm == UNHARMED)
			a->harm = harm;
}

void
talks_pushed_out(uint64_t id)
{
	struct arrival *a;
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++)
			if (t->party[s].id == id) {
				party_harmed(&t->party[s], HARM_FORGOTTEN);
				party_doomed(&t->party[s]);
			}
	TAILQ_FOREACH(a, &arrivals, link)
		if (a->tcp != NULL && a->tcp->id == id)
			a->harm = HARM_FORGOTTEN;
}

void
party_doomed(struct party *p)
{
	if (p->doomed_us == 0)
		p->doomed_us = world_us;
}

/* Their kernel starts anew: connections are gone, listeners are opened again. */
void
talks_forget(struct host *h)
{
	struct arrival *a, *next;
	struct talk *t;
	struct server *s;

	TAILQ_FOREACH(t, &talks, link)
		for (int side = CLIENT; side <= BACKEND; side++)
			if (t->party[side].tcp != NULL && t->party[side].tcp->host == h) {
				party_doomed(&t->party[side]);
				close_party(&t->party[side]);
			}
	for (a = TAILQ_FIRST(&arrivals); a != NULL; a = next) {
		next = TAILQ_NEXT(a, link);
		if (a->tcp == NULL || a->host != h)
			continue;
		a->tcp = NULL;
		secure_free(a->secure);
		a->secure = NULL;
		a->harm = HARM_REBOOTED;
		happen_not(&a->look);
		if (a->greeting_len == 0)
			free_arrival(a);
	}
	TAILQ_FOREACH(s, &servers, link) {
		const struct address at = s->listener->local;

		if (s->listener->host != h)
			continue;
		s->listener = NULL;
		s->at = at;
	}
	tcp_forget(h);
	TAILQ_FOREACH(s, &servers, link)
		if (s->listener == NULL)
			open_listener(s, h);
}

/* --- the end --- */

struct talk *
talk_of(const struct address *client)
{
	struct talk *t;

	TAILQ_FOREACH(t, &talks, link)
		if (memcmp(&t->at, client, sizeof(*client)) == 0)
			return t;
	return NULL;
}

bool
talk_is_over(const struct talk *t)
{
	return t->party[CLIENT].tcp == NULL && t->party[BACKEND].tcp == NULL;
}

void
talks_hush(int64_t until_us)
{
	hushed_until_us = until_us;
}

static void
end_party(struct party *p)
{
	struct tcp *t = p->tcp;

	close_party(p);
	(void)t;			/* network_end() frees it */
	happen_not(&p->look);
	happen_not(&p->think);
	secure_free(p->secure);
	queue_free(&p->said.bytes);
	queue_free(&p->unsent);
	queue_free(&p->unheard);
	free(p->said.lengths);
	free(p->state);
}

void
talks_end(void)
{
	struct talk *t;
	struct server *s;

	while ((t = TAILQ_FIRST(&talks)) != NULL) {
		end_party(&t->party[CLIENT]);
		end_party(&t->party[BACKEND]);
		TAILQ_REMOVE(&talks, t, link);
		free(t);
	}
	greetings = 0;
	hushed_until_us = 0;
	while (!TAILQ_EMPTY(&arrivals))
		free_arrival(TAILQ_FIRST(&arrivals));
	while ((s = TAILQ_FIRST(&servers)) != NULL) {
		happen_not(&s->look);
		TAILQ_REMOVE(&servers, s, link);
		free(s);
	}
}

static void
print_end(const char *whose, const struct tcp *t)
{
	story("    %s: state %d%s, una %llu, nxt %llu, top %llu, %zu bytes out, edge %llu, got %llu, unread %zu, retries %u, probes %u, resend in %lld ms, err %d%s%s",
	    whose, (int)t->state, t->orphan ? ", orphan" : "", (unsigned long long)t->una, (unsigned long long)t->nxt, (unsigned long long)t->top,
	    t->out.len, (unsigned long long)t->edge, (unsigned long long)t->got, t->in.len, t->retries, t->probes,
	    t->resend.slot != 0 ? (long long)((t->resend.at_us - world_us) / MS) : -1, t->err, t->fin_out ? ", FIN out" : "", t->fin_in ? ", FIN in" : "");
}

static void
print_party(const struct party *p)
{
	const struct tcp *e;

	story("  %s: id %llu heard %lld s ago, %zu messages said and not heard, %zu bytes unsent, %zu heartbeats%s%s%s%s", name_of(p), (unsigned long long)p->id,
	    (long long)((world_us - p->last_heard_us) / SECONDS), p->said.n, p->unsent.len, (size_t)p->heartbeats, p->is_paused ? ", paused" : "",
	    p->is_stopped ? ", stopped" : "", p->slow_us > 0 ? ", slow" : "", p->said_fin ? ", said FIN" : "");
	for (size_t h = 0; h < n_hosts; h++)
		TAILQ_FOREACH(e, &hosts[h].ends, of_host)
			if (p->id != 0 && e->id == p->id)
				print_end(hosts[h].name, e);
}

void
talk_print(const struct talk *t)
{
	story("talk %ld (%s), begun %lld s ago:", t->number, t->speech->name, (long long)((world_us - t->began_us) / SECONDS));
	print_party(&t->party[CLIENT]);
	print_party(&t->party[BACKEND]);
}
