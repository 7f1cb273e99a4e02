/*
 * netlink.c - builds messages for the kernel, and reads what it answers.
 *
 * Attributes are aligned to four bytes, and their lengths exclude that padding.
 * The kernel handles a request before send() returns: its answers lie ready
 * then, and an end of them is an empty queue. Only a dump goes on while it is
 * read, and says itself where it ends.
 */
#include "stent/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 65536
#define ERRNO_MAX 4095		/* of the kernel (MAX_ERRNO) */

static size_t
aligned(size_t len)
{
	return (len + NLMSG_ALIGNTO - 1) & ~(size_t)(NLMSG_ALIGNTO - 1);
}

void
netlink_clear(struct netlink *n)
{
	free(n->data);
	memset(n, 0, sizeof(*n));
}

/* Room at the end, filled with zeros. NULL: out of memory. */
static uint8_t *
extend(struct netlink *n, size_t len)
{
	const size_t need = n->len + aligned(len);
	uint8_t *at;

	if (need > n->room && !n->is_out_of_memory) {
		const size_t room = need + 4096;
		uint8_t *grown = realloc(n->data, room);

		n->is_out_of_memory = grown == NULL;
		if (grown != NULL) {
			n->data = grown;
			n->room = room;
		}
	}
	if (n->is_out_of_memory)
		return NULL;
	at = n->data + n->len;
	memset(at, 0, aligned(len));
	n->len = need;
	((struct nlmsghdr *)(void *)(n->data + n->message))->nlmsg_len = (uint32_t)(n->len - n->message);
	return at;
}

void
netlink_message(struct netlink *n, uint16_t type, uint16_t flags, const void *head, size_t len)
{
	struct nlmsghdr *h;
	uint8_t *at;

	n->message = n->len;
	at = extend(n, sizeof(*h) + len);
	if (at == NULL)
		return;
	h = (struct nlmsghdr *)(void *)at;
	h->nlmsg_type = type;
	h->nlmsg_flags = flags | NLM_F_REQUEST;
	h->nlmsg_seq = ++n->sequence;
	memcpy(at + sizeof(*h), head, len);
}

void
netlink_put(struct netlink *n, uint16_t type, const void *data, size_t len)
{
	struct nlattr *a;
	uint8_t *at = extend(n, sizeof(*a) + len);

	if (at == NULL)
		return;
	a = (struct nlattr *)(void *)at;
	a->nla_type = type;
	a->nla_len = (uint16_t)(sizeof(*a) + len);
	if (len > 0)
		memcpy(at + sizeof(*a), data, len);
}

void
netlink_put_text(struct netlink *n, uint16_t type, const char *text)
{
	netlink_put(n, type, text, strlen(text) + 1);
}

void
netlink_put_u32(struct netlink *n, uint16_t type, uint32_t value)
{
	netlink_put(n, type, &value, sizeof(value));
}

void
netlink_put_be32(struct netlink *n, uint16_t type, uint32_t value)
{
	netlink_put_u32(n, type, htonl(value));
}

size_t
netlink_begin(struct netlink *n, uint16_t type)
{
	const size_t at = n->len;

	netlink_put(n, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void
netlink_end(struct netlink *n, size_t at)
{
	if (!n->is_out_of_memory)
		((struct nlattr *)(void *)(n->data + at))->nla_len = (uint16_t)(n->len - at);
}

int
netlink_open(int family)
{
	const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
	struct sockaddr_nl own = { .nl_family = AF_NETLINK };

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)) != 0) {
		const int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

struct answer {
	void (*visit)(const void *message, size_t len, void *arg);
	void *arg;
	int first_error;
	bool is_dump, is_done;
};

/* An errno, negative, as the kernel has them, or 0. */
static int
error_of(const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(e->error)) || e->error > 0 || e->error < -ERRNO_MAX)
		return -EPROTO;
	return e->error;
}

static void
take_message(struct answer *a, const struct nlmsghdr *h)
{
	if (h->nlmsg_type == NLMSG_ERROR) {
		if (a->first_error == 0)
			a->first_error = error_of(h);
		a->is_done = true;
	} else if (h->nlmsg_type == NLMSG_DONE) {
		a->is_done = true;
	} else {
		a->is_dump |= (h->nlmsg_flags & NLM_F_MULTI) != 0;
		if (a->visit != NULL)
			a->visit(h, h->nlmsg_len, a->arg);
	}
}

/* NLMSG_NEXT() would make the length negative behind a last message that is not padded. */
static void
take_messages(struct answer *a, const uint8_t *data, size_t len)
{
	while (len >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *h = (const void *)data;

		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > len)
			break;
		take_message(a, h);
		if (aligned(h->nlmsg_len) >= len)
			break;
		len -= aligned(h->nlmsg_len);
		data += aligned(h->nlmsg_len);
	}
}

static int
read_answers(int fd, struct answer *a)
{
	uint8_t *buf = malloc(ANSWER_MAX);
	ssize_t n;

	if (buf == NULL)
		return -ENOMEM;
	for (;;) {
		/* A dump continues until it says that it is done. */
		n = recv(fd, buf, ANSWER_MAX, a->is_dump && !a->is_done ? 0 : MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		take_messages(a, buf, (size_t)n);
	}
	free(buf);
	return n < 0 && errno != EAGAIN ? -errno : 0;
}

int
netlink_send(int fd, struct netlink *n, void (*visit)(const void *message, size_t len, void *arg), void *arg)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct answer a = { .visit = visit, .arg = arg };
	int r;

	if (n->is_out_of_memory)
		return -ENOMEM;
	if (sendto(fd, n->data, n->len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	r = read_answers(fd, &a);
	if (r == 0)
		r = a.first_error;
	return r == 0 && !a.is_done ? -EIO : r;
}

bool
netlink_next(const uint8_t **data, size_t *len, struct netlink_attribute *ret)
{
	struct nlattr a;

	if (*len < sizeof(a))
		return false;
	memcpy(&a, *data, sizeof(a));
	if (a.nla_len < sizeof(a) || a.nla_len > *len)
		return false;
	*ret = (struct netlink_attribute){ a.nla_type & NLA_TYPE_MASK, *data + sizeof(a), a.nla_len - sizeof(a) };
	*data += aligned(a.nla_len) < *len ? aligned(a.nla_len) : *len;
	*len -= aligned(a.nla_len) < *len ? aligned(a.nla_len) : *len;
	return true;
}
