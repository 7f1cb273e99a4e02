/* test_sandbox.c - the system calls that a thread in the sandbox can no longer make: each attempt in a process of its own. */
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/calls.h"
#include "sandbox_child.h"
#include "stent/sandbox.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
