/* demo.c - `stent demo`: see one flow die and one live. */
#include "stent/cli.h"
#include "stent/demo.h"

int
cli_demo(int argc, char **argv)
{
	bool with_web = false;
	const struct cli_option options[] = {
		{ "--web", NULL, NULL, &with_web },
		{ 0 },
	};

	if (cli_options(argc, argv, options, 0) < 0)
		return CLI_WRONG;
	return demo_run(with_web) == DEMO_DONE ? CLI_DONE : CLI_FAILED;
}
