/*
 * log.c - takes lines from every thread.
 *
 * A full disk, a hung file system, or a daemon or reader that has stopped may
 * cost lines, but must not block a worker or end the process. So a line is built
 * on the caller's stack and put into a buffer, and a thread of the log writes
 * it. There are two buffers: callers fill one while the other is written. Lines
 * that do not fit are dropped and counted; the next line that can be written
 * reports their number.
 *
 * The thread runs from log_start_thread() to log_close(). Before and after that
 * a caller writes its line itself, and waits only briefly.
 */
#include "stent/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log/log_line.h"
#include "log/log_sink.h"

#define BUFFER_BYTES (256 * 1024)
#define GATHER_MS 2	/* lines that come within this time cost the thread one wake-up */
#define CLOSE_MS 1000	/* limit for the thread to write what is left */

struct log_change {
	struct sink_next next;
	bool is_new;		/* next is to be used; else the sink stays */
	enum log_target target;
	char *path;		/* a copy */
	enum log_level level;
	enum log_format format;
};

/* Read without the lock by every caller. */
static atomic_int wanted = LEVEL_INFO;
static atomic_int format = FORMAT_TEXT;
static atomic_bool untimed;	/* syslog adds the time itself */

/* The head of a line in a buffer; its bytes follow. */
struct entry {
	uint16_t len;
	uint8_t level;
};

struct buffer {
	size_t len;
	uint64_t dropped;	/* lines after those it holds, which did not fit */
	char data[BUFFER_BYTES];
};

/* The thread's state. */
static struct {
	pthread_t id;
	pthread_cond_t wake;
	void (*begin)(void *arg);	/* what the thread does first; NULL: nothing */
	bool runs;		/* it owns the sink, and lines go through the buffers */
	atomic_bool stop, reopen;	/* requested */
	struct log_change *_Atomic change;	/* the sink to use from now on; NULL: the one in use */
	struct buffer *fill, *written;
} writer;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* for the writer's fields; for the sink, while no writer runs */
/* What the settings named, with the lock held; the sink may be changed a moment later. */
static struct {
	enum log_target target;
	char *path;		/* NULL: none, or the default */
} named;
static uint64_t lost;		/* lines not written and not reported yet; used by the owner of the sink */

/* --- opening --- */

/*
 * If descriptors 0-2 were closed, the next socket would get one of them, and
 * lines for stderr would go into a flow.
 */
static void
fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/*
 * A closed pipe (SIGPIPE) or a limit of file size (SIGXFSZ) must not end the
 * process. Handlers that are already set are kept.
 */
static void
ignore_signal(int number)
{
	struct sigaction sa;

	if (sigaction(number, NULL, &sa) == 0 && !(sa.sa_flags & SA_SIGINFO) && sa.sa_handler == SIG_DFL)
		signal(number, SIG_IGN);
}

static void
set_style(enum log_level level, enum log_format f, enum log_target target)
{
	atomic_store_explicit(&wanted, (int)level, memory_order_relaxed);
	atomic_store_explicit(&format, (int)f, memory_order_relaxed);
	atomic_store_explicit(&untimed, target == TARGET_SYSLOG, memory_order_relaxed);
}

static bool
is_named(const struct log_settings *s)
{
	if (s->target != named.target || (s->path == NULL) != (named.path == NULL))
		return false;
	return s->path == NULL || strcmp(s->path, named.path) == 0;
}

/* With the lock held. path is taken over. */
static void
set_named(enum log_target target, char *path)
{
	free(named.path);
	named.target = target;
	named.path = path;
}

static char *
copy_of(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

int
log_open(const struct log_settings *s)
{
	int r;

	fill_standard_descriptors();
	ignore_signal(SIGPIPE);
	ignore_signal(SIGXFSZ);
	pthread_mutex_lock(&lock);
	assert(!writer.runs);
	r = sink_open(s);
	if (r == 0)
		set_named(s->target, copy_of(s->path));
	pthread_mutex_unlock(&lock);
	if (r == 0)
		set_style(s->level, s->format, s->target);
	return r;
}

const char *
log_open_hint(int err)
{
	switch (err) {
	case ELOOP:
		return "its path has a symbolic link that another user can change; name the file itself, or one in a directory "
		    "that only root can change";
	case EMLINK:
		return "it has a second hard link, in a directory that another user can change; name a file in a directory "
		    "that only root can change";
	case EPROTOTYPE:
		return "it is not a regular file, in a directory that another user can change; name a file in a directory "
		    "that only root can change";
	default:
		return strerror(err);
	}
}

int
log_give(uid_t user, gid_t group)
{
	int r;

	pthread_mutex_lock(&lock);
	assert(!writer.runs);
	r = sink_give(user, group);
	pthread_mutex_unlock(&lock);
	return r;
}

/* --- writing --- */

static struct log_line_head
head_of(enum log_level level)
{
	struct log_line_head h = {
		.format = (enum log_format)atomic_load_explicit(&format, memory_order_relaxed),
		.level = level,
		.untimed = atomic_load_explicit(&untimed, memory_order_relaxed),
	};

	clock_gettime(CLOCK_REALTIME, &h.time);
	return h;
}

static void
tell_lost(bool (*goes_on)(void))
{
	struct log_line_head h = head_of(LEVEL_WARN);
	struct log_field lines = LOG_INT("lines", lost);
	struct log_line l;

	if (lost == 0)
		return;
	log_line_event(&l, &h, "log lost", &lines, 1);
	if (sink_write(LEVEL_WARN, l.data, l.len, goes_on))
		lost = 0;
}

static void
write_or_count(enum log_level level, const char *data, size_t len, bool (*goes_on)(void))
{
	tell_lost(goes_on);
	if (lost > 0 || !sink_write(level, data, len, goes_on))
		lost++;
}

/* Called by the owner of the sink; path: of the file, a copy. */
static void
log_reopen_failed(const char *path, int err)
{
	char hint[128] = "";

	if (err == EACCES)
		snprintf(hint, sizeof(hint), "; create it for user %u before the signal, as logrotate's create does",
		    (unsigned)geteuid());
	log_say(LEVEL_ERROR, "log file %s: cannot be reopened: %s; the old one stays in use%s", path, log_open_hint(err),
	    hint);
}

/* --- the thread --- */

static bool
may_wait(void)
{
	return !atomic_load(&writer.stop) && !atomic_load(&writer.reopen) && atomic_load(&writer.change) == NULL;
}

/* Called by the owner of the sink. */
static void
change_if_wanted(void)
{
	struct log_change *c = atomic_exchange(&writer.change, NULL);

	if (c == NULL)
		return;
	sink_use(&c->next);
	free(c->path);
	free(c);
}

static void
reopen_if_wanted(void)
{
	int r;

	change_if_wanted();
	if (!atomic_exchange(&writer.reopen, false))
		return;
	r = sink_reopen();
	if (r != 0)
		log_reopen_failed(sink_path(), -r);
}

static void
write_buffer(struct buffer *b)
{
	struct entry e;

	for (size_t at = 0; at < b->len; at += e.len) {
		memcpy(&e, b->data + at, sizeof(e));
		at += sizeof(e);
		assert(at + e.len <= b->len);
		reopen_if_wanted();
		write_or_count((enum log_level)e.level, b->data + at, e.len, may_wait);
	}
	if (b->dropped > 0) {
		lost += b->dropped;
		tell_lost(may_wait);
	}
	b->len = 0;
	b->dropped = 0;
}

/* With the lock held: waits for lines, and then GATHER_MS for more of them. */
static void
wait_for_lines(void)
{
	struct timespec until;

	while (writer.fill->len == 0 && may_wait())
		pthread_cond_wait(&writer.wake, &lock);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += GATHER_MS * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	while (writer.fill->len < BUFFER_BYTES / 2 && may_wait() &&
	    pthread_cond_timedwait(&writer.wake, &lock, &until) == 0)
		;
}

static void *
run(void *arg)
{
	struct buffer *b;

	pthread_setname_np(pthread_self(), "stent-log");
	if (writer.begin != NULL)
		writer.begin(arg);
	for (bool ends = false; !ends;) {
		pthread_mutex_lock(&lock);
		wait_for_lines();
		ends = atomic_load(&writer.stop);
		b = writer.fill;
		writer.fill = writer.written;
		writer.written = b;
		assert(writer.fill->len == 0);
		pthread_mutex_unlock(&lock);
		reopen_if_wanted();
		write_buffer(b);
	}
	return NULL;
}

/* With the lock held. After a dropped line the following ones are dropped, too, so that the count is at the right place. */
static void
enqueue(enum log_level level, const struct log_line *l)
{
	struct buffer *b = writer.fill;
	const struct entry e = { .len = (uint16_t)l->len, .level = (uint8_t)level };
	const size_t before = b->len;

	assert(l->len > 0 && l->len <= LOG_LINE_MAX && b->len <= sizeof(b->data));

	if (b->dropped > 0 || b->len + sizeof(e) + l->len > sizeof(b->data)) {
		b->dropped++;
		return;
	}
	memcpy(b->data + b->len, &e, sizeof(e));
	memcpy(b->data + b->len + sizeof(e), l->data, l->len);
	b->len += sizeof(e) + l->len;
	if (before == 0 || (before < BUFFER_BYTES / 2 && b->len >= BUFFER_BYTES / 2))
		pthread_cond_signal(&writer.wake);
}

static void
take(enum log_level level, const struct log_line *l)
{
	pthread_mutex_lock(&lock);
	if (writer.runs)
		enqueue(level, l);
	else
		write_or_count(level, l->data, l->len, NULL);
	pthread_mutex_unlock(&lock);
}

/* Signals are handled by the main thread. */
static int
start_thread(void *arg)
{
	pthread_condattr_t attr;
	sigset_t all, before;
	int r;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&writer.wake, &attr);
	pthread_condattr_destroy(&attr);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&writer.id, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void
free_buffers(void)
{
	free(writer.fill);
	free(writer.written);
	writer.fill = writer.written = NULL;
}

int
log_start_thread(void (*begin)(void *arg), void *arg)
{
	int r = -ENOMEM;

	pthread_mutex_lock(&lock);
	assert(!writer.runs);
	writer.begin = begin;
	writer.fill = calloc(1, sizeof(*writer.fill));
	writer.written = calloc(1, sizeof(*writer.written));
	atomic_store(&writer.stop, false);
	if (writer.fill != NULL && writer.written != NULL)
		r = start_thread(arg);
	writer.runs = r == 0;
	if (r != 0)
		free_buffers();
	pthread_mutex_unlock(&lock);
	return r;
}

/* False: the thread hangs in a write, and keeps the sink. */
static bool
stop_thread(void)
{
	struct timespec until;

	atomic_store(&writer.stop, true);
	pthread_mutex_lock(&lock);
	pthread_cond_signal(&writer.wake);
	pthread_mutex_unlock(&lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLOSE_MS / 1000;
	if (pthread_timedjoin_np(writer.id, NULL, &until) != 0)
		return false;
	atomic_store(&writer.reopen, false);	/* reporting a failure would take the lock */
	change_if_wanted();
	pthread_mutex_lock(&lock);
	write_buffer(writer.fill);	/* lines that came after its last round */
	writer.runs = false;
	free_buffers();
	pthread_mutex_unlock(&lock);
	return true;
}

void
log_close(void)
{
	if (writer.runs && !stop_thread())
		return;
	pthread_mutex_lock(&lock);
	sink_close();
	set_named(TARGET_STDERR, NULL);
	lost = 0;
	pthread_mutex_unlock(&lock);
	set_style(LEVEL_INFO, FORMAT_TEXT, TARGET_STDERR);
}

int
log_prepare(struct log_change **ret, const struct log_settings *s)
{
	struct log_change *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (c == NULL)
		return r;
	c->level = s->level;
	c->format = s->format;
	c->target = s->target;
	pthread_mutex_lock(&lock);
	c->is_new = !is_named(s);
	pthread_mutex_unlock(&lock);
	c->path = copy_of(s->path);
	if (c->path != NULL || s->path == NULL)
		r = c->is_new ? sink_prepare(s, &c->next) : 0;
	if (r != 0) {
		free(c->path);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void
log_commit(struct log_change *c)
{
	struct log_change *before = NULL;

	set_style(c->level, c->format, c->target);
	if (!c->is_new) {
		log_abandon(c);
		return;
	}
	pthread_mutex_lock(&lock);
	set_named(c->target, c->path);
	c->path = NULL;
	before = atomic_exchange(&writer.change, c);
	if (writer.runs)
		pthread_cond_signal(&writer.wake);
	else
		change_if_wanted();
	pthread_mutex_unlock(&lock);
	log_abandon(before);
}

void
log_abandon(struct log_change *c)
{
	if (c == NULL)
		return;
	if (c->is_new)
		sink_abandon(&c->next);
	free(c->path);
	free(c);
}

void
log_reopen(void)
{
	char *path = NULL;
	int r = 0;

	pthread_mutex_lock(&lock);
	if (writer.runs) {
		atomic_store(&writer.reopen, true);
		pthread_cond_signal(&writer.wake);
	} else {
		r = sink_reopen();
		path = r != 0 ? strdup(sink_path()) : NULL;
	}
	pthread_mutex_unlock(&lock);
	if (path != NULL)
		log_reopen_failed(path, -r);
	free(path);
}

/* --- the callers' side --- */

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&wanted, (int)level, memory_order_relaxed);
}

bool
log_wants(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&wanted, memory_order_relaxed);
}

void
log_say(enum log_level level, const char *fmt, ...)
{
	struct log_line_head h;
	char sentence[LOG_LINE_MAX + 1];	/* a longer one would not fit into the line either, and is cut */
	struct log_line l;
	int saved = errno;
	va_list args;

	if (!log_wants(level))
		return;
	h = head_of(level);
	va_start(args, fmt);
	if (vsnprintf(sentence, sizeof(sentence), fmt, args) >= 0) {
		log_line_sentence(&l, &h, sentence);
		take(level, &l);
	}
	va_end(args);
	errno = saved;
}

void
log_event(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	struct log_line_head h;
	struct log_line l;
	int saved = errno;

	if (!log_wants(level))
		return;
	h = head_of(level);
	log_line_event(&l, &h, event, fields, n);
	take(level, &l);
	errno = saved;
}
