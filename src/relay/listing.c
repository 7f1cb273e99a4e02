/* listing.c - flows as the operator sees them. */
#include <assert.h>

#include "relay/ending.h"
#include "relay/pump.h"
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/session.h"
#include "relay/shared.h"

#define SLICE_US 200	/* limit per call: no bytes are relayed meanwhile */

/* NULL: none yet, or the settings do not name it any more. */
static const char *
backend_text(const struct flow *f)
{
	const struct endpoint *to;

	if (f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE)
		return NULL;
	to = flow_backend(f);
	return to != NULL ? to->text : NULL;
}

/* Family 0: no PROXY header has named another client. */
static struct address
client_peer(const struct flow *f)
{
	const struct client_origin *o = origin_of(f);

	return o != NULL && o->kind == PROXY_ADDRESSES ? o->peer : (struct address){ 0 };
}

void
flow_describe(const struct flow *f, struct flow_info *info)
{
	const int64_t now = clock_us();

	assert(f->state != FLOW_ENDED);		/* else its settings may be gone */
	*info = (struct flow_info){
		.flow = f,
		.id = f->id,
		.route = f->route,
		.client = f->client,
		.client_peer = client_peer(f),
		.backend = f->backend,
		.backend_text = backend_text(f),
		.protocol = session_protocol(f),
		.connecting = f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE,
		.awaits_client = f->state == FLOW_PREFACE && preface_awaits_client(f->preface),
		.ending = f->state == FLOW_ENDING,
		.began_us = f->began_us,
		.age_ms = (now - f->began_us) / US_PER_MS,
	};
	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const struct leg *l = &f->leg[s];
		const struct heartbeat_leg *h = f->session != NULL ? &f->session->heartbeat[s] : NULL;

		info->leg[s].bytes = l->bytes;
		info->leg[s].idle_ms = info->leg[s].heard_ms = (now - l->rx_us) / US_PER_MS;
		info->leg[s].why_none = info->awaits_client ? "waiting for the client's first bytes" : heartbeats_why_none(f, s);
		transport_tls_facts(&l->transport, &info->leg[s].tls);
		info->leg[s].fin = l->fin;
		info->leg[s].dead = l->dead;
		info->leg[s].probes_max = (unsigned)leg_settings(f, s)->keepalive.probes;
		/* A UNIX socket is closed when its program ends, so silence on it means nothing. */
		if (leg_peer(f, s)->family != AF_UNIX)
			info->leg[s].sign_max_age_ms = signs_max_age_us(f, s) / US_PER_MS;
		info->leg[s].rtt_us = info->leg[s].srtt_us = info->leg[s].worst_us = -1;
		if (h == NULL)
			continue;
		info->leg[s].misses = h->misses;
		info->leg[s].misses_max = leg_settings(f, s)->heartbeat_misses < 0 ? HEARTBEAT_MISSES_AUTO
		    : (unsigned)leg_settings(f, s)->heartbeat_misses;
		info->leg[s].reply_awaited = h->oldest_ping_us != 0;
		info->leg[s].refused = h->refused;
		info->leg[s].heartbeats = h->sent;
		info->leg[s].pings = h->pings;
		info->leg[s].replies = h->replied;
		if (h->worst_us > 0) {
			info->leg[s].rtt_us = h->rtt_us;
			info->leg[s].srtt_us = h->srtt_us;
			info->leg[s].worst_us = h->worst_us;
		}
	}
}

void
flow_info_add_kernel(struct flow_info *info)
{
	const struct flow *f = info->flow;

	for (enum side s = CLIENT; s <= BACKEND; s++) {
		const struct transport *t = &f->leg[s].transport;
		struct socket_facts facts = { 0 };

		if (transport_is_open(t))
			transport_facts(t, &facts);
		if (!facts.is_tcp)
			continue;
		info->leg[s].detect_too_short = detect_is_too_short(f, s, &facts);
		if (f->relay->kernel_has_times && facts.last_ack_ms < info->leg[s].heard_ms)
			info->leg[s].heard_ms = facts.last_ack_ms;
		/* A probe sent just now has had no time to be acknowledged; while bytes are unsent, probes are window probes. */
		if (facts.unsent == 0 && info->leg[s].heard_ms > (leg_settings(f, s)->keepalive.idle_s + 1) * INT64_C(1000))
			info->leg[s].probes = facts.probes;
		if (info->leg[s].rtt_us >= 0)
			continue;
		/*
		 * The acknowledgement of a single segment, such as a heartbeat, is delayed. The kernel's average includes that
		 * delay; its minimum does not, until it has seen nothing else for minutes.
		 */
		if (f->session != NULL && f->session->path_us[s] != 0)
			info->leg[s].rtt_us = f->session->path_us[s];
		else if (facts.min_rtt_us != 0 && (info->leg[s].heartbeats == 0 || f->session == NULL))
			info->leg[s].rtt_us = facts.min_rtt_us;
	}
}

bool
relay_list_flows(struct relay *r, bool restart, void (*visit)(struct flow_info *info, void *arg), void *arg)
{
	const int64_t until_us = clock_us() + SLICE_US;
	struct flow_info info;

	if (restart) {
		r->list_next = TAILQ_FIRST(&r->flows);
		r->list_last_id = r->last_id;
	}
	while (r->list_next != NULL && clock_us() < until_us) {
		/* Flows are in the order of their ids. Those newer than the listing are left out, so that it ends. */
		if (r->list_next->id > r->list_last_id)
			return false;
		assert(r->list_next->relay == r);	/* finish() in flow.c steps over one that ends */
		flow_describe(r->list_next, &info);
		r->list_next = TAILQ_NEXT(r->list_next, link);
		visit(&info, arg);
	}
	return r->list_next != NULL;
}
