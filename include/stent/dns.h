/*
 * dns.h - the messages of DNS (RFC 1035): writes a question, reads a reply.
 * Does no I/O and keeps no state.
 */
#ifndef STENT_DNS_H
#define STENT_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_NAME_MAX 253		/* characters, without the dot at the end */
#define DNS_QUESTION_MAX (12 + DNS_NAME_MAX + 2 + 4)
#define DNS_SPELLING_BYTES ((DNS_NAME_MAX + 7) / 8)
#define DNS_ADDRESSES_MAX 64		/* per reply; further ones are ignored */

enum dns_type { DNS_A = 1, DNS_AAAA = 28 };

struct dns_addresses {
	size_t n;
	uint8_t at[DNS_ADDRESSES_MAX][16];	/* an A record uses the first four bytes */
};

enum dns_verdict {
	DNS_FOUND,		/* there are addresses */
	DNS_NONE,		/* no such name, or no address of this type */
	DNS_FAILED,		/* this server does not know: SERVFAIL, REFUSED, a referral, ... */
	DNS_TRUNCATED,		/* repeat the query over TCP; the addresses are those that fitted in */
	DNS_RESPELLED,		/* the question in the reply differs from ours in upper and lower case only */
	DNS_IGNORED,		/* not a reply to this question, or malformed */
};

/*
 * Writes the question for the addresses of a name, which has no trailing dot.
 * spelling: random bits that make each letter upper or lower case (a reply must
 * repeat them, which a forger would have to guess); NULL: as it is written.
 * Its length, or -EINVAL: not a valid name.
 */
int dns_write_question(uint8_t buf[DNS_QUESTION_MAX], uint16_t id, const char *name, enum dns_type type,
    const uint8_t spelling[DNS_SPELLING_BYTES]);

/*
 * Reads a message from a server that was sent this question. respelled_is_fine:
 * the reply may spell the question with other upper and lower case.
 * ret is written when FOUND, and when TRUNCATED, if with 0 addresses.
 */
enum dns_verdict dns_read_reply(const uint8_t *question, size_t question_len, const uint8_t *reply, size_t len,
    bool respelled_is_fine, struct dns_addresses *ret);

#endif
