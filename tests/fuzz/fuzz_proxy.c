/*
 * fuzz_proxy.c - the PROXY protocol's header: any bytes, cut at each of the first 128 and at some places behind them (a header
 * of version 1 and most addresses end before). The verdict may only go from undecided over partial to a last one, which more
 * bytes do not change; what was read is written and reads back.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stent/proxy_header.h"

#define CUTS_EACH 128	/* cut at each of so many bytes */
#define CUTS_BEHIND 16	/* and at about so many places behind them */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum proxy_read
read_copy(struct proxy_header *h, const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	const char *why;
	enum proxy_read r;

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	r = proxy_header_read(h, copy, len, &why);
	if ((why != NULL) != (r == PROXY_INVALID) || (r == PROXY_COMPLETE && (h->len == 0 || h->len > len)))
		abort();
	free(copy);
	return r;
}

static void
write_back(const struct proxy_header *h, int version)
{
	const struct proxy_tls tls = { "TLSv1.3", "X", h->id.len > 0, h->id.len > 1, "name", NULL, "sni" };
	const struct proxy_out out = { h->kind, h->source, h->destination, NULL, &h->id, h->id.len > 2 ? &tls : NULL };
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	const size_t n = proxy_header_write(buf, version, &out);
	struct proxy_header again;

	if (read_copy(&again, buf, n) != PROXY_COMPLETE || again.len != n)
		abort();
	if (version == 2 && again.kind != h->kind && h->source.family == h->destination.family)
		abort();
	if (again.kind == PROXY_ADDRESSES && memcmp(&again.source, &h->source, sizeof(h->source)) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header h, whole;
	const enum proxy_read last = read_copy(&whole, data, size);
	bool is_decided = false;

	for (size_t cut = 0; cut <= size; cut += cut < CUTS_EACH ? 1 : size / CUTS_BEHIND) {
		const enum proxy_read r = read_copy(&h, data, cut);

		if (is_decided && (r == PROXY_UNDECIDED || r == PROXY_PARTIAL))
			abort();
		if (r != PROXY_UNDECIDED && r != PROXY_PARTIAL && (r != last || h.len != whole.len))
			abort();
		is_decided = r != PROXY_UNDECIDED && r != PROXY_PARTIAL;
	}
	if (last == PROXY_COMPLETE) {
		write_back(&whole, 1);
		write_back(&whole, 2);
	}
	return 0;
}
