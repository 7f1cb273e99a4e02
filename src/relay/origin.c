/*
 * origin.c - the clients behind a balancer.
 *
 * A flow has room for one client address, which is the one that everything is
 * judged and shown by. Where a PROXY header named it, the address of the
 * socket's peer, and what else the header told, are in a tree of the relay.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "relay/flow_tree.h"
#include "relay/origin.h"
#include "relay/require.h"
#include "relay/shared.h"
#include "stent/transparent.h"

static struct client_origin *
find(const struct flow *f)
{
	struct client_origin *o = flow_tree_find(&f->relay->origins, f);

	require_or(f, o != NULL && o->flow == f, NULL);	/* the bit says that there is one */
	return o;
}

const struct client_origin *
origin_of(const struct flow *f)
{
	return f->has_origin ? find(f) : NULL;
}

int
origin_set(struct flow *f, const struct proxy_header *h)
{
	struct client_origin *o;

	require_or(f, !f->has_origin && f->state == FLOW_PREFACE, -EIO);	/* a client has one header */
	require_or(f, f->admission == ADMITTED, -EIO);	/* it is admitted by the address in it */
	o = malloc(sizeof(*o));
	if (o == NULL)
		return -ENOMEM;
	*o = (struct client_origin){ f, f->client, h->destination, h->kind, h->id };
	if (flow_tree_add(&f->relay->origins, o) != 0) {
		free(o);
		return -ENOMEM;
	}
	f->has_origin = true;
	if (h->kind == PROXY_ADDRESSES)
		f->client = h->source;
	return 0;
}

void
origin_forget(struct flow *f)
{
	struct client_origin *o = f->has_origin ? find(f) : NULL;

	f->has_origin = false;
	if (o == NULL)
		return;
	flow_tree_remove(&f->relay->origins, o);
	free(o);
}

const struct address *
leg_peer(const struct flow *f, enum side s)
{
	const struct client_origin *o = s == CLIENT ? origin_of(f) : NULL;

	if (s == BACKEND)
		return &f->backend;
	return o != NULL ? &o->peer : &f->client;
}

/* --- the header to the backend --- */

/* The address that the client connected to; a redirected one, before it was redirected. */
static void
find_destination(const struct flow *f, struct proxy_out *out, struct sockaddr_storage *ss)
{
	const int fd = f->leg[CLIENT].transport.fd;
	const struct sockaddr_un *sun = (const struct sockaddr_un *)ss;
	socklen_t len = sizeof(*ss);

	memset(ss, 0, sizeof(*ss));
	if (f->client.family == AF_UNIX || transparent_destination(fd, f->route->transparent, ss) != 0)
		if (getsockname(fd, (struct sockaddr *)ss, &len) != 0)
			return;
	out->destination = address_from_sockaddr((const struct sockaddr *)ss);
	if (ss->ss_family == AF_UNIX)
		out->unix_path = sun->sun_path;
}

/* An id of ours: random for this process, and the flow's number in the log. */
static void
make_id(const struct flow *f, struct proxy_id *id)
{
	struct relay *r = f->relay;

	if (r->proxy_seed == 0 && getrandom(&r->proxy_seed, sizeof(r->proxy_seed), GRND_NONBLOCK) != sizeof(r->proxy_seed))
		r->proxy_seed = (uint64_t)clock_us();
	id->len = (uint8_t)snprintf((char *)id->bytes, sizeof(id->bytes), "%016llx-%llu", (unsigned long long)r->proxy_seed,
	    (unsigned long long)f->id);
	assert(id->len > 0 && id->len < sizeof(id->bytes));	/* it was not cut off */
}

/* False: the client's leg has no TLS. */
static bool
describe_tls(const struct flow *f, const struct transport_client *client, struct proxy_tls *tls)
{
	struct transport_tls facts = { 0 };

	if (client == NULL)
		return false;
	transport_tls_facts(&f->leg[CLIENT].transport, &facts);
	*tls = (struct proxy_tls){ facts.version, facts.cipher, client->has_certificate, facts.resumed, client->common_name, client->alpn, client->name };
	return facts.version != NULL;
}

size_t
origin_write_header(const struct flow *f, const struct transport_client *client, uint8_t buf[PROXY_HEADER_OUT_MAX])
{
	const struct client_origin *o = origin_of(f);
	struct proxy_out out = { .kind = o != NULL ? o->kind : PROXY_ADDRESSES, .source = f->client };
	struct sockaddr_storage ss;
	struct proxy_tls tls;
	struct proxy_id id;
	size_t n;

	if (o != NULL)
		out.destination = o->destination;
	else
		find_destination(f, &out, &ss);
	out.id = o != NULL && o->id.len > 0 ? &o->id : &id;
	if (out.id == &id)
		make_id(f, &id);
	if (describe_tls(f, client, &tls))
		out.tls = &tls;
	assert(f->route->send_proxy == 1 || f->route->send_proxy == 2);
	n = proxy_header_write(buf, f->route->send_proxy, &out);
	assert(n > 0 && n <= PROXY_HEADER_OUT_MAX);	/* the caller's room */
	return n;
}
