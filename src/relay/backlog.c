/*
 * backlog.c - bytes that a socket has not taken yet.
 *
 * It is either bytes in memory (at most one read buffer and what the codec
 * adds, as reading stops while there is a backlog), or a pipe filled by
 * splice(). An urgent byte is alone in it, as it needs a send of its own. Of a
 * leg with TLS it includes what is encrypted and not sent yet (transport_unsent()),
 * so that what waits for a backlog waits for that, too; the rest may be empty then.
 */
#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>

#include "relay/pump.h"
#include "relay/require.h"
#include "relay/shared.h"

#define SPANS 8		/* per write */
#define BACKLOG_MAX (RELAY_BUFFER + CODEC_SCRATCH)	/* one read, and what a codec adds */

_Static_assert(SPANS <= TRANSPORT_SPANS_MAX, "they are written by one call");
_Static_assert(CODEC_STATE_MAX + CODEC_HEARTBEAT_MAX <= CODEC_SCRATCH, "what a codec had held back is a part of that");

struct backlog {
	struct evbuffer *bytes;
	struct pipe *pipe;
	bool urgent;		/* bytes holds one urgent byte */
};

static struct backlog *
backlog_of(struct leg *l)
{
	if (l->backlog == NULL)
		l->backlog = calloc(1, sizeof(*l->backlog));
	return l->backlog;
}

int
backlog_add(struct leg *l, const uint8_t *data, size_t len)
{
	struct backlog *b = backlog_of(l);

	if (b == NULL)
		return -ENOMEM;
	require_or(flow_of_leg(l), b->pipe == NULL && !b->urgent, -EIO);	/* bytes would overtake it */
	require_or(flow_of_leg(l), len > 0 && len <= BACKLOG_MAX, -EIO);
	if (b->bytes == NULL)
		b->bytes = evbuffer_new();
	if (b->bytes == NULL || evbuffer_add(b->bytes, data, len) != 0)
		return -ENOMEM;
	require_or(flow_of_leg(l), evbuffer_get_length(b->bytes) <= BACKLOG_MAX, -EIO);	/* nothing is read meanwhile */
	return 0;
}

int
backlog_add_urgent(struct leg *l, uint8_t byte)
{
	int r;

	require_or(flow_of_leg(l), l->backlog == NULL, -EIO);	/* it is alone there */
	r = backlog_add(l, &byte, 1);
	if (r == 0)
		l->backlog->urgent = true;
	return r;
}

int
backlog_add_pipe(struct leg *l, struct pipe *p)
{
	struct backlog *b;

	assert(p->len > 0 && p->len <= PIPE_BYTES);
	require_or(flow_of_leg(l), l->backlog == NULL && !leg_is_tls(l), -EIO);	/* TLS is not spliced */
	b = backlog_of(l);
	if (b == NULL)
		return -ENOMEM;
	b->pipe = p;
	return 0;
}

int
backlog_hold(struct leg *l)
{
	require_or(flow_of_leg(l), leg_is_tls(l), -EIO);
	return backlog_of(l) != NULL ? 0 : -ENOMEM;
}

size_t
backlog_len(const struct leg *l)
{
	size_t n = leg_is_tls(l) ? transport_unsent(&l->transport) : 0;

	if (l->backlog != NULL && l->backlog->bytes != NULL)
		n += evbuffer_get_length(l->backlog->bytes);
	if (l->backlog != NULL && l->backlog->pipe != NULL)
		n += l->backlog->pipe->len;
	return n;
}

void
backlog_free(struct relay *r, struct leg *l)
{
	struct backlog *b = l->backlog;

	if (b == NULL)
		return;
	assert(b->bytes == NULL || b->pipe == NULL);	/* it is one or the other */
	if (b->bytes != NULL)
		evbuffer_free(b->bytes);
	if (b->pipe != NULL)
		relay_give_pipe(r, b->pipe);
	free(b);
	l->backlog = NULL;
}

static ssize_t
send_bytes(struct leg *l)
{
	struct evbuffer *bytes = l->backlog->bytes;
	struct evbuffer_iovec spans[SPANS];
	const int n_spans = evbuffer_peek(bytes, -1, NULL, spans, SPANS);
	ssize_t n;

	require_or(flow_of_leg(l), n_spans > 0, -EIO);
	n = transport_write(&l->transport, spans, n_spans < SPANS ? (size_t)n_spans : SPANS);
	require_or(flow_of_leg(l), n <= (ssize_t)evbuffer_get_length(bytes), -EIO);
	if (n > 0)
		evbuffer_drain(bytes, (size_t)n);
	return n;
}

static ssize_t
send_some(struct leg *l)
{
	struct backlog *b = l->backlog;
	ssize_t n;

	if (leg_is_tls(l) && transport_unsent(&l->transport) > 0)
		return transport_flush(&l->transport);
	if (b->urgent) {
		uint8_t byte;

		require_or(flow_of_leg(l), b->bytes != NULL && evbuffer_get_length(b->bytes) == 1, -EIO);
		evbuffer_copyout(b->bytes, &byte, 1);
		n = transport_write_urgent(&l->transport, byte);
		if (n > 0)
			evbuffer_drain(b->bytes, 1);
		return n;
	}
	if (b->bytes != NULL && evbuffer_get_length(b->bytes) > 0)
		return send_bytes(l);
	require_or(flow_of_leg(l), b->pipe != NULL && b->pipe->len > 0, -EIO);	/* else there is nothing to send */
	n = transport_write_from_pipe(&l->transport, b->pipe->out, b->pipe->len);
	assert(n <= (ssize_t)b->pipe->len);	/* else its length would wrap around */
	if (n > 0)
		b->pipe->len -= (size_t)n;
	return n;
}

struct verdict
backlog_drain(struct flow *f, enum side s)
{
	struct leg *l = leg_of(f, s);

	require(f, l->backlog != NULL && !l->dead);
	while (backlog_len(l) > 0) {
		const ssize_t n = send_some(l);

		require(f, l->backlog != NULL && !f->broken);
		if (n == -EAGAIN)
			return VERDICT(GO_ON);
		if (n < 0)
			return VERDICT_FAILED(s, (int)-n);
		pump_sent(f, s, clock_us());
	}
	backlog_free(f->relay, l);
	return VERDICT(GO_ON);
}
