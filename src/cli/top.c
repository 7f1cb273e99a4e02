/*
 * top.c - `stent top`: the open flows, live.
 *
 * On a terminal it uses the alternate screen, refreshes once a second and with
 * each key, and redraws with one write, so that nothing flickers. What is shown
 * is in top_screen.c, what keys do in top_keys.c. A stent that goes away is asked
 * again every second.
 * Signal handlers only set a flag, so that the terminal is always restored.
 * When the output is not a terminal, one whole listing is printed.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/control_client.h"
#include "cli/top.h"
#include "cli/top_table.h"
#include "stent/cli.h"

#define PERIOD_MS 1000

/* The names in --sort and on the control socket. */
const char *const top_orders[] = { "age", "new", "bytes", "idle", "rtt", "heartbeats", "protection", "route", NULL };

static volatile sig_atomic_t ended;

static void
on_signal(int number)
{
	if (number != SIGWINCH)	/* that one only ends the wait */
		ended = number;
}

static void
catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH };
	struct sigaction sa = { .sa_handler = on_signal };	/* no SA_RESTART: poll() returns */

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &sa, NULL);
}

static void
put(const char *text)
{
	size_t len = strlen(text);
	ssize_t n;

	while (len > 0 && ((n = write(STDOUT_FILENO, text, len)) > 0 || errno == EINTR)) {
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

static int
enter(struct termios *before)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, before) < 0)
		return -errno;
	raw = *before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return -errno;
	put("\033[?1049h\033[?25l");
	return 0;
}

static void
leave(const struct termios *before)
{
	put("\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSANOW, before);
}

static void
draw(struct top *t)
{
	struct winsize size = { .ws_row = 0 };
	char *text;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	text = top_screen(t, size.ws_row > 0 ? size.ws_row : 24, size.ws_col > 0 ? size.ws_col : 80);
	if (text != NULL)
		put(text);
	free(text);
}

/* What was typed, and not acted on yet. */
struct typed {
	char keys[64];
	size_t n;
};

/* False: q was pressed, or there is no terminal any more. */
static bool
act(struct top *t, struct typed *typed)
{
	const size_t taken = top_keys(t, typed->keys, typed->n);

	assert(taken <= typed->n);
	typed->n -= taken;
	memmove(typed->keys, typed->keys + taken, typed->n);
	return taken > 0;
}

/* Waits for keys, a signal or the next second. False: the end. */
static bool
wait_for_keys(struct top *t, struct typed *typed)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	ssize_t n;

	if (typed->n > 0)
		return act(t, typed);
	if (poll(&p, 1, PERIOD_MS) <= 0)
		return true;
	n = read(STDIN_FILENO, typed->keys, sizeof(typed->keys));
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		return false;
	typed->n = n > 0 ? (size_t)n : 0;
	return typed->n == 0 || act(t, typed);
}

static int
show_live(struct top *t)
{
	struct typed typed = { .n = 0 };
	struct termios before;

	catch_signals();
	if (enter(&before) < 0)
		return CLI_FAILED;
	do
		draw(t);
	while (!ended && wait_for_keys(t, &typed) && !ended);
	leave(&before);
	return CLI_DONE;
}

static int
print_once(const struct top *t)
{
	char request[64], why[CONTROL_WHY_MAX];
	json_t *flows;

	snprintf(request, sizeof(request), "flows limit=%d sort=%s", TOP_LIMIT, top_orders[t->order]);
	flows = control_client_try(t->path, request, why);
	if (flows == NULL) {
		cli_error("stent top: %s", why);
		return CLI_FAILED;
	}
	top_print_table(stdout, flows, &(struct top_view){ .rows = TOP_LIMIT, .line_end = "\n" });
	json_decref(flows);
	return CLI_DONE;
}

int
cli_top(int argc, char **argv)
{
	struct cli_values values = { .sort = top_orders[0] };
	struct top t = { 0 };
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	t.order = cli_word_at(top_orders, values.sort);
	assert(top_orders[t.order] != NULL);	/* cli_options() has checked it */
	t.path = control_client_path("top", &values);
	if (t.path == NULL)
		return CLI_WRONG;
	if (!values.once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		status = show_live(&t);
	else
		status = print_once(&t);
	free(t.path);
	return status;
}
