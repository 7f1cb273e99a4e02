/*
 * test_mysql_tls.c - how MySQL begins TLS on either leg: what each side is told,
 * wherever the bytes were cut, and what fails.
 */
#include "mysql_scene.h"

static void
expect_bytes(struct bytes *got, struct bytes *wanted)
{
	assert_int_equal(got->len, wanted->len);
	assert_memory_equal(got->data, wanted->data, wanted->len);
	bytes_free(wanted);
}

/* --- each combination of legs --- */

static void
check_beginning(const struct legs *legs, size_t cut)
{
	const bool offered = legs->settings.client != CLIENT_PLAIN, backend = legs->settings.backend;
	struct bytes client = { 0 }, server = { 0 };
	struct negotiation_run r;

	add(&client, 0, DATA(GREETING(NO_SSL_HIGH)));
	if (offered)
		client.data[4 + 21] |= 8;
	if (backend)
		add(&server, 1, LOGIN("\212", NATIVE), 32);
	add(&server, backend ? 2 : 1, DATA(LOGIN("\202", NATIVE)));
	if (backend)
		server.data[36 + 5] |= 8;
	start(&r, legs, REACH_NETWORK, REACH_NETWORK);
	assert_true(r.dialled);
	log_in(&r, legs, DATA(LOGIN("\202", NATIVE)), cut);
	assert_int_equal(r.want, NEGOTIATION_DONE);
	assert_int_equal(r.tls[BACKEND], backend);
	assert_int_equal(r.hello[CLIENT] + r.hello[BACKEND] + r.unread[CLIENT].len + r.unread[BACKEND].len, 0);
	assert_int_equal(r.plain_got[BACKEND], backend ? 36 : 0);
	expect_bytes(&r.got[CLIENT], &client);
	expect_bytes(&r.got[BACKEND], &server);
	negotiation_run_end(&r);
}

static void
test_tls_begins_on_the_legs_that_are_to_have_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_LEGS; i++)
		for (size_t cut = 0; cut < 120; cut++)
			check_beginning(&all_legs[i], cut);
}

/* --- what fails --- */

struct failure {
	const char *name;
	struct legs legs;
	const char *greeting;
	size_t greeting_len;
	const char *login;	/* with its head */
	size_t login_len;
	enum side side;
	const char *why;
	unsigned number;	/* of the error; 0: none is sent */
	uint8_t seq;
};

#define BOTH_MAY { { CLIENT_MAY_TLS, true, false }, false }
#define BOTH_MUST { { CLIENT_MUST_TLS, true, false }, false }
#define BEHIND { { CLIENT_PLAIN, true, false }, false }
#define GREETS DATA(GREETING(SSL_HIGH))
#define HANDSHAKE ER_HANDSHAKE_ERROR
#define PLAIN_LOGIN(second) "\55\0\0\1\5" second "\10\0" REST "hb\0\4hashdialog\0"

static const struct failure failures[] = {
	{ "no TLS behind", BEHIND, DATA(GREETING(NO_SSL_HIGH)), NULL, 0, BACKEND, "offers no TLS", HANDSHAKE, 0 },
	{ "protocol 9", BEHIND, DATA("\0113.20\0\1\0\0\0saltsalt\0"), NULL, 0, BACKEND, "not MySQL", HANDSHAKE, 0 },
	{ "a short greeting", BOTH_MAY, DATA("\n5.0\0\1\0\0\0saltsalt\0\0\10"), NULL, 0, BACKEND, "not MySQL", HANDSHAKE, 0 },
	{ "an empty greeting", BOTH_MAY, DATA(""), NULL, 0, BACKEND, "not MySQL", HANDSHAKE, 0 },
	{ "a must", BOTH_MUST, GREETS, DATA(PLAIN_LOGIN("\202")), CLIENT, "client.tls = require",
	    ER_SECURE_TRANSPORT_REQUIRED, 2 },
	{ "not offered", BEHIND, GREETS, DATA("\40\0\0\1\5\212\10\0" REST), CLIENT, "none was offered", HANDSHAKE, 2 },
	{ "TLS, and no TLS", BOTH_MAY, GREETS, DATA(PLAIN_LOGIN("\212")), CLIENT, "goes on in the clear", HANDSHAKE, 2 },
	{ "MySQL 3.23", BOTH_MAY, GREETS, DATA("\14\0\0\1\5\40\0\0\1hb\0hash\0"), CLIENT, "before MySQL 4.1", HANDSHAKE, 2 },
	{ "its SSLRequest", BOTH_MAY, GREETS, DATA("\5\0\0\1\5\50\0\0\1"), CLIENT, "before MySQL 4.1", HANDSHAKE, 2 },
	{ "a stub", BOTH_MAY, GREETS, DATA("\3\0\0\1\5\202\10"), CLIENT, "before MySQL 4.1", HANDSHAKE, 2 },
	{ "a short SSLRequest", BOTH_MAY, GREETS, DATA("\5\0\0\1\5\212\10\0\1"), CLIENT, "cut short", HANDSHAKE, 2 },
	{ "another number", BOTH_MAY, GREETS, DATA("\40\0\0\2\5\212\10\0" REST), CLIENT, "not numbered", HANDSHAKE, 3 },
	{ "TLS at once", BOTH_MAY, GREETS, DATA("\26\3\1\2\0\1\0\1\374\3\3"), CLIENT, "with its first byte", 0, 0 },
	{ "a long login", BOTH_MAY, GREETS, DATA("\0\200\0\1xxx"), CLIENT, "32 KiB", HANDSHAKE, 2 },
};

static void
check_failure(const struct failure *f, size_t cut)
{
	const size_t passed = f->login != NULL ? f->greeting_len + 4 : 0;
	struct negotiation_run r;

	start(&r, &f->legs, REACH_NETWORK, REACH_NETWORK);
	say(&r, BACKEND, 0, f->greeting, f->greeting_len, cut);
	assert_int_equal(r.got[CLIENT].len > 0 && f->login != NULL, f->login != NULL);
	for (size_t i = 0; f->login != NULL && i < f->login_len && r.want != NEGOTIATION_FAILED; i++)
		negotiation_run_feed(&r, CLIENT, f->login + i, 1);
	assert_int_equal(r.want, NEGOTIATION_FAILED);
	assert_int_equal(r.side, f->side);
	assert_non_null(strstr(r.why, f->why));
	assert_false(r.tls[CLIENT] || r.tls[BACKEND]);
	assert_int_equal(r.got[BACKEND].len, 0);
	if (f->number != 0)
		expect_error(&r.got[CLIENT], passed, f->seq, f->number, "");
	else
		assert_int_equal(r.got[CLIENT].len, passed);
	negotiation_run_end(&r);
}

static void
test_what_cannot_go_on_is_said_in_plain_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		for (size_t cut = 0; cut < 40; cut++)
			check_failure(&failures[i], cut);
}

/* Its length begins as TLS would. */
static void
test_a_login_of_790_bytes_is_no_hello(void **state)
{
	uint8_t login[790] = { 0 };
	struct negotiation_run r;

	(void)state;
	memcpy(login, DATA(LOGIN("\202", NATIVE)));
	start(&r, &all_legs[0], REACH_NETWORK, REACH_NETWORK);
	log_in(&r, &all_legs[0], login, sizeof(login), 0);
	assert_int_equal(r.want, NEGOTIATION_DONE);
	negotiation_run_end(&r);
}

/* Too many connections, a host that is blocked. */
static void
test_an_error_in_place_of_the_greeting_is_passed_on(void **state)
{
	static const char text[] = "\377\20\4Too many connections";
	struct bytes wanted = { 0 };
	struct negotiation_run r;
	struct run run;

	(void)state;
	for (size_t cut = 0; cut < sizeof(text) + 3; cut++) {
		start(&r, &all_legs[2], REACH_NETWORK, REACH_NETWORK);
		say(&r, BACKEND, 0, DATA(text), cut);
		add(&wanted, 0, DATA(text));
		expect_bytes(&r.got[CLIENT], &wanted);
		hand_over(&run, &r, NULL);
		assert_true(codec_mysql.said_goodbye(run.state, BACKEND));
		run_fin(&run, BACKEND);
		run_end(&run);
	}
}

/* A health check, a server that stops: no failure of TLS. */
static void
test_a_side_that_closes_at_a_boundary_ends_as_without_tls(void **state)
{
	struct negotiation_run r;

	(void)state;
	for (size_t i = 0; i < N_LEGS; i++)
		for (size_t len = 0; len < 12; len++) {
			start(&r, &all_legs[i], REACH_NETWORK, REACH_NETWORK);
			negotiation_run_feed(&r, BACKEND, "\112\0\0\0\n10.11\0\1", len);
			negotiation_run_fin(&r, BACKEND);
			assert_int_equal(r.want, len == 0 ? NEGOTIATION_DONE : NEGOTIATION_FAILED);
			assert_int_equal(r.side, BACKEND);
			negotiation_run_end(&r);
			start(&r, &all_legs[i], REACH_NETWORK, REACH_NETWORK);
			SAY(&r, BACKEND, 0, GREETING(SSL_HIGH), SIZE_MAX);
			negotiation_run_feed(&r, CLIENT, "\112\0\0\1\5\202\10\0\0\0\0\1", len);
			negotiation_run_fin(&r, CLIENT);
			assert_int_equal(r.want, len == 0 ? NEGOTIATION_DONE : NEGOTIATION_FAILED);
			assert_int_equal(r.side, CLIENT);
			assert_int_equal(r.got[BACKEND].len, 0);
			negotiation_run_end(&r);
		}
}

/* What fails in the relay is told wherever the client awaits a packet. */
static void
test_a_failure_of_the_relay_is_told(void **state)
{
	uint8_t buf[NEGOTIATION_REFUSAL_MAX];
	char why[1000];
	struct negotiation_run r;
	struct bytes got = { .data = buf };

	(void)state;
	memset(why, 'x', sizeof(why) - 1);
	why[sizeof(why) - 1] = '\0';
	for (size_t len = 0; len < sizeof(why); len += 37) {
		const char *text = why + sizeof(why) - 1 - len;

		for (size_t i = 0; i < N_LEGS; i++) {
			if (!all_legs[i].settings.backend)
				continue;
			start(&r, &all_legs[i], REACH_NETWORK, REACH_NETWORK);
			got.len = negotiation_mysql.refusal(r.state, text, buf);
			expect_error(&got, 0, 0, ER_HANDSHAKE_ERROR, len < 400 ? text : "xxx");
			assert_true(got.len <= 516);
			SAY(&r, BACKEND, 0, GREETING(SSL_HIGH), SIZE_MAX);
			assert_int_equal(negotiation_mysql.refusal(r.state, text, buf), 0);
			negotiation_run_end(&r);
			start(&r, &all_legs[i], REACH_NETWORK, REACH_NETWORK);
			log_in(&r, &all_legs[i], DATA(LOGIN("\202", NATIVE)), SIZE_MAX);
			got.len = negotiation_mysql.refusal(r.state, text, buf);
			expect_error(&got, 0, all_legs[i].client_tls ? 3 : 2, ER_HANDSHAKE_ERROR, len < 400 ? text : "xxx");
			assert_true(got.len <= 516);
			negotiation_run_end(&r);
		}
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls_begins_on_the_legs_that_are_to_have_it),
		cmocka_unit_test(test_what_cannot_go_on_is_said_in_plain_words),
		cmocka_unit_test(test_a_login_of_790_bytes_is_no_hello),
		cmocka_unit_test(test_an_error_in_place_of_the_greeting_is_passed_on),
		cmocka_unit_test(test_a_side_that_closes_at_a_boundary_ends_as_without_tls),
		cmocka_unit_test(test_a_failure_of_the_relay_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
