/* rules.h - one rule of nftables after the other, each with its text; and what the files of src/redirect share. */
#ifndef STENT_REDIRECT_RULES_H
#define STENT_REDIRECT_RULES_H

#include "stent/netlink.h"
#include "stent/redirect.h"

/* The types of what the table keeps as a user's data, for a rule and for itself. */
enum {
	TEXT_COMMENT = 0,	/* NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_TABLE_COMMENT of libnftnl */
	TEXT_REST = 0x53,	/* our own */
};

/* A rule that is being written: its expressions, and in text what nft would print of them. */
struct rule {
	struct netlink *n;
	char text[REDIRECT_TEXT_MAX];
	uint8_t family;		/* that it matches, NFPROTO_*; 0: both */
	size_t list;		/* the expressions, see netlink_begin() */
};

/* Opens and closes the messages of a transaction. */
void rules_batch(struct netlink *n, bool begins);
/* A message of nftables. */
void rules_message(struct netlink *n, int type, unsigned flags);

/* A text as the user's data of a rule or a table. */
void rules_put_text(struct netlink *n, uint16_t attribute, const char *text);
/* A text that did not fit ends with dots. */
void redirect_mark_cut(char text[REDIRECT_TEXT_MAX]);

/* Between these two: matches, of which all must apply, and a verdict. Each rule counts its packets. */
void rule_begin(struct rule *r, struct netlink *n, const char *table, const char *chain);
void rule_end(struct rule *r);

void rule_match_tcp(struct rule *r);
void rule_match_ports(struct rule *r, const struct redirect_ports *ports);	/* of the destination; TCP */
void rule_match_syn(struct rule *r);		/* the first packet of a connection; after one of these two */
void rule_match_original(struct rule *r);	/* what the side sends that has opened the connection */
void rule_match_destination(struct rule *r, const struct cidr_range *range);	/* and so its family */
void rule_match_uid(struct rule *r, uint32_t uid);
void rule_match_gid(struct rule *r, uint32_t gid);
void rule_match_cgroup(struct rule *r, uint64_t id, uint32_t level, const char *path);
void rule_match_loopback(struct rule *r, bool is_loopback);	/* the interface that it came in at */
void rule_match_mark(struct rule *r, uint32_t mark);
void rule_match_transparent_socket(struct rule *r);
void rule_set_mark(struct rule *r, uint32_t mark);
void rule_return(struct rule *r);
void rule_accept(struct rule *r);
void rule_redirect(struct rule *r, uint16_t port);
void rule_tproxy(struct rule *r, uint16_t port);	/* and accepts */

/* routes.c: what a mark means. 0 or -errno; removing what is not there is fine. */
int routes_add(uint32_t mark);
int routes_remove(uint32_t mark);
/* The mark, and the routing table, of a table of this name. */
uint32_t routes_mark(const char *name);

/* Explains an error in why[]; returns it. */
int redirect_explain(int r, const char *what, char why[REDIRECT_WHY_MAX]);

#endif
