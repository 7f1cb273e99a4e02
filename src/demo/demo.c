/* demo.c - the demonstration from start to result. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "stent/demo.h"

#include "demo/demo.h"

static void
on_interrupt(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	event_base_loopbreak(arg);
}

/* After the end the page stays until an interrupt. */
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

static enum demo_result
play(struct stage *s, struct event_base *base, bool with_web)
{
	struct web *w = NULL;
	int r = stage_open(s, base);

	if (r == 0 && with_web)
		r = web_open(&w, s);
	if (r != 0) {
		fprintf(stderr, "stent demo: cannot start: %s\n", strerror(-r));
		return DEMO_FAILED;
	}
	screen_open(s);
	if (w != NULL)
		printf("Also in a browser: %s\n\n", web_address(w));
	s->on_tick = screen_draw;
	stage_play(s);
	if (s->stopped) {
		printf("\nStopped early.\n");
	} else {
		screen_verdict(s);
		stage_dismiss(s);
		screen_log(s);
		if (w != NULL)
			stay(base, w);
	}
	r = stage_went_as_expected(s) ? DEMO_DONE : DEMO_FAILED;
	web_close(w);
	return r;
}

enum demo_result
demo_run(bool with_web)
{
	struct stage stage;
	struct event_base *base;
	enum demo_result r;

	memset(&stage, 0, sizeof(stage));
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	if (base == NULL) {
		fprintf(stderr, "stent demo: out of memory\n");
		return DEMO_FAILED;
	}
	r = play(&stage, base, with_web);
	stage_close(&stage);
	event_base_free(base);
	libevent_global_shutdown();
	return r;
}
