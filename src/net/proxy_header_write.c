/* proxy_header_write.c - writes the header of the PROXY protocol; proxy_header.c reads it. */
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "stent/proxy_header.h"

#define UNIX_PATH 108

enum {
	TLV_ALPN = 0x01,
	TLV_AUTHORITY = 0x02,
	TLV_UNIQUE_ID = 0x05,
	TLV_SSL = 0x20,
	SSL_VERSION = 0x21,
	SSL_COMMON_NAME = 0x22,
	SSL_CIPHER = 0x23,

	CLIENT_SSL = 0x01,
	CLIENT_CERT_CONN = 0x02,
	CLIENT_CERT_SESS = 0x04,
};

static void
put_u16(uint8_t *p, size_t n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

/* An address of 16 bytes, IPv4 mapped into it: where the two of a header are of different families. */
static struct address
as_v6(const struct address *a)
{
	struct address v6 = { .family = AF_INET6, .port = a->port };

	if (a->family == AF_INET6)
		return *a;
	v6.ip[10] = v6.ip[11] = 0xff;
	memcpy(v6.ip + 12, a->ip, 4);
	return v6;
}

static bool
is_ip(const struct address *a)
{
	return a->family == AF_INET || a->family == AF_INET6;
}

static size_t
write_v1(uint8_t *buf, const struct proxy_out *out, const struct address *source, const struct address *destination)
{
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
	int n;

	if (out->kind != PROXY_ADDRESSES || !is_ip(source))
		n = snprintf((char *)buf, PROXY_HEADER_OUT_MAX, "PROXY UNKNOWN\r\n");
	else
		n = snprintf((char *)buf, PROXY_HEADER_OUT_MAX, "PROXY %s %s %s %u %u\r\n", source->family == AF_INET ? "TCP4" : "TCP6",
		    inet_ntop(source->family, source->ip, from, sizeof(from)), inet_ntop(source->family, destination->ip, to, sizeof(to)),
		    source->port, destination->port);
	return (size_t)n;
}

/* Adds a TLV; returns the end. */
static uint8_t *
put_tlv(uint8_t *p, uint8_t type, const void *value, size_t len)
{
	*p = type;
	put_u16(p + 1, len);
	memcpy(p + 3, value, len);
	return p + 3 + len;
}

static uint8_t *
put_text(uint8_t *p, uint8_t type, const char *text)
{
	const size_t len = text != NULL ? strlen(text) : 0;

	return len > 0 && len < PROXY_NAME_MAX ? put_tlv(p, type, text, len) : p;
}

static uint8_t *
put_tls(uint8_t *p, const struct proxy_tls *tls)
{
	uint8_t *const head = p;

	p += 3;
	*p = (uint8_t)(CLIENT_SSL | (tls->has_certificate ? CLIENT_CERT_SESS | (tls->resumed ? 0 : CLIENT_CERT_CONN) : 0));
	memset(p + 1, 0, 4);
	p[4] = !tls->has_certificate;	/* not zero: no certificate was verified */
	p = put_text(p + 5, SSL_VERSION, tls->version);
	p = put_text(p, SSL_CIPHER, tls->cipher);
	if (tls->has_certificate)
		p = put_text(p, SSL_COMMON_NAME, tls->common_name);
	*head = TLV_SSL;
	put_u16(head + 1, (size_t)(p - head) - 3);
	return p;
}

static uint8_t *
put_addresses(uint8_t *p, const struct proxy_out *out, const struct address *source, const struct address *destination)
{
	const size_t n = source->family == AF_INET ? 4 : 16;

	if (source->family == AF_UNIX) {
		memset(p, 0, 2 * UNIX_PATH);
		if (out->unix_path != NULL)
			memcpy(p + UNIX_PATH, out->unix_path, strnlen(out->unix_path, UNIX_PATH));
		return p + 2 * UNIX_PATH;
	}
	memcpy(p, source->ip, n);
	memcpy(p + n, destination->ip, n);
	put_u16(p + 2 * n, source->port);
	put_u16(p + 2 * n + 2, destination->port);
	return p + 2 * n + 4;
}

static size_t
write_v2(uint8_t *buf, const struct proxy_out *out, const struct address *source, const struct address *destination)
{
	static const uint8_t signature[] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };
	uint8_t *p = buf + 16;

	memcpy(buf, signature, sizeof(signature));
	buf[12] = out->kind == PROXY_LOCAL ? 0x20 : 0x21;
	buf[13] = 0;
	if (out->kind == PROXY_ADDRESSES) {
		buf[13] = source->family == AF_INET ? 0x11 : source->family == AF_INET6 ? 0x21 : 0x31;
		p = put_addresses(p, out, source, destination);
	}
	if (out->kind != PROXY_LOCAL) {
		if (out->tls != NULL) {
			p = put_text(p, TLV_ALPN, out->tls->alpn);
			p = put_text(p, TLV_AUTHORITY, out->tls->name);
		}
		if (out->id != NULL && out->id->len > 0)
			p = put_tlv(p, TLV_UNIQUE_ID, out->id->bytes, out->id->len);
		if (out->tls != NULL)
			p = put_tls(p, out->tls);
	}
	put_u16(buf + 14, (size_t)(p - buf) - 16);
	return (size_t)(p - buf);
}

size_t
proxy_header_write(uint8_t buf[PROXY_HEADER_OUT_MAX], int version, const struct proxy_out *out)
{
	struct proxy_out to = *out;
	struct address source = out->source, destination = out->destination;
	size_t n;

	if (to.kind == PROXY_ADDRESSES && source.family != destination.family) {
		if (is_ip(&source) && is_ip(&destination)) {
			source = as_v6(&source);
			destination = as_v6(&destination);
		} else {
			to.kind = PROXY_UNKNOWN;
		}
	}
	if (to.kind == PROXY_ADDRESSES && !is_ip(&source) && source.family != AF_UNIX)
		to.kind = PROXY_UNKNOWN;
	n = version == 1 ? write_v1(buf, &to, &source, &destination) : write_v2(buf, &to, &source, &destination);
	assert(n <= PROXY_HEADER_OUT_MAX);
	return n;
}

size_t
proxy_header_write_own(uint8_t buf[PROXY_HEADER_OUT_MAX], int version, const struct address *local, const struct address *remote)
{
	const struct proxy_out out = { .kind = version == 1 ? PROXY_ADDRESSES : PROXY_LOCAL, .source = *local, .destination = *remote };

	return proxy_header_write(buf, version, &out);
}
