/* drain.c - `stent drain`: no new flows, wait for the open ones, stop. Same as SIGTERM. */
#include <stdio.h>

#include "cli/control_client.h"
#include "cli/figures.h"
#include "stent/cli.h"

int
cli_drain(int argc, char **argv)
{
	struct cli_values values = { 0 };
	char time[FIGURE_MAX];
	json_t *j;
	long long open;
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	j = control_client_request("drain", &values, values.now ? "drain now" : "drain", &status);
	if (j == NULL)
		return status;
	open = json_integer_value(json_object_get(j, "flows_open"));
	if (values.json)
		control_client_print(j);
	else if (values.now || open == 0)
		printf("draining: %lld flow%s open, ends now\n", open, open == 1 ? "" : "s");
	else
		printf("draining: %lld flow%s open, ends within %s\n", open, open == 1 ? "" : "s",
		    figure_time(time, json_number_value(json_object_get(j, "drain_timeout_seconds"))));
	json_decref(j);
	return status;
}
