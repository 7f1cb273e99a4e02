/*
 * test_mysql_login.c - a login where stent has ended TLS on a leg: its packets are
 * renumbered, wherever they were cut, and passwords that are not hashed do not pass
 * where they cannot or must not.
 */
#include "mysql_scene.h"

static void
open_login(struct run *run, const struct legs *legs, const void *login, size_t len, enum negotiation_reach client,
    enum negotiation_reach backend)
{
	struct negotiation_run r;

	start(&r, legs, client, backend);
	log_in(&r, legs, login, len, SIZE_MAX);
	hand_over(run, &r, NULL);
}

/* A packet of a side in two pieces arrives as one with another number. */
static void
pass(struct run *run, enum side from, uint8_t seq, uint8_t as, const void *payload, size_t len, size_t cut)
{
	struct bytes b = { 0 }, *got = &run->got[side_other(from)];
	const size_t before = got->len;

	add(&b, seq, payload, len);
	if (cut > b.len)
		cut = b.len;
	if (cut > 0)
		run_feed(run, from, b.data, cut);
	assert_true(got->len - before <= cut);
	run_feed(run, from, b.data + cut, b.len - cut);
	b.data[3] = as;
	assert_int_equal(got->len - before, b.len);
	assert_memory_equal(got->data + before, b.data, b.len);
	bytes_free(&b);
}

#define PASS(run, from, seq, as, text, cut) pass(run, from, seq, as, DATA(text), cut)

/* A switch, an exchange in several packets with an empty one, two packets of the server in a row, and the end. */
static void
check_login(const struct legs *legs, size_t cut, bool ok)
{
	const uint8_t c = legs->client_tls, b = legs->settings.backend;
	struct run run;

	open_login(&run, legs, DATA(LOGIN("\202", NATIVE)), REACH_NETWORK, REACH_NETWORK);
	PASS(&run, BACKEND, b + 2, c + 2, "\376client_ed25519\0a salt that is longer than what is read of a packet", cut);
	assert_int_equal(run_may_heartbeat(&run, BACKEND), 0);
	PASS(&run, CLIENT, c + 3, b + 3, "a signature", cut);
	PASS(&run, BACKEND, b + 4, c + 4, "\1more", cut);
	PASS(&run, CLIENT, c + 5, b + 5, "", cut);
	PASS(&run, BACKEND, b + 6, c + 6, "\1", cut);
	PASS(&run, BACKEND, b + 7, c + 7, "", cut);
	if (ok)
		PASS(&run, BACKEND, b + 8, c + 8, OK, cut);
	else
		PASS(&run, BACKEND, b + 8, c + 8, "\377\25\4#28000Access denied", cut);
	assert_null(run.passthrough);
	assert_int_equal(run_may_heartbeat(&run, BACKEND), ok ? HEARTBEAT_ONEWAY | HEARTBEAT_PING : 0);
	PASS(&run, CLIENT, 0, 0, "\3select 1", cut);
	PASS(&run, BACKEND, 1, 1, OK, cut);
	assert_null(run.passthrough);
	run_end(&run);
}

static void
test_packets_are_renumbered_until_the_end_of_the_login(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_LEGS; i++)
		for (size_t cut = 0; cut < 40; cut++)
			for (int ok = 0; ok < 2; ok++)
				check_login(&all_legs[i], cut, ok);
}

/* Compression begins behind the login: until then packets are renumbered, and then nothing is read. */
static void
test_compression_begins_behind_the_login(void **state)
{
	static const char login[] = "\45\202\10\0" REST "hb\0\4hash" NATIVE "\0";
	struct run run;

	(void)state;
	for (size_t i = 0; i < N_LEGS; i++) {
		const uint8_t c = all_legs[i].client_tls, b = all_legs[i].settings.backend;

		for (size_t cut = 0; cut < 20; cut++) {
			open_login(&run, &all_legs[i], login, sizeof(login) - 1, REACH_NETWORK, REACH_NETWORK);
			if (c != b) {
				PASS(&run, BACKEND, b + 2, c + 2, "\376" NATIVE "\0salt", cut);
				PASS(&run, CLIENT, c + 3, b + 3, "hash", cut);
				assert_null(run.passthrough);
			}
			PASS(&run, BACKEND, b + 4, c + 4, OK, cut);
			if (c == b)
				PASS(&run, CLIENT, 0, 0, "compressed", cut);
			assert_string_equal(run.passthrough, "compression");
			PASS(&run, BACKEND, 9, 9, "compressed", cut);
			run_end(&run);
		}
	}
}

static void
test_the_settings_of_the_codec_stay(void **state)
{
	static const struct codec_settings settings = { .heartbeats = { true, true }, .in_transaction = true,
		.while_busy = { true, true }, .kind = { 0, HEARTBEAT_ONEWAY } };
	struct negotiation_run r;
	struct run run;

	(void)state;
	start(&r, &all_legs[0], REACH_NETWORK, REACH_NETWORK);
	log_in(&r, &all_legs[0], DATA(LOGIN("\202", NATIVE)), SIZE_MAX);
	hand_over(&run, &r, &settings);
	PASS(&run, BACKEND, 3, 2, "\0\0\0\1\0\0\0", 0);		/* in a transaction */
	assert_int_equal(run_may_heartbeat(&run, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
	PASS(&run, CLIENT, 0, 0, "\3select 1", 0);
	assert_int_equal(run_may_heartbeat(&run, BACKEND), HEARTBEAT_ONEWAY);
	run_end(&run);
}

/* A command before the reply to the login is not one of its packets. */
static void
test_an_early_command_keeps_its_number(void **state)
{
	struct run run;

	(void)state;
	for (size_t cut = 0; cut < 12; cut++) {
		open_login(&run, &all_legs[0], DATA(LOGIN("\202", NATIVE)), REACH_NETWORK, REACH_NETWORK);
		PASS(&run, CLIENT, 0, 0, "\3select 1", cut);
		PASS(&run, BACKEND, 3, 2, OK, cut);
		assert_string_equal(run.passthrough, "a command during the login");
		run_end(&run);
	}
}

static void
test_a_fin_in_the_login_passes_what_is_held(void **state)
{
	struct run run;

	(void)state;
	for (size_t len = 0; len < 12; len++) {
		size_t before;

		open_login(&run, &all_legs[0], DATA(LOGIN("\202", NATIVE)), REACH_NETWORK, REACH_NETWORK);
		before = run.got[CLIENT].len;
		run_feed(&run, BACKEND, "\7\0\0\3\376\0\0\2\0\0\0", len < 11 ? len : 10);
		run_fin(&run, BACKEND);
		assert_int_equal(run.got[CLIENT].len - before, len < 11 ? len : 10);
		run_end(&run);
	}
}

/* --- passwords that are not hashed --- */

enum verdict { PASSES, REFUSED, REFUSED_AT_FIRST };	/* by the server's packet, by the client's login */

#define TLS_BEHIND { { CLIENT_PLAIN, true, false }, false }
#define TLS_BEFORE { { CLIENT_MUST_TLS, false, false }, true }
#define TLS_BOTH { { CLIENT_MUST_TLS, true, false }, true }
#define TLS_NONE { { CLIENT_MAY_TLS, false, false }, false }

static const struct guarded {
	const char *name;
	struct legs legs;
	enum negotiation_reach client, backend;
	enum verdict full, sha256, clear;	/* caching_sha2_password's full authentication, ... */
} guarded[] = {
	{ "TLS behind", TLS_BEHIND, REACH_NETWORK, REACH_NETWORK, REFUSED, REFUSED, PASSES },
	{ "TLS behind, client on the host", TLS_BEHIND, REACH_LOOPBACK, REACH_NETWORK, REFUSED, REFUSED, PASSES },
	{ "TLS behind, client by a UNIX socket", TLS_BEHIND, REACH_UNIX, REACH_NETWORK, PASSES, PASSES, PASSES },
	{ "TLS on both", TLS_BOTH, REACH_NETWORK, REACH_NETWORK, PASSES, PASSES, PASSES },
	{ "TLS before", TLS_BEFORE, REACH_NETWORK, REACH_NETWORK, REFUSED, REFUSED, REFUSED },
	{ "TLS before, server on the host", TLS_BEFORE, REACH_NETWORK, REACH_LOOPBACK, REFUSED, REFUSED, PASSES },
	{ "TLS before, server by a UNIX socket", TLS_BEFORE, REACH_NETWORK, REACH_UNIX, PASSES, PASSES, PASSES },
	{ "none", TLS_NONE, REACH_NETWORK, REACH_NETWORK, PASSES, PASSES, PASSES },
	{ "none, server by a UNIX socket", TLS_NONE, REACH_NETWORK, REACH_UNIX, REFUSED, REFUSED, PASSES },
	{ "none, client by a UNIX socket", TLS_NONE, REACH_UNIX, REACH_NETWORK, REFUSED, REFUSED, PASSES },
};
#define N_GUARDED (sizeof(guarded) / sizeof(guarded[0]))

/* The flow ends at the server's request; the client gets an error, and what comes then goes nowhere. */
static void
expect_refused(struct run *run, uint8_t seq, uint8_t as, const void *payload, size_t len, size_t cut, const char *words)
{
	struct bytes b = { 0 };
	const size_t client = run->got[CLIENT].len, server = run->got[BACKEND].len;
	uint8_t text[CODEC_CLOSE_MESSAGE_MAX];
	struct bytes error = { .data = text };

	add(&b, seq, payload, len);
	if (cut > b.len)
		cut = b.len;
	if (cut > 0)
		run_feed(run, BACKEND, b.data, cut);
	run_feed(run, BACKEND, b.data + cut, b.len - cut);
	error.len = codec_mysql.close_message(run->state, CLIENT, NULL, text);
	expect_error(&error, 0, as, ER_SECURE_TRANSPORT_REQUIRED, words);
	assert_int_equal(codec_mysql.close_message(run->state, BACKEND, NULL, text), 0);
	run_feed(run, CLIENT, "\7\0\0\5secret", 11);
	run_feed(run, BACKEND, "\7\0\0\6" OK, 11);
	assert_int_equal(run->got[BACKEND].len, server);
	assert_int_equal(run->got[CLIENT].len, client);
	assert_int_equal(run_may_heartbeat(run, BACKEND), 0);
	assert_int_equal(run_may_heartbeat(run, CLIENT), 0);
	assert_null(run->passthrough);
	run_fin(run, CLIENT);
	run_fin(run, BACKEND);
	run_end(run);
	bytes_free(&b);
}

static void
expect_verdict(struct run *run, enum verdict wanted, uint8_t seq, uint8_t as, const void *payload, size_t len, size_t cut,
    const char *words)
{
	if (wanted == PASSES) {
		pass(run, BACKEND, seq, as, payload, len, cut);
		run_end(run);
	} else {
		expect_refused(run, seq, as, payload, len, cut, words);
	}
}

static void
test_what_a_server_asks_for_is_refused_where_it_cannot_pass(void **state)
{
	static const struct {
		const char *packet;
		size_t len;
		size_t verdict;		/* its place in a row of the table above */
		const char *words;
	} asks[] = {
		{ DATA("\376caching_sha2_password\0salt"), 0, NULL },
		{ DATA("\376sha256_password\0salt"), offsetof(struct guarded, sha256), "sha256_password works" },
		{ DATA("\2sha256_password\0salt"), offsetof(struct guarded, sha256), "sha256_password works" },
		{ DATA("\376mysql_clear_password\0"), offsetof(struct guarded, clear), "in the clear" },
		{ DATA("\376dialog\0\4Password: "), offsetof(struct guarded, clear), "in the clear" },
		{ DATA("\2some_method_that_nobody_here_knows\0"), offsetof(struct guarded, clear), "in the clear" },
		{ DATA("\376client_ed25519\0salt"), 0, NULL },
		{ DATA("\376authentication_kerberos_client\0salt"), 0, NULL },
		{ DATA("\376"), 0, NULL },
		{ DATA("\1\4"), 0, NULL },	/* of another method */
		{ DATA("\1\3"), 0, NULL },
	};
	struct run run;

	(void)state;
	for (size_t i = 0; i < N_GUARDED; i++)
		for (size_t k = 0; k < sizeof(asks) / sizeof(asks[0]); k++)
			for (size_t cut = 0; cut < 32; cut++) {
				const uint8_t c = guarded[i].legs.client_tls, b = guarded[i].legs.settings.backend;
				enum verdict v = PASSES;

				if (asks[k].verdict != 0)
					memcpy(&v, (const uint8_t *)&guarded[i] + asks[k].verdict, sizeof(v));
				open_login(&run, &guarded[i].legs, DATA(LOGIN("\202", NATIVE)), guarded[i].client, guarded[i].backend);
				expect_verdict(&run, v, b + 2, c + 2, asks[k].packet, asks[k].len, cut, asks[k].words);
			}
}

/* Named by the client, or by the server. The fast way always works. */
static void
test_the_full_authentication_of_caching_sha2_password(void **state)
{
	struct run run;

	(void)state;
	for (size_t i = 0; i < N_GUARDED; i++)
		for (int how = 0; how < 4; how++)
			for (size_t cut = 0; cut < 8; cut++) {
				const struct legs *legs = &guarded[i].legs;
				const enum negotiation_reach client = guarded[i].client, backend = guarded[i].backend;
				const uint8_t c = legs->client_tls, b = legs->settings.backend;
				uint8_t n = 2;

				if (how % 2 == 0) {
					open_login(&run, legs, DATA(LOGIN("\202", "caching_sha2_password")), client, backend);
				} else {
					open_login(&run, legs, DATA(LOGIN("\202", NATIVE)), client, backend);
					PASS(&run, BACKEND, b + 2, c + 2, "\376caching_sha2_password\0salt", cut);
					PASS(&run, CLIENT, c + 3, b + 3, "scrambled", cut);
					n = 4;
				}
				if (how < 2) {
					expect_verdict(&run, guarded[i].full, (uint8_t)(b + n), (uint8_t)(c + n), DATA(FULL), cut,
					    "wants the password itself");
				} else {
					PASS(&run, BACKEND, (uint8_t)(b + n), (uint8_t)(c + n), "\1\3", cut);
					PASS(&run, BACKEND, (uint8_t)(b + n + 1), (uint8_t)(c + n + 1), OK, cut);
					assert_int_equal(run_may_heartbeat(&run, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
					run_end(&run);
				}
			}
}

/* The client has sent a password in the clear with its login: it goes no further. */
static void
test_a_password_in_the_login_itself(void **state)
{
	static const struct {
		const char *login;
		size_t len, verdict;
	} logins[] = {
		{ DATA(LOGIN("\202", "mysql_clear_password")), offsetof(struct guarded, clear) },
		{ DATA(LOGIN("\202", "dialog")), offsetof(struct guarded, clear) },
		{ DATA(LOGIN("\202", "sha256_password")), offsetof(struct guarded, sha256) },
		{ DATA(CAPS("\202", "\50") REST "hb\0\4hashdialog\0"), offsetof(struct guarded, clear) },	/* lenenc */
		{ DATA("\15\202\10\0" REST "hb\0\4hashdb\0dialog\0"), offsetof(struct guarded, clear) },
		{ DATA("\15\2\10\0" REST "hb\0hash\0db\0dialog\0"), offsetof(struct guarded, clear) },
		{ DATA(CAPS("\202", "\10") REST "hb\0\377hash"), offsetof(struct guarded, clear) },		/* not understood */
		{ DATA(CAPS("\202", "\10") REST "hb\0\1\0sha256_password\0"), 0 },	/* no password */
		{ DATA(CAPS("\202", "\10") REST "hb\0\0dialog\0"), 0 },
		{ DATA(LOGIN("\202", "client_ed25519")), 0 },
		{ DATA(LOGIN("\202", "caching_sha2_password")), 0 },
		{ DATA(LOGIN_OF("\202", "\0", "")), 0 },
	};
	(void)state;
	for (size_t i = 0; i < N_GUARDED; i++)
		for (size_t k = 0; k < sizeof(logins) / sizeof(logins[0]); k++)
			for (size_t cut = 0; cut < 80; cut++) {
				struct negotiation_run r;
				enum verdict v = PASSES;

				if (logins[k].verdict != 0)
					memcpy(&v, (const uint8_t *)&guarded[i] + logins[k].verdict, sizeof(v));
				start(&r, &guarded[i].legs, guarded[i].client, guarded[i].backend);
				log_in(&r, &guarded[i].legs, logins[k].login, logins[k].len, cut);
				assert_int_equal(r.want, v == PASSES ? NEGOTIATION_DONE : NEGOTIATION_FAILED);
				assert_int_equal(r.got[BACKEND].len, (v == PASSES ? logins[k].len + 4 : 0) + (r.tls[BACKEND] ? 36 : 0));
				if (v != PASSES) {
					expect_error(&r.got[CLIENT], sizeof(GREETING(SSL_HIGH)) + 3, guarded[i].legs.client_tls ? 3 : 2,
					    ER_SECURE_TRANSPORT_REQUIRED, "refused by stent");
					assert_int_equal(r.side, CLIENT);
				}
				negotiation_run_end(&r);
			}
}

/* It is a login once more, and the reply to a ping may come before its first packet. */
static void
test_a_change_of_the_user_is_watched(void **state)
{
	struct run run;

	(void)state;
	for (int how = 0; how < 6; how++)
		for (size_t cut = 0; cut < 12; cut++) {
			open_login(&run, &all_legs[6], DATA(LOGIN("\202", NATIVE)), REACH_NETWORK, REACH_NETWORK);
			PASS(&run, BACKEND, 2, 3, OK, cut);
			if (how >= 3)
				run_heartbeat(&run, BACKEND, HEARTBEAT_PING);
			PASS(&run, CLIENT, 0, 0, "\21user\0\0", cut);
			if (how >= 3) {
				const size_t before = run.got[CLIENT].len;

				run_feed(&run, BACKEND, "\23\0\0\1Uptime: 9 Threads: 1", cut);
				run_feed(&run, BACKEND, (const uint8_t *)"\23\0\0\1Uptime: 9 Threads:" + cut, 23 - cut);
				assert_int_equal(run.got[CLIENT].len, before);
				assert_int_equal(run.replies[BACKEND], 1);
			}
			if (how % 3 == 0) {
				expect_refused(&run, 1, 1, DATA("\376dialog\0Password: "), cut, "in the clear");
			} else if (how % 3 == 1) {
				expect_refused(&run, 1, 1, DATA(FULL), cut, "wants the password itself");
			} else {
				PASS(&run, BACKEND, 1, 1, "\376" NATIVE "\0salt", cut);
				PASS(&run, CLIENT, 2, 2, "hash", cut);
				PASS(&run, BACKEND, 3, 3, OK, cut);
				assert_int_equal(run_may_heartbeat(&run, BACKEND), HEARTBEAT_ONEWAY | HEARTBEAT_PING);
				run_end(&run);
			}
		}
}

/* A server that ignores a ping does not get its request through for that. */
static void
test_a_request_in_place_of_the_reply_to_a_ping(void **state)
{
	struct run run;

	(void)state;
	for (size_t cut = 0; cut < 12; cut++) {
		open_login(&run, &all_legs[6], DATA(LOGIN("\202", NATIVE)), REACH_NETWORK, REACH_NETWORK);
		PASS(&run, BACKEND, 2, 3, OK, 0);
		run_heartbeat(&run, BACKEND, HEARTBEAT_PING);
		PASS(&run, CLIENT, 0, 0, "\21user\0\0", 0);
		expect_refused(&run, 1, 1, DATA("\376dialog\0Password: "), cut, "in the clear");
	}
}

/* Clients show 512 bytes of an error at most. */
static void
test_texts_of_refusals_are_short_enough(void **state)
{
	(void)state;
	for (int method = METHOD_HASHED; method <= METHOD_CLEAR; method++)
		for (unsigned guards = 0; guards < 8; guards++) {
			const char *text = mysql_method_refused((enum mysql_method)method, guards);

			assert_true(text == NULL || strlen(text) < 400);
			assert_true(method != METHOD_HASHED || text == NULL);
		}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets_are_renumbered_until_the_end_of_the_login),
		cmocka_unit_test(test_compression_begins_behind_the_login),
		cmocka_unit_test(test_the_settings_of_the_codec_stay),
		cmocka_unit_test(test_an_early_command_keeps_its_number),
		cmocka_unit_test(test_a_fin_in_the_login_passes_what_is_held),
		cmocka_unit_test(test_what_a_server_asks_for_is_refused_where_it_cannot_pass),
		cmocka_unit_test(test_the_full_authentication_of_caching_sha2_password),
		cmocka_unit_test(test_a_password_in_the_login_itself),
		cmocka_unit_test(test_a_change_of_the_user_is_watched),
		cmocka_unit_test(test_a_request_in_place_of_the_reply_to_a_ping),
		cmocka_unit_test(test_texts_of_refusals_are_short_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
