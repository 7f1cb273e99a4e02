/* log_sink.h - what the log's lines are written to: stderr, syslog or a file. Not safe from two threads at once. */
#ifndef STENT_ADMIN_LOG_SINK_H
#define STENT_ADMIN_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "stent/log.h"

/* 0, or -errno and the one before stays in use. Copies what it needs. */
int sink_open(const struct log_settings *s);
/* Opens the file again by its name. The same; 0 where there is no file. */
int sink_reopen(void);
const char *sink_path(void);	/* of the file; NULL: there is none */
/* The file is the user's from now on. 0 or -errno. */
int sink_give(uid_t user, gid_t group);
void sink_close(void);		/* stderr again */

/*
 * Writes one line, with its newline. False: it is lost. While there is no room
 * it waits for as long as goes_on() says so; NULL: a moment, and after a line
 * that found none not at all.
 */
bool sink_write(enum log_level level, const char *data, size_t len, bool (*goes_on)(void));

#endif
