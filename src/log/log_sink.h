/* log_sink.h - what the log's lines are written to: stderr, syslog or a file. Not safe from two threads at once. */
#ifndef STENT_ADMIN_LOG_SINK_H
#define STENT_ADMIN_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "stent/log.h"

/* 0, or -errno: then the previous one stays in use. Copies what it needs. */
int sink_open(const struct log_settings *s);
/* The same in two steps, the first from any thread: opens what s names, and uses it. */
struct sink_next {
	enum log_target target;
	char *path;
	int fd;
	bool is_made, is_kept;
};
int sink_prepare(const struct log_settings *s, struct sink_next *ret);
void sink_use(struct sink_next *next);		/* takes what it owns */
void sink_abandon(struct sink_next *next);
/* Opens the file again by its name. Returns the same; 0 where there is no file. */
int sink_reopen(void);
const char *sink_path(void);	/* of the file; NULL: there is none */
/* Gives the file to the user. 0 or -errno. */
int sink_give(uid_t user, gid_t group);
void sink_close(void);		/* stderr again */

/*
 * Writes one line, with its newline. False: it is lost. Without room it waits as
 * long as goes_on() returns true; with NULL a moment, or not at all if the last
 * line was lost, too.
 */
bool sink_write(enum log_level level, const char *data, size_t len, bool (*goes_on)(void));

#endif
