/* make.h - the steps from a draft to a struct config. */
#ifndef STENT_CONFIG_MAKE_H
#define STENT_CONFIG_MAKE_H

#include <stdio.h>

#include "config/parsed.h"
#include "config/keys.h"
#include "stent/config.h"

/* Reads a value and throws it away: 0, -EINVAL (told to the spot) or -ENOMEM. */
int value_judge(const struct key *k, const char *text, const struct spot *spot);

/* Reads a file into a draft. 0, -errno when it cannot be read, -ENOMEM. */
int parsed_read(struct parsed *d, const char *path);

/* Works out every auto and judges what needs the whole file. Errors go to d->errors. */
void resolve_routes(struct config *c, struct parsed *d);
/* Judges which listeners get in each other's way. */
void resolve_listeners(const struct config *c, struct parsed *d);
/* Judges which routes lead back to themselves. */
void resolve_loops(const struct config *c, struct parsed *d);
/* Judges and works out the heartbeats of one route. */
void resolve_heartbeats(struct route *r, struct parsed *d, const struct section *s);

/*
 * From a draft that holds all there is to a config: tells every error.
 * The draft is cleared. As config_read().
 */
int config_make(struct config **ret, struct parsed *d, FILE *errors);

#endif
