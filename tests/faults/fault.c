/*
 * fault.c - a library to be preloaded: one call of the C library fails, by its number.
 *
 * STENT_FAULTS names a file, mapped as struct plan, which the test changes while
 * the program runs: it sets `left` to n, and the n-th call from there, of those
 * in `calls`, returns an error that the kernel may return for it. Which one of
 * several is chosen by `variant`. The test then reads in the plan what failed.
 * The wall clock can be made to jump, too.
 *
 * In a build with AddressSanitizer, malloc() belongs to the sanitizer; there
 * wrap.c, linked into the program, asks fault_hits(). The calls of the kernel go
 * through the sanitizer's own functions to the ones below.
 */
#undef _FILE_OFFSET_BITS	/* open() and open64() are two names */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
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
	X(pthread_create, EAGAIN, EAGAIN, EAGAIN)

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

/* True, with errno set: this call is to fail. */
static bool
hits(enum call call, void *from)
{
	if (plan == NULL || __atomic_load_n(&plan->left, __ATOMIC_RELAXED) <= 0 || (plan->calls >> call & 1) == 0)
		return false;
	if (__atomic_sub_fetch(&plan->left, 1, __ATOMIC_RELAXED) != 0)
		return false;
	plan->error = errno = calls[call].errors[plan->variant % 3];
	plan->from = (uint64_t)(uintptr_t)from;
	memcpy(plan->name, calls[call].name, strlen(calls[call].name) + 1);
	__atomic_add_fetch(&plan->hits, 1, __ATOMIC_SEQ_CST);
	return true;
}

#define HITS(name) hits(FAULT_##name, __builtin_return_address(0))
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

/* --- memory --- */

bool fault_hits(void *from);
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

bool
fault_hits(void *from)
{
	return hits(FAULT_memory, from);
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

#define FAIL(type, name, parameters, arguments) \
	KEPT(name); \
	type name parameters \
	{ \
		return HITS(name) ? (type)-1 : REAL(name) arguments; \
	}

FAIL(int, socket, (int family, int type, int protocol), (family, type, protocol))
FAIL(int, connect, (int fd, const struct sockaddr *at, socklen_t len), (fd, at, len))
FAIL(int, accept4, (int fd, struct sockaddr *at, socklen_t *len, int flags), (fd, at, len, flags))
FAIL(int, bind, (int fd, const struct sockaddr *at, socklen_t len), (fd, at, len))
FAIL(int, listen, (int fd, int backlog), (fd, backlog))
FAIL(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags))
FAIL(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags))
FAIL(ssize_t, sendto, (int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t len),
    (fd, buf, n, flags, to, len))
FAIL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAIL(ssize_t, splice, (int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags),
    (in, in_at, out, out_at, n, flags))
FAIL(int, pipe2, (int fd[2], int flags), (fd, flags))
FAIL(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len))
FAIL(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))
FAIL(int, getsockname, (int fd, struct sockaddr *at, socklen_t *len), (fd, at, len))
FAIL(int, getpeername, (int fd, struct sockaddr *at, socklen_t *len), (fd, at, len))
FAIL(int, epoll_ctl, (int fd, int op, int of, struct epoll_event *event), (fd, op, of, event))
FAIL(int, epoll_create1, (int flags), (flags))
FAIL(int, epoll_wait, (int fd, struct epoll_event *events, int n, int ms), (fd, events, n, ms))

int eventfd(unsigned n, int flags);
FAIL(int, eventfd, (unsigned n, int flags), (n, flags))
int timerfd_create(clockid_t clock, int flags);
FAIL(int, timerfd_create, (clockid_t clock, int flags), (clock, flags))

/* A write to an eventfd, whose count is far from its limit, or of libevent's signal handler to its own socket: neither fails. */
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

FAIL(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))

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
		return hits(FAULT_##call, __builtin_return_address(0)) ? -1 : REAL(name)(named, argument); \
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
