/*
 * helper.h - a small process that runs the program of on_event for a stent whose sandbox does not let it start any.
 */
#ifndef STENT_HELPER_H
#define STENT_HELPER_H

#include <stdbool.h>
#include <stdint.h>

struct helper;

/* How a run ended. */
struct helper_answer {
	int err;		/* an errno: it did not begin */
	int status;		/* as of wait(2) */
	bool is_killed;		/* since its time was over */
};

/*
 * Forks it, before there is a thread. It can run this program and no other, as that user if stent is root (NULL: as it
 * is), and ends when helper_stop() is called or this process is gone. 0 or -errno.
 */
int helper_start(struct helper **ret, const char *program, const char *user);
/* Runs it, one at a time, with `in` as its standard input. path: that it is meant to be. 0 or an errno. */
int helper_run(struct helper *h, const char *path, const char *event, int in, int64_t timeout_ms);
/* Readable when there is an answer. */
int helper_fd(const struct helper *h);
/* 0; -EAGAIN; another -errno: the helper is gone. */
int helper_read(struct helper *h, struct helper_answer *ret);
const char *helper_program(const struct helper *h);
/* It kills what still runs; NULL is fine. */
void helper_stop(struct helper *h);

#endif
