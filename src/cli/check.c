/* check.c - `stent check`: prints a settings file with all defaults, or its errors. */
#include "cli/machine.h"
#include "stent/cli.h"
#include "stent/config.h"

static void
say(const char *text)
{
	cli_error("stent check: %s", text);
}

int
cli_check(int argc, char **argv)
{
	struct cli_values values = { 0 };
	struct config *config;

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	if (config_read(&config, values.config, stderr) < 0)
		return CLI_WRONG;
	for (size_t i = 0; i < config->n_warnings; i++)
		cli_error("%s", config->warnings[i]);
	machine_warn(config, true, say);
	if (values.explain) {
		config_explain(config, stdout);
	} else {
		config_print(config, stdout);
		config_print_detection(config, stdout);
		config_print_certificates(config, stdout);
	}
	config_release(config);
	return CLI_DONE;
}
