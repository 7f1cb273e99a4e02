/*
 * network.h - hosts, the paths between them and the machine of the program
 * under test, and the middleboxes on those paths.
 */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "stent/endpoint.h"

#define SEGMENT_MAX 65535

enum { SEG_SYN = 1, SEG_ACK = 2, SEG_FIN = 4, SEG_RST = 8, SEG_URG = 16, SEG_PROBE = 32 };

struct segment {
	struct address from, to;
	uint64_t id;			/* of the connection, instead of initial sequence numbers */
	uint64_t at, ack;		/* positions in the streams */
	uint64_t urgent;		/* position after an urgent byte */
	uint32_t window;
	unsigned flags;
	size_t len;
	uint8_t data[];
};

enum counts { COUNTS_ALL, COUNTS_PAYLOAD };

/* A device that keeps a table of flows. */
struct middlebox {
	bool exists;
	int64_t idle_us;		/* then a flow is forgotten */
	size_t room;			/* of its table; a new flow pushes out the oldest, or */
	bool refuses_new;		/* ... it does not pass */
	enum counts counts;		/* what keeps a flow */
	bool resets;			/* tells the sender of a forgotten flow, else it is silent */
};

struct path {
	int64_t delay_us, jitter_us;
	unsigned loss, reorder, doubled;	/* of 10,000 */
	unsigned usual_loss;		/* without a fault */
	bool is_cut;
	struct middlebox box;
	struct remembered *table;
	size_t n_table, room_table;
};

TAILQ_HEAD(tcp_list, tcp);

/* A machine. The first one is that of the program under test; each other has one path to it. */
struct host {
	char name[24];
	struct address address;		/* without a port */
	struct path path;
	struct tcp_list ends;
	bool refuses;			/* nobody listens */
	bool spoils_tls;		/* its programs may misbehave in TLS that they begin now */
	bool is_gone;			/* it neither receives nor sends */
	int harm;			/* enum harm: what is being done to those who talk there */
	bool has_icmp;			/* when it is gone, a router says so */
	int64_t away_us;		/* since when it is gone or cut off; 0: it is not */
	int64_t longest_away_us;
	int64_t stopped_us;		/* since when its programs are stopped; 0: they are not */
	int64_t longest_stop_us;
	uint16_t last_port;
};

#define HOSTS_MAX 24
extern struct host hosts[HOSTS_MAX];
extern size_t n_hosts;

struct host *host_add(const char *name);
struct host *host_of(const struct address *a);	/* NULL: nobody has that address */
void host_vanish(struct host *h, bool icmp);
void host_return(struct host *h);	/* as it was; talks_forget() makes it rebooted */
/* After a change of is_gone or is_cut. */
void host_note_away(struct host *h);
void network_end(void);
extern uint64_t network_segments;	/* to and from the program's machine */
/* A middlebox has forgotten a flow because nothing came for too long; set by life.c. */
extern void (*on_forgotten)(uint64_t id, bool counts_payload);

/* A segment was lost by chance, the n-th since the program's machine got one of this connection; set by life.c. */
extern void (*on_lost)(uint64_t id, unsigned in_a_row);

/* One has forgotten a flow because its table was full; set by life.c. */
extern void (*on_pushed_out)(uint64_t id);

/* Takes a copy of it to its destination, or loses it. */
void network_send(struct host *from, const struct segment *s);
/* The bits of a flow that a middlebox remembers are gone: it has been restarted. */
void middlebox_forget_all(struct path *p);

#endif
