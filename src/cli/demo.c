/* demo.c - `stent demo`: see one flow die and one live. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "demo/demo.h"
#include "stent/cli.h"

static void
on_interrupt(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	event_base_loopbreak(arg);
}

/* After the end the page stays until its reader has seen enough. */
static void
stay(struct event_base *base, const struct web *w)
{
	struct event *stop = evsignal_new(base, SIGINT, on_interrupt, base);

	printf("\nThe page stays at %s until Ctrl-C.\n", web_address(w));
	fflush(stdout);
	if (stop != NULL && event_add(stop, NULL) == 0)
		event_base_dispatch(base);
	if (stop != NULL)
		event_free(stop);
}

/* The exit status: as it was told, or not. */
static int
play(struct stage *s, struct event_base *base, bool with_web)
{
	struct web *w = NULL;
	int r = stage_open(s, base);

	if (r == 0 && with_web)
		r = web_open(&w, s);
	if (r != 0) {
		cli_tell("stent demo: cannot set the stage: %s", strerror(-r));
		return CLI_FAILED;
	}
	screen_open(s);
	if (w != NULL)
		printf("The same, live: %s\n\n", web_address(w));
	s->on_tick = screen_draw;
	stage_play(s);
	if (s->stopped) {
		printf("\nStopped before its end.\n");
	} else {
		screen_verdict(s);
		stage_dismiss(s);
		screen_log(s);
		if (w != NULL)
			stay(base, w);
	}
	r = stage_went_as_told(s) ? CLI_DONE : CLI_FAILED;
	web_close(w);
	return r;
}

int
cli_demo(int argc, char **argv)
{
	bool with_web = false;
	const struct cli_option options[] = {
		{ "--web", NULL, NULL, &with_web },
		{ 0 },
	};
	struct stage stage;
	struct event_base *base;
	int r;

	if (cli_options(argc, argv, options, 0) < 0)
		return CLI_WRONG;
	memset(&stage, 0, sizeof(stage));
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	if (base == NULL) {
		cli_tell("stent demo: out of memory");
		return CLI_FAILED;
	}
	r = play(&stage, base, with_web);
	stage_close(&stage);
	event_base_free(base);
	libevent_global_shutdown();
	return r;
}
