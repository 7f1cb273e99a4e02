/*
 * top.c - `stent top`: the open flows, live.
 *
 * On a terminal it uses the alternate screen, refreshes once a second and
 * redraws with one write, so that nothing flickers; keys choose the order.
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
#include "cli/figures.h"
#include "cli/top_table.h"
#include "stent/cli.h"

#define PERIOD_MS 1000
#define LISTING_LIMIT 10000

/* The names in --sort and on the control socket. */
const char *const top_orders[] = { "age", "new", "bytes", "idle", "rtt", NULL };

/* The keys that choose them. */
static const struct order {
	char key;
	const char *text;
} orders[] = {
	{ 'a', "age" }, { 'n', "newest" }, { 'b', "bytes" }, { 'i', "idle" }, { 'r', "round trip" },
};

#define N_ORDERS (sizeof(orders) / sizeof(orders[0]))
_Static_assert(N_ORDERS + 1 == sizeof(top_orders) / sizeof(top_orders[0]), "each order has its key");

struct screen {
	char *path;		/* of the control socket */
	size_t order;
	struct termios before;
	double bytes, at;	/* at the last refresh, for the rate */
};

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
enter(struct screen *s)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &s->before) < 0)
		return -errno;
	raw = s->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return -errno;
	put("\033[?1049h\033[?25l");
	return 0;
}

static void
leave(const struct screen *s)
{
	put("\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
}

static json_t *
request_flows(const char *path, size_t order, size_t limit, char why[CONTROL_WHY_MAX])
{
	char request[64];

	snprintf(request, sizeof(request), "flows limit=%zu sort=%s", limit, top_orders[order]);
	return control_client_try(path, request, why);
}

static double
real(const json_t *j, const char *name)
{
	return json_number_value(json_object_get(j, name));
}

static void
print_head(struct screen *s, FILE *out, const json_t *status, const char *end)
{
	const json_t *bytes = json_object_get(status, "bytes");
	double now = real(status, "uptime_seconds"), total = real(bytes, "client") + real(bytes, "backend");
	char a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX];

	fprintf(out, "stent %s  up %s  flows: %lld open, %s total  bytes: %s",
	    json_string_value(json_object_get(status, "version")), figure_time(a, now),
	    (long long)json_integer_value(json_object_get(status, "flows_open")),
	    figure_count(b, (uint64_t)real(status, "flows_total")), figure_count(c, (uint64_t)total));
	if (s->at > 0 && now > s->at && total >= s->bytes)
		fprintf(out, " (%s/s)", figure_count(a, (uint64_t)((total - s->bytes) / (now - s->at))));
	fputs(json_is_true(json_object_get(status, "draining")) ? "  draining" : "", out);
	fputs(end, out);
	s->at = now;
	s->bytes = total;
}

static void
print_keys(const struct screen *s, FILE *out)
{
	fputs("order:", out);
	for (size_t i = 0; i < N_ORDERS; i++)
		fprintf(out, i == s->order ? "  \033[7m%c %s\033[0m" : "  %c %s", orders[i].key, orders[i].text);
	fputs("   q quit\033[K\r\n", out);
}

static void
print_screen(struct screen *s, FILE *out, const struct winsize *size)
{
	size_t rows = size->ws_row > 5 ? size->ws_row - 5U : 1;
	char why[CONTROL_WHY_MAX];
	json_t *status = control_client_try(s->path, "status", why);
	json_t *flows = status != NULL ? request_flows(s->path, s->order, rows, why) : NULL;

	fputs("\033[H", out);
	if (flows == NULL) {
		fprintf(out, "%s\033[K\r\n\033[J", figure_harmless(why));
	} else {
		print_head(s, out, status, "\033[K\r\n");
		print_keys(s, out);
		fputs("\033[K\r\n", out);
		top_print_table(out, flows, rows, size->ws_col, "\033[K\r\n");
		fputs("\033[J", out);
	}
	json_decref(status);
	json_decref(flows);
}

/* Composes the whole screen first and writes it at once. Long lines are cut by the terminal, not wrapped. */
static void
draw(struct screen *s)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return;
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	fputs("\033[?7l", out);
	print_screen(s, out, &size);
	fputs("\033[?7h", out);
	if (fclose(out) == 0)
		put(text);
	free(text);
}

/* False: q was pressed, or there is no terminal any more. */
static bool
read_keys(struct screen *s)
{
	char keys[32];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		return false;
	for (ssize_t i = 0; i < n; i++) {
		if (keys[i] == 'q')
			return false;
		for (size_t o = 0; o < N_ORDERS; o++)
			if (keys[i] == orders[o].key)
				s->order = o;
	}
	return true;
}

static int
show_live(struct screen *s)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

	catch_signals();
	if (enter(s) < 0)
		return CLI_FAILED;
	do
		draw(s);
	while (!ended && (poll(&p, 1, PERIOD_MS) <= 0 || read_keys(s)) && !ended);
	leave(s);
	return CLI_DONE;
}

static int
print_once(const struct screen *s)
{
	char why[CONTROL_WHY_MAX];
	json_t *flows = request_flows(s->path, s->order, LISTING_LIMIT, why);

	if (flows == NULL) {
		cli_error("stent top: %s", why);
		return CLI_FAILED;
	}
	top_print_table(stdout, flows, LISTING_LIMIT, 0, "\n");
	json_decref(flows);
	return CLI_DONE;
}

int
cli_top(int argc, char **argv)
{
	struct cli_values values = { .sort = top_orders[0] };
	struct screen s = { 0 };
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	s.order = cli_word_at(top_orders, values.sort);
	assert(s.order < N_ORDERS);	/* cli_options() has checked it */
	s.path = control_client_path("top", &values);
	if (s.path == NULL)
		return CLI_WRONG;
	if (!values.once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		status = show_live(&s);
	else
		status = print_once(&s);
	free(s.path);
	return status;
}
