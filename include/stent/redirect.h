/*
 * redirect.h - firewall rules of this network namespace that bring connections to stent: one nftables table of its own,
 * and with TPROXY a routing rule and table for each family.
 */
#ifndef STENT_REDIRECT_H
#define STENT_REDIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stent/cidr.h"

#define REDIRECT_NAME "stent"		/* the table's, unless another is given */
#define REDIRECT_NAME_MAX 64
#define REDIRECT_LIST_MAX 64
#define REDIRECT_RULES_MAX 256		/* what one transaction carries */
#define REDIRECT_TEXT_MAX 250		/* of a rule or the options, as the table keeps them */
#define REDIRECT_WHY_MAX 320

struct redirect_ports {
	uint16_t first, last;
};

/* Which connections, and where they go. */
struct redirect {
	char name[REDIRECT_NAME_MAX];
	char text[REDIRECT_TEXT_MAX];	/* the options, for show */
	struct redirect_ports ports[REDIRECT_LIST_MAX];		/* destination ports; none: every port */
	struct cidr_range cidrs[REDIRECT_LIST_MAX], excepts[REDIRECT_LIST_MAX];	/* destinations; none: all but loopback */
	uint32_t uids[REDIRECT_LIST_MAX], gids[REDIRECT_LIST_MAX];	/* whose connections go their own way */
	size_t n_ports, n_cidrs, n_excepts, n_uids, n_gids;
	uint64_t cgroup;		/* the same; 0: none */
	uint32_t cgroup_level;
	char cgroup_path[128];
	uint16_t to;			/* the listener's port */
	bool is_tproxy;
	bool in, out;			/* connections of other machines; of programs in this namespace */
};

/* The options as they are written on the command line; NULL: not given. */
struct redirect_words {
	const char *name, *port, *to, *cidr, *except, *uid, *gid, *cgroup, *mode;
	bool in, out;
};
/* 0; or -EINVAL and why says what is wrong, and what to do. */
int redirect_read(struct redirect *ret, const struct redirect_words *words, char why[REDIRECT_WHY_MAX]);

/* Only the name of the table; NULL: the usual one. As redirect_read(). */
int redirect_read_name(struct redirect *ret, const char *name, char why[REDIRECT_WHY_MAX]);

/* Replaces what is there of this name, in one transaction. 0; or -errno and why. */
int redirect_install(const struct redirect *r, char why[REDIRECT_WHY_MAX]);
/* Leaves nothing behind; also where there is nothing. 0; or -errno and why. */
int redirect_remove(const char *name, char why[REDIRECT_WHY_MAX]);

/* A rule as it is there. */
struct redirect_rule {
	const char *chain, *text;	/* text NULL: it is not stent's */
	uint64_t packets, bytes;
};
/* visit gets each rule, in their order; options[] what they were made of. 0; -ENOENT: there is no such table; or -errno and why. */
int redirect_show(const char *name, char options[REDIRECT_TEXT_MAX], void (*visit)(const struct redirect_rule *rule, void *arg),
    void *arg, char why[REDIRECT_WHY_MAX]);

#endif
