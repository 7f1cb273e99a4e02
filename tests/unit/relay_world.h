/*
 * relay_world.h - a relay in this process, with clients and a server of the test on real sockets.
 *
 * One at a time: listener, then world_begin(), then flows, then world_end(). What does not happen within LONGEST_US fails.
 */
#ifndef STENT_TESTS_RELAY_WORLD_H
#define STENT_TESTS_RELAY_WORLD_H

#include <netinet/in.h>

#include "relay/shared.h"

#define LONGEST_US (5 * US_PER_S)

/* Both ends of a flow. */
struct pair {
	int client, server;
};

extern struct relay *relay;
extern struct config *config;
extern struct relay_counters **counters;
extern int listener;	/* the backend; open_backend() opens it, world_end() closes it */
extern int ended;	/* flows since world_begin() */

/* A listener of 127.0.0.1. buffer: what may wait to be sent to whom it accepts; 0: the default. */
int listen_somewhere(struct sockaddr_in *at, int buffer);
int open_backend(void);			/* its port */
void world_begin(struct config *settings);	/* keeps them, until world_end() */
void world_end(void);

/* One round of the loop. */
void turn(void);
/* The relay is given what `door` has accepted, and closes that: a flow that has not begun to connect. */
void relay_client(const struct route *route, int door);
int open_client(const struct route *route);	/* such a flow's client */
int accept_server(void);			/* the next flow's server */
struct pair open_flow(const struct route *route);
void end_pair(struct pair p);

/* What comes next: a number of bytes, 0 for a FIN, or -errno. */
ssize_t hear(int fd, char *buf, size_t size);
void passes(struct pair p, const char *text);	/* from the client to the server */

/* The log goes to a new file; logged() closes it, and returns what it has. */
void log_to_file(void);
const char *logged(char *text, size_t size);

#endif
