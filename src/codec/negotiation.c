/*
 * negotiation.c - TLS from the first byte.
 *
 * The client's leg comes first, so that a client whose TLS fails costs the
 * backend nothing. A client that may choose is known by its first byte: 0x16
 * begins a handshake record, and no protocol that is spoken plainly here. It
 * stays unread.
 */
#include "stent/negotiation.h"
#include "stent/promise.h"

#define HANDSHAKE_RECORD 0x16

enum phase { START, CLIENT_BYTE, DIAL, BACKEND_TLS, DONE };

struct direct {
	struct negotiation_settings settings;
	enum phase phase;
};

static void
direct_begin(void *state, const struct negotiation_settings *settings)
{
	struct direct *d = state;

	d->settings = *settings;
	d->phase = START;
}

/* What the client does first, as far as it is known without its first byte. */
static enum phase
start(const struct direct *d, struct negotiation_step *ret)
{
	ret->side = CLIENT;
	switch (d->settings.client) {
	case CLIENT_MUST_TLS:
		ret->want = NEGOTIATION_TLS;
		return DIAL;
	case CLIENT_MAY_TLS:
		ret->want = NEGOTIATION_READ;
		return CLIENT_BYTE;
	case CLIENT_PLAIN:
	case CLIENT_ABSENT:
		break;
	}
	ret->want = NEGOTIATION_DIAL;
	return BACKEND_TLS;
}

static enum phase
choose(const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	ret->side = CLIENT;
	if (len == 0 && !fin) {
		ret->want = NEGOTIATION_READ;
		return CLIENT_BYTE;
	}
	if (len > 0 && buf[0] == HANDSHAKE_RECORD) {
		ret->want = NEGOTIATION_TLS;
		return DIAL;
	}
	ret->want = NEGOTIATION_DIAL;
	return BACKEND_TLS;
}

static void
direct_step(void *state, enum side from, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	struct direct *d = state;

	(void)from;
	ret->consumed = 0;
	ret->why = NULL;
	switch (d->phase) {
	case START:
		d->phase = start(d, ret);
		break;
	case CLIENT_BYTE:
		d->phase = choose(buf, len, fin, ret);
		break;
	case DIAL:
		ret->want = NEGOTIATION_DIAL;
		ret->side = BACKEND;
		d->phase = BACKEND_TLS;
		break;
	case BACKEND_TLS:
		ret->want = d->settings.backend ? NEGOTIATION_TLS : NEGOTIATION_DONE;
		ret->side = BACKEND;
		d->phase = DONE;
		break;
	case DONE:
		ret->want = NEGOTIATION_DONE;
		ret->side = BACKEND;
		break;
	}
	promise(d->phase > START && d->phase <= DONE);
	promise(ret->want != NEGOTIATION_TLS || ret->side != CLIENT || d->settings.client == CLIENT_MAY_TLS || d->settings.client == CLIENT_MUST_TLS);
	promise(ret->want != NEGOTIATION_TLS || ret->side != BACKEND || d->settings.backend);
	promise(ret->want != NEGOTIATION_READ || (ret->side == CLIENT && d->phase == CLIENT_BYTE));
}

const struct negotiation negotiation_direct = {
	.state_size = sizeof(struct direct),
	.begin = direct_begin,
	.step = direct_step,
};

/* --- no TLS --- */

static void
none_begin(void *state, const struct negotiation_settings *settings)
{
	(void)state;
	(void)settings;
}

static void
none_step(void *state, enum side from, const uint8_t *buf, size_t len, bool fin, struct negotiation_step *ret)
{
	(void)state;
	(void)buf;
	(void)len;
	(void)fin;
	ret->consumed = 0;
	ret->why = NULL;
	ret->want = from == CLIENT ? NEGOTIATION_DIAL : NEGOTIATION_DONE;
	ret->side = BACKEND;
}

const struct negotiation negotiation_none = {
	.begin = none_begin,
	.step = none_step,
};
