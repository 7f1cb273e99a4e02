/*
 * trial.h - what a route has seen of heartbeats toward one side of it.
 *
 * The peers of a route may not tolerate heartbeats. So the first ones are a
 * trial: few flows at a time try a kind, and the others wait until some peers
 * have accepted it: a ping by replying, other kinds by not reacting for a
 * moment. An error, or a close right after a heartbeat, counts as a refusal:
 * after a few such flows the kind is off on the route until stent is restarted.
 *
 * Shared by all workers: any thread may call. Zeroed before its first use.
 */
#ifndef STENT_TRIAL_H
#define STENT_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#define TRIAL_FLOWS 3		/* that try at once; that must accept a kind; that refuse it before it is off */
#define TRIAL_RATIO 8		/* a kind stays on while fewer than one flow in so many refuses it: those may be chance */

struct trial {
	struct {
		uint32_t under_way, accepted, refused;	/* flows */
	} kind[3];					/* one-way, ping, early */
};

/* Of these kinds, those that are not off. When ping is off all are: that peers accept another kind would be a guess. */
unsigned trial_allowed(const struct trial *t, unsigned kinds);

/* A flow is about to send its first heartbeat of a kind. False: not now, enough others are on trial. */
bool trial_begin(struct trial *t, unsigned kind);

/* The result of such a trial; each call ends it. */
void trial_accepted(struct trial *t, unsigned kind);
void trial_undecided(struct trial *t, unsigned kind);	/* it ended for another reason */
/* True: with this flow the kind is off. */
bool trial_refused(struct trial *t, unsigned kind);

/* Forgets the results, not the trials under way. */
void trial_forget(struct trial *t);

/* A refusal by a flow that had accepted the kind before. Returns as trial_refused() does. */
bool trial_refused_after_accepted(struct trial *t, unsigned kind);

#endif
