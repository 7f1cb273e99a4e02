/* kill.c - `stent kill`: ends one flow, with the reason admin-kill in the log. */
#include <stdio.h>
#include <string.h>

#include "cli/control_client.h"
#include "stent/cli.h"

int
cli_kill(int argc, char **argv)
{
	struct cli_values values = { 0 };
	char request[64];
	json_t *j;
	int words = cli_options(argc, argv, 1, &values), status;

	if (words < 0)
		return CLI_WRONG;
	if (words == 0 || strspn(argv[1], "0123456789") != strlen(argv[1]) || strlen(argv[1]) > 20) {
		cli_error("stent kill: needs the id of a flow (a number); `stent top` shows them");
		return CLI_WRONG;
	}
	snprintf(request, sizeof(request), "kill %s", argv[1]);
	j = control_client_request("kill", &values, request, &status);
	json_decref(j);
	return status;
}
