/*
 * frames.c - just enough WebSocket for the two ends of the demonstration:
 * short frames, never fragmented (RFC 6455, section 5.2). It shares no code with
 * stent's codec, which is what the demonstration shows at work.
 */
#include <assert.h>
#include <string.h>

#include "demo/demo.h"

/* The key and the response are those of RFC 6455, section 1.3. */
static const char request[] =
    "GET /time HTTP/1.1\r\nHost: clock\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char response[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static const uint8_t mask[4] = { 0x5a, 0x17, 0xc3, 0x88 };

void
put_upgrade_request(struct evbuffer *buf)
{
	evbuffer_add(buf, request, sizeof(request) - 1);
}

void
put_upgrade_response(struct evbuffer *buf)
{
	evbuffer_add(buf, response, sizeof(response) - 1);
}

bool
head_take(struct evbuffer *buf)
{
	struct evbuffer_ptr end = evbuffer_search(buf, "\r\n\r\n", 4, NULL);

	if (end.pos < 0)
		return false;
	evbuffer_drain(buf, (size_t)end.pos + 4);
	return true;
}

int
frame_take(struct evbuffer *buf, struct frame *f)
{
	uint8_t head[6];
	size_t have = evbuffer_get_length(buf), head_len, len;

	if (have < 2)
		return 0;
	evbuffer_copyout(buf, head, have < sizeof(head) ? have : sizeof(head));
	len = head[1] & 0x7f;
	head_len = (head[1] & 0x80) ? 6 : 2;
	if (len > FRAME_MAX || !(head[0] & 0x80))
		return -1;
	if (have < head_len + len)
		return 0;
	evbuffer_drain(buf, head_len);
	evbuffer_remove(buf, f->payload, len);
	for (size_t i = 0; i < len && head_len == 6; i++)
		f->payload[i] ^= head[2 + i % 4];
	f->payload[len] = '\0';
	f->opcode = head[0] & 0x0f;
	f->len = len;
	return 1;
}

void
frame_put(struct evbuffer *buf, int opcode, const void *payload, size_t len, bool masked)
{
	uint8_t bytes[6 + FRAME_MAX];
	size_t head = masked ? 6 : 2;

	assert(len <= FRAME_MAX);
	bytes[0] = (uint8_t)(0x80 | opcode);
	bytes[1] = (uint8_t)((masked ? 0x80 : 0) | len);
	memcpy(bytes + 2, mask, sizeof(mask));
	memcpy(bytes + head, payload, len);
	for (size_t i = 0; i < len && masked; i++)
		bytes[head + i] ^= mask[i % 4];
	evbuffer_add(buf, bytes, head + len);
}
