/*
 * demo.h - the demonstration, shared by the files of src/demo.
 *
 * Everything is real but small and inside this process: sockets on loopback,
 * WebSocket, a stent per lane that has one.
 *
 *   frames.c     just enough WebSocket for both ends
 *   clock.c      the backend: responds with the time
 *   middlebox.c  relays bytes, and drops connections that are idle for too long
 *   client.c     the client: sends requests with idle time between
 *   stage.c      three lanes, their schedule and their result
 *   screen.c     output on a terminal, or line by line
 *   web.c        output in a browser
 */
#ifndef STENT_DEMO_DEMO_H
#define STENT_DEMO_DEMO_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IDLE_LIMIT_MS 6000
#define HEARTBEAT_MS 2000
#define TICK_MS 250
#define MARKS 112		/* one per TICK_MS: 28 s */
#define LANES 3

/* --- frames.c --- */

enum { FRAME_TEXT = 1, FRAME_CLOSE = 8, FRAME_PING = 9, FRAME_PONG = 10 };
#define FRAME_MAX 125

struct frame {
	int opcode;
	size_t len;
	uint8_t payload[FRAME_MAX + 1];		/* ended by a NUL */
};

/* Removes the next whole frame from buf. 1: done; 0: incomplete; -1: not supported. */
int frame_take(struct evbuffer *buf, struct frame *f);
void frame_put(struct evbuffer *buf, int opcode, const void *payload, size_t len, bool masked);
/* Removes an HTTP head. False: incomplete. */
bool head_take(struct evbuffer *buf);
void put_upgrade_request(struct evbuffer *buf);
void put_upgrade_response(struct evbuffer *buf);

/* --- clock.c, middlebox.c: servers on a port of loopback that the kernel chose --- */

struct clock_server;
struct clock_server *clock_server_new(struct event_base *base, uint16_t *port);
void clock_server_free(struct clock_server *c);

struct middlebox;
/* Relays one connection to a port of loopback. */
struct middlebox *middlebox_new(struct event_base *base, uint16_t to_port, uint16_t *port);
void middlebox_free(struct middlebox *m);
bool middlebox_has_dropped(const struct middlebox *m);
int64_t middlebox_idle_ms(const struct middlebox *m);	/* since the last payload; -1: no connection yet */

/* --- client.c --- */

struct demo_client;
struct demo_client *demo_client_new(struct event_base *base, uint16_t port);
void demo_client_free(struct demo_client *a);
void demo_client_request(struct demo_client *a);
void demo_client_leave(struct demo_client *a);		/* closes its connection */
int demo_client_requests(const struct demo_client *a);
int demo_client_responses(const struct demo_client *a);
int demo_client_pings(const struct demo_client *a);	/* pings received; the clock never sends one */
int64_t demo_client_waiting_ms(const struct demo_client *a);	/* for a response; -1: it does not wait */
const char *demo_client_last_response(const struct demo_client *a);	/* "" before the first */

/* --- stage.c --- */

enum mark { MARK_IDLE, MARK_REQUEST, MARK_RESPONSE, MARK_HEARTBEAT, MARK_DROPPED };

struct lane {
	const char *name;
	const char *way;		/* what is between client and clock */
	bool has_stent;
	bool must_survive;
	struct middlebox *box;
	struct demo_client *client;
	struct config *config;
	struct server *server;
	uint64_t heartbeats, replies;	/* stent's own, on the client leg */
	int responses;			/* of the clock, at the last tick */
	bool alive;			/* not dropped by the middlebox, at the last tick */
	int64_t waiting_ms;		/* for a response, at the last tick; -1: not waiting */
	uint8_t marks[MARKS];		/* what happened in each tick */
};

struct stage {
	struct event_base *base;
	struct clock_server *clock;
	struct lane lane[LANES];
	int64_t began_us;
	size_t tick;			/* marks written so far */
	bool over;
	bool stopped;			/* by a signal */
	int log_fd;			/* what the stents log */
	void (*on_tick)(const struct stage *s);
};

/* 0 or -errno. */
int stage_open(struct stage *s, struct event_base *base);
void stage_close(struct stage *s);
/* Runs the schedule; returns when it is over, or stopped. */
void stage_play(struct stage *s);
/* The clients close and the stents stop; the results stay. */
void stage_dismiss(struct stage *s);
bool lane_went_as_expected(const struct lane *l);
bool stage_went_as_expected(const struct stage *s);
double stage_seconds(const struct stage *s);

/* --- screen.c --- */

void screen_open(const struct stage *s);
void screen_draw(const struct stage *s);
void screen_verdict(const struct stage *s);
void screen_log(const struct stage *s);	/* after stage_dismiss() */

/* --- web.c --- */

struct web;
/* Serves the page on a port of loopback; 0 or -errno. */
int web_open(struct web **ret, struct stage *s);
const char *web_address(const struct web *w);
void web_close(struct web *w);

#endif
