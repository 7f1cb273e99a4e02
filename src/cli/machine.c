/*
 * machine.c - what bites later: limits of this machine that the settings may
 * exceed, though everything works until then.
 *
 * Only what the settings ask for is compared: max_flows = auto asks for
 * nothing. Connection tracking of this machine matters where it is loaded; its
 * numbers are read from /proc, which a container may not have.
 */
#include "cli/machine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "stent/config.h"
#include "stent/socket.h"

#define TEXT_MAX 512
#define HALF_CLOSED_IDLE_S 25	/* the first probe on a half-closed flow comes then at the latest: flow_timer.c */
#define CONNTRACK "/proc/sys/net/netfilter/nf_conntrack_"

struct warner {
	void (*say)(const char *text);
};

static void warn(const struct warner *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
warn(const struct warner *w, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	w->say(text);
}

/* The numbers of a file of /proc, up to two. How many there were. */
static int
read_numbers(const char *path, int64_t n[2])
{
	FILE *f = fopen(path, "re");
	int found = 0;

	if (f == NULL)
		return 0;
	found = fscanf(f, "%" SCNd64 " %" SCNd64, &n[0], &n[1]);
	fclose(f);
	return found > 0 ? found : 0;
}

static int64_t
least_of(int64_t a, int64_t b)
{
	return a > 0 && (b == 0 || a < b) ? a : b;
}

/* Flows that a route may have, as far as the settings limit them; 0: they do not. */
static int64_t
flows_of(const struct config *c, const struct route *r)
{
	return least_of(r->max_flows, c->max_flows);
}

/* Is it one of the first n backends of the route? */
static bool
has_backend(const struct route *r, size_t n, const struct endpoint *ep)
{
	for (size_t i = 0; i < n; i++)
		if (endpoint_same(&r->backend[i], ep))
			return true;
	return false;
}

/* Backends whose addresses have a port space of their own. -1: it is not known how many there are. */
static int
addresses_of(const struct route *r)
{
	int n = 0;

	for (size_t i = 0; i < r->n_backend; i++) {
		if (r->backend[i].kind != ENDPOINT_ADDRESS && r->backend[i].kind != ENDPOINT_NAME)
			return -1;
		n += !has_backend(r, i, &r->backend[i]);
	}
	return n;
}

/* All flows of q go to backends of r, and take ports from the same. With the client's address as source each client has its own. */
static bool
shares_ports(const struct route *q, const struct route *r)
{
	bool all = !q->source_client;

	for (size_t i = 0; i < q->n_backend; i++)
		all = all && has_backend(r, r->n_backend, &q->backend[i]);
	return all;
}

/* Flows to the backends of a route, of it and of others; 0: the settings do not limit them. n: of how many routes. */
static int64_t
flows_to_backends(const struct config *c, const struct route *r, size_t *n)
{
	int64_t flows = 0;

	*n = 0;
	for (size_t i = 0; i < c->n_routes; i++) {
		const int64_t more = flows_of(c, &c->routes[i]);

		if (more == 0 || !shares_ports(&c->routes[i], r))
			continue;
		flows += more;
		++*n;
	}
	return least_of(flows, c->max_flows);
}

/* A route before this one was told of with the same backends. */
static bool
is_told(const struct config *c, const struct route *r)
{
	for (const struct route *q = c->routes; q < r; q++)
		if (shares_ports(q, r) && shares_ports(r, q))
			return true;
	return false;
}

static void
check_ports(const struct warner *w, const struct config *c)
{
	int64_t range[2];

	if (read_numbers("/proc/sys/net/ipv4/ip_local_port_range", range) != 2)
		return;
	for (size_t i = 0; i < c->n_routes; i++) {
		const struct route *r = &c->routes[i];
		const int64_t ports = range[1] - range[0] + 1;
		const int n = addresses_of(r);
		size_t n_routes;
		int64_t flows;

		if (n <= 0 || r->source_client || (c->max_flows > 0 && c->max_flows <= ports * n))
			continue;
		flows = flows_to_backends(c, r, &n_routes);
		if (flows <= ports * n || is_told(c, r))
			continue;
		warn(w, "route %s%s: max_flows = %" PRId64 ", but this machine has %" PRId64 " local ports for each backend address "
		    "(net.ipv4.ip_local_port_range = %" PRId64 " %" PRId64 ") and the route %d backend%s; widen that range, add backend "
		    "addresses, or lower max_flows", r->name,
		    n_routes > 1 ? " and those with the same backends together" : "", flows, ports, range[0], range[1], n, n == 1 ? "" : "s (a name counts as one)");
	}
}

static void
check_queue(const struct warner *w)
{
	const int limit = socket_backlog_limit();

	if (limit >= 0 && limit < SOCKET_BACKLOG)
		warn(w, "net.core.somaxconn = %d limits how many clients can wait to be accepted; in a burst the others have to try again; "
		    "sysctl -w net.core.somaxconn=%d", limit, SOCKET_BACKLOG);
}

/* Each flow has an entry for each of its legs. */
static void
check_entries(const struct warner *w, const struct config *c)
{
	int64_t max[2], flows = 0;

	if (read_numbers(CONNTRACK "max", max) < 1 || max[0] <= 0)
		return;
	for (size_t i = 0; i < c->n_routes; i++)
		flows += c->routes[i].max_flows;
	flows = least_of(c->max_flows, flows);
	if (2 * flows > max[0])
		warn(w, "max_flows = %" PRId64 " may take %" PRId64 " entries of this machine's connection tracking, and it has "
		    "%" PRId64 "; where it is full, packets are dropped; sysctl -w net.netfilter.nf_conntrack_max=%" PRId64 ", or exclude "
		    "these flows (notrack)", flows, 2 * flows, max[0], 4 * flows);
}

/* How long a leg may be without a packet, in s; 0: for ever. */
static int64_t
quiet_s(const struct leg_settings *l)
{
	const int64_t beat_ms = l->heartbeat_is_auto ? l->heartbeat_max_ms : l->heartbeat_ms;

	return least_of((beat_ms + 999) / 1000, l->keepalive.idle_s);
}

static void
check_timeout(const struct warner *w, const struct config *c, const char *name, int64_t at_most_s)
{
	char path[128];
	int64_t limit[2];

	snprintf(path, sizeof(path), CONNTRACK "tcp_timeout_%s", name);
	if (read_numbers(path, limit) < 1 || limit[0] <= 0)
		return;
	for (size_t i = 0; i < c->n_routes; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			const int64_t quiet = quiet_s(&c->routes[i].leg[s]);
			const int64_t until = at_most_s > 0 ? least_of(quiet, at_most_s) : quiet;

			if (until > 0 && until < limit[0])
				continue;
			if (until == 0 && at_most_s > 0)
				continue;	/* told of open flows already */
			if (until == 0 && limit[0] > INT64_C(86400))
				continue;	/* the operator wants neither probes nor heartbeats, and has a day */
			warn(w, "net.netfilter.nf_conntrack_tcp_timeout_%s = %" PRId64 ": connection tracking on this machine forgets a flow "
			    "of route %s before %s its %s leg%s; raise it, or lower %s.keepalive", name, limit[0], c->routes[i].name,
			    until > 0 ? "anything is sent on" : "it ends, as nothing is sent on", side_name(s),
			    at_most_s > 0 ? " once one side has closed" : "", side_name(s));
			return;		/* one route is enough */
		}
}

void
machine_warn(const struct config *c, bool queue_too, void (*say)(const char *text))
{
	const struct warner w = { say };

	check_ports(&w, c);
	if (queue_too)
		check_queue(&w);
	check_entries(&w, c);
	check_timeout(&w, c, "established", 0);
	check_timeout(&w, c, "close_wait", HALF_CLOSED_IDLE_S);
	check_timeout(&w, c, "fin_wait", HALF_CLOSED_IDLE_S);
}
