/*
 * proxy_header.c - reads the header of the PROXY protocol.
 *
 * The whole header is judged at once, as the specification demands: nothing is
 * decoded before its last byte is there. So the caller peeks, asks again when
 * there is more, and takes exactly `len` bytes once it is complete.
 *
 * Version 1 is a line of at most 107 bytes. Version 2 names its length in its
 * first 16 bytes; behind the addresses are TLVs, of which a checksum is verified
 * and a unique id kept. Addresses of a family that we do not know, and those of
 * a LOCAL connection, are passed over.
 */
#include "stent/proxy_header.h"

#include <arpa/inet.h>
#include <string.h>

#define V1_MAX 107
#define V2_FIXED 16
#define TLV_HEAD 3
#define TLV_CRC32C 0x03
#define TLV_UNIQUE_ID 0x05
#define CRC_BYTES 4

static const uint8_t v1_signature[] = { 'P', 'R', 'O', 'X', 'Y', ' ' };
static const uint8_t v2_signature[] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };

static enum proxy_read
invalid(const char **why, const char *text)
{
	*why = text;
	return PROXY_INVALID;
}

/* Also of an IPv4-mapped address, so that rules for IPv4 addresses apply to it. */
static struct address
from_v6(const uint8_t ip[16], uint16_t port)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	memcpy(&sin6.sin6_addr, ip, 16);
	return address_from_sockaddr((const struct sockaddr *)&sin6);
}

static struct address
from_v4(const uint8_t ip[4], uint16_t port)
{
	struct address a = { .family = AF_INET, .port = port };

	memcpy(a.ip, ip, 4);
	return a;
}

/* --- version 1 --- */

/* The next word of a line of single spaces; *len 0: there is none. */
static const char *
next_word(const char **at, size_t *len)
{
	const char *word = *at;

	*len = strcspn(word, " ");
	*at = word + *len + (word[*len] == ' ' ? 1 : 0);
	return word;
}

static bool
read_ip(const char **line, int family, uint8_t ip[16])
{
	char text[INET6_ADDRSTRLEN + 1];
	size_t len;
	const char *word = next_word(line, &len);

	if (len == 0 || len >= sizeof(text))
		return false;
	memcpy(text, word, len);
	text[len] = '\0';
	return inet_pton(family, text, ip) == 1;
}

static bool
read_port(const char **line, uint16_t *port)
{
	size_t len;
	const char *word = next_word(line, &len);
	unsigned n = 0;

	if (len == 0 || len > 5 || (word[0] == '0' && len > 1))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (word[i] < '0' || word[i] > '9')
			return false;
		n = n * 10 + (unsigned)(word[i] - '0');
	}
	*port = (uint16_t)n;
	return n <= UINT16_MAX;
}

/* line: what is behind "PROXY ". */
static enum proxy_read
read_line(struct proxy_header *ret, const char *line, const char **why)
{
	uint8_t source[16], destination[16];
	uint16_t source_port, destination_port;
	size_t len;
	const char *word = next_word(&line, &len);
	const bool is_v6 = len == 4 && memcmp(word, "TCP6", 4) == 0;

	if (len == 7 && memcmp(word, "UNKNOWN", 7) == 0)
		return PROXY_COMPLETE;
	if (!is_v6 && (len != 4 || memcmp(word, "TCP4", 4) != 0))
		return invalid(why, "a PROXY header of version 1 names neither TCP4, TCP6 nor UNKNOWN");
	if (!read_ip(&line, is_v6 ? AF_INET6 : AF_INET, source) || !read_ip(&line, is_v6 ? AF_INET6 : AF_INET, destination))
		return invalid(why, "a PROXY header of version 1 with a wrong address");
	if (!read_port(&line, &source_port) || !read_port(&line, &destination_port) || line[0] != '\0' || line[-1] == ' ')
		return invalid(why, "a PROXY header of version 1 with a wrong port");
	ret->kind = PROXY_ADDRESSES;
	ret->source = is_v6 ? from_v6(source, source_port) : from_v4(source, source_port);
	ret->destination = is_v6 ? from_v6(destination, destination_port) : from_v4(destination, destination_port);
	return PROXY_COMPLETE;
}

static enum proxy_read
read_v1(struct proxy_header *ret, const uint8_t *buf, size_t len, const char **why)
{
	char line[V1_MAX + 1];
	size_t n = 0;

	while (n < len && n < V1_MAX && buf[n] != '\r' && buf[n] != '\n' && buf[n] != '\0')
		n++;
	if (n + 1 >= V1_MAX)
		return invalid(why, "a PROXY header of version 1 without its end within 107 bytes");
	if (n == len || (buf[n] == '\r' && n + 1 == len))
		return PROXY_PARTIAL;
	if (buf[n] != '\r' || buf[n + 1] != '\n')
		return invalid(why, "a PROXY header of version 1 that does not end with CR LF");
	memcpy(line, buf, n);
	line[n] = '\0';
	ret->len = n + 2;
	return read_line(ret, line + sizeof(v1_signature), why);
}

/* --- version 2 --- */

static uint16_t
read_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t
proxy_crc32c(uint32_t crc, const uint8_t *buf, size_t len)
{
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= buf[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

/* The checksum in the TLV at `at` is that of the header, with the checksum itself as zeros. */
static bool
checksum_is_right(const uint8_t *buf, size_t len, size_t at)
{
	static const uint8_t zeros[CRC_BYTES];
	const uint8_t *value = buf + at + TLV_HEAD, *rest = value + CRC_BYTES;
	uint32_t crc = proxy_crc32c(0, buf, at + TLV_HEAD);

	crc = proxy_crc32c(crc, zeros, CRC_BYTES);
	crc = proxy_crc32c(crc, rest, len - (size_t)(rest - buf));
	return crc == ((uint32_t)read_u16(value) << 16 | read_u16(value + 2));
}

static enum proxy_read
read_tlvs(struct proxy_header *ret, const uint8_t *buf, size_t at, const char **why)
{
	const size_t end = ret->len;

	while (at < end) {
		const uint8_t type = buf[at];
		const size_t n = end - at >= TLV_HEAD ? read_u16(buf + at + 1) : 0;

		if (end - at < TLV_HEAD + n)
			return invalid(why, "a PROXY header of version 2 with a TLV that is longer than the header");
		if (type == TLV_CRC32C && (n != CRC_BYTES || !checksum_is_right(buf, end, at)))
			return invalid(why, "a PROXY header of version 2 with a wrong checksum");
		if (type == TLV_UNIQUE_ID && n <= PROXY_UNIQUE_ID_MAX) {
			ret->id.len = (uint8_t)n;
			memcpy(ret->id.bytes, buf + at + TLV_HEAD, n);
		}
		at += TLV_HEAD + n;
	}
	return PROXY_COMPLETE;
}

/* The addresses behind the fixed part, and the TLVs behind them. */
static enum proxy_read
read_block(struct proxy_header *ret, const uint8_t *buf, const char **why)
{
	static const size_t sizes[] = { 0, 12, 36, 216 };
	const uint8_t family = buf[13] >> 4, transport = buf[13] & 0xf;
	const uint8_t *p = buf + V2_FIXED;

	if (family > 3 || transport > 2)
		return invalid(why, "a PROXY header of version 2 with an unknown family or transport");
	if (family == 0 || transport == 0)
		return PROXY_COMPLETE;		/* what is in the block is not known */
	if (ret->len - V2_FIXED < sizes[family])
		return invalid(why, "a PROXY header of version 2 that is too short for its addresses");
	if (transport == 1) {
		ret->kind = PROXY_ADDRESSES;
		if (family == 1) {
			ret->source = from_v4(p, read_u16(p + 8));
			ret->destination = from_v4(p + 4, read_u16(p + 10));
		} else if (family == 2) {
			ret->source = from_v6(p, read_u16(p + 32));
			ret->destination = from_v6(p + 16, read_u16(p + 34));
		} else {
			ret->source.family = ret->destination.family = AF_UNIX;
		}
	}
	return read_tlvs(ret, buf, V2_FIXED + sizes[family], why);
}

static enum proxy_read
read_v2(struct proxy_header *ret, const uint8_t *buf, size_t len, const char **why)
{
	if (len > 12 && buf[12] >> 4 != 2)
		return invalid(why, "a PROXY header with the signature of version 2, and another version");
	if (len > 12 && (buf[12] & 0xf) > 1)
		return invalid(why, "a PROXY header of version 2 with an unknown command");
	if (len < V2_FIXED)
		return PROXY_PARTIAL;
	ret->len = V2_FIXED + (size_t)read_u16(buf + 14);
	if (ret->len > PROXY_HEADER_IN_MAX)
		return invalid(why, "a PROXY header of version 2 of more than 8192 bytes");
	if (len < ret->len)
		return PROXY_PARTIAL;
	if ((buf[12] & 0xf) == 0) {
		ret->kind = PROXY_LOCAL;
		return PROXY_COMPLETE;
	}
	return read_block(ret, buf, why);
}

/* --- */

static bool
begins(const uint8_t *buf, size_t len, const uint8_t *signature, size_t size)
{
	return memcmp(buf, signature, len < size ? len : size) == 0;
}

enum proxy_read
proxy_header_read(struct proxy_header *ret, const uint8_t *buf, size_t len, const char **why)
{
	*ret = (struct proxy_header){ .kind = PROXY_UNKNOWN };
	*why = NULL;
	if (len == 0)
		return PROXY_UNDECIDED;
	if (begins(buf, len, v1_signature, sizeof(v1_signature)))
		return len < sizeof(v1_signature) ? PROXY_UNDECIDED : read_v1(ret, buf, len, why);
	if (begins(buf, len, v2_signature, sizeof(v2_signature)))
		return len < sizeof(v2_signature) ? PROXY_UNDECIDED : read_v2(ret, buf, len, why);
	return PROXY_ABSENT;
}
