/* demo.c - `stent demo`: watch one flow die and one survive. */
#include "stent/cli.h"
#include "stent/demo.h"

int
cli_demo(int argc, char **argv)
{
	struct cli_values values = { 0 };

	if (cli_options(argc, argv, 0, &values) < 0)
		return CLI_WRONG;
	return demo_run(values.web) == DEMO_DONE ? CLI_DONE : CLI_FAILED;
}
