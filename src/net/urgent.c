/*
 * urgent.c - TCP's urgent data, told by SIGURG.
 *
 * A read in line stops before an urgent byte and, called again, begins with
 * it as with any other: that it was urgent only an ioctl before each read would
 * tell, which is a tenth of a round trip's cost. epoll can tell (EPOLLPRI), but
 * libevent does not hand that on. A signal costs nothing until it comes, and
 * the kernel sends it before it shows the byte: to the thread itself, which takes
 * it on its way out of the wait that told it of something to read.
 */
#include "stent/urgent.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

static _Thread_local volatile sig_atomic_t signals;
static _Thread_local pid_t thread;

static void
on_signal(int number)
{
	(void)number;
	signals = (sig_atomic_t)((unsigned)signals + 1);
}

void
urgent_attend(void)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	sigset_t urgent;

	thread = gettid();
	sigemptyset(&act.sa_mask);
	(void)sigaction(SIGURG, &act, NULL);
	sigemptyset(&urgent);
	sigaddset(&urgent, SIGURG);
	(void)pthread_sigmask(SIG_UNBLOCK, &urgent, NULL);
}

void
urgent_watch(int fd)
{
	const struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = thread };

	if (thread != 0)
		(void)fcntl(fd, F_SETOWN_EX, &owner);
}

unsigned
urgent_signals(void)
{
	return (unsigned)signals;
}
