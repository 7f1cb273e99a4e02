/*
 * profiles.c - the table of profiles, and the key that names one.
 *
 * Each row is what its source says of the default settings; a number that has
 * no source is not here. Where a product has several limits, the shortest that
 * an open flow meets is the row's.
 */
#include <string.h>

#include "config/keys.h"
#include "config/profiles.h"
#include "config/units.h"

#define SECONDS(n) (INT64_C(1000) * (n))

static const struct profile profiles[] = {
	{ "aws-alb", "AWS Application Load Balancer", SECONDS(60), true, "closed", "",
	  "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html", "2026-11-28" },
	{ "aws-clb", "AWS Classic Load Balancer", SECONDS(60), true, "closed", "",
	  "https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/config-idle-timeout.html", "2026-11-28" },
	{ "aws-firewall", "AWS Network Firewall", SECONDS(350), false, "forgotten", "later packets are dropped",
	  "https://docs.aws.amazon.com/network-firewall/latest/APIReference/API_FlowTimeouts.html", "2026-11-28" },
	{ "aws-nat", "AWS NAT gateway", SECONDS(350), false, "forgotten", "",
	  "https://folio-org.atlassian.net/wiki/spaces/SYSOPS/pages/749010945/TCP+Keepalive", "2026-11-28" },
	{ "aws-nlb", "AWS Network Load Balancer", SECONDS(350), false, "forgotten", "later packets are answered with a reset",
	  "https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html and "
	  "https://kupczynski.info/posts/load-balancer-gotchas", "2026-11-28" },
	{ "azure", "Azure Load Balancer", SECONDS(240), false, "forgotten", "later packets are dropped; with its option TCP reset both sides get a reset",
	  "https://learn.microsoft.com/en-us/azure/load-balancer/load-balancer-tcp-reset", "2026-11-28" },
	{ "carrier", "a mobile network with a short limit (one in France was measured)", SECONDS(270), false, "forgotten", "later packets are dropped",
	  "https://blog.wirelessmoves.com/2020/09/carrier-grade-nat-timeouts-and-how-to-configure-your-xmpp-server.html", "2026-11-28" },
	{ "cloudflare", "Cloudflare's proxy: data from the origin", SECONDS(100), true, "closed", "",
	  "https://developers.cloudflare.com/fundamentals/reference/connection-limits/ and https://github.com/buildbot/buildbot/issues/4078", "2026-11-28" },
	{ "docker-desktop", "Docker Desktop (vpnkit)", SECONDS(300), true, "closed", "",
	  "https://github.com/docker/for-mac/issues/5886 and https://github.com/moby/vpnkit/issues/414", "2026-11-28" },
	{ "envoy", "Envoy's TCP proxy", SECONDS(3600), true, "closed", "",
	  "https://www.envoyproxy.io/docs/envoy/v1.30.2/api-v3/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto", "2026-11-28" },
	{ "gcp", "Google Cloud: connection tracking of a VPC network", SECONDS(600), false, "forgotten", "later packets are subject to the firewall rules",
	  "https://cloud.google.com/compute/docs/troubleshooting", "2026-11-28" },
	{ "gcp-nat", "Google Cloud NAT", SECONDS(1200), false, "forgotten", "later packets are dropped",
	  "https://oneuptime.com/blog/post/2026-02-17-how-to-configure-cloud-nat-timeout-values-for-long-lived-tcp-connections-in-gcp/view", "2026-11-28" },
	{ "haproxy", "HAProxy with Debian's haproxy.cfg (timeout client, timeout server)", SECONDS(50), true, "closed", "",
	  "/etc/haproxy/haproxy.cfg of the package haproxy in Debian 12", "2026-11-28" },
	{ "heroku", "Heroku's router", SECONDS(55), true, "closed", "error H15",
	  "https://devcenter.heroku.com/articles/http-routing", "2026-11-28" },
	{ "kubernetes-ipvs", "Kubernetes services with kube-proxy in IPVS mode", SECONDS(900), false, "forgotten", "",
	  "https://www.gooth.org/post/2018/2018_09_15-ipvs_connection_timeout_issue/", "2026-11-28" },
	{ "nginx", "nginx as a WebSocket proxy (proxy_read_timeout): data from the backend", SECONDS(60), true, "closed", "",
	  "https://nginx.org/en/docs/http/websocket.html", "2026-11-28" },
	{ "swarm", "Docker Swarm's overlay network (IPVS)", SECONDS(900), false, "forgotten", "later packets go nowhere",
	  "https://github.com/moby/moby/issues/31208", "2026-11-28" },
};

const struct profile *
profile_at(size_t i)
{
	return i < sizeof(profiles) / sizeof(profiles[0]) ? &profiles[i] : NULL;
}

int64_t
profile_quiet_ms(const struct profile *p)
{
	return p->limit_ms / 2000 * 1000;
}

/* --- the key --- */

static int
parse_profile(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	const struct profile *p;
	struct nearest n;

	(void)k;
	if (strcmp(text, "off") == 0) {
		*(const struct profile **)field = NULL;
		return 0;
	}
	nearest_start(&n, text);
	nearest_offer(&n, "off");
	for (size_t i = 0; (p = profile_at(i)) != NULL; i++) {
		nearest_offer(&n, p->name);
		if (strcmp(p->name, text) != 0)
			continue;
		*(const struct profile **)field = p;
		return 0;
	}
	if (nearest_best(&n) != NULL)
		return spot_error(spot, "there is no profile \"%s\"; did you mean \"%s\"?", text, nearest_best(&n));
	return spot_error(spot, "there is no profile \"%s\"; `stent help profiles` lists them", text);
}

static void
print_profile(const struct key *k, const void *field, FILE *out)
{
	const struct profile *p = *(const struct profile *const *)field;

	(void)k;
	fputs(p != NULL ? p->name : "off", out);
}

const struct type type_profile = { .form = "PROFILE", .parse = parse_profile, .print = print_profile };
