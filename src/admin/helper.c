/*
 * helper.c - a process that runs the program of on_event.
 *
 * It is forked before there are threads and before a byte of the network was read, and knows the program's path from then on:
 * who takes over stent later can have that program run, and no other. stent sends it a request with the descriptor of the
 * event; it starts the program, waits until it has ended or its time is over, and answers. When stent is gone, however it
 * ended, the socket between them is shut: the helper kills what runs and ends. Signals of a terminal and of
 * systemd, which go to all processes, are stent's to act on: during a drain there still are events.
 */
#include "stent/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/program.h"
#include "stent/clock.h"
#include "stent/user.h"

#define EVENT_NAME_MAX 32

struct helper {
	int fd;
	pid_t pid;
	char *program;
};

struct request {
	int64_t timeout_ms;
	char event[EVENT_NAME_MAX];
};

/* A message with room for one descriptor. */
struct parcel {
	struct msghdr msg;
	struct iovec iov;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
};

static void
parcel_init(struct parcel *p, struct request *q)
{
	memset(p, 0, sizeof(*p));
	p->iov = (struct iovec){ q, sizeof(*q) };
	p->msg.msg_iov = &p->iov;
	p->msg.msg_iovlen = 1;
	p->msg.msg_control = p->control;
	p->msg.msg_controllen = sizeof(p->control);
}

/* --- in the helper --- */

/* The descriptor of the event; < 0: stent is gone. */
static int
receive(int fd, struct request *q)
{
	struct parcel p;
	struct cmsghdr *c;
	int in = -1;

	parcel_init(&p, q);
	if (TEMP_FAILURE_RETRY(recvmsg(fd, &p.msg, MSG_CMSG_CLOEXEC)) != (ssize_t)sizeof(*q))
		return -1;
	c = CMSG_FIRSTHDR(&p.msg);
	if (c == NULL || c->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&in, CMSG_DATA(c), sizeof(in));
	q->event[sizeof(q->event) - 1] = '\0';
	return in;
}

static int
left_ms(int64_t end_us)
{
	const int64_t left_us = end_us - clock_us();

	return left_us > 0 ? (int)((left_us + US_PER_MS - 1) / US_PER_MS) : 0;
}

/* Waits for its end. False: stent is gone. */
static bool
await(int fd, int children, pid_t pid, int64_t timeout_ms, struct helper_answer *a)
{
	const int64_t end_us = clock_us() + timeout_ms * US_PER_MS;
	struct pollfd p[] = { { .fd = fd }, { .fd = children, .events = POLLIN } };
	struct signalfd_siginfo info;
	bool is_there = true;

	while (waitpid(pid, &a->status, WNOHANG) == 0) {
		const int n = poll(p, 2, left_ms(end_us));

		if (n > 0 && p[1].revents != 0)
			(void)!read(children, &info, sizeof(info));
		is_there = p[0].revents == 0;
		a->is_killed = n == 0;
		if (n != 0 && is_there)
			continue;
		kill(-pid, SIGKILL);
		(void)waitpid(pid, &a->status, 0);
		break;
	}
	return is_there;
}

_Noreturn static void
serve(int fd, int children, const char *program)
{
	struct request q;
	int in;

	while ((in = receive(fd, &q)) >= 0) {
		struct helper_answer a = { 0 };
		pid_t pid;

		a.err = program_start(&pid, program, q.event, in);
		close(in);
		if (a.err == 0 && !await(fd, children, pid, q.timeout_ms, &a))
			break;
		if (send(fd, &a, sizeof(a), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* Keeps nothing of stent but its end of the socket, as descriptor 3. */
static void
close_others(int fd)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i <= STDERR_FILENO && null >= 0; i++)
		dup2(null, i);
	dup2(fd, STDERR_FILENO + 1);
	closefrom(STDERR_FILENO + 2);
}

_Noreturn static void
begin(int fd, const char *program, const char *user)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE };
	sigset_t child;
	int children;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	(void)prctl(PR_SET_NAME, "stent-on-event");
	(void)prctl(PR_SET_KEEPCAPS, 0);	/* stent may keep one for source = client */
	if (user_become(user) != 0)
		_exit(1);
	close_others(fd);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (children < 0)
		_exit(1);
	serve(STDERR_FILENO + 1, children, program);
}

/* --- in stent --- */

int
helper_start(struct helper **ret, const char *program, const char *user)
{
	struct helper *h = calloc(1, sizeof(*h));
	int fds[2], r;

	if (h == NULL || (h->program = strdup(program)) == NULL) {
		free(h);
		return -ENOMEM;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
		r = -errno;
		free(h->program);
		free(h);
		return r;
	}
	h->fd = fds[0];
	h->pid = fork();
	if (h->pid == 0) {
		close(fds[0]);
		begin(fds[1], program, user);
	}
	r = h->pid < 0 ? -errno : 0;
	close(fds[1]);
	if (r != 0) {
		h->pid = 0;
		helper_stop(h);
		return r;
	}
	*ret = h;
	return 0;
}

int
helper_run(struct helper *h, const char *path, const char *event, int in, int64_t timeout_ms)
{
	struct request q = { .timeout_ms = timeout_ms };
	struct parcel p;
	struct cmsghdr *c;

	if (strcmp(path, h->program) != 0)
		return EPERM;
	snprintf(q.event, sizeof(q.event), "%s", event);
	parcel_init(&p, &q);
	c = CMSG_FIRSTHDR(&p.msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(in));
	memcpy(CMSG_DATA(c), &in, sizeof(in));
	return sendmsg(h->fd, &p.msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(q) ? 0 : errno;
}

int
helper_fd(const struct helper *h)
{
	return h->fd;
}

int
helper_read(struct helper *h, struct helper_answer *ret)
{
	const ssize_t n = recv(h->fd, ret, sizeof(*ret), MSG_DONTWAIT);

	if (n == (ssize_t)sizeof(*ret))
		return 0;
	return n >= 0 ? -EPIPE : errno == EINTR ? -EAGAIN : -errno;
}

const char *
helper_program(const struct helper *h)
{
	return h->program;
}

void
helper_stop(struct helper *h)
{
	if (h == NULL)
		return;
	close(h->fd);
	if (h->pid > 0)
		(void)TEMP_FAILURE_RETRY(waitpid(h->pid, NULL, 0));
	free(h->program);
	free(h);
}
