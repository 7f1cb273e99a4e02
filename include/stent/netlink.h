/*
 * netlink.h - messages to the kernel's tables: firewall, routes.
 *
 * A struct netlink holds messages one behind the other. Nothing that is put in can
 * fail by itself: without memory, netlink_send() says so.
 */
#ifndef STENT_NETLINK_H
#define STENT_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netlink {
	uint8_t *data;
	size_t len, room;
	size_t message;		/* where the last one begins */
	uint32_t sequence;	/* of the last one */
	bool is_out_of_memory;
};

void netlink_clear(struct netlink *n);

/* Begins a message: its type, flags (NLM_F_REQUEST is added), and the header that its type has. */
void netlink_message(struct netlink *n, uint16_t type, uint16_t flags, const void *head, size_t len);
/* An attribute of it. */
void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t len);
void netlink_put_text(struct netlink *n, uint16_t type, const char *text);	/* with its NUL */
void netlink_put_u32(struct netlink *n, uint16_t type, uint32_t value);		/* host byte order */
void netlink_put_be32(struct netlink *n, uint16_t type, uint32_t value);	/* converted to network byte order */
/* One that holds others, until netlink_end() gets what this has returned. */
size_t netlink_begin(struct netlink *n, uint16_t type);
void netlink_end(struct netlink *n, size_t at);

/* family: NETLINK_NETFILTER, NETLINK_ROUTE. Descriptor or -errno. */
int netlink_open(int family);
/*
 * Sends them all, and waits for what the kernel says. visit (NULL: nothing) gets each message of an answer. 0, or the first
 * error: -errno.
 */
int netlink_send(int fd, struct netlink *n, void (*visit)(const void *message, size_t len, void *arg), void *arg);

/* The next attribute at *data, which it moves behind it. False: there is none. */
struct netlink_attribute {
	uint16_t type;
	const uint8_t *data;
	size_t len;
};
bool netlink_next(const uint8_t **data, size_t *len, struct netlink_attribute *ret);

#endif
