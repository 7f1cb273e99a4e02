/*
 * hook.c - runs the program of on_event, once for each event, one at a time.
 *
 * The event is the content of a file in memory that is the program's standard
 * input: stent never waits for it to read. It gets no other descriptor but
 * /dev/null as its output, a clean environment, a process group of its own, and
 * event_timeout; then the whole group is killed. A bounded queue holds what
 * comes meanwhile, and the oldest of it stays. Failures are logged once in ten
 * seconds, with their number.
 *
 * In a sandbox this process may start nothing: its helper does (helper.c).
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/program.h"
#include "admin/stream.h"
#include "stent/clock.h"
#include "stent/events.h"
#include "stent/helper.h"
#include "stent/log.h"

#define QUEUE_MAX 256
#define WARN_EVERY_US (10 * US_PER_S)

struct waiting {
	STAILQ_ENTRY(waiting) link;
	enum event_kind kind;
	size_t len;
	char data[];
};

struct hook {
	struct event *child, *timeout;
	char *path;			/* NULL: off */
	int64_t timeout_ms;
	STAILQ_HEAD(, waiting) queue;
	size_t n;
	struct helper *helper;		/* runs the program; NULL: this process does */
	struct event *answer;		/* of the helper */
	bool runs;
	pid_t pid;			/* without the helper, while it runs */
	bool killed;			/* for its time */
	int64_t warned_us;
	uint64_t unwarned;		/* failures since then */
	uint64_t results[HOOK_RESULTS];
};

static void run_next(struct hook *h);
static void drop_queue(struct hook *h);

static void
failed(struct hook *h, enum hook_result result, uint64_t n, const char *why)
{
	const int64_t now_us = clock_us();

	h->results[result] += n;
	h->unwarned += n;
	if (h->warned_us != 0 && now_us - h->warned_us < WARN_EVERY_US)
		return;
	log_say(LEVEL_WARN, "on_event = exec:%s: %s (%" PRIu64 " failure%s since this was last logged)", h->path != NULL ? h->path : "",
	    why, h->unwarned, h->unwarned == 1 ? "" : "s");
	h->warned_us = now_us;
	h->unwarned = 0;
}

/* A descriptor whose content is the line, to be read from its beginning; or -errno. */
static int
file_of(const struct waiting *w)
{
	const int fd = memfd_create("stent-event", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	if (write(fd, w->data, w->len) == (ssize_t)w->len && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	r = errno != 0 ? -errno : -EIO;
	close(fd);
	return r;
}

static int
start(struct hook *h, const struct waiting *w)
{
	const int in = file_of(w);
	int r;

	if (in < 0)
		return -in;
	if (h->helper != NULL)
		r = helper_run(h->helper, h->path, event_kind_name(w->kind), in, h->timeout_ms);
	else
		r = program_start(&h->pid, h->path, event_kind_name(w->kind), in);
	close(in);
	if (r != 0)
		return r;
	h->runs = true;
	h->killed = false;
	if (h->helper != NULL)
		return 0;		/* it sees to the time itself */
	event_add(h->timeout, &(struct timeval){ h->timeout_ms / 1000, h->timeout_ms % 1000 * 1000 });
	return 0;
}

static void
run_next(struct hook *h)
{
	struct waiting *w;

	while (!h->runs && (w = STAILQ_FIRST(&h->queue)) != NULL) {
		char why[128];
		int r;

		STAILQ_REMOVE_HEAD(&h->queue, link);
		h->n--;
		r = start(h, w);
		free(w);
		if (r == 0)
			return;
		snprintf(why, sizeof(why), "cannot be run: %s", strerror(r));
		failed(h, HOOK_FAILED, 1, why);
	}
}

static void
ended(struct hook *h, int status)
{
	char why[128];

	event_del(h->timeout);
	h->pid = 0;
	h->runs = false;
	if (h->killed) {
		snprintf(why, sizeof(why), "still ran after event_timeout (%" PRId64 " ms), and was killed", h->timeout_ms);
		failed(h, HOOK_TIMEOUT, 1, why);
	} else if (WIFSIGNALED(status)) {
		snprintf(why, sizeof(why), "was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
		failed(h, HOOK_FAILED, 1, why);
	} else if (WEXITSTATUS(status) != 0) {
		snprintf(why, sizeof(why), "ended with status %d", WEXITSTATUS(status));
		failed(h, HOOK_FAILED, 1, why);
	} else {
		h->results[HOOK_OK]++;
	}
	run_next(h);
}

/* The helper has an answer, or is gone: then nothing can be run any more. */
static void
on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;
	struct helper_answer a;
	const int r = helper_read(h->helper, &a);
	char why[128];

	(void)fd;
	(void)what;
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		event_del(h->answer);
		h->runs = false;
		failed(h, HOOK_FAILED, h->n + 1, "the process that runs it has ended; restart stent");
		drop_queue(h);
		return;
	}
	if (a.err == 0) {
		h->killed = a.is_killed;
		ended(h, a.status);
		return;
	}
	h->runs = false;
	snprintf(why, sizeof(why), "cannot be run: %s", strerror(a.err));
	failed(h, HOOK_FAILED, 1, why);
	run_next(h);
}

static void
on_child(evutil_socket_t sig, short what, void *arg)
{
	struct hook *h = arg;
	int status;

	(void)sig;
	(void)what;
	if (h->pid != 0 && waitpid(h->pid, &status, WNOHANG) == h->pid)
		ended(h, status);
}

static void
on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct hook *h = arg;

	(void)fd;
	(void)what;
	h->killed = true;
	kill(-h->pid, SIGKILL);
}

void
hook_run(struct hook *h, const struct event_line *e)
{
	struct waiting *w;

	if (h->path == NULL)
		return;
	w = h->n < QUEUE_MAX ? malloc(sizeof(*w) + e->len) : NULL;
	if (w == NULL) {
		hook_lost(h, 1);
		return;
	}
	w->kind = e->kind;
	w->len = e->len;
	memcpy(w->data, e->data, e->len);
	STAILQ_INSERT_TAIL(&h->queue, w, link);
	h->n++;
	run_next(h);
}

void
hook_lost(struct hook *h, uint64_t n)
{
	if (h->path != NULL)
		failed(h, HOOK_LOST, n, "too slow: events came faster than it ran, and were lost");
}

static void
drop_queue(struct hook *h)
{
	struct waiting *w;

	while ((w = STAILQ_FIRST(&h->queue)) != NULL) {
		STAILQ_REMOVE_HEAD(&h->queue, link);
		free(w);
	}
	h->n = 0;
}

void
hook_configure(struct hook *h, const char *path, int64_t timeout_ms)
{
	char *copy = path != NULL ? strdup(path) : NULL;

	if (path != NULL && copy == NULL)
		log_say(LEVEL_ERROR, "out of memory for on_event: it is off");
	free(h->path);
	h->path = copy;
	h->timeout_ms = timeout_ms;
	if (copy == NULL)
		drop_queue(h);
}

int
hook_new(struct hook **ret, struct event_base *base)
{
	struct hook *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return -ENOMEM;
	STAILQ_INIT(&h->queue);
	h->child = evsignal_new(base, SIGCHLD, on_child, h);
	h->timeout = evtimer_new(base, on_timeout, h);
	if (h->child == NULL || h->timeout == NULL || event_add(h->child, NULL) != 0) {
		hook_free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

int
hook_use_helper(struct hook *h, struct event_base *base, struct helper *helper)
{
	h->answer = event_new(base, helper_fd(helper), EV_READ | EV_PERSIST, on_answer, h);
	if (h->answer == NULL || event_add(h->answer, NULL) != 0)
		return -ENOMEM;
	h->helper = helper;
	return 0;
}

bool
hook_may_run(const struct hook *h, const char *path)
{
	return path == NULL || (h->helper != NULL && strcmp(helper_program(h->helper), path) == 0);
}

void
hook_free(struct hook *h)
{
	int status;

	if (h == NULL)
		return;
	drop_queue(h);
	if (h->pid != 0) {
		kill(-h->pid, SIGKILL);
		(void)waitpid(h->pid, &status, 0);
	}
	if (h->answer != NULL)
		event_free(h->answer);
	if (h->child != NULL)
		event_free(h->child);
	if (h->timeout != NULL)
		event_free(h->timeout);
	free(h->path);
	free(h);
}

void
hook_read_figures(const struct hook *h, uint64_t ret[HOOK_RESULTS])
{
	memcpy(ret, h->results, sizeof(h->results));
}
