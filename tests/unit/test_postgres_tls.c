/*
 * test_postgres_tls.c - how PostgreSQL begins TLS: what each side is told, and
 * what stays unread, wherever the bytes were cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "negotiation_run.h"

#define SSL "\0\0\0\x08\x04\xd2\x16\x2f"
#define GSS "\0\0\0\x08\x04\xd2\x16\x30"
#define CANCEL "\0\0\0\x10\x04\xd2\x16\x2e\0\0\1\2key0"
#define STARTUP "\0\0\0\x17\0\3\0\0user\0postgres\0\0"
#define HELLO "\x16\3\1\2\0\1"

#define ERR "*"		/* in what the client gets: an ErrorResponse */
#define DONE NULL

struct scene {
	const char *name;	/* for the debugger */
	const struct negotiation *of;
	struct negotiation_settings settings;
	const char *client;	/* what it sends until TLS begins or the backend is dialled */
	size_t client_len;
	size_t consumed;	/* of that */
	const char *client_gets;
	const char *answer;	/* of the backend to an SSLRequest; NULL: it is not asked */
	const char *why;	/* part of it; NULL: it is done */
	bool client_tls, backend_tls;
};

#define PG &negotiation_postgres
#define AUTO &negotiation_auto
#define SENDS(text) .client = text, .client_len = sizeof(text) - 1
#define OFF_ON { CLIENT_PLAIN, true, false }
#define OFF_DIRECT { CLIENT_PLAIN, true, true }
#define MAY_OFF { CLIENT_MAY_TLS, false, false }
#define MAY_ON { CLIENT_MAY_TLS, true, false }
#define MUST_OFF { CLIENT_MUST_TLS, false, false }
#define MUST_ON { CLIENT_MUST_TLS, true, false }

static const struct scene scenes[] = {
	/* plain client, TLS behind */
	{ "disable", PG, OFF_ON, SENDS(STARTUP), 0, "", "S", DONE, false, true },
	{ "prefer", PG, OFF_ON, SENDS(SSL STARTUP), 8, "N", "S", DONE, false, true },
	{ "prefer, with GSSAPI", PG, OFF_ON, SENDS(GSS SSL STARTUP), 16, "NN", "S", DONE, false, true },
	{ "a second SSLRequest", PG, OFF_ON, SENDS(SSL SSL), 8, "N", "S", DONE, false, true },
	{ "a cancel", PG, OFF_ON, SENDS(CANCEL), 0, "", "S", DONE, false, true },
	{ "direct, where there is none", PG, OFF_ON, SENDS(HELLO), 0, "", NULL, "client.tls is off", false, false },
	{ "direct behind", PG, OFF_DIRECT, SENDS(SSL STARTUP), 8, "N", NULL, DONE, false, true },
	{ "no TLS behind", PG, OFF_ON, SENDS(STARTUP), 0, ERR, "N", "offers no TLS", false, false },
	{ "an error behind", PG, OFF_ON, SENDS(STARTUP), 0, ERR, "E", "with an error", false, false },
	{ "something else behind", PG, OFF_ON, SENDS(STARTUP), 0, ERR, "H", "not PostgreSQL", false, false },
	{ "an end behind", PG, OFF_ON, SENDS(STARTUP), 0, ERR, "", "closed the connection", false, false },
	{ "a cancel, no TLS behind", PG, OFF_ON, SENDS(CANCEL), 0, "", "N", "offers no TLS", false, false },
	/* the client may */
	{ "it does", PG, MAY_OFF, SENDS(SSL), 8, "S", NULL, DONE, true, false },
	{ "it does, on both", PG, MAY_ON, SENDS(SSL), 8, "S", "S", DONE, true, true },
	{ "GSSAPI first", PG, MAY_OFF, SENDS(GSS SSL), 16, "NS", NULL, DONE, true, false },
	{ "direct", PG, MAY_ON, SENDS(HELLO), 0, "", "S", DONE, true, true },
	{ "it does not", PG, MAY_ON, SENDS(STARTUP), 0, "", "S", DONE, false, true },
	{ "a plain cancel", PG, MAY_OFF, SENDS(CANCEL), 0, "", NULL, DONE, false, false },
	{ "TLS, none behind", PG, MAY_ON, SENDS(SSL), 8, "S" ERR, "N", "offers no TLS", true, false },
	/* it must */
	{ "it does as it must", PG, MUST_ON, SENDS(SSL), 8, "S", "S", DONE, true, true },
	{ "direct, as it must", PG, MUST_OFF, SENDS(HELLO), 0, "", NULL, DONE, true, false },
	{ "it does not, and must", PG, MUST_ON, SENDS(STARTUP), 0, ERR, NULL, "client.tls = require", false, false },
	{ "GSSAPI, then plain", PG, MUST_OFF, SENDS(GSS STARTUP), 8, "N" ERR, NULL, "client.tls = require", false, false },
	{ "a plain cancel where TLS is a must", PG, MUST_ON, SENDS(CANCEL), 0, "", "S", DONE, false, true },
	{ "not PostgreSQL", PG, MUST_OFF, SENDS("GET / HTTP/1.1"), 0, ERR, NULL, "client.tls = require", false, false },
	/* auto */
	{ "auto: HTTP", AUTO, OFF_ON, SENDS("GET /"), 0, "", NULL, DONE, false, true },
	{ "auto: a length", AUTO, OFF_ON, SENDS("\0\0\0\x12\0\1"), 0, "", NULL, DONE, false, true },
	{ "auto: PostgreSQL", AUTO, OFF_ON, SENDS(STARTUP), 0, "", "S", DONE, false, true },
	{ "auto: prefer", AUTO, OFF_ON, SENDS(SSL STARTUP), 8, "N", "S", DONE, false, true },
	{ "auto: it does", AUTO, MAY_ON, SENDS(SSL), 8, "S", "S", DONE, true, true },
	{ "auto: TLS of the backend's", AUTO, OFF_ON, SENDS(HELLO), 0, "", NULL, DONE, false, true },
	{ "auto: HTTP in the clear", AUTO, MUST_OFF, SENDS("GET /"), 0, "", NULL, "client.tls = require", false, false },
	{ "auto: PostgreSQL in the clear", AUTO, MUST_OFF, SENDS(STARTUP), 0, ERR, NULL, "client.tls = require", false, false },
};

/* In two pieces; 0: byte by byte. */
static void
feed_cut(struct negotiation_run *r, enum side from, const char *data, size_t len, size_t cut)
{
	for (size_t i = 0; i < len && cut == 0; i++)
		negotiation_run_feed(r, from, data + i, 1);
	if (cut > 0) {
		negotiation_run_feed(r, from, data, cut);
		negotiation_run_feed(r, from, data + cut, len - cut);
	}
}

/* Whole, and not one byte more. */
static void
expect_error(const uint8_t *p, size_t len)
{
	static const char begin[] = "SFATAL\0VFATAL\0C";

	assert_true(len > 5 + sizeof(begin));
	assert_int_equal(p[0], 'E');
	assert_int_equal((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4], len - 1);
	assert_memory_equal(p + 5, begin, sizeof(begin) - 1);
	assert_int_equal(p[len - 1], 0);
	assert_int_equal(p[len - 2], 0);
}

static void
expect_got(const struct bytes *got, const char *wanted)
{
	const size_t len = strcspn(wanted, ERR);

	assert_true(got->len >= len);
	assert_memory_equal(got->data, wanted, len);
	if (wanted[len] == '\0')
		assert_int_equal(got->len, len);
	else
		expect_error(got->data + len, got->len - len);
}

static void
play(const struct scene *s, size_t cut)
{
	struct negotiation_run r;

	negotiation_run_start(&r, s->of, &s->settings);
	assert_int_equal(r.want, NEGOTIATION_READ);
	feed_cut(&r, CLIENT, s->client, s->client_len, cut);
	if (s->answer != NULL) {
		assert_int_equal(r.want, NEGOTIATION_READ);
		assert_int_equal(r.side, BACKEND);
		assert_int_equal(r.got[BACKEND].len, 8);
		assert_memory_equal(r.got[BACKEND].data, SSL, 8);
		negotiation_run_feed(&r, BACKEND, s->answer, strlen(s->answer));
		if (s->answer[0] == '\0')
			negotiation_run_fin(&r, BACKEND);
	}
	assert_int_equal(r.want, s->why != NULL ? NEGOTIATION_FAILED : NEGOTIATION_DONE);
	if (s->why != NULL)
		assert_non_null(strstr(r.why, s->why));
	assert_int_equal(r.side == CLIENT, s->why != NULL && !r.dialled);
	assert_int_equal(r.tls[CLIENT], s->client_tls);
	assert_int_equal(r.tls[BACKEND], s->backend_tls);
	assert_int_equal(r.unread[CLIENT].len + r.hello[CLIENT], s->client_len - s->consumed);
	assert_int_equal(r.got[BACKEND].len, s->answer != NULL ? 8 : 0);
	expect_got(&r.got[CLIENT], s->client_gets);
	negotiation_run_end(&r);
}

static void
test_each_way_to_begin_wherever_it_is_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		for (size_t cut = 0; cut <= scenes[i].client_len; cut++)
			play(&scenes[i], cut);
}

/* A client that ends in the middle of what it may ask for asks for nothing: the backend is to see that. */
static void
test_a_request_that_does_not_arrive_whole_is_none(void **state)
{
	static const struct negotiation_settings may = MAY_OFF;
	struct negotiation_run r;

	(void)state;
	for (size_t cut = 0; cut < 8; cut++) {
		negotiation_run_start(&r, PG, &may);
		negotiation_run_feed(&r, CLIENT, SSL, cut);
		negotiation_run_fin(&r, CLIENT);
		assert_int_equal(r.want, NEGOTIATION_DONE);
		assert_int_equal(r.unread[CLIENT].len, cut);
		negotiation_run_end(&r);
	}
}

static void
test_bytes_in_the_clear_behind_the_request_are_refused(void **state)
{
	static const struct negotiation_settings may = MAY_ON;
	struct negotiation_run r;

	(void)state;
	negotiation_run_start(&r, PG, &may);
	negotiation_run_feed(&r, CLIENT, SSL STARTUP, sizeof(SSL STARTUP) - 1);
	assert_int_equal(r.want, NEGOTIATION_FAILED);
	assert_int_equal(r.side, CLIENT);
	assert_false(r.tls[CLIENT] || r.dialled);
	expect_got(&r.got[CLIENT], ERR);
	negotiation_run_end(&r);
}

static void
test_bytes_in_the_clear_behind_the_answer_are_refused(void **state)
{
	static const struct negotiation_settings backend = OFF_ON;
	struct negotiation_run r;

	(void)state;
	negotiation_run_start(&r, PG, &backend);
	negotiation_run_feed(&r, CLIENT, STARTUP, sizeof(STARTUP) - 1);
	negotiation_run_feed(&r, BACKEND, "SR\0\0", 4);
	assert_int_equal(r.want, NEGOTIATION_FAILED);
	assert_int_equal(r.side, BACKEND);
	assert_non_null(strstr(r.why, "in the clear"));
	assert_false(r.tls[BACKEND]);
	expect_got(&r.got[CLIENT], ERR);
	negotiation_run_end(&r);
}

/* Inside TLS that began with the first byte, auto looks at what is spoken, to know how to ask the backend. */
static void
test_auto_looks_inside_tls(void **state)
{
	static const struct negotiation_settings may = MAY_ON;
	static const struct { const char *text; size_t len; bool asks; } inside[] = {
		{ STARTUP, sizeof(STARTUP) - 1, true }, { CANCEL, sizeof(CANCEL) - 1, true }, { "GET /", 5, false }, { "\0\0\0\x12\0\1", 6, false },
	};
	struct negotiation_run r;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		for (size_t cut = 0; cut < inside[i].len; cut++) {
			negotiation_run_start(&r, AUTO, &may);
			negotiation_run_feed(&r, CLIENT, "\x16", 1);
			assert_true(r.tls[CLIENT]);
			feed_cut(&r, CLIENT, inside[i].text, inside[i].len, cut);
			assert_int_equal(r.want, inside[i].asks ? NEGOTIATION_READ : NEGOTIATION_DONE);
			if (inside[i].asks)
				negotiation_run_feed(&r, BACKEND, "S", 1);
			assert_int_equal(r.want, NEGOTIATION_DONE);
			assert_true(r.tls[BACKEND]);
			assert_int_equal(r.unread[CLIENT].len, inside[i].len);
			negotiation_run_end(&r);
		}
}

/* A connection of the relay's own, which cancels. */
static void
test_without_a_client_the_backend_is_asked_at_once(void **state)
{
	static const struct negotiation_settings settings[] = { { CLIENT_ABSENT, true, false }, { CLIENT_ABSENT, true, true }, { CLIENT_ABSENT, false, false } };
	const struct negotiation *const both[] = { PG, AUTO };
	struct negotiation_run r;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		negotiation_run_start(&r, both[i % 2], &settings[i / 2]);
		assert_true(r.dialled);
		if (i / 2 == 0)
			negotiation_run_feed(&r, BACKEND, "S", 1);
		assert_int_equal(r.want, NEGOTIATION_DONE);
		assert_int_equal(r.tls[BACKEND], i / 2 != 2);
		negotiation_run_end(&r);
	}
}

/* What fails in the relay is told to a client that waits for messages, as long as the text may be. */
static void
test_a_failure_of_the_relay_is_told(void **state)
{
	static const struct negotiation_settings backend = OFF_ON;
	static const struct { const char *text; size_t len; bool told; } clients[] = {
		{ STARTUP, sizeof(STARTUP) - 1, true }, { CANCEL, sizeof(CANCEL) - 1, false }, { SSL, sizeof(SSL) - 1, false },
	};
	uint8_t buf[NEGOTIATION_REFUSAL_MAX];
	char text[1000];
	struct negotiation_run r;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (size_t i = 0; i < 3; i++)
		for (size_t len = 0; len < sizeof(text); len += 37) {
			size_t n;

			negotiation_run_start(&r, PG, &backend);
			negotiation_run_feed(&r, CLIENT, clients[i].text, clients[i].len);
			n = negotiation_postgres.refusal(r.state, text + sizeof(text) - 1 - len, buf);
			assert_int_equal(n > 0, clients[i].told);
			assert_true(n <= sizeof(buf));
			if (n > 0)
				expect_error(buf, n);
			negotiation_run_end(&r);
		}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_way_to_begin_wherever_it_is_cut),
		cmocka_unit_test(test_a_request_that_does_not_arrive_whole_is_none),
		cmocka_unit_test(test_bytes_in_the_clear_behind_the_request_are_refused),
		cmocka_unit_test(test_bytes_in_the_clear_behind_the_answer_are_refused),
		cmocka_unit_test(test_auto_looks_inside_tls),
		cmocka_unit_test(test_without_a_client_the_backend_is_asked_at_once),
		cmocka_unit_test(test_a_failure_of_the_relay_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
