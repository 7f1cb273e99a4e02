/*
 * trial.h - what a route has seen of heartbeats toward one side of it.
 *
 * The peers of a route may never have met a heartbeat before. So the first
 * ones are a trial: few flows at once try a kind, and the others wait until
 * some have borne it: a ping when it is replied to, others after a moment. A peer that reacts to a heartbeat by an error, or by a
 * close right behind it, is evidence against that kind: after a few such flows
 * the kind is off on the route for the life of the process.
 *
 * Shared by all workers: any thread may call. Zeroed before its first use.
 */
#ifndef STENT_TRIAL_H
#define STENT_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#define TRIAL_FLOWS 3		/* that try at once; that must bear a kind; that refuse it before it is off */
#define TRIAL_RATIO 8		/* a kind stays on while fewer than one in so many flows refuse it: the rest may be chance */

struct trial {
	struct {
		uint32_t under_way, borne, refused;	/* flows */
	} kind[3];					/* one-way, ping, early */
};

/* Of these kinds, those that are not off. When pings are off nothing is left: another kind would be a guess. */
unsigned trial_allowed(const struct trial *t, unsigned kinds);

/* A flow is about to send its first heartbeat of a kind. False: not now, enough others try. */
bool trial_begin(struct trial *t, unsigned kind);

/* How such a flow went on; each call ends its try. */
void trial_borne(struct trial *t, unsigned kind);
void trial_undecided(struct trial *t, unsigned kind);	/* it ended for another reason */
/* True: with this flow the kind is off. */
bool trial_refused(struct trial *t, unsigned kind);

/* Evidence against a kind from a flow that had borne it before. As trial_refused(). */
bool trial_refused_later(struct trial *t, unsigned kind);

#endif
