/* control.h - the control socket. */
#ifndef STENT_ADMIN_CONTROL_H
#define STENT_ADMIN_CONTROL_H

struct control;
struct event_base;
struct server;

/* 0 or -errno; -EADDRINUSE: another stent answers there; -EEXIST: what is there is no socket. */
int control_start(struct control **ret, struct server *s, struct event_base *base, const char *path);
void control_free(struct control *c);	/* removes the socket, if it is still ours; NULL is fine */

#endif
