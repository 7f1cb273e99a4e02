/* test_tls.c - transports with TLS: handshakes cut anywhere, what is carried, how it ends, why it fails. */
#include <errno.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "stent/tls.h"
#include "stent/transport.h"
#include "tls_world.h"
#include "transport/tls_takeover.h"

static struct identity ca, server;

static struct tls_context *
context(const struct tls_settings *settings, bool is_server, const char *alpn)
{
	char error[TLS_ERROR_MAX];
	struct tls_context *c = tls_context_new(settings, is_server, alpn, error);

	if (c == NULL)
		fail_msg("%s", error);
	return c;
}

/* Which ends stay with OpenSSL's SSL after the handshake: a set of bits. */
enum { SSL_NOWHERE, SSL_AT_CLIENT = 1, SSL_AT_SERVER = 2, SSL_EVERYWHERE };
static unsigned with_ssl = SSL_NOWHERE;

/* Contexts that fit each other, and a link between them. */
struct pair {
	struct tls_context *client, *server;
	struct link link;
};

static void
pair_open(struct pair *p, int version, int buffer)
{
	const struct tls_settings client = { .mode = TLS_VERIFY, .ca = ca.cert };
	const struct tls_settings own = { .mode = TLS_REQUIRE, .min_version = version, .cert = server.cert, .key = server.key };

	p->client = context(&client, false, NULL);
	p->server = context(&own, true, NULL);
	link_open(&p->link, buffer);
	link_start(&p->link, p->client, p->server, "localhost");
	if (version == TLS1_2_VERSION)
		SSL_set_max_proto_version(p->link.end[AT_SERVER].tls->ssl, TLS1_2_VERSION);
	for (int i = 0; i < 2; i++)
		p->link.end[i].tls->watch->keeps = (with_ssl >> i & 1) != 0;
}

static void
pair_close(struct pair *p)
{
	link_close(&p->link);
	tls_context_release(p->client);
	tls_context_release(p->server);
}

static void
pair_handshake(struct pair *p, size_t step)
{
	int r[2];

	link_handshake(&p->link, step, r);
	for (int i = 0; i < 2; i++)
		if (r[i] != 0)
			fail_msg("%s: %d, %s", i == AT_CLIENT ? "client" : "server", r[i], transport_tls_cause(&p->link.end[i]));
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static void
test_a_handshake_may_be_cut_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		for (size_t step = 1; step < 10000; step = step * 3 + 1) {
			struct transport_tls facts;
			struct pair p;

			with_ssl = (unsigned)i / 2;
			pair_open(&p, versions[i % 2], 0);
			pair_handshake(&p, step);
			transport_tls_facts(&p.link.end[AT_CLIENT], &facts);
			assert_string_equal(facts.version, i % 2 == 0 ? "TLSv1.2" : "TLSv1.3");
			assert_string_equal(facts.cipher, i % 2 == 0 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : "TLS_AES_128_GCM_SHA256");
			assert_false(facts.resumed);
			link_send(&p.link, AT_CLIENT, (const uint8_t *)"ping", 4, step);
			link_send(&p.link, AT_SERVER, (const uint8_t *)"pong!", 5, step);
			assert_false(transport_is_pending(&p.link.end[AT_CLIENT]));
			assert_int_equal(transport_unsent(&p.link.end[AT_CLIENT]), 0);
			for (int k = 0; k < 2; k++)
				assert_int_equal(p.link.end[k].tls->ssl != NULL, with_ssl >> k & 1);
			pair_close(&p);
		}
	}
	with_ssl = SSL_NOWHERE;
}

static void
test_bulk_arrives_unchanged_through_small_buffers(void **state)
{
	const size_t len = 3 * 1024 * 1024;
	uint8_t *data = malloc(len);

	(void)state;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < 8; i++) {
		struct pair p;

		with_ssl = (unsigned)i / 2;
		pair_open(&p, versions[i % 2], 4096);
		pair_handshake(&p, SIZE_MAX);
		link_send(&p.link, AT_SERVER, data, len, 7000);
		link_send(&p.link, AT_CLIENT, data, len, SIZE_MAX);
		pair_close(&p);
	}
	with_ssl = SSL_NOWHERE;
	free(data);
}

/* --- calls of the system --- */

static struct {
	int fd[2];		/* whose calls are counted */
	int receives, sends;
} calls = { .fd = { -1, -1 } };

ssize_t __real_recv(int fd, void *buf, size_t len, int flags);
ssize_t __real_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);

ssize_t
__wrap_recv(int fd, void *buf, size_t len, int flags)
{
	calls.receives += fd == calls.fd[0] || fd == calls.fd[1];
	return __real_recv(fd, buf, len, flags);
}

ssize_t
__wrap_send(int fd, const void *buf, size_t len, int flags)
{
	calls.sends += fd == calls.fd[0] || fd == calls.fd[1];
	return __real_send(fd, buf, len, flags);
}

static void
test_a_round_trip_costs_one_receive_and_one_send_each_way(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		uint8_t buf[128 * 1024] = { 0 };
		struct pair p;

		pair_open(&p, versions[i], 0);
		pair_handshake(&p, SIZE_MAX);
		link_send(&p.link, AT_SERVER, buf, 1, SIZE_MAX);	/* and the tickets */
		calls.fd[0] = p.link.end[0].fd;
		calls.fd[1] = p.link.end[1].fd;
		calls.receives = calls.sends = 0;
		for (int from = 0; from < 2; from++) {
			struct transport *to = &p.link.end[!from];

			assert_int_equal(transport_write(&p.link.end[from], &(struct iovec){ buf, 64 }, 1), 64);
			link_carry(&p.link, from, SIZE_MAX);
			assert_int_equal(transport_read(to, buf, sizeof(buf)), 64);
			assert_false(transport_is_pending(to));
		}
		assert_int_equal(calls.receives, 2);
		assert_int_equal(calls.sends, 2);
		/* Four records are one send, and one read. */
		assert_int_equal(transport_write(&p.link.end[0], &(struct iovec){ buf, 60000 }, 1), 60000);
		link_carry(&p.link, 0, SIZE_MAX);
		assert_int_equal(transport_read(&p.link.end[1], buf, sizeof(buf)), 60000);
		assert_int_equal(calls.receives, 3);
		assert_int_equal(calls.sends, 3);
		pair_close(&p);
		calls.fd[0] = calls.fd[1] = -1;
	}
}

/* A write of more than goes out with one send(), in spans of any length: the second send begins inside a span. */
static void
test_large_writes_arrive_unchanged(void **state)
{
	static const size_t lens[][4] = { { 65546 }, { 131072 }, { 1, 70000, 3, 60000 }, { 65535, 2, 16384, 49151 }, { 100000, 0, 31072 } };
	static uint8_t out[128 * 1024 + 16], in[sizeof(out)];

	(void)state;
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 31 + i / 251);
	for (size_t k = 0; k < 2 * sizeof(lens) / sizeof(lens[0]); k++) {
		struct iovec v[4];
		size_t total = 0, got = 0, n_spans = 0;
		struct pair p;
		ssize_t n;

		pair_open(&p, versions[k % 2], 1024 * 1024);
		pair_handshake(&p, SIZE_MAX);
		for (; n_spans < 4 && (n_spans == 0 || lens[k / 2][n_spans - 1] + lens[k / 2][n_spans] > 0); n_spans++) {
			v[n_spans] = (struct iovec){ out + total, lens[k / 2][n_spans] };
			total += v[n_spans].iov_len;
		}
		n = transport_write(&p.link.end[AT_CLIENT], v, n_spans);
		assert_true(n > 0 && (size_t)n <= total);
		for (int turn = 0; turn < 1000 && got < (size_t)n; turn++) {
			ssize_t r;

			(void)transport_flush(&p.link.end[AT_CLIENT]);
			link_carry(&p.link, AT_CLIENT, SIZE_MAX);
			r = transport_read(&p.link.end[AT_SERVER], in + got, sizeof(in) - got);
			got += r > 0 ? (size_t)r : 0;
		}
		assert_int_equal(got, n);
		assert_memory_equal(in, out, got);
		pair_close(&p);
	}
}

/* --- what is pending --- */

static void
say(struct pair *p, int from, const char *text)
{
	const size_t len = strlen(text);

	assert_int_equal(transport_write(&p->link.end[from], &(struct iovec){ (void *)(uintptr_t)text, len }, 1), len);
	link_carry(&p->link, from, SIZE_MAX);
}

static void
expect(struct pair *p, int at, const char *text)
{
	char buf[256];
	const ssize_t n = transport_read(&p->link.end[at], buf, strlen(text));

	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

static void
test_what_no_edge_will_tell_of_is_pending(void **state)
{
	struct pair p;
	struct transport *t = &p.link.end[AT_SERVER];
	char buf[64];

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	pair_handshake(&p, SIZE_MAX);
	assert_true(transport_is_pending(t));	/* the handshake has used up the last edge */
	assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
	assert_false(transport_is_pending(t));
	say(&p, AT_CLIENT, "one record");
	say(&p, AT_CLIENT, "another");
	assert_false(transport_is_pending(t));	/* the socket tells of these */
	expect(&p, AT_SERVER, "one");
	assert_true(transport_is_pending(t));	/* decrypted, and received */
	assert_true(transport_unread(t) > 0);
	assert_int_equal(transport_has_more(t), 1);
	expect(&p, AT_SERVER, " recordano");
	assert_true(transport_is_pending(t));
	assert_int_equal(transport_shutdown(&p.link.end[AT_CLIENT]), 0);
	link_carry(&p.link, AT_CLIENT, SIZE_MAX);
	expect(&p, AT_SERVER, "ther");
	assert_int_equal(transport_read(t, buf, sizeof(buf)), 0);
	assert_false(transport_is_pending(t));	/* the end is known */
	pair_close(&p);
}

static int reallocs = -1;	/* so many succeed, then one fails; -1: all succeed */

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *
__wrap_realloc(void *p, size_t size)
{
	if (reallocs >= 0 && reallocs-- == 0) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_realloc(p, size);
}

/* What could not be kept is missing, so nothing behind it may be read. */
static void
test_without_memory_a_stream_ends_and_has_no_hole(void **state)
{
	static const char *const texts[] = { "the first record, ", "the second one, ", "and the third." };
	static const char all[] = "the first record, the second one, and the third.";
	bool has_failed = false;

	(void)state;
	for (int n = 0; n < 3; n++) {
		struct pair p;
		struct transport *t = &p.link.end[AT_SERVER];
		char buf[64];
		size_t heard = 0;
		ssize_t got;

		pair_open(&p, TLS1_3_VERSION, 0);
		pair_handshake(&p, SIZE_MAX);
		assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
		for (int i = 0; i < 3; i++)
			say(&p, AT_CLIENT, texts[i]);
		reallocs = n;
		while ((got = transport_read(t, buf, 7)) > 0) {
			assert_true(heard + (size_t)got < sizeof(all));
			assert_memory_equal(buf, all + heard, got);
			heard += (size_t)got;
		}
		if (reallocs >= 0) {		/* it needed fewer */
			assert_int_equal(got, -EAGAIN);
			assert_int_equal(heard, strlen(all));
		} else {
			assert_int_equal(got, -ENOMEM);
			has_failed = true;
		}
		reallocs = -1;
		pair_close(&p);
	}
	assert_true(has_failed);
}

/* Its rest comes by an edge of its own. Were it pending, an idle flow would look for it for ever. */
static void
test_a_part_of_a_record_is_not_pending(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct pair p;
		struct transport *t = &p.link.end[AT_SERVER];
		char buf[64];

		with_ssl = i < 2 ? SSL_NOWHERE : SSL_AT_SERVER;
		pair_open(&p, versions[i % 2], 0);
		pair_handshake(&p, SIZE_MAX);
		assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
		assert_int_equal(transport_write(&p.link.end[AT_CLIENT], &(struct iovec){ "one", 3 }, 1), 3);
		for (int k = 0; k < 20; k++) {
			link_carry(&p.link, AT_CLIENT, 1);
			assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
			assert_false(transport_is_pending(t));
			assert_int_equal(transport_has_more(t), 0);
		}
		link_carry(&p.link, AT_CLIENT, SIZE_MAX);
		expect(&p, AT_SERVER, "one");
		pair_close(&p);
	}
	with_ssl = SSL_NOWHERE;
}

static void
test_peeked_bytes_stay_to_be_read(void **state)
{
	struct pair p;
	struct transport *t = &p.link.end[AT_SERVER];
	char buf[64];

	(void)state;
	pair_open(&p, TLS1_2_VERSION, 0);
	pair_handshake(&p, SIZE_MAX);
	assert_int_equal(transport_peek(t, buf, sizeof(buf)), -EAGAIN);
	say(&p, AT_CLIENT, "half a message, ");
	assert_int_equal(transport_peek(t, buf, 4), 4);
	assert_int_equal(transport_peek(t, buf, sizeof(buf)), 16);
	say(&p, AT_CLIENT, "and the other half");
	assert_int_equal(transport_peek(t, buf, sizeof(buf)), 34);
	assert_memory_equal(buf, "half a message, and the other half", 34);
	assert_true(transport_is_pending(t));
	assert_int_equal(transport_unread(t), 34);
	assert_int_equal(transport_shutdown(&p.link.end[AT_CLIENT]), 0);
	link_carry(&p.link, AT_CLIENT, SIZE_MAX);
	assert_int_equal(transport_peek(t, buf, sizeof(buf)), 34);
	expect(&p, AT_SERVER, "half a message, and the other half");
	assert_true(transport_is_pending(t));	/* peeking has read the end: no edge tells of it again */
	assert_int_equal(transport_peek(t, buf, sizeof(buf)), 0);
	assert_int_equal(transport_read(t, buf, sizeof(buf)), 0);
	pair_close(&p);
}

/* Several spans are one record, so a codec's small pieces do not cost one each. */
/* The edge of those is used up by a read that is given what was peeked at, and not all that it has room for. */
static void
test_bytes_that_come_behind_peeked_ones_are_pending(void **state)
{
	struct pair p;
	struct transport *t = &p.link.end[AT_SERVER];
	char buf[64];

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	pair_handshake(&p, SIZE_MAX);
	say(&p, AT_CLIENT, "peeked");
	assert_int_equal(transport_peek(t, buf, sizeof(buf)), 6);
	say(&p, AT_CLIENT, "behind");
	assert_int_equal(transport_read(t, buf, sizeof(buf)), 6);
	assert_true(transport_is_pending(t));
	assert_int_equal(transport_read(t, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "behind", 6);
	assert_false(transport_is_pending(t));
	pair_close(&p);
}

static void
test_spans_are_joined(void **state)
{
	char parts[3][8] = { "one", "", "three" };
	const struct iovec v[] = { { parts[0], 3 }, { parts[1], 0 }, { parts[2], 5 } };
	struct pair p;

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	pair_handshake(&p, SIZE_MAX);
	p.link.carried[AT_CLIENT] = 0;
	assert_int_equal(transport_write(&p.link.end[AT_CLIENT], v, 3), 8);
	assert_int_equal(link_carry(&p.link, AT_CLIENT, SIZE_MAX), 5 + 8 + 1 + 16);
	expect(&p, AT_SERVER, "onethree");
	pair_close(&p);
}

/* Each cipher of ours, between records of ours and OpenSSL's; one that is not ours stays with OpenSSL. */
static void
test_ciphers_agree_with_openssl(void **state)
{
	static const struct {
		const char *name;
		int version;
		bool is_ours;
	} ciphers[] = {
		{ "TLS_AES_128_GCM_SHA256", TLS1_3_VERSION, true },
		{ "TLS_AES_256_GCM_SHA384", TLS1_3_VERSION, true },
		{ "TLS_CHACHA20_POLY1305_SHA256", TLS1_3_VERSION, true },
		{ "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, true },
		{ "ECDHE-ECDSA-AES256-GCM-SHA384", TLS1_2_VERSION, true },
		{ "ECDHE-ECDSA-CHACHA20-POLY1305", TLS1_2_VERSION, true },
		{ "ECDHE-ECDSA-AES128-SHA", TLS1_2_VERSION, false },
	};
	uint8_t *data = malloc(100000);

	(void)state;
	for (size_t i = 0; i < 100000; i++)
		data[i] = (uint8_t)(i * i);
	for (size_t i = 0; i < 2 * sizeof(ciphers) / sizeof(ciphers[0]); i++) {
		const int end = (int)(i % 2);	/* which has the SSL */
		struct transport_tls facts;
		struct pair p;

		with_ssl = 1U << end;
		pair_open(&p, ciphers[i / 2].version, 0);
		for (int k = 0; k < 2; k++) {
			SSL *ssl = p.link.end[k].tls->ssl;

			assert_int_equal(ciphers[i / 2].version == TLS1_3_VERSION ? SSL_set_ciphersuites(ssl, ciphers[i / 2].name) :
			    SSL_set_cipher_list(ssl, ciphers[i / 2].name), 1);
		}
		pair_handshake(&p, SIZE_MAX);
		for (size_t len = 1; len <= 100000; len = len * 10 + 1)
			for (int from = 0; from < 2; from++)
				link_send(&p.link, from, data, len <= 100000 ? len : 100000, 5000);
		assert_int_equal(p.link.end[!end].tls->ssl == NULL, ciphers[i / 2].is_ours);
		transport_tls_facts(&p.link.end[!end], &facts);
		assert_string_equal(facts.cipher, ciphers[i / 2].name);
		pair_close(&p);
	}
	with_ssl = SSL_NOWHERE;
	free(data);
}

/* A byte of a record is changed on the way, or a record comes twice or out of order: nothing of it is passed on. */
static void
test_damaged_records_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (size_t at = 0; at < 50; at++) {
			uint8_t record[128], buf[128];
			ssize_t n, r;
			struct pair p;
			struct transport *to = &p.link.end[AT_SERVER];

			pair_open(&p, versions[i], 0);
			pair_handshake(&p, SIZE_MAX);
			assert_null(to->tls->ssl);
			assert_int_equal(transport_write(&p.link.end[AT_CLIENT], &(struct iovec){ "a message of 20 bytes", 20 }, 1), 20);
			n = recv(p.link.far[AT_CLIENT], record, sizeof(record), 0);
			assert_true(n > 40);
			if (at >= 49) {		/* twice */
				assert_int_equal(send(p.link.far[AT_SERVER], record, (size_t)n, 0), n);
				expect(&p, AT_SERVER, "a message of 20 byte");
			} else if (at < (size_t)n) {
				record[at] ^= 1;
			} else {
				record[0] = SSL3_RT_HANDSHAKE;
			}
			assert_int_equal(send(p.link.far[AT_SERVER], record, (size_t)n, 0), n);
			r = transport_read(to, buf, sizeof(buf));
			if (r == -EAGAIN) {	/* it seems to be longer now */
				assert_true(at == 3 || at == 4);
				assert_int_equal(shutdown(p.link.far[AT_SERVER], SHUT_WR), 0);
				assert_int_equal(transport_read(to, buf, sizeof(buf)), 0);
				assert_true(transport_is_truncated(to));
			} else {
				assert_int_equal(r, -EPROTO);
				assert_int_equal(transport_tls_cause_kind(to), TLS_CAUSE_PROTOCOL);
				assert_true(recv(p.link.far[AT_SERVER], buf, sizeof(buf), 0) > 7);	/* an alert says so */
			}
			pair_close(&p);
		}
	}
}

/* --- keys --- */

static void
test_key_updates_are_followed(void **state)
{
	struct pair p;

	(void)state;
	for (int end = 0; end < 2; end++) {	/* which has the SSL that updates them */
		with_ssl = 1U << end;
		pair_open(&p, TLS1_3_VERSION, 0);
		pair_handshake(&p, SIZE_MAX);
		say(&p, AT_SERVER, "the tickets, too");
		expect(&p, AT_CLIENT, "the tickets, too");
		assert_null(p.link.end[!end].tls->ssl);
		for (int i = 0; i < 20; i++) {
			assert_int_equal(SSL_key_update(p.link.end[end].tls->ssl, i % 3 == 0 ? SSL_KEY_UPDATE_NOT_REQUESTED :
			    SSL_KEY_UPDATE_REQUESTED), 1);
			say(&p, end, "with the new key");
			expect(&p, !end, "with the new key");
			say(&p, !end, "and back");
			expect(&p, end, "and back");
		}
		pair_close(&p);
	}
	with_ssl = SSL_NOWHERE;
}

static void
test_keys_are_renewed_before_they_are_used_too_often(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	pair_handshake(&p, SIZE_MAX);
	say(&p, AT_SERVER, "the tickets, too");
	expect(&p, AT_CLIENT, "the tickets, too");
	p.link.end[AT_SERVER].tls->records->keys[TLS_OUT].seq = TLS_RECORDS_PER_KEY - 2;
	p.link.end[AT_CLIENT].tls->records->keys[TLS_IN].seq = TLS_RECORDS_PER_KEY - 2;
	for (int i = 0; i < 5; i++) {
		say(&p, AT_SERVER, "goes on");
		expect(&p, AT_CLIENT, "goes on");
	}
	assert_int_equal(p.link.end[AT_SERVER].tls->records->keys[TLS_OUT].seq, 3);
	pair_close(&p);
}

/* Sends n records with the keys of that end. */
static void
put_records(struct pair *p, int from, uint8_t type, const char *data, size_t len, int n)
{
	struct tls_records *r = p->link.end[from].tls->records;

	for (; n > 0; n--) {
		uint8_t record[128], *at = record + TLS_RECORD_HEADER + (r->has_nonce ? 8 : 0);
		const size_t size = tls_records_size(r, len);

		assert_true(size <= sizeof(record) && tls_records_begin(r, type, len, record));
		assert_true(tls_records_add(r, (const uint8_t *)data, len, &at) && tls_records_end(r, type, at));
		assert_int_equal(send(p->link.far[!from], record, size, MSG_NOSIGNAL), size);
		if (type == SSL3_RT_HANDSHAKE && data[0] == SSL3_MT_KEY_UPDATE)
			assert_true(tls_records_update(r, TLS_OUT));
	}
}

static const struct {
	int version, from;
	uint8_t type;
	const char *data;
	size_t len;
} without_data[] = {
	{ TLS1_2_VERSION, AT_CLIENT, SSL3_RT_APPLICATION_DATA, "", 0 },
	{ TLS1_3_VERSION, AT_CLIENT, SSL3_RT_APPLICATION_DATA, "", 0 },
	{ TLS1_2_VERSION, AT_CLIENT, SSL3_RT_ALERT, "\1\x64", 2 },		/* a warning: no_renegotiation */
	{ TLS1_2_VERSION, AT_SERVER, SSL3_RT_HANDSHAKE, "\0\0\0", 4 },	/* HelloRequest */
	{ TLS1_3_VERSION, AT_CLIENT, SSL3_RT_HANDSHAKE, "\x18\0\0\1\1", 5 },	/* a key update that wants one back */
	{ TLS1_3_VERSION, AT_SERVER, SSL3_RT_HANDSHAKE, "\4\0\0\1\0", 5 },	/* a ticket */
};

/* A peer that sends nothing but these would have a thread for itself, and one that does not read would grow its memory. */
static void
test_a_flood_of_records_without_data_is_ended(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(without_data) / sizeof(without_data[0]); i++) {
		const int from = without_data[i].from;
		struct pair p;
		struct transport *t = &p.link.end[!from];
		char buf[64];

		pair_open(&p, without_data[i].version, 0);
		pair_handshake(&p, SIZE_MAX);
		say(&p, AT_SERVER, "the tickets, too");
		expect(&p, AT_CLIENT, "the tickets, too");
		for (int k = 0; k < 3; k++) {	/* some are borne */
			put_records(&p, from, without_data[i].type, without_data[i].data, without_data[i].len, 32);
			assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
			put_records(&p, from, without_data[i].type, without_data[i].data, without_data[i].len, 20);
			put_records(&p, from, SSL3_RT_APPLICATION_DATA, "data", 4, 1);
			put_records(&p, from, without_data[i].type, without_data[i].data, without_data[i].len, 20);
			expect(&p, !from, "data");
			assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
		}
		put_records(&p, from, without_data[i].type, without_data[i].data, without_data[i].len, 33);
		assert_int_equal(transport_read(t, buf, sizeof(buf)), -EPROTO);
		assert_int_equal(transport_tls_cause_kind(t), TLS_CAUSE_PROTOCOL);
		pair_close(&p);
	}
}

static void
test_renegotiation_is_refused(void **state)
{
	struct pair p;
	char buf[64];

	(void)state;
	for (int i = 0; i < 4; i++) {
		const int from = i % 2;
		SSL *ssl;

		with_ssl = i < 2 ? SSL_EVERYWHERE : 1U << from;
		pair_open(&p, TLS1_2_VERSION, 0);
		pair_handshake(&p, SIZE_MAX);
		ssl = p.link.end[from].tls->ssl;
		SSL_clear_options(ssl, SSL_OP_NO_RENEGOTIATION);
		assert_int_equal(SSL_renegotiate(ssl), 1);
		(void)transport_write(&p.link.end[from], &(struct iovec){ buf, 1 }, 1);
		for (int k = 0; k < 10; k++) {
			const ssize_t n = transport_read(&p.link.end[k % 2], buf, sizeof(buf));

			assert_true(n == -EAGAIN || n == -EPROTO || n == 1);
			link_carry(&p.link, 0, SIZE_MAX);
			link_carry(&p.link, 1, SIZE_MAX);
		}
		if (with_ssl == SSL_EVERYWHERE)
			assert_int_equal(SSL_num_renegotiations(p.link.end[!from].tls->ssl), 0);
		else
			assert_true(!p.link.end[!from].tls->failed || p.link.end[!from].tls->kind == TLS_CAUSE_ALERT);
		if (from == AT_CLIENT)
			assert_true(p.link.end[from].tls->failed);	/* by the alert that refuses */
		pair_close(&p);
	}
	with_ssl = SSL_NOWHERE;
}

/* --- the end --- */

/* The socket would refuse it, which ended the other way, too. */
static void
test_nothing_is_written_behind_a_close_notify(void **state)
{
	struct pair p;
	struct transport *t = &p.link.end[AT_SERVER];
	char buf[64];

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	pair_handshake(&p, SIZE_MAX);
	say(&p, AT_SERVER, "the tickets, too");
	expect(&p, AT_CLIENT, "the tickets, too");
	assert_int_equal(transport_shutdown(t), 0);
	put_records(&p, AT_CLIENT, SSL3_RT_HANDSHAKE, "\x18\0\0\1\1", 5, 1);
	put_records(&p, AT_CLIENT, SSL3_RT_APPLICATION_DATA, "data", 4, 1);
	expect(&p, AT_SERVER, "data");
	assert_int_equal(transport_read(t, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(transport_flush(t), 0);
	pair_close(&p);
}

static void
test_a_close_notify_is_a_fin_and_the_other_way_stays_open(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct pair p;
		char buf[64];

		pair_open(&p, versions[i], 0);
		pair_handshake(&p, SIZE_MAX);
		say(&p, AT_CLIENT, "last");
		assert_int_equal(transport_shutdown(&p.link.end[AT_CLIENT]), 0);
		link_carry(&p.link, AT_CLIENT, SIZE_MAX);
		assert_true(p.link.fin[AT_CLIENT]);
		expect(&p, AT_SERVER, "last");
		assert_int_equal(transport_read(&p.link.end[AT_SERVER], buf, sizeof(buf)), 0);
		assert_false(transport_is_truncated(&p.link.end[AT_SERVER]));
		say(&p, AT_SERVER, "much later");
		expect(&p, AT_CLIENT, "much later");
		assert_int_equal(transport_shutdown(&p.link.end[AT_SERVER]), 0);
		link_carry(&p.link, AT_SERVER, SIZE_MAX);
		assert_int_equal(transport_read(&p.link.end[AT_CLIENT], buf, sizeof(buf)), 0);
		pair_close(&p);
	}
}

static void
test_a_fin_without_close_notify_is_an_end_that_is_truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct pair p;
		char buf[64];

		pair_open(&p, versions[i], 0);
		pair_handshake(&p, SIZE_MAX);
		say(&p, AT_CLIENT, "last");
		assert_int_equal(shutdown(p.link.end[AT_CLIENT].fd, SHUT_WR), 0);
		link_carry(&p.link, AT_CLIENT, SIZE_MAX);
		expect(&p, AT_SERVER, "last");
		assert_int_equal(transport_read(&p.link.end[AT_SERVER], buf, sizeof(buf)), 0);
		assert_true(transport_is_truncated(&p.link.end[AT_SERVER]));
		say(&p, AT_SERVER, "still open");
		expect(&p, AT_CLIENT, "still open");
		assert_false(transport_is_truncated(&p.link.end[AT_CLIENT]));
		pair_close(&p);
	}
}

/* What the socket has not taken goes out before the close_notify, and that before the FIN. */
static void
test_a_shutdown_waits_for_what_is_unsent(void **state)
{
	uint8_t *data = calloc(1, 64 * 1024);
	struct pair p;
	size_t total = 0, got = 0;
	ssize_t n;

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 4096);
	pair_handshake(&p, SIZE_MAX);
	while ((n = transport_write(&p.link.end[AT_CLIENT], &(struct iovec){ data, 64 * 1024 }, 1)) > 0)
		total += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	assert_true(transport_unsent(&p.link.end[AT_CLIENT]) > 0);
	assert_true(transport_unacked(&p.link.end[AT_CLIENT]) > transport_unsent(&p.link.end[AT_CLIENT]));
	assert_int_equal(transport_shutdown(&p.link.end[AT_CLIENT]), 0);
	do {
		link_carry(&p.link, AT_CLIENT, SIZE_MAX);
		n = transport_read(&p.link.end[AT_SERVER], data, 64 * 1024);
		got += n > 0 ? (size_t)n : 0;
		(void)transport_flush(&p.link.end[AT_CLIENT]);
	} while (n > 0 || n == -EAGAIN);
	assert_int_equal(n, 0);
	assert_int_equal(got, total);
	assert_false(transport_is_truncated(&p.link.end[AT_SERVER]));
	pair_close(&p);
	free(data);
}

static void
test_a_reset_stays_a_reset(void **state)
{
	struct pair p;
	char buf[64];

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	link_use_tcp(&p.link);
	pair_handshake(&p, SIZE_MAX);
	say(&p, AT_CLIENT, "x");
	transport_close(&p.link.end[AT_CLIENT], TRANSPORT_RESET);
	expect(&p, AT_SERVER, "x");	/* what came before it is not lost */
	assert_int_equal(transport_read(&p.link.end[AT_SERVER], buf, 1), -ECONNRESET);
	assert_false(transport_is_truncated(&p.link.end[AT_SERVER]));
	pair_close(&p);
}

/* --- sessions --- */

/* Opens one more connection between the same contexts; was it resumed? */
static bool
is_next_resumed(struct pair *p, const char *name, int version, bool breaks)
{
	struct transport_tls facts;
	uint8_t byte = 0;

	link_close(&p->link);
	link_open(&p->link, 0);
	link_start(&p->link, p->client, p->server, name);
	SSL_set_max_proto_version(p->link.end[AT_SERVER].tls->ssl, version);
	pair_handshake(p, SIZE_MAX);
	link_send(&p->link, AT_SERVER, &byte, 1, SIZE_MAX);	/* brings the tickets */
	if (breaks)
		transport_close(&p->link.end[AT_CLIENT], TRANSPORT_RESET);
	else
		transport_tls_facts(&p->link.end[AT_CLIENT], &facts);
	transport_tls_facts(&p->link.end[AT_SERVER], &facts);
	return facts.resumed;
}

static void
test_sessions_are_resumed_by_name_also_after_a_break(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct pair p;

		pair_open(&p, versions[i], 0);
		assert_false(is_next_resumed(&p, "localhost", versions[i], true));
		assert_true(is_next_resumed(&p, "localhost", versions[i], true));
		assert_true(is_next_resumed(&p, "localhost", versions[i], false));
		assert_false(is_next_resumed(&p, "127.0.0.1", versions[i], false));
		assert_true(is_next_resumed(&p, "127.0.0.1", versions[i], false));
		assert_true(is_next_resumed(&p, "localhost", versions[i], false));
		assert_true(transport_same_certificate(&p.link.end[AT_SERVER], &p.link.end[AT_CLIENT]));
		pair_close(&p);
	}
}

/* Two tickets come with each full handshake. */
static void
test_a_ticket_is_used_once(void **state)
{
	struct link links[4];
	struct pair p;
	int resumed = 0;

	(void)state;
	pair_open(&p, TLS1_3_VERSION, 0);
	(void)is_next_resumed(&p, "localhost", TLS1_3_VERSION, false);
	for (int i = 0; i < 4; i++) {
		link_open(&links[i], 0);
		link_start(&links[i], p.client, p.server, "localhost");
	}
	for (int i = 0; i < 4; i++) {
		struct transport_tls facts;
		int r[2];

		link_handshake(&links[i], SIZE_MAX, r);
		assert_int_equal(r[0], 0);
		transport_tls_facts(&links[i].end[AT_SERVER], &facts);
		resumed += facts.resumed;
	}
	for (int i = 0; i < 4; i++)
		link_close(&links[i]);
	assert_int_equal(resumed, 2);
	pair_close(&p);
}

static int
set_up(void **state)
{
	(void)state;
	tls_world_begin();
	identity_make(&ca, &(struct identity_spec){ .name = "Test CA", .is_ca = true });
	identity_make(&server, &(struct identity_spec){ .name = "server", .names = "DNS:localhost,IP:127.0.0.1,IP:::1", .issuer = &ca });
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	identity_free(&ca);
	identity_free(&server);
	tls_world_end();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_handshake_may_be_cut_anywhere),
		cmocka_unit_test(test_bulk_arrives_unchanged_through_small_buffers),
		cmocka_unit_test(test_a_round_trip_costs_one_receive_and_one_send_each_way),
		cmocka_unit_test(test_large_writes_arrive_unchanged),
		cmocka_unit_test(test_what_no_edge_will_tell_of_is_pending),
		cmocka_unit_test(test_without_memory_a_stream_ends_and_has_no_hole),
		cmocka_unit_test(test_a_part_of_a_record_is_not_pending),
		cmocka_unit_test(test_peeked_bytes_stay_to_be_read),
		cmocka_unit_test(test_bytes_that_come_behind_peeked_ones_are_pending),
		cmocka_unit_test(test_spans_are_joined),
		cmocka_unit_test(test_ciphers_agree_with_openssl),
		cmocka_unit_test(test_damaged_records_are_refused),
		cmocka_unit_test(test_key_updates_are_followed),
		cmocka_unit_test(test_keys_are_renewed_before_they_are_used_too_often),
		cmocka_unit_test(test_a_flood_of_records_without_data_is_ended),
		cmocka_unit_test(test_renegotiation_is_refused),
		cmocka_unit_test(test_nothing_is_written_behind_a_close_notify),
		cmocka_unit_test(test_a_close_notify_is_a_fin_and_the_other_way_stays_open),
		cmocka_unit_test(test_a_fin_without_close_notify_is_an_end_that_is_truncated),
		cmocka_unit_test(test_a_shutdown_waits_for_what_is_unsent),
		cmocka_unit_test(test_a_reset_stays_a_reset),
		cmocka_unit_test(test_sessions_are_resumed_by_name_also_after_a_break),
		cmocka_unit_test(test_a_ticket_is_used_once),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
