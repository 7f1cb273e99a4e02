/*
 * codec_peers.c - the two ends of each protocol, as far as our heartbeats go: what
 * was measured with real programs, in a few lines each.
 */
#include <string.h>

#include "codec_peers.h"

#define IS(heartbeat, len, text) ((len) == sizeof(text) - 1 && memcmp(heartbeat, text, len) == 0)

static size_t
put(uint8_t *to, const void *data, size_t len)
{
	memcpy(to, data, len);
	return len;
}

#define PUT(to, text) put(to, text, sizeof(text) - 1)

static size_t
line_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	const struct codec_bytes *expect = &settings->heartbeat_expect[side];
	size_t n;

	(void)heartbeat;
	(void)len;
	if (expect->len == 0)
		return 0;
	n = put(reply, expect->data, expect->len);
	return reply[n - 1] == '\n' ? n : n + PUT(reply + n, "\r\n");
}

/* Any whole line may come first. */
static bool
line_overtakes(enum side side, const uint8_t *message, size_t len)
{
	(void)side;
	return len > 0 && message[len - 1] == '\n';
}

/* The client's reply may end in LF alone as well. */
static size_t
line_looks_like_reply(enum side side, const uint8_t *bytes, size_t len)
{
	return side == CLIENT && len >= 3 && memcmp(bytes, "ok\n", 3) == 0 ? 3 : 0;
}

static uint8_t line_hello[] = "HB?\r\n", line_ok[] = "ok";
static uint8_t line_ping[] = "PING\n", line_pong[] = "a\na\nPONG\n";
static const struct codec_settings line_settings = {
	.heartbeats = { true, true },
	.heartbeat_send = { { line_hello, 5 }, { line_ping, 5 } },
	.heartbeat_expect = { { line_ok, 2 }, { line_pong, 9 } },
};

static bool
any_overtakes(enum side side, const uint8_t *message, size_t len)
{
	(void)side;
	(void)message;
	(void)len;
	return true;
}

/* A ping comes back as a pong with the same payload: masked from the client, plain from the backend. */
static size_t
websocket_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	static const uint8_t mask[4] = { 0x11, 0x22, 0x33, 0x44 };
	size_t head = side == BACKEND ? 6 : 2, n, payload;

	(void)settings;
	if (len < head || heartbeat[0] != 0x89 || (heartbeat[1] & 0x7f) != len - head)
		return 0;
	payload = len - head;
	n = PUT(reply, "\x8a");
	reply[n++] = (uint8_t)(payload | (side == CLIENT ? 0x80 : 0));
	if (side == CLIENT)
		n += put(reply + n, mask, 4);
	for (size_t i = 0; i < payload; i++) {
		uint8_t plain = side == BACKEND ? heartbeat[head + i] ^ heartbeat[2 + i % 4] : heartbeat[head + i];

		reply[n++] = side == CLIENT ? plain ^ mask[i % 4] : plain;
	}
	return n;
}

/* Any pong, whatever its mask: there are peers that mangle what they return. */
static size_t
websocket_looks_like_reply(enum side side, const uint8_t *bytes, size_t len)
{
	const size_t head = len >= 2 && (bytes[1] & 0x80) != 0 ? 6 : 2;

	(void)side;
	if (len < head || bytes[0] != 0x8a || (bytes[1] & 0x7f) > 125 || len < head + (bytes[1] & 0x7f))
		return 0;
	return head + (bytes[1] & 0x7f);
}

/* Less of the payload, the other case, no mask or a new one. */
static size_t
websocket_mangle(unsigned how, uint8_t reply[PEER_REPLY_MAX], size_t len)
{
	const bool was_masked = (reply[1] & 0x80) != 0, masks = was_masked != ((how & 1) != 0);
	const size_t head = was_masked ? 6 : 2;
	uint8_t payload[128];
	size_t n = len - head;

	for (size_t i = 0; i < n; i++)
		payload[i] = reply[head + i] ^ (was_masked ? reply[2 + i % 4] : 0) ^ ((how & 2) != 0 ? 0x20 : 0);
	if ((how & 4) != 0)
		n = how >> 3 < n ? how >> 3 : n;
	reply[1] = (uint8_t)(n | (masks ? 0x80 : 0));
	if (masks)
		memset(reply + 2, 0, 4);
	memcpy(reply + (masks ? 6 : 2), payload, n);
	return (masks ? 6 : 2) + n;
}

static size_t
postgres_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	(void)settings;
	return side == BACKEND && IS(heartbeat, len, "S\0\0\0\4") ? PUT(reply, "Z\0\0\0\5I") : 0;
}

#define PG_HELD 32	/* bytes of an error in which its severity must be found */

/* An error that a session outlives, by the first five letters of the first of its severities that is in English; as much of it as there is. */
static size_t
postgres_like_error(const uint8_t *bytes, size_t len)
{
	const size_t whole = len < 5 ? 0 : 1 + ((size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 8 | bytes[4]);
	const size_t end = whole < len ? whole : len, searched = end < 5 + PG_HELD ? end : 5 + PG_HELD;
	const uint8_t *field = bytes + 5, *nul;

	if (whole == 0 || bytes[0] != 'E')
		return 0;
	for (; field < bytes + searched; field = nul + 1) {
		nul = memchr(field + 1, '\0', (size_t)(bytes + searched - field) - 1);
		if (nul == NULL)
			return 0;
		if (*field == '\0')
			return 0;
		if (*field != 'S' && *field != 'V')
			continue;
		if (strncmp((const char *)field + 1, "ERROR", 5) == 0)
			return end;
		if (strncmp((const char *)field + 1, "FATAL", 5) == 0 || strncmp((const char *)field + 1, "PANIC", 5) == 0)
			return 0;
	}
	return 0;
}

/* Whatever the state of the transaction. */
static size_t
postgres_looks_like_reply(enum side side, const uint8_t *bytes, size_t len)
{
	if (side != BACKEND)
		return 0;
	return len >= 6 && memcmp(bytes, "Z\0\0\0\5", 5) == 0 ? 6 : postgres_like_error(bytes, len);
}

/* Notifications, notices and parameters may come at any time. */
static bool
postgres_overtakes(enum side side, const uint8_t *message, size_t len)
{
	(void)side;
	return len > 0 && strchr("ANS", message[0]) != NULL && message[0] != '\0';
}

static size_t
mysql_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	(void)settings;
	if (side == BACKEND && IS(heartbeat, len, "\1\0\0\0\x09"))
		return PUT(reply, "\x1d\0\0\1Uptime: 12  Threads: 1  Qs: 3");
	return side == BACKEND && IS(heartbeat, len, "\1\0\0\0\x0e") ? PUT(reply, "\7\0\0\1\0\0\0\2\0\0\0") : 0;
}

/* Any packet that is the first of a reply, known for one by its head and three bytes. */
static size_t
mysql_looks_like_reply(enum side side, const uint8_t *bytes, size_t len)
{
	const size_t payload = len < 4 ? 0 : (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16;
	const size_t known_by = 4 + (payload < 3 ? payload : 3);

	if (side != BACKEND || len < known_by || bytes[3] != 1 || payload == 0xffffff)
		return 0;
	return 4 + payload < len ? 4 + payload : len;
}

static size_t
redis_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	(void)settings;
	return side == BACKEND && IS(heartbeat, len, "*1\r\n$4\r\nPING\r\n") ? PUT(reply, "+PONG\r\n") : 0;
}

/* With nothing outstanding any line is a reply to us; PING has others too. */
static size_t
redis_looks_like_reply(enum side side, const uint8_t *bytes, size_t len)
{
	static const char *const pongs[] = { "*2\r\n$4\r\npong\r\n$0\r\n\r\n", "$4\r\nPONG\r\n" };
	const uint8_t *end;

	if (side != BACKEND || len == 0)
		return 0;
	for (size_t i = 0; i < 2; i++)
		if (len >= strlen(pongs[i]) && memcmp(bytes, pongs[i], strlen(pongs[i])) == 0)
			return strlen(pongs[i]);
	if (*bytes != '-' && *bytes != '+' && *bytes != ':')
		return 0;
	end = memchr(bytes, '\n', len);
	return end != NULL ? (size_t)(end - bytes) + 1 : len;
}

static bool
redis_overtakes(enum side side, const uint8_t *message, size_t len)
{
	(void)side;
	return len > 0 && message[0] == '>';
}

/* Only the codec that was found heartbeats, so only its own peer knows the heartbeat. */
static size_t
auto_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	size_t n = websocket_reply(settings, side, heartbeat, len, reply);

	if (n == 0)
		n = postgres_reply(settings, side, heartbeat, len, reply);
	if (n == 0)
		n = mysql_reply(settings, side, heartbeat, len, reply);
	return n != 0 ? n : redis_reply(settings, side, heartbeat, len, reply);
}

static size_t
auto_looks_like_reply(enum side side, const uint8_t *bytes, size_t len)
{
	size_t n = websocket_looks_like_reply(side, bytes, len);

	if (n == 0)
		n = postgres_looks_like_reply(side, bytes, len);
	if (n == 0)
		n = mysql_looks_like_reply(side, bytes, len);
	return n != 0 ? n : redis_looks_like_reply(side, bytes, len);
}

static const struct codec_peer peers[] = {
	{ .codec = "line", .reply = line_reply, .may_overtake = line_overtakes,
	    .looks_like_reply = line_looks_like_reply, .settings = &line_settings },
	{ .codec = "websocket", .reply = websocket_reply, .may_overtake = any_overtakes,
	    .looks_like_reply = websocket_looks_like_reply, .mangle = websocket_mangle, .oneway_is_alike = true },
	{ .codec = "http", .reply = websocket_reply, .may_overtake = any_overtakes,
	    .looks_like_reply = websocket_looks_like_reply, .mangle = websocket_mangle, .oneway_is_alike = true },
	{ .codec = "sse", .reply = websocket_reply, .may_overtake = any_overtakes,
	    .looks_like_reply = websocket_looks_like_reply, .mangle = websocket_mangle, .oneway_is_alike = true },
	{ .codec = "postgres", .reply = postgres_reply, .may_overtake = postgres_overtakes,
	    .looks_like_reply = postgres_looks_like_reply, .refuses_alike = true },
	{ .codec = "mysql", .reply = mysql_reply, .known_by = 7, .looks_like_reply = mysql_looks_like_reply },
	{ .codec = "redis", .reply = redis_reply, .may_overtake = redis_overtakes, .replies_to_oneway = true,
	    .looks_like_reply = redis_looks_like_reply },
	{ .codec = "auto", .reply = auto_reply, .looks_like_reply = auto_looks_like_reply },
};

static size_t
no_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	(void)settings;
	(void)side;
	(void)heartbeat;
	(void)len;
	(void)reply;
	return 0;
}

const struct codec_peer *
codec_peer_of(const struct codec *codec)
{
	static const struct codec_peer mute = { .reply = no_reply };

	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
		if (strcmp(peers[i].codec, codec->name) == 0)
			return &peers[i];
	return &mute;
}
