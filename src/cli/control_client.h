/* control_client.h - what the commands that talk to a running stent have in common. */
#ifndef STENT_CLI_CONTROL_CLIENT_H
#define STENT_CLI_CONTROL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "stent/cli.h"

#define CONTROL_WHY_MAX 256
#define CONTROL_REQUEST_MAX 500	/* bytes of a request */

/*
 * Finds the control socket's path by --control, by the settings file of
 * --config, or at its default path; the caller's (free()). NULL: there is
 * none, and the reason is on stderr.
 */
char *control_client_path(const char *command, const struct cli_values *where);

/*
 * Sends one request and reads the response; waits a few seconds at most. The
 * caller's (json_decref()). NULL, with the reason in why, when there is no
 * response, or it is an error.
 */
json_t *control_client_try(const char *path, const char *request, char why[CONTROL_WHY_MAX]);

/*
 * Sends one request, and hands on what comes, until stent closes the connection or each() returns false. why: the reason
 * when there was no connection, else empty.
 */
void control_client_stream(const char *path, const char *request, bool (*each)(const char *data, size_t len, void *arg), void *arg,
    char why[CONTROL_WHY_MAX]);
/* True: data is a response that is an error; why says which. */
bool control_client_error(const char *data, size_t len, char why[CONTROL_WHY_MAX]);

/* Both in one; errors go to stderr. *status: the exit status. */
json_t *control_client_request(const char *command, const struct cli_values *where, const char *request, int *status);

/* An answer as JSON, on stdout. */
void control_client_print(const json_t *j);

#endif
