/*
 * window.c - a leg whose peer has closed its receive window.
 *
 * TCP_USER_TIMEOUT also ends a connection whose peer keeps its window closed
 * that long but acknowledges every window probe: the kernel counts from the
 * first probe. A reader that pauses is not dead, so the option is off while a
 * window is closed, and the timeout is applied here, to window probes that are
 * not acknowledged.
 */
#include "relay/ending.h"
#include "relay/pump.h"
#include "relay/require.h"

#define CHECK_MAX_US (5 * US_PER_S)	/* the longest time between two checks */

struct verdict
window_watch(struct flow *f, enum side s, int64_t now_us, int64_t *again_us)
{
	const int64_t timeout_ms = leg_settings(f, s)->keepalive.user_timeout_ms;
	const int64_t timeout_us = timeout_ms * US_PER_MS;
	struct leg *l = leg_of(f, s);
	struct socket_facts facts;
	bool shut;

	require(f, f->state == FLOW_OPEN && timeout_us >= 0);
	require(f, transport_is_open(&l->transport));
	*again_us = INT64_MAX;
	if (timeout_us == 0 || l->dead)
		return VERDICT(GO_ON);
	transport_facts(&l->transport, &facts);
	if (!facts.is_tcp)
		return VERDICT(GO_ON);
	shut = facts.unsent > 0 && facts.unacked == 0;
	if (shut != l->stalled) {
		l->stalled = shut;
		transport_set_user_timeout(&l->transport, shut ? 0 : timeout_ms);
	}
	if (shut && facts.probes >= 2 && facts.last_ack_ms >= timeout_ms)
		return VERDICT_DEAD(s, reason_on_side(REASON_CLIENT_USER_TIMEOUT, s));
	if (facts.unsent > 0 || facts.unacked > 0)
		*again_us = now_us + (timeout_us / 4 < CHECK_MAX_US ? timeout_us / 4 : CHECK_MAX_US);
	require(f, *again_us > now_us);
	return VERDICT(GO_ON);
}
