/* make.h - the steps from parsed settings to a struct config. */
#ifndef STENT_CONFIG_MAKE_H
#define STENT_CONFIG_MAKE_H

#include <stdio.h>

#include "config/parsed.h"
#include "config/keys.h"
#include "stent/config.h"

/* Reads a value and discards it: 0, -EINVAL (the spot has the error) or -ENOMEM. */
int value_check(const struct key *k, const char *text, const struct spot *spot);

/* Reads a file, which is the caller's. 0, -errno when it cannot be read, -ENOMEM. */
int parsed_read(struct parsed *d, FILE *file);

/* Resolves every auto and checks what needs the whole file. Errors go to d->errors. */
void resolve_routes(struct config *c, struct parsed *d);
/* Checks for listeners that clash. */
void resolve_listeners(const struct config *c, struct parsed *d);
/* Checks that on_event can be run. */
void resolve_on_event(const struct config *c, struct parsed *d);
/* Checks transparent and source of one route. */
void resolve_transparent(struct route *r, struct parsed *d, const struct section *s);
/* Checks health of one route. */
void resolve_health(const struct route *r, struct parsed *d, const struct section *s);
/* Checks for routes that lead back to themselves. */
void resolve_loops(const struct config *c, struct parsed *d);
/* Reads the files of allow and deny. */
/* Calls visit for each item of a list by comma, trimmed, until it returns another number than 0, which is returned. -ENOMEM. */
int each_item(const char *text, int (*visit)(const char *item, void *arg), void *arg);
/* An item of such a list; what is wrong with it is told. */
int network_parse(struct cidr_range *ret, const char *item, const struct spot *spot);
void resolve_networks(struct route *r, struct parsed *d, const struct section *s);
void warn_of_limits(const struct route *r, struct parsed *d, const struct section *s);	/* those without an effect */
/* Checks and resolves the heartbeats of one route. */
void resolve_heartbeats(struct route *r, struct parsed *d, const struct section *s);
/* The probes that find a dead peer within a time. */
struct keepalive detect_keepalive(int64_t detect_ms);
/* What follows from detect for one route; then user_timeout = auto. After its heartbeats. */
void resolve_detect(struct route *r, struct parsed *d, const struct section *s);

/* Checks the PROXY protocol and first_byte_timeout of one route. */
void resolve_proxy(struct route *r, struct parsed *d, const struct section *s);
/* Checks the TLS of one route, and makes its contexts. */
void resolve_tls(struct route *r, struct parsed *d, const struct section *s);
/* Reads the files of a leg, and makes its context if its keys are good together. */
void resolve_certificates(struct route *r, struct parsed *d, const struct section *s, enum side side, bool is_good);
/* "2027-02-01 12:00 UTC", of seconds since 1970. Returns buf. */
#define DATE_MAX 32
const char *date_text(int64_t at_s, char buf[DATE_MAX]);

/*
 * Makes a config from complete parsed settings, and prints every error to errors.
 * Clears d. Returns as config_read() does.
 */
int config_make(struct config **ret, struct parsed *d, FILE *errors);

#endif
