/* filter_options.c - the options by which flows are chosen, as words of a request. */
#include "cli/filter_options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "stent/cli.h"

struct option {
	const char *name;
	const char *value;
};

static void
gather(const struct cli_values *v, struct option ret[6])
{
	const struct option all[] = {
		{ "route", v->route }, { "client", v->client }, { "backend", v->backend }, { "protocol", v->protocol },
		{ "idle-over", v->idle_over }, { "reason", v->reason },
	};

	memcpy(ret, all, sizeof(all));
}

int
filter_request(const char *command, const struct cli_values *values, char request[CONTROL_REQUEST_MAX])
{
	struct option options[6];

	gather(values, options);
	for (size_t i = 0; i < 6; i++) {
		const size_t len = strlen(request);
		int n = 0;

		if (options[i].value == NULL)
			continue;
		n = snprintf(request + len, CONTROL_REQUEST_MAX - len, " %s=%s", options[i].name, options[i].value);
		if (n < 0 || len + (size_t)n >= CONTROL_REQUEST_MAX || strpbrk(options[i].value, "\r\n") != NULL) {
			cli_error("stent %s: --%s is too long, or has more than one line", command, options[i].name);
			return -EINVAL;
		}
		for (char *s = request + len + 1; *s != '\0'; s++)
			*s = *s == ' ' || *s == '\t' ? '+' : *s;	/* words of a request are separated by blanks */
	}
	return 0;
}

bool
filter_is_given(const struct cli_values *values)
{
	struct option options[6];

	gather(values, options);
	for (size_t i = 0; i < 6; i++)
		if (options[i].value != NULL)
			return true;
	return false;
}
