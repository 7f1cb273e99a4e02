/*
 * load.h - what the load modes share. One process, one thread, one epoll plays
 * both ends: the clients that connect to the relay and the backend behind it,
 * so that one clock sees a round trip and one core carries all that is not
 * the relay. Any error ends the program: a figure from a broken run is none.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_PIDS 16

struct options {
	int relay_port, backend_port;
	int conns;
	size_t size;		/* of a message */
	uint64_t count;		/* units of work to measure: round trips, connections, bytes */
	double seconds;		/* heartbeats, paced: how long to measure */
	double settle;		/* heartbeats: how long before that, once all flows stand */
	double rate;		/* paced: round trips a second */
	bool ws;		/* a WebSocket upgrade first, messages in frames */
	const char *tls;	/* a file with certificate and key; NULL: no TLS */
	bool tls_client, tls_backend;	/* whose ends are inside TLS */
	bool resume;		/* clients resume a session */
	bool reverse;		/* bulk: from the backend to the clients */
	bool raw_heartbeats;		/* heartbeats are any 8 bytes, answered by 8 bytes */
	int pids[MAX_PIDS];	/* the relay's processes */
	int n_pids;
};

/* Each mode prints its result as one JSON object on a line. */
void mode_rtt(const struct options *o);
void mode_paced(const struct options *o);
void mode_conn(const struct options *o);
void mode_bulk(const struct options *o);
void mode_idle(const struct options *o);
void mode_heartbeats(const struct options *o);

/* load_net.c: sockets on loopback, non-blocking, TCP_NODELAY */
int net_listen(int port);
int net_accept(int listen_fd);		/* -1: nobody waits */
int net_connect(int port, unsigned n);	/* n chooses the source address: ports are few */
void net_watch(int epoll_fd, int fd, uint32_t events, void *who);
void net_send_all(int fd, const void *data, size_t n);	/* a few bytes into an empty socket */

/* load_tls.c: the ends, plain or inside TLS after tls_begin(). As recv(), send(), shutdown() and close(). */
void tls_setup(const char *pem, bool resumes);
void tls_begin(int fd, bool client);
uint64_t tls_resumed(void);		/* connections that have resumed a session and are closed */
ssize_t end_recv(int fd, void *buf, size_t len);
ssize_t end_send_some(int fd, const void *buf, size_t len);
void end_fin(int fd);
void end_gone(int fd);

/* load_measure.c: the clock, the relay's CPU, the figures */
int64_t now_ns(void);
_Noreturn void die(const char *what);	/* with errno */
_Noreturn void fail(const char *what);

struct measure {
	int64_t start_ns, end_ns;
	int64_t cpu_ns;		/* the relay's, all its threads */
	uint32_t *sample_us10;	/* tenths of a microsecond */
	uint64_t n_samples, max_samples;
	bool never_at_rest;	/* heartbeats go on: no use in waiting for silence */
};

void measure_init(struct measure *m, uint64_t max_samples);
void measure_start(struct measure *m, const struct options *o);	/* waits till the relay is at rest */
void measure_end(struct measure *m, const struct options *o);
static inline void
measure_sample(struct measure *m, int64_t ns)
{
	if (m->n_samples < m->max_samples)
		m->sample_us10[m->n_samples++] = (uint32_t)(ns / 100);
}
/* units: how many; the name of one is the caller's. */
void measure_print(struct measure *m, double units);

/* load_ws.c: as much WebSocket as the load needs */
#define WS_MASK "\x11\x22\x33\x44"
extern const char ws_request[], ws_response[];
/* Writes a binary frame of `size` payload bytes; returns its length. at: size + 14 bytes. */
size_t ws_frame(uint8_t *at, size_t size, bool masked);
/*
 * Reads pings from data and writes their pongs to out. Returns the length of
 * the pongs; *n counts them. Anything else than whole pings is a failure.
 */
size_t ws_answer_pings(const uint8_t *data, size_t len, bool masked, uint8_t *out, uint64_t *n);

#endif
