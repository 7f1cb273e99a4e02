/* require.c - a flow of which something is not true that must be: the log says what, and it ends. */
#include <assert.h>
#include <stdio.h>

#include "relay/pump.h"
#include "relay/require.h"
#include "relay/session.h"
#include "stent/log.h"

#define LEG_TEXT_MAX 160

static const char *const states[] = {
	[FLOW_CONNECTING] = "connecting", [FLOW_PREFACE] = "preface", [FLOW_OPEN] = "open", [FLOW_ENDING] = "ending", [FLOW_ENDED] = "ended",
};
_Static_assert(sizeof(states) / sizeof(states[0]) == FLOW_ENDED + 1, "each state has a name");

/* What a leg's bits say, and what it holds. */
static const char *
leg_text(const struct leg *l, char text[LEG_TEXT_MAX])
{
	snprintf(text, LEG_TEXT_MAX, "bytes=%llu backlog=%zu%s%s%s%s%s%s%s%s%s", (unsigned long long)l->bytes, backlog_len(l),
	    l->readable ? " readable" : "", l->hup ? " hup" : "", l->fin ? " fin" : "", l->shut ? " shut" : "", l->bulk ? " bulk" : "",
	    l->stalled ? " stalled" : "", l->dead ? " dead" : "", l->urgent ? " urgent" : "", leg_is_tls(l) ? " tls" : "");
	return text;
}

/* The state of the codec, as it says it: why no heartbeat may go to that side now. */
static const char *
codec_text(const struct flow *f, enum side s)
{
	const char *why = f->state == FLOW_OPEN ? heartbeats_why_none(f, s) : NULL;

	return why != NULL ? why : "-";
}

void
require_violated(const struct flow *of, const char *condition, const char *file, int line)
{
	struct flow *f = (struct flow *)(uintptr_t)of;	/* who only looks at a flow may find this, too */
	char where[160], client[LEG_TEXT_MAX], backend[LEG_TEXT_MAX];

	if (f->broken)
		return;
	f->broken = true;
	snprintf(where, sizeof(where), "%s:%d", file, line);
	log_event(LEVEL_ERROR, "internal error", (struct log_field[]){
	    LOG_INT("id", f->id),
	    LOG_TEXT("route", f->route->name),
	    LOG_TEXT("at", where),
	    LOG_TEXT("violated", condition),
	    LOG_TEXT("state", f->state <= FLOW_ENDED ? states[f->state] : "unknown"),
	    LOG_TEXT("protocol", session_protocol(f)),
	    LOG_TEXT("client_leg", leg_text(&f->leg[CLIENT], client)),
	    LOG_TEXT("backend_leg", leg_text(&f->leg[BACKEND], backend)),
	    LOG_TEXT("client_heartbeats", codec_text(f, CLIENT)),
	    LOG_TEXT("backend_heartbeats", codec_text(f, BACKEND)),
	}, 10);
	(void)promise_take();	/* what codec_text() may have found follows from this */
	if (f->state == FLOW_ENDED)
		return;
	flow_requeue(f);
	assert(f->again);	/* or nobody would end it */
}

bool
require_promise_kept(const struct flow *f)
{
	const struct promise broken = promise_take();

	require_violated(f, broken.condition, broken.file, broken.line);
	return false;
}
