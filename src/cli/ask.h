/* ask.h - what the commands that talk to a running stent have in common. */
#ifndef STENT_CLI_ASK_H
#define STENT_CLI_ASK_H

#include <jansson.h>
#include <stddef.h>

#include "stent/cli.h"

#define ASK_WHY_MAX 256

/*
 * Finds the control socket's path by --control, by the settings file of
 * --config, or at its default place; the caller's (free()). NULL: there is
 * none, and stderr tells why.
 */
char *ask_find(const char *command, const struct cli_values *where);

/*
 * Sends one request and reads the answer; waits a few seconds at most. The
 * caller's (json_decref()). NULL, with the reason in why, when nobody replies
 * or the answer is an error.
 */
json_t *ask_try(const char *path, const char *request, char why[ASK_WHY_MAX]);

/* Both in one; stderr tells what failed. *status: the exit status then. */
json_t *ask(const char *command, const struct cli_values *where, const char *request, int *status);

#endif
