/*
 * signs.c - signs of life and of traffic on a leg: its bytes, and what the
 * kernel reports about its peer. Reading that costs a system call, so it is done
 * only when a heartbeat is due.
 */
#include <assert.h>

#include "relay/origin.h"
#include "relay/require.h"
#include "relay/session.h"
#include "relay/shared.h"

#define ACK_DUE_US (5 * US_PER_S)	/* bytes unacknowledged for this long: the peer may be dead */
#define ACK_DELAY_MAX_MS 200		/* Linux does not delay an acknowledgement longer (TCP_DELACK_MAX) */
#define UNREAD_SHARE 3		/* a window below 1/3 of the largest one: unread bytes. A kernel announces a window once it has doubled */
#define UNREAD_UNIX (64 * 1024)	/* as the kernel counts: some hundred bytes per heartbeat */
#define ACK_SLACK_US (20 * US_PER_MS)	/* TCP_INFO counts time in ticks of the kernel */

/* Bytes sent to side s were acknowledged or are recent; heard_us: its last sign of life. */
static bool
has_acknowledged(const struct leg *l, int64_t heard_us, int64_t now_us)
{
	return heard_us + ACK_SLACK_US >= l->tx_us || now_us - l->tx_us <= ACK_DUE_US;
}

static bool
leg_is_unix(const struct flow *f, enum side s)
{
	return leg_peer(f, s)->family == AF_UNIX;
}

/*
 * A time of 0 may mean "just now", or that this kernel reports no times (a sandbox).
 * The first one that is not 0 shows that it does; until then 0 is no sign of life.
 */
static bool
kernel_has_times(struct relay *r, const struct socket_facts *facts)
{
	r->kernel_has_times |= facts->last_ack_ms != 0 || facts->last_sent_ms != 0;
	return facts->is_tcp && r->kernel_has_times;
}

int64_t
signs_max_age_us(const struct flow *f, enum side s)
{
	const struct keepalive *k = &leg_settings(f, s)->keepalive;

	return heartbeat_sign_max_age_us(k->idle_s * (int64_t)US_PER_S, k->interval_s * (int64_t)US_PER_S, heartbeats_interval_us(f, s));
}

/*
 * Side s is alive if it sent bytes or its kernel acknowledged something (also
 * probes) recently. An older sign does not count if later bytes got no acknowledgement.
 */
bool
signs_of_life(struct flow *f, enum side s, int64_t now_us)
{
	const struct leg *l = &f->leg[s];
	const int64_t max_age_us = signs_max_age_us(f, s);
	struct socket_facts facts;
	int64_t heard_us = l->rx_us;

	require_or(f, max_age_us > 0 && transport_is_open(&l->transport), false);	/* without a limit any sign would count for ever */
	if (l->dead)
		return false;
	if (now_us - heard_us <= max_age_us && has_acknowledged(l, heard_us, now_us))
		return true;
	transport_facts(&l->transport, &facts);
	if (!facts.is_tcp && leg_is_unix(f, s))
		return true;		/* the kernel closes it when its program ends */
	if (kernel_has_times(f->relay, &facts) && heard_us < now_us - facts.last_ack_ms * (int64_t)US_PER_MS)
		heard_us = now_us - facts.last_ack_ms * (int64_t)US_PER_MS;
	if (now_us - heard_us > max_age_us)
		return false;
	/* With its window closed, bytes wait here: the reader pauses, and its kernel acknowledges window probes, which are rare. */
	return (facts.unsent > 0 && facts.unacked == 0) || has_acknowledged(l, heard_us, now_us);
}

/*
 * Bytes in flight do not delay a reply while the peer's kernel keeps acknowledging.
 * As it delays each acknowledgement, there are nearly always some.
 */
static bool
acknowledges(struct relay *r, const struct socket_facts *facts)
{
	return kernel_has_times(r, facts) && facts->retransmits == 0 && facts->last_ack_ms <= ACK_DELAY_MAX_MS;
}

/*
 * Heartbeats must not fill the buffer of a peer that does not read. Unread bytes
 * reduce the window that its kernel offers; on a UNIX socket they count as
 * unsent on our side.
 */
static void
find_unread(struct flow *f, enum side s, const struct socket_facts *facts, struct heartbeat_facts *ret)
{
	uint32_t *widest = &f->session->window[s];

	if (!facts->is_tcp && leg_is_unix(f, s)) {
		ret->unread = transport_unacked(&f->leg[s].transport) > UNREAD_UNIX;
		return;
	}
	ret->blind = !kernel_has_times(f->relay, facts) || facts->window == UINT32_MAX;
	if (ret->blind)
		return;
	if (facts->window > *widest)
		*widest = facts->window;
	ret->unread = facts->window < *widest / UNREAD_SHARE;
}

/* Fills in what is under way to side s, and what may delay bytes from it. */
void
signs_of_traffic(struct flow *f, enum side s, struct heartbeat_facts *ret)
{
	const struct leg *l = &f->leg[s];
	struct session *ss = f->session;
	const struct heartbeat_leg *h = &ss->heartbeat[s];
	struct socket_facts facts;

	require_void(f, ss != NULL && !l->dead);
	/* It is not read while the other side does not take its bytes. */
	ret->stuck = l->readable || f->leg[side_other(s)].backlog != NULL;
	if (l->backlog != NULL) {
		ret->busy = ret->stuck = true;
		return;
	}
	/* The last bytes that came were its reply to a heartbeat, and nothing was sent since: it has read all. */
	if (l->tx_us <= h->last_us && l->rx_us >= l->tx_us && f->session->app_us[s] < l->rx_us)
		return;
	transport_facts(&l->transport, &facts);
	ret->busy = facts.unsent > 0 || (facts.unacked > 0 && facts.retransmits > 0);
	ret->stuck |= facts.unsent > 0 || (facts.unacked > 0 && !acknowledges(f->relay, &facts));
	find_unread(f, s, &facts, ret);
	if (facts.is_tcp && ss->path_us[s] == 0)
		ss->path_us[s] = facts.min_rtt_us;
}
