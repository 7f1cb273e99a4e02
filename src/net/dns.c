/*
 * dns.c - DNS messages.
 *
 * libc parses the records (ns_initparse(), ns_parserr()); it is well tested with
 * hostile input. This file decides what counts: a reply must have the id and the
 * exact question of the query, and be well-formed to its end, else it may be
 * forged. In the answer, CNAMEs are followed from the queried name, and only
 * addresses at the end of that chain are taken.
 */
#include <arpa/nameser.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "stent/dns.h"

#define CHAIN_MAX 16		/* CNAMEs; more are a loop */
#define LABEL_MAX 63
#define FLAG_RD 0x01		/* in the third byte of a message */
#define FLAG_TC 0x02
#define FLAG_AA 0x04
#define OPCODE 0x78
#define FLAG_QR 0x80
#define FLAG_RA 0x80		/* in the fourth */
#define RCODE 0x0f

static unsigned
get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static char
spell(char c, const uint8_t *spelling, size_t i)
{
	if (spelling == NULL || !isalpha((unsigned char)c))
		return c;
	return (char)(spelling[i / 8] >> i % 8 & 1 ? toupper((unsigned char)c) : tolower((unsigned char)c));
}

int
dns_write_question(uint8_t buf[DNS_QUESTION_MAX], uint16_t id, const char *name, enum dns_type type,
    const uint8_t spelling[DNS_SPELLING_BYTES])
{
	const uint8_t head[NS_HFIXEDSZ] = { (uint8_t)(id >> 8), (uint8_t)id, FLAG_RD, 0, 0, 1 };
	const uint8_t tail[] = { 0, 0, (uint8_t)type, 0, ns_c_in };
	const size_t len = strlen(name);
	uint8_t *p = buf + sizeof(head);
	size_t label = 0;

	if (len == 0 || len > DNS_NAME_MAX)
		return -EINVAL;
	memcpy(buf, head, sizeof(head));
	/* Each label follows its length: p points to the length of the current one. */
	for (size_t i = 0; i <= len; i++) {
		if (i < len && name[i] != '.') {
			if (++label > LABEL_MAX)
				return -EINVAL;
			p[label] = (uint8_t)spell(name[i], spelling, i);
			continue;
		}
		if (label == 0)
			return -EINVAL;
		*p = (uint8_t)label;
		p += 1 + label;
		label = 0;
	}
	memcpy(p, tail, sizeof(tail));
	p += sizeof(tail);
	assert(p - buf <= DNS_QUESTION_MAX);
	return (int)(p - buf);
}

static bool
same_but_for_case(const uint8_t *a, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (tolower(a[i]) != tolower(b[i]))
			return false;
	return true;
}

/* Reads record i of the answer. Its type if it is A, AAAA or CNAME; 0: another; -1: malformed. */
static int
read_record(ns_msg *msg, int i, ns_rr *rr)
{
	if (ns_parserr(msg, ns_s_an, i, rr) != 0)
		return -1;
	if (ns_rr_class(*rr) != ns_c_in)
		return 0;
	switch (ns_rr_type(*rr)) {
	case ns_t_a:
		return ns_rr_rdlen(*rr) == NS_INADDRSZ ? ns_t_a : -1;
	case ns_t_aaaa:
		return ns_rr_rdlen(*rr) == NS_IN6ADDRSZ ? ns_t_aaaa : -1;
	case ns_t_cname:
		return ns_t_cname;
	default:
		return 0;
	}
}

/*
 * Follows the CNAME of name, if there is one. 1: name is now its target; 0: there is none; -1: malformed.
 * 255 bytes on the wire are at most 1024 characters, as libc writes them.
 */
static int
follow_cname(ns_msg *msg, char name[NS_MAXDNAME])
{
	ns_rr rr;

	for (int i = 0; i < ns_msg_count(*msg, ns_s_an); i++) {
		const int type = read_record(msg, i, &rr);

		if (type < 0)
			return -1;
		if (type == ns_t_cname && strcasecmp(ns_rr_name(rr), name) == 0)
			return ns_name_uncompress(ns_msg_base(*msg), ns_msg_end(*msg), ns_rr_rdata(rr), name,
			    NS_MAXDNAME) > 0 ? 1 : -1;
	}
	return 0;
}

/* Takes the addresses of the queried name. 0, or -1: malformed. */
static int
read_addresses(const uint8_t *reply, size_t len, struct dns_addresses *ret)
{
	char name[NS_MAXDNAME];
	ns_msg msg;
	ns_rr rr;
	int r = 1, wanted;

	if (ns_initparse(reply, (int)len, &msg) != 0 || ns_parserr(&msg, ns_s_qd, 0, &rr) != 0)
		return -1;
	wanted = ns_rr_type(rr);
	memcpy(name, ns_rr_name(rr), strlen(ns_rr_name(rr)) + 1);
	for (int i = 0; r == 1 && i < CHAIN_MAX; i++)
		r = follow_cname(&msg, name);
	if (r < 0)
		return -1;
	for (int i = 0; i < ns_msg_count(msg, ns_s_an) && ret->n < DNS_ADDRESSES_MAX; i++) {
		const int type = read_record(&msg, i, &rr);

		if (type < 0)
			return -1;
		if (type == wanted && strcasecmp(ns_rr_name(rr), name) == 0)
			memcpy(ret->at[ret->n++], ns_rr_rdata(rr), ns_rr_rdlen(rr));
	}
	return 0;
}

/* Some servers omit the question from an error. */
static bool
is_bare_error(const uint8_t *reply, size_t len)
{
	const int rcode = len >= NS_HFIXEDSZ ? reply[3] & RCODE : ns_r_noerror;

	return len == NS_HFIXEDSZ && get16(reply + 4) == 0 &&
	    (rcode == ns_r_formerr || rcode == ns_r_servfail || rcode == ns_r_notimpl || rcode == ns_r_refused);
}

/* A referral: the server does not know the name, does no recursion, and names another server. */
static bool
is_referral(const uint8_t *reply)
{
	return (reply[2] & FLAG_AA) == 0 && (reply[3] & FLAG_RA) == 0 && get16(reply + 6) == 0;
}

enum dns_verdict
dns_read_reply(const uint8_t *question, size_t question_len, const uint8_t *reply, size_t len,
    bool respelled_is_fine, struct dns_addresses *ret)
{
	const size_t body = question_len - NS_HFIXEDSZ;

	assert(question_len > NS_HFIXEDSZ && question_len <= DNS_QUESTION_MAX);
	ret->n = 0;
	if (len < NS_HFIXEDSZ || len > NS_MAXMSG || memcmp(reply, question, 2) != 0 ||
	    (reply[2] & (FLAG_QR | OPCODE)) != FLAG_QR)
		return DNS_IGNORED;
	if (is_bare_error(reply, len))
		return DNS_FAILED;
	if (len < question_len || get16(reply + 4) != 1 ||
	    !same_but_for_case(reply + NS_HFIXEDSZ, question + NS_HFIXEDSZ, body))
		return DNS_IGNORED;
	if (!respelled_is_fine && memcmp(reply + NS_HFIXEDSZ, question + NS_HFIXEDSZ, body) != 0)
		return DNS_RESPELLED;
	if (reply[2] & FLAG_TC) {
		/* It may be cut anywhere. */
		if (read_addresses(reply, len, ret) != 0)
			ret->n = 0;
		return DNS_TRUNCATED;
	}
	if ((reply[3] & RCODE) == ns_r_nxdomain)
		return DNS_NONE;
	if ((reply[3] & RCODE) != ns_r_noerror || is_referral(reply))
		return DNS_FAILED;
	if (read_addresses(reply, len, ret) != 0)
		return DNS_IGNORED;
	return ret->n > 0 ? DNS_FOUND : DNS_NONE;
}
