/* test_proxy_header.c - tests of the PROXY protocol's header, each cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stent/proxy_header.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb"	/* 192.0.2.1:12345 to 198.51.100.2:443 */
#define ZEROS_54 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define BYTES(s) s, sizeof(s) - 1

static const struct {
	const char *bytes;
	size_t len;
	enum proxy_kind kind;
	const char *source, *destination;
	const char *id;
} good[] = {
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n"), PROXY_ADDRESSES, "192.0.2.1:12345", "198.51.100.2:443", "" },
	{ BYTES("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"), PROXY_ADDRESSES, "255.255.255.255:65535", "0.0.0.0:0", "" },
	{ BYTES("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), PROXY_ADDRESSES, "[2001:db8::1]:1", "[::1]:65535", "" },
	{ BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	  PROXY_ADDRESSES, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "" },
	{ BYTES("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n"), PROXY_ADDRESSES, "192.0.2.1:1", "192.0.2.2:2", "" },
	{ BYTES("PROXY UNKNOWN\r\n"), PROXY_UNKNOWN, "-", "-", "" },
	{ BYTES("PROXY UNKNOWN what ever 1\r\n"), PROXY_UNKNOWN, "-", "-", "" },
	{ BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	  PROXY_UNKNOWN, "-", "-", "" },
	{ BYTES(SIGNATURE "\x21\x11\0\x0c" V4), PROXY_ADDRESSES, "192.0.2.1:12345", "198.51.100.2:443", "" },
	{ BYTES(SIGNATURE "\x21\x21\0\x24" "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\1" "\0\1\0\2"),
	  PROXY_ADDRESSES, "[2001:db8::1]:1", "10.0.0.1:2", "" },
	{ BYTES(SIGNATURE "\x21\x31\0\xd8" ZEROS_54 ZEROS_54 ZEROS_54 ZEROS_54), PROXY_ADDRESSES, "unix", "unix", "" },
	{ BYTES(SIGNATURE "\x20\0\0\0"), PROXY_LOCAL, "-", "-", "" },
	{ BYTES(SIGNATURE "\x20\xff\0\5" "abcde"), PROXY_LOCAL, "-", "-", "" },	/* all of it is ignored */
	{ BYTES(SIGNATURE "\x21\0\0\3" "abc"), PROXY_UNKNOWN, "-", "-", "" },
	{ BYTES(SIGNATURE "\x21\x12\0\x0c" V4), PROXY_UNKNOWN, "-", "-", "" },	/* UDP */
	{ BYTES(SIGNATURE "\x21\x11\0\x16" V4 "\4\0\0" "\5\0\4" "abcd"), PROXY_ADDRESSES, "192.0.2.1:12345", "198.51.100.2:443", "abcd" },
	{ BYTES(SIGNATURE "\x21\x11\0\x11" V4 "\xee\0\2xy"), PROXY_ADDRESSES, "192.0.2.1:12345", "198.51.100.2:443", "" },
};

static const struct {
	const char *bytes;
	size_t len;
	const char *word;
} bad[] = {
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\n"), "CR LF" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\rX"), "CR LF" },
	{ BYTES("PROXY TCP5 192.0.2.1 198.51.100.2 12345 443\r\n"), "TCP4" },
	{ BYTES("PROXY  TCP4 192.0.2.1 198.51.100.2 12345 443\r\n"), "TCP4" },
	{ BYTES("PROXY TCP4 192.0.2.1  198.51.100.2 12345 443\r\n"), "address" },
	{ BYTES("PROXY TCP4 192.0.2.01 198.51.100.2 12345 443\r\n"), "address" },
	{ BYTES("PROXY TCP4 ::1 ::1 12345 443\r\n"), "address" },
	{ BYTES("PROXY TCP6 192.0.2.1 198.51.100.2 12345 443\r\n"), "address" },
	{ BYTES("PROXY TCP4 192.0.2.1\r\n"), "address" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 012 443\r\n"), "port" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 12345 65536\r\n"), "port" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n"), "port" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n"), "port" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n"), "port" },
	{ BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n"), "port" },
	{ BYTES("PROXY UNKNOWN\0\r\n"), "CR LF" },
	{ BYTES("PROXY UNKNOWNX\r\n"), "TCP4" },
	{ BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535 \r\n"), "107" },
	{ BYTES(SIGNATURE "\x31\x11\0\x0c" V4), "another version" },
	{ BYTES(SIGNATURE "\x22\x11\0\x0c" V4), "command" },
	{ BYTES(SIGNATURE "\x21\x41\0\x0c" V4), "family" },
	{ BYTES(SIGNATURE "\x21\x13\0\x0c" V4), "family" },
	{ BYTES(SIGNATURE "\x21\x11\0\x0b" "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01"), "too short" },
	{ BYTES(SIGNATURE "\x21\x11\0\x0e" V4 "\4\0"), "TLV" },
	{ BYTES(SIGNATURE "\x21\x11\0\x10" V4 "\4\0\2x"), "TLV" },
	{ BYTES(SIGNATURE "\x21\x11\0\x13" V4 "\3\0\4\0\0\0\0"), "checksum" },
	{ BYTES(SIGNATURE "\x21\x11\0\x12" V4 "\3\0\3\0\0\0"), "checksum" },
	{ BYTES(SIGNATURE "\x21\x11\xff\xff"), "8192" },
};

static const char *const absent[] = { "GET / HTTP/1.1\r\n", "\x16\x03\x01", "PROXZ", "Q", "\r\n\r\nX", "PROXYTCP4", "proxy TCP4" };

/* A copy on the heap, so that a sanitizer sees every read behind its end. */
static enum proxy_read
read_copy(struct proxy_header *h, const char *bytes, size_t len, const char **why)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	enum proxy_read r;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	r = proxy_header_read(h, copy, len, why);
	free(copy);
	return r;
}

static void
test_a_header_is_read_once_its_last_byte_is_there(void **state)
{
	char text[ADDRESS_TEXT_MAX], stream[1024];
	struct proxy_header h;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		for (size_t cut = 0; cut < good[i].len; cut++) {
			const enum proxy_read r = read_copy(&h, good[i].bytes, cut, &why);
			const size_t known = good[i].bytes[0] == 'P' ? 6 : 12;

			assert_int_equal(r, cut < known ? PROXY_UNDECIDED : PROXY_PARTIAL);
			assert_null(why);
		}
		memcpy(stream, good[i].bytes, good[i].len);
		memcpy(stream + good[i].len, "PROXY payload", 13);
		for (size_t more = 0; more <= 13; more++) {
			assert_int_equal(read_copy(&h, stream, good[i].len + more, &why), PROXY_COMPLETE);
			assert_int_equal(h.len, good[i].len);
			assert_int_equal(h.kind, good[i].kind);
			assert_string_equal(address_text(&h.source, text), good[i].source);
			assert_string_equal(address_text(&h.destination, text), good[i].destination);
			assert_int_equal(h.id.len, strlen(good[i].id));
			assert_memory_equal(h.id.bytes, good[i].id, h.id.len);
		}
	}
}

static void
test_what_breaks_the_rules_is_invalid(void **state)
{
	struct proxy_header h;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bool was_invalid = false;

		for (size_t cut = 0; cut <= bad[i].len; cut++) {
			const enum proxy_read r = read_copy(&h, bad[i].bytes, cut, &why);

			assert_true(r == PROXY_INVALID || (!was_invalid && (r == PROXY_UNDECIDED || r == PROXY_PARTIAL)));
			was_invalid |= r == PROXY_INVALID;
		}
		if (!was_invalid || strstr(why, bad[i].word) == NULL)
			fail_msg("row %zu: %s", i, was_invalid ? why : "taken for good");
	}
}

static void
test_other_streams_have_none(void **state)
{
	struct proxy_header h;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		assert_int_equal(read_copy(&h, absent[i], strlen(absent[i]), &why), PROXY_ABSENT);
}

static void
test_the_checksum_is_crc32c(void **state)
{
	char header[] = SIGNATURE "\x21\x11\0\x16" V4 "\3\0\4\0\0\0\0" "\4\0\0";
	struct proxy_header h;
	const char *why;
	uint32_t crc;

	(void)state;
	/* Appendix B of RFC 3720 has 32 zeros as its example. */
	assert_int_equal(proxy_crc32c(0, (const uint8_t *)(ZEROS_54), 32), 0x8a9136aa);
	crc = proxy_crc32c(0, (const uint8_t *)header, sizeof(header) - 1);
	for (int i = 0; i < 4; i++)
		header[31 + i] = (char)(crc >> (24 - 8 * i));
	assert_int_equal(read_copy(&h, header, sizeof(header) - 1, &why), PROXY_COMPLETE);
	for (size_t i = 12; i < sizeof(header) - 1; i++) {
		if (i == 28)
			continue;	/* its type: then it is no checksum */
		header[i] ^= 1;
		assert_int_not_equal(read_copy(&h, header, sizeof(header) - 1, &why) == PROXY_COMPLETE && h.kind == PROXY_ADDRESSES, true);
		header[i] ^= 1;
	}
}

static struct address
make_address(int family, uint8_t last, uint16_t port)
{
	struct address a = { .family = (uint16_t)family, .port = port };

	if (family != AF_UNIX)
		a.ip[0] = family == AF_INET ? 10 : 0xfd;
	a.ip[family == AF_INET ? 3 : 15] = family == AF_UNIX ? 0 : last;
	return a;
}

static void
test_what_is_written_reads_back(void **state)
{
	static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
	const struct proxy_id id = { 3, "\0id" };
	const struct proxy_tls tls = { "TLSv1.3", "TLS_AES_128_GCM_SHA256", true, false, "client", "h2", "example.com" };
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	char from[ADDRESS_TEXT_MAX], to[ADDRESS_TEXT_MAX];
	struct proxy_header h;
	const char *why;

	(void)state;
	for (int version = 1; version <= 2; version++)
		for (size_t i = 0; i < 3; i++)
			for (size_t k = 0; k < 3; k++)
				for (int kind = PROXY_LOCAL; kind <= PROXY_ADDRESSES; kind++) {
					const struct proxy_out out = { (enum proxy_kind)kind, make_address(families[i], 1, 1000), make_address(families[k], 2, 2000),
					    "/run/x.sock", &id, i == 0 ? &tls : NULL };
					const size_t n = proxy_header_write(buf, version, &out);
					const bool one_is_unix = families[i] == AF_UNIX || families[k] == AF_UNIX;
					const bool can = i == k ? version == 2 || families[i] != AF_UNIX : !one_is_unix;

					assert_int_equal(read_copy(&h, (const char *)buf, n, &why), PROXY_COMPLETE);
					assert_int_equal(h.len, n);
					if (kind != PROXY_ADDRESSES) {
						assert_int_equal(h.kind, version == 1 ? PROXY_UNKNOWN : kind);
						continue;
					}
					assert_int_equal(h.kind, can ? PROXY_ADDRESSES : PROXY_UNKNOWN);
					if (!can)
						continue;
					assert_string_equal(address_text(&h.source, from), address_text(&out.source, to));
					assert_string_equal(address_text(&h.destination, from), address_text(&out.destination, to));
					assert_int_equal(h.id.len, version == 2 ? 3 : 0);
				}
}

static void
test_our_own_connection_is_local(void **state)
{
	const struct address a = make_address(AF_INET, 1, 1000), b = make_address(AF_INET, 2, 2000);
	const struct address none = { 0 }, path = make_address(AF_UNIX, 0, 0);
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	struct proxy_header h;
	const char *why;
	size_t n = proxy_header_write_own(buf, 2, &a, &b);

	(void)state;
	assert_int_equal(read_copy(&h, (const char *)buf, n, &why), PROXY_COMPLETE);
	assert_true(n == 16 && h.kind == PROXY_LOCAL);
	n = proxy_header_write_own(buf, 1, &a, &b);
	assert_int_equal(n, strlen("PROXY TCP4 10.0.0.1 10.0.0.2 1000 2000\r\n"));
	assert_memory_equal(buf, "PROXY TCP4 10.0.0.1 10.0.0.2 1000 2000\r\n", n);
	n = proxy_header_write_own(buf, 1, &none, &path);
	assert_memory_equal(buf, "PROXY UNKNOWN\r\n", n);
}

static void
test_tls_is_told_as_tlvs(void **state)
{
	static const char expected[] = SIGNATURE "\x21\x11\0\x4b" "\x0a\0\0\1\x0a\0\0\2\3\xe8\7\xd0" "\1\0\2h2" "\2\0\3a.b"
	    "\x20\0\x31" "\5\0\0\0\0" "\x21\0\7TLSv1.3" "\x23\0\x16TLS_AES_128_GCM_SHA256" "\x22\0\6client";
	const struct proxy_tls tls = { "TLSv1.3", "TLS_AES_128_GCM_SHA256", true, true, "client", "h2", "a.b" };
	struct proxy_out out = { PROXY_ADDRESSES, make_address(AF_INET, 1, 1000), make_address(AF_INET, 2, 2000), NULL, NULL, &tls };
	const struct proxy_tls anonymous = { "TLSv1.3", "X", false, false, "ignored", NULL, NULL };
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	size_t n = proxy_header_write(buf, 2, &out);

	(void)state;
	assert_int_equal(n, sizeof(expected) - 1);
	assert_memory_equal(buf, expected, n);
	out.tls = &anonymous;
	n = proxy_header_write(buf, 2, &out);
	assert_memory_equal(buf + 28, "\x20\0\x13\1\0\0\0\1\x21\0\7TLSv1.3\x23\0\1X", 22);
	assert_int_equal(n, 28 + 22);
}

static void
test_the_longest_header_fits(void **state)
{
	char name[PROXY_NAME_MAX + 1];
	struct proxy_id id = { PROXY_UNIQUE_ID_MAX, { 1 } };
	const struct proxy_tls tls = { name, name, true, false, name, name, name };
	const struct proxy_out out = { PROXY_ADDRESSES, { .family = AF_UNIX }, { .family = AF_UNIX }, name, &id, &tls };
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	const char *why;
	struct proxy_header h;

	(void)state;
	memset(name, 'n', PROXY_NAME_MAX);
	name[PROXY_NAME_MAX] = '\0';
	assert_in_range(proxy_header_write(buf, 2, &out), 16 + 216 + 131, 16 + 216 + 131 + 8);	/* too long: left out */
	name[PROXY_NAME_MAX - 1] = '\0';
	assert_int_equal(read_copy(&h, (const char *)buf, proxy_header_write(buf, 2, &out), &why), PROXY_COMPLETE);
	assert_in_range(proxy_header_write(buf, 2, &out), 5 * PROXY_NAME_MAX, PROXY_HEADER_OUT_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_header_is_read_once_its_last_byte_is_there),
		cmocka_unit_test(test_what_breaks_the_rules_is_invalid),
		cmocka_unit_test(test_other_streams_have_none),
		cmocka_unit_test(test_the_checksum_is_crc32c),
		cmocka_unit_test(test_what_is_written_reads_back),
		cmocka_unit_test(test_our_own_connection_is_local),
		cmocka_unit_test(test_tls_is_told_as_tlvs),
		cmocka_unit_test(test_the_longest_header_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
