/* pause.c - `stent pause` and `stent resume`: new clients of a route wait while its backend is replaced. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/control_client.h"
#include "stent/cli.h"
#include "stent/config.h"

#define NAME_MAX_BYTES 200	/* a request is a short line */

/* The name of the route; NULL: the call is wrong. */
static const char *
read_name(int argc, char **argv, struct cli_values *values)
{
	const int words = cli_options(argc, argv, 1, values);

	if (words < 0)
		return NULL;
	if (words == 0 || strlen(argv[1]) > NAME_MAX_BYTES || strpbrk(argv[1], "\r\n") != NULL) {
		cli_error("stent %s: needs the name of a route; stent status shows them", argv[0]);
		return NULL;
	}
	return argv[1];
}

static int
ask(const char *command, const struct cli_values *values, const char *request, void (*print)(const json_t *j))
{
	int status;
	json_t *j = control_client_request(command, values, request, &status);

	if (j == NULL)
		return status;
	if (values->json) {
		control_client_print(j);
	} else {
		print(j);
	}
	json_decref(j);
	return status;
}

static void
print_paused(const json_t *j)
{
	const char *name = json_string_value(json_object_get(j, "paused"));

	if (json_is_real(json_object_get(j, "for_seconds")))
		printf("paused: new clients of route %s wait for %g s, or until `stent resume %s`\n", name,
		    json_real_value(json_object_get(j, "for_seconds")), name);
	else
		printf("paused: new clients of route %s wait until `stent resume %s`\n", name, name);
}

static void
print_resumed(const json_t *j)
{
	const json_t *waited = json_object_get(j, "waited");

	printf("resumed: route %s", json_string_value(json_object_get(j, "resumed")));
	if (json_is_integer(waited))
		printf("; %lld client%s waited", (long long)json_integer_value(waited), json_integer_value(waited) == 1 ? "" : "s");
	printf("\n");
}

int
cli_pause(int argc, char **argv)
{
	struct cli_values values = { 0 };
	const char *name = read_name(argc, argv, &values);
	char request[NAME_MAX_BYTES + 48], until[32] = "";
	int64_t ms;

	if (name == NULL)
		return CLI_WRONG;
	if (values.duration != NULL) {
		if (config_read_duration(values.duration, &ms) != 0 || ms <= 0) {
			cli_error("stent pause: --for needs a duration, such as 60s or 5m");
			return CLI_WRONG;
		}
		snprintf(until, sizeof(until), "for=%" PRId64 " ", ms);
	}
	snprintf(request, sizeof(request), "pause %s%s", until, name);
	return ask("pause", &values, request, print_paused);
}

int
cli_resume(int argc, char **argv)
{
	struct cli_values values = { 0 };
	const char *name = read_name(argc, argv, &values);
	char request[NAME_MAX_BYTES + 16];

	if (name == NULL)
		return CLI_WRONG;
	snprintf(request, sizeof(request), "resume %s", name);
	return ask("resume", &values, request, print_resumed);
}
