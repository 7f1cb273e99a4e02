/* tls_failure.c - the words for the kinds of TLS failures. */
#include "stent/tls.h"

static const char *const texts[TLS_FAILURES] = {
	[TLS_FAILURE_NONE] = "none",
	[TLS_FAILURE_UNKNOWN_CA] = "unknown-ca",
	[TLS_FAILURE_NAME] = "name",
	[TLS_FAILURE_EXPIRED] = "expired",
	[TLS_FAILURE_NOT_YET_VALID] = "not-yet-valid",
	[TLS_FAILURE_CERTIFICATE] = "certificate",
	[TLS_FAILURE_NO_CERTIFICATE] = "no-certificate",
	[TLS_FAILURE_VERSION] = "version",
	[TLS_FAILURE_NOT_TLS] = "not-tls",
	[TLS_FAILURE_REFUSED] = "refused",
	[TLS_FAILURE_CLOSED] = "closed",
	[TLS_FAILURE_TIMEOUT] = "timeout",
	[TLS_FAILURE_OTHER] = "other",
};

const char *
tls_failure_text(enum tls_failure f)
{
	return f < TLS_FAILURES ? texts[f] : texts[TLS_FAILURE_OTHER];
}
