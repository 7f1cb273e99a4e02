/*
 * events.c - the queue of events, between those who say them (the workers) and the
 * one thread that hands them on.
 *
 * With nobody listening an event costs its test in events_want(). Else it is
 * formatted by the thread that says it, before the lock is taken: under the lock
 * there are only a few instructions of list, so that no worker waits for
 * another, or for the reader. A full queue loses the newest.
 */
#include "stent/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "log/log_line.h"

#define QUEUE_MAX 4096		/* lines */

#define EVENT_TEXT(name, text) [EVENT_##name] = text,

static const char *const names[EVENT_KINDS] = { EVENT_LIST(EVENT_TEXT) };

unsigned events_wanted_kinds;

static struct {
	pthread_mutex_t lock;
	struct event_lines lines;
	size_t n;
	uint64_t lost;
	int fd;			/* -1: closed */
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .lines = STAILQ_HEAD_INITIALIZER(queue.lines), .fd = -1 };

const char *
event_kind_name(enum event_kind kind)
{
	return names[kind];
}

enum event_kind
event_kind_find(const char *name)
{
	size_t i = 0;

	while (i < EVENT_KINDS && strcmp(names[i], name) != 0)
		i++;
	return (enum event_kind)i;
}

static const char *
route_of(const struct log_field *fields, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(fields[i].name, "route") == 0)
			return fields[i].text;
	return NULL;
}

/* NULL: out of memory. */
static struct event_line *
new_line(enum event_kind kind, const struct log_field *fields, size_t n)
{
	struct log_line_head head = { .format = FORMAT_JSON, .unleveled = true };
	const char *route = route_of(fields, n);
	const size_t route_len = route != NULL ? strlen(route) + 1 : 0;
	struct event_line *e;
	struct log_line line;

	clock_gettime(CLOCK_REALTIME, &head.time);
	log_line_event(&line, &head, names[kind], fields, n);
	e = malloc(sizeof(*e) + line.len + route_len);
	if (e == NULL)
		return NULL;
	e->kind = kind;
	e->len = line.len;
	memcpy(e->data, line.data, line.len);
	e->route = route != NULL ? memcpy(e->data + line.len, route, route_len) : NULL;
	return e;
}

static void
wake(int fd)
{
	const uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void
events_say(enum event_kind kind, const struct log_field *fields, size_t n)
{
	struct event_line *e = events_want(kind) ? new_line(kind, fields, n) : NULL;
	bool is_first = false, is_kept;

	if (!events_want(kind))
		return;
	pthread_mutex_lock(&queue.lock);
	is_kept = e != NULL && queue.fd >= 0 && queue.n < QUEUE_MAX;
	if (is_kept) {
		is_first = queue.n++ == 0;
		STAILQ_INSERT_TAIL(&queue.lines, e, link);
	} else {
		queue.lost++;
	}
	if (is_first)
		wake(queue.fd);		/* not after the lock: the descriptor may be closed then */
	pthread_mutex_unlock(&queue.lock);
	if (!is_kept)
		free(e);
}

int
events_open(void)
{
	const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&queue.lock);
	queue.fd = fd;
	queue.lost = 0;
	pthread_mutex_unlock(&queue.lock);
	return fd;
}

void
events_close(void)
{
	struct event_lines rest;
	struct event_line *e;
	int fd;

	events_set_wanted(0);
	pthread_mutex_lock(&queue.lock);
	fd = queue.fd;
	queue.fd = -1;
	pthread_mutex_unlock(&queue.lock);
	(void)events_take(&rest);
	while ((e = STAILQ_FIRST(&rest)) != NULL) {
		STAILQ_REMOVE_HEAD(&rest, link);
		free(e);
	}
	if (fd >= 0)
		close(fd);
}

void
events_set_wanted(unsigned kinds)
{
	__atomic_store_n(&events_wanted_kinds, kinds, __ATOMIC_RELAXED);
}

uint64_t
events_take(struct event_lines *ret)
{
	uint64_t lost, n;

	STAILQ_INIT(ret);
	pthread_mutex_lock(&queue.lock);
	if (queue.fd >= 0 && read(queue.fd, &n, sizeof(n)) < 0) {
		/* it was not readable: nothing has come since */
	}
	STAILQ_CONCAT(ret, &queue.lines);
	queue.n = 0;
	lost = queue.lost;
	queue.lost = 0;
	pthread_mutex_unlock(&queue.lock);
	return lost;
}
