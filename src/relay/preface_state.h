/* preface_state.h - a preface from inside; for the files preface*.c. */
#ifndef STENT_RELAY_PREFACE_STATE_H
#define STENT_RELAY_PREFACE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay/flow.h"
#include "relay/verdict.h"
#include "stent/negotiation.h"
#include "stent/proxy_header.h"

/* What the client has to give first. Each is passed over where the route does not ask for it. */
enum preface_stage {
	STAGE_HEADER,		/* the PROXY header */
	STAGE_FIRST_BYTE,	/* any byte */
	STAGE_NEGOTIATION,	/* what `negotiation` asks for */
};

struct preface {
	const struct negotiation *negotiation;
	enum preface_stage stage;
	enum negotiation_want want;	/* what is waited for ... */
	enum side side;			/* ... and from whom */
	bool client_spoke;
	bool fin[2];
	size_t seen[2];			/* bytes that the last step of that side left unread */
	int64_t left_us[2];		/* of handshake_timeout */
	int64_t since_us;		/* when the present wait began; 0: the backend is being dialled */
	int64_t first_byte_us;		/* STAGE_FIRST_BYTE: when it is over */
	enum side waits_on;
	bool told_client;		/* the last step sent the client something */
	char *cause;			/* why it failed, in words; NULL: it did not */
	struct transport_client *client;	/* what is to be told of the client's TLS; NULL: nothing */
	_Alignas(8) uint8_t state[];
};

/* preface.c */
/* TLS, or the socket, failed on side s. */
struct verdict preface_leg_failed(struct flow *f, struct preface *p, enum side s, int err);
/* TLS failed on side s. */
struct verdict preface_failed(struct flow *f, struct preface *p, enum side s, enum tls_cause kind, const char *why);
void preface_set_cause(struct preface *p, const char *why);
/* Side s is waited for, within what is left of its handshake_timeout. NOTHING. */
struct verdict preface_wait_for(struct flow *f, struct preface *p, enum side s);
void preface_stop_clock(struct preface *p, int64_t now_us);
/* One edge may stand for bytes and a reset behind them. */
bool preface_is_reset(const struct leg *l, int *err);

/* preface_negotiation.c */
/* A step of the negotiation. GO_ON: p->want and p->side say what comes next. */
struct verdict preface_step(struct flow *f, struct preface *p, enum side from, const uint8_t *buf, size_t len);
/* Reads, or runs the handshake, as the negotiation wants. */
struct verdict preface_read_more(struct flow *f, struct preface *p);
struct verdict preface_shake_hands(struct flow *f, struct preface *p);

/* preface_proxy.c: each GO_ON when the stage is over. */
struct verdict preface_read_header(struct flow *f, struct preface *p);
/* handshake_timeout is over: GO_ON: the client has none, and need not. */
struct verdict preface_header_is_late(struct flow *f, struct preface *p);
struct verdict preface_await_first_byte(struct flow *f, struct preface *p);
/* The backend is connected: sends it the header. */
struct verdict preface_send_header(struct flow *f, struct preface *p);

#endif
