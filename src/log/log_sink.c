/*
 * log_sink.c - opens what the log is written to, and writes lines.
 *
 * A full disk, a closed stderr or a reader that has stopped costs lines, but
 * never ends the process. poll() comes before each write: it guarantees room for
 * PIPE_BUF bytes in a pipe, and no line is longer. Sockets do not block.
 *
 * In a directory of another user, that user could replace the log file by a link,
 * a hard link to another file or a FIFO while we are root. These are refused
 * there: see open_file().
 *
 * syslog is written directly, as syslog(3) blocks while the daemon does not read.
 */
#include "log/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "stent/folder.h"

#define STUCK_MS 200
#define SYSLOG_PATH "/dev/log"
#define SYSLOG_HEAD_MAX 64
#define SYSLOG_TRIES 3

/* What is known about an open file. */
struct file {
	bool is_made;		/* created by us just now */
	bool is_kept;		/* where nobody else can replace it */
};

static struct {
	enum log_target target;
	char *path;
	int fd;
	struct file file;
	bool is_socket;
	bool stuck;		/* there was no room for the last line */
	bool torn;		/* the last line was written in part: begin a new one first */
} sink = { .fd = STDERR_FILENO };

static const int syslog_levels[] = {
	[LEVEL_ERROR] = LOG_ERR, [LEVEL_WARN] = LOG_WARNING, [LEVEL_INFO] = LOG_INFO,
	[LEVEL_DEBUG] = LOG_DEBUG,
};

/* --- opening --- */

/*
 * Checks an open file. In a directory where another user can replace files it
 * must be a regular file without a second hard link, which could be another
 * user's own file. 0 or -errno.
 */
static int
judge_file(int folder, int fd, struct file *ret)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	ret->is_kept = folder_keeps(folder, &st);
	if (ret->is_kept)
		return 0;
	if (!S_ISREG(st.st_mode))
		return -EPROTOTYPE;
	return st.st_nlink > 1 ? -EMLINK : 0;
}

/* Opens or creates the file in its directory. Descriptor or -errno. */
static int
open_in(int folder, const char *name, struct file *ret)
{
	/* O_NONBLOCK: a FIFO without a reader is an error at once. It has no effect on a regular file. */
	const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (folder_is_proc(folder) ? 0 : O_NOFOLLOW);
	int r, fd = openat(folder, name, flags);

	/* O_CREAT only now: in /tmp it fails, even for root, on a file of another user (fs.protected_regular), as ours is later. */
	if (fd < 0 && errno == ENOENT) {
		fd = openat(folder, name, flags | O_CREAT | O_EXCL, 0640);
		ret->is_made = fd >= 0;
	}
	if (fd < 0)
		return -errno;
	r = judge_file(folder, fd, ret);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* A symbolic link is followed only where nobody else could have created it; else -ELOOP. */
static int
open_file(const char *path, struct file *ret)
{
	char name[NAME_MAX + 1];
	const int folder = folder_open(path, FOLDER_FOLLOW, name);
	int fd;

	*ret = (struct file){ 0 };
	if (folder < 0)
		return folder;
	fd = open_in(folder, name, ret);
	close(folder);
	return fd;
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
open_target(enum log_target target, const char *path, struct file *file)
{
	switch (target) {
	case TARGET_FILE:
		return open_file(path, file);
	case TARGET_SYSLOG:
		return open_syslog(path);
	case TARGET_STDERR:
		break;
	}
	return STDERR_FILENO;
}

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

void
sink_abandon(struct sink_next *next)
{
	if (next->fd >= 0 && next->fd != STDERR_FILENO)
		close(next->fd);
	free(next->path);
}

int
sink_prepare(const struct log_settings *s, struct sink_next *ret)
{
	const char *path = s->target == TARGET_SYSLOG && s->path == NULL ? SYSLOG_PATH : s->path;
	struct file file = { 0 };

	*ret = (struct sink_next){ .target = s->target, .fd = -1 };
	if (s->target == TARGET_FILE && path == NULL)
		return -EINVAL;
	if (s->target != TARGET_STDERR && (ret->path = strdup(path)) == NULL)
		return -ENOMEM;
	ret->fd = open_target(s->target, path, &file);
	ret->is_made = file.is_made;
	ret->is_kept = file.is_kept;
	if (ret->fd >= 0)
		return 0;
	sink_abandon(ret);
	return ret->fd;
}

void
sink_use(struct sink_next *next)
{
	use(next->fd);
	free(sink.path);
	sink.path = next->path;
	sink.target = next->target;
	sink.file = (struct file){ next->is_made, next->is_kept };
	next->path = NULL;
	next->fd = -1;
}

int
sink_open(const struct log_settings *s)
{
	struct sink_next next;
	const int r = sink_prepare(s, &next);

	if (r == 0)
		sink_use(&next);
	return r;
}

int
sink_reopen(void)
{
	struct file file;
	int fd;

	if (sink.target != TARGET_FILE)
		return 0;
	fd = open_file(sink.path, &file);
	if (fd < 0)
		return fd;
	use(fd);
	sink.file = file;
	return 0;
}

const char *
sink_path(void)
{
	return sink.target == TARGET_FILE ? sink.path : NULL;
}

void
sink_close(void)
{
	use(STDERR_FILENO);
	free(sink.path);
	sink.path = NULL;
	sink.target = TARGET_STDERR;
}

/*
 * True for a file that is at its own path, has no other name, and was created by
 * us or cannot have been put there by anybody else: else it could be another user's.
 */
static bool
is_plainly_ours(void)
{
	struct stat st, there;

	return (sink.file.is_made || sink.file.is_kept) && fstat(sink.fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_nlink == 1 && lstat(sink.path, &there) == 0 && there.st_dev == st.st_dev && there.st_ino == st.st_ino;
}

int
sink_give(uid_t user, gid_t group)
{
	if (sink.target != TARGET_FILE || !is_plainly_ours())
		return 0;
	return fchown(sink.fd, user, group) == 0 ? 0 : -errno;
}

/* --- writing --- */

/* True if the descriptor takes a whole line now, or soon. */
static bool
wait_for_room(bool (*goes_on)(void))
{
	struct pollfd p = { .fd = sink.fd, .events = POLLOUT };
	int n;

	do {
		const bool may_wait = goes_on != NULL && goes_on();

		n = poll(&p, 1, sink.stuck && !may_wait ? 0 : STUCK_MS);
		sink.stuck = n == 0;
	} while (n <= 0 && goes_on != NULL && goes_on());
	return n == 1 && (p.revents & POLLOUT) != 0;
}

static bool
write_stream(const char *data, size_t len, bool (*goes_on)(void))
{
	struct iovec iov[2] = { { (char[]){ '\n' }, sink.torn }, { (void *)(uintptr_t)data, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (!wait_for_room(goes_on))
		return false;
	do
		n = sink.is_socket ? sendmsg(sink.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) :
		    writev(sink.fd, iov, 2);
	while (n < 0 && errno == EINTR);
	sink.stuck = n < 0 && errno == EAGAIN;
	if (n <= 0)
		return false;
	sink.torn = (size_t)n < iov[0].iov_len + len;
	return !sink.torn;
}

static bool
is_full(int err)
{
	return err == EAGAIN || err == ENOBUFS;
}

/* A daemon that was restarted has a new socket at the same path. */
static bool
connect_anew(void)
{
	const int fd = open_syslog(sink.path);

	if (fd >= 0)
		use(fd);
	return fd >= 0;
}

static bool
write_syslog(enum log_level level, const char *data, size_t len, bool (*goes_on)(void))
{
	char head[SYSLOG_HEAD_MAX], date[32] = "";
	struct iovec iov[2] = { { head, 0 }, { (void *)(uintptr_t)data, len - 1 } };	/* no newline */
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm) != NULL)
		strftime(date, sizeof(date), "%b %e %H:%M:%S", &tm);
	iov[0].iov_len = (size_t)snprintf(head, sizeof(head), "<%d>%s stent[%d]: ",
	    LOG_DAEMON | syslog_levels[level], date, (int)getpid());
	for (int tries = 0; tries < SYSLOG_TRIES; tries++) {
		if (sendmsg(sink.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return true;
		if (is_full(errno) ? goes_on == NULL || !wait_for_room(goes_on) : !connect_anew())
			return false;
	}
	return false;
}

bool
sink_write(enum log_level level, const char *data, size_t len, bool (*goes_on)(void))
{
	return sink.target == TARGET_SYSLOG ? write_syslog(level, data, len, goes_on) : write_stream(data, len, goes_on);
}
