/*
 * http.h - the parts of the HTTP/1.1 and WebSocket codecs. Only http*.c and
 * websocket*.c include it.
 *
 * All of it is plain memory inside one codec state, which lives as long as the
 * flow, however idle that is: so fields are as narrow as they can be.
 * Functions that may meet bytes they do not understand set *why, a static
 * string, and consume nothing from the offending byte on.
 */
#ifndef STENT_CODEC_HTTP_H
#define STENT_CODEC_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/words.h"
#include "stent/codec.h"

/* ---- heads: request line or status line and the header fields ---- */

enum http_fact {	/* what a head said, as bits */
	FACT_LENGTH = 1,		/* Content-Length */
	FACT_CODING = 2,		/* Transfer-Encoding, of any kind ... */
	FACT_CHUNKED = 4,		/* ... with chunked as its last */
	FACT_CODING_OTHER = 8,		/* ... with another beside it */
	FACT_EXPECT = 16,		/* Expect */
	FACT_EVENTS = 32,		/* Content-Type: text/event-stream */
	FACT_TYPE_OTHER = 64,		/* Content-Type: another */
	FACT_ENCODED = 128,		/* Content-Encoding, not identity */
	FACT_UPGRADE_WS = 256,		/* Upgrade: websocket */
	FACT_UPGRADE_H2C = 512,		/* Upgrade: h2c */
	FACT_UPGRADE_OTHER = 1024,	/* Upgrade: another */
	FACT_WS_ACCEPT = 2048,		/* Sec-WebSocket-Accept */
};

enum http_method { METHOD_HEAD, METHOD_CONNECT, METHOD_PRI, METHOD_OTHER };

struct http_head {
	uint64_t length;	/* Content-Length, once FACT_LENGTH */
	uint64_t number;	/* the one being read */
	uint16_t facts;
	uint16_t status;	/* of a response */
	struct words word;	/* the current word: a method, a header, or part of a value */
	uint8_t at;		/* bytes of the version or the status so far; 1 within a number */
	uint8_t state;
	uint8_t header;		/* the header whose value is being read */
	uint8_t method;
	uint8_t minor;		/* HTTP/1.minor */
	bool is_request;
	bool is_past_word;	/* after a word, before its comma */
};

void http_head_start(struct http_head *h, bool is_request);
/* Reads up to the end of the head; returns how many bytes that took. */
size_t http_head_feed(struct http_head *h, const uint8_t *buf, size_t len, const char **why);
bool http_head_is_done(const struct http_head *h);

/* ---- the text of server-sent events ---- */

#define HTTP_COMMENT_MAX (CODEC_COMMENT_MAX + 4)	/* each line end may have two bytes, and a NUL */

struct http_events {
	uint8_t line;		/* what the current line is */
	uint8_t line_end;	/* how this stream ends its lines */
	bool is_behind_cr;	/* its LF may still come */
	bool has_begun;		/* a byte has come */
	bool is_open;		/* an event has begun whose empty line has not come */
	bool has_ids;		/* an event has named an id */
};

enum http_place {
	PLACE_START,		/* nothing has come yet */
	PLACE_IN_LINE,		/* or in its line end, as far as is known */
	PLACE_IN_EVENT,		/* between two lines of it */
	PLACE_BETWEEN_EVENTS,
};

void http_events_feed(struct http_events *e, const uint8_t *buf, size_t len);
enum http_place http_events_place(const struct http_events *e);
/* Writes the comment for the current place, which is not in a line. text: as in struct codec_settings. Returns its length. */
size_t http_events_comment(const struct http_events *e, const struct codec_bytes *text, char buf[HTTP_COMMENT_MAX]);

/* ---- bodies ---- */

#define HTTP_EARLY_MAX 7	/* bytes sent early in one place */

struct http_body {
	uint64_t left;		/* bytes to come of the body or of this chunk */
	uint8_t state;
	uint8_t digits;		/* of this chunk's size, as they came */
	uint8_t digits_sent;	/* ... and as they went out, with early zeros */
	uint8_t early;		/* zeros sent early, minus those that have come since */
	bool promised;		/* zeros were sent early for a size line that has not been read whole */
	bool is_events;		/* server-sent events into which comments may go */
};

/* Starts the body that a head announces (RFC 9112, 6.3). Returns why not, or NULL. */
const char *http_body_start(struct http_body *b, const struct http_head *head);
/* Makes it a body without bytes, whatever the head announced. */
void http_body_none(struct http_body *b);
bool http_body_is_done(const struct http_body *b);

/*
 * Follows the body to its end and emits it, without the zeros that were sent early. events: of a response,
 * for its text if it is a stream of events; else NULL.
 */
size_t http_body_feed(struct http_body *b, struct http_events *events, const uint8_t *buf, size_t len,
    struct codec_out *out, const char **why);
uint64_t http_body_skippable(const struct http_body *b);
void http_body_skipped(struct http_body *b, uint64_t n);

/* The next byte begins a chunk, and nothing of its size line has come. */
bool http_body_at_chunk(const struct http_body *b);
/* It lasts until the connection ends. */
bool http_body_ends_at_fin(const struct http_body *b);
/* Writes the comment that may go out now, as a chunk where the body has chunks. Returns its length. */
size_t http_body_comment(const struct http_body *b, const struct http_events *events, const struct codec_bytes *text,
    uint8_t buf[CODEC_HEARTBEAT_MAX]);
/* Notes that one zero of the next size line is sent early. */
void http_body_send_zero(struct http_body *b);

/* ---- WebSocket frames, after a 101 ---- */

#define WS_TOKEN 15	/* bytes of payload in a ping of ours */
#define WS_HOLD (2 + 4 + WS_TOKEN)

struct ws_stream {		/* the frames that one side sends */
	uint64_t left;		/* payload to come */
	uint32_t hash;		/* of a control frame's payload so far; of a Close its code */
	uint8_t key[4];		/* its masking key; zeros where there is none */
	uint8_t held[WS_HOLD];	/* start of a frame that is not yet emitted */
	uint8_t n_held;
	uint8_t n_passed;	/* of those, bytes that have gone out already: see ws_feed_early() */
	uint8_t state;
	uint8_t opcode;
	uint8_t at;		/* control payload so far, for the key */
	bool in_message;	/* between the fragments of a message */
	bool is_closed;		/* a Close has passed, or no whole frame can follow */
	bool sent_close;	/* a Close of this side has begun to pass */
};

struct ws_pings {		/* pings to one side */
	uint32_t open;		/* bit i: the pong for serial next - 1 - i has not come */
	uint32_t app_hash;	/* hash of the payload of the application's last ping */
	uint16_t next;		/* serial of our next ping */
	uint16_t settled;	/* serials before this one have their reply, or are given up */
	uint16_t before_app;	/* serials before this one were sent before the application's last ping */
	uint8_t app_due;	/* the application's pings minus the pongs that were passed on */
	uint8_t app_waits;	/* one-way heartbeats sent while app_open */
	bool app_open;		/* the application's last ping has had no reply */
	bool has_pinged;	/* a ping of ours was sent */
	bool knows_pongs;	/* a pong of this side without our token is not for us: it returns tokens, or sends unsolicited pongs */
};

/*
 * A pong from the pinged side. True: it is for a ping of ours. len: of its payload, of which as much as a token is long
 * is here.
 */
bool ws_take_pong(struct ws_pings *a, uint32_t nonce, const uint8_t *payload, size_t len, struct codec_out *out);
/* The application's own pings to that side, and pongs of that side that are not for us. hash: of the payload. */
void ws_note_app_ping(struct ws_pings *a, uint32_t hash);
void ws_note_app_pong(struct ws_pings *a, uint32_t hash);
/* The side is to reply to the application's own ping first. */
bool ws_app_comes_first(const struct ws_pings *a);
/* The pongs that are due are few enough that the next one would be recognized. */
bool ws_has_room_for_ping(const struct ws_pings *a);
/* Writes the payload of the next ping, and counts it as sent. */
void ws_begin_ping(struct ws_pings *a, uint32_t nonce, uint8_t token[WS_TOKEN]);

struct ws {
	struct ws_stream stream[2];	/* by the side that sends */
	struct ws_pings pings[2];	/* by the side that is pinged */
	uint32_t nonce;			/* of the tokens of this flow */
};

/* What the client sends before its upgrade is granted: part of a struct ws to come. */
struct ws_early {
	struct ws_stream stream;	/* of the client */
	struct ws_pings pings;		/* to the backend */
};

/*
 * Follows bytes that the caller passes on itself. Returns how many of them were frames: less than len with *why set.
 * The struct ws after the 101 takes over both parts.
 */
size_t ws_feed_early(struct ws_early *e, const uint8_t *buf, size_t len, const char **why);

size_t ws_feed(struct ws *ws, enum side from, const uint8_t *buf, size_t len,
    struct codec_out *out, const char **why);
/* Emits what is held of that direction. */
void ws_release(struct ws *ws, enum side from, struct codec_out *out);
/* Bytes of that direction that were consumed and not emitted. */
size_t ws_held(const struct ws *ws, enum side from);
/* Nothing of that direction is held, and no reply is due in it. */
bool ws_is_settled(const struct ws *ws, enum side from);
uint64_t ws_skippable(const struct ws *ws, enum side from);
void ws_skipped(struct ws *ws, enum side from, uint64_t n);
unsigned ws_may_heartbeat(const struct ws *ws, enum side to);
const char *ws_why_none(const struct ws *ws, enum side to);
bool ws_in_message(const struct ws *ws, enum side to);	/* or between two of its frames */
/* A pong for a ping of ours is due from that side: not after a Close, nor while the application's own ping comes first. */
bool ws_awaits_reply(const struct ws *ws, enum side by);
/* Both directions are between two messages, and neither is closing. */
bool ws_is_at_rest(const struct ws *ws);
bool ws_sent_close(const struct ws *ws, enum side from);
size_t ws_heartbeat(struct ws *ws, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX]);
size_t ws_close_message(struct ws *ws, enum side to, const struct codec_close_info *info,
    uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);

/* ---- one exchange, and the state of a flow (http_exchange.c) ---- */

enum http_part { PART_START, PART_HEAD, PART_BODY };

struct http_exchange {
	struct http_head head;		/* the one being read, of either side */
	struct http_body body[2];	/* by the side that sends it */
	struct http_events events;	/* where the text of a response of events stands */
	uint8_t part[2];
	uint8_t prefix;			/* bytes of "HTTP/1." that the client got early */
	bool is_open;			/* a request has been read, and its response has not ended */
	bool is_head;			/* ... it was HEAD */
	bool expects;			/* ... it has Expect; neither 100 nor its body has come yet */
	bool wants_upgrade;		/* ... it has Upgrade */
	bool wants_websocket;		/* ... to websocket */
	bool has_early_frames;		/* ... and the client did not wait for the response: */
	struct ws_early early_frames;
};

struct http {
	const char *passthrough;	/* reason to become passthrough; NULL: none */
	bool is_blind[2];	/* bytes from that side are passed on unread */
	bool is_finished[2];	/* that side has sent its FIN */
	bool is_websocket;
	bool heartbeats_http;	/* heartbeats before an upgrade: not in the row `websocket` */
	bool sends_comments;	/* comments to the client */
	bool sends_early[2];	/* early heartbeats to that side */
	uint32_t nonce;		/* random: for heartbeats after an upgrade */
	const struct codec_settings *settings;	/* NULL in the row `websocket` */
	union {
		struct http_exchange exchange;
		struct ws ws;
	};
};

_Static_assert(sizeof(struct http) <= 184, "memory of idle flows counts");

/* Follows one part of the exchange, at least a byte of it or up to *why. After a 101 to WebSocket h->is_websocket. */
size_t http_exchange_feed(struct http *h, enum side from, const uint8_t *buf, size_t len, struct codec_out *out, const char **why);
/* After bytes of a body, which may have ended with them. */
void http_exchange_end_body(struct http_exchange *x, enum side from);
/* A response whose body is a stream of events is under way; it stands between two events, and its request has been sent whole. */
bool http_exchange_is_in_events(const struct http *h);
bool http_exchange_is_between_events(const struct http *h);
/* As of struct codec. */
unsigned http_exchange_may_heartbeat(const struct http *h, enum side to);
const char *http_exchange_why_none(const struct http *h, enum side to);
size_t http_exchange_heartbeat(struct http *h, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX]);
/* Its close message: the last chunk of a stream of events that is at rest. */
size_t http_exchange_last_chunk(const struct http *h, enum side to, const struct codec_close_info *info, uint8_t *buf);

#endif
