/*
 * codec.c - the table of protocols, and how a codec emits bytes.
 */
#include <assert.h>
#include <string.h>

#include "codec/codecs.h"
#include "stent/codec.h"
#include "stent/promise.h"

static const struct codec *const table[] = {
	&codec_auto,
	&codec_http,
	&codec_line,
	&codec_postgres,
	&codec_mysql,
	&codec_redis,
	&codec_sse,
	&codec_websocket,
	NULL,	/* the end */
};

_Static_assert(CODEC_SPANS >= 4 && CODEC_SCRATCH >= CODEC_STATE_MAX, "one that is cleared has room for a step");
_Static_assert(CODEC_SCRATCH >= CODEC_CLOSE_MESSAGE_MAX, "it has room for an error in place of a reply");

const struct codec *
codec_next(const struct codec *codec, void *state)
{
	const struct codec *next = codec->hand_over != NULL ? codec->hand_over(state) : NULL;

	promise_or(next == NULL || next->state_size <= codec->state_size, codec);	/* the relay allocated it for the first one */
	return next != NULL ? next : codec;
}

const struct codec *
codec_at(size_t i)
{
	return i < sizeof(table) / sizeof(table[0]) ? table[i] : NULL;
}

const struct codec *
codec_find(const char *name)
{
	for (size_t i = 0; codec_at(i) != NULL; i++)
		if (strcmp(codec_at(i)->name, name) == 0)
			return codec_at(i);
	return NULL;
}

size_t
codec_emitted(const struct codec_out *out)
{
	size_t n = 0;

	for (size_t i = 0; i < out->n_spans; i++)
		n += out->spans[i].iov_len;
	return n;
}

size_t
codec_accounted(const struct codec_out *out)
{
	return codec_emitted(out) + out->early + out->left_out;
}

void
codec_emit(struct codec_out *out, const uint8_t *data, size_t len)
{
	struct iovec *last = out->n_spans > 0 ? &out->spans[out->n_spans - 1] : NULL;

	if (len == 0)
		return;
	if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == data) {
		last->iov_len += len;
		return;
	}
	assert(out->n_spans < CODEC_SPANS);
	out->spans[out->n_spans].iov_base = (void *)(uintptr_t)data;
	out->spans[out->n_spans++].iov_len = len;
}

void
codec_emit_copy(struct codec_out *out, const void *data, size_t len)
{
	uint8_t *copy = out->scratch + out->scratch_used;

	assert(len <= CODEC_SCRATCH - out->scratch_used);
	memcpy(copy, data, len);
	out->scratch_used += len;
	codec_emit(out, copy, len);
}
