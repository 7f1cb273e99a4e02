/*
 * show.c - the rules that are there, as the kernel lists them, with their counters.
 */
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "redirect/rules.h"

struct listing {
	void (*visit)(const struct redirect_rule *rule, void *arg);
	void *arg;
	char *options;
};

/* The attributes of a message, and of one in them. */
static bool
open_message(const void *message, size_t len, const uint8_t **data, size_t *left)
{
	const size_t head = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));

	if (len < head)
		return false;
	*data = (const uint8_t *)message + head;
	*left = len - head;
	return true;
}

static bool
find(const struct netlink_attribute *in, uint16_t type, struct netlink_attribute *ret)
{
	const uint8_t *data = in->data;
	size_t len = in->len;

	while (netlink_next(&data, &len, ret))
		if (ret->type == type)
			return true;
	return false;
}

/* What rules_put_text() has written, "" else. */
static void
read_text(const struct netlink_attribute *a, char ret[REDIRECT_TEXT_MAX])
{
	const uint8_t *p = a->data;
	size_t left = a->len, len = 0;

	ret[0] = '\0';
	while (left >= 2 && left - 2 >= p[1]) {
		const size_t n = p[1];

		if ((p[0] == TEXT_COMMENT || p[0] == TEXT_REST) && n > 0 && p[1 + n] == '\0' && len < REDIRECT_TEXT_MAX)
			len += (size_t)snprintf(ret + len, REDIRECT_TEXT_MAX - len, "%s", (const char *)p + 2);
		p += 2 + n;
		left -= 2 + n;
	}
}

static uint64_t
number_of(const struct netlink_attribute *a)
{
	uint64_t n = 0;

	if (a->len == sizeof(n))
		memcpy(&n, a->data, sizeof(n));
	return be64toh(n);
}

static void
read_counter(const struct netlink_attribute *expressions, struct redirect_rule *rule)
{
	const uint8_t *data = expressions->data;
	size_t len = expressions->len;
	struct netlink_attribute one, name, counter, value;

	while (netlink_next(&data, &len, &one)) {
		if (!find(&one, NFTA_EXPR_NAME, &name) || name.len != sizeof("counter") || memcmp(name.data, "counter", name.len) != 0 ||
		    !find(&one, NFTA_EXPR_DATA, &counter))
			continue;
		if (find(&counter, NFTA_COUNTER_PACKETS, &value))
			rule->packets = number_of(&value);
		if (find(&counter, NFTA_COUNTER_BYTES, &value))
			rule->bytes = number_of(&value);
	}
}

static void
on_rule(const void *message, size_t len, void *arg)
{
	const struct listing *l = arg;
	struct redirect_rule rule = { .chain = "" };
	struct netlink_attribute a;
	char text[REDIRECT_TEXT_MAX] = "";
	const uint8_t *data;
	size_t left;

	if (!open_message(message, len, &data, &left))
		return;
	while (netlink_next(&data, &left, &a)) {
		if (a.type == NFTA_RULE_CHAIN && a.len > 0 && a.data[a.len - 1] == '\0')
			rule.chain = (const char *)a.data;
		else if (a.type == NFTA_RULE_USERDATA)
			read_text(&a, text);
		else if (a.type == NFTA_RULE_EXPRESSIONS)
			read_counter(&a, &rule);
	}
	rule.text = text[0] != '\0' ? text : NULL;
	l->visit(&rule, l->arg);
}

static void
on_table(const void *message, size_t len, void *arg)
{
	const struct listing *l = arg;
	struct netlink_attribute a;
	const uint8_t *data;
	size_t left;

	if (!open_message(message, len, &data, &left))
		return;
	while (netlink_next(&data, &left, &a))
		if (a.type == NFTA_TABLE_USERDATA)
			read_text(&a, l->options);
}

static int
ask(int fd, int type, unsigned flags, uint16_t attribute, const char *name, void (*visit)(const void *message, size_t len, void *arg),
    struct listing *l)
{
	struct netlink n = { 0 };
	int r;

	rules_message(&n, type, flags);
	netlink_put_text(&n, attribute, name);
	r = netlink_send(fd, &n, visit, l);
	netlink_clear(&n);
	return r;
}

int
redirect_show(const char *name, char options[REDIRECT_TEXT_MAX], void (*visit)(const struct redirect_rule *rule, void *arg), void *arg,
    char why[REDIRECT_WHY_MAX])
{
	struct listing l = { visit, arg, options };
	const int fd = netlink_open(NETLINK_NETFILTER);
	int r = fd;

	options[0] = '\0';
	if (fd >= 0) {
		r = ask(fd, NFT_MSG_GETTABLE, NLM_F_ACK, NFTA_TABLE_NAME, name, on_table, &l);
		if (r == 0)
			r = ask(fd, NFT_MSG_GETRULE, NLM_F_DUMP, NFTA_RULE_TABLE, name, on_rule, &l);
		close(fd);
	}
	if (r == -ENOENT)
		snprintf(why, REDIRECT_WHY_MAX, "nothing is redirected here: there is no table inet %s", name);
	return r == -ENOENT ? r : redirect_explain(r, "reading the firewall's rules", why);
}
