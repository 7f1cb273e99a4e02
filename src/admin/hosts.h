/* hosts.h - which Host headers the status page accepts. */
#ifndef STENT_ADMIN_HOSTS_H
#define STENT_ADMIN_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#define HOSTS_NAME_MAX 256

/*
 * Reads the name from a Host header's value: without port, brackets and the dot
 * at its end. False: it is not valid.
 */
bool hosts_read(const char *header, char name[HOSTS_NAME_MAX], bool *is_address);

/* True for one of the list (comma-separated, may be NULL), a name without a dot, and the names of this machine. */
bool hosts_trust(const char *name, const char *list);

#endif
