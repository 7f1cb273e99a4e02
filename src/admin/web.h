/* web.h - the status page, its data, /metrics, /healthz, /readyz and /quitquitquit. */
#ifndef STENT_ADMIN_WEB_H
#define STENT_ADMIN_WEB_H

struct event_base;
struct server;
struct stream;
struct web;

/*
 * where: HOST:PORT, [V6]:PORT or :PORT. 0, or -errno (-EINVAL: where is none of them) and why says what that means
 * (static; NULL: what errno says).
 */
int web_start(struct web **ret, struct server *s, const struct stream *events, struct event_base *base, const char *where,
    const char **why);
/* w goes on with the history of one that ends. */
void web_inherit(struct web *w, struct web *from);
void web_free(struct web *w);		/* NULL is fine */

#endif
