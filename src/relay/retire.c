/*
 * retire.c - flows that are to end at their next message boundary, with the
 * protocol's goodbye, at the latest at a time that the caller sets.
 *
 * A flow that retires is looked at after each event, and by its one timer. The
 * codec says whether both directions are between two messages with nothing
 * outstanding (rest()). Where it cannot know (plain TCP, passthrough) the flow
 * must also have been silent for a while; elsewhere a moment of silence is waited
 * for only in the first half of the time. The end itself is the dispatcher's.
 *
 * max_age stores nothing: when a flow is too old follows from its id, between 80
 * and 100 % of the time, so that flows that began together do not end together.
 *
 * Few flows retire at a time, so a flow has a bit for it, and the rest is in a
 * tree of the relay.
 */
#include <assert.h>
#include <stdlib.h>

#include "relay/dial.h"
#include "relay/flow_tree.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/retire.h"
#include "relay/session.h"
#include "relay/shared.h"

/* No byte of the application for so long is taken for a message boundary: a tenth of the time that there is. */
#define QUIET_MIN_US US_PER_S
#define QUIET_MAX_US (30 * US_PER_S)
#define SETTLE_US (100 * US_PER_MS)	/* a client whose reply came just now is likely to send its next request */
#define LOOK_US (200 * US_PER_MS)	/* how often a flow is looked at without an event */

struct retiring {
	const struct flow *flow;
	int64_t from_us, by_us;
	enum close_reason reason;
};

static struct retiring *
find(const struct flow *f)
{
	struct retiring *r = f->retires ? flow_tree_find(&f->relay->retiring, f) : NULL;

	require_or(f, !f->retires || r != NULL, NULL);	/* the bit says that there is one */
	require_or(f, r == NULL || (r->flow == f && r->by_us >= r->from_us && r->reason != REASON_NONE), NULL);
	return r;
}

/* NULL: out of memory. */
static struct retiring *
add(struct flow *f)
{
	struct retiring *r;

	require_or(f, !f->retires && !f->broken, NULL);
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	r->flow = f;
	if (flow_tree_add(&f->relay->retiring, r) != 0) {
		free(r);
		return NULL;
	}
	f->retires = true;
	return r;
}

static void
retire_from(struct flow *f, enum close_reason reason, int64_t from_us, int64_t by_us)
{
	struct retiring *r = find(f);
	const struct retiring wanted = { f, from_us, by_us, reason };

	assert(reason != REASON_NONE && reason < REASON_COUNT && by_us >= from_us);
	if (f->state == FLOW_ENDING || f->state == FLOW_ENDED)
		return;
	if (r == NULL) {
		r = add(f);
		if (r != NULL)
			*r = wanted;
	} else if (by_us < r->by_us) {
		*r = wanted;
	}
	if (r == NULL)
		f->out_of_memory = true;	/* as flow_wake_at() does */
	else
		flow_wake_at(f, from_us);
	flow_requeue(f);
}

void
flow_retire(struct flow *f, enum close_reason reason, int64_t by_us)
{
	const int64_t now_us = clock_us();

	retire_from(f, reason, now_us < by_us ? now_us : by_us, by_us);
}

void
retire_forget(struct flow *f)
{
	struct retiring *r = find(f);

	if (r == NULL)
		return;
	flow_tree_remove(&f->relay->retiring, r);
	f->retires = false;
	free(r);
}

/* Since when neither application has sent a byte. */
static int64_t
quiet_since_us(const struct flow *f)
{
	const int64_t client_us = session_app_us(f, CLIENT), backend_us = session_app_us(f, BACKEND);

	return client_us > backend_us ? client_us : backend_us;
}

/* Nothing is half-way in this process or the kernel's receive buffer. A half-closed flow is about to end by itself. */
static bool
is_leg_clear(const struct flow *f, enum side s)
{
	const struct leg *l = &f->leg[s];

	return l->backlog == NULL && !l->fin && !l->shut && !l->dead && transport_unread(&l->transport) == 0 &&
	    !(leg_is_tls(l) && transport_is_pending(&l->transport));
}

enum codec_rest
retire_rest(const struct flow *f)
{
	const struct session *ss = f->session;
	enum codec_rest rest;

	if (ss == NULL || ss->codec == NULL || ss->codec->rest == NULL)
		return REST_UNSURE;
	if (session_is_early(f, CLIENT) || session_is_early(f, BACKEND))
		return REST_NONE;
	rest = ss->codec->rest(ss->state);
	require_promises_or(f, REST_NONE);
	return rest;
}

/* How long they must be silent where the codec says `rest`. In the second half of the time any boundary that is sure will do. */
static int64_t
quiet_us(const struct retiring *r, enum codec_rest rest, int64_t now_us)
{
	const int64_t time_us = r->by_us - r->from_us, part_us = time_us / 10;

	if (rest == REST_SURE)
		return now_us - r->from_us > time_us / 2 ? 0 : SETTLE_US;
	return part_us < QUIET_MIN_US ? QUIET_MIN_US : part_us > QUIET_MAX_US ? QUIET_MAX_US : part_us;
}

static bool
is_at_rest(const struct flow *f, const struct retiring *r, int64_t now_us)
{
	const enum codec_rest rest = retire_rest(f);

	if (rest == REST_NONE || now_us - quiet_since_us(f) < quiet_us(r, rest, now_us))
		return false;
	return is_leg_clear(f, CLIENT) && is_leg_clear(f, BACKEND);
}

struct verdict
retire_check(const struct flow *f, int64_t now_us)
{
	const struct retiring *r = find(f);

	require(f, f->state != FLOW_ENDING && f->state != FLOW_ENDED);
	if (r == NULL || now_us < r->from_us)
		return VERDICT(GO_ON);
	if (f->state == FLOW_OPEN && is_at_rest(f, r, now_us))
		return VERDICT_AT_REST(r->reason);
	/* Nothing has begun: it waits for its client, or for a backend that is down. */
	if ((f->state == FLOW_PREFACE && preface_awaits_client(f->preface)) || (f->state == FLOW_CONNECTING && f->dial != NULL && dial_is_retried(f->dial)))
		return VERDICT_CUT_OFF(r->reason);
	return r->by_us <= now_us ? VERDICT_CUT_OFF(r->reason) : VERDICT(GO_ON);
}

int64_t
retire_again_us(const struct flow *f, int64_t now_us)
{
	const struct retiring *r = find(f);
	const int64_t look_us = now_us + LOOK_US;
	int64_t at_us;

	if (r == NULL)
		return INT64_MAX;
	if (now_us < r->from_us)
		return r->from_us;
	if (f->state != FLOW_OPEN)
		return r->by_us;
	at_us = quiet_since_us(f) + quiet_us(r, retire_rest(f), now_us);
	if (at_us <= now_us || at_us > look_us)
		at_us = look_us;
	return at_us < r->by_us ? at_us : r->by_us;
}

/* --- max_age --- */

/* A number of the flow, 0 to 1023, that nothing has to store. */
static int64_t
spread_of(const struct flow *f)
{
	uint64_t x = f->id * UINT64_C(0x9e3779b97f4a7c15);	/* Fibonacci hashing: ids are consecutive */

	_Static_assert(UINT64_MAX >> 54 == 1023, "the parts of a time are so many");
	return (int64_t)(x >> 54);
}

int64_t
retire_by_age(struct flow *f, int64_t now_us)
{
	const int64_t max_us = f->route->max_age_ms * US_PER_MS, grace_us = max_us / 10 > US_PER_S ? max_us / 10 : US_PER_S;
	const int64_t part_us = max_us / 5 / 1024 * spread_of(f), at_us = f->began_us + max_us - max_us / 5 + part_us;
	int64_t from_us = now_us;

	if (max_us == 0 || f->retires || f->state != FLOW_OPEN)
		return INT64_MAX;
	if (now_us < at_us)
		return at_us;
	/* Settings that were replaced have made many flows too old at once. */
	if (now_us - at_us > US_PER_S)
		from_us += grace_us / 1024 * spread_of(f);
	require_or(f, f->began_us <= now_us && at_us <= f->began_us + max_us, INT64_MAX);	/* never later than the setting says */
	retire_from(f, REASON_MAX_AGE, from_us, from_us + grace_us);
	return INT64_MAX;
}
