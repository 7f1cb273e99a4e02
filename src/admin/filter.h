/* filter.h - which flows are meant, in listings and by kill. */
#ifndef STENT_ADMIN_FILTER_H
#define STENT_ADMIN_FILTER_H

#include <stdbool.h>
#include <stdint.h>

struct flow_info;

#define FILTER_TEXT_MAX 128
#define FILTER_NAMES "route=NAME, client=ADDRESS, backend=ADDRESS, protocol=NAME, id=N, text=TEXT, idle-over=DURATION, reason=TEXT"

/* "" and 0: any. */
struct flow_filter {
	char route[FILTER_TEXT_MAX], protocol[FILTER_TEXT_MAX];
	char client[FILTER_TEXT_MAX], backend[FILTER_TEXT_MAX];	/* beginnings: an address with its port or without, a network's first bytes */
	char reason[FILTER_TEXT_MAX];	/* part of why a leg gets no heartbeats now; + stands for a blank */
	char text[FILTER_TEXT_MAX];	/* part of any name, address or reason, or a whole id; + stands for a blank */
	uint64_t id;
	int64_t idle_over_ms;		/* both sides have been silent for so long */
};

/* Reads one of FILTER_NAMES. False: it is none, or its value is wrong. */
bool flow_filter_read(struct flow_filter *f, const char *name, const char *value);
/* A name, address or reason contains part, in any case of its letters; or its id is that. */
bool flow_has_text(const struct flow_info *info, const char *part);
bool flow_filter_matches(const struct flow_filter *f, const struct flow_info *info);

#endif
