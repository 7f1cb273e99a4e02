/*
 * proxy_header.h - the header of the PROXY protocol, versions 1 and 2, by which a proxy tells the address of its
 * client (haproxy's proxy-protocol.txt). Pure: bytes in, facts out, and the reverse.
 */
#ifndef STENT_PROXY_HEADER_H
#define STENT_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/endpoint.h"

#define PROXY_HEADER_IN_MAX 8192	/* bytes of a header that is read; a longer one is refused */
#define PROXY_HEADER_OUT_MAX 1792	/* bytes of a header that is written */
#define PROXY_UNIQUE_ID_MAX 128
#define PROXY_NAME_MAX 256		/* bytes of a name that is sent, such as SNI; a longer one is left out */

enum proxy_kind {
	PROXY_LOCAL,		/* the proxy's own connection: a health check */
	PROXY_UNKNOWN,		/* no addresses, or of a family that we do not know */
	PROXY_ADDRESSES,
};

struct proxy_id {
	uint8_t len;		/* 0: none */
	uint8_t bytes[PROXY_UNIQUE_ID_MAX];
};

struct proxy_header {
	enum proxy_kind kind;
	size_t len;		/* of the header: what is behind it belongs to the stream */
	struct address source, destination;	/* PROXY_ADDRESSES; of AF_UNIX only the family is kept */
	struct proxy_id id;
};

enum proxy_read {
	PROXY_UNDECIDED,	/* more bytes are needed to tell whether it is a header */
	PROXY_PARTIAL,		/* it is one, and not complete */
	PROXY_COMPLETE,
	PROXY_ABSENT,		/* the bytes are no header */
	PROXY_INVALID,		/* they begin as one, and break its rules: *why, a static string */
};

/* Reads the header that a stream begins with, from its first len bytes. */
enum proxy_read proxy_header_read(struct proxy_header *ret, const uint8_t *buf, size_t len, const char **why);

/* What is told of TLS that ended at the sender. */
struct proxy_tls {
	const char *version, *cipher;
	bool has_certificate;	/* the client has shown one, and it was verified */
	bool resumed;		/* not on this connection but on the one whose session it resumes */
	const char *common_name;	/* of that certificate; NULL: none */
	const char *alpn, *name;	/* as negotiated, and as the client has sent it (SNI); NULL: none */
};

/* How a header is written. */
struct proxy_out {
	enum proxy_kind kind;
	struct address source, destination;
	const char *unix_path;	/* of the destination, in version 2; NULL: none */
	const struct proxy_id *id;	/* version 2; NULL: none */
	const struct proxy_tls *tls;	/* version 2; NULL: plain */
};

/* The header's length. */
size_t proxy_header_write(uint8_t buf[PROXY_HEADER_OUT_MAX], int version, const struct proxy_out *out);

/* The header of a connection of our own, such as a health check: LOCAL; version 1 has none, and names the two ends. */
size_t proxy_header_write_own(uint8_t buf[PROXY_HEADER_OUT_MAX], int version, const struct address *local, const struct address *remote);

/* CRC32c (RFC 4960, appendix B), continued from crc; 0 at first. */
uint32_t proxy_crc32c(uint32_t crc, const uint8_t *buf, size_t len);

#endif
