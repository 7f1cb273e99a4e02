/* quote.h - texts in quotes: \n \r \t \0 \xHH \\ \" are their escapes. */
#ifndef STENT_CONFIG_QUOTE_H
#define STENT_CONFIG_QUOTE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/keys.h"

/*
 * Reads text with escapes up to its end or, when quoted, to the closing quote, which must end it. data: room for
 * strlen(text) bytes. 0 or -EINVAL; the spot has the error.
 */
int quote_unescape(uint8_t *data, size_t *len, const char *text, const struct spot *spot);

/* A path or a name, which stands as it is, or in quotes. *ret is the caller's. 0, -EINVAL (the spot has the error) or -ENOMEM. */
int quote_read(char **ret, const char *text, const struct spot *spot);

/* Bytes in quotes. */
void quote_print(const uint8_t *data, size_t len, FILE *out);
/* A path or a name, in quotes where it needs them. */
void quote_print_path(const char *path, FILE *out);

#endif
