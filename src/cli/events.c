/* events.c - `stent events`: prints what happens in a running stent, a line of JSON for each event. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/control_client.h"
#include "stent/cli.h"

struct reading {
	bool began;
	char why[CONTROL_WHY_MAX];	/* the response was an error instead */
};

/* False: no more is wanted. */
static bool
print(const char *data, size_t len, void *arg)
{
	struct reading *r = arg;

	if (!r->began && control_client_error(data, len, r->why))
		return false;
	r->began = true;
	return fwrite(data, 1, len, stdout) == len && fflush(stdout) == 0;
}

int
cli_events(int argc, char **argv)
{
	struct cli_values values = { 0 };
	struct reading reading = { 0 };
	char request[CONTROL_REQUEST_MAX], why[CONTROL_WHY_MAX] = "";
	char *path;
	int len;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	len = snprintf(request, sizeof(request), "events%s%s%s%s", values.route != NULL ? " route=" : "",
	    values.route != NULL ? values.route : "", values.kind != NULL ? " kind=" : "", values.kind != NULL ? values.kind : "");
	if (len < 0 || (size_t)len >= sizeof(request)) {
		cli_error("stent events: too long");
		return CLI_WRONG;
	}
	path = control_client_path("events", &values);
	if (path == NULL)
		return CLI_WRONG;
	control_client_stream(path, request, print, &reading, why);
	if (reading.why[0] != '\0')
		cli_error("stent events: %s", reading.why);
	else if (why[0] != '\0')
		cli_error("stent events: %s", why);
	else if (!ferror(stdout))
		cli_error("stent events: stent has ended");
	free(path);
	return CLI_FAILED;
}
