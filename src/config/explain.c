/*
 * explain.c - what a machine needs besides the settings, so that they work:
 * `stent check --explain`. Commands to be run as they are.
 *
 * Replies to a connection whose source is a client's address are addressed to
 * the client. A mark on packets of stent's own sockets, and a routing table in
 * which every address is local, keep them on this machine.
 */
#include <stdio.h>

#include "config/make.h"

#define MARK "0x5354"
#define TABLE "21332"		/* the same number */

enum { V4 = 1, V6 = 2 };

/* The families in which the backends of a route may be. */
static unsigned
families_of(const struct route *r)
{
	unsigned families = 0;

	for (size_t i = 0; i < r->n_backend; i++)
		if (r->backend[i].kind != ENDPOINT_ADDRESS)
			families |= V4 | V6;
		else
			families |= r->backend[i].addr.ss_family == AF_INET ? V4 : V6;
	return families;
}

static bool
is_original(const struct route *r)
{
	return r->n_backend > 0 && r->backend[0].kind == ENDPOINT_ORIGINAL;
}

static void
print_source(const struct config *c, FILE *out)
{
	unsigned families = 0;

	for (size_t i = 0; i < c->n_routes; i++) {
		const struct route *r = &c->routes[i];

		if (!r->source_client)
			continue;
		families |= families_of(r);
		fprintf(out, "# route %s: source = client\n", r->name);
	}
	if (families == 0)
		return;
	fputs("#\n# The replies of the backends must come through this machine (it is their gateway, or the route to the clients\n"
	    "# leads here), and these commands keep them here:\n\n"
	    "nft add table inet stent-source\n"
	    "nft 'add chain inet stent-source prerouting { type filter hook prerouting priority mangle; }'\n"
	    "nft flush chain inet stent-source prerouting\n"
	    "nft add rule inet stent-source prerouting meta l4proto tcp socket transparent 1 meta mark set " MARK "\n", out);
	if (families & V4)
		fputs("ip rule add priority " TABLE " fwmark " MARK " lookup " TABLE "\nip route replace local 0.0.0.0/0 dev lo table " TABLE "\n", out);
	if (families & V6)
		fputs("ip -6 rule add priority " TABLE " fwmark " MARK " lookup " TABLE "\nip -6 route replace local ::/0 dev lo table " TABLE "\n", out);
	fputs("\n# They last until the next boot; run again, they change nothing (ip says that the rule exists). To take them back:\n#   nft delete table inet stent-source\n", out);
	if (families & V4)
		fputs("#   ip rule del priority " TABLE "; ip route flush table " TABLE "\n", out);
	if (families & V6)
		fputs("#   ip -6 rule del priority " TABLE "; ip -6 route flush table " TABLE "\n", out);
}

static void
print_redirect(const struct config *c, FILE *out)
{
	for (size_t i = 0; i < c->n_routes; i++) {
		const struct route *r = &c->routes[i];

		for (size_t k = 0; k < r->n_listen && (is_original(r) || r->transparent); k++) {
			if (r->listen[k].port == 0)
				continue;
			fprintf(out, "# route %s: %s to %s, where PORT is what clients connect to (`stent redirect --help`)\n"
			    "#   stent redirect install --port PORT --to %u --uid %s%s\n", r->name,
			    r->transparent ? "TPROXY" : "redirection", r->listen[k].text, r->listen[k].port,
			    c->user != NULL ? c->user : "root", r->transparent ? " --mode tproxy" : "");
		}
	}
}

void
config_explain(const struct config *c, FILE *out)
{
	bool has_any = false;

	for (size_t i = 0; i < c->n_routes; i++)
		has_any |= c->routes[i].source_client || c->routes[i].transparent || is_original(&c->routes[i]);
	if (!has_any)
		fputs("# These settings need no routing or firewall rules.\n", out);
	print_source(c, out);
	print_redirect(c, out);
}
