/*
 * fault.c - a library to be preloaded: one call of the C library fails, by its number.
 *
 * STENT_FAULTS names a file, mapped as struct plan, which the test changes while
 * the program runs: it sets `left` to n, and the n-th call from there, of those
 * in `calls`, returns an error that the kernel may return for it. Which one of
 * several is chosen by `variant`. The test then reads in the plan what failed.
 * The wall clock can be made to jump, too.
 *
 * Calls that are left out, as a program that calls them rightly cannot see them fail: docs/testing.md.
 *
 * In a build with AddressSanitizer, malloc() belongs to the sanitizer; there
 * wrap.c, linked into the program, asks fault_hits(). The calls of the kernel go
 * through the sanitizer's own functions to the ones below.
 */
#undef _FILE_OFFSET_BITS	/* open() and open64() are two names */
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* As read and written by machine_faults.py. */
struct plan {
	int64_t left;		/* the call that makes it 0 fails */
	int64_t variant;
	uint64_t calls;		/* a set of bits, one per row below */
	int64_t hits;
	int64_t error;		/* of the call that failed */
	uint64_t from;		/* its caller's address */
	int64_t jump_s;		/* the wall clock is so much ahead */
	uint16_t port[2];	/* of the socket that the call was for, and of its peer; 0: of none, or not TCP over IPv4 */
	uint32_t unused;
	char name[40];
};

/* Each call, and up to three errors that the kernel returns for it in such a place. */
#define CALLS(X) \
	X(memory, ENOMEM, ENOMEM, ENOMEM) \
	X(socket, EMFILE, ENOBUFS, ENOMEM) \
	X(connect, ECONNREFUSED, EADDRNOTAVAIL, ENETUNREACH) \
	X(accept4, EMFILE, ECONNABORTED, ENOBUFS) \
	X(bind, EADDRINUSE, EACCES, ENOMEM) \
	X(listen, EADDRINUSE, EADDRINUSE, EADDRINUSE) \
	X(recv, ECONNRESET, ENOMEM, ETIMEDOUT) \
	X(send, ECONNRESET, ENOBUFS, EPIPE) \
	X(sendto, ECONNRESET, ENOBUFS, ENETUNREACH) \
	X(sendmsg, ECONNRESET, ENOMEM, EHOSTUNREACH) \
	X(splice, ENOMEM, EINVAL, ECONNRESET) \
	X(pipe2, EMFILE, ENFILE, ENFILE) \
	X(setsockopt, ENOMEM, ENOPROTOOPT, EINVAL) \
	X(getsockopt, ENOBUFS, ENOPROTOOPT, EINVAL) \
	X(getsockname, ENOBUFS, ENOBUFS, ENOBUFS) \
	X(getpeername, ENOTCONN, ENOBUFS, ENOTCONN) \
	X(epoll_ctl, ENOMEM, ENOSPC, ENOMEM) \
	X(epoll_create1, EMFILE, ENFILE, ENOMEM) \
	X(epoll_wait, EINTR, EINTR, EINTR) \
	X(eventfd, EMFILE, ENFILE, ENOMEM) \
	X(timerfd_create, EMFILE, ENFILE, ENOMEM) \
	X(open, EMFILE, EACCES, ENFILE) \
	X(openat, EMFILE, EACCES, ENFILE) \
	X(fcntl, EPERM, EBUSY, EPERM) \
	X(ioctl, ENOTTY, ENOTTY, ENOTTY) \
	X(write, EIO, ENOSPC, EPIPE) \
	X(writev, EIO, ENOSPC, EPIPE) \
	X(pthread_create, EAGAIN, EAGAIN, EAGAIN) \
	X(read, EIO, EINTR, EIO) \
	X(readv, ECONNRESET, ENOMEM, ETIMEDOUT) \
	X(recvmsg, ECONNRESET, ENOMEM, EINTR) \
	X(pread, EIO, EIO, EINTR) \
	X(poll, EINTR, ENOMEM, EINTR) \
	X(shutdown, ENOTCONN, ENOTCONN, ENOTCONN) \
	X(close, EIO, EINTR, ENOSPC) \
	X(socketpair, EMFILE, ENFILE, ENOMEM) \
	X(dup2, EMFILE, EINTR, EBUSY) \
	X(signalfd, EMFILE, ENFILE, ENOMEM) \
	X(memfd_create, EMFILE, ENFILE, ENOMEM) \
	X(stat, EACCES, ENOMEM, ENOENT) \
	X(fstat, ENOMEM, EIO, ENOMEM) \
	X(access, EACCES, ENOENT, EROFS) \
	X(fopen, EMFILE, EACCES, ENOMEM) \
	X(opendir, EMFILE, EACCES, ENOMEM) \
	X(unlinkat, EACCES, EBUSY, EROFS) \
	X(chmod, EPERM, EROFS, EPERM) \
	X(fchown, EPERM, EROFS, EPERM) \
	X(readlinkat, EACCES, ENOMEM, EINVAL) \
	X(getifaddrs, ENOBUFS, EMFILE, ENOMEM) \
	X(getrandom, EINTR, ENOSYS, EINTR) \
	X(getrlimit, EPERM, EPERM, EPERM) \
	X(setrlimit, EPERM, EPERM, EPERM) \
	X(sched_getaffinity, EPERM, EINVAL, EPERM) \
	X(fork, EAGAIN, ENOMEM, EAGAIN) \
	X(posix_spawn, EAGAIN, ENOMEM, ENOENT) \
	X(waitpid, EINTR, ECHILD, EINTR) \
	X(syscall, ENOSYS, EPERM, ENOMEM)

#define INDEX(name, a, b, c) FAULT_##name,
#define ROW(name, a, b, c) { #name, { a, b, c } },

enum call { CALLS(INDEX) };

static const struct {
	const char *name;
	int errors[3];
} calls[] = { CALLS(ROW) };

static struct plan *plan;

__attribute__((constructor)) static void
read_plan(void)
{
	const char *path = getenv("STENT_FAULTS");
	const int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p = fd >= 0 ? mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	if (p != MAP_FAILED)
		plan = p;
}

/* The function behind ours. */
#define REAL(name) ((__typeof__(&name))real(&real_##name, #name))
#define KEPT(name) static void *real_##name

static void *
real(void **kept, const char *name)
{
	if (*kept == NULL)
		*kept = dlsym(RTLD_NEXT, name);
	return *kept;
}

KEPT(getsockname);
KEPT(getpeername);
KEPT(connect);

static bool
is_pipe(int fd)
{
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	const int error = errno;
	const bool is = plan != NULL && REAL(getsockname)(fd, (struct sockaddr *)&at, &len) != 0;

	errno = error;
	return is;
}

/* Which flow the call was for. Asked of sockets only: a thread that has none may not ask (src/sandbox). */
static void
note_ports(int fd)
{
	struct sockaddr_in at = { 0 }, peer = { 0 };
	socklen_t len = sizeof(at), peer_len = sizeof(peer);

	plan->port[0] = plan->port[1] = 0;
	if (fd < 0 || REAL(getsockname)(fd, (struct sockaddr *)&at, &len) != 0 || at.sin_family != AF_INET)
		return;
	if (REAL(getpeername)(fd, (struct sockaddr *)&peer, &peer_len) != 0)
		return;
	plan->port[0] = ntohs(at.sin_port);
	plan->port[1] = ntohs(peer.sin_port);
}

/* As after a reset: the kernel would report these errors of a connection that is gone only. */
static void
really_end(int fd, int error)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (plan->port[0] != 0 && (error == ECONNRESET || error == EPIPE || error == ETIMEDOUT || error == ENOTCONN))
		REAL(connect)(fd, &none, sizeof(none));
}

/* True, with errno set: this call is to fail. fd: the socket that it is for, or -1. */
static bool
hits(enum call call, void *from, int fd)
{
	if (plan == NULL || __atomic_load_n(&plan->left, __ATOMIC_RELAXED) <= 0 || (plan->calls >> call & 1) == 0)
		return false;
	if (__atomic_sub_fetch(&plan->left, 1, __ATOMIC_RELAXED) != 0)
		return false;
	note_ports(fd);
	plan->error = calls[call].errors[plan->variant % 3];
	plan->from = (uint64_t)(uintptr_t)from;
	memcpy(plan->name, calls[call].name, strlen(calls[call].name) + 1);
	__atomic_add_fetch(&plan->hits, 1, __ATOMIC_SEQ_CST);
	really_end(fd, (int)plan->error);	/* last: the test goes on when the peer sees it */
	errno = (int)plan->error;
	return true;
}

#define HITS_OF(name, fd) hits(FAULT_##name, __builtin_return_address(0), fd)
#define HITS(name) HITS_OF(name, -1)

/* --- memory --- */

bool fault_hits(void *from);
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

bool
fault_hits(void *from)
{
	return hits(FAULT_memory, from, -1);
}

void *
malloc(size_t n)
{
	return HITS(memory) ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	return HITS(memory) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	return HITS(memory) ? NULL : __libc_realloc(p, n);
}

/* --- the kernel --- */

#define FAIL_OF(of, type, name, call, parameters, arguments) \
	KEPT(name); \
	type name parameters \
	{ \
		return hits(FAULT_##call, __builtin_return_address(0), of) ? (type)-1 : REAL(name) arguments; \
	}
#define FAIL_SOCKET(type, name, parameters, arguments) FAIL_OF(fd, type, name, name, parameters, arguments)
#define FAIL_AS(call, type, name, parameters, arguments) FAIL_OF(-1, type, name, call, parameters, arguments)
#define FAIL(type, name, parameters, arguments) FAIL_AS(name, type, name, parameters, arguments)

FAIL(int, socket, (int family, int type, int protocol), (family, type, protocol))
FAIL(int, socketpair, (int family, int type, int protocol, int fd[2]), (family, type, protocol, fd))

int
connect(int fd, const struct sockaddr *at, socklen_t len)
{
	return HITS(connect) ? -1 : REAL(connect)(fd, at, len);
}

FAIL(int, accept4, (int fd, struct sockaddr *at, socklen_t *len, int flags), (fd, at, len, flags))
FAIL(int, bind, (int fd, const struct sockaddr *at, socklen_t len), (fd, at, len))
FAIL(int, listen, (int fd, int backlog), (fd, backlog))
FAIL_SOCKET(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags))
FAIL_SOCKET(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
FAIL_SOCKET(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags))
FAIL_SOCKET(ssize_t, sendto, (int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t len),
    (fd, buf, n, flags, to, len))
FAIL_SOCKET(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAIL_SOCKET(int, shutdown, (int fd, int how), (fd, how))
/* One of the two is a pipe. */
FAIL_OF(is_pipe(in) ? out : in, ssize_t, splice, splice,
    (int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags), (in, in_at, out, out_at, n, flags))
FAIL(int, pipe2, (int fd[2], int flags), (fd, flags))
FAIL_SOCKET(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len))
FAIL_SOCKET(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))

int
getsockname(int fd, struct sockaddr *at, socklen_t *len)
{
	return HITS_OF(getsockname, fd) ? -1 : REAL(getsockname)(fd, at, len);
}

int
getpeername(int fd, struct sockaddr *at, socklen_t *len)
{
	return HITS_OF(getpeername, fd) ? -1 : REAL(getpeername)(fd, at, len);
}

FAIL_OF(of, int, epoll_ctl, epoll_ctl, (int fd, int op, int of, struct epoll_event *event), (fd, op, of, event))
FAIL(int, epoll_create1, (int flags), (flags))
FAIL(int, epoll_wait, (int fd, struct epoll_event *events, int n, int ms), (fd, events, n, ms))
FAIL(int, poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))

int eventfd(unsigned n, int flags);
FAIL(int, eventfd, (unsigned n, int flags), (n, flags))
int timerfd_create(clockid_t clock, int flags);
FAIL(int, timerfd_create, (clockid_t clock, int flags), (clock, flags))
int signalfd(int fd, const sigset_t *signals, int flags);
FAIL(int, signalfd, (int fd, const sigset_t *signals, int flags), (fd, signals, flags))
int memfd_create(const char *name, unsigned flags);
FAIL(int, memfd_create, (const char *name, unsigned flags), (name, flags))
FAIL(int, dup2, (int from, int to), (from, to))

/*
 * The eight bytes of an eventfd, or libevent's signal handler and its own socket, or a timer: none fails. The counter of
 * an eventfd is far from its limit, and it is read when it is readable.
 */
static bool
is_wakeup(size_t n)
{
	return n == sizeof(uint64_t) || n == 1;
}

KEPT(write);
ssize_t
write(int fd, const void *buf, size_t n)
{
	return !is_wakeup(n) && HITS(write) ? -1 : REAL(write)(fd, buf, n);
}

#define LIBEVENT_SIGNALS 1024	/* what libevent reads of its own socket pair, which cannot fail; it aborts then */

KEPT(read);
ssize_t
read(int fd, void *buf, size_t n)
{
	return !is_wakeup(n) && n != LIBEVENT_SIGNALS && HITS(read) ? -1 : REAL(read)(fd, buf, n);
}

FAIL(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
FAIL(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
FAIL_AS(pread, ssize_t, pread64, (int fd, void *buf, size_t n, off64_t at), (fd, buf, n, at))

/* The descriptor is gone, as it is on Linux when close() reports an error. */
KEPT(close);
int
close(int fd)
{
	const bool fails = HITS(close);
	const int error = errno, r = REAL(close)(fd);

	if (!fails)
		return r;
	errno = error;
	return -1;
}

/* Those with an argument that may be left out: it is passed on as it lies in its register. */
#define FAIL_VARIADIC(name, call, types, named, last) \
	KEPT(name); \
	int name(types, ...) \
	{ \
		va_list more; \
		long argument; \
\
		va_start(more, last); \
		argument = va_arg(more, long); \
		va_end(more); \
		return HITS(call) ? -1 : REAL(name)(named, argument); \
	}
#define BOTH(a, b) a, b

FAIL_VARIADIC(open, open, BOTH(const char *path, int flags), BOTH(path, flags), flags)
FAIL_VARIADIC(open64, open, BOTH(const char *path, int flags), BOTH(path, flags), flags)
FAIL_VARIADIC(openat, openat, BOTH(int folder, BOTH(const char *path, int flags)), BOTH(folder, BOTH(path, flags)), flags)
FAIL_VARIADIC(openat64, openat, BOTH(int folder, BOTH(const char *path, int flags)), BOTH(folder, BOTH(path, flags)), flags)
FAIL_VARIADIC(fcntl, fcntl, BOTH(int fd, int op), BOTH(fd, op), op)
FAIL_VARIADIC(fcntl64, fcntl, BOTH(int fd, int op), BOTH(fd, op), op)

int ioctl(int fd, unsigned long op, ...);
FAIL_VARIADIC(ioctl, ioctl, BOTH(int fd, unsigned long op), BOTH(fd, op), op)

/* seccomp, Landlock, capabilities: those that the C library has no function for. */
KEPT(syscall);
long
syscall(long number, ...)
{
	va_list more;
	long a[6];

	va_start(more, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(more, long);
	va_end(more);
	return HITS(syscall) ? -1 : REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* --- files, limits, processes --- */

#define FAIL_STAT(name, call, parameters, arguments) int name parameters; FAIL_AS(call, int, name, parameters, arguments)

FAIL_STAT(stat64, stat, (const char *path, struct stat64 *st), (path, st))
FAIL_STAT(lstat64, stat, (const char *path, struct stat64 *st), (path, st))
FAIL_STAT(fstatat64, stat, (int folder, const char *path, struct stat64 *st, int flags), (folder, path, st, flags))
FAIL_STAT(fstat64, fstat, (int fd, struct stat64 *st), (fd, st))
FAIL(int, access, (const char *path, int mode), (path, mode))
FAIL(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
FAIL(int, chmod, (const char *path, mode_t mode), (path, mode))
FAIL(int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))
FAIL_AS(fchown, int, fchownat, (int folder, const char *path, uid_t user, gid_t group, int flags), (folder, path, user, group, flags))
FAIL(ssize_t, readlinkat, (int folder, const char *path, char *buf, size_t n), (folder, path, buf, n))
FAIL(int, getifaddrs, (struct ifaddrs **ret), (ret))
FAIL(ssize_t, getrandom, (void *buf, size_t n, unsigned flags), (buf, n, flags))
FAIL(int, sched_getaffinity, (pid_t pid, size_t n, cpu_set_t *set), (pid, n, set))
FAIL(pid_t, fork, (void), ())
FAIL(pid_t, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags))
int getrlimit64(unsigned of, struct rlimit64 *limit);
FAIL_AS(getrlimit, int, getrlimit64, (unsigned of, struct rlimit64 *limit), (of, limit))
int setrlimit64(unsigned of, const struct rlimit64 *limit);
FAIL_AS(setrlimit, int, setrlimit64, (unsigned of, const struct rlimit64 *limit), (of, limit))

#define FAIL_NULL(type, name, call, parameters, arguments) \
	KEPT(name); \
	type name parameters \
	{ \
		return HITS(call) ? NULL : REAL(name) arguments; \
	}

FAIL_NULL(FILE *, fopen, fopen, (const char *path, const char *mode), (path, mode))
FAIL_NULL(FILE *, fopen64, fopen, (const char *path, const char *mode), (path, mode))
FAIL_NULL(DIR *, opendir, opendir, (const char *path), (path))

KEPT(posix_spawn);
int
posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *with,
    char *const argv[], char *const envp[])
{
	return HITS(posix_spawn) ? errno : REAL(posix_spawn)(pid, path, actions, with, argv, envp);
}

/* --- the wall clock --- */

KEPT(clock_gettime);
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	const int r = REAL(clock_gettime)(clock, ts);

	if (r == 0 && plan != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += plan->jump_s;
	return r;
}

time_t
time(time_t *ret)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ret != NULL)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}

/* --- threads --- */

KEPT(pthread_create);
int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	return HITS(pthread_create) ? errno : REAL(pthread_create)(thread, attr, start, arg);
}
