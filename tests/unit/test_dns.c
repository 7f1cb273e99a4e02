/* test_dns.c - facts about the messages of DNS. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "stent/dns.h"

#define ID 0x1234
#define NAME "\3www\4test"		/* and the NUL behind it, which is the root */
#define TARGET "\2db\4test"
#define AT_NAME "\300\014"		/* the name in the question */
#define TYPE_A "\0\1\0\1"
#define TYPE_AAAA "\0\34\0\1"
#define TYPE_CNAME "\0\5\0\1"
#define TTL "\0\0\0\74"

/* The header of a reply to a question for www.test: flags, and how many records of the answer. */
#define REPLY(flags, n) "\x12\x34" flags "\0\1\0" n "\0\0\0\0"
#define OK_FLAGS "\x81\x80"
#define QUESTION_A NAME "\0" TYPE_A
#define RECORD_A(owner, ip) owner TYPE_A TTL "\0\4" ip

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static uint8_t question[DNS_QUESTION_MAX];
static size_t question_len;
static struct dns_addresses found;

static enum dns_verdict
read_reply(const uint8_t *reply, size_t len)
{
	return dns_read_reply(question, question_len, reply, len, false, &found);
}

static int
ask_for_a(void **state)
{
	(void)state;
	question_len = (size_t)dns_write_question(question, ID, "www.test", DNS_A, NULL);
	return 0;
}

static void
test_a_question(void **state)
{
	static const char bytes[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0" QUESTION_A;

	(void)state;
	assert_int_equal(question_len, sizeof(bytes) - 1);
	assert_memory_equal(question, bytes, sizeof(bytes) - 1);
}

static void
test_random_bits_spell_the_name(void **state)
{
	static const uint8_t all[DNS_SPELLING_BYTES] = { 0xff, 0xff }, none[DNS_SPELLING_BYTES] = { 0 };
	uint8_t q[DNS_QUESTION_MAX];

	(void)state;
	assert_int_equal(dns_write_question(q, ID, "Www-1.Test", DNS_AAAA, all), 12 + 12 + 4);
	assert_memory_equal(q + 12, "\5WWW-1\4TEST\0\0\34\0\1", 16);
	dns_write_question(q, ID, "Www-1.Test", DNS_AAAA, none);
	assert_memory_equal(q + 12, "\5www-1\4test", 11);
	dns_write_question(q, ID, "Www-1.Test", DNS_AAAA, NULL);
	assert_memory_equal(q + 12, "\5Www-1\4Test", 11);
}

static void
test_invalid_names(void **state)
{
	char label[65], name[300];
	uint8_t q[DNS_QUESTION_MAX];

	(void)state;
	memset(label, 'x', 64);
	label[64] = '\0';
	assert_int_equal(dns_write_question(q, ID, label, DNS_A, NULL), -EINVAL);
	assert_true(dns_write_question(q, ID, label + 1, DNS_A, NULL) > 0);
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 == 0 ? 'x' : '.';
	name[255] = '\0';
	assert_int_equal(dns_write_question(q, ID, name, DNS_A, NULL), -EINVAL);
	name[253] = '\0';
	assert_int_equal(dns_write_question(q, ID, name, DNS_A, NULL), DNS_QUESTION_MAX);
	assert_int_equal(dns_write_question(q, ID, "", DNS_A, NULL), -EINVAL);
	assert_int_equal(dns_write_question(q, ID, "a..b", DNS_A, NULL), -EINVAL);
	assert_int_equal(dns_write_question(q, ID, ".a", DNS_A, NULL), -EINVAL);
	assert_int_equal(dns_write_question(q, ID, "a.", DNS_A, NULL), -EINVAL);
}

static void
test_addresses_are_found(void **state)
{
	(void)state;
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\2") QUESTION_A RECORD_A(AT_NAME, "\12\0\0\1") RECORD_A(AT_NAME, "\12\0\0\2"))),
	    DNS_FOUND);
	assert_int_equal(found.n, 2);
	assert_memory_equal(found.at[0], "\12\0\0\1", 4);
	assert_memory_equal(found.at[1], "\12\0\0\2", 4);
}

static void
test_addresses_of_version_6(void **state)
{
	(void)state;
	question_len = (size_t)dns_write_question(question, ID, "www.test", DNS_AAAA, NULL);
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\1") NAME "\0" TYPE_AAAA AT_NAME TYPE_AAAA TTL "\0\20"
	    "\375\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1")), DNS_FOUND);
	assert_int_equal(found.n, 1);
	assert_memory_equal(found.at[0], "\375\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
}

#define CHAINED REPLY(OK_FLAGS, "\2") QUESTION_A AT_NAME TYPE_CNAME TTL "\0\11" "\2DB\4test\0"

static void
test_a_chain_is_followed_to_its_end(void **state)
{
	(void)state;
	assert_int_equal(read_reply(BYTES(CHAINED RECORD_A(TARGET "\0", "\12\0\0\1"))), DNS_FOUND);
	assert_int_equal(found.n, 1);
	/* Addresses of a name that was not queried. */
	assert_int_equal(read_reply(BYTES(CHAINED RECORD_A("\2dx\4test\0", "\12\0\0\1"))), DNS_NONE);
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\1") QUESTION_A RECORD_A("\2dx\4test\0", "\12\0\0\1"))), DNS_NONE);
	/* A loop of CNAMEs. */
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\1") QUESTION_A AT_NAME TYPE_CNAME TTL "\0\2" AT_NAME)), DNS_NONE);
}

static void
test_replies_without_addresses(void **state)
{
	static const struct {
		const char *flags;
		enum dns_verdict verdict;
	} rows[] = {
		{ "\x81\x80", DNS_NONE }, { "\x81\x83", DNS_NONE },		/* no such type, no such name */
		{ "\x81\x81", DNS_FAILED }, { "\x81\x82", DNS_FAILED }, { "\x81\x84", DNS_FAILED }, { "\x81\x85", DNS_FAILED },
		{ "\x81\x00", DNS_FAILED }, { "\x85\x00", DNS_NONE },		/* a referral; an authoritative server */
		{ "\x83\x80", DNS_TRUNCATED }, { "\x01\x80", DNS_IGNORED }, { "\x91\x80", DNS_IGNORED },
	};
	uint8_t reply[] = REPLY("??", "\0") QUESTION_A;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memcpy(reply + 2, rows[i].flags, 2);
		assert_int_equal(read_reply(reply, sizeof(reply) - 1), rows[i].verdict);
	}
	/* An error without the question counts, an answer without it does not. */
	assert_int_equal(read_reply(BYTES("\x12\x34\x81\x85\0\0\0\0\0\0\0\0")), DNS_FAILED);
	assert_int_equal(read_reply(BYTES("\x12\x34\x81\x80\0\0\0\0\0\0\0\0")), DNS_IGNORED);
	assert_int_equal(read_reply(BYTES("\x12\x34\x81\x83\0\0\0\0\0\0\0\0")), DNS_IGNORED);
}

static void
test_what_fitted_into_a_truncated_reply(void **state)
{
	(void)state;
	assert_int_equal(read_reply(BYTES(REPLY("\x83\x80", "\1") QUESTION_A RECORD_A(AT_NAME, "\12\0\0\1"))), DNS_TRUNCATED);
	assert_int_equal(found.n, 1);
	assert_int_equal(read_reply(BYTES(REPLY("\x83\x80", "\2") QUESTION_A RECORD_A(AT_NAME, "\12\0\0\1"))), DNS_TRUNCATED);
	assert_int_equal(found.n, 0);
}

static void
test_a_reply_in_another_spelling(void **state)
{
	static const uint8_t reply[] = REPLY(OK_FLAGS, "\1") "\3wWw\4test\0" TYPE_A RECORD_A(AT_NAME, "\12\0\0\1");

	(void)state;
	assert_int_equal(read_reply(reply, sizeof(reply) - 1), DNS_RESPELLED);
	assert_int_equal(dns_read_reply(question, question_len, reply, sizeof(reply) - 1, true, &found), DNS_FOUND);
}

/* Cut anywhere, or with any byte changed, a reply gives no wrong address and does not end the search. */
static void
test_garbled_replies(void **state)
{
	static const uint8_t whole[] = CHAINED RECORD_A(TARGET "\0", "\12\0\0\1");
	const size_t len = sizeof(whole) - 1;
	uint8_t reply[sizeof(whole)];

	(void)state;
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(read_reply(whole, cut), DNS_IGNORED);
	for (size_t i = 0; i < question_len; i++) {
		memcpy(reply, whole, len);
		reply[i] ^= 0x0c;
		if (i != 2 && i != 3)		/* the flags */
			assert_int_equal(read_reply(reply, len), DNS_IGNORED);
	}
	for (size_t i = question_len; i < len; i++) {
		for (unsigned bits = 1; bits < 256; bits++) {
			memcpy(reply, whole, len);
			reply[i] = (uint8_t)(reply[i] ^ bits);
			assert_in_range(read_reply(reply, len), DNS_FOUND, DNS_IGNORED);
			assert_true(found.n <= 1);
		}
	}
	/* A compressed name that points at itself, and a record longer than the message. */
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\1") QUESTION_A RECORD_A("\300\032", "\12\0\0\1"))), DNS_IGNORED);
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\1") QUESTION_A AT_NAME TYPE_A TTL "\0\5\12\0\0\1")), DNS_IGNORED);
	assert_int_equal(read_reply(BYTES(REPLY(OK_FLAGS, "\1") QUESTION_A AT_NAME TYPE_A TTL "\0\3\12\0\0")), DNS_IGNORED);
}

static void
test_more_addresses_than_fit(void **state)
{
	static uint8_t reply[12 + 14 + 100 * 16] = REPLY(OK_FLAGS, "\144") QUESTION_A;
	static const char record[] = RECORD_A(AT_NAME, "\12\0\0\1");

	(void)state;
	for (size_t i = 0; i < 100; i++)
		memcpy(reply + 26 + i * 16, record, 16);
	assert_int_equal(read_reply(reply, sizeof(reply)), DNS_FOUND);
	assert_int_equal(found.n, DNS_ADDRESSES_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_question, ask_for_a),
		cmocka_unit_test(test_random_bits_spell_the_name),
		cmocka_unit_test(test_invalid_names),
		cmocka_unit_test_setup(test_addresses_are_found, ask_for_a),
		cmocka_unit_test(test_addresses_of_version_6),
		cmocka_unit_test_setup(test_a_chain_is_followed_to_its_end, ask_for_a),
		cmocka_unit_test_setup(test_replies_without_addresses, ask_for_a),
		cmocka_unit_test_setup(test_what_fitted_into_a_truncated_reply, ask_for_a),
		cmocka_unit_test_setup(test_a_reply_in_another_spelling, ask_for_a),
		cmocka_unit_test_setup(test_garbled_replies, ask_for_a),
		cmocka_unit_test_setup(test_more_addresses_than_fit, ask_for_a),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
