/*
 * install.c - the table: which rules stand in which chain; and how it is replaced and removed.
 *
 * All of it is one transaction: the table of before is deleted, and the new one made,
 * or nothing changes. A table is created before it is deleted, so that it need not be there.
 *
 * redirect: a chain of NAT where programs of this namespace (output) or other
 * machines (prerouting) connect; only the first packet of a connection passes it.
 * tproxy: every packet passes. What programs here send is marked in output, which makes
 * the kernel route it again: to loopback, where prerouting sees it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "redirect/rules.h"

#define OUTPUT "output"
#define PREROUTING "prerouting"
#define PRIORITY_MANGLE (-150)	/* NF_IP_PRI_MANGLE, NF_IP_PRI_NAT_DST: of both families */
#define PRIORITY_DNAT (-100)

static const struct cidr_range loopback[] = {
	{ .first = { 4, 127 }, .last = { 4, 127, 255, 255, 255 } },
	{ .first = { 6, [16] = 1 }, .last = { 6, [16] = 1 } },
};

int
redirect_explain(int r, const char *what, char why[REDIRECT_WHY_MAX])
{
	if (r == -EPERM || r == -EACCES)
		snprintf(why, REDIRECT_WHY_MAX, "%s needs CAP_NET_ADMIN in this network namespace, for this step alone. Run it as root; with Docker as "
		    "user 0 with --cap-add NET_ADMIN; in Kubernetes in an init container with securityContext: {runAsUser: 0, capabilities: {add: "
		    "[NET_ADMIN]}}", what);
	else if (r == -EOPNOTSUPP || r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT)
		snprintf(why, REDIRECT_WHY_MAX, "%s: this kernel lacks nftables or a part of it (nft_redir, nft_tproxy, nft_socket): %s", what, strerror(-r));
	else if (r == -ENETDOWN)
		snprintf(why, REDIRECT_WHY_MAX, "%s: the loopback interface of this network namespace is down; run: ip link set lo up", what);
	else if (r != 0)
		snprintf(why, REDIRECT_WHY_MAX, "%s: %s", what, strerror(-r));
	return r;
}

/* --- the table --- */

static void
put_table(struct netlink *n, const char *name, int type, const char *text)
{
	rules_message(n, type, (type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0u) | NLM_F_ACK);
	netlink_put_text(n, NFTA_TABLE_NAME, name);
	if (type == NFT_MSG_NEWTABLE)
		netlink_put_be32(n, NFTA_TABLE_FLAGS, 0);
	if (text != NULL)
		rules_put_text(n, NFTA_TABLE_USERDATA, text);
}

static void
put_chain(struct netlink *n, const char *table, const char *name, const char *type, uint32_t hook, int priority)
{
	size_t at;

	rules_message(n, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	netlink_put_text(n, NFTA_CHAIN_TABLE, table);
	netlink_put_text(n, NFTA_CHAIN_NAME, name);
	netlink_put_text(n, NFTA_CHAIN_TYPE, type);
	at = netlink_begin(n, NFTA_CHAIN_HOOK);
	netlink_put_be32(n, NFTA_HOOK_HOOKNUM, hook);
	netlink_put_be32(n, NFTA_HOOK_PRIORITY, (uint32_t)priority);
	netlink_end(n, at);
}

/* --- its rules --- */

/* What a rule for the chosen connections does with them. */
enum action { REDIRECTS, MARKS, TPROXIES };

struct place {
	struct netlink *n;
	const struct redirect *r;
	const char *chain;
	uint32_t mark;
};

static void
put_exempt(const struct place *p, const struct cidr_range *range)
{
	struct rule rule;

	rule_begin(&rule, p->n, p->r->name, p->chain);
	rule_match_destination(&rule, range);
	rule_return(&rule);
	rule_end(&rule);
}

/* Destinations that are left alone. Loopback is, unless destinations are given. */
static void
put_exempt_all(const struct place *p)
{
	for (size_t i = 0; i < p->r->n_excepts; i++)
		put_exempt(p, &p->r->excepts[i]);
	for (size_t i = 0; i < 2 && p->r->n_cidrs == 0; i++)
		put_exempt(p, &loopback[i]);
}

/* Whose connections are left alone: stent's own. */
static void
put_owners(const struct place *p)
{
	struct rule rule;

	for (size_t i = 0; i < p->r->n_uids; i++) {
		rule_begin(&rule, p->n, p->r->name, p->chain);
		rule_match_uid(&rule, p->r->uids[i]);
		rule_return(&rule);
		rule_end(&rule);
	}
	for (size_t i = 0; i < p->r->n_gids; i++) {
		rule_begin(&rule, p->n, p->r->name, p->chain);
		rule_match_gid(&rule, p->r->gids[i]);
		rule_return(&rule);
		rule_end(&rule);
	}
	if (p->r->cgroup == 0)
		return;
	rule_begin(&rule, p->n, p->r->name, p->chain);
	rule_match_cgroup(&rule, p->r->cgroup, p->r->cgroup_level, p->r->cgroup_path);
	rule_return(&rule);
	rule_end(&rule);
}

static void
put_chosen(const struct place *p, const struct redirect_ports *ports, const struct cidr_range *range, enum action action, bool is_out)
{
	struct rule rule;

	rule_begin(&rule, p->n, p->r->name, p->chain);
	if (p->chain[0] == PREROUTING[0])
		rule_match_loopback(&rule, is_out);
	if (action == TPROXIES && is_out)
		rule_match_mark(&rule, p->mark);
	if (range != NULL)
		rule_match_destination(&rule, range);
	if (ports != NULL)
		rule_match_ports(&rule, ports);
	else
		rule_match_tcp(&rule);
	if (action == REDIRECTS) {
		rule_redirect(&rule, p->r->to);
	} else if (action == TPROXIES) {
		rule_match_syn(&rule);		/* what follows has a socket; and replies to other connections may be addressed as these */
		rule_set_mark(&rule, p->mark);
		rule_tproxy(&rule, p->r->to);
	} else {
		rule_match_original(&rule);
		rule_set_mark(&rule, p->mark);
		rule_accept(&rule);
	}
	rule_end(&rule);
}

/* A rule for each port and each network, so that each has its counter. */
static void
put_chosen_all(const struct place *p, enum action action, bool is_out)
{
	const struct redirect *r = p->r;

	for (size_t i = 0; i < (r->n_ports > 0 ? r->n_ports : 1); i++)
		for (size_t k = 0; k < (r->n_cidrs > 0 ? r->n_cidrs : 1); k++)
			put_chosen(p, r->n_ports > 0 ? &r->ports[i] : NULL, r->n_cidrs > 0 ? &r->cidrs[k] : NULL, action, is_out);
}

static void
put_nat(struct place *p)
{
	const struct redirect *r = p->r;

	if (r->in) {
		p->chain = PREROUTING;
		put_chain(p->n, r->name, p->chain, "nat", NF_INET_PRE_ROUTING, PRIORITY_DNAT);
		put_exempt_all(p);
		put_chosen_all(p, REDIRECTS, false);
	}
	if (r->out) {
		p->chain = OUTPUT;
		put_chain(p->n, r->name, p->chain, "nat", NF_INET_LOCAL_OUT, PRIORITY_DNAT);
		put_owners(p);
		put_exempt_all(p);
		put_chosen_all(p, REDIRECTS, true);
	}
}

static void
begin_transparent(struct rule *rule, const struct place *p)
{
	rule_begin(rule, p->n, p->r->name, p->chain);
	rule_match_tcp(rule);
	rule_match_transparent_socket(rule);
}

static void
put_tproxy(struct place *p)
{
	const struct redirect *r = p->r;
	struct rule rule;

	p->chain = PREROUTING;
	put_chain(p->n, r->name, p->chain, "filter", NF_INET_PRE_ROUTING, PRIORITY_MANGLE);
	/* Connections that have their socket. */
	begin_transparent(&rule, p);
	rule_set_mark(&rule, p->mark);
	rule_accept(&rule);
	rule_end(&rule);
	put_exempt_all(p);
	if (r->in)
		put_chosen_all(p, TPROXIES, false);
	if (!r->out)
		return;
	put_chosen_all(p, TPROXIES, true);
	p->chain = OUTPUT;
	put_chain(p->n, r->name, p->chain, "route", NF_INET_LOCAL_OUT, PRIORITY_MANGLE);
	/* What stent sends to its clients: the listener answers them, which root has opened. */
	begin_transparent(&rule, p);
	rule_return(&rule);
	rule_end(&rule);
	put_owners(p);
	put_exempt_all(p);
	put_chosen_all(p, MARKS, true);
}

static int
send_batch(struct netlink *n)
{
	const int fd = netlink_open(NETLINK_NETFILTER);
	int r = fd;

	if (fd >= 0) {
		r = netlink_send(fd, n, NULL, NULL);
		close(fd);
	}
	netlink_clear(n);
	return r;
}

static bool
has_table(const char *name)
{
	struct netlink n = { 0 };

	rules_message(&n, NFT_MSG_GETTABLE, NLM_F_ACK);
	netlink_put_text(&n, NFTA_TABLE_NAME, name);
	return send_batch(&n) == 0;
}

int
redirect_install(const struct redirect *r, char why[REDIRECT_WHY_MAX])
{
	struct netlink n = { 0 };
	struct place p = { .n = &n, .r = r, .mark = routes_mark(r->name) };
	bool had_table;
	int result;

	rules_batch(&n, true);
	put_table(&n, r->name, NFT_MSG_NEWTABLE, NULL);
	put_table(&n, r->name, NFT_MSG_DELTABLE, NULL);
	put_table(&n, r->name, NFT_MSG_NEWTABLE, r->text);
	if (r->is_tproxy)
		put_tproxy(&p);
	else
		put_nat(&p);
	rules_batch(&n, false);
	had_table = has_table(r->name);
	/* Routes for a mark that no packet has do nothing. */
	result = r->is_tproxy ? routes_add(p.mark) : 0;
	if (result == 0)
		result = send_batch(&n);
	else
		netlink_clear(&n);
	if (result != 0) {
		if (r->is_tproxy && !had_table)
			(void)routes_remove(p.mark);
		return redirect_explain(result, "redirecting connections", why);
	}
	return r->is_tproxy ? 0 : redirect_explain(routes_remove(p.mark), "removing the routes of --mode tproxy", why);
}

int
redirect_remove(const char *name, char why[REDIRECT_WHY_MAX])
{
	struct netlink n = { 0 };
	int r;

	rules_batch(&n, true);
	put_table(&n, name, NFT_MSG_NEWTABLE, NULL);
	put_table(&n, name, NFT_MSG_DELTABLE, NULL);
	rules_batch(&n, false);
	r = send_batch(&n);
	if (r == 0)
		r = routes_remove(routes_mark(name));
	return redirect_explain(r, "removing the redirection", why);
}
