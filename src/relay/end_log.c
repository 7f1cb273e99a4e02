/* end_log.c - the log line and the event of a flow that has opened, and of one that has ended. */
#include <assert.h>
#include <stdio.h>

#include "relay/ending.h"
#include "relay/preface.h"
#include "stent/events.h"
#include "stent/log.h"

/* Round trips are known in microseconds and logged in milliseconds. */
#define LOG_RTT(name, us) LOG_MS(name, us)

#define TLS_TEXT_MAX 80

const char *
flow_cause(const struct flow *f)
{
	const struct preface *p = flow_preface(f);

	if (f->reason != REASON_CLIENT_TLS && f->reason != REASON_BACKEND_TLS && f->reason != REASON_DENIED)
		return "";
	if (p != NULL && preface_cause(p)[0] != '\0')
		return preface_cause(p);
	if (f->reason == REASON_DENIED)
		return "";
	return transport_tls_cause(&f->leg[f->reason == REASON_CLIENT_TLS ? CLIENT : BACKEND].transport);
}

/* "TLSv1.3 TLS_AES_256_GCM_SHA384 resumed" */
static const char *
tls_text(const struct flow_info *i, enum side s, char text[TLS_TEXT_MAX])
{
	snprintf(text, TLS_TEXT_MAX, "%s %s%s", i->leg[s].tls.version, i->leg[s].tls.cipher, i->leg[s].tls.resumed ? " resumed" : "");
	return text;
}

static const char *
truncated_text(const struct flow *f)
{
	if (!f->leg[CLIENT].truncated)
		return f->leg[BACKEND].truncated ? "backend" : NULL;
	return f->leg[BACKEND].truncated ? "both" : "client";
}

/* What TLS adds. */
static size_t
add_tls(const struct flow *f, const struct flow_info *i, char client[TLS_TEXT_MAX], char backend[TLS_TEXT_MAX], struct log_field *fields)
{
	const char *truncated = truncated_text(f), *cause = flow_cause(f);
	size_t n = 0;

	if (i->leg[CLIENT].tls.version != NULL)
		fields[n++] = LOG_TEXT("client_tls", tls_text(i, CLIENT, client));
	if (i->leg[BACKEND].tls.version != NULL)
		fields[n++] = LOG_TEXT("backend_tls", tls_text(i, BACKEND, backend));
	if (truncated != NULL)
		fields[n++] = LOG_TEXT("truncated", truncated);
	if (cause[0] != '\0')
		fields[n++] = LOG_TEXT("cause", cause);
	return n;
}

enum log_level
end_log_level(enum close_reason r)
{
	if (r == REASON_INTERNAL)
		return LEVEL_ERROR;
	return reason_is_death(r) || r == REASON_BACKEND_TLS ? LEVEL_WARN : LEVEL_INFO;
}

struct names {
	char client[ADDRESS_TEXT_MAX], peer[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];
};

/* Which flow it is; the fields point into names. */
static size_t
add_names(const struct flow_info *i, struct names *names, struct log_field *fields)
{
	size_t n = 0;

	fields[n++] = LOG_INT("id", i->id);
	fields[n++] = LOG_TEXT("route", i->route->name);
	fields[n++] = LOG_TEXT("protocol", i->protocol);
	fields[n++] = LOG_TEXT("client", address_text(&i->client, names->client));
	if (i->client_peer.family != 0)
		fields[n++] = LOG_TEXT("client_peer", address_text(&i->client_peer, names->peer));
	fields[n++] = LOG_TEXT("backend", address_text(&i->backend, names->backend));
	return n;
}

void
end_log(const struct flow *f)
{
	char client_tls[TLS_TEXT_MAX], backend_tls[TLS_TEXT_MAX];
	struct log_field fields[22];
	struct names names;
	struct flow_info i;
	size_t n;

	const enum log_level level = end_log_level((enum close_reason)f->reason);

	if (!log_wants(level) && !events_want(EVENT_FLOW_END))
		return;
	flow_describe(f, &i);
	flow_info_add_kernel(&i);
	n = add_names(&i, &names, fields);
	fields[n++] = LOG_TEXT("reason", reason_text((enum close_reason)f->reason));
	fields[n++] = LOG_MS("seconds", i.age_ms);
	fields[n++] = LOG_INT("client_bytes", i.leg[CLIENT].bytes);
	fields[n++] = LOG_INT("backend_bytes", i.leg[BACKEND].bytes);
	fields[n++] = LOG_INT("client_heartbeats", i.leg[CLIENT].heartbeats);
	fields[n++] = LOG_INT("client_replies", i.leg[CLIENT].replies);
	fields[n++] = LOG_INT("backend_heartbeats", i.leg[BACKEND].heartbeats);
	fields[n++] = LOG_INT("backend_replies", i.leg[BACKEND].replies);
	if (i.leg[CLIENT].rtt_us >= 0)
		fields[n++] = LOG_RTT("client_rtt_ms", i.leg[CLIENT].rtt_us);
	if (i.leg[BACKEND].rtt_us >= 0)
		fields[n++] = LOG_RTT("backend_rtt_ms", i.leg[BACKEND].rtt_us);
	fields[n++] = LOG_MS("client_idle", i.leg[CLIENT].idle_ms);
	fields[n++] = LOG_MS("backend_idle", i.leg[BACKEND].idle_ms);
	n += add_tls(f, &i, client_tls, backend_tls, fields + n);
	if (admission_is_refused(f->admission) && flow_cause(f)[0] == '\0')
		fields[n++] = LOG_TEXT("cause", admission_text(f->admission));
	assert(n <= sizeof(fields) / sizeof(fields[0]));
	log_event(level, "flow end", fields, n);
	events_say(EVENT_FLOW_END, fields, n);
}

void
begin_log(const struct flow *f)
{
	struct log_field fields[6];
	struct names names;
	struct flow_info i;
	size_t n;

	if (!log_wants(LEVEL_DEBUG) && !events_want(EVENT_FLOW_BEGIN))
		return;
	flow_describe(f, &i);
	n = add_names(&i, &names, fields);
	assert(n <= sizeof(fields) / sizeof(fields[0]));
	log_event(LEVEL_DEBUG, "flow start", fields, n);
	events_say(EVENT_FLOW_BEGIN, fields, n);
}
