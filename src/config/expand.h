/* expand.h - environment variables in a value, and the file of a secret. */
#ifndef STENT_CONFIG_EXPAND_H
#define STENT_CONFIG_EXPAND_H

#include "config/keys.h"

/*
 * The text that a value stands for: ${NAME} and ${NAME:-DEFAULT} are replaced, $${ is ${; of a secret, @FILE is the
 * content of that file, one line. *ret is the caller's. 0, -EINVAL (the spot has the error) or -ENOMEM.
 */
int expand_value(char **ret, const struct key *k, const char *text, const struct spot *spot);

#endif
