/* kill.c - `stent kill`: ends one flow, or all that options choose, with the reason admin-kill in the log. */
#include <stdio.h>
#include <string.h>

#include "cli/control_client.h"
#include "cli/filter_options.h"
#include "stent/cli.h"

static bool
is_id(const char *word)
{
	return strspn(word, "0123456789") == strlen(word) && strlen(word) <= 20;
}

static void
print_killed(const json_t *j, const struct cli_values *values)
{
	const json_int_t n = json_integer_value(json_object_get(j, "flows"));

	if (values->json) {
		control_client_print(j);
	} else {
		printf("%lld flow%s ended\n", (long long)n, n == 1 ? "" : "s");
	}
}

int
cli_kill(int argc, char **argv)
{
	struct cli_values values = { 0 };
	char request[CONTROL_REQUEST_MAX] = "kill";
	const int words = cli_options(argc, argv, 1, &values);
	json_t *j;
	int status;

	if (words < 0)
		return CLI_WRONG;
	if ((words == 0) == !filter_is_given(&values) || (words == 1 && !is_id(argv[1]))) {
		cli_error("stent kill: needs the id of a flow (a number; `stent top` shows them), or options such as --route");
		return CLI_WRONG;
	}
	if (words == 1)
		snprintf(request, sizeof(request), "kill %s", argv[1]);
	if (filter_request("kill", &values, request) < 0)
		return CLI_WRONG;
	j = control_client_request("kill", &values, request, &status);
	if (j != NULL)
		print_killed(j, &values);
	json_decref(j);
	return status;
}
