/*
 * admin.h - the administration of a running stent: the control socket (for
 * stent status, top, kill, drain, healthcheck) and, over HTTP, the status page, its
 * data, /metrics, /healthz, /readyz and /quitquitquit. All on the main thread.
 */
#ifndef STENT_ADMIN_H
#define STENT_ADMIN_H

struct admin;
struct event_base;
struct helper;
struct server;

/*
 * Opens what the settings name, on base. What does not open is logged: as an
 * error (returns -errno) when it is configured, as a warning when it is the default.
 */
int admin_start(struct admin **ret, struct server *s, struct event_base *base);
/* That process runs the program of on_event from now on: helper.h. 0 or -ENOMEM. */
int admin_use_helper(struct admin *a, struct helper *h);
void admin_free(struct admin *a);	/* NULL is fine; before server_free() */

#endif
