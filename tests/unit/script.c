/* script.c - transcripts of HTTP and WebSocket, written as one would tell them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script.h"

static void
script_add(struct script *s, enum side from, void *block, size_t len)
{
	if (s->n == sizeof(s->steps) / sizeof(s->steps[0]))
		abort();
	s->blocks[s->n] = block;
	s->steps[s->n++] = (struct step){ from, block, len };
}

static void *
room_for(size_t len)
{
	void *p = malloc(len > 0 ? len : 1);

	if (p == NULL)
		abort();
	return p;
}

void
script_bytes(struct script *s, enum side from, const void *data, size_t len)
{
	script_add(s, from, memcpy(room_for(len), data, len), len);
}

void
script_say(struct script *s, enum side from, const char *text)
{
	script_bytes(s, from, text, strlen(text));
}

size_t
ws_frame(uint8_t *to, enum side from, unsigned first, const void *payload, size_t len)
{
	static const uint8_t key[4] = { 0xa1, 0x02, 0xf3, 0x84 };
	const uint8_t *p = payload;
	size_t n = 2, digits = len < 126 ? 0 : len < 65536 ? 2 : 8;
	unsigned mask = from == CLIENT ? 0x80 : 0;

	to[0] = (uint8_t)first;
	to[1] = (uint8_t)(mask | (digits == 0 ? len : digits == 2 ? 126 : 127));
	for (size_t i = digits; i-- > 0;)
		to[n++] = (uint8_t)((uint64_t)len >> (8 * i));
	if (mask != 0) {
		memcpy(to + n, key, 4);
		n += 4;
	}
	for (size_t i = 0; i < len; i++)
		to[n + i] = mask != 0 ? p[i] ^ key[i % 4] : p[i];
	return n + len;
}

void
script_frame(struct script *s, enum side from, unsigned first, const void *payload, size_t len)
{
	uint8_t *block = room_for(WS_FRAME_MAX(len));

	script_add(s, from, block, ws_frame(block, from, first, payload, len));
}

void
script_fin(struct script *s, enum side from)
{
	script_add(s, from, NULL, 0);
}

void
script_free(struct script *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->blocks[i]);
	s->n = 0;
}

struct tally
script_check(const struct script *s, const char *name, const struct codec *codec,
    const struct codec_settings *settings, const char *why)
{
	static unsigned number;
	char unique[96];

	snprintf(unique, sizeof(unique), "%02u %s", number++, name);
	for (char *c = unique; *c != '\0'; c++)
		if (strchr("/:()", *c) != NULL)
			*c = '-';	/* it also names a file of the corpus */
	return codec_check(&(struct transcript){
		.name = unique, .codec = codec, .steps = s->steps, .n_steps = s->n,
		.settings = settings, .passthrough = why, .fault = s->fault,
	});
}

void
run_say(struct run *r, enum side from, const char *text)
{
	run_feed(r, from, text, strlen(text));
}

void
run_frame(struct run *r, enum side from, unsigned first, const void *payload, size_t len)
{
	uint8_t *frame = room_for(WS_FRAME_MAX(len));

	run_feed(r, from, frame, ws_frame(frame, from, first, payload, len));
	free(frame);
}

bool
run_ends(const struct run *r, enum side to, const void *data, size_t len)
{
	const struct bytes *got = &r->got[to];

	return got->len >= len && memcmp(got->data + got->len - len, data, len) == 0;
}
