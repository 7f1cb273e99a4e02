/*
 * serve.h - serves short requests on a listening socket: one request, one
 * response, close. Used by the control socket and HTTP.
 */
#ifndef STENT_ADMIN_SERVE_H
#define STENT_ADMIN_SERVE_H

#include <stdbool.h>
#include <stddef.h>

struct endpoint;
struct event_base;
struct evbuffer;
struct serve;

struct serve_protocol {
	size_t max_request;	/* bytes */
	int request_ms;		/* for a client from its connect to the end of its request */
	int response_ms;	/* from there to the last byte of the response */

	/* Length of the request that data begins with, 0 when it is not complete yet. data ends with a NUL. */
	size_t (*measure)(const char *data, size_t len);

	/*
	 * Takes the connection over, with the request already read: true, and fd belongs to it. False: the request gets a
	 * response instead. NULL: never.
	 */
	bool (*take)(void *arg, const char *request, int fd);

	/*
	 * Writes the response to one request, a NUL-terminated string that may be
	 * changed. NULL: it was longer than max_request.
	 */
	void (*respond)(void *arg, char *request, struct evbuffer *out);
};

/*
 * Listens on ep, on a UNIX socket for its owner only. Returns a non-blocking
 * descriptor; or -errno, and why says what that means (static; NULL: what errno says).
 */
int serve_listen(const struct endpoint *ep, const char **why);

/* Takes fd, a non-blocking socket that listens, and owns it on success. 0 or -errno. */
int serve_start(struct serve **ret, struct event_base *base, int fd, const struct serve_protocol *p,
    void *arg);
void serve_free(struct serve *s);	/* NULL is fine; drops every client */

#endif
