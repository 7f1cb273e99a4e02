/* filter_options.h - the options by which flows are chosen, of `stent flows` and `stent kill`. */
#ifndef STENT_CLI_FILTER_OPTIONS_H
#define STENT_CLI_FILTER_OPTIONS_H

#include <stdbool.h>

#include "cli/control_client.h"

struct cli_values;

/* Appends them to the request. 0; or -EINVAL, and the error is on stderr. */
int filter_request(const char *command, const struct cli_values *values, char request[CONTROL_REQUEST_MAX]);
bool filter_is_given(const struct cli_values *values);

#endif
