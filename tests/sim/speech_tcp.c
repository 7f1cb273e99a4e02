/* speech_tcp.c - any bytes, both ways at the same time, with half-closes; no heartbeats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

#define LARGEST (200 * 1024)
#define HUGE (3 * 1024 * 1024)
#define QUEUED_MAX (1024 * 1024)

static void
say_something(struct party *p)
{
	const bool is_huge = tcp_settings.in_room == TCP_LARGE && rnd_chance(200);
	const size_t len = (size_t)(is_huge ? rnd_between(HUGE / 3, HUGE) : rnd_scale(1, rnd_chance(1000) ? LARGEST : 2000));
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = i % 8 == 0 ? (uint8_t)rnd() : (uint8_t)(bytes[i - 1] * 5 + 1);
	party_say(p, bytes, len);
	free(bytes);
}

static int64_t
pause_us(void)
{
	return rnd_scale(10, rnd_chance(2000) ? 10 * MINUTES : 2 * SECONDS);
}

static void
begin(struct party *p)
{
	char first[16];

	if (p->side == CLIENT) {
		snprintf(first, sizeof(first), "T%07ld", p->talk->number);
		party_say(p, first, 8);
	}
	party_think(p, pause_us());
}

static void
act(struct party *p)
{
	if (p->says_fin) {		/* it only listens; some have enough of it */
		party_abort(p);
		return;
	}
	if (world_us >= p->talk->stops_us) {
		if (rnd_chance(1000))
			party_abort(p);
		else if (rnd_chance(5000) || p->got_fin)
			party_quit(p);
		else
			party_finish(p);
		if (p->says_fin && rnd_chance(2500))
			party_think(p, rnd_scale(MS, 5 * MINUTES));
		return;
	}
	if (party_unsaid(p) >= QUEUED_MAX / 2 && rnd_chance(1000)) {	/* it has waited for too long */
		party_abort(p);
		return;
	}
	if (p->talk->speech->urgent != URGENT_NOT && rnd_chance(3000))
		party_say_urgent(p);
	if (party_unsaid(p) < QUEUED_MAX)
		say_something(p);
	if (p->side == BACKEND || !p->says_fin)
		party_think(p, pause_us());
}

static long
number(const uint8_t *bytes, size_t len)
{
	char text[9] = "";

	if (len < 8)
		return -2;
	memcpy(text, bytes, 8);
	return text[0] == 'T' ? strtol(text + 1, NULL, 10) : -1;
}

const struct speech speech_tcp = { .name = "tcp", .begin = begin, .act = { act, act }, .number = number };
const struct speech speech_tcp_tls = { .name = "tcp_tls", .protocol = "tcp", .secrecy = { SECURE_DIRECT, SECURE_DIRECT }, .begin = begin, .act = { act, act },
	.number = number };
const struct speech speech_tcp_from_tls = { .name = "tcp_from_tls", .protocol = "tcp", .secrecy = { SECURE_DIRECT, SECURE_NOT }, .begin = begin,
	.act = { act, act }, .number = number };
const struct speech speech_tcp_to_tls = { .name = "tcp_to_tls", .protocol = "tcp", .secrecy = { SECURE_NOT, SECURE_DIRECT }, .begin = begin,
	.act = { act, act }, .number = number };
const struct speech speech_tcp_urgent = { .name = "tcp_urgent", .protocol = "tcp", .urgent = URGENT_RELAYED, .begin = begin, .act = { act, act },
	.number = number };
const struct speech speech_tcp_urgent_off = { .name = "tcp_urgent_off", .protocol = "tcp", .keys = "urgent = off\n", .urgent = URGENT_DROPPED,
	.begin = begin, .act = { act, act }, .number = number };
/* A connection to a port in the range of clients' ones may become one with itself: clients must not hear what they say. */
const struct speech speech_self = { .name = "self", .protocol = "tcp", .is_own_backend = true, .begin = begin, .act = { act, act }, .number = number };
