/*
 * rules.c - writes rules of nftables as the kernel takes them.
 *
 * A rule is a list of expressions, over registers: one loads a value of the
 * packet, the next compares it; the first comparison that fails ends the rule.
 * Neither libnftables nor libmnl has a static library in Debian, and the image
 * of stent is one static program; these few expressions need neither.
 *
 * Each rule carries its text as a comment, in the format of nft, which shows
 * it, too. nft does not read back a rule whose comment is longer than COMMENT_MAX: what
 * is beyond is in a part of its own, which nft passes over.
 */
#include "redirect/rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REGISTER NFT_REG_1
#define IP_CT_DIR_ORIGINAL 0	/* <linux/netfilter/nf_conntrack_tuple_common.h> */
#define PORT_OFFSET 2		/* of the destination port in a TCP header */
#define FLAGS_OFFSET 13		/* of the flags */
#define COMMENT_MAX 128		/* NFTNL_UDATA_COMMENT_MAXLEN of libnftnl */
#define SYN 0x02
#define ACK 0x10
#define V4_OFFSET 16		/* of the destination in an IPv4 header */
#define V6_OFFSET 24

void
rules_batch(struct netlink *n, bool begins)
{
	const struct nfgenmsg head = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES) };

	netlink_message(n, begins ? NFNL_MSG_BATCH_BEGIN : NFNL_MSG_BATCH_END, 0, &head, sizeof(head));
}

void
rules_message(struct netlink *n, int type, unsigned flags)
{
	const struct nfgenmsg head = { .nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0 };

	netlink_message(n, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), (uint16_t)flags, &head, sizeof(head));
}

__attribute__((format(printf, 2, 3)))
static void
add_text(struct rule *r, const char *fmt, ...)
{
	const size_t len = strlen(r->text);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->text + len, sizeof(r->text) - len, fmt, ap);
	va_end(ap);
	if (n >= (int)(sizeof(r->text) - len))
		redirect_mark_cut(r->text);
}

void
redirect_mark_cut(char text[REDIRECT_TEXT_MAX])
{
	memcpy(text + REDIRECT_TEXT_MAX - sizeof("..."), "...", sizeof("..."));
}

/* A part of a user's data: type, length, and a text with its NUL. */
static size_t
put_part(uint8_t *at, uint8_t type, const char *text, size_t len)
{
	at[0] = type;
	at[1] = (uint8_t)(len + 1);
	memcpy(at + 2, text, len);
	at[2 + len] = '\0';
	return 2 + len + 1;
}

void
rules_put_text(struct netlink *n, uint16_t attribute, const char *text)
{
	uint8_t data[2 * (2 + 1) + REDIRECT_TEXT_MAX];
	const size_t len = strlen(text), shown = len < COMMENT_MAX ? len : COMMENT_MAX;
	size_t size = put_part(data, TEXT_COMMENT, text, shown);

	if (len > shown)
		size += put_part(data + size, TEXT_REST, text + shown, len - shown);
	netlink_put(n, attribute, data, size);
}

/* --- expressions --- */

struct expression {
	size_t element, data;
};

static struct expression
begin(struct rule *r, const char *name)
{
	struct expression e = { .element = netlink_begin(r->n, NFTA_LIST_ELEM) };

	netlink_put_text(r->n, NFTA_EXPR_NAME, name);
	e.data = netlink_begin(r->n, NFTA_EXPR_DATA);
	return e;
}

static void
end(struct rule *r, struct expression e)
{
	netlink_end(r->n, e.data);
	netlink_end(r->n, e.element);
}

static void
put_value(struct rule *r, uint16_t type, const void *data, size_t len)
{
	const size_t at = netlink_begin(r->n, type);

	netlink_put(r->n, NFTA_DATA_VALUE, data, len);
	netlink_end(r->n, at);
}

static void
load_meta(struct rule *r, uint32_t key)
{
	const struct expression e = begin(r, "meta");

	netlink_put_be32(r->n, NFTA_META_KEY, key);
	netlink_put_be32(r->n, NFTA_META_DREG, REGISTER);
	end(r, e);
}

static void
load_payload(struct rule *r, uint32_t base, uint32_t offset, uint32_t len)
{
	const struct expression e = begin(r, "payload");

	netlink_put_be32(r->n, NFTA_PAYLOAD_DREG, REGISTER);
	netlink_put_be32(r->n, NFTA_PAYLOAD_BASE, base);
	netlink_put_be32(r->n, NFTA_PAYLOAD_OFFSET, offset);
	netlink_put_be32(r->n, NFTA_PAYLOAD_LEN, len);
	end(r, e);
}

static void
load_socket(struct rule *r, uint32_t key, uint32_t level)
{
	const struct expression e = begin(r, "socket");

	netlink_put_be32(r->n, NFTA_SOCKET_KEY, key);
	netlink_put_be32(r->n, NFTA_SOCKET_DREG, REGISTER);
	if (level > 0)
		netlink_put_be32(r->n, NFTA_SOCKET_LEVEL, level);
	end(r, e);
}

static void
compare(struct rule *r, uint32_t op, const void *data, size_t len)
{
	const struct expression e = begin(r, "cmp");

	netlink_put_be32(r->n, NFTA_CMP_SREG, REGISTER);
	netlink_put_be32(r->n, NFTA_CMP_OP, op);
	put_value(r, NFTA_CMP_DATA, data, len);
	end(r, e);
}

static void
compare_byte(struct rule *r, uint8_t byte)
{
	compare(r, NFT_CMP_EQ, &byte, sizeof(byte));
}

static void
mask(struct rule *r, const uint8_t *bits, size_t len)
{
	static const uint8_t none[16];
	const struct expression e = begin(r, "bitwise");

	netlink_put_be32(r->n, NFTA_BITWISE_SREG, REGISTER);
	netlink_put_be32(r->n, NFTA_BITWISE_DREG, REGISTER);
	netlink_put_be32(r->n, NFTA_BITWISE_LEN, (uint32_t)len);
	put_value(r, NFTA_BITWISE_MASK, bits, len);
	put_value(r, NFTA_BITWISE_XOR, none, len);
	end(r, e);
}

static void
immediate(struct rule *r, const void *data, size_t len)
{
	const struct expression e = begin(r, "immediate");

	netlink_put_be32(r->n, NFTA_IMMEDIATE_DREG, REGISTER);
	put_value(r, NFTA_IMMEDIATE_DATA, data, len);
	end(r, e);
}

static void
verdict(struct rule *r, int code)
{
	const struct expression e = begin(r, "immediate");
	size_t data, v;

	netlink_put_be32(r->n, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = netlink_begin(r->n, NFTA_IMMEDIATE_DATA);
	v = netlink_begin(r->n, NFTA_DATA_VERDICT);
	netlink_put_be32(r->n, NFTA_VERDICT_CODE, (uint32_t)code);
	netlink_end(r->n, v);
	netlink_end(r->n, data);
	end(r, e);
}

static void
count(struct rule *r)
{
	end(r, begin(r, "counter"));
}

/* --- rules --- */

void
rule_begin(struct rule *r, struct netlink *n, const char *table, const char *chain)
{
	*r = (struct rule){ .n = n };
	rules_message(n, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	netlink_put_text(n, NFTA_RULE_TABLE, table);
	netlink_put_text(n, NFTA_RULE_CHAIN, chain);
	r->list = netlink_begin(n, NFTA_RULE_EXPRESSIONS);
}

void
rule_end(struct rule *r)
{
	netlink_end(r->n, r->list);
	rules_put_text(r->n, NFTA_RULE_USERDATA, r->text);
}

static void
match_tcp(struct rule *r)
{
	load_meta(r, NFT_META_L4PROTO);
	compare_byte(r, IPPROTO_TCP);
}

void
rule_match_tcp(struct rule *r)
{
	match_tcp(r);
	add_text(r, "meta l4proto tcp ");
}

void
rule_match_ports(struct rule *r, const struct redirect_ports *ports)
{
	const uint16_t first = htons(ports->first), last = htons(ports->last);

	match_tcp(r);
	load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, PORT_OFFSET, sizeof(first));
	if (ports->first == ports->last) {
		compare(r, NFT_CMP_EQ, &first, sizeof(first));
		add_text(r, "tcp dport %u ", ports->first);
		return;
	}
	compare(r, NFT_CMP_GTE, &first, sizeof(first));
	compare(r, NFT_CMP_LTE, &last, sizeof(last));
	add_text(r, "tcp dport %u-%u ", ports->first, ports->last);
}

void
rule_match_destination(struct rule *r, const struct cidr_range *range)
{
	const bool is_v4 = range->first[0] == 4;
	const uint32_t len = is_v4 ? 4 : 16;
	char text[INET6_ADDRSTRLEN];
	uint8_t bits[16];
	int prefix = 0;

	for (size_t i = 0; i < len; i++) {
		bits[i] = (uint8_t)~(range->first[1 + i] ^ range->last[1 + i]);
		prefix += __builtin_popcount(bits[i]);
	}
	r->family = is_v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	load_meta(r, NFT_META_NFPROTO);
	compare_byte(r, r->family);
	if (prefix > 0) {
		load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, is_v4 ? V4_OFFSET : V6_OFFSET, len);
		mask(r, bits, len);
		compare(r, NFT_CMP_EQ, range->first + 1, len);
	}
	inet_ntop(is_v4 ? AF_INET : AF_INET6, range->first + 1, text, sizeof(text));
	add_text(r, "%s daddr %s/%d ", is_v4 ? "ip" : "ip6", text, prefix);
}

/* The first packet of a connection. */
void
rule_match_syn(struct rule *r)
{
	static const uint8_t both = SYN | ACK, syn = SYN;

	load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, FLAGS_OFFSET, sizeof(syn));
	mask(r, &both, sizeof(both));
	compare(r, NFT_CMP_EQ, &syn, sizeof(syn));
	add_text(r, "tcp flags & (syn | ack) == syn ");
}

void
rule_match_original(struct rule *r)
{
	const struct expression e = begin(r, "ct");

	netlink_put_be32(r->n, NFTA_CT_KEY, NFT_CT_DIRECTION);
	netlink_put_be32(r->n, NFTA_CT_DREG, REGISTER);
	end(r, e);
	compare_byte(r, IP_CT_DIR_ORIGINAL);
	add_text(r, "ct direction original ");
}

void
rule_match_uid(struct rule *r, uint32_t uid)
{
	load_meta(r, NFT_META_SKUID);
	compare(r, NFT_CMP_EQ, &uid, sizeof(uid));
	add_text(r, "meta skuid %u ", uid);
}

void
rule_match_gid(struct rule *r, uint32_t gid)
{
	load_meta(r, NFT_META_SKGID);
	compare(r, NFT_CMP_EQ, &gid, sizeof(gid));
	add_text(r, "meta skgid %u ", gid);
}

void
rule_match_cgroup(struct rule *r, uint64_t id, uint32_t level, const char *path)
{
	load_socket(r, NFT_SOCKET_CGROUPV2, level);
	compare(r, NFT_CMP_EQ, &id, sizeof(id));
	add_text(r, "socket cgroupv2 level %u %s ", level, path);
}

void
rule_match_loopback(struct rule *r, bool is_loopback)
{
	static const char name[16] = "lo";

	load_meta(r, NFT_META_IIFNAME);
	compare(r, is_loopback ? NFT_CMP_EQ : NFT_CMP_NEQ, name, sizeof(name));
	add_text(r, "iifname %slo ", is_loopback ? "" : "!= ");
}

void
rule_match_mark(struct rule *r, uint32_t mark)
{
	load_meta(r, NFT_META_MARK);
	compare(r, NFT_CMP_EQ, &mark, sizeof(mark));
	add_text(r, "meta mark 0x%x ", mark);
}

void
rule_match_transparent_socket(struct rule *r)
{
	load_socket(r, NFT_SOCKET_TRANSPARENT, 0);
	compare_byte(r, 1);
	add_text(r, "socket transparent 1 ");
}

void
rule_set_mark(struct rule *r, uint32_t mark)
{
	struct expression e;

	immediate(r, &mark, sizeof(mark));
	e = begin(r, "meta");
	netlink_put_be32(r->n, NFTA_META_KEY, NFT_META_MARK);
	netlink_put_be32(r->n, NFTA_META_SREG, REGISTER);
	end(r, e);
	add_text(r, "meta mark set 0x%x ", mark);
}

void
rule_return(struct rule *r)
{
	count(r);
	verdict(r, NFT_RETURN);
	add_text(r, "return");
}

void
rule_accept(struct rule *r)
{
	count(r);
	verdict(r, NF_ACCEPT);
	add_text(r, "accept");
}

void
rule_redirect(struct rule *r, uint16_t port)
{
	const uint16_t to = htons(port);
	struct expression e;

	count(r);
	immediate(r, &to, sizeof(to));
	e = begin(r, "redir");
	netlink_put_be32(r->n, NFTA_REDIR_REG_PROTO_MIN, REGISTER);
	netlink_put_be32(r->n, NFTA_REDIR_REG_PROTO_MAX, REGISTER);
	netlink_put_be32(r->n, NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
	end(r, e);
	add_text(r, "redirect to :%u", port);
}

void
rule_tproxy(struct rule *r, uint16_t port)
{
	const uint16_t to = htons(port);
	struct expression e;

	immediate(r, &to, sizeof(to));
	e = begin(r, "tproxy");
	netlink_put_be32(r->n, NFTA_TPROXY_FAMILY, r->family);	/* nft insists on it behind an address */
	netlink_put_be32(r->n, NFTA_TPROXY_REG_PORT, REGISTER);
	end(r, e);
	add_text(r, "tproxy %sto :%u ", r->family == NFPROTO_IPV4 ? "ip " : r->family == NFPROTO_IPV6 ? "ip6 " : "", port);
	rule_accept(r);
}
