/*
 * own_ends.c - detects clients that are connections of our own (a loop).
 *
 * A hash table of one word per connection, keyed by its local address and port;
 * on a collision the newer one replaces the older. A flow that loops comes back
 * at once, and one that is missed is found on its next round. Entries are not
 * removed: the kernel says whether the descriptor beside an entry is still that
 * connection. If not, another client may use the port now.
 *
 * Another program of this machine may use the same local address and port to
 * another destination. So the destination must match, too: the address where
 * the client was accepted or, after a redirection, its original destination.
 */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "stent/own_ends.h"
#include "stent/transparent.h"

#define SLOTS (1u << 11)		/* a few tenths of a second of a busy process; small, to save memory */

static uint64_t slots[SLOTS];	/* 0: free; else bits of local end (24), remote end (24), route (12), hops (4) */
static int fds[SLOTS];		/* its descriptor; wrong while a slot is being replaced: then the connection is missed */

/* FNV-1a, with a final mix for the high bits. */
static uint64_t
hash(const struct address *a)
{
	const uint8_t *p = (const uint8_t *)a;
	uint64_t h = 0xcbf29ce484222325;

	_Static_assert(sizeof(*a) == 20, "an address has no padding");
	for (size_t i = 0; i < sizeof(*a); i++)
		h = (h ^ p[i]) * 0x100000001b3;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15;
	return h ^ (h >> 29);
}

/* A connection to the unspecified address goes to loopback. */
static struct address
actual(const struct address *a)
{
	static const uint8_t none[16];
	struct address to = *a;

	if (memcmp(to.ip, none, sizeof(none)) != 0)
		return to;
	if (to.family == AF_INET)
		memcpy(to.ip, (const uint8_t[]){ 127, 0, 0, 1 }, 4);
	else
		to.ip[15] = 1;
	return to;
}

static uint64_t
word_of(uint64_t local, uint64_t remote)
{
	return (local >> 40 << 40) | (remote >> 40 << 16);
}

void
own_ends_add(int fd, const struct address *local, const struct address *remote, struct own_end e)
{
	const struct address to = actual(remote);
	const uint64_t h = hash(local);

	__atomic_store_n(&fds[h % SLOTS], fd, __ATOMIC_RELAXED);
	__atomic_store_n(&slots[h % SLOTS], word_of(h, hash(&to)) | (uint64_t)(e.route & 0xfff) << 4 |
	    (e.hops < OWN_ENDS_HOPS_MAX ? e.hops : OWN_ENDS_HOPS_MAX), __ATOMIC_RELEASE);
}

/* This descriptor is a socket of ours, whose local end has this address. */
static bool
is_there(int fd, const struct address *local)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct address a;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
		return false;
	a = address_from_sockaddr((const struct sockaddr *)&ss);
	return memcmp(&a, local, sizeof(a)) == 0;
}

static bool
leads_to(uint64_t word, const struct sockaddr_storage *ss)
{
	const struct address a = address_from_sockaddr((const struct sockaddr *)ss);

	return word_of(0, hash(&a)) == (word & 0xffffff0000);
}

bool
own_ends_find(int fd, const struct address *client, struct own_end *ret)
{
	const uint64_t h = hash(client), word = __atomic_load_n(&slots[h % SLOTS], __ATOMIC_ACQUIRE);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (word == 0 || word >> 40 != h >> 40 || !is_there(__atomic_load_n(&fds[h % SLOTS], __ATOMIC_RELAXED), client))
		return false;
	*ret = (struct own_end){ (uint16_t)(word >> 4 & 0xfff), (uint8_t)(word & 0xf) };
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && leads_to(word, &ss))
		return true;
	return transparent_destination(fd, false, &ss) == 0 && leads_to(word, &ss);
}
