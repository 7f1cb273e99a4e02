/*
 * event_log.c - libevent's messages, in our log.
 *
 * By default libevent writes to stderr, regardless of the log's file, format and
 * level. Some errors are shown only there, such as a socket that epoll refuses.
 */
#include <event2/event.h>
#include <stdlib.h>

#include "stent/event_log.h"
#include "stent/log.h"

static void
on_message(int severity, const char *text)
{
	static const enum log_level levels[] = {
		[EVENT_LOG_DEBUG] = LEVEL_DEBUG, [EVENT_LOG_MSG] = LEVEL_INFO, [EVENT_LOG_WARN] = LEVEL_WARN,
		[EVENT_LOG_ERR] = LEVEL_ERROR,
	};

	log_say(severity >= EVENT_LOG_DEBUG && severity <= EVENT_LOG_ERR ? levels[severity] : LEVEL_WARN, "libevent: %s", text);
}

/* libevent has logged the cause. By default it would call exit() while other threads run. */
static void
on_fatal(int err)
{
	log_say(LEVEL_ERROR, "fatal error in libevent (%d): stent aborts", err);
	log_close();	/* flushes it */
	abort();
}

void
event_log_adopt(void)
{
	event_set_log_callback(on_message);
	event_set_fatal_callback(on_fatal);
}
