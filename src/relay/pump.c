/*
 * pump.c - bytes from one leg to the other; one code for both directions.
 *
 * A round reads once and sends at once. Reading goes on while the socket has
 * more and the other takes it, for a few rounds; then other flows have their
 * turn. A short read means that the socket is empty (epoll(7)), unless its
 * FIN is known to stand behind, or an urgent byte (flow.c looks for that): so
 * no read is spent on an EAGAIN.
 *
 * A side that has much to be read at once is bulk: its bytes go by splice() through a
 * pooled pipe, without coming to user space.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "relay/flow.h"
#include "stent/socket.h"
#include "stent/urgent.h"

#define ROUNDS 4			/* before others have their turn */
#define SPLICE_LEAST (16 * 1024)	/* less than this is no bulk any more */
#define URGENT_ASK_US (10 * US_PER_S)	/* an urgent byte is waited for so long, once it was announced */
#define BULK_LEAST (64 * 1024)		/* read at once: from now on by splice() */

void
pump_sent(struct flow *f, enum side to, int64_t now_us)
{
	const int64_t timeout_ms = leg_settings(f, to)->user_timeout_ms;
	const int64_t look_us = now_us + timeout_ms * US_PER_MS / 2;

	leg_of(f, to)->tx_us = now_us;
	if (timeout_ms == 0 || f->state != FLOW_OPEN)
		return;
	/* One watch for two legs, whose timeouts may differ: the nearer look is kept. */
	if (f->watch_us != 0 && f->watch_us <= look_us)
		return;
	f->watch_us = look_us;
	flow_wake_at(f, look_us);
}

/* Stores what v holds beyond the first `skip` bytes. */
static int
store_rest(struct leg *l, const struct iovec *v, size_t n, size_t skip)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (skip < v[i].iov_len)
			r = backlog_add(l, (const uint8_t *)v[i].iov_base + skip, v[i].iov_len - skip);
		skip -= skip < v[i].iov_len ? skip : v[i].iov_len;
	}
	return r;
}

static ssize_t
send_spans(int fd, const struct iovec *v, size_t n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = n };
	ssize_t r;

	do
		r = n == 1 ? send(fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL) : sendmsg(fd, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r;
}

bool
pump_write(struct flow *f, enum side to, const struct iovec *v, size_t n, int64_t now_us)
{
	struct leg *l = leg_of(f, to);
	size_t total = 0;
	ssize_t r = 0;

	for (size_t i = 0; i < n; i++)
		total += v[i].iov_len;
	if (total == 0)
		return true;
	if (l->backlog == NULL) {
		r = send_spans(leg_fd(l), v, n);
		if (r < 0 && errno != EAGAIN) {
			ending_on_error(f, to, errno);
			return false;
		}
	}
	if (r > 0)
		pump_sent(f, to, now_us);
	if (r < (ssize_t)total && store_rest(l, v, n, r > 0 ? (size_t)r : 0) != 0) {
		ending_by_force(f, REASON_MEMORY);
		return false;
	}
	return true;
}

static void
received(struct flow *f, enum side from, uint64_t n)
{
	struct leg *l = leg_of(f, from);

	l->bytes += n;
	counter_add(&f->relay->counters->bytes[from], n);
}

static void
read_fin(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from);

	l->fin = true;
	l->readable = false;
	if (f->reason == REASON_NONE)
		f->reason = (uint8_t)reason_on_side(REASON_CLIENT_FIN, from);
	if (f->state == FLOW_OPEN)
		vital_judge_end(f, from, clock_us());
	if (f->vital != NULL)
		vital_finish(f, from);
}

/* A read that gave no bytes: the end, an error, or nothing now. */
static void
read_nothing(struct flow *f, enum side from, ssize_t n)
{
	if (n == 0 && leg_of(f, from)->error != 0)
		ending_on_error(f, from, leg_of(f, from)->error);
	else if (n == 0)
		read_fin(f, from);
	else if (errno == EAGAIN)
		leg_of(f, from)->readable = false;
	else if (errno != EINTR)
		ending_on_error(f, from, errno);
}

/*
 * The next read may begin with an urgent byte: one is there, or was signalled a while ago, of any flow of this
 * worker, and may still be under way. Where none ever was this costs nothing.
 */
static bool
may_be_urgent(struct flow *f, const struct leg *l)
{
	const unsigned signals = urgent_signals();
	struct relay *r = f->relay;

	if (!f->route->urgent || signals == 0)
		return l->urgent;
	if (r->urgent_signals != signals) {
		r->urgent_signals = signals;
		r->urgent_until_us = clock_us() + URGENT_ASK_US;
	}
	if (f->urgent_seen != (uint8_t)signals) {
		f->urgent_seen = (uint8_t)signals;
		for (enum side s = CLIENT; s <= BACKEND; s++)
			if (leg_fd(leg_of(f, s)) >= 0)
				leg_of(f, s)->urgent |= (socket_look(leg_fd(leg_of(f, s))) & SOCKET_URGENT) != 0;
	}
	return l->urgent || clock_us() < r->urgent_until_us;
}

/* The urgent byte alone, marked as such. A codec does not see it: whoever does not ask for it has it not in the stream. */
static bool
pump_urgent(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	uint8_t byte;
	ssize_t n = recv(leg_fd(l), &byte, 1, 0);

	if (n != 1) {
		read_nothing(f, from, n);
		return false;
	}
	l->urgent = false;
	l->rx_us = clock_us();
	if (f->vital != NULL)
		f->vital->app_us[from] = l->rx_us;
	received(f, from, 1);
	n = socket_send_urgent(leg_fd(to), byte);
	if (n == 1)
		pump_sent(f, to->side, l->rx_us);
	else if (errno != EAGAIN)
		ending_on_error(f, to->side, errno);
	else if (backlog_add_urgent(to, byte) != 0)
		ending_by_force(f, REASON_MEMORY);
	return true;
}

/* Moves what is in the pipe on to side `to`; what it does not take becomes its backlog. */
static void
splice_out(struct flow *f, enum side to, struct pipe *p)
{
	struct leg *l = leg_of(f, to);

	while (p->len > 0) {
		ssize_t n = splice(p->out, NULL, leg_fd(l), NULL, p->len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n > 0) {
			p->len -= (size_t)n;
			pump_sent(f, to, leg_of(f, side_other(to))->rx_us);
		} else if (n < 0 && errno == EAGAIN) {
			if (backlog_add_pipe(l, p) == 0)
				return;
			ending_by_force(f, REASON_MEMORY);
			break;
		} else if (n == 0 || errno != EINTR) {
			ending_on_error(f, to, n == 0 ? EPIPE : errno);
			break;
		}
	}
	relay_give_pipe(f->relay, p);
}

/* What splice() says of the socket, not of the pipe or of the call. */
static bool
is_socket_error(int err)
{
	return err != EAGAIN && err != EINTR && err != EINVAL && err != ENOMEM;
}

/* False: nothing came by splice; read instead. */
static bool
pump_splice(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from);
	uint64_t most = f->vital != NULL ? vital_unseen(f, from) : UINT64_MAX;
	struct pipe *p;
	ssize_t n;

	if (most < SPLICE_LEAST)
		return false;
	p = relay_take_pipe(f->relay);
	if (p == NULL)
		return false;
	n = splice(leg_fd(l), NULL, p->in, NULL, most < PIPE_BYTES ? (size_t)most : PIPE_BYTES,
	    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n < SPLICE_LEAST)
		l->bulk = false;
	if (n <= 0) {
		/*
		 * The end, nothing, or an urgent byte that splice() will not pass:
		 * recv() tells. An error it does not tell again: it would find the end.
		 */
		if (n < 0 && is_socket_error(errno))
			l->error = (uint8_t)errno;
		relay_give_pipe(f->relay, p);
		return false;
	}
	p->len = (size_t)n;
	l->rx_us = clock_us();
	received(f, from, (uint64_t)n);
	if (f->vital != NULL)
		vital_skipped(f, from, (uint64_t)n);
	splice_out(f, side_other(from), p);
	return true;
}

bool
pump_once(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from);
	uint8_t *buf = f->relay->buf;
	const bool urgent = may_be_urgent(f, l);
	ssize_t n;

	if (urgent && socket_at_urgent(leg_fd(l)))
		return pump_urgent(f, from);
	if (l->bulk && pump_splice(f, from))		/* which stops before an urgent byte, too */
		return true;
	n = recv(leg_fd(l), buf, RELAY_BUFFER, 0);
	if (n <= 0) {
		read_nothing(f, from, n);
		return false;
	}
	l->rx_us = clock_us();
	l->bulk = n >= BULK_LEAST;
	if (n < RELAY_BUFFER && !l->hup && !urgent)
		l->readable = false;
	if (f->vital != NULL) {
		vital_forward(f, from, buf, (size_t)n);
	} else {
		received(f, from, (uint64_t)n);
		pump_write(f, side_other(from), &(struct iovec){ buf, (size_t)n }, 1, l->rx_us);
	}
	if (!l->readable)
		flow_look_behind(f, from, l->rx_us);
	return true;
}

/* What side `from` sent has all been passed on, and it has said its last. */
static void
pass_fin(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));

	if (f->vital != NULL && vital_is_ahead(f, to->side)) {
		/* A FIN behind a promise would make a stub look whole. */
		ending_by_force(f, f->reason);
		return;
	}
	to->shut = true;
	if (l->shut) {
		ending_in_order(f);	/* closing sends the FIN */
		return;
	}
	if (f->vital != NULL)
		vital_guard(f, to->side);
	if (shutdown(leg_fd(to), SHUT_WR) != 0 && errno != ENOTCONN)
		ending_on_error(f, to->side, errno);
	else
		flow_half_closed(f);
}

void
pump(struct flow *f, enum side from)
{
	struct leg *l = leg_of(f, from), *to = leg_of(f, side_other(from));
	int rounds = ROUNDS;

	while (f->state == FLOW_OPEN && l->readable && !l->fin && to->backlog == NULL) {
		if (rounds-- == 0) {
			flow_again(f);
			return;
		}
		pump_once(f, from);
	}
	if (f->state == FLOW_OPEN && l->fin && !to->shut && to->backlog == NULL)
		pass_fin(f, from);
}
