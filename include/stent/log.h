/*
 * log.h - lines for the operator: text or JSON; to stderr, syslog or a file.
 * Safe from any thread. A line is one write().
 */
#ifndef STENT_LOG_H
#define STENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum log_level { LEVEL_ERROR, LEVEL_WARN, LEVEL_INFO, LEVEL_DEBUG };
enum log_format { FORMAT_TEXT, FORMAT_JSON };
enum log_target { TARGET_STDERR, TARGET_SYSLOG, TARGET_FILE };

struct log_settings {
	enum log_target target;
	char *path;		/* TARGET_FILE; TARGET_SYSLOG: the daemon's socket, NULL: /dev/log; owned by whoever owns the struct */
	enum log_format format;
	enum log_level level;
};

/* Until log_open(), lines go to stderr as text from level info. Copies what it needs. 0 or -errno. */
int log_open(const struct log_settings *s);
const char *log_open_hint(int err);	/* what its errno means, and what to do about it */
/* Before root is given up: gives the file to the user, so that it can be reopened later. 0 or -errno. */
int log_give(uid_t user, gid_t group);
/*
 * From now on a thread of the log writes, so that callers do not wait, until log_close(), which waits at most a second
 * for lines that are left. Call it after root is given up. begin (NULL: nothing) is what the thread does first. 0 or -errno.
 */
int log_start_thread(void (*begin)(void *arg), void *arg);
/*
 * Settings that replace others. The new file or daemon is opened by log_prepare(), which may fail: 0 or -errno, nothing
 * has changed. log_commit() uses it from the next lines on, level and format at once, and frees c, as log_abandon() does.
 */
struct log_change;
int log_prepare(struct log_change **ret, const struct log_settings *s);
void log_commit(struct log_change *c);
void log_abandon(struct log_change *c);	/* NULL is fine */
/* Reopens the file by its name, after a rotation. On failure keeps the old one and logs that. */
void log_reopen(void);
void log_close(void);

bool log_wants(enum log_level level);
void log_set_level(enum log_level level);	/* from now on */

/* A sentence. */
void log_say(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* An event with named values: `flow end route=pg reason=client-fin ...`; in JSON each is a member. */
struct log_field {
	const char *name;
	enum { FIELD_TEXT, FIELD_INT, FIELD_SECONDS } kind;
	const char *text;	/* FIELD_TEXT */
	int64_t number;		/* FIELD_INT; FIELD_SECONDS: in ms, printed as 1.234 */
};
#define LOG_TEXT(n, v) ((struct log_field){ .name = (n), .kind = FIELD_TEXT, .text = (v) })
#define LOG_INT(n, v) ((struct log_field){ .name = (n), .kind = FIELD_INT, .number = (int64_t)(v) })
#define LOG_MS(n, v) ((struct log_field){ .name = (n), .kind = FIELD_SECONDS, .number = (int64_t)(v) })

void log_event(enum log_level level, const char *event, const struct log_field *fields, size_t n);

#endif
