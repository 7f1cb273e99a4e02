/*
 * test_captures.c - what real programs said to each other (tests/captures,
 * written by its record.py), played in every way: Node's ws, http and
 * eventsource, python's websockets and http.client, curl, nginx on both of its
 * sides, Chromium.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codecs.h"
#include "script.h"

#define STEP_MAX 8192

/* Bytes of one side that follow each other are one step: whole messages. */
static void
load(struct script *s, FILE *f)
{
	uint8_t step[STEP_MAX];
	size_t n = 0;
	int what = fgetc(f), last = -1;

	assert_int_equal(what, 0);	/* settings */
	while ((what = fgetc(f)) != EOF) {
		if (n > 0 && what != last) {
			script_bytes(s, (enum side)(last & 1), step, n);
			n = 0;
		}
		last = what;
		if (what == 0x06 || what == 0x0e) {
			script_fin(s, what == 0x06 ? CLIENT : BACKEND);
			continue;
		}
		assert_true(what == 0x10 || what == 0x11);
		size_t len = (size_t)fgetc(f) + 1;
		assert_true(n + len <= sizeof(step) && fread(step + n, 1, len, f) == len);
		n += len;
	}
	assert_int_equal(n, 0);	/* a FIN ends it */
}

/* Plays all of a folder; returns how many heartbeats of this kind could go to the client, fed bytewise. */
static unsigned
play_all(const char *folder, const struct codec *codec, enum heartbeat_kind kind)
{
	struct dirent **entries;
	char path[512];
	unsigned moments = 0;
	int n;

	snprintf(path, sizeof(path), CAPTURES "/%s", folder);
	n = scandir(path, &entries, NULL, alphasort);
	assert_true(n > 2);
	for (int i = 0; i < n; i++) {
		struct script s = { 0 };
		FILE *f;

		if (entries[i]->d_name[0] != '.') {
			snprintf(path, sizeof(path), CAPTURES "/%s/%s", folder, entries[i]->d_name);
			f = fopen(path, "rb");
			assert_non_null(f);
			load(&s, f);
			fclose(f);
			moments += script_check(&s, entries[i]->d_name, codec, NULL, NULL).moments[CLIENT][kind];
			script_free(&s);
		}
		free(entries[i]);
	}
	free(entries);
	return moments;
}

static void
test_websocket(void **state)
{
	(void)state;
	assert_true(play_all("websocket", &codec_websocket, HEARTBEAT_PING) > 500);
}

static void
test_http(void **state)
{
	(void)state;
	assert_true(play_all("http", &codec_http, HEARTBEAT_ONEWAY) >= 12);	/* four events a stream, three streams */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_websocket),
		cmocka_unit_test(test_http),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
