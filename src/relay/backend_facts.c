/* backend_facts.c - helpers for what is known of a backend. */
#include <stdlib.h>

#include "stent/backends.h"

const char *
backend_is_text(enum backend_is is)
{
	return is == BACKEND_UP ? "up" : is == BACKEND_DOWN ? "down" : "unknown";
}

void
backend_facts_clear(struct backend_facts *facts)
{
	free(facts->at);
	facts->at = NULL;
	facts->n = 0;
}
