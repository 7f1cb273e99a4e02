/* stream.h - hands events on: to readers of the control socket (stream.c) and to the program of on_event (hook.c). */
#ifndef STENT_ADMIN_STREAM_H
#define STENT_ADMIN_STREAM_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct event_line;
struct evbuffer;
struct helper;
struct hook;
struct server;
struct stream;

/* 0 or -errno. */
int stream_start(struct stream **ret, struct server *s, struct event_base *base);
void stream_free(struct stream *t);	/* NULL is fine */

/* To be called after a reload: on_event and events may be others. */
void stream_configure(struct stream *t);

int stream_use_helper(struct stream *t, struct helper *h);	/* runs on_event from now on; 0 or -ENOMEM */
bool stream_may_run(const struct stream *t, const char *program);	/* in a sandbox; NULL: none */

#define STREAM_WHY_MAX 128

/*
 * A reader that has sent "events [route=NAME] [kind=KIND,...]". fd >= 0: a non-blocking socket, which is owned from now on;
 * else the request is only checked. -EINVAL, -EBUSY or -ENOMEM: fd is still the caller's, and why says what is wrong.
 */
int stream_add_reader(struct stream *t, const char *request, int fd, char why[STREAM_WHY_MAX]);

/* hook.c */
enum hook_result { HOOK_OK, HOOK_FAILED, HOOK_TIMEOUT, HOOK_LOST, HOOK_RESULTS };

int hook_new(struct hook **ret, struct event_base *base);	/* 0 or -ENOMEM */
int hook_use_helper(struct hook *h, struct event_base *base, struct helper *helper);	/* from now on; 0 or -ENOMEM */
bool hook_may_run(const struct hook *h, const char *path);	/* in a sandbox; path NULL: off */
void hook_free(struct hook *h);		/* kills a program that runs; NULL is fine */
void hook_configure(struct hook *h, const char *path, int64_t timeout_ms);	/* path NULL: off; what is queued is dropped */
void hook_run(struct hook *h, const struct event_line *e);
void hook_lost(struct hook *h, uint64_t n);	/* so many events were lost before they came here */

struct stream_figures {
	uint64_t readers, lost;		/* lost: by readers that were too slow */
	uint64_t hooks[HOOK_RESULTS];	/* runs of the program, by result */
};

void stream_read_figures(const struct stream *t, struct stream_figures *ret);
void hook_read_figures(const struct hook *h, uint64_t ret[HOOK_RESULTS]);

#endif
