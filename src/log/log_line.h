/* log_line.h - one line of the log as text or JSON. Does no I/O, keeps no state, allocates nothing. */
#ifndef STENT_ADMIN_LOG_LINE_H
#define STENT_ADMIN_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "stent/log.h"

#define LOG_LINE_MAX 4095	/* bytes with the newline; one less than PIPE_BUF: a pipe takes it whole, and one byte more */

struct log_line {
	size_t len;
	bool cut;
	char data[LOG_LINE_MAX];	/* ends in a newline, holds no other; no NUL */
};

/* What both kinds of line begin with. */
struct log_line_head {
	enum log_format format;
	enum log_level level;
	struct timespec time;
	bool untimed;	/* text without its time: syslog adds its own */
	bool unleveled;	/* JSON without its level */
};

void log_line_sentence(struct log_line *l, const struct log_line_head *h, const char *sentence);
void log_line_event(struct log_line *l, const struct log_line_head *h, const char *event,
    const struct log_field *fields, size_t n);

#endif
