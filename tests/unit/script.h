/* script.h - builds transcripts for the tests of HTTP and WebSocket: lines, and frames with their heads. */
#ifndef STENT_TESTS_SCRIPT_H
#define STENT_TESTS_SCRIPT_H

#include "codec_harness.h"

#define WS_REQUEST "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define WS_ACCEPT "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

#define WS_FRAME_MAX(len) (14 + (len))

struct script {
	struct step steps[64];
	void *blocks[64];
	size_t n;
	size_t fault;	/* see struct transcript */
};

/* A step of whole messages, given as a string. */
void script_say(struct script *s, enum side from, const char *text);
void script_bytes(struct script *s, enum side from, const void *data, size_t len);
/* One frame, masked when the client sends it; `first` is FIN, reserved bits and opcode. */
void script_frame(struct script *s, enum side from, unsigned first, const void *payload, size_t len);
void script_fin(struct script *s, enum side from);
void script_free(struct script *s);

/* Runs all plays of the harness; why: the reason for letting go, NULL: it must not. */
struct tally script_check(const struct script *s, const char *name, const struct codec *codec,
    const struct codec_settings *settings, const char *why);

/* Writes one frame; returns its length. */
size_t ws_frame(uint8_t *to, enum side from, unsigned first, const void *payload, size_t len);

/* The same for a run (codec_run.h). */
void run_say(struct run *r, enum side from, const char *text);
void run_frame(struct run *r, enum side from, unsigned first, const void *payload, size_t len);
/* What a side received ends with these bytes. */
bool run_ends(const struct run *r, enum side to, const void *data, size_t len);

#endif
