/* sample_flow.h - one connection that is opened, left quiet, and then asked whether it is still there. */
#ifndef STENT_DOCTOR_SAMPLE_FLOW_H
#define STENT_DOCTOR_SAMPLE_FLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "doctor/search.h"
#include "stent/codec.h"

struct event_base;
struct sample_flow;

#define SAID_MAX 160

/* What all flows of a measurement have in common. */
struct course {
	struct event_base *base;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	const struct codec *codec;		/* NULL: no heartbeats, and TCP probes ask */
	const struct codec_settings *settings;
	const char *request;			/* what the client sends first; NULL: nothing */
	bool needs_reply;			/* this server replies to pings: an acknowledgement alone is not enough */
	int interval_s;				/* of probes and heartbeats */
	int64_t connect_ms, patience_ms;	/* how long to wait for a connection, and for an answer */
};

enum stage { STAGE_CONNECTING, STAGE_OPENING, STAGE_QUIET, STAGE_ASKING };

/* How a flow ended. */
struct fate {
	enum outcome outcome;
	enum stage stage;	/* in which it ended */
	int error;		/* errno of UNUSED; 0: the server closed, or did not answer the request */
	int64_t ended_ms;	/* see struct sample */
	int64_t lived_ms;	/* since it was connected */
	int64_t round_trip_us;	/* TCP's smoothed one */
	bool is_replied;	/* the answer was the protocol's reply */
	bool has_spoken;	/* UNUSED because the server sent data or probes in the quiet time */
	char said[SAID_MAX];	/* the first that the server said, for an error; ended by a NUL */
	size_t said_len;
};

/* done() is called once, from the event loop, unless the flow is freed before. NULL: out of memory. */
struct sample_flow *sample_flow_new(const struct course *course, enum method method, int64_t quiet_ms,
    void (*done)(void *arg, const struct fate *fate), void *arg);
void sample_flow_free(struct sample_flow *f);	/* NULL is fine; also within done() */

#endif
