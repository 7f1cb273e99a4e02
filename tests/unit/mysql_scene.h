/*
 * mysql_scene.h - a MySQL session that begins before stent with TLS on a leg, for
 * test_mysql_tls.c and test_mysql_login.c.
 */
#ifndef STENT_TESTS_MYSQL_SCENE_H
#define STENT_TESTS_MYSQL_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "codec/mysql.h"
#include "codec_run.h"
#include "negotiation_run.h"

#define SSL_HIGH "\376\377"		/* low half of the capabilities of a real server, with CLIENT_SSL (0x800) ... */
#define NO_SSL_HIGH "\376\367"		/* ... and without */
#define GREETING(caps) "\n10.11\0\1\0\0\0saltsalt\0" caps "\10\2\0\377\201\25\0\0\0\0\0\0\35\0\0\0" "moresaltmore\0mysql_native_password\0"
#define CAPS(second, third) "\5" second third "\0"	/* long password, long flag; 0x82: 4.1 and 4.1's password; plugin's name */
#define REST "\0\0\0\1\41" "0123456789012345678" "\1\0\0\0"	/* up to the 32nd byte */
#define LOGIN_OF(second, third, method) CAPS(second, third) REST "hb\0\4hash" method "\0"
#define LOGIN(second, method) LOGIN_OF(second, "\10", method)	/* second: "\202", with TLS "\212" */
#define NATIVE "mysql_native_password"
#define OK "\0\0\0\2\0\0\0"
#define FULL "\1\4"

#define DATA(text) (text), sizeof(text) - 1

static inline void
add(struct bytes *b, uint8_t seq, const void *payload, size_t len)
{
	const uint8_t head[4] = { (uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16), seq };

	bytes_add(b, head, sizeof(head));
	bytes_add(b, payload, len);
}

/* A side sends a packet, in two pieces; cut 0: byte by byte. */
static inline void
say(struct negotiation_run *r, enum side from, uint8_t seq, const void *payload, size_t len, size_t cut)
{
	struct bytes b = { 0 };

	add(&b, seq, payload, len);
	if (cut > b.len)
		cut = b.len;
	for (size_t i = 0; i < b.len && cut == 0; i++)
		negotiation_run_feed(r, from, b.data + i, 1);
	if (cut > 0) {
		negotiation_run_feed(r, from, b.data, cut);
		negotiation_run_feed(r, from, b.data + cut, b.len - cut);
	}
	bytes_free(&b);
}

#define SAY(r, from, seq, text, cut) say(r, from, seq, DATA(text), cut)

/* The last packet of what a side got is an error with these words. */
static inline void
expect_error(const struct bytes *got, size_t at, uint8_t seq, unsigned number, const char *words)
{
	char text[600] = "";

	assert_true(got->len > at + 7 && got->len - at < sizeof(text));
	assert_int_equal(got->data[at] + 256u * got->data[at + 1], got->len - at - 4);
	assert_int_equal(got->data[at + 3], seq);
	assert_int_equal(got->data[at + 4], 0xff);
	assert_int_equal(got->data[at + 5] | got->data[at + 6] << 8, number);
	assert_int_equal(got->data[at + 7] == '#', seq > 0);
	memcpy(text, got->data + at + 7, got->len - at - 7);
	assert_non_null(strstr(text, words));
}

struct legs {
	struct negotiation_settings settings;
	bool client_tls;	/* it begins TLS */
};

static const struct legs all_legs[] = {
	{ { CLIENT_PLAIN, true, false }, false }, { { CLIENT_MAY_TLS, true, false }, false }, { { CLIENT_MAY_TLS, true, false }, true },
	{ { CLIENT_MAY_TLS, false, false }, false }, { { CLIENT_MAY_TLS, false, false }, true }, { { CLIENT_MUST_TLS, true, false }, true },
	{ { CLIENT_MUST_TLS, false, false }, true },
};
#define N_LEGS (sizeof(all_legs) / sizeof(all_legs[0]))

/* Up to the client's login, whose payload is given; its byte with CLIENT_SSL is set as that leg needs. */
static inline void
log_in(struct negotiation_run *r, const struct legs *legs, const void *login, size_t len, size_t cut)
{
	uint8_t copy[1000];

	assert_true(len <= sizeof(copy));
	memcpy(copy, login, len);
	if (legs->client_tls)
		copy[1] |= 8;
	SAY(r, BACKEND, 0, GREETING(SSL_HIGH), cut);
	if (legs->client_tls)
		say(r, CLIENT, 1, copy, 32, cut);
	assert_int_equal(r->tls[CLIENT], legs->client_tls);
	say(r, CLIENT, legs->client_tls ? 2 : 1, copy, len, cut);
}

static inline void
start(struct negotiation_run *r, const struct legs *legs, enum negotiation_reach client, enum negotiation_reach backend)
{
	negotiation_run_start(r, &negotiation_mysql, &legs->settings);
	r->reach[CLIENT] = client;
	r->reach[BACKEND] = backend;
}

/* The codec at work, where the negotiation has left it. */
static inline void
hand_over(struct run *run, struct negotiation_run *r, const struct codec_settings *settings)
{
	assert_int_equal(r->want, NEGOTIATION_DONE);
	run_start(run, &codec_mysql, settings);
	negotiation_mysql.hand_over(r->state, run->state);
	negotiation_run_end(r);
}

#endif
