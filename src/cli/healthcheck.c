/*
 * healthcheck.c - `stent healthcheck`: exit status 0 when stent runs and is not
 * draining, else 1. For Docker's HEALTHCHECK, which knows no other status, in
 * an image without a shell; and for scripts.
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
	bool healthy;
	json_t *j;
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_FAILED;
	j = control_client_request("healthcheck", &values, "health", &status);
	if (j == NULL)
		return CLI_FAILED;
	healthy = json_is_true(json_object_get(j, "healthy"));
	if (values.json)
		control_client_print(j);
	else if (!healthy)
		cli_error("stent healthcheck: %s",
		    json_is_string(json_object_get(j, "why")) ?
		    json_string_value(json_object_get(j, "why")) : "not healthy");
	else
		printf("healthy\n");
	json_decref(j);
	return healthy ? CLI_DONE : CLI_FAILED;
}
