/* access.h - who may read the status page: the Host header, and the token. */
#ifndef STENT_ADMIN_ACCESS_H
#define STENT_ADMIN_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct http_exchange;

#define SESSIONS 32

/* Browsers that have logged in. A new one takes the place of the oldest. */
struct access {
	char cookie[16];	/* its name: cookies do not differ by port */
	char session[SESSIONS][33];
	unsigned next;
};

/* Of a port. */
void access_name(struct access *a, uint16_t port);

/* False: it was replied to. */
bool access_check_host(const struct config *c, struct http_exchange *x);
/* The request has the token, or the cookie of a session. */
bool access_is_granted(const struct access *a, const struct config *c, const struct http_exchange *x);
/* Replies with the reason, to a browser that asks for the page with a form. */
void access_refuse(struct http_exchange *x);
/* Replies to the form, or to /?token=. */
void access_log_in(struct access *a, const struct config *c, struct http_exchange *x);
void access_log_in_by_link(struct access *a, const struct config *c, struct http_exchange *x);

#endif
