/* filter.c - which flows are meant, in listings and by kill: all that is given must apply. */
#include "admin/filter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stent/relay.h"

/* As in the settings: a number and a unit. -1: it is none. */
static int64_t
read_duration_ms(const char *text)
{
	static const struct { const char *name; double ms; } units[] = {
		{ "ms", 1 }, { "s", 1000 }, { "m", 60e3 }, { "h", 3600e3 }, { "d", 86400e3 },
	};
	char *end;
	const double n = strtod(text, &end);

	if (end == text || text[0] < '0' || text[0] > '9' || !(n >= 0) || n > 1e6)
		return -1;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(end, units[i].name) == 0)
			return (int64_t)(n * units[i].ms);
	return -1;
}

bool
flow_filter_read(struct flow_filter *f, const char *name, const char *value)
{
	const struct { const char *name; char *to; } texts[] = {
		{ "route", f->route }, { "protocol", f->protocol }, { "client", f->client }, { "backend", f->backend }, { "reason", f->reason },
		{ "text", f->text },
	};

	if (strcmp(name, "idle-over") == 0) {
		f->idle_over_ms = read_duration_ms(value);
		return f->idle_over_ms > 0;
	}
	if (strcmp(name, "id") == 0) {
		f->id = value[0] >= '0' && value[0] <= '9' ? strtoull(value, NULL, 10) : 0;
		return f->id > 0 && strspn(value, "0123456789") == strlen(value);
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strcmp(name, texts[i].name) != 0)
			continue;
		if (*value == '\0' || strlen(value) >= FILTER_TEXT_MAX)
			return false;
		snprintf(texts[i].to, FILTER_TEXT_MAX, "%s", value);
		for (char *s = texts[i].to; (texts[i].to == f->reason || texts[i].to == f->text) && *s != '\0'; s++)
			*s = *s == '+' ? ' ' : *s;
		return true;
	}
	return false;
}

static bool
begins(const char *text, const char *with)
{
	const size_t len = strlen(with);

	if (text == NULL)
		return false;
	if (text[0] == '[' && with[0] != '[')
		text++;
	/* 10.0.0.1 is not the beginning of 10.0.0.12. */
	return strncmp(text, with, len) == 0 && (strchr(".:]", with[len - 1]) != NULL || text[len] < '0' || text[len] > '9');
}

static bool
has_reason(const struct flow_info *info, const char *reason)
{
	for (enum side s = CLIENT; s <= BACKEND; s++)
		if (info->leg[s].why_none != NULL && strstr(info->leg[s].why_none, reason) != NULL)
			return true;
	return false;
}

static bool
contains(const char *text, const char *part)
{
	return text != NULL && strcasestr(text, part) != NULL;
}

bool
flow_has_text(const struct flow_info *f, const char *part)
{
	char text[ADDRESS_TEXT_MAX], id[24];

	if (contains(f->route->name, part) || contains(f->protocol, part) || contains(f->backend_text, part))
		return true;
	if (f->client_peer.family != 0 && contains(address_text(&f->client_peer, text), part))
		return true;
	if (contains(address_text(&f->client, text), part) || contains(address_text(&f->backend, text), part))
		return true;
	if (contains(f->leg[CLIENT].why_none, part) || contains(f->leg[BACKEND].why_none, part))
		return true;
	snprintf(id, sizeof(id), "%" PRIu64, f->id);
	return strcmp(id, part) == 0;
}

bool
flow_filter_matches(const struct flow_filter *f, const struct flow_info *info)
{
	char client[ADDRESS_TEXT_MAX], backend[ADDRESS_TEXT_MAX];

	if (f->idle_over_ms > 0 && (info->leg[CLIENT].idle_ms < f->idle_over_ms || info->leg[BACKEND].idle_ms < f->idle_over_ms))
		return false;
	if (f->id != 0 && f->id != info->id)
		return false;
	if (f->text[0] != '\0' && !flow_has_text(info, f->text))
		return false;
	if (f->route[0] != '\0' && strcmp(f->route, info->route->name) != 0)
		return false;
	if (f->protocol[0] != '\0' && strcmp(f->protocol, info->protocol) != 0)
		return false;
	if (f->client[0] != '\0' && !begins(address_text(&info->client, client), f->client))
		return false;
	if (f->backend[0] != '\0' && !begins(info->backend_text, f->backend) && !begins(address_text(&info->backend, backend), f->backend))
		return false;
	return f->reason[0] == '\0' || has_reason(info, f->reason);
}
