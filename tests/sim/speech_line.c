/* speech_line.c - a protocol of lines that the program does not know: commands and replies, with a ping that is configured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

#define LINE_MAX_LEN 3000

struct line {
	unsigned due;			/* the client: replies; the server: commands */
	unsigned pings;			/* heartbeats that are not replied to yet */
};

static void
say_line(struct party *p, const char *word)
{
	const size_t more = (size_t)rnd_scale(1, rnd_chance(500) ? LINE_MAX_LEN : 80) - 1;
	char text[LINE_MAX_LEN + 40];
	size_t n = (size_t)snprintf(text, 40, "%s", word);

	for (size_t i = 0; i < more; i++)
		text[n++] = (char)(' ' + (i * 7 + more) % 90);
	if (rnd_chance(3000))
		text[n++] = '\r';
	text[n++] = '\n';
	party_say(p, text, n);
}

static void
begin(struct party *p)
{
	char first[24];

	if (p->side != CLIENT)
		return;
	snprintf(first, sizeof(first), "HELLO %07ld\n", p->talk->number);
	party_say(p, first, strlen(first));
	((struct line *)p->state)->due = 1;
	party_think(p, rnd_scale(10, SECONDS));
}

static void
client_act(struct party *p)
{
	struct line *l = p->state;

	if (world_us >= p->talk->stops_us) {
		if (rnd_chance(3000))
			party_finish(p);
		else if (rnd_chance(1000))
			party_abort(p);
		else
			party_quit(p);
		return;
	}
	if (l->due < 30) {
		l->due++;
		say_line(p, rnd_chance(9500) ? "DO " : "PIN");	/* begins as the heartbeat does */
	}
	party_think(p, rnd_scale(10, rnd_chance(2000) ? 20 * MINUTES : 2 * SECONDS));
}

static void
server_act(struct party *p)
{
	struct line *l = p->state;

	for (; l->due > 0; l->due--)
		say_line(p, rnd_chance(9500) ? "DONE " : "PON");
	for (; l->pings > 0; l->pings--)
		party_reply(p, "PONG\n", 5);
}

static void
hear(struct party *p, const uint8_t *message, size_t len)
{
	struct line *l = p->state;

	(void)message;
	(void)len;
	if (p->side == CLIENT) {
		l->due -= l->due > 0;
		return;
	}
	l->due++;
	party_think(p, rnd_chance(300) ? rnd_scale(MS, 5 * SECONDS) : rnd_between(5, 200));
}

static long
heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	const char *text = p->side == CLIENT ? "+\n" : "PING\n";
	const size_t whole = strlen(text);

	if (memcmp(bytes, text, len < whole ? len : whole) != 0)
		return -1;
	if (len < whole)
		return 0;
	if (p->side == BACKEND) {
		((struct line *)p->state)->pings++;
		party_think(p, rnd_between(5, 200));
	}
	return (long)whole;
}

static long
number(const uint8_t *bytes, size_t len)
{
	while (len >= 5 && memcmp(bytes, "PING\n", 5) == 0) {	/* the client has said nothing for long */
		bytes += 5;
		len -= 5;
	}
	if (len < 14)
		return -2;
	return memcmp(bytes, "HELLO ", 6) == 0 ? strtol((const char *)bytes + 6, NULL, 10) : -1;
}

const struct speech speech_line = { .name = "line",
	.keys = "backend.heartbeat_send = \"PING\\n\"\nbackend.heartbeat_expect = \"PONG\\n\"\nclient.heartbeat_send = \"+\\n\"\n",
	.state_size = sizeof(struct line), .begin = begin, .hear = { hear, hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .number = number };
