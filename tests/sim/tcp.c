/*
 * tcp.c - one end of a TCP connection.
 *
 * Positions in a stream are 64 bits wide and begin at 0; a connection has an
 * id where real segments have initial sequence numbers, so that what is left of
 * an older one between the same ports is recognised. There is no congestion
 * control but a limit of segments in flight. After a timeout everything
 * unacknowledged is sent again, a segment first.
 *
 * The timers follow Linux: tcp_retransmit_timer(), tcp_probe_timer(),
 * tcp_keepalive_timer(); with TCP_USER_TIMEOUT, the time since the first
 * retransmission or window probe counts instead of their number, and the one
 * since the last acknowledgement for keepalive.
 */
#include "tcp.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define RTO_MIN (200 * MS)
#define RTO_MAX (120 * SECONDS)
#define SYN_RETRIES 6
#define RETRIES 15		/* tcp_retries2 */
#define ORPHAN_RETRIES 8
#define IN_FLIGHT 16		/* segments */
#define ACK_DELAY (40 * MS)
#define FIN_WAIT (60 * SECONDS)

struct tcp_settings tcp_settings = { .mss = 1460, .out_room = 128 * 1024, .in_room = 128 * 1024 };

void (*on_tcp_reset)(const struct tcp *t);

static uint64_t last_id;

/* --- an end --- */

static void on_resend(void *arg);
static void on_keep(void *arg);
static void on_ack(void *arg);
static void on_late(void *arg);

struct tcp *
tcp_new(struct host *host)
{
	struct tcp *t = calloc(1, sizeof(*t));

	assert(t != NULL);
	t->host = host;
	t->resend = (struct happening){ .fn = on_resend, .arg = t };
	t->keep = (struct happening){ .fn = on_keep, .arg = t };
	t->ack = (struct happening){ .fn = on_ack, .arg = t };
	t->late = (struct happening){ .fn = on_late, .arg = t };
	t->idle_s = 7200;
	t->interval_s = 75;
	t->count = 9;
	STAILQ_INIT(&t->early);
	STAILQ_INIT(&t->accepted);
	TAILQ_INSERT_TAIL(&host->ends, t, of_host);
	return t;
}

static void
free_end(struct tcp *t)
{
	struct early *e;

	happen_not(&t->resend);
	happen_not(&t->keep);
	happen_not(&t->ack);
	happen_not(&t->late);
	while ((e = STAILQ_FIRST(&t->early)) != NULL) {
		STAILQ_REMOVE_HEAD(&t->early, link);
		free(e);
	}
	queue_free(&t->in);
	queue_free(&t->out);
	TAILQ_REMOVE(&t->host->ends, t, of_host);
	free(t);
}

static void
tell(struct tcp *t, unsigned bits)
{
	if (t->user.changed != NULL)
		t->user.changed(t->user.arg, bits);
}

static uint64_t
end_of(const struct tcp *t)
{
	return t->una + t->out.len + t->fin_out;
}

static uint32_t
room_in(const struct tcp *t)
{
	const size_t used = t->in.len + t->early_bytes;

	return used < tcp_settings.in_room ? (uint32_t)(tcp_settings.in_room - used) : 0;
}

/* A window is not taken back. */
static uint32_t
announced(struct tcp *t)
{
	uint64_t edge = t->got + room_in(t);

	if (edge < t->offered)
		edge = t->offered;
	else if (edge - t->got < tcp_settings.mss && edge - t->got < tcp_settings.in_room / 4)
		edge = t->got > t->offered ? t->got : t->offered;	/* against tiny windows */
	t->offered = edge;
	return (uint32_t)(edge > t->got ? edge - t->got : 0);
}

static void
emit(struct tcp *t, unsigned flags, uint64_t at, const uint8_t *data, size_t len)
{
	struct segment *s = calloc(1, sizeof(*s) + len);

	assert(s != NULL);
	*s = (struct segment){ .from = t->local, .to = t->remote, .id = t->id, .at = at, .ack = t->got + t->fin_in, .window = announced(t),
		.flags = flags, .len = len };
	if (t->urgent_out > at) {
		s->flags |= SEG_URG;
		s->urgent = t->urgent_out;
	}
	if (len > 0)
		memcpy(s->data, data, len);
	if (flags & SEG_ACK) {
		t->owed = 0;
		happen_not(&t->ack);
	}
	network_send(t->host, s);
	free(s);
}

static void
send_ack(struct tcp *t)
{
	emit(t, SEG_ACK, t->nxt, NULL, 0);
}

static void
on_ack(void *arg)
{
	send_ack(arg);
}

static void
answer_by_reset(struct host *at, const struct segment *s)
{
	const struct segment r = { .from = s->to, .to = s->from, .id = s->id, .at = s->ack, .ack = s->at + s->len, .flags = SEG_RST | SEG_ACK };

	if (!(s->flags & SEG_RST))
		network_send(at, &r);
}

/* It is over: err is what its user gets. */
static void
fail(struct tcp *t, int err)
{
	happen_not(&t->resend);
	happen_not(&t->keep);
	happen_not(&t->ack);
	queue_free(&t->out);
	t->state = TCP_S_CLOSED;
	if (t->orphan) {
		free_end(t);
		return;
	}
	t->err = err;
	t->shut_in = t->shut_out = true;
	tell(t, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
}

/* --- sending --- */

static int64_t
rto_us(const struct tcp *t)
{
	int64_t us = t->srtt_us > 0 ? t->srtt_us + 4 * t->rttvar_us : SECONDS;

	if (us < RTO_MIN)
		us = RTO_MIN;
	for (unsigned i = 0; i < t->backoff && us < RTO_MAX; i++)
		us *= 2;
	return us < RTO_MAX ? us : RTO_MAX;
}

/* As tcp_clamp_rto_to_user_timeout() and its twin for window probes. */
static int64_t
clamped(const struct tcp *t, int64_t us, int64_t since_us)
{
	int64_t left;

	if (t->user_timeout_ms == 0 || since_us == 0)
		return us;
	left = since_us + t->user_timeout_ms * MS - world_us;
	if (left < MS)
		left = MS;
	return us < left ? us : left;
}

static void
set_resend(struct tcp *t)
{
	if (t->state == TCP_S_SYN_SENT || t->state == TCP_S_SYN_RCVD || t->una < t->top)
		happen_at(&t->resend, world_us + clamped(t, rto_us(t), t->first_retry_us));
	else if (t->state == TCP_S_OPEN && t->nxt < end_of(t))
		happen_at(&t->resend, world_us + clamped(t, rto_us(t), t->first_probe_us));
	else
		happen_not(&t->resend);
}

/* Sends what the window and the limit in flight allow. */
static void
push(struct tcp *t, size_t most)
{
	while (t->state == TCP_S_OPEN && most-- > 0) {
		const uint64_t last = t->una + t->out.len;
		size_t len = t->nxt < last ? (size_t)(last - t->nxt) : 0;
		const bool fin = t->fin_out && t->nxt + (len < tcp_settings.mss ? len : tcp_settings.mss) == last && t->nxt <= last;

		if (len > tcp_settings.mss)
			len = tcp_settings.mss;
		if (t->nxt + len > t->edge)
			len = t->edge > t->nxt ? (size_t)(t->edge - t->nxt) : 0;
		if (t->nxt - t->una > IN_FLIGHT * tcp_settings.mss || (len == 0 && !(fin && t->nxt == last)))
			break;
		emit(t, SEG_ACK | (fin && t->nxt + len == last ? SEG_FIN : 0), t->nxt, len > 0 ? queue_front(&t->out) + (t->nxt - t->una) : NULL, len);
		if (t->timed == 0 && t->nxt >= t->top && len > 0) {
			t->timed = t->nxt + len;
			t->timed_us = world_us;
		}
		t->data_out_us = world_us;
		t->nxt += len + (fin && t->nxt + len == last);
		if (t->nxt > t->top)
			t->top = t->nxt;
	}
	if (t->resend.slot == 0)
		set_resend(t);
}

static bool
has_timed_out(const struct tcp *t, int64_t since_us, unsigned tries, unsigned most)
{
	if (t->user_timeout_ms > 0)
		return since_us != 0 && world_us - since_us >= t->user_timeout_ms * MS;
	return tries >= most;
}

static void
resend_syn(struct tcp *t)
{
	if (t->retries++ >= SYN_RETRIES) {
		fail(t, ETIMEDOUT);
		return;
	}
	t->backoff++;
	emit(t, t->state == TCP_S_SYN_SENT ? SEG_SYN : SEG_SYN | SEG_ACK, 0, NULL, 0);
	set_resend(t);
}

/* A window is shut: it is asked for. */
static void
probe_window(struct tcp *t)
{
	if (t->first_probe_us == 0)
		t->first_probe_us = world_us;
	if (t->orphan ? t->probes >= ORPHAN_RETRIES : has_timed_out(t, t->first_probe_us, t->probes, RETRIES)) {
		fail(t, ETIMEDOUT);
		return;
	}
	t->probes++;
	t->backoff++;
	emit(t, SEG_ACK | SEG_PROBE, t->una > 0 ? t->una - 1 : 0, NULL, 0);
	set_resend(t);
}

static void
on_resend(void *arg)
{
	struct tcp *t = arg;

	if (t->state != TCP_S_OPEN) {
		resend_syn(t);
		return;
	}
	if (t->una == t->top) {
		if (t->nxt < t->edge)
			push(t, IN_FLIGHT);
		else
			probe_window(t);
		return;
	}
	if (has_timed_out(t, t->first_retry_us, t->retries, t->orphan ? ORPHAN_RETRIES : RETRIES)) {
		fail(t, ETIMEDOUT);
		return;
	}
	if (t->first_retry_us == 0)
		t->first_retry_us = world_us;
	t->retries++;
	t->backoff++;
	t->timed = 0;
	t->nxt = t->una;
	if (t->edge <= t->una && t->out.len > 0)	/* the window is shut around what was sent */
		emit(t, SEG_ACK, t->una, queue_front(&t->out), t->out.len < tcp_settings.mss ? t->out.len : tcp_settings.mss);
	else
		push(t, 1);
	set_resend(t);
}

/* --- acknowledgements --- */

static void
measure(struct tcp *t, int64_t us)
{
	if (us < 1)
		us = 1;
	if (t->srtt_us == 0) {
		t->srtt_us = us;
		t->rttvar_us = us / 2;
	} else {
		const int64_t off = us > t->srtt_us ? us - t->srtt_us : t->srtt_us - us;

		t->rttvar_us += (off - t->rttvar_us) / 4;
		t->srtt_us += (us - t->srtt_us) / 8;
	}
	if (t->min_rtt_us == 0 || us < t->min_rtt_us)
		t->min_rtt_us = us;
}

static size_t
free_out(const struct tcp *t)
{
	return t->out.len < tcp_settings.out_room ? tcp_settings.out_room - t->out.len : 0;
}

static bool
is_writable(const struct tcp *t)
{
	return free_out(t) >= tcp_settings.out_room / 3;
}

/* False: the end is gone. */
static bool
take_ack(struct tcp *t, const struct segment *s)
{
	size_t bytes;

	if (s->ack < t->una || s->ack > t->top)
		return true;
	t->ack_in_us = world_us;
	t->probes = 0;
	if (t->una == t->top)
		t->backoff = 0;		/* an acknowledged window probe */
	if (s->ack + s->window > t->edge || s->ack > t->una)
		t->edge = s->ack + s->window > t->edge ? s->ack + s->window : t->edge;
	if (t->edge > t->nxt)
		t->first_probe_us = 0;
	if (s->ack == t->una) {
		if (s->len == 0 && t->una < t->top && !(s->flags & (SEG_FIN | SEG_PROBE)) && ++t->same_acks == 3) {
			t->nxt = t->una;
			push(t, 1);
			t->nxt = t->nxt > t->top ? t->nxt : t->top;
		}
		push(t, IN_FLIGHT);
		return true;
	}
	t->same_acks = 0;
	if (t->timed != 0 && s->ack >= t->timed) {
		measure(t, world_us - t->timed_us);
		t->timed = 0;
	}
	bytes = (size_t)(s->ack - t->una);
	if (bytes > t->out.len)
		bytes = t->out.len;	/* the rest is the FIN */
	queue_drop(&t->out, bytes);
	if (s->ack - t->una > bytes) {
		t->fin_out = false;
		t->shut_out = true;
	}
	t->una = s->ack;
	t->taken_us = world_us;
	if (t->nxt < t->una)
		t->nxt = t->una;
	t->retries = t->backoff = 0;
	t->first_retry_us = 0;
	happen_not(&t->resend);
	push(t, IN_FLIGHT);
	set_resend(t);
	if (t->wants_space && is_writable(t)) {
		t->wants_space = false;
		tell(t, POLLOUT);
	}
	return true;
}

/* --- receiving --- */

/* An orphan is over when its FIN is acknowledged and the peer's has come. */
static bool
is_over(const struct tcp *t)
{
	return t->orphan && t->out.len == 0 && !t->fin_out && t->fin_in;
}

static void
note_urgent(struct tcp *t, const struct segment *s)
{
	if (!(s->flags & SEG_URG) || s->urgent <= t->urgent_in || s->urgent <= t->read)
		return;
	t->urgent_in = s->urgent;
	if (t->owner != 0)
		(void)raise(SIGURG);
	tell(t, POLLPRI);
}

static void
keep_early(struct tcp *t, const struct segment *s)
{
	struct early *e, *after = NULL, *n;

	if (t->early_bytes + s->len > tcp_settings.in_room)
		return;
	STAILQ_FOREACH(e, &t->early, link) {
		if (e->at == s->at && e->len >= s->len)
			return;
		if (e->at < s->at)
			after = e;
	}
	n = malloc(sizeof(*n) + s->len);
	assert(n != NULL);
	n->at = s->at;
	n->len = s->len;
	memcpy(n->data, s->data, s->len);
	t->early_bytes += s->len;
	if (after != NULL)
		STAILQ_INSERT_AFTER(&t->early, after, n, link);
	else
		STAILQ_INSERT_HEAD(&t->early, n, link);
}

static void
take_bytes(struct tcp *t, uint64_t at, const uint8_t *data, size_t len)
{
	const uint64_t skip = t->got - at;

	if (at > t->got || skip >= len)
		return;
	queue_put(&t->in, data + skip, len - (size_t)skip);
	t->got += len - skip;
}

static void
take_early(struct tcp *t)
{
	struct early *e;

	while ((e = STAILQ_FIRST(&t->early)) != NULL && e->at <= t->got) {
		take_bytes(t, e->at, e->data, e->len);
		t->early_bytes -= e->len;
		STAILQ_REMOVE_HEAD(&t->early, link);
		free(e);
	}
}

/* False: the end is gone. */
static bool
take_data(struct tcp *t, const struct segment *s)
{
	const uint64_t before = t->got;
	bool at_once = s->len > 0 && (s->at != t->got || !STAILQ_EMPTY(&t->early));
	unsigned bits = 0;

	if (t->fin_in) {
		if (s->len > 0 || (s->flags & (SEG_FIN | SEG_PROBE)))
			send_ack(t);
		return true;
	}
	if (t->orphan && s->len > 0 && s->at + s->len > t->got) {	/* nobody reads it any more */
		answer_by_reset(t->host, s);
		fail(t, 0);
		return false;
	}
	note_urgent(t, s);
	if (s->len > 0) {
		t->data_in_us = world_us;
		if (s->at + s->len > t->got + room_in(t) && s->at + s->len > t->offered)
			at_once = true;	/* beyond the window: dropped */
		else if (s->at <= t->got)
			take_bytes(t, s->at, s->data, s->len);
		else
			keep_early(t, s);
	}
	if (s->flags & SEG_FIN)
		t->fin_at = s->at + s->len + 1;
	take_early(t);
	if (t->got > before)
		bits = POLLIN;
	if (t->fin_at != 0 && t->got + 1 == t->fin_at) {
		t->fin_in = t->shut_in = at_once = true;
		bits = POLLIN | POLLRDHUP | (t->shut_out ? POLLHUP : 0u);
	}
	if (s->len == 0 && !(s->flags & (SEG_FIN | SEG_PROBE)))
		return true;
	t->owed++;
	if (at_once || t->owed >= 2 || !tcp_settings.delays_acks || (s->flags & SEG_PROBE))
		send_ack(t);
	else if (t->ack.slot == 0)
		happen_at(&t->ack, world_us + rnd_between(MS, ACK_DELAY));
	if (is_over(t)) {
		free_end(t);
		return false;
	}
	if (bits != 0)
		tell(t, bits);
	return true;
}

static struct tcp *
find_end(struct host *at, const struct segment *s)
{
	struct tcp *t;

	TAILQ_FOREACH(t, &at->ends, of_host)
		if (t->state != TCP_S_CLOSED && t->state != TCP_S_LISTEN && t->id == s->id && memcmp(&t->local, &s->to, sizeof(s->to)) == 0)
			return t;
	return NULL;
}

static struct tcp *
find_listener(struct host *at, uint16_t port)
{
	struct tcp *t;

	TAILQ_FOREACH(t, &at->ends, of_host)
		if (t->state == TCP_S_LISTEN && t->local.port == port)
			return t;
	return NULL;
}

static void
copy_options(struct tcp *to, const struct tcp *from)
{
	to->keepalive = from->keepalive;
	to->inline_urgent = from->inline_urgent;
	to->idle_s = from->idle_s;
	to->interval_s = from->interval_s;
	to->count = from->count;
	to->user_timeout_ms = from->user_timeout_ms;
	to->owner = from->owner;
}

static void
take_syn(struct host *at, const struct segment *s)
{
	struct tcp *l = at->refuses ? NULL : find_listener(at, s->to.port), *t;

	if (l == NULL) {
		answer_by_reset(at, s);
		return;
	}
	t = tcp_new(at);
	copy_options(t, l);
	t->id = s->id;
	t->local = s->to;
	t->remote = s->from;
	t->state = TCP_S_SYN_RCVD;
	t->listener = l;
	t->edge = s->window;
	t->ack_in_us = t->data_in_us = world_us;
	emit(t, SEG_SYN | SEG_ACK, 0, NULL, 0);
	set_resend(t);
}

static void
opened(struct tcp *t, const struct segment *s)
{
	const bool was_asked = t->state == TCP_S_SYN_SENT;

	t->state = TCP_S_OPEN;
	t->retries = t->backoff = 0;
	t->first_retry_us = 0;
	t->edge = s->window;
	t->ack_in_us = t->data_in_us = world_us;
	happen_not(&t->resend);
	tcp_options_changed(t);
	if (was_asked) {
		measure(t, world_us - t->timed_us);
		t->timed = 0;
		send_ack(t);
		tell(t, POLLOUT);
	} else if (t->listener != NULL) {
		STAILQ_INSERT_TAIL(&t->listener->accepted, t, of_queue);
		t->listener->n_accepted++;
		tell(t->listener, POLLIN);
	}
	push(t, IN_FLIGHT);
}

static void
take_reset(struct tcp *t)
{
	if (t->state == TCP_S_SYN_RCVD) {
		free_end(t);
		return;
	}
	if (t->listener != NULL && t->user.changed == NULL && !t->orphan) {
		/* Waiting to be accepted: the user finds the error then. */
		happen_not(&t->resend);
		happen_not(&t->keep);
	}
	t->was_reset = true;
	fail(t, t->state == TCP_S_SYN_SENT ? ECONNREFUSED : t->fin_in ? EPIPE : ECONNRESET);
}

void
tcp_arrive(struct host *at, const struct segment *s)
{
	struct tcp *t = find_end(at, s);

	if (t == NULL) {
		if ((s->flags & (SEG_SYN | SEG_ACK)) == SEG_SYN)
			take_syn(at, s);
		else
			answer_by_reset(at, s);
		return;
	}
	t->lost = 0;
	if (s->flags & SEG_RST) {
		take_reset(t);
		return;
	}
	if (t->state == TCP_S_SYN_RCVD && (s->flags & SEG_SYN)) {
		emit(t, SEG_SYN | SEG_ACK, 0, NULL, 0);
		return;
	}
	if (t->state == TCP_S_SYN_SENT && (s->flags & (SEG_SYN | SEG_ACK)) == (SEG_SYN | SEG_ACK))
		opened(t, s);
	else if (t->state == TCP_S_SYN_RCVD && (s->flags & SEG_ACK))
		opened(t, s);
	else if (s->flags & SEG_SYN) {
		send_ack(t);		/* our acknowledgement of it was lost */
		return;
	}
	if (t->state == TCP_S_OPEN && take_ack(t, s))
		(void)take_data(t, s);
}

void
tcp_unreachable(struct host *at, const struct segment *s, int err)
{
	struct tcp *t;

	TAILQ_FOREACH(t, &at->ends, of_host)
		if (t->id == s->id && memcmp(&t->local, &s->from, sizeof(s->from)) == 0)
			break;
	/* An open connection only remembers it (sk_err_soft), and ends by it when its timers give up. */
	if (t != NULL && t->state == TCP_S_SYN_SENT)
		fail(t, err);
}

void
tcp_forget(struct host *host)
{
	struct tcp *t;

	while ((t = TAILQ_FIRST(&host->ends)) != NULL)
		free_end(t);
}

/* --- keepalive --- */

void
tcp_options_changed(struct tcp *t)
{
	if (t->state != TCP_S_OPEN)
		return;
	if (t->keepalive)
		happen_at(&t->keep, world_us + t->idle_s * SECONDS);
	else
		happen_not(&t->keep);
}

/* As tcp_sock_set_keepidle_locked(): a probe goes out at once when that time is over. */
void
tcp_keepidle_changed(struct tcp *t)
{
	const int64_t last_us = t->data_in_us > t->ack_in_us ? t->data_in_us : t->ack_in_us;

	if (t->state == TCP_S_OPEN && t->keepalive)
		happen_at(&t->keep, last_us + t->idle_s * SECONDS);
}

static void
on_keep(void *arg)
{
	struct tcp *t = arg;
	const int64_t last_us = t->data_in_us > t->ack_in_us ? t->data_in_us : t->ack_in_us;
	const int64_t elapsed = world_us - last_us, due = t->idle_s * SECONDS;

	if (t->state != TCP_S_OPEN)
		return;
	if (t->una < t->top || t->nxt < end_of(t)) {
		happen_at(&t->keep, world_us + due);
		return;
	}
	if (elapsed < due) {
		happen_at(&t->keep, world_us + due - elapsed);
		return;
	}
	if (t->user_timeout_ms > 0 ? elapsed >= t->user_timeout_ms * MS && t->probes > 0 : t->probes >= (unsigned)t->count) {
		emit(t, SEG_RST | SEG_ACK, t->nxt, NULL, 0);
		fail(t, ETIMEDOUT);
		return;
	}
	t->probes++;
	emit(t, SEG_ACK | SEG_PROBE, t->una > 0 ? t->una - 1 : 0, NULL, 0);
	happen_at(&t->keep, world_us + t->interval_s * SECONDS);
}

/* --- calls of its user --- */

int
tcp_listen(struct tcp *t, struct address at)
{
	if (find_listener(t->host, at.port) != NULL)
		return -EADDRINUSE;
	t->local = t->host->address;
	t->local.port = at.port;
	t->state = TCP_S_LISTEN;
	return 0;
}

struct tcp *
tcp_accept(struct tcp *listener)
{
	struct tcp *t = STAILQ_FIRST(&listener->accepted);

	if (t == NULL)
		return NULL;
	STAILQ_REMOVE_HEAD(&listener->accepted, of_queue);
	listener->n_accepted--;
	t->listener = NULL;
	return t;
}

/* The port to connect to may be the one that the kernel chooses to connect from; then the connection is one with itself. */
static bool
takes_its_own_port(struct host *h, const struct address *to)
{
	struct tcp *t;

	if (host_of(to) != h || to->port < h->last_port || !rnd_chance(5000))
		return false;
	TAILQ_FOREACH(t, &h->ends, of_host)
		if (t->local.port == to->port)
			return false;
	return true;
}

int
tcp_connect(struct tcp *t, struct address to)
{
	bool is_own;

	if (t->state != TCP_S_CLOSED)
		return t->state == TCP_S_SYN_SENT ? -EALREADY : -EISCONN;
	t->local = t->host->address;
	is_own = takes_its_own_port(t->host, &to);
	t->local.port = is_own ? to.port : ++t->host->last_port;
	t->remote = to;
	t->id = ++last_id;
	if (is_own) {		/* the kernel is done with that before connect() returns */
		t->state = TCP_S_OPEN;
		t->edge = room_in(t);
		t->ack_in_us = t->data_in_us = world_us;
		tcp_options_changed(t);
		return -EINPROGRESS;
	}
	t->state = TCP_S_SYN_SENT;
	t->timed_us = world_us;
	emit(t, SEG_SYN, 0, NULL, 0);
	set_resend(t);
	return -EINPROGRESS;
}

int
tcp_take_error(struct tcp *t)
{
	const int err = t->err;

	t->err = 0;
	return err;
}

long
tcp_send(struct tcp *t, const void *data, size_t len, bool urgent)
{
	const size_t room = free_out(t);

	if (t->err != 0)
		return -tcp_take_error(t);
	if (t->state == TCP_S_CLOSED || t->shut_out || t->fin_out)
		return -EPIPE;
	if (room == 0 || t->state == TCP_S_SYN_SENT) {
		t->wants_space = true;
		return -EAGAIN;
	}
	if (len > room) {
		len = room;
		t->wants_space = true;
	}
	t->sent[t->n_sent++ % TCP_SENT] = (struct tcp_sent){ t->una + t->out.len, t->una + t->out.len + len,
		t->una + t->out.len > t->nxt ? (size_t)(t->una + t->out.len - t->nxt) : 0 };
	queue_put(&t->out, data, len);
	if (urgent)
		t->urgent_out = t->una + t->out.len;
	push(t, IN_FLIGHT);
	return (long)len;
}

size_t
tcp_unread(const struct tcp *t)
{
	return t->in.len;
}

bool
tcp_at_urgent(const struct tcp *t)
{
	return t->urgent_in != 0 && t->read + 1 == t->urgent_in;
}

/* Reading stops before an urgent byte. */
static size_t
readable(const struct tcp *t)
{
	const uint64_t mark = t->urgent_in > 0 ? t->urgent_in - 1 : 0;

	return t->urgent_in > 0 && mark > t->read && mark < t->read + t->in.len ? (size_t)(mark - t->read) : t->in.len;
}

/* Not inline, an urgent byte is left out of the stream. */
static void
skip_urgent(struct tcp *t)
{
	if (t->inline_urgent || !tcp_at_urgent(t) || t->in.len == 0)
		return;
	queue_drop(&t->in, 1);
	t->read++;
}

long
tcp_receive(struct tcp *t, void *data, size_t len, bool peek)
{
	size_t n;
	const uint32_t before = t->offered > t->got ? (uint32_t)(t->offered - t->got) : 0;

	skip_urgent(t);
	n = readable(t);
	if (n > len)
		n = len;
	if (n > 0) {
		memcpy(data, queue_front(&t->in), n);
		if (peek)
			return (long)n;
		queue_drop(&t->in, n);
		t->read += n;
		/* Tells of a window that has become much larger. */
		if (t->state == TCP_S_OPEN && !t->fin_in && room_in(t) >= 2 * (size_t)before && room_in(t) >= before + (tcp_settings.in_room / 2 < 2 * tcp_settings.mss ? tcp_settings.in_room / 2 : 2 * tcp_settings.mss))
			send_ack(t);
		return (long)n;
	}
	if (t->err != 0)
		return -tcp_take_error(t);
	if (t->shut_in || t->state == TCP_S_CLOSED)
		return 0;
	return len == 0 ? 0 : -EAGAIN;
}

int
tcp_shutdown(struct tcp *t)
{
	if (t->state != TCP_S_OPEN)
		return -ENOTCONN;
	if (!t->shut_out && !t->fin_out) {
		t->fin_out = true;
		push(t, IN_FLIGHT);
		if (t->fin_in)
			tell(t, POLLHUP);
	}
	return 0;
}

void
tcp_abort(struct tcp *t)
{
	if (t->state == TCP_S_OPEN || t->state == TCP_S_SYN_RCVD)
		emit(t, SEG_RST | SEG_ACK, t->nxt, NULL, 0);
	free_end(t);
}

static void
close_listener(struct tcp *t)
{
	struct tcp *c, *next;

	while ((c = tcp_accept(t)) != NULL)
		tcp_abort(c);
	for (c = TAILQ_FIRST(&t->host->ends); c != NULL; c = next) {
		next = TAILQ_NEXT(c, of_host);
		if (c->listener == t)
			free_end(c);
	}
	free_end(t);
}

static void
on_late(void *arg)
{
	free_end(arg);
}

void
tcp_close(struct tcp *t)
{
	t->user = (struct tcp_user){ 0 };
	if (t->state == TCP_S_LISTEN) {
		close_listener(t);
		return;
	}
	if (t->state != TCP_S_OPEN) {
		free_end(t);
		return;
	}
	if (t->linger_zero && on_tcp_reset != NULL)
		on_tcp_reset(t);
	if (t->linger_zero || t->in.len > 0) {
		tcp_abort(t);
		return;
	}
	t->orphan = true;
	(void)tcp_shutdown(t);
	happen_not(&t->ack);
	if (is_over(t))
		free_end(t);
	else
		happen_at(&t->late, world_us + 10 * FIN_WAIT);
}

unsigned
tcp_poll(const struct tcp *t)
{
	unsigned bits = 0;

	if (t->state == TCP_S_LISTEN)
		return t->n_accepted > 0 ? POLLIN : 0;
	if (t->err != 0)
		bits |= POLLERR;
	if (t->state == TCP_S_CLOSED || (t->shut_in && (t->shut_out || t->fin_out)))
		bits |= POLLHUP;
	if (t->state == TCP_S_CLOSED || t->shut_in)
		bits |= POLLIN | POLLRDHUP;
	if (t->state == TCP_S_SYN_SENT)
		return bits;
	if (t->in.len > 0)
		bits |= POLLIN;
	if (t->shut_out || t->fin_out || t->state == TCP_S_CLOSED || is_writable(t))
		bits |= POLLOUT;
	if (t->urgent_in > t->read)
		bits |= POLLPRI;
	return bits;
}
