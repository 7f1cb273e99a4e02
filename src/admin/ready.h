/* ready.h - is stent ready for new clients: /readyz and `stent healthcheck --ready`. */
#ifndef STENT_ADMIN_READY_H
#define STENT_ADMIN_READY_H

#include <stdbool.h>
#include <stddef.h>

struct server;

#define READY_WHY_MAX 256

bool ready_is(const struct server *s, char why[READY_WHY_MAX]);	/* false: why not, in words */

#endif
