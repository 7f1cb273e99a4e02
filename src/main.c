/* main.c - the entry point. */
#include "stent/cli.h"

int
main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
