/* end_log.c - the log line of a flow that has ended. */
#include "relay/ending.h"
#include "stent/log.h"

/* Round trips are known in microseconds and logged in milliseconds. */
#define LOG_RTT(name, us) LOG_MS(name, us)

void
end_log(const struct flow *f)
{
	char client[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];
	struct log_field fields[17];
	struct flow_info i;
	size_t n = 0;

	const enum log_level level = reason_is_death((enum close_reason)f->reason) ? LEVEL_WARN : LEVEL_INFO;

	if (!log_wants(level))
		return;
	flow_describe(f, &i);
	flow_info_add_kernel(&i);
	fields[n++] = LOG_INT("id", i.id);
	fields[n++] = LOG_TEXT("route", i.route->name);
	fields[n++] = LOG_TEXT("protocol", i.protocol);
	fields[n++] = LOG_TEXT("client", address_text(&i.client, client));
	fields[n++] = LOG_TEXT("backend", address_text(&i.backend, backend));
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
	log_event(level, "flow end", fields, n);
}
