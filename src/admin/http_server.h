/* http_server.h - the status page, /status, /flows, /metrics and /healthz. Reading only. */
#ifndef STENT_ADMIN_HTTP_SERVER_H
#define STENT_ADMIN_HTTP_SERVER_H

struct event_base;
struct http;
struct server;

/*
 * where: HOST:PORT, [V6]:PORT or :PORT. 0, or -errno (-EINVAL: where is none of them) and why says what that means
 * (static; NULL: what errno says).
 */
int http_start(struct http **ret, struct server *s, struct event_base *base, const char *where, const char **why);
void http_free(struct http *h);		/* NULL is fine */

#endif
