/*
 * screen.c - the demonstration on a terminal: three lanes, redrawn in place four
 * times a second. In a pipe or a file each event is a line.
 */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "demo/demo.h"

#define TICKS_A_COLUMN 2	/* a column of the timeline is half a second */
#define LINES_A_LANE 4

static struct {
	bool is_terminal, has_colours, is_utf8;
	int drawn;		/* lines that the last drawing took */
	int requests[LANES], responses[LANES];
	bool dropped[LANES];
	uint64_t replies[LANES];
} screen;

enum colour { PLAIN = 0, BOLD = 1, DIM = 2, RED = 31, GREEN = 32, YELLOW = 33, CYAN = 36 };

static const char *
paint(enum colour c)
{
	static const char *const codes[] = {
		[PLAIN] = "\033[0m", [BOLD] = "\033[1m", [DIM] = "\033[2m", [RED] = "\033[31m", [GREEN] = "\033[32m",
		[YELLOW] = "\033[33m", [CYAN] = "\033[36m",
	};

	return screen.has_colours ? codes[c] : "";
}

static const struct {
	const char *utf8, *ascii;
	enum colour colour;
} marks[] = {
	[MARK_IDLE] = { "·", ".", DIM },
	[MARK_REQUEST] = { "?", "?", YELLOW },
	[MARK_RESPONSE] = { "!", "!", GREEN },
	[MARK_HEARTBEAT] = { "♥", "b", CYAN },
	[MARK_DROPPED] = { "×", "x", RED },
};

static void
put_mark(enum mark m)
{
	printf("%s%s%s", paint(marks[m].colour), screen.is_utf8 ? marks[m].utf8 : marks[m].ascii, paint(PLAIN));
}

/* Ends a line of a drawing, and clears what was there before. */
static void
end_line(void)
{
	printf("%s\n", screen.is_terminal ? "\033[K" : "");
	screen.drawn++;
}

void
screen_open(const struct stage *s)
{
	(void)s;
	setlocale(LC_CTYPE, "");
	memset(&screen, 0, sizeof(screen));
	screen.is_terminal = isatty(STDOUT_FILENO);
	screen.has_colours = screen.is_terminal;
	screen.is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	printf("%sstent demo%s\n\n"
	    "Three clients request the time over WebSocket and are idle for ten seconds in\n"
	    "between. A middlebox on the way silently drops connections that are idle for\n"
	    "%d s. Packets without payload, such as TCP keepalive, do not count.\n\n",
	    paint(BOLD), paint(PLAIN), IDLE_LIMIT_MS / 1000);
	fflush(stdout);
}

/* The most important mark of the ticks that share a column. */
static enum mark
mark_of_column(const struct lane *l, size_t column)
{
	static const int weight[] = { [MARK_IDLE] = 0, [MARK_DROPPED] = 1, [MARK_HEARTBEAT] = 2, [MARK_REQUEST] = 3, [MARK_RESPONSE] = 4 };
	enum mark best = l->marks[column * TICKS_A_COLUMN];

	for (size_t i = 1; i < TICKS_A_COLUMN; i++) {
		enum mark m = l->marks[column * TICKS_A_COLUMN + i];

		if (weight[m] > weight[best])
			best = m;
	}
	return best;
}

static void
draw_lane(const struct stage *s, size_t i)
{
	const struct lane *l = &s->lane[i];
	const bool alive = l->alive;
	const char *wire = screen.is_utf8 ? "──" : "--";

	printf("%s%zu  client%s %s %smiddlebox%s %s ", paint(BOLD), i + 1, paint(PLAIN), wire, paint(alive ? GREEN : RED),
	    paint(PLAIN), wire);
	if (l->has_stent)
		printf("stent: %s %s ", l->must_survive ? "keepalive + heartbeats" : "keepalive only", wire);
	printf("clock");
	end_line();
	printf("   ");
	for (size_t c = 0; (c + 1) * TICKS_A_COLUMN <= s->tick; c++)
		put_mark(mark_of_column(l, c));
	end_line();
	printf("   %d requests, %d responses%s", demo_client_requests(l->client), demo_client_responses(l->client),
	    *demo_client_last_response(l->client) != '\0' ? " (" : "");
	if (*demo_client_last_response(l->client) != '\0')
		printf("%s)", demo_client_last_response(l->client));
	if (l->must_survive)
		printf(", %llu heartbeats, %llu replies", (unsigned long long)l->heartbeats, (unsigned long long)l->replies);
	if (!alive)
		printf("  %sdropped%s", paint(RED), paint(PLAIN));
	if (!alive && l->waiting_ms > 1000)
		printf("%s: no response for %lld s%s", paint(RED), (long long)(l->waiting_ms / 1000), paint(PLAIN));
	end_line();
	end_line();
}

static void
draw(const struct stage *s)
{
	if (screen.drawn > 0)
		printf("\033[%dA", screen.drawn);
	screen.drawn = 0;
	for (size_t i = 0; i < LANES; i++)
		draw_lane(s, i);
	printf("%5.1f s   ", stage_seconds(s));
	for (enum mark m = MARK_REQUEST; m <= MARK_DROPPED; m++) {
		static const char *const meaning[] = {
			[MARK_REQUEST] = "request", [MARK_RESPONSE] = "response", [MARK_HEARTBEAT] = "heartbeat", [MARK_DROPPED] = "dropped",
		};

		put_mark(m);
		printf(" %s   ", meaning[m]);
	}
	end_line();
	fflush(stdout);
}

/* A line for each new event. */
static void
print_events(const struct stage *s)
{
	for (size_t i = 0; i < LANES; i++) {
		const struct lane *l = &s->lane[i];

		if (demo_client_requests(l->client) > screen.requests[i])
			printf("%5.1f s  %zu %s: request\n", stage_seconds(s), i + 1, l->name);
		if (demo_client_responses(l->client) > screen.responses[i])
			printf("%5.1f s  %zu %s: response %s\n", stage_seconds(s), i + 1, l->name,
			    demo_client_last_response(l->client));
		if (l->replies > screen.replies[i])
			printf("%5.1f s  %zu %s: reply to stent's ping %llu\n", stage_seconds(s), i + 1, l->name,
			    (unsigned long long)l->replies);
		if (!l->alive && !screen.dropped[i])
			printf("%5.1f s  %zu %s: dropped by the middlebox, without notice\n", stage_seconds(s), i + 1,
			    l->name);
		screen.requests[i] = demo_client_requests(l->client);
		screen.responses[i] = demo_client_responses(l->client);
		screen.replies[i] = l->replies;
		screen.dropped[i] = !l->alive;
	}
	fflush(stdout);
}

void
screen_draw(const struct stage *s)
{
	if (screen.is_terminal)
		draw(s);
	else
		print_events(s);
}

void
screen_log(const struct stage *s)
{
	char buf[4096];
	off_t at = 0;
	ssize_t n;

	printf("\nLog of the two stents:\n\n");
	while ((n = pread(s->log_fd, buf, sizeof(buf), at)) > 0) {
		fwrite(buf, 1, (size_t)n, stdout);
		at += n;
	}
	printf("\nFor a backend of your own:\n\n"
	    "  stent relay :8080 127.0.0.1:3000 --protocol=websocket\n"
	    "  stent relay :6432 db.example:5432 --protocol=postgres\n\n"
	    "then connect to that port instead. See stent help keys for every setting.\n");
	fflush(stdout);
}

void
screen_verdict(const struct stage *s)
{
	printf("\n");
	for (size_t i = 0; i < LANES; i++) {
		const struct lane *l = &s->lane[i];
		const bool survived = demo_client_responses(l->client) == demo_client_requests(l->client);

		printf("%s%zu %s: %s%s, %d of %d requests got a response", paint(survived ? GREEN : RED), i + 1, l->name,
		    survived ? "survived" : "died silently", paint(PLAIN), demo_client_responses(l->client), demo_client_requests(l->client));
		if (!l->has_stent)
			printf(".\n");
		else if (!l->must_survive)
			printf(":\n  TCP probes carry no payload, and this middlebox counts nothing else.\n");
		else
			printf(":\n  %llu WebSocket pings were sent to the client, and %llu replies were removed.\n"
			    "  Neither end notices.\n", (unsigned long long)l->heartbeats, (unsigned long long)l->replies);
	}
	if (!stage_went_as_expected(s))
		printf("%sUnexpected result.%s\n", paint(RED), paint(PLAIN));
	fflush(stdout);
}
