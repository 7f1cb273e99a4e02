/* demo.h - the demonstration: one flow dies and one lives, on loopback. */
#ifndef STENT_DEMO_H
#define STENT_DEMO_H

#include <stdbool.h>

enum demo_result {
	DEMO_DONE,	/* it went as it should, or was interrupted */
	DEMO_FAILED,	/* it did not; what is wrong was printed */
};

/* Plays it on the terminal, and to a browser with_web; that page stays until an interrupt. */
enum demo_result demo_run(bool with_web);

#endif
