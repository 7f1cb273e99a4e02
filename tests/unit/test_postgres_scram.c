/*
 * test_postgres_scram.c - the one name that is struck from a PostgreSQL
 * server's list of login methods, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "postgres_bytes.h"

#define SASL(len, list) "R\0\0\0" len "\0\0\0\x0a" list
#define PLUS "SCRAM-SHA-256-PLUS\0"	/* 19 */
#define SCRAM "SCRAM-SHA-256\0"		/* 14 */
#define OAUTH "OAUTHBEARER\0"		/* 12 */
#define CONTINUE "R\0\0\0\x0c\0\0\0\x0br=ab"
#define FINAL "R\0\0\0\x0c\0\0\0\x0cv=ab"
#define CHOICE(letter) "p\0\0\0\x1bSCRAM-SHA-256\0\0\0\0\5" letter ",,n="
#define LIST_ROOM 108	/* bytes of names that the codec holds */
#define REFUSED "*"	/* an ErrorResponse in its place */

static const struct codec_tls plain = { .leg = { false, true } }, other = { .leg = { true, true } },
    same = { .leg = { true, true }, .same_certificate = true }, none_behind = { .leg = { true, false } };

struct list {
	const char *sent;
	size_t sent_len;
	const char *got;
	size_t got_len;
};

#define LIST(sent, got) { (sent), sizeof(sent) - 1, (got), sizeof(got) - 1 }
#define KEPT(sent) LIST(sent, sent)

static const struct list lists[] = {
	LIST(SASL("\x2a", PLUS SCRAM "\0"), SASL("\x17", SCRAM "\0")),
	LIST(SASL("\x2a", SCRAM PLUS "\0"), SASL("\x17", SCRAM "\0")),
	LIST(SASL("\x36", OAUTH PLUS SCRAM "\0"), SASL("\x23", OAUTH SCRAM "\0")),
	LIST(SASL("\x3d", PLUS SCRAM PLUS "\0"), SASL("\x17", SCRAM "\0")),
	LIST(SASL("\x1c", PLUS "\0"), REFUSED),
	KEPT(SASL("\x17", SCRAM "\0")),
	KEPT(SASL("\x2b", "SCRAM-SHA-256-PLUSX\0" SCRAM "\0")),
	KEPT(SASL("\x2b", "XSCRAM-SHA-256-PLUS\0" SCRAM "\0")),
	KEPT(SASL("\x2a", "scram-sha-256-plus\0" SCRAM "\0")),
	KEPT(SASL("\x2a", PLUS "\0" SCRAM)),	/* it ends before its end */
	KEPT(SASL("\x1b", PLUS)),		/* it does not end */
	KEPT(SASL("\x1a", "SCRAM-SHA-256-PLUS")),
	KEPT(SASL("\x09", "\0")),
	KEPT(SASL("\x08", "")),
	KEPT("R\0\0\0\x2a\0\0\0\x0b" PLUS SCRAM "\0"),	/* no list */
	KEPT("R\0\0\0\x0c\0\0\0\5salt"),
	KEPT(AUTH_OK),
};

#define N_LISTS (sizeof(lists) / sizeof(lists[0]))

static void
begin(struct run *r, const struct codec *codec, const struct codec_tls *tls)
{
	run_start(r, codec, &on);
	codec->tls(r->state, tls);
	FEED(r, CLIENT, STARTUP);
}

static void
feed_cut(struct run *r, const char *p, size_t len, size_t cut)
{
	for (size_t i = 0; i < len && cut == 0; i++)
		run_feed(r, BACKEND, p + i, 1);
	if (cut > 0) {
		run_feed(r, BACKEND, p, cut);
		run_feed(r, BACKEND, p + cut, len - cut);
	}
}

static void
expect(const struct bytes *got, size_t from, const char *wanted, size_t len)
{
	assert_int_equal(got->len - from, len);
	assert_memory_equal(got->data + from, wanted, len);
}

static void
expect_refusal(const struct run *r)
{
	const struct bytes *got = &r->got[CLIENT];

	assert_int_equal(got->data[0], 'E');
	assert_int_equal((size_t)got->data[3] << 8 | got->data[4], got->len - 1);
	assert_memory_equal(got->data + 5, "SFATAL\0VFATAL\0C28000\0M", 22);
	assert_int_equal(got->data[got->len - 1], 0);
	assert_non_null(r->passthrough);
}

/* The list, and after it the rest of a login, which comes out as it went in. */
static void
login(const struct list *list, const struct codec *codec, const struct codec_tls *tls, size_t cut)
{
	struct run r;
	size_t at;

	begin(&r, codec, tls);
	feed_cut(&r, list->sent, list->sent_len, cut);
	if (list->got[0] == '*') {
		expect_refusal(&r);
		run_end(&r);
		return;
	}
	expect(&r.got[CLIENT], 0, list->got, list->got_len);
	assert_null(r.passthrough);
	FEED(&r, CLIENT, CHOICE("n"));
	at = r.got[CLIENT].len;
	feed_cut(&r, CONTINUE FINAL LOGIN, sizeof(CONTINUE FINAL LOGIN) - 1, cut);
	expect(&r.got[CLIENT], at, CONTINUE FINAL LOGIN, sizeof(CONTINUE FINAL LOGIN) - 1);
	expect(&r.got[BACKEND], 0, STARTUP CHOICE("n"), sizeof(STARTUP CHOICE("n")) - 1);
	assert_int_equal(run_may_heartbeat(&r, BACKEND), BOTH);
	assert_int_equal(run_may_heartbeat(&r, CLIENT), ONEWAY);
	run_end(&r);
}

static void
test_the_name_is_struck_wherever_it_is_and_the_list_is_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_LISTS; i++)
		for (size_t cut = 0; cut <= lists[i].sent_len; cut++) {
			login(&lists[i], &codec_postgres, &plain, cut);
			login(&lists[i], &codec_postgres, &other, cut);
		}
}

static void
test_auto_strikes_it_too(void **state)
{
	(void)state;
	login(&lists[0], &codec_auto, &plain, 7);
}

static void
test_it_is_left_in_where_it_can_work_or_is_not_meant_for_us(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_LISTS; i++) {
		const struct list kept = { lists[i].sent, lists[i].sent_len, lists[i].sent, lists[i].sent_len };

		login(&kept, &codec_postgres, &same, 0);
		login(&kept, &codec_postgres, &none_behind, 0);
	}
}

/* After the login nothing looks like a list. */
static void
test_nothing_is_struck_after_the_login(void **state)
{
	struct run r;
	size_t at;

	(void)state;
	begin(&r, &codec_postgres, &plain);
	FEED(&r, BACKEND, LOGIN);
	at = r.got[CLIENT].len;
	feed_cut(&r, lists[0].sent, lists[0].sent_len, 0);
	expect(&r.got[CLIENT], at, lists[0].sent, lists[0].sent_len);
	run_end(&r);
}

/* It is passed on as far as it came. */
static void
test_a_list_that_does_not_arrive_whole_is_not_lost(void **state)
{
	struct run r;

	(void)state;
	for (size_t cut = 1; cut < lists[0].sent_len; cut++) {
		begin(&r, &codec_postgres, &plain);
		feed_cut(&r, lists[0].sent, cut, 0);
		run_fin(&r, BACKEND);
		expect(&r.got[CLIENT], 0, lists[0].sent, cut);
		run_end(&r);
	}
}

/* The client becomes unreadable while the list is held: it comes out, and only then the codec steps aside. */
static void
test_a_list_is_not_lost_when_the_client_is_not_understood(void **state)
{
	struct run r;

	(void)state;
	for (size_t cut = 1; cut < lists[0].sent_len; cut++) {
		begin(&r, &codec_postgres, &plain);
		feed_cut(&r, lists[0].sent, cut, 0);
		FEED(&r, CLIENT, "\xff\xff\xff\xff\xff");
		feed_cut(&r, lists[0].sent + cut, lists[0].sent_len - cut, 0);
		expect(&r.got[CLIENT], 0, lists[0].sent, lists[0].sent_len);
		assert_non_null(r.passthrough);
		run_end(&r);
	}
}

/* The name at the end of a list that is as long as can be held, and of one that is a byte longer. */
static void
test_a_list_too_long_is_left_alone(void **state)
{
	char list[LIST_ROOM + 64] = "R\0\0\0\0\0\0\0\x0a";
	struct run r;

	(void)state;
	for (size_t len = LIST_ROOM - 1; len <= LIST_ROOM + 1; len++) {
		const size_t first = len - 1 - sizeof(PLUS) + 1;	/* a name before it */

		memset(list + 9, 'x', len);
		list[4] = (char)(8 + len);
		list[9 + first - 1] = '\0';
		memcpy(list + 9 + first, PLUS, sizeof(PLUS));
		begin(&r, &codec_postgres, &plain);
		feed_cut(&r, list, 9 + len, 0);
		assert_int_equal(r.got[CLIENT].len, 9 + (len > LIST_ROOM ? len : first + 1));
		run_end(&r);
	}
}

static void
expect_note(const struct codec_tls *tls, const char *choice, size_t len, bool is_noted)
{
	struct codec_out *out = calloc(1, sizeof(*out));
	void *pg = calloc(1, codec_postgres.state_size);

	assert_non_null(out);
	assert_non_null(pg);
	(void)codec_postgres.configure(pg, &on);
	codec_postgres.tls(pg, tls);
	codec_postgres.feed(pg, CLIENT, (const uint8_t *)STARTUP, sizeof(STARTUP) - 1, out);
	codec_postgres.feed(pg, BACKEND, (const uint8_t *)lists[0].sent, lists[0].sent_len, out);
	assert_null(out->note);
	codec_out_clear(out);
	codec_postgres.feed(pg, CLIENT, (const uint8_t *)choice, len, out);
	assert_int_equal(out->note != NULL && strstr(out->note, "channel_binding=disable") != NULL, is_noted);
	free(pg);
	free(out);
}

/* Such a client is refused by the server; the log says what helps. */
static void
test_a_client_that_misses_channel_binding_is_noted(void **state)
{
	(void)state;
	expect_note(&other, CHOICE("y"), sizeof(CHOICE("y")) - 1, true);
	expect_note(&other, CHOICE("n"), sizeof(CHOICE("n")) - 1, false);
	expect_note(&same, CHOICE("y"), sizeof(CHOICE("y")) - 1, false);
	expect_note(&other, "p\0\0\0\7yy\0", 8, false);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_name_is_struck_wherever_it_is_and_the_list_is_cut),
		cmocka_unit_test(test_auto_strikes_it_too),
		cmocka_unit_test(test_it_is_left_in_where_it_can_work_or_is_not_meant_for_us),
		cmocka_unit_test(test_nothing_is_struck_after_the_login),
		cmocka_unit_test(test_a_list_that_does_not_arrive_whole_is_not_lost),
		cmocka_unit_test(test_a_list_is_not_lost_when_the_client_is_not_understood),
		cmocka_unit_test(test_a_list_too_long_is_left_alone),
		cmocka_unit_test(test_a_client_that_misses_channel_binding_is_noted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
