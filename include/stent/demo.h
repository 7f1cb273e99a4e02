/* demo.h - the demonstration: one flow dies and one survives, on loopback. */
#ifndef STENT_DEMO_H
#define STENT_DEMO_H

#include <stdbool.h>

enum demo_result {
	DEMO_DONE,	/* it went as expected, or was interrupted */
	DEMO_FAILED,	/* it did not; the error was printed */
};

/* Runs it on the terminal, and with_web also in a browser; that page stays until an interrupt. */
enum demo_result demo_run(bool with_web);

#endif
