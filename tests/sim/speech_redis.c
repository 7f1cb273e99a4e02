/*
 * speech_redis.c - Redis: pipelined commands, replies, transactions. A ping or
 * an empty line may come between two commands while nothing is due; the reply
 * to the ping must not reach the client.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

#define VALUE_MAX 20000

enum kind { COMMAND, APP_PING, OUR_PING };

struct redis {
	unsigned due;			/* client: commands without a reply */
	unsigned heard;			/* server: commands that it has not replied to */
	uint8_t kinds[64];		/* of these, in the order of the commands: enum kind */
	bool in_multi;
};

static void
say_command(struct party *p, const char *command, const char *key, size_t value_len)
{
	char *text = malloc(value_len + 200);
	int n = snprintf(text, 200, "*%d\r\n$%zu\r\n%s\r\n", key != NULL ? (value_len > 0 ? 3 : 2) : 1, strlen(command), command);

	if (key != NULL)
		n += snprintf(text + n, 100, "$%zu\r\n%s\r\n", strlen(key), key);
	if (value_len > 0) {
		n += snprintf(text + n, 32, "$%zu\r\n", value_len);
		for (size_t i = 0; i < value_len; i++)
			text[n++] = (char)rnd();
		text[n++] = '\r';
		text[n++] = '\n';
	}
	((struct redis *)p->state)->due++;
	party_say(p, text, (size_t)n);
	free(text);
}

static void
begin(struct party *p)
{
	char key[32];

	if (p->side != CLIENT)
		return;
	snprintf(key, sizeof(key), "talk:%07ld", p->talk->number);
	say_command(p, "GET", key, 0);
	party_think(p, rnd_scale(100, SECONDS));
}

static void
client_act(struct party *p)
{
	struct redis *r = p->state;

	if (world_us >= p->talk->stops_us && r->due == 0 && !r->in_multi) {
		if (rnd_chance(3000))
			party_finish(p);
		else
			party_quit(p);
		return;
	}
	if (r->due < 20) {
		if (rnd_chance(500) && !r->in_multi) {
			r->in_multi = true;
			say_command(p, "MULTI", NULL, 0);
		} else if (r->in_multi && rnd_chance(3000)) {
			r->in_multi = false;
			say_command(p, "EXEC", NULL, 0);
		} else if (rnd_chance(1000)) {
			say_command(p, "PING", NULL, 0);
		} else if (rnd_chance(5000)) {
			say_command(p, "GET", "key", 0);
		} else {
			say_command(p, "SET", "key", (size_t)rnd_scale(1, VALUE_MAX));
		}
	}
	party_think(p, rnd_scale(10, rnd_chance(2000) ? 20 * MINUTES : 2 * SECONDS));
}

static bool
is_command(const uint8_t *message, size_t len, const char *name)
{
	char text[32];

	snprintf(text, sizeof(text), "$%zu\r\n%s\r\n", strlen(name), name);
	return memmem(message, len < 40 ? len : 40, text, strlen(text)) != NULL;
}

/* Replies as a server does: at once, or after a while; in the order of the commands. */
static void
hear(struct party *p, const uint8_t *message, size_t len)
{
	struct redis *r = p->state;

	if (p->side == CLIENT) {
		r->due--;
		return;
	}
	if (is_command(message, len, "MULTI"))
		r->in_multi = true;
	if (is_command(message, len, "EXEC"))
		r->in_multi = false;
	r->kinds[r->heard++] = is_command(message, len, "PING") ? APP_PING : COMMAND;
	party_think(p, rnd_chance(300) ? rnd_scale(MS, 30 * SECONDS) : rnd_between(5, 200));
}

static void
server_act(struct party *p)
{
	struct redis *r = p->state;
	size_t len = (size_t)rnd_scale(1, VALUE_MAX);
	char *text = malloc(len + 32);
	int n;

	for (unsigned i = 0; i < r->heard; i++) {
		if (r->kinds[i] == OUR_PING) {
			party_reply(p, "+PONG\r\n", 7);
			continue;
		}
		if (r->kinds[i] == APP_PING || rnd_chance(6000)) {	/* the first could as well be the reply to a heartbeat */
			party_say(p, r->kinds[i] == APP_PING ? "+PONG\r\n" : "+OK\r\n", r->kinds[i] == APP_PING ? 7 : 5);
			continue;
		}
		n = snprintf(text, 32, "$%zu\r\n", len);
		for (size_t k = 0; k < len; k++)
			text[(size_t)n + k] = (char)rnd();
		memcpy(text + n + len, "\r\n", 2);
		party_say(p, text, (size_t)n + len + 2);
	}
	r->heard = 0;
	free(text);
}

/* 1: it is text; 0: it may become it; -1: it is not. */
static int
begins(const uint8_t *bytes, size_t len, const char *text)
{
	const size_t n = len < strlen(text) ? len : strlen(text);

	return memcmp(bytes, text, n) != 0 ? -1 : n == strlen(text);
}

static long
heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";
	struct redis *r = p->state;
	int is;

	if (p->side == CLIENT)
		return -1;
	is = begins(bytes, len, "\r\n");
	if (is >= 0)
		return is > 0 ? 2 : 0;
	is = begins(bytes, len, ping);
	if (is <= 0)
		return is;
	/* Behind a PING of the client it cannot be told which one of the two is ours. */
	if (r->in_multi || (r->heard > 0 && memchr(r->kinds, APP_PING, r->heard) == NULL)) {
		wrong("legal", "talk %ld: PING %s", p->talk->number, r->in_multi ? "in a transaction, where it is queued" : "while a command runs");
		return -1;
	}
	if (r->heard > 0)
		r->kinds[r->heard++] = OUR_PING;
	else
		party_reply(p, "+PONG\r\n", 7);
	return (long)strlen(ping);
}

static long
number(const uint8_t *bytes, size_t len)
{
	const uint8_t *at = memmem(bytes, len, "talk:", 5);

	if (at == NULL || (size_t)(bytes + len - at) < 12)
		return len < 40 ? -2 : -1;
	return strtol((const char *)at + 5, NULL, 10);
}

static long
goodbye(struct party *p, const uint8_t *bytes, size_t len)
{
	const uint8_t *end = memchr(bytes, '\n', len);

	if (p->side != CLIENT || bytes[0] != '-')
		return -1;
	return end != NULL ? end - bytes + 1 : 0;
}

static bool
is_engaged(const struct party *p)
{
	const struct redis *r = p->state;

	return r->in_multi && r->heard == 0;
}

const struct speech speech_redis = { .name = "redis", .state_size = sizeof(struct redis), .begin = begin, .hear = { hear, hear }, .act = { client_act, server_act },
	.heartbeat = heartbeat, .number = number, .goodbye = goodbye, .is_engaged = is_engaged };
const struct speech speech_redis_auto = { .name = "redis_auto", .protocol = "auto", .state_size = sizeof(struct redis), .begin = begin,
	.hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .number = number, .goodbye = goodbye, .is_engaged = is_engaged };
/* Heartbeats are empty lines. */
const struct speech speech_redis_oneway = { .name = "redis_oneway", .protocol = "redis", .keys = "backend.heartbeat_kind = oneway\n",
	.state_size = sizeof(struct redis), .begin = begin, .hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .number = number, .goodbye = goodbye, .is_engaged = is_engaged };
/* Some of the clients use TLS, on the same port. */
const struct speech speech_redis_tls = { .name = "redis_tls", .protocol = "redis", .secrecy = { SECURE_DIRECT, SECURE_DIRECT }, .may_be_plain = true,
	.state_size = sizeof(struct redis), .begin = begin, .hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .number = number, .goodbye = goodbye, .is_engaged = is_engaged };
