/*
 * events.h - what happens to flows, for those who ask to be told: readers of
 * `stent events`, and the program of on_event. An event is a line of JSON.
 *
 * Anyone says events, from any thread; one thread takes them. Between them is a
 * bounded queue: when it is full, events are lost and counted, and nobody waits.
 */
#ifndef STENT_EVENTS_H
#define STENT_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "stent/log.h"

#define EVENT_LIST(X) \
	X(FLOW_BEGIN, "flow-begin") \
	X(FLOW_END, "flow-end") \
	X(HEARTBEAT_MISSED, "heartbeat-missed") \
	X(SUSPECT, "suspect") \
	X(RECOVERED, "recovered") \
	X(PASSTHROUGH, "passthrough") \
	X(BACKEND_DOWN, "backend-down") \
	X(BACKEND_UP, "backend-up") \
	X(LIMIT, "limit") \
	X(RELOAD, "reload")
#define EVENT_ENUM(name, text) EVENT_##name,

enum event_kind { EVENT_LIST(EVENT_ENUM) EVENT_KINDS };

#define EVENT_BIT(kind) (1U << (kind))
#define EVENT_LINE_MAX 4096	/* with the newline */

/* --- to say one --- */

extern unsigned events_wanted_kinds;	/* a set of EVENT_BIT; atomic */

/* Somebody wants this kind: only then are its fields worth gathering. */
static inline bool
events_want(enum event_kind kind)
{
	return (__atomic_load_n(&events_wanted_kinds, __ATOMIC_RELAXED) & EVENT_BIT(kind)) != 0;
}

/* Fields as for log_event(). The one named "route" is what readers select by. */
void events_say(enum event_kind kind, const struct log_field *fields, size_t n);

/* --- to be told: one thread --- */

struct event_line {
	STAILQ_ENTRY(event_line) link;
	enum event_kind kind;
	const char *route;		/* NULL: of the process */
	size_t len;			/* of data, which ends in a newline and has no NUL */
	char data[];
};
STAILQ_HEAD(event_lines, event_line);

const char *event_kind_name(enum event_kind kind);
enum event_kind event_kind_find(const char *name);	/* EVENT_KINDS: there is none of this name */

/* Opens the queue. Returns a descriptor (events_close()) that is readable when there may be events, or -errno. */
int events_open(void);
void events_close(void);
void events_set_wanted(unsigned kinds);
/* Takes all; free() each. Returns how many were lost since the last call. */
uint64_t events_take(struct event_lines *ret);

#endif
