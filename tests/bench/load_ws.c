/*
 * load_ws.c - as much WebSocket (RFC 6455) as the load needs: an upgrade whose
 * texts are fixed (the accept key is the RFC's own example), binary frames, and
 * pongs for pings.
 */
#include <string.h>

#include "load.h"

#define PING 0x89
#define PONG 0x8a

const char ws_request[] =
    "GET /bench HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const char ws_response[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

size_t
ws_frame(uint8_t *at, size_t size, bool masked)
{
	size_t n = 0;

	at[n++] = 0x82;		/* binary, whole */
	at[n++] = masked ? 0x80 : 0;
	if (size < 126) {
		at[1] |= (uint8_t)size;
	} else if (size < 65536) {
		at[1] |= 126;
		at[n++] = (uint8_t)(size >> 8);
		at[n++] = (uint8_t)size;
	} else {
		at[1] |= 127;
		for (int shift = 56; shift >= 0; shift -= 8)
			at[n++] = (uint8_t)(size >> shift);
	}
	if (masked) {
		memcpy(at + n, WS_MASK, 4);
		n += 4;
	}
	for (size_t i = 0; i < size; i++)	/* any bytes are a masked text of some other bytes */
		at[n++] = (uint8_t)(i * 131 + (i >> 8));
	return n;
}

static size_t
write_pong(uint8_t *out, const uint8_t *payload, size_t len, bool masked)
{
	size_t n = 0;

	out[n++] = PONG;
	out[n++] = (uint8_t)((masked ? 0x80 : 0) | len);
	if (masked) {
		memcpy(out + n, WS_MASK, 4);
		n += 4;
	}
	for (size_t i = 0; i < len; i++)
		out[n++] = payload[i] ^ (masked ? (uint8_t)WS_MASK[i % 4] : 0);
	return n;
}

size_t
ws_answer_pings(const uint8_t *data, size_t len, bool masked, uint8_t *out, uint64_t *n)
{
	size_t out_len = 0;

	while (len > 0) {
		size_t head = masked ? 6 : 2, size;
		uint8_t plain[125];

		if (len < head || data[0] != PING || (data[1] & 0x80) != (masked ? 0x80 : 0))
			fail("something else came where a ping was due");
		size = data[1] & 0x7f;
		if (size > 125 || len < head + size)
			fail("a ping came cut");
		for (size_t i = 0; i < size; i++)
			plain[i] = data[head + i] ^ (masked ? data[2 + i % 4] : 0);
		out_len += write_pong(out + out_len, plain, size, !masked);
		data += head + size;
		len -= head + size;
		(*n)++;
	}
	return out_len;
}
