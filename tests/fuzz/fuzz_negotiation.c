/*
 * fuzz_negotiation.c - plays whatever libFuzzer invents through a negotiation.
 * One target a negotiation, by -DFUZZ_NEGOTIATION=negotiation_NAME; the checks are those of negotiation_run.c.
 *
 * An input is a byte of settings, then records: 0x01: of the backend, 0x02: its FIN; else a byte of length - 1 and
 * the bytes that this side sends, 0x04: one at a time. TLS and the dial succeed at once. When the relay would fail
 * instead, refusal() is called: at every step.
 *
 * Where the negotiation hands over to a codec, that gets the rest of the records.
 */
#include <stdint.h>
#include <stdlib.h>

#include "negotiation_run.h"

#define OUTPUT_MAX (64 * 1024)	/* bytes, besides those that go through */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
refuse(const struct negotiation_run *r)
{
	uint8_t *buf = malloc(NEGOTIATION_REFUSAL_MAX);

	if (buf == NULL)
		abort();
	if (r->negotiation->refusal != NULL &&
	    r->negotiation->refusal(r->state, "the backend is gone", buf) > NEGOTIATION_REFUSAL_MAX)
		abort();
	free(buf);
}

static const uint8_t *
play(struct negotiation_run *r, const uint8_t *p, const uint8_t *end)
{
	const uint8_t how = *p++;
	const enum side from = (how & 1) != 0 ? BACKEND : CLIENT;
	size_t n;

	if (r->fin[from])
		return p;
	if ((how & 2) != 0) {
		negotiation_run_fin(r, from);
		return p;
	}
	if (p == end)
		return p;
	n = (size_t)*p++ + 1;
	if (n > (size_t)(end - p))
		n = (size_t)(end - p);
	for (size_t i = 0; i < n && (how & 4) != 0; i++)
		negotiation_run_feed(r, from, p + i, 1);
	if ((how & 4) == 0)
		negotiation_run_feed(r, from, p, n);
	return p + n;
}

/* The codec goes on from the negotiation's state; its own checks are those of codec_run.c. */
static void
go_on(const struct negotiation_run *r, const struct codec *codec, const uint8_t *p, const uint8_t *end)
{
	struct run run;

	run_start(&run, codec, NULL);
	r->negotiation->hand_over(r->state, run.state);
	while (p < end) {
		const uint8_t how = *p++;
		const enum side from = (how & 1) != 0 ? BACKEND : CLIENT;
		size_t n = p < end ? (size_t)*p + 1 : 0;

		if (run.fin[from] || (how & 2) != 0 || n == 0) {
			if (!run.fin[from])
				run_fin(&run, from);
			continue;
		}
		p++;
		if (n > (size_t)(end - p))
			n = (size_t)(end - p);
		for (size_t i = 0; i < n && (how & 4) != 0; i++)
			run_feed(&run, from, p + i, 1);
		if ((how & 4) == 0)
			run_feed(&run, from, p, n);
		if (run_may_heartbeat(&run, BACKEND) & HEARTBEAT_PING)
			run_heartbeat(&run, BACKEND, HEARTBEAT_PING);
		p += n;
	}
	run_end(&run);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *p = data, *const end = data + size;
	struct negotiation_settings settings = { 0 };
	struct negotiation_run r;

	if (size == 0)
		return 0;
	settings.client = *p & 3;
	settings.backend = (*p & 4) != 0;
	settings.backend_direct = (*p & 8) != 0;
	negotiation_run_start(&r, &FUZZ_NEGOTIATION, &settings);
	for (p++; p < end && r.want == NEGOTIATION_READ;) {
		refuse(&r);
		p = play(&r, p, end);
	}
	if (r.got[CLIENT].len + r.got[BACKEND].len > OUTPUT_MAX + 2 * size)
		abort();
	for (size_t i = 0; r.want == NEGOTIATION_DONE && r.negotiation->hand_over != NULL && codec_at(i) != NULL; i++)
		if (codec_at(i)->negotiation == r.negotiation)
			go_on(&r, codec_at(i), p, end);
	negotiation_run_end(&r);
	return 0;
}
