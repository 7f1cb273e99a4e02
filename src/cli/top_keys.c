/*
 * top_keys.c - the keys of `stent top`.
 *
 * What a key means depends on the mode: a list, a filter that is being typed, a
 * question. A key that sends several bytes (an arrow) arrives in one piece.
 */
#include <stdio.h>
#include <string.h>

#include "cli/figures.h"
#include "cli/top.h"

#define ESCAPE '\033'

/* The keys of top_orders[]. */
static const char order_keys[] = "anbirhpo";

/* --- selecting --- */

enum move { MOVE_NONE, MOVE_UP, MOVE_DOWN, MOVE_PAGE_UP, MOVE_PAGE_DOWN, MOVE_FIRST, MOVE_LAST };

/* The key that begins here, and how many bytes it has. */
static enum move
read_move(const char *keys, size_t n, size_t *len)
{
	static const struct {
		const char *bytes;
		enum move move;
	} moves[] = {
		{ "\033[A", MOVE_UP }, { "\033OA", MOVE_UP }, { "\033[B", MOVE_DOWN }, { "\033OB", MOVE_DOWN },
		{ "\033[5~", MOVE_PAGE_UP }, { "\033[6~", MOVE_PAGE_DOWN }, { "\033[H", MOVE_FIRST }, { "\033OH", MOVE_FIRST },
		{ "\033[1~", MOVE_FIRST }, { "\033[F", MOVE_LAST }, { "\033OF", MOVE_LAST }, { "\033[4~", MOVE_LAST },
	};

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		*len = strlen(moves[i].bytes);
		if (*len <= n && memcmp(keys, moves[i].bytes, *len) == 0)
			return moves[i].move;
	}
	/* Any other sequence is skipped: ESC, a bracket, parameters, a letter. */
	*len = 1;
	if (n > 1 && keys[0] == ESCAPE && (keys[1] == '[' || keys[1] == 'O'))
		for (*len = 2; *len < n && keys[(*len)++] < '@';)
			;
	return MOVE_NONE;
}

static void
move(struct top *t, enum move m)
{
	const size_t page = t->rows > 1 ? t->rows - 1 : 1;

	if (m == MOVE_NONE)
		return;
	t->follows = false;
	t->is_stale = true;
	if (m == MOVE_UP || m == MOVE_PAGE_UP)
		t->cursor -= m == MOVE_UP ? t->cursor > 0 : t->cursor < page ? t->cursor : page;
	else if (m == MOVE_DOWN || m == MOVE_PAGE_DOWN)
		t->cursor += m == MOVE_DOWN ? 1 : page;
	else
		t->cursor = m == MOVE_FIRST ? 0 : TOP_LIMIT - 1;	/* the screen finds the last one */
}

/* --- the modes --- */

static void
type(struct top *t, char key)
{
	const size_t len = strlen(t->filter);

	if (key == '\r' || key == '\n') {
		t->mode = TOP_LIST;
	} else if (key == ESCAPE) {
		t->filter[0] = '\0';
		t->mode = TOP_LIST;
	} else if (key == '\b' || key == 0x7f) {
		if (len > 0)
			t->filter[len - 1] = '\0';
	} else if (key >= ' ' && key <= '~' && len + 1 < sizeof(t->filter)) {
		t->filter[len] = key;
		t->filter[len + 1] = '\0';
	}
	t->cursor = t->first = 0;
	t->is_stale = true;
}

static void
kill_flow(struct top *t)
{
	char request[64], why[CONTROL_WHY_MAX];
	json_t *j;

	snprintf(request, sizeof(request), "kill %lld", (long long)t->asked);
	j = control_client_try(t->path, request, why);
	if (j != NULL)
		snprintf(t->message, sizeof(t->message), "flow %lld is ended", (long long)t->asked);
	else
		snprintf(t->message, sizeof(t->message), "%s", figure_harmless(why));
	json_decref(j);
}

static void
answer(struct top *t, char key)
{
	t->mode = TOP_LIST;
	if (key == 'y' || key == 'Y')
		kill_flow(t);
	else
		snprintf(t->message, sizeof(t->message), "not ended");
}

/* False: the end. */
static bool
choose(struct top *t, char key)
{
	const char *order = key != '\0' ? strchr(order_keys, key) : NULL;
	const size_t n_orders = sizeof(order_keys) - 1;

	if (order != NULL) {
		t->order = (size_t)(order - order_keys);
		t->is_stale = true;
	} else if (key == '<' || key == '>') {
		t->order = (t->order + (key == '>' ? 1 : n_orders - 1)) % n_orders;
		t->is_stale = true;
	} else if (key == '/') {
		t->mode = TOP_FILTER;
	} else if ((key == 'f' || key == 'F') && t->selected != 0) {
		t->follows = !t->follows;
	} else if (key == 'k' && t->selected != 0) {
		t->asked = t->selected;
		memcpy(t->asked_text, t->selected_text, sizeof(t->asked_text));
		t->mode = TOP_KILL;
	} else if (key == ESCAPE) {
		t->filter[0] = '\0';
		t->follows = false;
		t->is_stale = true;
	}
	return key != 'q';
}

/* False: the end. */
static bool
press(struct top *t, char key)
{
	switch (t->mode) {
	case TOP_LIST:
		return choose(t, key);
	case TOP_FILTER:
		type(t, key);
		return true;
	case TOP_KILL:
		answer(t, key);
		return true;
	}
	return true;
}

size_t
top_keys(struct top *t, const char *keys, size_t n)
{
	size_t i = 0;

	t->message[0] = '\0';
	while (i < n) {
		size_t len = 1;
		enum move m = MOVE_NONE;

		if (t->is_stale && t->mode == TOP_LIST && strchr("kfF", keys[i]) != NULL && i > 0)
			break;
		if (keys[i] == ESCAPE)
			m = read_move(keys + i, n - i, &len);
		if (len > 1 && t->mode == TOP_LIST)
			move(t, m);
		if (len == 1 && !press(t, keys[i]))
			return 0;
		i += len;
	}
	return i;
}
