/*
 * calls.c - the system calls that a thread may make, as a seccomp filter.
 *
 * Three kinds of calls:
 *   - what stent needs is allowed, where it matters only with certain arguments;
 *   - what no part of it ever makes and an attacker would (start a program, become somebody else, trace, mount, load into the
 *     kernel, executable memory, raw sockets, ...) kills the process: code of somebody else runs in it;
 *   - the rest fails with ENOSYS, as on an older kernel. A C library or OpenSSL that is newer than this list tries a new call
 *     first and falls back then: no reason to end thousands of connections. The kernel's log has a line of it (audit).
 *
 * Calls that are allowed whatever their arguments cost next to nothing: the kernel (5.11) keeps a bitmap of them and does not
 * run the filter. So those of the data path have no conditions, and come first for the kernels before.
 *
 * The filter is written here rather than by libseccomp, which makes ten thousand allocations for it and crashes when one fails.
 */
#include "sandbox/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) && !defined(__ILP32__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#endif

#ifdef ARCHITECTURE

#define FOREIGN 0x40000000	/* x86-64: calls of the x32 architecture begin here */

/* Numbers that older headers lack; the same on all architectures. */
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* Those of the data path come first. An architecture that has no open() has none of the other old calls either. */
static const int allowed[] = {
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
#endif
	SYS_epoll_pwait, SYS_epoll_pwait2, SYS_recvfrom, SYS_sendto, SYS_sendmsg, SYS_recvmsg, SYS_splice, SYS_read, SYS_write,
	SYS_readv, SYS_writev, SYS_getsockopt, SYS_setsockopt, SYS_epoll_ctl, SYS_futex, SYS_clock_gettime, SYS_gettimeofday,
	SYS_accept4, SYS_accept, SYS_close, SYS_connect, SYS_shutdown, SYS_getsockname, SYS_getpeername, SYS_fcntl, SYS_bind, SYS_pipe2,
	SYS_eventfd2, SYS_sendmmsg, SYS_recvmmsg, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_ppoll, SYS_pselect6,
	SYS_epoll_create1, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_dup, SYS_dup3, SYS_tee, SYS_brk,
	SYS_munmap, SYS_mremap, SYS_madvise, SYS_mlock, SYS_munlock, SYS_membarrier, SYS_getrandom, SYS_getpid, SYS_gettid,
	SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_uname,
	SYS_sysinfo, SYS_getrusage, SYS_times, SYS_getcpu, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep,
	SYS_sched_yield, SYS_sched_getaffinity, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending,
	SYS_sigaltstack, SYS_restart_syscall, SYS_set_robust_list, SYS_get_robust_list, SYS_rseq, SYS_exit, SYS_exit_group,
	SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_faccessat, SYS_faccessat2, SYS_readlinkat,
	SYS_getcwd, SYS_getdents64, SYS_capget, SYS_unlinkat, SYS_fchmodat, SYS_fchmodat2,
#ifdef SYS_open
	SYS_time, SYS_poll, SYS_select, SYS_getrlimit, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_chmod,
#endif
};

/* What the main thread and that of the log (which opens its file) need besides: files, and sockets to listen on. */
static const int allowed_main[] = {
	SYS_listen, SYS_socketpair, SYS_openat, SYS_fchmod, SYS_umask, SYS_setfsuid, SYS_setfsgid, SYS_memfd_create,
	SYS_ftruncate, SYS_fsync, SYS_fdatasync, SYS_wait4, SYS_waitid,
#ifdef SYS_open
	SYS_open, SYS_unlink,
#endif
};

/* Killed on all threads. */
static const int hostile[] = {
	SYS_execve, SYS_execveat, SYS_clone, SYS_clone3, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
	SYS_process_madvise, SYS_process_mrelease, SYS_kcmp, SYS_pidfd_open, SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_kill,
	SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot,
	SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_unshare,
	SYS_setns, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_mknodat, SYS_linkat, SYS_symlinkat, SYS_renameat2,
	SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid,
	SYS_setresgid, SYS_setgroups, SYS_capset, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup,
	SYS_io_uring_enter, SYS_io_uring_register, SYS_add_key, SYS_request_key, SYS_keyctl, SYS_init_module, SYS_finit_module,
	SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_reboot, SYS_swapon, SYS_swapoff, SYS_syslog, SYS_acct,
	SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname,
	SYS_personality, SYS_pkey_mprotect, SYS_vhangup, SYS_quotactl, SYS_remap_file_pages, SYS_memfd_secret,
#ifdef SYS_open
	SYS_fork, SYS_vfork, SYS_mknod, SYS_link, SYS_symlink, SYS_rename, SYS_renameat, SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
};

/* Killed on workers, which read the resolver's files and close listeners, and have nothing else to do with files. */
static const int hostile_worker[] = {
	SYS_listen, SYS_mkdirat, SYS_fchmod, SYS_fchown, SYS_fchownat, SYS_truncate, SYS_memfd_create, SYS_setfsuid,
	SYS_setfsgid,
#ifdef SYS_open
	SYS_creat, SYS_unlink, SYS_rmdir, SYS_mkdir, SYS_chown, SYS_lchown,
#endif
};

static const int hostile_main[] = {
	SYS_truncate,
#ifdef SYS_open
	SYS_creat, SYS_chown, SYS_lchown,
#endif
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Of half an argument: most are an int, whose upper half the kernel ignores, too. */
struct condition {
	uint8_t arg, is_high;
	uint16_t test;			/* BPF_JEQ, BPF_JGT */
	uint32_t mask, value;
};

/* A call with conditions: all of them. */
struct rule {
	uint32_t action;
	int nr;
	unsigned n;
	struct condition when[2];
};

#define ALLOW SECCOMP_RET_ALLOW
#define KILL SECCOMP_RET_KILL_PROCESS
#define IS(arg, value) { (arg), 0, BPF_JEQ, UINT32_MAX, (uint32_t)(value) }
#define IS_HIGH(arg, value) { (arg), 1, BPF_JEQ, UINT32_MAX, (uint32_t)(value) }
#define ABOVE(arg, value) { (arg), 0, BPF_JGT, UINT32_MAX, (uint32_t)(value) }
#define BITS(arg, mask, value) { (arg), 0, BPF_JEQ, (uint32_t)(mask), (uint32_t)(value) }
#define TYPE(arg, type) BITS(arg, 0xf, type)

static const struct rule rules[] = {
	{ ALLOW, SYS_socket, 1, { IS(0, AF_UNIX) } },
	{ ALLOW, SYS_socket, 1, { IS(0, AF_NETLINK) } },
	{ ALLOW, SYS_socket, 2, { IS(0, AF_INET), TYPE(1, SOCK_STREAM) } },
	{ ALLOW, SYS_socket, 2, { IS(0, AF_INET), TYPE(1, SOCK_DGRAM) } },
	{ ALLOW, SYS_socket, 2, { IS(0, AF_INET6), TYPE(1, SOCK_STREAM) } },
	{ ALLOW, SYS_socket, 2, { IS(0, AF_INET6), TYPE(1, SOCK_DGRAM) } },
	{ KILL, SYS_socket, 2, { IS(0, AF_INET), TYPE(1, SOCK_RAW) } },
	{ KILL, SYS_socket, 2, { IS(0, AF_INET6), TYPE(1, SOCK_RAW) } },
	{ KILL, SYS_socket, 1, { ABOVE(0, AF_NETLINK) } },	/* of packets (17), of the kernel's ciphers, of virtual machines, ... */
	{ ALLOW, SYS_ioctl, 1, { IS(1, FIONREAD) } },
	{ ALLOW, SYS_ioctl, 1, { IS(1, SIOCOUTQ) } },
	{ ALLOW, SYS_ioctl, 1, { IS(1, SIOCOUTQNSD) } },
	{ ALLOW, SYS_ioctl, 1, { IS(1, SIOCATMARK) } },
	{ ALLOW, SYS_ioctl, 1, { IS(1, FIONBIO) } },
	{ ALLOW, SYS_ioctl, 1, { IS(1, TCGETS) } },
	{ KILL, SYS_ioctl, 1, { IS(1, TIOCSTI) } },
	{ ALLOW, SYS_prctl, 1, { IS(0, PR_SET_NAME) } },
	{ ALLOW, SYS_prlimit64, 2, { IS(2, 0), IS_HIGH(2, 0) } },		/* to read a limit */
	{ ALLOW, SYS_mmap, 1, { BITS(2, PROT_EXEC, 0) } },
	{ ALLOW, SYS_mprotect, 1, { BITS(2, PROT_EXEC, 0) } },
	{ KILL, SYS_mprotect, 1, { BITS(2, PROT_EXEC, PROT_EXEC) } },
};

/* Executable memory is that of the libraries by which the C library finds users. */
static const struct rule rules_main[] = {
	{ ALLOW, SYS_mmap, 1, { BITS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC) } },
	{ KILL, SYS_mmap, 1, { BITS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC | PROT_WRITE) } },
};

#define FOR_WRITING (O_CREAT | O_TRUNC | O_APPEND)

static const struct rule rules_worker[] = {
	{ KILL, SYS_mmap, 1, { BITS(2, PROT_EXEC, PROT_EXEC) } },
	{ ALLOW, SYS_openat, 1, { BITS(2, O_ACCMODE | FOR_WRITING, O_RDONLY) } },
	{ KILL, SYS_openat, 1, { BITS(2, O_WRONLY, O_WRONLY) } },
	{ KILL, SYS_openat, 1, { BITS(2, O_RDWR, O_RDWR) } },
	{ KILL, SYS_openat, 1, { BITS(2, O_CREAT, O_CREAT) } },
#ifdef SYS_open
	{ ALLOW, SYS_open, 1, { BITS(1, O_ACCMODE | FOR_WRITING, O_RDONLY) } },
	{ KILL, SYS_open, 1, { BITS(1, O_WRONLY, O_WRONLY) } },
	{ KILL, SYS_open, 1, { BITS(1, O_RDWR, O_RDWR) } },
	{ KILL, SYS_open, 1, { BITS(1, O_CREAT, O_CREAT) } },
#endif
};

struct program {
	struct sock_filter *code;
	unsigned short n;
	bool is_full;
};

static void
add(struct program *p, struct sock_filter one)
{
	if (p->n < CALLS_FILTER_MAX)
		p->code[p->n++] = one;
	else
		p->is_full = true;
}

static void
load(struct program *p, size_t offset)
{
	add(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* Skips so many instructions unless the loaded word passes the test. */
static void
skip_unless(struct program *p, uint16_t test, uint32_t value, uint8_t skipped)
{
	add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | test | BPF_K, value, 0, skipped));
}

static void
end(struct program *p, uint32_t action)
{
	add(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* While the call's number is loaded. */
static void
add_calls(struct program *p, uint32_t action, const int calls[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		skip_unless(p, BPF_JEQ, (uint32_t)calls[i], 1);
		end(p, action);
	}
}

static size_t
offset_of(const struct condition *c)
{
	const bool is_second = c->is_high == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

	return offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t) + (is_second ? sizeof(uint32_t) : 0);
}

/* Leaves the call's number loaded. */
static void
add_rule(struct program *p, const struct rule *rule)
{
	const uint8_t per_condition = 3;

	skip_unless(p, BPF_JEQ, (uint32_t)rule->nr, (uint8_t)(rule->n * per_condition + 2));
	for (unsigned i = 0; i < rule->n; i++) {
		const struct condition *c = &rule->when[i];

		load(p, offset_of(c));
		add(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, c->mask));
		skip_unless(p, c->test, c->value, (uint8_t)((rule->n - i - 1) * per_condition + 1));
	}
	end(p, rule->action);
	load(p, offsetof(struct seccomp_data, nr));
}

static void
add_rules(struct program *p, const struct rule *all, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_rule(p, &all[i]);
}

static void
write_program(struct program *p, bool is_worker)
{
	/* Signals only to this process: how abort() ends it. */
	const struct rule own_signals = { ALLOW, SYS_tgkill, 1, { IS(0, getpid()) } };

	load(p, offsetof(struct seccomp_data, arch));
	add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0));
	end(p, KILL);
	load(p, offsetof(struct seccomp_data, nr));
	add_calls(p, ALLOW, allowed, COUNT(allowed));
	skip_unless(p, BPF_JGE, FOREIGN, 1);
	end(p, KILL);
	add_rules(p, rules, COUNT(rules));
	add_rule(p, &own_signals);
	if (is_worker) {
		add_rules(p, rules_worker, COUNT(rules_worker));
		add_calls(p, KILL, hostile_worker, COUNT(hostile_worker));
	} else {
		add_calls(p, ALLOW, allowed_main, COUNT(allowed_main));
		add_rules(p, rules_main, COUNT(rules_main));
		add_calls(p, KILL, hostile_main, COUNT(hostile_main));
	}
	add_calls(p, KILL, hostile, COUNT(hostile));
	end(p, SECCOMP_RET_ERRNO | ENOSYS);
}

static int
install(const struct sock_fprog *program, unsigned flags)
{
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program) == 0 ? 0 : -errno;
}

int
calls_write(enum sandbox_thread kind, struct sock_filter *code)
{
	struct program p = { .code = code };

	write_program(&p, kind == SANDBOX_WORKER);
	return p.is_full ? -E2BIG : p.n;
}

int
calls_enter(enum sandbox_thread kind)
{
	struct sock_filter code[CALLS_FILTER_MAX];
	struct sock_fprog program = { .filter = code };
	int r = calls_write(kind, code);

	if (r < 0)
		return r;
	program.len = (unsigned short)r;
	/* Without the second, older kernels turn speculation off for what has a filter, which slows it down. */
	r = install(&program, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	return r == -EINVAL ? install(&program, 0) : r;	/* before 4.17 */
}

#else

int
calls_write(enum sandbox_thread kind, struct sock_filter *code)
{
	(void)kind;
	(void)code;
	return -EOPNOTSUPP;
}

int
calls_enter(enum sandbox_thread kind)
{
	(void)kind;
	return -EOPNOTSUPP;		/* not known for this architecture */
}

#endif
