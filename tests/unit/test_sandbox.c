/* test_sandbox.c - what a thread in the sandbox can no longer do: each attempt in a process of its own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/calls.h"
#include "sandbox/landlock.h"
#include "stent/confined.h"
#include "stent/sandbox.h"

#define DIES (-1)	/* of SIGSYS */
#define BROKEN 255	/* the test could not be made */

/* What became of a child that calls fn: DIES, 0, or the errno that it ends with. */
static int
outcome(int (*fn)(const void *arg), const void *arg)
{
	const pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
			_exit(BROKEN);
		_exit(fn(arg));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return DIES;
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), BROKEN);
	return WEXITSTATUS(status);
}

/* --- system calls --- */

struct attempt {
	const char *what;
	long nr, args[6];
	int on_worker, on_main;		/* DIES, 0 or an errno */
};

static enum sandbox_thread thread;

static int
try_call(const void *arg)
{
	const struct attempt *a = arg;
	if (calls_enter(thread) != 0)
		return BROKEN;
	return syscall(a->nr, a->args[0], a->args[1], a->args[2], a->args[3], a->args[4], a->args[5]) >= 0 ? 0 : errno;
}

static void
check(const struct attempt *a, enum sandbox_thread kind, int expected)
{
	int r;

	thread = kind;
	r = outcome(try_call, a);
	if (r != expected)
		print_error("%s on thread %d: %d, not %d\n", a->what, (int)kind, r, expected);
	assert_int_equal(r, expected);
}

static void
check_all(const struct attempt *all, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		check(&all[i], SANDBOX_WORKER, all[i].on_worker);
		check(&all[i], SANDBOX_MAIN, all[i].on_main);
		check(&all[i], SANDBOX_LOG, all[i].on_main);
	}
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ON_ALL(name) { #name, SYS_##name, { 0 }, DIES, DIES }

static void
test_a_hostile_call_ends_the_process(void **state)
{
	static const struct attempt all[] = {
		ON_ALL(execve), ON_ALL(execveat), ON_ALL(clone), ON_ALL(clone3), ON_ALL(ptrace), ON_ALL(process_vm_readv), ON_ALL(process_vm_writev),
		ON_ALL(kcmp), ON_ALL(pidfd_open), ON_ALL(pidfd_getfd), ON_ALL(pidfd_send_signal), ON_ALL(kill), ON_ALL(tkill),
		ON_ALL(rt_sigqueueinfo), ON_ALL(rt_tgsigqueueinfo), ON_ALL(mount), ON_ALL(umount2), ON_ALL(pivot_root), ON_ALL(chroot),
		ON_ALL(move_mount), ON_ALL(open_tree), ON_ALL(fsopen), ON_ALL(fsconfig), ON_ALL(fsmount), ON_ALL(fspick), ON_ALL(unshare),
		ON_ALL(setns), ON_ALL(name_to_handle_at), ON_ALL(open_by_handle_at), ON_ALL(mknodat), ON_ALL(linkat), ON_ALL(symlinkat),
		ON_ALL(renameat2), ON_ALL(setxattr), ON_ALL(lsetxattr), ON_ALL(fsetxattr), ON_ALL(setuid), ON_ALL(setgid), ON_ALL(setreuid),
		ON_ALL(setregid), ON_ALL(setresuid), ON_ALL(setresgid), ON_ALL(setgroups), ON_ALL(capset), ON_ALL(bpf), ON_ALL(perf_event_open),
		ON_ALL(userfaultfd), ON_ALL(io_uring_setup), ON_ALL(io_uring_enter), ON_ALL(io_uring_register), ON_ALL(add_key),
		ON_ALL(request_key), ON_ALL(keyctl), ON_ALL(init_module), ON_ALL(finit_module), ON_ALL(delete_module), ON_ALL(kexec_load),
		ON_ALL(reboot), ON_ALL(swapon), ON_ALL(swapoff), ON_ALL(syslog), ON_ALL(acct), ON_ALL(settimeofday), ON_ALL(clock_settime),
		ON_ALL(clock_adjtime), ON_ALL(adjtimex), ON_ALL(sethostname), ON_ALL(setdomainname), ON_ALL(personality), ON_ALL(pkey_mprotect),
		ON_ALL(vhangup), ON_ALL(quotactl), ON_ALL(remap_file_pages), ON_ALL(truncate), ON_ALL(kexec_file_load), ON_ALL(process_madvise),
		/* as SYS_... of newer headers */
		{ "mount_setattr", 442, { 0 }, DIES, DIES }, { "memfd_secret", 447, { 0 }, DIES, DIES }, { "process_mrelease", 448, { 0 }, DIES, DIES },
#ifdef SYS_fork
		ON_ALL(fork), ON_ALL(vfork), ON_ALL(mknod), ON_ALL(link), ON_ALL(symlink), ON_ALL(rename), ON_ALL(renameat), ON_ALL(creat), ON_ALL(chown), ON_ALL(lchown),
#endif
#ifdef SYS_iopl
		ON_ALL(iopl), ON_ALL(ioperm), ON_ALL(modify_ldt),
#endif
		{ "a process by clone", SYS_clone, { SIGCHLD }, DIES, DIES },
		{ "a thread by clone", SYS_clone, { CLONE_THREAD | CLONE_SIGHAND | CLONE_VM }, DIES, DIES },
		{ "a signal to another process", SYS_tgkill, { 1, 1, 0 }, ENOSYS, ENOSYS },
		{ "a packet socket", SYS_socket, { AF_PACKET, SOCK_RAW }, DIES, DIES },
		{ "an XDP socket", SYS_socket, { 44, SOCK_RAW }, DIES, DIES },
		{ "the kernel's ciphers", SYS_socket, { AF_ALG, SOCK_SEQPACKET }, DIES, DIES },
		{ "a socket to virtual machines", SYS_socket, { AF_VSOCK, SOCK_STREAM }, DIES, DIES },
		{ "a raw IPv4 socket", SYS_socket, { AF_INET, SOCK_RAW, IPPROTO_TCP }, DIES, DIES },
		{ "a raw IPv6 socket", SYS_socket, { AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP }, DIES, DIES },
		{ "writing into the terminal", SYS_ioctl, { 0, TIOCSTI }, DIES, DIES },
		{ "making memory executable", SYS_mprotect, { 0, 4096, PROT_READ | PROT_EXEC }, DIES, DIES },
		{ "memory that is written and executed", SYS_mmap, { 0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS }, DIES, DIES },
	};

	(void)state;
	check_all(all, COUNT(all));
}

static void
test_a_worker_may_less_than_the_main_thread(void **state)
{
	const long path = (long)(intptr_t)"/dev/null", none = (long)(intptr_t)"/nonexistent/x";
	const struct attempt all[] = {
		{ "listen", SYS_listen, { -1, 1 }, DIES, EBADF },
		{ "to open for writing", SYS_openat, { AT_FDCWD, path, O_WRONLY }, DIES, 0 },
		{ "to open for reading and writing", SYS_openat, { AT_FDCWD, path, O_RDWR | O_CLOEXEC }, DIES, 0 },
		{ "to create", SYS_openat, { AT_FDCWD, none, O_CREAT }, DIES, ENOENT },
		{ "to open for reading", SYS_openat, { AT_FDCWD, path, O_RDONLY | O_CLOEXEC }, 0, 0 },
		{ "unlinkat", SYS_unlinkat, { AT_FDCWD, none, 0 }, ENOENT, ENOENT },
		{ "mkdirat", SYS_mkdirat, { AT_FDCWD, none, 0700 }, DIES, ENOSYS },
		{ "fchown", SYS_fchown, { -1, 0, 0 }, DIES, ENOSYS },
		{ "setfsgid", SYS_setfsgid, { -1 }, DIES, 0 },
#ifdef SYS_unlink
		{ "unlink", SYS_unlink, { none }, DIES, ENOENT },
		{ "rmdir", SYS_rmdir, { none }, DIES, ENOSYS },
		{ "mkdir", SYS_mkdir, { none, 0700 }, DIES, ENOSYS },
		{ "to open for writing the old way", SYS_open, { path, O_WRONLY }, DIES, 0 },
		{ "to create the old way", SYS_open, { none, O_CREAT }, DIES, ENOENT },
#endif
		{ "fchmod", SYS_fchmod, { -1, 0700 }, DIES, EBADF },
		{ "fchownat", SYS_fchownat, { AT_FDCWD, none, 0, 0 }, DIES, ENOSYS },
		{ "memfd_create", SYS_memfd_create, { path, 0 }, DIES, 0 },
		{ "setfsuid", SYS_setfsuid, { -1 }, DIES, 0 },
		{ "executable memory", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS }, DIES, 0 },
	};

	(void)state;
	check_all(all, COUNT(all));
}

static void
test_what_is_needed_or_unknown_does_not_end_it(void **state)
{
	static const struct attempt all[] = {
		{ "an unknown call", SYS_landlock_create_ruleset, { 0 }, ENOSYS, ENOSYS },
		{ "a call of a kernel to come", 1000, { 0 }, ENOSYS, ENOSYS },
		{ "a limit that is set", SYS_prlimit64, { 0, RLIMIT_CORE, 1 }, ENOSYS, ENOSYS },
		{ "prctl", SYS_prctl, { PR_SET_DUMPABLE, 1 }, ENOSYS, ENOSYS },
		{ "a socket of DECnet", SYS_socket, { 12, SOCK_STREAM }, ENOSYS, ENOSYS },
		{ "TCP", SYS_socket, { AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC }, 0, 0 },
		{ "UDP", SYS_socket, { AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC }, 0, 0 },
		{ "UNIX", SYS_socket, { AF_UNIX, SOCK_SEQPACKET }, 0, 0 },
		{ "netlink", SYS_socket, { AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 4 }, 0, 0 },
		{ "memory", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS }, 0, 0 },
		{ "bytes in the queue", SYS_ioctl, { -1, FIONREAD }, EBADF, EBADF },
		{ "splice", SYS_splice, { -1, 0, -1, 0, 1, 0 }, EBADF, EBADF },
	};

	(void)state;
	check_all(all, COUNT(all));
}

#ifdef __x86_64__

/* getpid() of 32-bit programs, whose numbers mean other calls. */
static int
try_32_bit_call(const void *is_in_sandbox)
{
	long r = 20;

	if (is_in_sandbox != NULL && calls_enter(SANDBOX_WORKER) != 0)
		return BROKEN;
	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return r > 0 ? 0 : (int)-r;
}

static void
test_a_call_of_another_architecture_ends_the_process(void **state)
{
	static const struct attempt x32 = { "getpid() of x32", 0x40000000 + SYS_getpid, { 0 }, DIES, DIES };
	const pid_t pid = fork();
	int status;

	(void)state;
	check_all(&x32, 1);
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(try_32_bit_call(NULL));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))		/* else: this kernel has no such calls, and nobody can make one */
		assert_int_equal(outcome(try_32_bit_call, "in the sandbox"), DIES);
}

#endif

static int
abort_there(const void *arg)
{
	(void)arg;
	if (calls_enter(SANDBOX_WORKER) != 0)
		return BROKEN;
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void
test_an_assertion_still_ends_it_as_such(void **state)
{
	const pid_t pid = fork();
	int status;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		_exit(abort_there(NULL));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* --- files and ports --- */

static char folder[] = "/tmp/test_sandbox.XXXXXX";

static char *
at(char buf[256], const char *name)
{
	snprintf(buf, 256, "%s/%s", folder, name);
	return buf;
}

static void
make_file(const char *name)
{
	char path[256];
	const int fd = open(at(path, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0123456789abcdef", 16), 16);
	close(fd);
}

static int
make_folders(void **state)
{
	static const char *const names[] = { "in", "log", "out", "linked" };
	char path[256], target[256];

	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	for (size_t i = 0; i < COUNT(names); i++)
		assert_int_equal(mkdir(at(path, names[i]), 0700), 0);
	make_file("in/settings");
	make_file("in/secret");
	make_file("in/unused");
	make_file("out/file");
	make_file("linked/real");
	make_file("log/stent.log");
	return symlink(at(target, "linked/real"), at(path, "in/link"));
}

static int
remove_folders(void **state)
{
	char command[300];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static int
open_error(const char *name, int flags)
{
	char path[256];

	return open(name[0] == '/' ? name : at(path, name), flags, 0600) >= 0 ? 0 : errno;
}

struct file_attempt {
	const char *name;
	int flags, expected;
};

static int
try_files(const void *arg)
{
	const struct file_attempt *a = arg;
	const int version = landlock_version(), set = landlock_new(version, false);
	char path[256];

	landlock_allow_replaced(set, at(path, "in/settings"), LANDLOCK_READ);
	landlock_allow_replaced(set, at(path, "in/link"), LANDLOCK_READ);
	landlock_allow_replaced(set, at(path, "log/stent.log"), LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_CREATE);
	if (set < 0 || landlock_enter(set) != 0)
		return BROKEN;
	return open_error(a->name, a->flags);
}

static void
test_files_outside_cannot_be_opened(void **state)
{
	static const struct file_attempt all[] = {
		{ "in/settings", O_RDONLY, 0 },
		{ "in/secret", O_RDONLY, 0 },		/* its folder is allowed, for files that take the place of others */
		{ "in/link", O_RDONLY, 0 },
		{ "in/settings", O_WRONLY, EACCES },
		{ "in/new", O_WRONLY | O_CREAT, EACCES },
		{ "out/file", O_RDONLY, EACCES },
		{ "out/file", O_WRONLY, EACCES },
		{ "out/new", O_WRONLY | O_CREAT, EACCES },
		{ "/etc/hostname", O_RDONLY, EACCES },
		{ "log/stent.log", O_WRONLY | O_APPEND, 0 },
		{ "log/new.log", O_WRONLY | O_CREAT | O_EXCL, 0 },
	};

	(void)state;
	if (landlock_version() < 1) {	/* what is in force then: test_sandbox_kernels.c */
		assert_true(landlock_new(landlock_version(), false) < 0);
		return;
	}
	for (size_t i = 0; i < COUNT(all); i++)
		assert_int_equal(outcome(try_files, &all[i]), all[i].expected);
}

/* --- the whole --- */

static struct config *
settings(void)
{
	char listen_on[300], secret[300], log[300], control[300];
	char *options[] = { secret, log, control };
	struct config *c;

	snprintf(listen_on, sizeof(listen_on), "unix:%s/in/listener", folder);
	snprintf(secret, sizeof(secret), "--admin_token=@%s/in/secret", folder);
	snprintf(log, sizeof(log), "--log=file:%s/log/stent.log", folder);
	snprintf(control, sizeof(control), "--control=off");
	assert_int_equal(config_from_args(&c, listen_on, "127.0.0.1:1", options, 3, stderr), 0);
	return c;
}

#ifndef SANDBOX_NOT_HERE

/* 0, or the line of what went otherwise. */
#define EXPECT(what) do { if (!(what)) return __LINE__ & 0x7f; } while (0)

static int
bind_error(int family, const void *address, socklen_t len)
{
	const int fd = socket(family, SOCK_STREAM, 0);

	return bind(fd, address, len) == 0 ? 0 : errno;
}

static int
bind_unix(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char path[256];

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s", at(path, name));
	return bind_error(AF_UNIX, &sun, sizeof(sun));
}

static int
bind_port(uint16_t port)
{
	const struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return bind_error(AF_INET, &sin, sizeof(sin));
}

static int
unlink_error(const char *name)
{
	char path[256];

	return unlinkat(AT_FDCWD, at(path, name), 0) == 0 ? 0 : errno;
}

static int
as_main(const void *arg)
{
	const struct config *c = arg;
	struct sandbox *s = sandbox_new(c);
	char path[256];

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_MAIN);
	EXPECT(open_error("in/secret", O_RDONLY) == 0);
	EXPECT(open_error("log/stent.log", O_WRONLY | O_APPEND) == 0);
	EXPECT(open_error("log/1.log", O_WRONLY | O_CREAT) == 0);
	EXPECT(open_error("/etc/passwd", O_RDONLY) == 0);
	EXPECT(open_error("/proc/self/stat", O_RDONLY) == 0);
	EXPECT(open_error("/dev/null", O_RDWR) == 0);
	EXPECT(open_error("out/file", O_RDONLY) == EACCES);
	EXPECT(strstr(confined_error(EACCES, at(path, "out/file"), R_OK), "sandbox") != NULL);
	EXPECT(strstr(confined_error(EACCES, at(path, "out/new"), W_OK), "sandbox") != NULL);
	EXPECT(strcmp(confined_error(ENOENT, at(path, "out/none"), R_OK), strerror(ENOENT)) == 0);
	EXPECT(bind_unix("in/listener") == 0);
	EXPECT(unlink(at(path, "in/listener")) == 0);
	EXPECT(bind_unix("out/listener") == EACCES);
	EXPECT(bind_port(0) == 0);
	return 0;
}

static int
as_worker(const void *arg)
{
	struct sandbox *s = sandbox_new(arg);

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_WORKER);
	EXPECT(open_error("/etc/hosts", O_RDONLY) == 0);
	EXPECT(open_error("in/secret", O_RDONLY) == EACCES);
	EXPECT(open_error("log/stent.log", O_RDONLY) == EACCES);
	EXPECT(open_error("/proc/self/environ", O_RDONLY) == EACCES);
	EXPECT(unlink_error("in/unused") == 0);
	EXPECT(unlink_error("out/file") == EACCES);
	EXPECT(bind_port(0) == 0);
	EXPECT(landlock_version() == -ENOSYS);
	return 0;
}

static int
as_worker_with_port(const void *arg)
{
	struct sandbox *s = sandbox_new(arg);

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_WORKER);
	return bind_port(61234);
}

static int
as_log(const void *arg)
{
	struct sandbox *s = sandbox_new(arg);

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_LOG);
	EXPECT(open_error("log/2.log", O_WRONLY | O_CREAT) == 0);
	EXPECT(open_error("in/secret", O_RDONLY) == EACCES);
	EXPECT(open_error("/etc/hosts", O_RDONLY) == EACCES);
	return 0;
}

#endif

static void
test_each_thread_has_what_the_settings_need(void **state)
{
	struct config *c = settings();

	(void)state;
	assert_true(c->sandbox);
#ifdef SANDBOX_NOT_HERE
	assert_null(sandbox_new(c));
#else
	if (landlock_version() >= 1) {	/* else: test_sandbox_kernels.c */
		assert_int_equal(outcome(as_main, c), 0);
		assert_int_equal(outcome(as_worker, c), 0);
		assert_int_equal(outcome(as_log, c), 0);
	}
	if (landlock_version() >= 4)
		assert_int_equal(outcome(as_worker_with_port, c), EACCES);
	c->sandbox = false;
	assert_null(sandbox_new(c));
#endif
	config_release(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hostile_call_ends_the_process),
		cmocka_unit_test(test_a_worker_may_less_than_the_main_thread),
		cmocka_unit_test(test_what_is_needed_or_unknown_does_not_end_it),
#ifdef __x86_64__
		cmocka_unit_test(test_a_call_of_another_architecture_ends_the_process),
#endif
		cmocka_unit_test(test_an_assertion_still_ends_it_as_such),
		cmocka_unit_test(test_files_outside_cannot_be_opened),
		cmocka_unit_test(test_each_thread_has_what_the_settings_need),
	};

	return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
