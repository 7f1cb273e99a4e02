/*
 * event_log.c - what libevent has to say, in our log.
 *
 * Left alone libevent writes to stderr, past the log's file, format and level.
 * Some of it nobody else tells: a socket that epoll did not take.
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

/* It has said why. Its own way would be exit(), under the feet of the other threads. */
static void
on_fatal(int err)
{
	log_say(LEVEL_ERROR, "libevent cannot go on (%d): stent ends here", err);
	log_close();	/* writes it */
	abort();
}

void
event_log_adopt(void)
{
	event_set_log_callback(on_message);
	event_set_fatal_callback(on_fatal);
}
