/* control.h - the control socket. */
#ifndef STENT_ADMIN_CONTROL_H
#define STENT_ADMIN_CONTROL_H

struct control;
struct stream;
struct event_base;
struct server;

/* 0, or -errno and why says what that means (static; NULL: what errno says). */
int control_start(struct control **ret, struct server *s, struct stream *events, struct event_base *base,
    const char *path, const char **why);
void control_free(struct control *c);	/* removes the socket, if it is still ours; NULL is fine */

#endif
