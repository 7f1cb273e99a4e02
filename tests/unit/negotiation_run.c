/*
 * negotiation_run.c - drives a negotiation and holds it to its contract.
 *
 * As in codec_run.c each input lies in a block of exactly its size, and the
 * state moves before each step.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "negotiation_run.h"
#include "stent/promise.h"

static void
check(bool promise, const char *what)
{
	if (promise)
		return;
	fprintf(stderr, "a negotiation broke its contract: %s\n", what);
	abort();
}

static void *
block_of(const void *data, size_t len)
{
	uint8_t *p = malloc(len > 0 ? len : 1);

	if (p == NULL)
		abort();
	if (len > 0)
		memcpy(p, data, len);
	return p;
}

static void
move_state(struct negotiation_run *r)
{
	void *to = block_of(r->state, r->negotiation->state_size);

	memset(r->state, 0xdd, r->negotiation->state_size);
	free(r->state);
	r->state = to;
}

static void
take_out(struct negotiation_run *r, enum side to)
{
	const struct codec_out *out = r->out[to];

	check(out->n_spans <= CODEC_SPANS && out->scratch_used <= CODEC_SCRATCH, "it emitted more than fits");
	check(out->n_spans == 0 || to == CLIENT || r->dialled, "it sends to a backend that is not connected");
	for (size_t i = 0; i < out->n_spans; i++)
		bytes_add(&r->got[to], out->spans[i].iov_base, out->spans[i].iov_len);
}

static void
consume(struct bytes *b, size_t n)
{
	b->len -= n;
	memmove(b->data, b->data + n, b->len);
}

static void
begin_tls(struct negotiation_run *r, enum side side)
{
	check(!r->tls[side], "it begins TLS on a leg twice");
	check(side == CLIENT || r->dialled, "it begins TLS with a backend that is not connected");
	r->tls[side] = true;
	r->hello[side] = r->unread[side].len;	/* what is unread is for TLS to read */
	r->unread[side].len = 0;
	r->plain_got[side] = r->got[side].len;
}

/* One step, with n bytes of a side. */
static void
step(struct negotiation_run *r, enum side from, size_t n)
{
	struct negotiation_step s = { .out = { r->out[CLIENT], r->out[BACKEND] },
	    .reach = { r->reach[CLIENT], r->reach[BACKEND] } };
	uint8_t *buf = n > 0 ? block_of(r->unread[from].data, n) : NULL;
	const bool had_all = n == r->unread[from].len;

	move_state(r);
	codec_out_clear(s.out[CLIENT]);
	codec_out_clear(s.out[BACKEND]);
	r->negotiation->step(r->state, from, buf, n, r->fin[from] && n == r->unread[from].len, &s);
	check(!promise_is_broken(), promise_broken.condition);
	check(s.consumed <= n, "it consumed more than it was given");
	take_out(r, CLIENT);
	take_out(r, BACKEND);
	free(buf);
	if (s.consumed > 0)
		consume(&r->unread[from], s.consumed);
	r->want = s.want;
	r->side = s.side;
	r->why = s.why;
	r->had_all = had_all && s.want == NEGOTIATION_READ && s.side == from;
	check(s.want != NEGOTIATION_FAILED || s.why != NULL, "it failed without a reason");
	check(s.want != NEGOTIATION_READ || s.side != BACKEND || r->dialled, "it reads from a backend that is not connected");
	check(s.want != NEGOTIATION_READ || r->unread[s.side].len <= NEGOTIATION_INPUT_MAX, "it wants to read too much");
	if (s.want == NEGOTIATION_TLS)
		begin_tls(r, s.side);
	if (s.want == NEGOTIATION_DIAL) {
		check(!r->dialled, "it dials twice");
		r->dialled = true;
	}
}

/* Goes on as far as it can with what is there. fresh: there is more of that side than at the last step. */
static void
go_on(struct negotiation_run *r, bool fresh, enum side of)
{
	for (;;) {
		switch (r->want) {
		case NEGOTIATION_TLS:
		case NEGOTIATION_DIAL:
			step(r, r->side, 0);
			break;
		case NEGOTIATION_READ:
			if (fresh && of == r->side)
				fresh = false;
			else if (r->unread[r->side].len == 0 || r->had_all)
				return;
			step(r, r->side, r->unread[r->side].len);
			break;
		case NEGOTIATION_DONE:
			check(r->dialled, "it is done without a backend");
			return;
		case NEGOTIATION_FAILED:
			return;
		}
	}
}

void
negotiation_run_start(struct negotiation_run *r, const struct negotiation *n, const struct negotiation_settings *settings)
{
	*r = (struct negotiation_run){ .negotiation = n };
	check(n->state_size <= NEGOTIATION_STATE_MAX, "its state is too large");
	r->state = calloc(1, n->state_size);
	for (int i = 0; i < 2; i++)
		r->out[i] = calloc(1, sizeof(*r->out[i]));
	if (r->state == NULL || r->out[0] == NULL || r->out[1] == NULL)
		abort();
	n->begin(r->state, settings);
	step(r, CLIENT, 0);
	go_on(r, false, CLIENT);
}

void
negotiation_run_feed(struct negotiation_run *r, enum side from, const void *data, size_t len)
{
	bytes_add(&r->unread[from], data, len);
	go_on(r, len > 0, from);
}

void
negotiation_run_fin(struct negotiation_run *r, enum side from)
{
	r->fin[from] = true;
	go_on(r, true, from);
	check(r->want != NEGOTIATION_READ || r->side != from, "it waits for more after a FIN");
}

void
negotiation_run_end(struct negotiation_run *r)
{
	for (int i = 0; i < 2; i++) {
		bytes_free(&r->unread[i]);
		bytes_free(&r->got[i]);
		free(r->out[i]);
	}
	free(r->state);
}
