/* doctor.c - `stent doctor`: after which quiet time does the path to a server forget flows, and what keeps them? */
#include "stent/cli.h"
#include "stent/config.h"
#include "stent/doctor.h"

#define MAX_MIN_MS 2000
#define MAX_MAX_MS (INT64_C(24) * 60 * 60 * 1000)

static int
status_of(enum doctor_result result)
{
	return result == DOCTOR_DONE ? CLI_DONE : result == DOCTOR_WRONG ? CLI_WRONG : CLI_FAILED;
}

/* Measures with the options; target is HOST:PORT. */
static int
measure(const char *target, const struct cli_values *v)
{
	struct doctor_options o = { .target = target, .protocol = v->protocol, .send = v->send, .expect = v->expect, .path = v->path,
	    .quick = v->quick, .json = v->json };

	if (v->max != NULL && (config_read_duration(v->max, &o.max_ms) != 0 || o.max_ms < MAX_MIN_MS || o.max_ms > MAX_MAX_MS)) {
		cli_error("stent doctor: --max needs a duration from 2s to 24h, such as 20m");
		return CLI_WRONG;
	}
	return status_of(doctor_run(&o));
}

int
cli_doctor(int argc, char **argv)
{
	struct cli_values values = { 0 };
	const int words = cli_options(argc, argv, 1, &values);

	if (words < 0)
		return CLI_WRONG;
	if (values.listen != NULL && words == 0)
		return status_of(doctor_listen(values.listen));
	if (values.listen != NULL || words == 0) {
		cli_error("stent doctor: needs the server to measure, HOST:PORT, or --listen; see `stent doctor --help`");
		return CLI_WRONG;
	}
	return measure(argv[1], &values);
}
