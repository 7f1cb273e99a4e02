/*
 * urgent.c - TCP's urgent data, signalled by SIGURG.
 *
 * An inline read stops before an urgent byte; the next read begins with it, as
 * with any other byte. An ioctl before each read would show that it is urgent,
 * but costs a tenth of a round trip. epoll reports it (EPOLLPRI), but libevent
 * does not pass that on. A signal costs nothing until it comes. The kernel
 * sends it to the thread before the byte is readable, so it is handled before
 * epoll_wait() returns.
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
