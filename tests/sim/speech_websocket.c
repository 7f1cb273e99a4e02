/*
 * speech_websocket.c - WebSocket: messages in frames both ways, whole or in
 * fragments, with pings of its own. A ping or pong may come between two
 * frames; the pong to one of ours must not be heard.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

enum { CONTINUATION, TEXT, BINARY, CLOSE = 8, PING, PONG };

struct websocket {
	bool is_open;
	bool in_message;		/* its own, between two fragments */
	bool said_close, heard_close;
	unsigned pings;
};

static void
say_frame(struct party *p, unsigned opcode, bool fin, const uint8_t *payload, size_t len)
{
	uint8_t *frame = malloc(len + 14);
	const uint8_t mask[4] = { (uint8_t)rnd(), (uint8_t)rnd(), (uint8_t)rnd(), (uint8_t)rnd() };
	size_t n = 2;

	frame[0] = (uint8_t)(opcode | (fin ? 0x80 : 0));
	frame[1] = p->side == CLIENT ? 0x80 : 0;
	if (len < 126) {
		frame[1] = (uint8_t)(frame[1] | len);
	} else if (len < 65536) {
		frame[1] |= 126;
		frame[n++] = (uint8_t)(len >> 8);
		frame[n++] = (uint8_t)len;
	} else {
		frame[1] |= 127;
		for (int i = 7; i >= 0; i--)
			frame[n++] = (uint8_t)((uint64_t)len >> 8 * i);
	}
	if (p->side == CLIENT) {
		memcpy(frame + n, mask, 4);
		n += 4;
	}
	for (size_t i = 0; i < len; i++)
		frame[n + i] = p->side == CLIENT ? payload[i] ^ mask[i % 4] : payload[i];
	party_say(p, frame, n + len);
	free(frame);
}

static void
begin(struct party *p)
{
	char head[300];
	const int n = snprintf(head, sizeof(head), "GET /talk/%07ld HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", p->talk->number);

	if (p->side == CLIENT)
		party_say(p, head, (size_t)n);
}

static int64_t
pause_us(void)
{
	return rnd_scale(10, rnd_chance(3000) ? 15 * MINUTES : 3 * SECONDS);
}

static void
say_data(struct party *p, size_t most)
{
	struct websocket *w = p->state;
	const size_t len = (size_t)rnd_scale(1, (int64_t)most) - 1;
	uint8_t *payload = calloc(1, len + 1);
	const bool fin = rnd_chance(8000);

	for (size_t i = 0; i < len; i++)
		payload[i] = (uint8_t)('a' + (i * 7 + len) % 26);
	say_frame(p, w->in_message ? CONTINUATION : TEXT, fin, payload, len);
	w->in_message = !fin;
	free(payload);
}

/* More than all buffers on the way hold, if the other side does not read. */
static void
say_much(struct party *p)
{
	while (party_unsaid(p) < 500000)
		say_data(p, 100000);
}

static void
act(struct party *p)
{
	static const uint8_t going[] = { 0x03, 0xe8 };
	struct websocket *w = p->state;
	uint8_t payload[8] = "app-ping";

	if (!w->is_open || w->said_close) {
		party_quit(p);
		return;
	}
	if (world_us >= p->talk->stops_us) {
		w->said_close = true;
		p->expects_end = true;
		say_frame(p, CLOSE, true, going, 2);
		party_think(p, 10 * SECONDS);	/* for the other's Close */
		return;
	}
	if (rnd_chance(1000) && ++w->pings > 0)
		say_frame(p, PING, true, payload, sizeof(payload));
	else if (party_unsaid(p) < 500000)
		say_data(p, rnd_chance(1000) ? 100000 : 500);
	if (rnd_chance(20))
		say_much(p);
	party_think(p, pause_us());
}

static void
hear_head(struct party *p, const uint8_t *message, size_t len)
{
	static const char head[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

	(void)message;
	(void)len;
	((struct websocket *)p->state)->is_open = true;
	if (p->side == BACKEND)
		party_say(p, head, strlen(head));
	party_think(p, pause_us());
}

static size_t
head_len(const uint8_t *f)
{
	const unsigned len = f[1] & 0x7f;

	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + (f[1] & 0x80 ? 4 : 0);
}

static void
hear(struct party *p, const uint8_t *message, size_t len)
{
	struct websocket *w = p->state;
	uint8_t payload[125];
	size_t n;

	if (!w->is_open) {
		hear_head(p, message, len);
		return;
	}
	n = message[1] & 0x7f;
	if ((message[0] & 0xf) == PING && !w->said_close) {
		const size_t head = head_len(message);

		for (size_t i = 0; i < n; i++)
			payload[i] = message[1] & 0x80 ? message[head + i] ^ message[head - 4 + i % 4] : message[head + i];
		say_frame(p, PONG, true, payload, n);
	}
	if ((message[0] & 0xf) == CLOSE) {
		w->heard_close = true;
		p->expects_end = true;
		if (!w->said_close)
			say_frame(p, CLOSE, true, (const uint8_t *)"\x03\xe8", 2);
		w->said_close = true;
		party_think(p, p->side == BACKEND ? MS : SECONDS);
	}
}

/* A control frame of ours: whole, not fragmented, masked toward the server alone. */
static long
control_frame(struct party *p, const uint8_t *f, size_t len, unsigned opcode)
{
	size_t whole;

	if ((f[0] & 0xf) != opcode || !(f[0] & 0x80) || (f[0] & 0x70))
		return -1;
	if (len < 2)
		return 0;
	if (((f[1] & 0x80) != 0) != (p->side == BACKEND) || (f[1] & 0x7f) > 125)
		return -1;
	whole = head_len(f) + (f[1] & 0x7f);
	return len < whole ? 0 : (long)whole;
}

static long
heartbeat(struct party *p, const uint8_t *f, size_t len)
{
	struct websocket *w = p->state;
	uint8_t pong[140];
	long n;

	if (!w->is_open || party_other(p)->says_fin)
		return -1;
	n = control_frame(p, f, len, PONG);
	if (n >= 0)
		return n;
	n = control_frame(p, f, len, PING);
	if (n <= 0)
		return n;
	if (w->heard_close) {
		wrong("legal", "talk %ld: a ping after a Close", p->talk->number);
		return -1;
	}
	if (w->said_close)
		return n;		/* it crossed our Close: no pong is owed */
	/* The pong has the payload unmasked, and its own mask of zeros or none. */
	{
		const size_t size = f[1] & 0x7f, head = head_len(f);
		size_t at = 2;

		pong[0] = 0x80 | PONG;
		pong[1] = (uint8_t)(size | (p->side == CLIENT ? 0x80 : 0));
		if (p->side == CLIENT) {
			memset(pong + 2, 0x55, 4);
			at = 6;
		}
		for (size_t i = 0; i < size; i++) {
			const uint8_t byte = f[1] & 0x80 ? f[head + i] ^ f[head - 4 + i % 4] : f[head + i];

			pong[at + i] = p->side == CLIENT ? byte ^ 0x55 : byte;
		}
		party_reply(p, pong, at + size);
	}
	return n;
}

static long
number(const uint8_t *bytes, size_t len)
{
	if (len < 18)
		return -2;
	return memcmp(bytes, "GET /talk/", 10) == 0 ? strtol((const char *)bytes + 10, NULL, 10) : -1;
}

static long
goodbye(struct party *p, const uint8_t *f, size_t len)
{
	return control_frame(p, f, len, CLOSE);
}

const struct speech speech_websocket = { .name = "websocket", .is_kept = true, .may_be_mute = true, .state_size = sizeof(struct websocket), .begin = begin, .hear = { hear, hear }, .act = { act, act },
	.heartbeat = heartbeat, .number = number, .goodbye = goodbye };
/* The same, on routes whose protocol finds it by itself. */
const struct speech speech_websocket_http = { .name = "websocket_http", .protocol = "http", .state_size = sizeof(struct websocket), .begin = begin,
	.hear = { hear, hear }, .act = { act, act }, .heartbeat = heartbeat, .number = number, .goodbye = goodbye };
const struct speech speech_websocket_auto = { .name = "websocket_auto", .protocol = "auto", .state_size = sizeof(struct websocket), .begin = begin,
	.hear = { hear, hear }, .act = { act, act }, .heartbeat = heartbeat, .number = number, .goodbye = goodbye };
const struct speech speech_websocket_tls = { .name = "websocket_tls", .protocol = "websocket", .secrecy = { SECURE_DIRECT, SECURE_NOT }, .is_kept = true,
	.may_be_mute = true, .state_size = sizeof(struct websocket), .begin = begin, .hear = { hear, hear }, .act = { act, act }, .heartbeat = heartbeat,
	.number = number, .goodbye = goodbye };
