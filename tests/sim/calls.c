/*
 * calls.c - descriptors and system calls of the simulated machine.
 *
 * A descriptor of the world has a number from BASE on. epoll is modelled as in
 * Linux (fs/eventpoll.c): a change of a file puts its watches on a ready list;
 * epoll_wait() asks each of them for its state then, so that changes merge; an
 * edge-triggered watch leaves the list when it was reported.
 */
#include "calls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fiber.h"
#include "tcp.h"

#define BASE 700
#define FILES 20000
#define SOL_TCP_LEVEL IPPROTO_TCP
#define PIPE_ROOM 65536
#define WAITS_IN_A_ROW 16	/* that end at once: then the other threads, which run at the same time, have their turn */

enum kind { FILE_SOCKET, FILE_POLL, FILE_PIPE_IN, FILE_PIPE_OUT, FILE_EVENT };

struct watch;
TAILQ_HEAD(watch_list, watch);

struct pipe_bytes {
	struct queue bytes;
	size_t room;
	int ends;
};

struct file {
	enum kind kind;
	int fd;
	struct watch_list watched_by;
	struct tcp *tcp;
	struct pipe_bytes *pipe;
	uint64_t count;			/* of an eventfd */
	struct watch_list watches, ready;	/* of an epoll */
	struct fiber *waiter;
	unsigned in_a_row;		/* waits that ended at once */
};

struct watch {
	TAILQ_ENTRY(watch) of_file, of_poll, of_ready;
	struct file *file, *poll;
	struct epoll_event event;
	bool is_ready;
};

struct call_faults call_faults;
size_t calls_count, calls_wakeups;
void (*on_log_line)(const char *line);

static struct file *files[FILES];
static size_t n_files;
static struct host *machine;

static struct file *
file_of(int fd)
{
	return machine != NULL && fd >= BASE && fd < BASE + FILES ? files[fd - BASE] : NULL;
}

static int
fails(int err)
{
	errno = err;
	return -1;
}

/* Each call takes a moment. */
static void
spend(void)
{
	calls_count++;
	world_us += 1 + (int64_t)(rnd() & 1);
}

static bool
is_interrupted(void)
{
	return call_faults.interrupted > 0 && rnd_chance(call_faults.interrupted);
}

static size_t
shortened(size_t len)
{
	if (len <= 1 || call_faults.shortened == 0 || !rnd_chance(call_faults.shortened))
		return len;
	return (size_t)rnd_between(1, (int64_t)len);
}

static void changed(void *arg, unsigned bits);

/* A write is short for lack of memory; then the kernel tells when there is some (SOCK_NOSPACE). */
static size_t
shortened_write(struct file *f, size_t len)
{
	const size_t n = shortened(len);

	if (n < len) {
		f->tcp->wants_space = true;	/* if there is too little now */
		changed(f, POLLOUT);
	}
	return n;
}

/* --- epoll --- */

static unsigned
state_of(const struct file *f)
{
	switch (f->kind) {
	case FILE_SOCKET:
		return tcp_poll(f->tcp);
	case FILE_EVENT:
		return POLLOUT | (f->count > 0 ? POLLIN : 0u);
	case FILE_PIPE_OUT:
		return f->pipe->bytes.len > 0 ? POLLIN : f->pipe->ends < 2 ? POLLHUP : 0u;
	case FILE_PIPE_IN:
		return f->pipe->bytes.len < f->pipe->room ? POLLOUT : 0u;
	case FILE_POLL:
		break;
	}
	return 0;
}

static void
make_ready(struct watch *w)
{
	if (!w->is_ready) {
		w->is_ready = true;
		TAILQ_INSERT_TAIL(&w->poll->ready, w, of_ready);
	}
	fiber_wake(w->poll->waiter);
}

static void
changed(void *arg, unsigned bits)
{
	struct file *f = arg;
	struct watch *w;

	TAILQ_FOREACH(w, &f->watched_by, of_file)
		if (((w->event.events | EPOLLERR | EPOLLHUP) & bits) != 0)
			make_ready(w);
}

static void
unwatch(struct watch *w)
{
	TAILQ_REMOVE(&w->file->watched_by, w, of_file);
	TAILQ_REMOVE(&w->poll->watches, w, of_poll);
	if (w->is_ready)
		TAILQ_REMOVE(&w->poll->ready, w, of_ready);
	free(w);
}

static struct watch *
watch_of(struct file *poll, struct file *f)
{
	struct watch *w;

	TAILQ_FOREACH(w, &f->watched_by, of_file)
		if (w->poll == poll)
			return w;
	return NULL;
}

/* --- the table of descriptors --- */

static struct file *
open_file(enum kind kind)
{
	struct file *f;
	int i = 0;

	if (call_faults.descriptor_limit > 0 && n_files >= call_faults.descriptor_limit)
		return errno = EMFILE, NULL;
	while (files[i] != NULL)
		i++;
	assert(i < FILES);
	f = calloc(1, sizeof(*f));
	assert(f != NULL);
	f->kind = kind;
	f->fd = BASE + i;
	TAILQ_INIT(&f->watched_by);
	TAILQ_INIT(&f->watches);
	TAILQ_INIT(&f->ready);
	files[i] = f;
	n_files++;
	return f;
}

static void
close_file(struct file *f)
{
	while (!TAILQ_EMPTY(&f->watched_by))
		unwatch(TAILQ_FIRST(&f->watched_by));
	while (!TAILQ_EMPTY(&f->watches))
		unwatch(TAILQ_FIRST(&f->watches));
	if (f->tcp != NULL)
		tcp_close(f->tcp);
	if (f->pipe != NULL && --f->pipe->ends == 0) {
		queue_free(&f->pipe->bytes);
		free(f->pipe);
	}
	files[f->fd - BASE] = NULL;
	n_files--;
	free(f);
}

static struct file *
open_socket(struct tcp *t)
{
	struct file *f = open_file(FILE_SOCKET);

	if (f == NULL)
		return NULL;
	f->tcp = t != NULL ? t : tcp_new(machine);
	f->tcp->user = (struct tcp_user){ changed, f };
	return f;
}

void
calls_begin(struct host *m)
{
	machine = m;
	calls_count = calls_wakeups = 0;
}

size_t
calls_open(void)
{
	return n_files;
}

void
calls_end(bool abandoned)
{
	size_t leaks = 0;

	for (int i = 0; i < FILES && !abandoned; i++)
		leaks += files[i] != NULL && files[i]->kind != FILE_EVENT;	/* spare ones (spare.h) are held until the process ends */
	if (leaks > 0)
		wrong("leak", "%zu descriptors are open at the end", leaks);
	for (int i = 0; i < FILES && n_files > 0; i++)
		if (files[i] != NULL)
			close_file(files[i]);
	machine = NULL;
	memset(&call_faults, 0, sizeof(call_faults));
}

/* --- addresses --- */

static struct sockaddr_in
to_sockaddr(const struct address *a)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(a->port) };

	memcpy(&sin.sin_addr, a->ip, 4);
	return sin;
}

static int
give_address(const struct address *a, struct sockaddr *sa, socklen_t *len)
{
	const struct sockaddr_in sin = to_sockaddr(a);

	memcpy(sa, &sin, *len < sizeof(sin) ? *len : sizeof(sin));
	*len = sizeof(sin);
	return 0;
}

/* --- sockets --- */

int
socket(int family, int type, int protocol)
{
	struct file *f;

	if (machine == NULL || (family != AF_INET && family != AF_INET6) || (type & 0xf) != SOCK_STREAM)
		return (int)syscall(SYS_socket, family, type, protocol);
	spend();
	if (family == AF_INET6)
		return fails(EAFNOSUPPORT);
	f = open_socket(NULL);
	return f != NULL ? f->fd : -1;
}

int
bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return (int)syscall(SYS_bind, fd, sa, len);
	spend();
	f->tcp->local = address_from_sockaddr(sa);
	return 0;
}

int
listen(int fd, int backlog)
{
	struct file *f = file_of(fd);
	int r;

	if (f == NULL)
		return (int)syscall(SYS_listen, fd, backlog);
	spend();
	r = tcp_listen(f->tcp, f->tcp->local);
	return r == 0 ? 0 : fails(-r);
}

int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return (int)syscall(SYS_connect, fd, sa, len);
	spend();
	return fails(-tcp_connect(f->tcp, address_from_sockaddr(sa)));
}

int
accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct file *f = file_of(fd), *n;

	if (f == NULL)
		return (int)syscall(SYS_accept4, fd, sa, len, flags);
	spend();
	if (f->tcp->n_accepted == 0)
		return fails(EAGAIN);
	if (call_faults.descriptor_limit > 0 && n_files >= call_faults.descriptor_limit)
		return fails(EMFILE);
	n = open_socket(tcp_accept(f->tcp));
	(void)give_address(&n->tcp->remote, sa, len);
	return n->fd;
}

int
getsockname(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
	struct file *f = file_of(fd);

	return f == NULL ? (int)syscall(SYS_getsockname, fd, sa, len) : give_address(&f->tcp->local, sa, len);
}

int
getpeername(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return (int)syscall(SYS_getpeername, fd, sa, len);
	return f->tcp->state == TCP_S_OPEN || f->tcp->state == TCP_S_SYN_RCVD ? give_address(&f->tcp->remote, sa, len) : fails(ENOTCONN);
}

int
shutdown(int fd, int how)
{
	struct file *f = file_of(fd);
	int r = 0;

	if (f == NULL)
		return (int)syscall(SYS_shutdown, fd, how);
	spend();
	if (f->tcp->state == TCP_S_LISTEN) {
		f->tcp->local.port = 0;		/* nobody finds it any more */
		return 0;
	}
	if (how != SHUT_RD)
		r = tcp_shutdown(f->tcp);
	return r == 0 ? 0 : fails(-r);
}

static ssize_t
result(long n)
{
	return n < 0 ? fails((int)-n) : (ssize_t)n;
}

ssize_t
recv(int fd, void *buf, size_t len, int flags)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
	spend();
	/* What is short of a full buffer is taken as "all of it": only an urgent byte, or the end, makes a read short. */
	return result(tcp_receive(f->tcp, buf, len, flags & MSG_PEEK));
}

ssize_t
send(int fd, const void *buf, size_t len, int flags)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return syscall(SYS_sendto, fd, buf, len, flags, NULL, 0);
	spend();
	return result(tcp_send(f->tcp, buf, shortened_write(f, len), flags & MSG_OOB));
}

ssize_t
sendmsg(int fd, const struct msghdr *m, int flags)
{
	struct file *f = file_of(fd);
	ssize_t sum = 0;

	if (f == NULL)
		return syscall(SYS_sendmsg, fd, m, flags);
	spend();
	for (size_t i = 0; i < m->msg_iovlen; i++) {
		const size_t len = shortened_write(f, m->msg_iov[i].iov_len);
		const long n = len > 0 ? tcp_send(f->tcp, m->msg_iov[i].iov_base, len, false) : 0;

		if (n < 0)
			return sum > 0 ? sum : result(n);
		sum += n;
		if ((size_t)n < m->msg_iov[i].iov_len)
			break;
	}
	return sum;
}

/* --- options --- */

static int
set_tcp_option(struct tcp *t, int name, int value)
{
	switch (name) {
	case TCP_KEEPIDLE:
		t->idle_s = value;
		tcp_keepidle_changed(t);
		return 0;
	case TCP_KEEPINTVL:
		t->interval_s = value;
		return 0;
	case TCP_KEEPCNT:
		t->count = value;
		return 0;
	case TCP_USER_TIMEOUT:
		t->user_timeout_ms = value;
		return 0;
	default:
		return 0;		/* TCP_NODELAY and others change nothing here */
	}
}

static int
set_socket_option(struct tcp *t, int name, const void *value)
{
	switch (name) {
	case SO_KEEPALIVE:
		if (t->keepalive == (*(const int *)value != 0))
			break;
		t->keepalive = !t->keepalive;
		tcp_options_changed(t);
		break;
	case SO_OOBINLINE:
		t->inline_urgent = *(const int *)value != 0;
		break;
	case SO_LINGER:
		t->linger_zero = ((const struct linger *)value)->l_onoff != 0 && ((const struct linger *)value)->l_linger == 0;
		break;
	default:
		break;
	}
	return 0;
}

int
setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
	spend();
	if (level == SOL_SOCKET)
		return set_socket_option(f->tcp, name, value);
	return level == SOL_TCP_LEVEL ? set_tcp_option(f->tcp, name, *(const int *)value) : fails(ENOPROTOOPT);
}

static uint32_t
ms_since(int64_t us)
{
	return us == 0 ? 0 : (uint32_t)((world_us - us) / MS / 4 * 4);	/* in ticks of 4 ms */
}

static void
fill_info(const struct tcp *t, struct tcp_info *info)
{
	const uint64_t in_flight = t->top > t->una ? t->nxt - t->una : 0;

	memset(info, 0, sizeof(*info));
	info->tcpi_state = t->state == TCP_S_LISTEN ? 10 : t->state == TCP_S_OPEN ? 1 : t->state == TCP_S_SYN_SENT ? 2 : 7;
	info->tcpi_retransmits = (uint8_t)t->retries;
	info->tcpi_probes = (uint8_t)t->probes;
	info->tcpi_backoff = (uint8_t)t->backoff;
	info->tcpi_unacked = (uint32_t)((in_flight + tcp_settings.mss - 1) / tcp_settings.mss);
	if (t->state == TCP_S_LISTEN) {
		info->tcpi_unacked = (uint32_t)t->n_accepted;
		info->tcpi_sacked = 4096;
	}
	info->tcpi_notsent_bytes = (uint32_t)(t->una + t->out.len > t->nxt ? t->una + t->out.len - t->nxt : 0);
	info->tcpi_last_ack_recv = ms_since(t->ack_in_us);
	info->tcpi_last_data_sent = ms_since(t->data_out_us);
	info->tcpi_last_data_recv = ms_since(t->data_in_us);
	info->tcpi_rtt = (uint32_t)t->srtt_us;
	info->tcpi_rttvar = (uint32_t)t->rttvar_us;
	info->tcpi_min_rtt = t->min_rtt_us > 0 ? (uint32_t)t->min_rtt_us : UINT32_MAX;
	info->tcpi_snd_wnd = (uint32_t)(t->edge > t->una ? t->edge - t->una : 0);
}

int
getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
	spend();
	if (level == SOL_SOCKET && name == SO_ERROR) {
		*(int *)value = tcp_take_error(f->tcp);
		return 0;
	}
	if (level == SOL_TCP_LEVEL && name == TCP_INFO) {
		struct tcp_info info;

		fill_info(f->tcp, &info);
		if (*len > sizeof(info))
			*len = sizeof(info);
		memcpy(value, &info, *len);
		return 0;
	}
	return fails(ENOPROTOOPT);
}

int
ioctl(int fd, unsigned long request, ...)
{
	struct file *f = file_of(fd);
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (f == NULL)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	spend();
	switch (request) {
	case FIONREAD:
		*(int *)arg = (int)tcp_unread(f->tcp);
		return 0;
	case SIOCOUTQ:
		*(int *)arg = (int)(f->tcp->out.len + f->tcp->fin_out);
		return 0;
	case SIOCATMARK:
		*(int *)arg = tcp_at_urgent(f->tcp);
		return 0;
	default:
		return fails(ENOTTY);
	}
}

int
fcntl(int fd, int cmd, ...)
{
	struct file *f = file_of(fd);
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (f == NULL)
		return (int)syscall(SYS_fcntl, fd, cmd, arg);
	spend();
	if (cmd == F_SETOWN_EX && f->tcp != NULL)
		f->tcp->owner = 1;
	if (cmd == F_SETPIPE_SZ && f->pipe != NULL)
		return (int)(f->pipe->room = (size_t)(uintptr_t)arg);
	return 0;
}

int
fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fcntl(fd, cmd, arg);
}

int
poll(struct pollfd *p, nfds_t n, int timeout)
{
	struct file *f = n == 1 ? file_of(p->fd) : NULL;

	if (f == NULL) {	/* not SYS_poll: arm64 has none */
		struct timespec left = { .tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L };

		return (int)syscall(SYS_ppoll, p, n, timeout < 0 ? NULL : &left, NULL, 0);
	}
	assert(timeout == 0);
	spend();
	p->revents = (short)(state_of(f) & ((unsigned)p->events | POLLERR | POLLHUP));
	return p->revents != 0;
}

/* --- pipes and eventfd --- */

int
pipe2(int fd[2], int flags)
{
	struct file *out, *in;

	if (machine == NULL)
		return (int)syscall(SYS_pipe2, fd, flags);
	spend();
	if (call_faults.no_pipes)
		return fails(ENFILE);
	out = open_file(FILE_PIPE_OUT);
	in = out != NULL ? open_file(FILE_PIPE_IN) : NULL;
	if (in == NULL) {
		if (out != NULL)
			close_file(out);
		return fails(EMFILE);
	}
	out->pipe = in->pipe = calloc(1, sizeof(*in->pipe));
	assert(in->pipe != NULL);
	*in->pipe = (struct pipe_bytes){ .room = PIPE_ROOM, .ends = 2 };
	fd[0] = out->fd;
	fd[1] = in->fd;
	return 0;
}

static ssize_t
splice_in(struct tcp *t, struct pipe_bytes *p, size_t len)
{
	uint8_t *buf;
	long n;

	if (len > p->room - p->bytes.len)
		len = p->room - p->bytes.len;
	if (len == 0)
		return fails(EAGAIN);
	buf = malloc(len);
	assert(buf != NULL);
	n = tcp_receive(t, buf, shortened(len), false);
	if (n > 0)
		queue_put(&p->bytes, buf, (size_t)n);
	free(buf);
	return result(n);
}

static ssize_t
splice_out(struct pipe_bytes *p, struct file *to, size_t len)
{
	long n;

	if (p->bytes.len == 0)
		return fails(EAGAIN);
	n = tcp_send(to->tcp, queue_front(&p->bytes), shortened_write(to, len < p->bytes.len ? len : p->bytes.len), false);
	if (n > 0)
		queue_drop(&p->bytes, (size_t)n);
	return result(n);
}

ssize_t
splice(int from, off_t *from_off, int to, off_t *to_off, size_t len, unsigned flags)
{
	struct file *a = file_of(from), *b = file_of(to);

	if (a == NULL || b == NULL)
		return syscall(SYS_splice, from, from_off, to, to_off, len, flags);
	spend();
	return a->kind == FILE_SOCKET ? splice_in(a->tcp, b->pipe, len) : splice_out(a->pipe, b, len);
}

int
eventfd(unsigned count, int flags)
{
	struct file *f;

	if (machine == NULL)
		return (int)syscall(SYS_eventfd2, count, flags);
	f = open_file(FILE_EVENT);
	if (f == NULL)
		return -1;
	f->count = count;
	return f->fd;
}

ssize_t
read(int fd, void *buf, size_t len)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return syscall(SYS_read, fd, buf, len);
	spend();
	if (f->kind == FILE_SOCKET)
		return result(tcp_receive(f->tcp, buf, len, false));
	if (f->kind != FILE_EVENT)
		return fails(EBADF);
	if (f->count == 0)
		return fails(EAGAIN);
	memcpy(buf, &f->count, sizeof(f->count));
	f->count = 0;
	return sizeof(f->count);
}

static void
take_log(const void *data, size_t len)
{
	static char line[8192];
	static size_t n;
	const char *p = data;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != '\n' && n + 1 < sizeof(line)) {
			line[n++] = p[i];
			continue;
		}
		line[n] = '\0';
		n = 0;
		on_log_line(line);
	}
}

ssize_t
write(int fd, const void *buf, size_t len)
{
	struct file *f = file_of(fd);

	if (fd == 2 && machine != NULL && on_log_line != NULL && fiber_current() != NULL) {
		take_log(buf, len);
		return (ssize_t)len;
	}
	if (f == NULL)
		return syscall(SYS_write, fd, buf, len);
	spend();
	if (f->kind == FILE_SOCKET)
		return result(tcp_send(f->tcp, buf, len, false));
	if (f->kind != FILE_EVENT)
		return fails(EBADF);
	f->count += *(const uint64_t *)buf;
	changed(f, POLLIN);
	return (ssize_t)len;
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
	ssize_t sum = 0;

	if (fd != 2 || machine == NULL || on_log_line == NULL || fiber_current() == NULL)
		return syscall(SYS_writev, fd, v, n);
	for (int i = 0; i < n; i++) {
		take_log(v[i].iov_base, v[i].iov_len);
		sum += (ssize_t)v[i].iov_len;
	}
	return sum;
}

int
close(int fd)
{
	struct file *f = file_of(fd);

	if (f == NULL)
		return (int)syscall(SYS_close, fd);
	spend();
	close_file(f);
	return 0;
}

/* --- epoll's calls --- */

int
epoll_create1(int flags)
{
	struct file *f;

	if (machine == NULL)
		return (int)syscall(SYS_epoll_create1, flags);
	f = open_file(FILE_POLL);
	return f != NULL ? f->fd : -1;
}

int
epoll_create(int size)
{
	(void)size;
	return epoll_create1(0);
}

int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct file *p = file_of(epfd), *f = file_of(fd);
	struct watch *w;

	if (p == NULL)
		return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
	spend();
	if (f == NULL)
		return fails(fd >= BASE ? EBADF : EPERM);
	w = watch_of(p, f);
	if (op == EPOLL_CTL_ADD ? w != NULL : w == NULL)
		return fails(op == EPOLL_CTL_ADD ? EEXIST : ENOENT);
	if (op == EPOLL_CTL_DEL) {
		unwatch(w);
		return 0;
	}
	if (w == NULL) {
		w = calloc(1, sizeof(*w));
		assert(w != NULL);
		w->file = f;
		w->poll = p;
		TAILQ_INSERT_TAIL(&f->watched_by, w, of_file);
		TAILQ_INSERT_TAIL(&p->watches, w, of_poll);
	}
	w->event = *event;
	if ((state_of(f) & (event->events | EPOLLERR | EPOLLHUP)) != 0)
		make_ready(w);
	return 0;
}

/* Reports what is ready now. */
static int
collect(struct file *p, struct epoll_event *events, int most)
{
	struct watch_list again = TAILQ_HEAD_INITIALIZER(again);
	struct watch *w;
	int n = 0;

	while (n < most && (w = TAILQ_FIRST(&p->ready)) != NULL) {
		const unsigned bits = state_of(w->file) & (w->event.events | EPOLLERR | EPOLLHUP);

		TAILQ_REMOVE(&p->ready, w, of_ready);
		w->is_ready = false;
		if (bits == 0)
			continue;
		events[n++] = (struct epoll_event){ .events = bits, .data = w->event.data };
		if (!(w->event.events & EPOLLET)) {
			w->is_ready = true;
			TAILQ_INSERT_TAIL(&again, w, of_ready);
		}
	}
	TAILQ_CONCAT(&p->ready, &again, of_ready);
	return n;
}

/* A wake-up may be about a file whose state is the same as before. */
static void
wake_in_vain(struct file *p)
{
	struct watch *w;

	if (call_faults.spurious == 0 || !rnd_chance(call_faults.spurious))
		return;
	TAILQ_FOREACH(w, &p->watches, of_poll)
		if (rnd_chance(3000))
			make_ready(w);
}

int
epoll_wait(int epfd, struct epoll_event *events, int most, int timeout)
{
	struct file *p = file_of(epfd);
	const int64_t until_us = timeout < 0 ? NEVER : world_us + timeout * MS;
	int n;

	if (p == NULL)
		return (int)syscall(SYS_epoll_pwait, epfd, events, most, timeout, NULL, 8);
	spend();
	if (timeout == 0) {
		n = collect(p, events, most);
		if (n == 0)
			fiber_wait(world_us + 1);	/* it is asked in a loop: others run too */
		return n > 0 ? n : collect(p, events, most);
	}
	p->in_a_row = TAILQ_EMPTY(&p->ready) ? 0 : p->in_a_row + 1;
	if (p->in_a_row >= WAITS_IN_A_ROW) {
		p->in_a_row = 0;
		fiber_wait(world_us + 1);
	}
	p->waiter = fiber_current();
	while (TAILQ_EMPTY(&p->ready) && world_us < until_us)
		fiber_wait(until_us);
	p->waiter = NULL;
	calls_wakeups++;
	wake_in_vain(p);
	if (is_interrupted())
		return fails(EINTR);
	return collect(p, events, most);
}

/* --- time and chance --- */

static int
real_time(clockid_t clock, struct timespec *t)
{
	return (int)syscall(SYS_clock_gettime, clock, t);
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	if (machine == NULL || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
		return real_time(clock, t);
	world_us += (int64_t)(rnd() & 1);	/* a program that looks at the clock again sees it move on */
	*t = (struct timespec){ .tv_sec = world_us / SECONDS, .tv_nsec = world_us % SECONDS * 1000 };
	if (clock == CLOCK_REALTIME)
		t->tv_sec += 1700000000;
	return 0;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	*tv = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
	return 0;
}

time_t
time(time_t *ret)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	if (ret != NULL)
		*ret = t.tv_sec;
	return t.tv_sec;
}

ssize_t
getrandom(void *buf, size_t len, unsigned flags)
{
	if (machine == NULL)
		return syscall(SYS_getrandom, buf, len, flags);
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)rnd();
	return (ssize_t)len;
}

/* The names that _FORTIFY_SOURCE gives to some of them. */
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
int __poll_chk(struct pollfd *p, nfds_t n, int timeout, size_t room);

ssize_t
__recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
	(void)room;
	return recv(fd, buf, len, flags);
}

ssize_t
__read_chk(int fd, void *buf, size_t len, size_t room)
{
	(void)room;
	return read(fd, buf, len);
}

int
__poll_chk(struct pollfd *p, nfds_t n, int timeout, size_t room)
{
	(void)room;
	return poll(p, n, timeout);
}
