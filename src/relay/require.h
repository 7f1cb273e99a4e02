/*
 * require.h - what must be true of one flow.
 *
 * A violated assert() ends the process with all its flows. A violated require() ends its flow alone: the condition and the
 * flow's state are logged, and both legs are reset without another byte (close reason `internal`). NDEBUG removes neither.
 * assert() is for what flows share, and where memory would already be wrong. Neither is for what a peer sends.
 * What is true of a flow as a whole, by its state: flow_check.h. A leg's TLS has tls_require() (transport/tls_engine.h),
 * which comes here by the leg's failure.
 */
#ifndef STENT_RELAY_REQUIRE_H
#define STENT_RELAY_REQUIRE_H

#include <stdbool.h>

#include "relay/flow.h"
#include "stent/promise.h"

#define REQUIRE_ELSE(f, condition, words, leave) \
	do { \
		if (__builtin_expect(!(condition), false)) { \
			require_violated((f), words, __FILE__, __LINE__); \
			leave; \
		} \
	} while (0)

/* In a function that returns a verdict: it returns that the flow ends. */
#define require(f, condition) REQUIRE_ELSE(f, condition, #condition, return require_verdict())

/* In another function, which returns the result, or nothing; the flow ends before the next round of the loop. */
#define require_or(f, condition, result) REQUIRE_ELSE(f, condition, #condition, return result)
#define require_void(f, condition) REQUIRE_ELSE(f, condition, #condition, return)

/* What costs more than a comparison or two: in builds with a sanitizer, for fuzzing, and in the simulation. */
#ifdef STENT_DEAR
#define require_dear(f, condition) REQUIRE_ELSE(f, condition, #condition, return require_verdict())
#else
#define require_dear(f, condition) do { } while (0)
#endif

/*
 * After each call into the flow's codec, its negotiation or the heartbeat engine, which know no flow: false, if they violated
 * a promise (stent/promise.h). As after require_or(), the flow ends; what the call returned is not used. f may be
 * const where it is only listed: this is noted in it all the same.
 */
#define promises_are_kept(f) (!promise_is_broken() || require_promise_kept((const struct flow *)(f)))

/* In a function that returns a verdict; and in another. */
#define require_promises(f) do { if (!promises_are_kept(f)) return require_verdict(); } while (0)
#define require_promises_or(f, result) do { if (!promises_are_kept(f)) return result; } while (0)

bool require_promise_kept(const struct flow *f) __attribute__((cold));	/* false */
void require_violated(const struct flow *f, const char *condition, const char *file, int line) __attribute__((cold));

static inline struct verdict
require_verdict(void)
{
	return VERDICT_CUT_OFF(REASON_INTERNAL);
}

#endif
