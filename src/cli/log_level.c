/* log_level.c - `stent log`: changes which lines a running stent logs, until it ends or reads its settings again. */
#include <stdio.h>

#include "cli/control_client.h"
#include "stent/cli.h"

static const char *const levels[] = { "error", "warn", "info", "debug", NULL };

int
cli_log(int argc, char **argv)
{
	struct cli_values values = { 0 };
	const int words = cli_options(argc, argv, 1, &values);
	char request[64];
	json_t *j;
	int status;

	if (words < 0)
		return CLI_WRONG;
	if (words == 0 || levels[cli_word_at(levels, argv[1])] == NULL) {
		cli_error("stent log: needs a level: error, warn, info or debug");
		return CLI_WRONG;
	}
	snprintf(request, sizeof(request), "log %s", argv[1]);
	j = control_client_request("log", &values, request, &status);
	if (j != NULL && values.json)
		control_client_print(j);
	json_decref(j);
	return status;
}
