/* test_top.c - facts about the keys and the screen of `stent top`; stent's answers are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cli/top.h"
#include "cli/top_table.h"

#define FLOWS_MAX 100

const char *const top_orders[] = { "age", "new", "bytes", "idle", "rtt", "heartbeats", "protection", "route", NULL };

static struct top t;
static char *screen;
/* The stent that answers: its flows are those with the ids from 1 on, less the one that has ended. */
static int n_flows, ended, pid;
static const char *gone;	/* why it does not answer; NULL: it does */
static bool forgets_flows;	/* answers about itself only */
static char last_request[CONTROL_REQUEST_MAX];
static json_t *extra;		/* fields that each flow's client has as well */

static json_t *
make_flow(int id)
{
	return json_pack("{s:i, s:s, s:{s:s, s:O}, s:{s:s, s:s}}", "id", id, "route", "r\033[2J", "client", "address", "192.0.2.1:1", "x", extra,
	    "backend", "address", "10.0.0.7:1", "why_none", "no codec");
}

static json_t *
answer_flows(const char *request)
{
	const char *id = strstr(request, "id="), *limit = strstr(request, "limit=");
	const int most = limit != NULL ? atoi(limit + 6) : FLOWS_MAX;
	json_t *all = json_array(), *flow;

	for (int i = 1; i <= n_flows && (int)json_array_size(all) < most; i++)
		if (i != ended && (id == NULL || atoi(id + 3) == i)) {
			flow = make_flow(i);
			json_object_update(json_object_get(flow, "client"), extra);
			json_array_append_new(all, flow);
		}
	return all;
}

json_t *
control_client_try(const char *path, const char *request, char why[CONTROL_WHY_MAX])
{
	assert_string_equal(path, "control.sock");
	snprintf(last_request, sizeof(last_request), "%s", request);
	if (gone != NULL || (forgets_flows && strncmp(request, "status", 6) != 0)) {
		snprintf(why, CONTROL_WHY_MAX, "%s", gone != NULL ? gone : "too slow\033[2J");
		return NULL;
	}
	if (strncmp(request, "flows", 5) == 0)
		return answer_flows(request);
	if (strncmp(request, "kill ", 5) == 0) {
		if (atoi(request + 5) > n_flows) {
			snprintf(why, CONTROL_WHY_MAX, "no flow %s", request + 5);
			return NULL;
		}
		ended = atoi(request + 5);
		return json_object();
	}
	return json_pack("{s:s, s:f, s:i, s:i, s:i, s:b, s:{s:i, s:i}, s:{s:i, s:i, s:i}}", "version", "1", "uptime_seconds", (double)time(NULL),
	    "flows_open", n_flows, "flows_total", n_flows, "pid", pid, "draining", 1, "bytes", "client", 1000, "backend", 500,
	    "protection", "both", 1, "one", 2, "probes", 3);
}

static int
set_up(void **state)
{
	(void)state;
	t = (struct top){ .path = (char *)(uintptr_t)"control.sock" };
	n_flows = 3;
	ended = 0;
	pid = 7;
	gone = NULL;
	forgets_flows = false;
	extra = json_object();
	screen = NULL;
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	json_decref(extra);
	free(screen);
	return 0;
}

static void
draw(size_t lines)
{
	free(screen);
	screen = top_screen(&t, lines, 200);
	assert_non_null(screen);
	assert_null(strstr(screen, "\033[2J"));		/* what comes from outside does not control the terminal */
}

#define assert_shown(text) assert_non_null(strstr(screen, text))

/* Presses keys as top.c does: the screen is drawn where they wait for it. */
static bool
press(const char *keys)
{
	size_t n = strlen(keys);

	while (n > 0) {
		const size_t taken = top_keys(&t, keys, n);

		if (taken == 0)
			return false;
		assert_true(taken <= n);
		keys += taken;
		n -= taken;
		draw(24);
	}
	return true;
}

static void
test_the_selected_line_moves(void **state)
{
	(void)state;
	n_flows = 50;
	draw(17);
	assert_int_equal(t.selected, 1);
	press("\033[B\033OB");
	assert_int_equal(t.selected, 3);
	press("\033[A");
	assert_int_equal(t.selected, 2);
	press("\033[A\033OA\033[A");
	assert_int_equal(t.selected, 1);
	press("\033[6~");
	assert_int_equal(t.selected, 1 + 16);
	press("\033[5~\033[5~");
	assert_int_equal(t.selected, 1);
	press("\033[F");
	assert_int_equal(t.selected, 50);
	assert_int_equal(t.first, 50 - 17);
	press("\033[H");
	assert_int_equal(t.selected, 1);
	press("\033[4~\033[1~\033OF\033OH");
	assert_int_equal(t.selected, 1);
}

/* Other sequences of a terminal mean nothing, however long; a single ESC does. */
static void
test_unknown_sequences_are_skipped(void **state)
{
	(void)state;
	draw(24);
	assert_true(press("\033[15;2~\033OP\033[1;5D"));
	assert_int_equal(t.selected, 1);
	assert_int_equal(t.mode, TOP_LIST);
	assert_true(press("\033["));
}

static void
test_orders(void **state)
{
	(void)state;
	assert_true(press("b"));
	assert_int_equal(t.order, 2);
	assert_shown("\033[7mb bytes\033[0m");
	assert_non_null(strstr(last_request, "sort=bytes"));
	press(">");
	assert_int_equal(t.order, 3);
	press("<<<<");
	assert_int_equal(t.order, 7);
	press(">");
	assert_int_equal(t.order, 0);
}

static void
test_a_filter_is_typed(void **state)
{
	(void)state;
	press("/w x\b");
	assert_shown("filter: w ");
	press("y\177z\t");
	assert_string_equal(t.filter, "w z");
	assert_non_null(strstr(last_request, "text=w+z"));
	press("\r");
	assert_int_equal(t.mode, TOP_LIST);
	assert_shown("filter: w z");
	press("/\033");
	assert_string_equal(t.filter, "");
	press("/\b\n");
	assert_int_equal(t.mode, TOP_LIST);
	press("/");
	for (int i = 0; i < 2 * TOP_FILTER_MAX; i++)
		press("f");
	assert_int_equal(strlen(t.filter), TOP_FILTER_MAX - 1);
	press("\r\033");
	assert_string_equal(t.filter, "");
}

/* A question stands between the key and the end of a flow, and names the flow that was selected then. */
static void
test_a_flow_is_ended(void **state)
{
	(void)state;
	draw(24);
	press("\033[Bk");
	assert_shown("end flow 2 (route r?[2J, client 192.0.2.1:1)? y/n");
	press("n");
	assert_shown("not ended");
	assert_int_equal(ended, 0);
	press("ky");
	assert_int_equal(ended, 2);
	assert_shown("flow 2 is ended");
	press("\033[A");
	t.asked = 99;
	t.mode = TOP_KILL;
	press("Y");
	assert_shown("no flow 99");
}

/* Keys behind one that moves the selection wait until the screen has found it. */
static void
test_keys_wait_for_the_selection(void **state)
{
	(void)state;
	draw(24);
	assert_int_equal(top_keys(&t, "\033[Bk", 4), 3);
	draw(24);
	assert_int_equal(top_keys(&t, "k", 1), 1);
	assert_int_equal(t.asked, 2);
}

static void
test_nothing_is_selected_where_there_is_no_flow(void **state)
{
	(void)state;
	n_flows = 0;
	draw(24);
	press("fk\033[B");
	assert_int_equal(t.mode, TOP_LIST);
	assert_false(t.follows);
	assert_int_equal(t.selected, 0);
}

/* A followed flow is shown although it is below the others, in its place while it is among them, and until it ends. */
static void
test_a_followed_flow(void **state)
{
	(void)state;
	n_flows = 60;
	draw(24);
	press("\033[F");
	draw(24);
	press("f");
	assert_true(t.follows);
	assert_int_equal(t.selected, 60);
	t.first = t.cursor = 0;
	draw(24);
	assert_int_equal(t.selected, 60);
	assert_int_equal(t.cursor, 0);
	assert_shown("following 60");
	press("\033[H");
	assert_false(t.follows);
	press("\033[B\033[BF");
	assert_int_equal(t.selected, 3);
	ended = 1;
	draw(24);
	assert_int_equal(t.selected, 3);
	assert_int_equal(t.cursor, 1);
	ended = 3;
	draw(24);
	assert_false(t.follows);
	assert_shown("flow 3, which was followed, has ended");
	press("f");
	assert_true(t.follows);
	press("\033");
	assert_false(t.follows);
	press("ff");
	assert_false(t.follows);
}

static void
test_a_stent_that_does_not_list_flows(void **state)
{
	(void)state;
	forgets_flows = true;
	draw(24);
	assert_shown("too slow?[2J");
	assert_shown("q quits");
}

/* A followed flow is followed further, unless it is another stent that answers. */
static void
test_a_stent_that_goes_and_comes_back(void **state)
{
	(void)state;
	draw(24);
	press("/");
	gone = "cannot connect";
	draw(24);
	assert_shown("cannot connect");
	assert_int_equal(t.selected, 0);
	assert_int_equal(t.mode, TOP_LIST);
	gone = NULL;
	draw(24);
	assert_shown("stent answers again");
	press("\033[Bf");
	gone = "too slow";
	draw(24);
	gone = NULL;
	draw(24);
	assert_shown("stent answers again");
	assert_true(t.follows);
	assert_int_equal(t.selected, 2);
	pid = 8;
	draw(24);
	assert_shown("stent was started again, pid 8");
	assert_false(t.follows);
}

static void
test_the_legs_of_the_selected_flow(void **state)
{
	(void)state;
	json_object_set_new(extra, "heartbeats", json_integer(5));
	json_object_set_new(extra, "pings", json_integer(4));
	json_object_set_new(extra, "replies", json_integer(3));
	json_object_set_new(extra, "rtt_ms", json_real(12));
	json_object_set_new(extra, "detect_too_short", json_true());
	json_object_set_new(extra, "tls", json_string("TLSv1.3"));
	json_object_set_new(extra, "resumed", json_true());
	draw(24);
	assert_shown("5 heartbeats, 3 replies, round trip 12ms (too long for detect), TLSv1.3 - resumed");
	assert_shown("no heartbeats: no codec");
	assert_shown("4 (3 replies)");
	draw(7);	/* no room for them */
	assert_null(strstr(screen, "no heartbeats: no codec\033"));
}

/* The state of a leg as the table has it. */
static void
test_liveness(void **state)
{
	static const struct {
		const char *verdict;
		int misses, misses_max, probes, probes_max;
		const char *shown;
	} rows[] = {
		{ "probing", 1, 3, 0, 0, "pinging 2 of 3" },
		{ "probing", 1, 0, 0, 0, "pinging 2 " },
		{ "probing", 0, 0, 4, 6, "probing 4 of 6" },
		{ "alive", 0, 0, 0, 0, "alive 0.0s" },
		{ "silent", 0, 0, 0, 0, "silent 0.0s" },
		{ "paused", 0, 0, 0, 0, "paused" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_object_set_new(extra, "verdict", json_string(rows[i].verdict));
		json_object_set_new(extra, "misses", json_integer(rows[i].misses));
		json_object_set_new(extra, "misses_max", json_integer(rows[i].misses_max));
		json_object_set_new(extra, "probes", json_integer(rows[i].probes));
		json_object_set_new(extra, "probes_max", json_integer(rows[i].probes_max));
		draw(24);
		assert_shown(rows[i].shown);
	}
}

static void
test_the_end(void **state)
{
	(void)state;
	draw(24);
	assert_false(press("\033[Bq"));
	t.mode = TOP_FILTER;
	assert_true(press("q\r"));
	assert_string_equal(t.filter, "q");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_selected_line_moves),
		TEST(test_unknown_sequences_are_skipped),
		TEST(test_orders),
		TEST(test_a_filter_is_typed),
		TEST(test_a_flow_is_ended),
		TEST(test_keys_wait_for_the_selection),
		TEST(test_nothing_is_selected_where_there_is_no_flow),
		TEST(test_a_followed_flow),
		TEST(test_a_stent_that_does_not_list_flows),
		TEST(test_a_stent_that_goes_and_comes_back),
		TEST(test_the_legs_of_the_selected_flow),
		TEST(test_liveness),
		TEST(test_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
