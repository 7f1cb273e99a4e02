/* reload.c - `stent reload`: has a running stent read its settings again, and prints what has changed. */
#include <stdio.h>

#include "cli/control_client.h"
#include "stent/cli.h"

static const char *
string(const json_t *j, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(j, name));

	return text != NULL ? text : otherwise;
}

static void
print_change(const json_t *c, bool is_dry)
{
	const char *route = string(c, "route", NULL);

	if (json_is_null(json_object_get(c, "key"))) {
		printf("route %s: %s\n", route, json_is_null(json_object_get(c, "from")) ? "new" : "removed; its open flows continue");
		return;
	}
	if (route != NULL)
		printf("route %s: ", route);
	printf("%s = %s (%s %s)%s\n", string(c, "key", "-"), string(c, "to", "not set"), is_dry ? "now" : "was",
	    string(c, "from", "not set"), json_is_true(json_object_get(c, "needs_restart")) ? "; needs a restart" : "");
}

static void
print_result(const json_t *j, bool is_dry)
{
	const json_t *changes = json_object_get(j, "changes");
	const size_t n = json_array_size(changes);

	for (size_t i = 0; i < n; i++)
		print_change(json_array_get(changes, i), is_dry);
	printf(is_dry ? "%zu change%s; a reload would use %s\n" : "%zu change%s; reloaded from %s\n", n, n == 1 ? "" : "s",
	    string(j, "settings", "-"));
}

int
cli_reload(int argc, char **argv)
{
	struct cli_values values = { 0 };
	const json_t *errors;
	json_t *j;
	int status;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	j = control_client_request("reload", &values, values.dry_run ? "reload dry-run" : "reload", &status);
	if (j == NULL)
		return status;
	errors = json_object_get(j, "errors");
	if (values.json) {
		control_client_print(j);
	} else if (errors == NULL) {
		print_result(j, values.dry_run);
	}
	for (size_t i = 0; !values.json && i < json_array_size(errors); i++)
		cli_error("%s", json_string_value(json_array_get(errors, i)));
	if (errors != NULL && !values.json)
		cli_error("stent reload: nothing has changed");
	status = errors != NULL ? CLI_WRONG : CLI_DONE;
	json_decref(j);
	return status;
}
