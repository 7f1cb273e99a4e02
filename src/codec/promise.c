/* promise.c - notes the first promise that was violated on this thread. */
#include "stent/promise.h"

_Thread_local struct promise promise_broken;

void
promise_violated(const char *condition, const char *file, int line)
{
	if (promise_broken.condition == NULL)
		promise_broken = (struct promise){ condition, file, line };
}

struct promise
promise_take(void)
{
	const struct promise was = promise_broken;

	promise_broken = (struct promise){ NULL, NULL, 0 };
	return was;
}
