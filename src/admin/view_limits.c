/* view_limits.c - the limits of a route, and whom they refused, as JSON. */
#include "admin/view.h"

#include "stent/admission.h"
#include "stent/config.h"
#include "stent/counters.h"

static json_t *
number_or_null(int n)
{
	return n > 0 ? json_integer(n) : json_null();
}

static json_t *
rate_json(const struct accept_rate *rate)
{
	if (rate->flows == 0)
		return json_null();
	return json_pack("{s:i, s:I, s:i}", "flows", rate->flows, "seconds", (json_int_t)(rate->per_ms / 1000), "burst", rate->burst);
}

const char *
view_when_full(unsigned when_full)
{
	return when_full == WHEN_FULL_EVICT ? "evict" : "refuse";
}

json_t *
view_limits(const struct route *r)
{
	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}",
	    "max_flows", number_or_null(r->max_flows),
	    "when_full", view_when_full(r->when_full),
	    "max_flows_per_client", number_or_null(r->max_flows_per_client),
	    "accept_rate", rate_json(&r->accept_rate),
	    "allow", view_text(r->allow.text),
	    "deny", view_text(r->deny.text));
}

json_t *
view_refusals(const struct relay_counters *sum)
{
	json_t *counts = json_object();

	for (size_t cause = ADMITTED_COUNTED + 1; cause < ADMISSION_COUNT; cause++)
		if (sum->refusals[cause] > 0)
			json_object_set_new(counts, admission_text((enum admission)cause), json_integer((json_int_t)sum->refusals[cause]));
	return counts;
}
