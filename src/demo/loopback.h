/* loopback.h - ports of 127.0.0.1 that the kernel chooses. */
#ifndef STENT_DEMO_LOOPBACK_H
#define STENT_DEMO_LOOPBACK_H

#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdint.h>

/* Listens; *port is where. NULL: cannot. */
struct evconnlistener *loopback_listen(struct event_base *base, evconnlistener_cb on_accept, void *arg, uint16_t *port);
/* The same as a descriptor, or -errno. */
int loopback_listen_plain(uint16_t *port);
/* Starts to connect; NULL: cannot. */
struct bufferevent *loopback_connect(struct event_base *base, uint16_t port);
/* A port that is free now, for somebody else to listen on; 0: none. */
uint16_t loopback_free_port(void);

#endif
