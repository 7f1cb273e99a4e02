/*
 * world.c - clock, queue, chance and story.
 *
 * The queue is a binary heap. Of happenings at the same microsecond, the one
 * that was set first comes first, so that a run depends on its seed alone.
 */
#include "world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORY_LINES 4096
#define LINE_MAX 240

int64_t world_us;
bool story_is_told;

static struct {
	struct happening **heap;	/* 1-based */
	size_t n, room;
	uint64_t orders, happened;
} queue;

static struct {
	char line[STORY_LINES][LINE_MAX];
	size_t n;
	uint64_t hash;
	int64_t began_us;
} tale;

static char finding[400];
static uint64_t chance[2];

/* --- the queue --- */

static bool
is_before(const struct happening *a, const struct happening *b)
{
	return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

static void
put(size_t slot, struct happening *h)
{
	queue.heap[slot] = h;
	h->slot = slot;
}

static void
sift_up(struct happening *h, size_t slot)
{
	for (; slot > 1 && is_before(h, queue.heap[slot / 2]); slot /= 2)
		put(slot, queue.heap[slot / 2]);
	put(slot, h);
}

static void
sift_down(struct happening *h, size_t slot)
{
	for (;;) {
		size_t child = slot * 2;

		if (child < queue.n && is_before(queue.heap[child + 1], queue.heap[child]))
			child++;
		if (child > queue.n || is_before(h, queue.heap[child]))
			break;
		put(slot, queue.heap[child]);
		slot = child;
	}
	put(slot, h);
}

void
happen_not(struct happening *h)
{
	struct happening *last;
	const size_t slot = h->slot;

	if (slot == 0)
		return;
	h->slot = 0;
	last = queue.heap[queue.n--];
	if (last == h)
		return;
	if (slot > 1 && is_before(last, queue.heap[slot / 2]))
		sift_up(last, slot);
	else
		sift_down(last, slot);
}

void
happen_at(struct happening *h, int64_t at_us)
{
	assert(h->fn != NULL);
	happen_not(h);
	if (queue.n + 2 > queue.room) {
		queue.room = queue.room > 0 ? queue.room * 2 : 256;
		queue.heap = realloc(queue.heap, queue.room * sizeof(*queue.heap));
		assert(queue.heap != NULL);
	}
	h->at_us = at_us > world_us ? at_us : world_us;
	h->order = ++queue.orders;
	queue.n++;
	sift_up(h, queue.n);
}

int64_t
world_next_us(void)
{
	return queue.n > 0 ? queue.heap[1]->at_us : NEVER;
}

bool
world_step(int64_t until_us)
{
	struct happening *h;

	if (world_next_us() > until_us)
		return false;
	h = queue.heap[1];
	happen_not(h);
	if (h->at_us > world_us)
		world_us = h->at_us;
	queue.happened++;
	h->fn(h->arg);
	return true;
}

uint64_t
world_happenings(void)
{
	return queue.happened;
}

/* --- chance: xoroshiro128+, seeded by splitmix64 --- */

static uint64_t
splitmix(uint64_t *x)
{
	uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t
rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

uint64_t
rnd(void)
{
	const uint64_t a = chance[0], result = a + chance[1];
	uint64_t b = chance[1] ^ a;

	chance[0] = rotate(a, 24) ^ b ^ b << 16;
	chance[1] = rotate(b, 37);
	return result;
}

uint64_t
rnd_below(uint64_t n)
{
	return (uint64_t)((unsigned __int128)rnd() * n >> 64);
}

int64_t
rnd_between(int64_t low, int64_t high)
{
	assert(low <= high);
	return low + (int64_t)rnd_below((uint64_t)(high - low) + 1);
}

bool
rnd_chance(unsigned of_10000)
{
	return rnd_below(10000) < of_10000;
}

int64_t
rnd_scale(int64_t low, int64_t high)
{
	int64_t top = low;
	unsigned powers = 0;

	while (top < high / 2) {
		top *= 2;
		powers++;
	}
	top = low << rnd_below(powers + 1);
	return rnd_between(top, top * 2 < high ? top * 2 : high);
}

/* --- the story --- */

static uint64_t
hash_on(uint64_t h, const char *text)
{
	for (; *text != '\0'; text++)
		h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	return h;
}

void
story(const char *fmt, ...)
{
	char *line = tale.line[tale.n++ % STORY_LINES];
	int len = snprintf(line, LINE_MAX, "%10.6f  ", (double)(world_us - tale.began_us) / SECONDS);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line + len, LINE_MAX - (size_t)len, fmt, ap);
	va_end(ap);
	tale.hash = hash_on(tale.hash, line);
	if (story_is_told)
		puts(line);
}

uint64_t
story_hash(void)
{
	return tale.hash;
}

void
story_print_end(size_t lines)
{
	size_t from = tale.n > STORY_LINES ? tale.n - STORY_LINES : 0;

	if (tale.n - from > lines)
		from = tale.n - lines;
	for (size_t i = from; i < tale.n; i++)
		fprintf(stderr, "%s\n", tale.line[i % STORY_LINES]);
}

void
wrong(const char *oracle, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	story("WRONG %s: %s", oracle, text);
	if (finding[0] == '\0')
		snprintf(finding, sizeof(finding), "%s: %s", oracle, text);
}

const char *
what_is_wrong(void)
{
	return finding[0] != '\0' ? finding : NULL;
}

void
world_begin(uint64_t seed)
{
	uint64_t x = seed;

	memset(&tale, 0, sizeof(tale));
	finding[0] = '\0';
	queue.n = 0;
	queue.orders = queue.happened = 0;
	chance[0] = splitmix(&x);
	chance[1] = splitmix(&x);
	world_us = 100000 * SECONDS + (int64_t)rnd_below(1000 * SECONDS);
	tale.began_us = world_us;
}

void
world_end(void)
{
	free(queue.heap);
	memset(&queue, 0, sizeof(queue));
}
