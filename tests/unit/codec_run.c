/*
 * codec_run.c - drives one codec through one flow and holds it to the contract.
 *
 * Each piece that is fed lies in a block of exactly its size, so that the
 * address sanitizer sees a codec read past it. The state moves to another
 * block before each call that may change it: a codec that keeps a pointer into
 * it is caught, as is one that writes past its end. Calls that take the state as const must
 * leave it as it is.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_run.h"
#include "stent/promise.h"

#define CANARY 0xa5
#define CANARY_LEN 16

void
run_fail(const struct run *r, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "codec %s broke its contract: ", r->codec->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n  with %s\n  client sent %zu bytes, got %zu; backend sent %zu bytes, got %zu; "
	    "heartbeats %zu/%zu, replies %u/%u\n", r->what[0] != '\0' ? r->what : "(nothing said)",
	    r->in[CLIENT].len, r->got[CLIENT].len, r->in[BACKEND].len, r->got[BACKEND].len,
	    r->n_marks[CLIENT], r->n_marks[BACKEND], r->replies[CLIENT], r->replies[BACKEND]);
	abort();
}

void
bytes_add(struct bytes *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (b->len + len > b->room) {
		b->room = 2 * (b->len + len);
		b->data = realloc(b->data, b->room);
		if (b->data == NULL)
			abort();
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void
bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){ 0 };
}

static void *
block_of(size_t len)
{
	uint8_t *p = malloc(len > 0 ? len : 1);

	if (p == NULL)
		abort();
	return p;
}

static void
check_canary(const struct run *r)
{
	const uint8_t *end = (const uint8_t *)r->state + r->state_size;

	for (size_t i = 0; i < CANARY_LEN; i++)
		if (end[i] != CANARY)
			run_fail(r, "wrote past its state (state_size %zu, byte %zu behind it)",
			    r->state_size, i);
	if (promise_is_broken())
		run_fail(r, "broke a promise: %s (%s:%d)", promise_broken.condition, promise_broken.file, promise_broken.line);
}

static void
move_state(struct run *r)
{
	size_t len = r->state_size + CANARY_LEN;
	uint8_t *to = block_of(len);

	check_canary(r);
	memcpy(to, r->state, len);
	memset(r->state, 0xdd, len);
	free(r->state);
	r->state = to;
}

void
run_start(struct run *r, const struct codec *codec, const struct codec_settings *settings)
{
	static const struct codec_settings on = { .heartbeats = { true, true } };

	*r = (struct run){ .codec = codec, .state_size = codec->state_size };
	if (codec->state_size > CODEC_STATE_MAX)
		run_fail(r, "state of %zu bytes, at most %d", codec->state_size, CODEC_STATE_MAX);
	r->out = block_of(sizeof(*r->out));
	r->state = block_of(codec->state_size + CANARY_LEN);
	memset(r->state, 0, codec->state_size);
	memset((uint8_t *)r->state + codec->state_size, CANARY, CANARY_LEN);
	(void)codec->configure(r->state, settings != NULL ? settings : &on);
	run_seed(r, RUN_SEED);
	check_canary(r);
}

void
run_seed(struct run *r, uint64_t random)
{
	if (r->codec->seed != NULL)
		r->codec->seed(r->state, random);
	check_canary(r);
}

void
run_end(struct run *r)
{
	check_canary(r);
	for (int s = 0; s < 2; s++) {
		bytes_free(&r->in[s]);
		bytes_free(&r->got[s]);
		free(r->marks[s]);
	}
	free(r->state);
	free(r->out);
	*r = (struct run){ 0 };
}

/* A span lies in the piece that was fed, in order, or in the scratch. */
static void
take_spans(struct run *r, enum side to, const uint8_t *fed, size_t consumed)
{
	const struct codec_out *out = r->out;
	uintptr_t low = (uintptr_t)fed;

	if (out->n_spans > CODEC_SPANS || out->scratch_used > CODEC_SCRATCH)
		run_fail(r, "emitted more than fits: %zu spans, %zu bytes of scratch",
		    out->n_spans, out->scratch_used);
	for (size_t i = 0; i < out->n_spans; i++) {
		uintptr_t at = (uintptr_t)out->spans[i].iov_base;
		size_t len = out->spans[i].iov_len;
		uintptr_t scratch = (uintptr_t)out->scratch;

		if (at >= low && at + len <= (uintptr_t)fed + consumed)
			low = at + len;
		else if (at < scratch || at + len > scratch + out->scratch_used)
			run_fail(r, "span %zu (%zu bytes) is neither of the bytes consumed, "
			    "in their order, nor of the scratch", i, len);
		bytes_add(&r->got[to], out->spans[i].iov_base, len);
	}
}

static void
take_verdict(struct run *r, enum side from)
{
	r->replies[from] += r->out->replies;
	r->strays[from] += r->out->strays;
	if (r->out->refused != NULL) {
		r->refused = r->out->refused;
		r->has_refused[from] = true;
	}
	if (r->out->passthrough == NULL)
		return;
	r->passthrough = r->out->passthrough;
	if (r->codec->is_early != NULL)
		r->reset = r->codec->is_early(r->state, CLIENT) || r->codec->is_early(r->state, BACKEND);
}

static void
take_next(struct run *r)
{
	if (r->passthrough == NULL)
		r->codec = codec_next(r->codec, r->state);
	check_canary(r);
}

static size_t
feed_once(struct run *r, enum side from, const uint8_t *data, size_t len)
{
	uint8_t *fed = block_of(len);
	size_t n;

	memcpy(fed, data, len);
	move_state(r);
	codec_out_clear(r->out);
	n = r->codec->feed(r->state, from, fed, len, r->out);
	check_canary(r);
	if (n > len)
		run_fail(r, "consumed %zu of %zu bytes", n, len);
	if (memcmp(fed, data, len) != 0)
		run_fail(r, "changed the bytes that it was fed");
	take_spans(r, side_other(from), fed, n);
	take_verdict(r, from);
	take_next(r);
	if (n < len && r->passthrough == NULL && codec_out_has_room(r->out))
		run_fail(r, "consumed %zu of %zu bytes though there was room", n, len);
	if (n == 0 && r->passthrough == NULL)
		run_fail(r, "made no progress");
	free(fed);
	return n;
}

void
run_feed(struct run *r, enum side from, const void *data, size_t len)
{
	const uint8_t *p = data;

	bytes_add(&r->in[from], data, len);
	while (len > 0 && r->passthrough == NULL) {
		size_t n = feed_once(r, from, p, len);

		p += n;
		len -= n;
	}
	if (!r->reset)
		bytes_add(&r->got[side_other(from)], p, len);	/* passthrough: the relay goes on without it */
}

static void
check_unchanged(const struct run *r, const uint8_t *before, const char *call)
{
	if (memcmp(before, r->state, r->state_size) != 0)
		run_fail(r, "%s() changed the state", call);
	check_canary(r);
}

size_t
run_skip(struct run *r, enum side from, const void *data, size_t max)
{
	uint8_t before[CODEC_STATE_MAX];
	uint64_t n;

	if (r->passthrough != NULL || r->codec->skippable == NULL)
		return 0;
	memcpy(before, r->state, r->state_size);
	n = r->codec->skippable(r->state, from);
	check_unchanged(r, before, "unread");
	if (n > max)
		n = max;
	if (n == 0)
		return 0;
	r->codec->skipped(r->state, from, n);
	check_canary(r);
	r->skipped += n;
	bytes_add(&r->in[from], data, (size_t)n);
	bytes_add(&r->got[side_other(from)], data, (size_t)n);
	return (size_t)n;
}

void
run_fin(struct run *r, enum side from)
{
	r->fin[from] = true;
	if (r->passthrough != NULL)
		return;
	move_state(r);
	codec_out_clear(r->out);
	r->codec->finish(r->state, from, r->out);
	check_canary(r);
	take_spans(r, side_other(from), r->out->scratch, 0);
	take_verdict(r, from);
	take_next(r);
}

unsigned
run_may_heartbeat(struct run *r, enum side to)
{
	uint8_t before[CODEC_STATE_MAX];
	unsigned kinds;

	if (r->passthrough != NULL || r->fin[side_other(to)])
		return 0;
	memcpy(before, r->state, r->state_size);
	kinds = r->codec->may_heartbeat(r->state, to);
	check_unchanged(r, before, "may_heartbeat");
	if ((kinds & ~r->codec->leg[to].kinds) != 0)
		run_fail(r, "allows kinds %#x to the %s; its row has %#x", kinds,
		    side_name(to), r->codec->leg[to].kinds);
	if (r->fin[to])
		kinds &= ~(unsigned)HEARTBEAT_PING;	/* nobody there to reply */
	return kinds;
}

static void
add_mark(struct run *r, enum side to, struct mark mark)
{
	const size_t n = r->n_marks[to];

	if ((n & (n - 1)) == 0)		/* full: rooms are powers of two */
		r->marks[to] = realloc(r->marks[to], (n == 0 ? 1 : 2 * n) * sizeof(mark));
	if (r->marks[to] == NULL)
		abort();
	r->marks[to][r->n_marks[to]++] = mark;
}

size_t
run_heartbeat(struct run *r, enum side to, enum heartbeat_kind kind)
{
	uint8_t buf[CODEC_HEARTBEAT_MAX + CANARY_LEN];
	size_t n;

	memset(buf + CODEC_HEARTBEAT_MAX, CANARY, CANARY_LEN);
	move_state(r);
	n = r->codec->heartbeat(r->state, to, kind, buf);
	check_canary(r);
	for (size_t i = CODEC_HEARTBEAT_MAX; i < sizeof(buf); i++)
		if (buf[i] != CANARY)
			run_fail(r, "wrote past the room for a heartbeat");
	if (n == 0 || n > CODEC_HEARTBEAT_MAX)
		run_fail(r, "wrote a heartbeat of %zu bytes", n);
	add_mark(r, to, (struct mark){ .at = r->got[to].len, .len = n, .kind = kind });
	bytes_add(&r->got[to], buf, n);
	r->pings[to] += kind == HEARTBEAT_PING;
	return n;
}
