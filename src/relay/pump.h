/* pump.h - bytes from one leg to the other, and what a socket did not take. */
#ifndef STENT_RELAY_PUMP_H
#define STENT_RELAY_PUMP_H

#include <sys/uio.h>

#include "relay/flow.h"
#include "relay/verdict.h"

struct pipe;

/* pump.c */
/* Reads from side `from` while there is more and the other side takes it, for a few rounds. */
struct verdict pump(struct flow *f, enum side from);
/* One read, while the flow is open or ending. */
struct verdict pump_once(struct flow *f, enum side from);
/* Sends to side `to`; what its socket does not take becomes its backlog. */
struct verdict pump_write(struct flow *f, enum side to, const struct iovec *v, size_t n, int64_t now_us);
/* Records that bytes were sent to side `to`, and has the timer check that they arrive. */
void pump_sent(struct flow *f, enum side to, int64_t now_us);

/* backlog.c */
int backlog_add(struct leg *l, const uint8_t *data, size_t len);	/* 0 or -ENOMEM */
int backlog_add_pipe(struct leg *l, struct pipe *p);			/* takes p; 0 or -ENOMEM */
int backlog_hold(struct leg *l);	/* TLS: there are unsent bytes in the transport; 0 or -ENOMEM */
int backlog_add_urgent(struct leg *l, uint8_t byte);			/* 0 or -ENOMEM */
struct verdict backlog_drain(struct flow *f, enum side s);		/* GO_ON: all was sent if l->backlog is NULL */
size_t backlog_len(const struct leg *l);
void backlog_free(struct relay *r, struct leg *l);

/* window.c */
/* Judges a leg whose window may be closed; *again_us: when to check again, INT64_MAX: all was acknowledged. */
struct verdict window_watch(struct flow *f, enum side s, int64_t now_us, int64_t *again_us);

/* detect.c */
/* Judges a leg that has `detect`; *again_us: when to check again, INT64_MAX: it has none. */
struct verdict detect_watch(struct flow *f, enum side s, int64_t now_us, int64_t *again_us);
/* How many missing replies mean that its program hangs. */
unsigned detect_misses(const struct flow *f, enum side s, unsigned misses, int64_t each_us);
/* Its round trips are too long for that time. */
bool detect_is_too_short(const struct flow *f, enum side s, const struct socket_facts *facts);

#endif
