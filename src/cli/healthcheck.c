/*
 * healthcheck.c - `stent healthcheck`: exit status 0 when stent runs and is not
 * draining, else 1. For Docker's HEALTHCHECK, which knows no other status, in
 * an image without a shell; and for scripts. With --ready also 1 while a route
 * has no backend, as /readyz: for what decides whether clients are sent here,
 * not for what restarts stent.
 *
 * A stent at its limit is healthy: what is unhealthy gets restarted or cut off
 * by a load balancer, which would end the flows it has.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/control_client.h"
#include "stent/cli.h"

int
cli_healthcheck(int argc, char **argv)
{
	struct cli_values values = { 0 };
	const char *word;
	bool is;
	json_t *j;
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_FAILED;
	word = values.ready ? "ready" : "healthy";
	j = control_client_request("healthcheck", &values, values.ready ? "ready" : "health", &status);
	if (j == NULL)
		return CLI_FAILED;
	is = json_is_true(json_object_get(j, word));
	if (values.json)
		control_client_print(j);
	else if (!is)
		cli_error("stent healthcheck: not %s: %s", word, json_string_value(json_object_get(j, "why")) != NULL ?
		    json_string_value(json_object_get(j, "why")) : "the reply has no reason");
	else
		printf("%s\n", word);
	json_decref(j);
	return is ? CLI_DONE : CLI_FAILED;
}
