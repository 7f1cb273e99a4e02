/* origin.h - what a PROXY header has told of a flow, and the header that its backend gets. */
#ifndef STENT_RELAY_ORIGIN_H
#define STENT_RELAY_ORIGIN_H

#include "relay/flow.h"
#include "stent/proxy_header.h"

struct transport_client;

struct client_origin {
	const struct flow *flow;
	struct address peer;		/* of the socket: the balancer */
	struct address destination;	/* where the client had connected to */
	enum proxy_kind kind;
	struct proxy_id id;
};

/* The flow's client sent this header: f->client is the one that it names from now on. 0 or -ENOMEM. */
int origin_set(struct flow *f, const struct proxy_header *h);
const struct client_origin *origin_of(const struct flow *f);	/* NULL: there was no header */
void origin_forget(struct flow *f);	/* the flow is gone */

/* The address of the socket's peer: for the client leg behind a balancer, that of the balancer. */
const struct address *leg_peer(const struct flow *f, enum side s);

/* Writes the header that the route's backend gets: its length. client: what is told of the client's TLS; NULL: nothing. */
size_t origin_write_header(const struct flow *f, const struct transport_client *client, uint8_t buf[PROXY_HEADER_OUT_MAX]);

#endif
