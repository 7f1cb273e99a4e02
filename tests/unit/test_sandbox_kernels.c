/*
 * test_sandbox_kernels.c - the sandbox on other kernels: without Landlock or with an older version of it, and what a kernel decides
 * without running the filter.
 *
 * An older Landlock is emulated: it says its version, and refuses rights that it does not know, as it did. The newest version that
 * is tried is this kernel's; where this kernel has none, all tries are of what is in force then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/calls.h"
#include "sandbox/landlock.h"
#include "sandbox_child.h"
#include "stent/sandbox.h"

/* --- an older kernel --- */

#define CREATE_RULESET 444
#define ADD_RULE 445
#define VERSION_CALL 1		/* its flag */
#define NET_PORT 2

static int emulated = 99;	/* version of Landlock; or -errno: there is none */

long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f);

static long
fails(int err)
{
	errno = err;
	return -1;
}

/* The rights to files that each version has: a mask. */
static uint64_t
known_files(int version)
{
	const int bits = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;

	return (UINT64_C(1) << bits) - 1;
}

static long
create_ruleset(long attr, long size, long flags)
{
	const uint64_t *rights = (const uint64_t *)attr;
	long own;

	if (emulated < 0)
		return fails(-emulated);
	if (flags == VERSION_CALL) {
		own = __real_syscall(CREATE_RULESET, attr, size, flags);
		return own < emulated ? own : emulated;
	}
	if ((rights[0] & ~known_files(emulated)) != 0)
		return fails(EINVAL);
	if (emulated < 4 && size > (long)sizeof(rights[0]))
		return fails(E2BIG);
	return __real_syscall(CREATE_RULESET, attr, size, flags);
}

long
__wrap_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	if (nr == CREATE_RULESET)
		return create_ruleset(a, b, c);
	if (nr == ADD_RULE && b == NET_PORT && emulated < 4)
		return fails(EINVAL);
	return __real_syscall(nr, a, b, c, d, e, f);
}

/* --- what is in force there --- */

#ifndef SANDBOX_NOT_HERE

static char folder[] = "/tmp/test_sandbox.XXXXXX";

static const char *
at(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void
make_file(const char *name)
{
	static const char text[] = "0123456789abcdef0123456789abcdef";
	const int fd = open(at(name), O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
}

static struct config *
settings(void)
{
	char token[300], control[] = "--control=off";
	char *options[] = { token, control };
	struct config *c;

	snprintf(token, sizeof(token), "--admin_token=@%s", at("in/token"));
	assert_int_equal(config_from_args(&c, "127.0.0.1:1", "127.0.0.1:2", options, 2, stderr), 0);
	return c;
}

static int
read_error(const char *name)
{
	return open(at(name), O_RDONLY) >= 0 ? 0 : errno;
}

static int
bind_error(void)
{
	const struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(61234), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return bind(fd, (const struct sockaddr *)&sin, sizeof(sin)) == 0 ? 0 : errno;
}

static void
expected_line(int version, char line[256])
{
	if (version < 1)
		snprintf(line, 256, "info sandbox: seccomp; no Landlock in this kernel or container: %s\n", strerror(-version));
	else
		snprintf(line, 256, "info sandbox: seccomp, Landlock ABI %d (files%s)\n", version, version >= 4 ? ", ports" : "");
}

/* 0, or the line of what went otherwise. */
#define EXPECT(what) do { if (!(what)) return __LINE__; } while (0)

/* What is said goes to stderr. */
static int
enter(struct config *c, int version, enum sandbox_thread kind)
{
	const int denied = version >= 1 ? EACCES : 0;
	struct sandbox *s = sandbox_new(c);
	char line[256], said[256] = "";
	int log[2];

	EXPECT(s != NULL && pipe(log) == 0 && dup2(log[1], STDERR_FILENO) >= 0);
	sandbox_enter(s, kind);
	sandbox_say(s);
	expected_line(version, line);
	EXPECT(read(log[0], said, sizeof(said) - 1) > 0 && strstr(said, line) != NULL);
	EXPECT(read_error("out/file") == denied);
	EXPECT(read_error("in/token") == (kind == SANDBOX_MAIN ? 0 : denied));
	EXPECT(bind_error() == (version >= 4 && kind != SANDBOX_MAIN ? EACCES : 0));
	EXPECT(truncate(at("out/file"), 0) != 0);	/* by seccomp, SIGSYS */
	return 0;
}

/* Of a thread of that kind, in a process that ends with a call that is forbidden by seccomp. */
static void
check_version(struct config *c, int asked, int version, enum sandbox_thread kind)
{
	const pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		emulated = asked;
		(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		status = enter(c, version, kind);
		dprintf(STDOUT_FILENO, "Landlock %d, thread %d: line %d\n", asked, (int)kind, status);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

#endif

static void
test_an_older_landlock_has_what_it_can(void **state)
{
	(void)state;
#ifndef SANDBOX_NOT_HERE
	const int here = landlock_version();
	struct config *c;

	assert_non_null(mkdtemp(folder));
	assert_int_equal(mkdir(at("in"), 0700), 0);
	assert_int_equal(mkdir(at("out"), 0700), 0);
	make_file("in/token");
	make_file("out/file");
	c = settings();
	for (enum sandbox_thread kind = SANDBOX_MAIN; kind <= SANDBOX_WORKER; kind++) {
		check_version(c, -ENOSYS, -ENOSYS, kind);
		check_version(c, -EOPNOTSUPP, -EOPNOTSUPP, kind);
		for (int v = 1; v <= 8; v++)
			check_version(c, v, v < here ? v : here, kind);
	}
	config_release(c);
	unlink(at("in/token"));
	unlink(at("out/file"));
	rmdir(at("in"));
	rmdir(at("out"));
	rmdir(folder);
#endif
}

/* --- what the kernel decides once, for all arguments (seccomp_is_const_allow(), Linux 5.11) --- */

static bool
jumps(const struct sock_filter *at, uint32_t word)
{
	switch (BPF_OP(at->code)) {
	case BPF_JEQ: return word == at->k;
	case BPF_JGE: return word >= at->k;
	case BPF_JGT: return word > at->k;
	default: return (word & at->k) != 0;
	}
}

/* After how many instructions such a call is allowed; 0: not, or an argument is looked at. */
static unsigned
allowed_after(const struct sock_filter *code, unsigned arch, long nr)
{
	uint32_t word = 0;
	unsigned steps = 0;

	for (const struct sock_filter *at = code;; at++) {
		steps++;
		switch (BPF_CLASS(at->code)) {
		case BPF_LD:
			if (at->k == offsetof(struct seccomp_data, nr))
				word = (uint32_t)nr;
			else if (at->k == offsetof(struct seccomp_data, arch))
				word = arch;
			else
				return 0;
			break;
		case BPF_JMP:
			at += jumps(at, word) ? at->jt : at->jf;
			break;
		case BPF_RET:
			return at->k == SECCOMP_RET_ALLOW ? steps : 0;
		default:
			return 0;
		}
	}
}

static void
test_calls_of_the_data_path_do_not_run_the_filter(void **state)
{
	static const long path[] = {
#ifdef SYS_epoll_wait
		SYS_epoll_wait,
#endif
		SYS_epoll_pwait, SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_splice,
		SYS_accept4, SYS_getsockopt, SYS_setsockopt, SYS_epoll_ctl, SYS_futex, SYS_clock_gettime, SYS_close, SYS_shutdown, SYS_connect,
	};
	static const long others[] = { SYS_execve, SYS_socket, SYS_ioctl, SYS_mmap, SYS_openat, SYS_tgkill, SYS_prctl };
	struct sock_filter code[CALLS_FILTER_MAX];

	(void)state;
	for (enum sandbox_thread kind = SANDBOX_MAIN; kind < SANDBOX_THREADS; kind++) {
		assert_true(calls_write(kind, code) > 0);
		assert_int_equal(BPF_CLASS(code[1].code), BPF_JMP);	/* the architecture that is asked for */
		for (size_t i = 0; i < COUNT(path); i++) {
			const unsigned steps = allowed_after(code, code[1].k, path[i]);

			assert_int_not_equal(steps, 0);
			assert_true(steps <= 40);	/* each of them, on kernels before 5.11 */
		}
		for (size_t i = 0; i < COUNT(others); i++)
			if (kind == SANDBOX_WORKER || others[i] != SYS_openat)
				assert_int_equal(allowed_after(code, code[1].k, others[i]), 0);
		assert_int_equal(allowed_after(code, code[1].k + 1, SYS_recvfrom), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_older_landlock_has_what_it_can),
		cmocka_unit_test(test_calls_of_the_data_path_do_not_run_the_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
