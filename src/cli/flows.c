/* flows.c - `stent flows`: the open flows, filtered, as a table or JSON. */
#include <stdio.h>
#include <string.h>

#include "cli/control_client.h"
#include "cli/filter_options.h"
#include "cli/top_table.h"
#include "stent/cli.h"

#define LISTING_LIMIT 10000

int
cli_flows(int argc, char **argv)
{
	struct cli_values values = { .sort = top_orders[0] };
	char request[CONTROL_REQUEST_MAX] = "";
	json_t *flows;
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	snprintf(request, sizeof(request), "flows limit=%d sort=%s", LISTING_LIMIT, values.sort);
	if (filter_request("flows", &values, request) < 0)
		return CLI_WRONG;
	flows = control_client_request("flows", &values, request, &status);
	if (flows == NULL)
		return status;
	if (values.json) {
		control_client_print(flows);
	} else {
		top_print_table(stdout, flows, &(struct top_view){ .rows = LISTING_LIMIT, .line_end = "\n" });
	}
	json_decref(flows);
	return status;
}
