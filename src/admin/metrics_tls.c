/*
 * metrics_tls.c - handshakes, why they failed, and when certificates expire.
 *
 * Only of legs with TLS. Causes are the words of enum tls_cause, all present
 * from the start. An expiry is that of the file as it was loaded: what is
 * served now, not what was copied there since.
 */
#include <event2/buffer.h>
#include <inttypes.h>
#include <stdbool.h>

#include "admin/metrics.h"
#include "stent/config.h"
#include "stent/side.h"

static bool
has_tls(const struct row *row, enum side s)
{
	return row->settings != NULL && row->settings->leg[s].tls.mode != TLS_OFF;
}

static void
handshakes(struct rows *r)
{
	static const char name[] = "stent_tls_handshakes_total";

	metrics_head(r->out, name, "counter", "TLS handshakes that were completed: full, or resuming a session.");
	for (size_t i = 0; i < r->n; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			const struct relay_counters *c = &r->row[i].sum;

			if (!has_tls(&r->row[i], s))
				continue;
			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",side=\"%s\",kind=\"full\"} %" PRIu64 "\n", side_name(s), c->handshakes[s] - c->resumed[s]);
			metrics_begin(r, name, &r->row[i]);
			evbuffer_add_printf(r->out, ",side=\"%s\",kind=\"resumed\"} %" PRIu64 "\n", side_name(s), c->resumed[s]);
		}
}

static void
failures(struct rows *r)
{
	static const char name[] = "stent_tls_failures_total";

	metrics_head(r->out, name, "counter", "Flows whose TLS with this side failed, by cause.");
	for (size_t i = 0; i < r->n; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++)
			for (size_t cause = TLS_CAUSE_NONE + 1; cause < TLS_CAUSE_COUNT && has_tls(&r->row[i], s); cause++) {
				metrics_begin(r, name, &r->row[i]);
				evbuffer_add_printf(r->out, ",side=\"%s\",cause=\"%s\"} %" PRIu64 "\n", side_name(s),
				    tls_cause_name((enum tls_cause)cause), r->row[i].sum.tls_failures[s][cause]);
			}
}

static void
expiry(struct rows *r, const char *name, const struct row *row, enum side s, const char *key, const char *file, int64_t at_s)
{
	if (at_s == 0)
		return;
	metrics_begin(r, name, row);
	evbuffer_add_printf(r->out, ",side=\"%s\",key=\"%s\",file=\"", side_name(s), key);
	metrics_label(r->out, file);
	evbuffer_add_printf(r->out, "\"} %" PRId64 "\n", at_s);
}

static void
expiries(struct rows *r)
{
	static const char name[] = "stent_tls_certificate_expiry_seconds";

	metrics_head(r->out, name, "gauge", "When a loaded certificate file expires, in seconds since 1970: the first of the chain of "
	    "tls_cert, the last of tls_ca.");
	for (size_t i = 0; i < r->n; i++)
		for (enum side s = CLIENT; s <= BACKEND; s++) {
			const struct leg_settings *leg = has_tls(&r->row[i], s) ? &r->row[i].settings->leg[s] : NULL;

			if (leg == NULL)
				continue;
			expiry(r, name, &r->row[i], s, "tls_cert", leg->tls.cert, leg->tls_expiry.cert_s);
			expiry(r, name, &r->row[i], s, "tls_ca", leg->tls.ca, leg->tls_expiry.ca_s);
		}
}

void
metrics_tls(struct rows *r)
{
	bool any = false;

	for (size_t i = 0; i < r->n; i++)
		any |= has_tls(&r->row[i], CLIENT) || has_tls(&r->row[i], BACKEND);
	if (!any)
		return;		/* no family without a sample */
	handshakes(r);
	failures(r);
	expiries(r);
}
