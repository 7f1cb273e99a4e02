/*
 * screen.c - the demonstration in a terminal: three lanes, drawn over
 * themselves four times a second. Into a pipe or a file each event is a line.
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
	int asked[LANES], answered[LANES];
	bool forgotten[LANES];
	uint64_t heartbeats[LANES];
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
	[MARK_QUIET] = { "·", ".", DIM },
	[MARK_ASK] = { "?", "?", YELLOW },
	[MARK_ANSWER] = { "!", "!", GREEN },
	[MARK_HEARTBEAT] = { "♥", "b", CYAN },
	[MARK_LOST] = { "×", "x", RED },
};

static void
put_mark(enum mark m)
{
	printf("%s%s%s", paint(marks[m].colour), screen.is_utf8 ? marks[m].utf8 : marks[m].ascii, paint(PLAIN));
}

/* Ends a line of a drawing: what stood there before goes. */
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
	    "Three clients ask a clock for the time over WebSocket, and are quiet for ten\n"
	    "seconds in between. On the way stands a middlebox that forgets, without a word,\n"
	    "whatever was quiet for %d s. Packets without payload it does not even see.\n\n",
	    paint(BOLD), paint(PLAIN), FORGETS_AFTER_MS / 1000);
	fflush(stdout);
}

/* The weightiest mark of the ticks that share a column. */
static enum mark
mark_of_column(const struct lane *l, size_t column)
{
	static const int weight[] = { [MARK_QUIET] = 0, [MARK_LOST] = 1, [MARK_HEARTBEAT] = 2, [MARK_ASK] = 3, [MARK_ANSWER] = 4 };
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
		printf("stent: %s %s ", l->must_live ? "keepalive + heartbeats" : "keepalive alone", wire);
	printf("clock");
	end_line();
	printf("   ");
	for (size_t c = 0; (c + 1) * TICKS_A_COLUMN <= s->tick; c++)
		put_mark(mark_of_column(l, c));
	end_line();
	printf("   asked %d, answered %d%s", asker_asked(l->asker), asker_answered(l->asker),
	    *asker_last_answer(l->asker) != '\0' ? " (" : "");
	if (*asker_last_answer(l->asker) != '\0')
		printf("%s)", asker_last_answer(l->asker));
	if (l->must_live)
		printf(", heartbeats %llu, their answers %llu", (unsigned long long)l->heartbeats, (unsigned long long)l->answers);
	if (!alive)
		printf("  %sforgotten%s", paint(RED), paint(PLAIN));
	if (!alive && l->waiting_ms > 1000)
		printf("%s: waits for an answer since %lld s%s", paint(RED), (long long)(l->waiting_ms / 1000), paint(PLAIN));
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
	for (enum mark m = MARK_ASK; m <= MARK_LOST; m++) {
		static const char *const meaning[] = {
			[MARK_ASK] = "pings", [MARK_ANSWER] = "is answered", [MARK_HEARTBEAT] = "heartbeat", [MARK_LOST] = "forgotten",
		};

		put_mark(m);
		printf(" %s   ", meaning[m]);
	}
	end_line();
	fflush(stdout);
}

/* One line for each thing that is new. */
static void
tell(const struct stage *s)
{
	for (size_t i = 0; i < LANES; i++) {
		const struct lane *l = &s->lane[i];

		if (asker_asked(l->asker) > screen.asked[i])
			printf("%5.1f s  %zu %s: the client asks\n", stage_seconds(s), i + 1, l->name);
		if (asker_answered(l->asker) > screen.answered[i])
			printf("%5.1f s  %zu %s: the clock answers %s\n", stage_seconds(s), i + 1, l->name,
			    asker_last_answer(l->asker));
		if (l->answers > screen.heartbeats[i])
			printf("%5.1f s  %zu %s: stent's ping %llu was answered\n", stage_seconds(s), i + 1, l->name,
			    (unsigned long long)l->answers);
		if (!l->alive && !screen.forgotten[i])
			printf("%5.1f s  %zu %s: the middlebox has forgotten the flow; nobody is told\n", stage_seconds(s), i + 1,
			    l->name);
		screen.asked[i] = asker_asked(l->asker);
		screen.answered[i] = asker_answered(l->asker);
		screen.heartbeats[i] = l->answers;
		screen.forgotten[i] = !l->alive;
	}
	fflush(stdout);
}

void
screen_draw(const struct stage *s)
{
	if (screen.is_terminal)
		draw(s);
	else
		tell(s);
}

void
screen_log(const struct stage *s)
{
	char buf[4096];
	off_t at = 0;
	ssize_t n;

	printf("\nWhat the two stents logged:\n\n");
	while ((n = pread(s->log_fd, buf, sizeof(buf), at)) > 0) {
		fwrite(buf, 1, (size_t)n, stdout);
		at += n;
	}
	printf("\nFor a backend of your own:\n\n"
	    "  stent relay :8080 127.0.0.1:3000 --protocol=websocket\n"
	    "  stent relay :6432 db.example:5432 --protocol=postgres\n\n"
	    "then connect to that port instead. stent help keys tells about every setting.\n");
	fflush(stdout);
}

void
screen_verdict(const struct stage *s)
{
	printf("\n");
	for (size_t i = 0; i < LANES; i++) {
		const struct lane *l = &s->lane[i];
		const bool lives = asker_answered(l->asker) == asker_asked(l->asker);

		printf("%s%zu %s: %s%s, %d of %d questions answered", paint(lives ? GREEN : RED), i + 1, l->name,
		    lives ? "lived" : "died without a word", paint(PLAIN), asker_answered(l->asker), asker_asked(l->asker));
		if (!l->has_stent)
			printf(".\n");
		else if (!l->must_live)
			printf(":\n  probes carry no payload, and this middlebox counts nothing else.\n");
		else
			printf(":\n  %llu WebSocket pings went into the client's side and %llu answers were taken out\n"
			    "  again. Neither end knows of it.\n", (unsigned long long)l->heartbeats, (unsigned long long)l->answers);
	}
	if (!stage_went_as_told(s))
		printf("%sThis did not go as it should have.%s\n", paint(RED), paint(PLAIN));
	fflush(stdout);
}
