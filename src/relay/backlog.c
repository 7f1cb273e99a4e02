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
#include "relay/shared.h"

#define SPANS 8		/* per write */

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
	assert(b->pipe == NULL && !b->urgent);	/* bytes would overtake it */
	if (b->bytes == NULL)
		b->bytes = evbuffer_new();
	if (b->bytes == NULL || evbuffer_add(b->bytes, data, len) != 0)
		return -ENOMEM;
	return 0;
}

int
backlog_add_urgent(struct leg *l, uint8_t byte)
{
	int r;

	assert(l->backlog == NULL);
	r = backlog_add(l, &byte, 1);
	if (r == 0)
		l->backlog->urgent = true;
	return r;
}

int
backlog_add_pipe(struct leg *l, struct pipe *p)
{
	struct backlog *b;

	assert(l->backlog == NULL && p->len > 0 && p->len <= PIPE_BYTES);
	b = backlog_of(l);
	if (b == NULL)
		return -ENOMEM;
	b->pipe = p;
	return 0;
}

int
backlog_hold(struct leg *l)
{
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
	const ssize_t n = transport_write(&l->transport, spans, n_spans < SPANS ? (size_t)n_spans : SPANS);

	assert(n <= (ssize_t)evbuffer_get_length(bytes));
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

		assert(evbuffer_get_length(b->bytes) == 1);
		evbuffer_copyout(b->bytes, &byte, 1);
		n = transport_write_urgent(&l->transport, byte);
		if (n > 0)
			evbuffer_drain(b->bytes, 1);
		return n;
	}
	if (b->bytes != NULL && evbuffer_get_length(b->bytes) > 0)
		return send_bytes(l);
	assert(b->pipe != NULL && b->pipe->len > 0);
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

	while (backlog_len(l) > 0) {
		const ssize_t n = send_some(l);

		if (n == -EAGAIN)
			return VERDICT(GO_ON);
		if (n < 0)
			return VERDICT_FAILED(s, (int)-n);
		pump_sent(f, s, clock_us());
	}
	backlog_free(f->relay, l);
	return VERDICT(GO_ON);
}
