/*
 * promise.h - what a codec, a negotiation and the heartbeat engine state of themselves.
 *
 * They are pure and know no flow. A violated promise is noted for this thread; the caller asks for that after each call
 * into them. It then uses nothing of what the call returned or emitted, and ends that flow alone (reason `internal`, see
 * src/relay/require.h). So after a promise() it does not matter what the rest of the call does, as long as it stays within
 * its memory and ends; where it would not, promise_or() and promise_void() return. assert() is for memory that is already
 * wrong. Neither is for what a peer sends: that is judged. NDEBUG removes no promise.
 */
#ifndef STENT_PROMISE_H
#define STENT_PROMISE_H

#include <stdbool.h>
#include <stddef.h>

struct promise {
	const char *condition;	/* that did not hold, the first one; NULL: all did */
	const char *file;
	int line;
};

extern _Thread_local struct promise promise_broken __attribute__((tls_model("initial-exec")));

void promise_violated(const char *condition, const char *file, int line) __attribute__((cold));
/* What was noted, which is forgotten then. */
struct promise promise_take(void);

/* A promise was violated since the last promise_take(). */
static inline bool
promise_is_broken(void)
{
	return __builtin_expect(promise_broken.condition != NULL, false);
}

#define PROMISE_ELSE(condition, text, leave) \
	do { \
		if (__builtin_expect(!(condition), false)) { \
			promise_violated(text, __FILE__, __LINE__); \
			leave; \
		} \
	} while (0)

#define promise(condition) PROMISE_ELSE(condition, #condition, )
#define promise_or(condition, result) PROMISE_ELSE(condition, #condition, return result)
#define promise_void(condition) PROMISE_ELSE(condition, #condition, return)

/* What costs more than a comparison or two: in builds with a sanitizer, and for fuzzing. */
#ifdef STENT_DEAR
#define promise_dear(condition) PROMISE_ELSE(condition, #condition, )
#else
#define promise_dear(condition) do { } while (0)
#endif

#endif
