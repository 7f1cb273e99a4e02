/*
 * log.c - where lines go.
 *
 * A line is built on the caller's stack and leaves in one write() under one
 * lock. A relay must outlive its log: a full disk, a closed stderr or a reader
 * that has stopped may cost lines, never the process and never more than a
 * moment. So before a write the descriptor is asked whether it takes a line
 * (a line is at most PIPE_BUF, which is what poll() promises of a pipe);
 * sockets are written without waiting. The first line that finds no room waits
 * STUCK_MS, those after it do not wait at all until one has passed again. Lost
 * lines are counted, and the count is told as soon as a line passes.
 *
 * syslog is written here rather than by syslog(3), which blocks its caller for
 * as long as the daemon does not read.
 */
#include "stent/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "admin/log_line.h"

#define STUCK_MS 200
#define SYSLOG_PATH "/dev/log"
#define SYSLOG_HEAD_MAX 64

/* Read without the lock by every caller. */
static atomic_int wanted = LEVEL_INFO;
static atomic_int format = FORMAT_TEXT;
static atomic_bool untimed;	/* syslog adds the time itself */

static struct {
	pthread_mutex_t lock;
	enum log_target target;
	char *path;
	int fd;
	bool is_socket;
	bool stuck;		/* the last line found no room */
	bool torn;		/* the last line was written in part: the next begins a new one */
	uint64_t lost;
} sink = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO };

static const int syslog_levels[] = {
	[LEVEL_ERROR] = LOG_ERR, [LEVEL_WARN] = LOG_WARNING, [LEVEL_INFO] = LOG_INFO,
	[LEVEL_DEBUG] = LOG_DEBUG,
};

static int
open_file(const char *path)
{
	/* O_NONBLOCK: a FIFO that nobody reads is an error at once. It means nothing to a file. */
	const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, flags);

	/* Only then O_CREAT: in /tmp it refuses even root a file of another's (fs.protected_regular), as ours is by then. */
	if (fd < 0 && errno == ENOENT)
		fd = open(path, flags | O_CREAT, 0640);
	return fd < 0 ? -errno : fd;
}

static int
open_syslog(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r, fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int
open_target(enum log_target target, const char *path)
{
	switch (target) {
	case TARGET_FILE:
		return open_file(path);
	case TARGET_SYSLOG:
		return open_syslog(path);
	case TARGET_STDERR:
		break;
	}
	return STDERR_FILENO;
}

/* With the lock held. */
static void
use(int fd)
{
	struct stat st;

	if (sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = fd;
	sink.is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	sink.stuck = false;
	sink.torn = false;
}

/*
 * A closed descriptor 0-2 would be given to the next socket, and lines for
 * stderr would end up in somebody's flow.
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
 * Neither a reader of our pipe that goes away nor a limit on the size of files
 * may take us along. A handler that is set already stays.
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

int
log_open(const struct log_settings *s)
{
	const char *path = s->target == TARGET_SYSLOG && s->path == NULL ? SYSLOG_PATH : s->path;
	char *copy = NULL;
	int fd;

	fill_standard_descriptors();
	ignore_signal(SIGPIPE);
	ignore_signal(SIGXFSZ);
	if (s->target == TARGET_FILE && path == NULL)
		return -EINVAL;
	if (s->target != TARGET_STDERR && (copy = strdup(path)) == NULL)
		return -ENOMEM;
	fd = open_target(s->target, path);
	if (fd < 0) {
		free(copy);
		return fd;
	}
	pthread_mutex_lock(&sink.lock);
	use(fd);
	free(sink.path);
	sink.path = copy;
	sink.target = s->target;
	pthread_mutex_unlock(&sink.lock);
	set_style(s->level, s->format, s->target);
	return 0;
}

/*
 * Only a file that stands at its own path and under no other name: one who may
 * write to its folder could have put a link to somebody else's file there.
 */
static bool
is_plainly(int fd, const char *path)
{
	struct stat st, there;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && lstat(path, &there) == 0 &&
	    there.st_dev == st.st_dev && there.st_ino == st.st_ino;
}

int
log_give(uid_t user, gid_t group)
{
	int r = 0;

	pthread_mutex_lock(&sink.lock);
	if (sink.target == TARGET_FILE && is_plainly(sink.fd, sink.path) && fchown(sink.fd, user, group) != 0)
		r = -errno;
	pthread_mutex_unlock(&sink.lock);
	return r;
}

static void
tell_reopen_failed(const char *path, int err)
{
	char hint[128] = "";

	if (err == EACCES)
		snprintf(hint, sizeof(hint), ": have it made for user %u before the signal, as logrotate's create does",
		    (unsigned)geteuid());
	log_say(LEVEL_ERROR, "log file %s: cannot open it again: %s; the old one stays in use%s", path, strerror(err),
	    hint);
}

void
log_reopen(void)
{
	int fd = -EINVAL;
	char *path = NULL;

	pthread_mutex_lock(&sink.lock);
	if (sink.target == TARGET_FILE) {
		fd = open_file(sink.path);
		if (fd >= 0)
			use(fd);
		else
			path = strdup(sink.path);
	}
	pthread_mutex_unlock(&sink.lock);
	if (path != NULL)
		tell_reopen_failed(path, -fd);
	free(path);
}

void
log_close(void)
{
	pthread_mutex_lock(&sink.lock);
	use(STDERR_FILENO);
	free(sink.path);
	sink.path = NULL;
	sink.target = TARGET_STDERR;
	sink.lost = 0;
	pthread_mutex_unlock(&sink.lock);
	set_style(LEVEL_INFO, FORMAT_TEXT, TARGET_STDERR);
}

bool
log_wants(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&wanted, memory_order_relaxed);
}

/* True when the descriptor takes a whole line now, or soon. */
static bool
wait_for_room(void)
{
	struct pollfd p = { .fd = sink.fd, .events = POLLOUT };

	return poll(&p, 1, sink.stuck ? 0 : STUCK_MS) == 1 && (p.revents & POLLOUT) != 0;
}

static bool
write_stream(const struct log_line *l)
{
	struct iovec iov[2] = { { (char[]){ '\n' }, sink.torn }, { (void *)(uintptr_t)l->data, l->len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (!wait_for_room()) {
		sink.stuck = true;
		return false;
	}
	do
		n = sink.is_socket ? sendmsg(sink.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) :
		    writev(sink.fd, iov, 2);
	while (n < 0 && errno == EINTR);
	sink.stuck = n < 0 && errno == EAGAIN;
	if (n <= 0)
		return false;
	sink.torn = (size_t)n < iov[0].iov_len + l->len;
	return !sink.torn;
}

static bool
write_syslog(enum log_level level, const struct log_line *l)
{
	char head[SYSLOG_HEAD_MAX], date[32] = "";
	struct iovec iov[2] = { { head, 0 }, { (void *)(uintptr_t)l->data, l->len - 1 } };	/* no newline */
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm) != NULL)
		strftime(date, sizeof(date), "%b %e %H:%M:%S", &tm);
	iov[0].iov_len = (size_t)snprintf(head, sizeof(head), "<%d>%s stent[%d]: ",
	    LOG_DAEMON | syslog_levels[level], date, (int)getpid());
	for (int tries = 0; tries < 2; tries++) {
		int fd;

		if (sendmsg(sink.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return true;
		if (errno == EAGAIN || errno == ENOBUFS)
			return false;
		fd = open_syslog(sink.path);	/* the daemon was started anew */
		if (fd < 0)
			return false;
		use(fd);
	}
	return false;
}

static bool
write_line(enum log_level level, const struct log_line *l)
{
	return sink.target == TARGET_SYSLOG ? write_syslog(level, l) : write_stream(l);
}

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

/* With the lock held. */
static void
tell_lost(void)
{
	struct log_line_head h = head_of(LEVEL_WARN);
	struct log_field lines = LOG_INT("lines", sink.lost);
	struct log_line l;

	log_line_event(&l, &h, "log lost", &lines, 1);
	if (write_line(LEVEL_WARN, &l))
		sink.lost = 0;
}

static void
write_or_count(enum log_level level, const struct log_line *l)
{
	pthread_mutex_lock(&sink.lock);
	if (sink.lost > 0)
		tell_lost();
	if (sink.lost > 0 || !write_line(level, l))
		sink.lost++;
	pthread_mutex_unlock(&sink.lock);
}

void
log_say(enum log_level level, const char *fmt, ...)
{
	struct log_line_head h;
	char sentence[LOG_LINE_MAX + 1];	/* one that does not fit here does not fit the line: it is cut there */
	struct log_line l;
	int saved = errno;
	va_list args;

	if (!log_wants(level))
		return;
	h = head_of(level);
	va_start(args, fmt);
	if (vsnprintf(sentence, sizeof(sentence), fmt, args) >= 0) {
		log_line_sentence(&l, &h, sentence);
		write_or_count(level, &l);
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
	write_or_count(level, &l);
	errno = saved;
}
