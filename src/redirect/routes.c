/*
 * routes.c - for TPROXY: packets with the mark are for this machine, whatever their destination.
 *
 * A rule and a table with one route, of each family. The mark is the number of
 * the table, too, and comes from the name, so that two names have two.
 */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redirect/rules.h"

#define MARK 0x53540000		/* "ST" */
#define PRIORITY 32000		/* of the rules: before the main table. Without one, the kernel adds the same rule twice */

uint32_t
routes_mark(const char *name)
{
	uint32_t h = 0x811c9dc5;	/* FNV-1a */

	for (; *name != '\0'; name++)
		h = (h ^ (uint8_t)*name) * 0x01000193;
	return MARK | (h >> 16 ^ (h & 0xffff));
}

static int
change_rule(int fd, int family, uint32_t mark, bool adds)
{
	const struct fib_rule_hdr head = { .family = (uint8_t)family, .table = RT_TABLE_UNSPEC, .action = FR_ACT_TO_TBL };
	struct netlink n = { 0 };
	int r;

	netlink_message(&n, adds ? RTM_NEWRULE : RTM_DELRULE, adds ? NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL : NLM_F_ACK, &head, sizeof(head));
	netlink_put_u32(&n, FRA_FWMARK, mark);
	netlink_put_u32(&n, FRA_TABLE, mark);
	netlink_put_u32(&n, FRA_PRIORITY, PRIORITY);
	r = netlink_send(fd, &n, NULL, NULL);
	netlink_clear(&n);
	return adds && r == -EEXIST ? 0 : r;
}

static int
change_route(int fd, int family, uint32_t table, bool adds)
{
	const struct rtmsg head = { .rtm_family = (uint8_t)family, .rtm_table = RT_TABLE_UNSPEC, .rtm_protocol = adds ? RTPROT_STATIC : RTPROT_UNSPEC,
	    .rtm_scope = adds ? RT_SCOPE_HOST : RT_SCOPE_NOWHERE, .rtm_type = RTN_LOCAL };
	struct netlink n = { 0 };
	int r;

	netlink_message(&n, adds ? RTM_NEWROUTE : RTM_DELROUTE, adds ? NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE : NLM_F_ACK, &head, sizeof(head));
	netlink_put_u32(&n, RTA_TABLE, table);
	netlink_put_u32(&n, RTA_OIF, if_nametoindex("lo"));
	r = netlink_send(fd, &n, NULL, NULL);
	netlink_clear(&n);
	return r;
}

/* IPv6 is off in this kernel or namespace: then it has no connections either. */
static bool
is_without_v6(int r)
{
	return r == -EAFNOSUPPORT || r == -EOPNOTSUPP || r == -EACCES || r == -ENODEV;
}

int
routes_add(uint32_t mark)
{
	const int fd = netlink_open(NETLINK_ROUTE);
	int r, v6;

	if (fd < 0)
		return fd;
	r = change_rule(fd, AF_INET, mark, true);
	if (r == 0)
		r = change_route(fd, AF_INET, mark, true);
	v6 = r == 0 ? change_rule(fd, AF_INET6, mark, true) : 0;
	if (r == 0 && v6 == 0)
		v6 = change_route(fd, AF_INET6, mark, true);
	close(fd);
	return r == 0 && !is_without_v6(v6) ? v6 : r;
}

int
routes_remove(uint32_t mark)
{
	static const int families[] = { AF_INET, AF_INET6 };
	const int fd = netlink_open(NETLINK_ROUTE);
	int result = 0, r;

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		while ((r = change_rule(fd, families[i], mark, false)) == 0)
			;		/* somebody may have added it twice */
		if (r == -EPERM && result == 0)
			result = r;
		r = change_route(fd, families[i], mark, false);
		if (r == -EPERM && result == 0)
			result = r;
	}
	close(fd);
	return result;
}
