/* progress.c - how far a measurement is, on stderr: one line that is redrawn on a terminal, else a line for each outcome. */
#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "doctor/measurement.h"
#include "stent/clock.h"

static const char *const methods[METHODS] = { "nothing sent", "TCP probes", "heartbeats" };
static const char *const outcomes[OUTCOMES] = {
	[OUTCOME_SURVIVED] = "survived",
	[OUTCOME_SILENT] = "forgotten, packets are not answered",
	[OUTCOME_REJECTED] = "forgotten, packets are answered by a reset",
	[OUTCOME_RESET] = "reset",
	[OUTCOME_FIN] = "closed by the server (FIN)",
	[OUTCOME_UNUSED] = "not measured",
};

static bool is_drawn;

static double
seconds_since(const struct measurement *m)
{
	return (double)(clock_us() - m->started_us) / US_PER_S;
}

void
progress_line(const struct measurement *m, const struct sample *x)
{
	char quiet[TIME_TEXT_MAX], ended[TIME_TEXT_MAX];

	if (isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "%6.1fs  %s, %s: %s", seconds_since(m), time_text(x->quiet_ms, quiet), methods[x->method], outcomes[x->outcome]);
	if (x->ended_ms > 0 && x->outcome != OUTCOME_UNUSED)
		fprintf(stderr, " after %s", time_text(x->ended_ms, ended));
	putc('\n', stderr);
}

void
progress_draw(const struct measurement *m)
{
	char from[TIME_TEXT_MAX], to[TIME_TEXT_MAX], line[160];
	struct winsize size = { .ws_col = 80 };
	struct limit l;
	int running = 0, done = 0;

	if (!isatty(STDERR_FILENO))
		return;
	for (size_t i = 0; i < m->search.n; i++) {
		running += m->search.samples[i].outcome == OUTCOME_RUNNING;
		done += m->search.samples[i].outcome >= OUTCOME_SURVIVED && m->search.samples[i].outcome <= OUTCOME_FIN;
	}
	search_limit(&m->search, METHOD_QUIET, &l);
	snprintf(line, sizeof(line), "%.0f s: %d flows wait, %d done; quiet ones survived %s%s%s (Ctrl-C: what is known)", seconds_since(m),
	    running, done, time_text(l.longest_ms, from), l.to_ms > 0 ? ", were lost at " : "", l.to_ms > 0 ? time_text(l.to_ms, to) : "");
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		size.ws_col = 80;
	fprintf(stderr, "\r\033[K%.*s", size.ws_col - 1, line);
	is_drawn = true;
}

void
progress_end(void)
{
	if (is_drawn)
		fputs("\r\033[K", stderr);
	is_drawn = false;
}
