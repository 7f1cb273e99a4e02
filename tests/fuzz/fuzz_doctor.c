/*
 * fuzz_doctor.c - what no server would say to `stent doctor`.
 *
 * The first byte chooses the protocol and the method of measuring. The rest is what the server says, in pieces that
 * begin with their length; a length of 0 lets the flow's timer fire instead. Whatever it is: the flow ends once at most, what the
 * server said is kept within its bounds, and a judgement follows.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "doctor/measurement.h"

/* Its handlers are called here, not by an event loop, so that an input does the same again. */
#include "../../src/doctor/sample_flow.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

static const char *const protocols[] = { "websocket", "redis", "line", "tcp" };

/* TCP's options, of a pair of UNIX sockets. */
int
__wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	(void)fd;
	(void)level;
	(void)name;
	assert(value != NULL && len > 0);
	return 0;
}

struct judge {
	struct measurement *m;
	bool is_ended;
	FILE *quiet;
};

static void
on_done(void *arg, const struct fate *fate)
{
	struct judge *j = arg;
	FILE *const saved = stderr;

	assert(!j->is_ended && fate->said_len < SAID_MAX && fate->said[SAID_MAX - 1] == '\0');
	assert(fate->outcome < OUTCOMES);
	j->is_ended = true;
	stderr = j->quiet;
	(void)measurement_judge_first(j->m, fate);
	stderr = saved;
}

/* As sample_flow_new() does, on one end of a pair. */
static struct sample_flow *
begin(struct judge *j, uint8_t choice, int far_and_near[2])
{
	struct sample_flow *f = calloc(1, sizeof(*f));

	if (f == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, far_and_near) != 0)
		abort();
	f->course = &j->m->course;
	f->method = choice / 4 % METHODS;
	f->done = on_done;
	f->arg = j;
	f->fate.outcome = OUTCOME_UNUSED;
	open_codec(f);
	f->fd = far_and_near[1];
	f->timer = evtimer_new(j->m->course.base, on_timer, f);
	if (f->timer == NULL)
		abort();
	begin_opening(f, clock_us());
	return f;
}

static void
speak(struct sample_flow *f, const struct judge *j, int far, const uint8_t *data, size_t size)
{
	while (size > 0 && !j->is_ended) {
		const size_t n = data[0] < size ? data[0] : size - 1;

		if (n == 0) {
			on_timer(-1, EV_TIMEOUT, f);
		} else {
			if (send(far, data + 1, n, MSG_NOSIGNAL) != (ssize_t)n)
				abort();
			on_event(f->fd, EV_READ, f);
		}
		data += n + 1;
		size -= n + 1;
	}
	shutdown(far, SHUT_WR);
	if (!j->is_ended)
		on_event(f->fd, EV_READ, f);
}

static void
open_measurement(struct measurement *m, const char *protocol)
{
	static struct event_base *base;
	const struct doctor_options options = { .target = "127.0.0.1:1", .protocol = protocol,
	    .send = strcmp(protocol, "line") == 0 ? "NOOP\\n" : NULL, .quick = true };

	if (base == NULL)
		base = event_base_new();
	if (base == NULL || measurement_open(m, &options) != DOCTOR_DONE)
		abort();
	m->course.base = base;
	snprintf(m->address, sizeof(m->address), "127.0.0.1:1");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct measurement m[sizeof(protocols) / sizeof(protocols[0])];
	static FILE *quiet;
	struct sample_flow *f;
	struct judge j;
	int ends[2];

	if (quiet == NULL) {
		quiet = fopen("/dev/null", "we");
		for (size_t i = 0; i < sizeof(m) / sizeof(m[0]); i++)
			open_measurement(&m[i], protocols[i]);
	}
	if (size == 0)
		return 0;
	j = (struct judge){ .m = &m[data[0] % (sizeof(m) / sizeof(m[0]))], .quiet = quiet };
	f = begin(&j, data[0], ends);
	if (!j.is_ended)
		speak(f, &j, ends[0], data + 1, size - 1);
	sample_flow_free(f);
	close(ends[0]);
	return 0;
}
