/*
 * tcp.h - TCP as Linux does it, as far as two ends can notice: queues and
 * windows, retransmission, probes of shut windows, keepalive, TCP_USER_TIMEOUT,
 * FIN, RST and urgent bytes. Used by the program under test through calls.c,
 * and directly by the clients and servers around it.
 */
#ifndef SIM_TCP_H
#define SIM_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "network.h"
#include "queue.h"
#include "stent/endpoint.h"
#include "world.h"

enum tcp_state { TCP_S_CLOSED, TCP_S_LISTEN, TCP_S_SYN_SENT, TCP_S_SYN_RCVD, TCP_S_OPEN };

/* What a user of an end is told of; the bits are those of poll(2). */
struct tcp_user {
	void (*changed)(void *arg, unsigned poll_bits);
	void *arg;
};

/* Bytes that came before those in front of them. */
struct early {
	STAILQ_ENTRY(early) link;
	uint64_t at;
	size_t len;
	uint8_t data[];
};

/* A call that sent something. */
struct tcp_sent {
	uint64_t from, to;		/* positions */
	size_t behind;			/* so many bytes were waiting to be sent */
};

#define TCP_SENT 16

struct tcp {
	TAILQ_ENTRY(tcp) of_host;
	STAILQ_ENTRY(tcp) of_queue;	/* of connections to be accepted */
	struct host *host;
	uint64_t id;			/* of the connection: both ends have the same */
	struct address local, remote;
	enum tcp_state state;
	struct tcp_user user;

	/* What is sent: positions in the stream, from 0. A FIN takes one, as the last. */
	struct queue out;		/* from una on */
	uint64_t una, nxt, top;		/* unacknowledged, next to send, highest sent */
	uint64_t edge;			/* of the peer's window */
	bool fin_out;
	uint64_t urgent_out;		/* position after the urgent byte; 0: none */
	int64_t srtt_us, rttvar_us, min_rtt_us;
	uint64_t timed;			/* a position whose acknowledgement is timed */
	int64_t timed_us;
	unsigned retries, probes, backoff, same_acks;
	int64_t first_retry_us, first_probe_us;
	struct happening resend;

	/* What is received. */
	struct queue in;
	uint64_t read, got;		/* read by the user, received in order */
	uint64_t offered;		/* the edge of the window that was announced */
	STAILQ_HEAD(, early) early;
	size_t early_bytes;
	bool fin_in;
	uint64_t fin_at;		/* position of the peer's FIN + 1; 0: not known */
	uint64_t urgent_in;		/* position of an urgent byte + 1; 0: none */
	struct happening ack;		/* delayed */
	unsigned owed;			/* segments without an acknowledgement */

	int64_t data_in_us, ack_in_us, data_out_us;
	struct happening keep;
	bool keepalive, inline_urgent;
	int idle_s, interval_s, count, user_timeout_ms;
	bool linger_zero;
	int64_t taken_us;		/* when bytes were acknowledged last */
	int owner;			/* who gets SIGURG */

	int err;			/* pending */
	bool shut_in, shut_out;
	bool orphan;			/* its user has closed it */
	bool missed_reset;		/* it was lost on the way */
	bool was_reset;			/* by the other end: after the error, a read says 0 */
	unsigned lost;			/* of its segments, since the last one that came */
	bool wants_space;		/* a write found no room */
	struct happening late;		/* the end of an orphan */
	struct tcp_sent sent[TCP_SENT];	/* the last calls, as a ring */
	size_t n_sent;
	struct {			/* by kernel_check(): since when it has been so */
		int64_t unread_us, error_us, untimed_us;
		uint64_t read, una, top;
		bool had_timeout;
	} seen;
	STAILQ_HEAD(, tcp) accepted;	/* of a listener: to be accepted */
	struct tcp *listener;
	size_t n_accepted;
};

#define TCP_LARGE (4 * 1024 * 1024)	/* of large rooms */

/* How this world's kernels are set. */
extern struct tcp_settings {
	size_t mss, out_room, in_room;
	bool delays_acks;
} tcp_settings;

/* NULL: the port is taken. The options of a listener are those of what it accepts. */
struct tcp *tcp_new(struct host *host);
int tcp_listen(struct tcp *t, struct address at);		/* 0 or -EADDRINUSE */
struct tcp *tcp_accept(struct tcp *listener);			/* NULL: none waits */
int tcp_connect(struct tcp *t, struct address to);		/* -EINPROGRESS, or -errno */

/* As the calls: a number of bytes, 0: the end, or -errno (-EAGAIN). */
long tcp_send(struct tcp *t, const void *data, size_t len, bool urgent);
long tcp_receive(struct tcp *t, void *data, size_t len, bool peek);
int tcp_shutdown(struct tcp *t);				/* of what is sent */
void tcp_close(struct tcp *t);					/* t is not the caller's any more */
void tcp_abort(struct tcp *t);					/* the same, by a reset */
unsigned tcp_poll(const struct tcp *t);				/* bits of poll(2) */
/* A user resets a connection on purpose; NULL: nobody asks. */
extern void (*on_tcp_reset)(const struct tcp *t);
int tcp_take_error(struct tcp *t);
size_t tcp_unread(const struct tcp *t);
bool tcp_at_urgent(const struct tcp *t);
void tcp_options_changed(struct tcp *t);			/* SO_KEEPALIVE */
void tcp_keepidle_changed(struct tcp *t);

/* For network.c. */
void tcp_arrive(struct host *at, const struct segment *s);
void tcp_forget(struct host *host);				/* its kernel starts anew: no end is left, and no user is told */
void tcp_unreachable(struct host *at, const struct segment *s, int err);	/* ICMP about a segment that was sent */

#endif
