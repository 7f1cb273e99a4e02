/*
 * test_codec.c - the table of codecs, the emitting of bytes, and the harness
 * itself: a toy codec that keeps the contract passes, and each way of breaking
 * it is caught.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec_harness.h"

/*
 * The toy: messages end with '.'. One-way is "t.", ping (to the backend) is "?.",
 * which is replied to by "!.". A message that starts with 'L' leads to passthrough, one that
 * starts with 'D' has nothing of interest from there on.
 */
enum bug {
	BUG_NONE,
	BUG_LOSES_HELD_AT_FIN,
	BUG_PASSTHROUGH_TOO_EARLY,
	BUG_LEAVES_ANSWER,
	BUG_TAKES_ANY_ANSWER,
	BUG_WRITES_PAST_STATE,
	BUG_KEEPS_POINTER,
	BUG_READS_BEYOND_CONSUMED,
	BUG_BOUNDARY_AT_CUT,
	BUG_CHANGES_CONST,
	BUG_STALLS,
	BUG_MISCOUNTS_SKIPPED,
	BUG_UNKNOWN_KIND,
	BUG_COUNT
};

static enum bug bug;

struct toy {
	bool inside[2], held, passthrough, dull[2];
	unsigned outstanding, skipped;
	const struct toy *self;
};

static bool
toy_configure(void *state, const struct codec_settings *settings)
{
	struct toy *t = state;

	(void)settings;
	t->self = bug == BUG_KEEPS_POINTER ? t : NULL;
	if (bug == BUG_WRITES_PAST_STATE)
		memset(t + 1, 0, 1);
	return true;
}

/* The one byte that is held back is a '!' at the start of a message of the backend. */
static void
toy_pass(struct toy *t, enum side from, const uint8_t *b, struct codec_out *out)
{
	bool first = !t->inside[from];

	t->inside[from] = *b != '.';
	if (from == BACKEND && first && *b == '!' && (t->outstanding > 0 || bug == BUG_TAKES_ANY_ANSWER) &&
	    bug != BUG_LEAVES_ANSWER) {
		t->held = true;
		return;
	}
	if (from == BACKEND && t->held) {
		t->held = false;
		if (*b == '.') {
			t->outstanding -= t->outstanding > 0;
			out->replies++;
			return;
		}
		codec_emit_copy(out, "!", 1);
	}
	codec_emit(out, b, 1);
	t->dull[from] |= first && *b == 'D';
}

static void
toy_byte(struct toy *t, enum side from, const uint8_t *b, struct codec_out *out)
{
	t->passthrough |= !t->inside[from] && *b == 'L';
	toy_pass(t, from, b, out);
	if (t->passthrough && (t->outstanding == 0 || bug == BUG_PASSTHROUGH_TOO_EARLY))
		out->passthrough = "the toy met an L";
}

static size_t
toy_feed(void *state, enum side from, const uint8_t *buf, size_t len, struct codec_out *out)
{
	struct toy *t = state;
	size_t i;

	if (bug == BUG_STALLS && len > 3)
		return 0;
	for (i = 0; i < len && codec_out_has_room(out) && out->passthrough == NULL; i++) {
		if (t->self != NULL && t->self != t)
			codec_emit(out, (const uint8_t *)t->self, 1);
		toy_byte(t, from, buf + i, out);
	}
	if (bug == BUG_BOUNDARY_AT_CUT)
		t->inside[from] = false;
	if (bug == BUG_READS_BEYOND_CONSUMED && i == len && i > 2) {
		out->n_spans = 0;
		codec_emit(out, buf, len);
		i--;
	}
	return i;
}

static void
toy_finish(void *state, enum side from, struct codec_out *out)
{
	struct toy *t = state;

	if (from == CLIENT || !t->held)
		return;
	t->held = false;
	if (bug != BUG_LOSES_HELD_AT_FIN)
		codec_emit_copy(out, "!", 1);
}

static uint64_t
toy_skippable(const void *state, enum side from)
{
	const struct toy *t = state;

	return t->dull[from] && t->outstanding == 0 ? UINT64_MAX : 0;
}

static void
toy_skipped(void *state, enum side from, uint64_t n)
{
	struct toy *t = state;

	t->skipped += (unsigned)n;
	if (bug == BUG_MISCOUNTS_SKIPPED)
		t->dull[from] = false;
}

static unsigned
toy_may_heartbeat(const void *state, enum side to)
{
	const struct toy *t = state;

	if (bug == BUG_CHANGES_CONST)
		((struct toy *)(uintptr_t)t)->skipped++;
	if (bug == BUG_UNKNOWN_KIND && !t->inside[BACKEND])
		return HEARTBEAT_PING;
	if (t->passthrough)
		return 0;
	if (to == CLIENT)
		return t->inside[BACKEND] || t->dull[BACKEND] ? 0 : HEARTBEAT_ONEWAY;
	return t->inside[CLIENT] || t->dull[CLIENT] || t->dull[BACKEND] ? 0 : HEARTBEAT_ONEWAY | HEARTBEAT_PING;
}

static size_t
toy_heartbeat(void *state, enum side to, enum heartbeat_kind kind, uint8_t buf[CODEC_HEARTBEAT_MAX])
{
	struct toy *t = state;

	(void)to;
	t->outstanding += kind == HEARTBEAT_PING;
	memcpy(buf, kind == HEARTBEAT_PING ? "?." : "t.", 2);
	return 2;
}

static const struct codec toy = {
	.name = "toy",
	.state_size = sizeof(struct toy),
	.leg = { { .kinds = HEARTBEAT_ONEWAY }, { .kinds = HEARTBEAT_ONEWAY | HEARTBEAT_PING } },
	.configure = toy_configure,
	.feed = toy_feed,
	.finish = toy_finish,
	.skippable = toy_skippable,
	.skipped = toy_skipped,
	.may_heartbeat = toy_may_heartbeat,
	.heartbeat = toy_heartbeat,
};

static size_t
toy_reply(const struct codec_settings *settings, enum side side, const uint8_t *heartbeat,
    size_t len, uint8_t reply[PEER_REPLY_MAX])
{
	(void)settings;
	if (side != BACKEND || len != 2 || heartbeat[0] != '?')
		return 0;
	memcpy(reply, "!.", 2);
	return 2;
}

static const struct codec_peer toy_peer = { .codec = "toy", .reply = toy_reply };

static const struct step talk[] = {
	STEP(CLIENT, "hello."), STEP(BACKEND, "!x.one."), STEP(BACKEND, "two."), STEP(CLIENT, "more."),
	STEP(BACKEND, "three!."), FIN(CLIENT), STEP(BACKEND, "!"),
};
static const struct step dull[] = {
	STEP(CLIENT, "hello."), STEP(BACKEND, "a.Dull matter."), STEP(CLIENT, "b.D and. dull."),
	FIN(BACKEND),
};
static const struct step answer_of_its_own[] = {
	STEP(CLIENT, "?."), STEP(BACKEND, "!."), STEP(CLIENT, "x."),
};
static const struct step lost[] = {
	STEP(CLIENT, "x."), STEP(BACKEND, "y."), STEP(BACKEND, "Lost."), STEP(BACKEND, "!q."), STEP(CLIENT, "z."),
};

#define TOY(n, array, why) \
	{ .name = (n), .codec = &toy, .peer = &toy_peer, TRANSCRIPT_STEPS(array), .passthrough = (why) }

static const struct transcript transcripts[] = {
	TOY("talk", talk, NULL), TOY("dull", dull, NULL), TOY("lost", lost, "met an L"),
};
static const struct transcript own = TOY("own", answer_of_its_own, NULL);

static void
test_good_codec_passes(void **unused)
{
	struct tally t = codec_check(&transcripts[0]);

	(void)unused;
	assert_int_equal(t.moments[CLIENT][HEARTBEAT_ONEWAY], 17);	/* start, each byte of the client, each message of the backend, a FIN */
	assert_true(t.moments[BACKEND][HEARTBEAT_PING] > 0);
	assert_int_equal(t.replies[BACKEND], t.moments[BACKEND][HEARTBEAT_PING]);
	t = codec_check(&transcripts[1]);
	assert_true(t.skipped > 0);
	codec_check(&transcripts[2]);
}

/* Without a core file and without its message: it is expected. */
static bool
is_caught(const struct transcript *t, size_t n)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(2);
		for (size_t i = 0; i < n; i++)
			codec_check(&t[i]);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void
test_each_broken_codec_is_caught(void **unused)
{
	(void)unused;
	assert_false(is_caught(transcripts, 3));
	assert_false(is_caught(&own, 1));
	for (bug = BUG_NONE + 1; bug < BUG_COUNT; bug++)
		if (!is_caught(transcripts, 3) && !is_caught(&own, 1))
			fail_msg("bug %d was not caught", (int)bug);
	bug = BUG_NONE;
}

static void
test_wrong_expectation_of_letting_go_is_caught(void **unused)
{
	struct transcript t = transcripts[2];

	(void)unused;
	t.passthrough = NULL;
	assert_true(is_caught(&t, 1));
	t = transcripts[0];
	t.passthrough = "met an L";
	assert_true(is_caught(&t, 1));
}

static void
test_pieces_that_continue_join(void **unused)
{
	static struct codec_out out;
	static const uint8_t data[] = "abcdef";

	(void)unused;
	codec_emit(&out, data, 2);
	codec_emit(&out, data + 2, 2);
	codec_emit(&out, data + 5, 1);
	codec_emit(&out, data, 0);
	assert_int_equal(out.n_spans, 2);
	assert_int_equal(out.spans[0].iov_len, 4);
	codec_emit_copy(&out, "xy", 2);
	assert_int_equal(out.n_spans, 3);
	assert_memory_equal(out.spans[2].iov_base, "xy", 2);
	assert_true(codec_out_has_room(&out));
	codec_out_clear(&out);
	assert_int_equal(out.n_spans, 0);
	out.scratch_used = CODEC_SCRATCH - CODEC_STATE_MAX + 1;
	assert_false(codec_out_has_room(&out));
	out.scratch_used = 0;
	out.n_spans = CODEC_SPANS - 3;
	assert_false(codec_out_has_room(&out));
}

static void
test_table_is_found_by_name(void **unused)
{
	size_t n;

	(void)unused;
	for (n = 0; codec_at(n) != NULL; n++) {
		assert_ptr_equal(codec_find(codec_at(n)->name), codec_at(n));
		assert_true(codec_at(n)->state_size <= CODEC_STATE_MAX);
		assert_true(strlen(codec_at(n)->summary) > 0);
		for (int s = 0; s < 2; s++)
			if (codec_at(n)->leg[s].kind != 0)
				assert_true((codec_at(n)->leg[s].kinds & codec_at(n)->leg[s].kind) != 0);
	}
	assert_null(codec_find("tcp"));
	assert_null(codec_find(""));
	assert_null(codec_at(n + 1000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_codec_passes),
		cmocka_unit_test(test_each_broken_codec_is_caught),
		cmocka_unit_test(test_wrong_expectation_of_letting_go_is_caught),
		cmocka_unit_test(test_pieces_that_continue_join),
		cmocka_unit_test(test_table_is_found_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
