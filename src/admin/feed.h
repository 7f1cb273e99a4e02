/* feed.h - the event streams of the status page. */
#ifndef STENT_ADMIN_FEED_H
#define STENT_ADMIN_FEED_H

struct census;
struct history;
struct http_exchange;
struct server;

/* What the page shows above the flows: {"summary", "history", "protection", and "routes" if they changed}. */
void feed_overview(struct http_exchange *x, struct server *s, struct history *h, struct census *c);
/* Flows as the request's parameters ask: see search.h. */
void feed_flows(struct http_exchange *x, struct server *s);

#endif
