/*
 * seccomp.c - what stent's filter adds to one system call. Prints one JSON line, nanoseconds a call.
 *
 * usage: seccomp ROUNDS
 *
 * Three threads of the kinds "none", "one" (the shortest filter that there is: one instruction, which allows) and "stent" (that of a
 * worker), each in a process of its own, make the same calls in turn: getppid(), which is allowed whatever its arguments, as are
 * those of the data path, and ioctl(), of which an argument is looked at. The smallest of all rounds is the figure: the
 * rest was interrupted.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/calls.h"

#define CALLS 2000
#define TRIES 40

enum kind { NONE, ONE, STENT, KINDS };

struct figures {
	double allowed_ns, looked_at_ns;
};

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int
enter_shortest(void)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { .filter = code, .len = 1 };

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0 ? 0 : -errno;
}

static double
smallest_ns(long nr, long first, long second)
{
	double smallest = 1e9;

	for (int t = 0; t < TRIES; t++) {
		const int64_t began = now_ns();

		for (int i = 0; i < CALLS; i++)
			syscall(nr, first, second);
		const double ns = (double)(now_ns() - began) / CALLS;
		smallest = ns < smallest ? ns : smallest;
	}
	return smallest;
}

/* In a child, as a filter is for good. */
static struct figures
measure(enum kind kind)
{
	struct figures f = { 0 };
	int fds[2];

	if (pipe(fds) != 0)
		exit(1);
	if (fork() == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || (kind == ONE && enter_shortest() != 0) ||
		    (kind == STENT && calls_enter(SANDBOX_WORKER) != 0))
			_exit(1);
		f.allowed_ns = smallest_ns(SYS_getppid, 0, 0);
		f.looked_at_ns = smallest_ns(SYS_ioctl, -1, FIONREAD);
		_exit(write(fds[1], &f, sizeof(f)) == sizeof(f) ? 0 : 1);
	}
	close(fds[1]);
	if (read(fds[0], &f, sizeof(f)) != sizeof(f)) {
		fprintf(stderr, "seccomp: this kernel or container allows no filter\n");
		exit(1);
	}
	close(fds[0]);
	wait(NULL);
	return f;
}

static double
smaller(double a, double b)
{
	return a == 0 || b < a ? b : a;
}

int
main(int argc, char **argv)
{
	const int rounds = argc > 1 ? atoi(argv[1]) : 10;
	struct figures best[KINDS] = { 0 };

	for (int i = 0; i < rounds; i++)
		for (enum kind kind = NONE; kind < KINDS; kind++) {
			const struct figures f = measure(kind);

			best[kind].allowed_ns = smaller(best[kind].allowed_ns, f.allowed_ns);
			best[kind].looked_at_ns = smaller(best[kind].looked_at_ns, f.looked_at_ns);
		}
	printf("{\"none\": %.1f, \"one\": %.1f, \"stent\": %.1f, \"none_looked_at\": %.1f, \"stent_looked_at\": %.1f}\n", best[NONE].allowed_ns,
	    best[ONE].allowed_ns, best[STENT].allowed_ns, best[NONE].looked_at_ns, best[STENT].looked_at_ns);
	return 0;
}
