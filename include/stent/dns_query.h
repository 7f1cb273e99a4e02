/*
 * dns_query.h - one question, for one type of address of one name, to the name
 * servers until one of them can answer it. Never blocks.
 */
#ifndef STENT_DNS_QUERY_H
#define STENT_DNS_QUERY_H

#include "stent/dns.h"
#include "stent/name_files.h"

struct event_base;
struct dns_servers;		/* the name servers, and what is known about them; counted */
struct dns_query;

struct dns_servers *dns_servers_new(struct event_base *base, const struct resolv_conf *conf);	/* NULL: out of memory */
struct dns_servers *dns_servers_ref(struct dns_servers *s);
void dns_servers_unref(struct dns_servers *s);		/* NULL is fine */
const struct resolv_conf *dns_servers_conf(const struct dns_servers *s);

/* FOUND; NONE: there is no such address; FAILED: no server knew. found is valid during the call. */
typedef void dns_done(void *arg, enum dns_type type, enum dns_verdict verdict, const struct dns_addresses *found);

/*
 * done() is called once, later, never from within this call, and the query is
 * gone then. 0, or -errno: -EINVAL: not a valid name.
 */
int dns_query_start(struct dns_query **ret, struct dns_servers *s, const char *name, enum dns_type type,
    dns_done *done, void *arg);
void dns_query_cancel(struct dns_query *q);		/* NULL is fine; done() will not be called */

#endif
