/* reason.c - close reasons and the causes of refusals: their texts, and which one an errno means. */
#include <assert.h>
#include <errno.h>

#include "relay/ending.h"
#include "stent/relay.h"

static const char *const texts[REASON_COUNT] = {
	[REASON_NONE] = "-",
	[REASON_CLIENT_FIN] = "client-fin",
	[REASON_CLIENT_RESET] = "client-reset",
	[REASON_CLIENT_KEEPALIVE_TIMEOUT] = "client-keepalive-timeout",
	[REASON_CLIENT_USER_TIMEOUT] = "client-user-timeout",
	[REASON_CLIENT_HEARTBEAT_TIMEOUT] = "client-heartbeat-timeout",
	[REASON_CLIENT_IDLE] = "client-idle",
	[REASON_CLIENT_UNREACHABLE] = "client-unreachable",
	[REASON_CLIENT_ERROR] = "client-error",
	[REASON_CLIENT_TLS] = "client-tls",
	[REASON_BACKEND_FIN] = "backend-fin",
	[REASON_BACKEND_RESET] = "backend-reset",
	[REASON_BACKEND_KEEPALIVE_TIMEOUT] = "backend-keepalive-timeout",
	[REASON_BACKEND_USER_TIMEOUT] = "backend-user-timeout",
	[REASON_BACKEND_HEARTBEAT_TIMEOUT] = "backend-heartbeat-timeout",
	[REASON_BACKEND_IDLE] = "backend-idle",
	[REASON_BACKEND_UNREACHABLE] = "backend-unreachable",
	[REASON_BACKEND_ERROR] = "backend-error",
	[REASON_BACKEND_TLS] = "backend-tls",
	[REASON_BACKEND_REFUSED] = "backend-refused",
	[REASON_BACKEND_CONNECT_TIMEOUT] = "backend-connect-timeout",
	[REASON_BACKEND_LOOKUP] = "backend-lookup",
	[REASON_BACKEND_DOWN] = "backend-down",
	[REASON_LIMIT] = "limit",
	[REASON_DENIED] = "denied",
	[REASON_ADMIN_KILL] = "admin-kill",
	[REASON_DRAIN] = "drain",
	[REASON_EVICTED] = "evicted",
	[REASON_MAX_AGE] = "max-age",
	[REASON_MEMORY] = "memory",
	[REASON_INTERNAL] = "internal",
};

const char *
reason_text(enum close_reason r)
{
	return r < REASON_COUNT ? texts[r] : texts[REASON_NONE];
}

#define ADMISSION_TEXT(name, text, reason) [ADMISSION_##name] = text,
#define ADMISSION_REASON(name, text, reason) [ADMISSION_##name] = reason,

const char *
admission_text(enum admission a)
{
	static const char *const causes[ADMISSION_COUNT] = { ADMISSION_LIST(ADMISSION_TEXT) };

	assert(admission_is_refused(a) && a < ADMISSION_COUNT);
	return causes[a];
}

enum close_reason
admission_reason(enum admission a)
{
	static const enum close_reason reasons[ADMISSION_COUNT] = { ADMISSION_LIST(ADMISSION_REASON) };

	assert(admission_is_refused(a) && a < ADMISSION_COUNT);
	return reasons[a];
}

enum close_reason
reason_on_side(enum close_reason client_reason, enum side s)
{
	assert(client_reason >= REASON_CLIENT_FIN && client_reason <= REASON_CLIENT_TLS);
	return s == CLIENT ? client_reason
	    : (enum close_reason)(client_reason + (REASON_BACKEND_FIN - REASON_CLIENT_FIN));
}

/*
 * ETIMEDOUT has two causes, which the socket still shows afterwards:
 * retransmissions mean bytes that were never acknowledged, probes alone mean
 * that keepalive timed out. After a window that stayed closed it shows neither.
 */
static enum close_reason
timeout_reason(const struct transport *t, bool was_stalled)
{
	struct socket_facts facts = { 0 };

	if (t != NULL)
		transport_facts(t, &facts);
	if (!was_stalled && facts.retransmits == 0 && facts.probes > 0)
		return REASON_CLIENT_KEEPALIVE_TIMEOUT;
	return REASON_CLIENT_USER_TIMEOUT;
}

enum close_reason
reason_from_errno(enum side s, int err, const struct transport *t, bool was_stalled)
{
	switch (err) {
	case ECONNRESET:
	case EPIPE:
		return reason_on_side(REASON_CLIENT_RESET, s);
	case ETIMEDOUT:
		return reason_on_side(timeout_reason(t, was_stalled), s);
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
	case ENONET:
		return reason_on_side(REASON_CLIENT_UNREACHABLE, s);
	case ENOMEM:
	case ENOBUFS:
		return REASON_MEMORY;
	default:
		return reason_on_side(REASON_CLIENT_ERROR, s);
	}
}

bool
reason_is_death(enum close_reason r)
{
	switch (r) {
	case REASON_CLIENT_KEEPALIVE_TIMEOUT:
	case REASON_CLIENT_USER_TIMEOUT:
	case REASON_CLIENT_HEARTBEAT_TIMEOUT:
	case REASON_CLIENT_UNREACHABLE:
	case REASON_BACKEND_KEEPALIVE_TIMEOUT:
	case REASON_BACKEND_USER_TIMEOUT:
	case REASON_BACKEND_HEARTBEAT_TIMEOUT:
	case REASON_BACKEND_UNREACHABLE:
		return true;
	default:
		return false;
	}
}
