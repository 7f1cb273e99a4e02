/*
 * heartbeat_rules.c - which heartbeats a route has: checks its settings against
 * what its protocol can do toward each side.
 *
 * In a route's own section, a setting that the protocol cannot honour is an
 * error. Two cases are looser: a key for both legs needs only one leg that can
 * have it, and a value of [defaults], which may be for routes of several
 * protocols, is ignored where the route's protocol does not use it.
 *
 * protocol = auto can turn out to be any protocol, so it may have every kind.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/make.h"

#define ANY_KIND (HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY)
#define KINDS_TEXT_MAX 32
#define HASTY_MS 1000		/* a shorter period gets a warning */

/* A route's heartbeat keys for one leg, and what results from them. */
struct leg_heartbeats {
	enum side side;
	const struct entry *heartbeat, *kind, *send, *expect;	/* what decides; NULL: the default */
	bool own_heartbeat, own_kind;	/* of the route's section, not of [defaults] */
	unsigned kinds;			/* that the protocol has toward this side */
	unsigned usable;		/* of these, what the settings leave; 0: no heartbeat */
};

struct heartbeats {
	struct route *route;
	struct errors *errors;
	bool may_be_any, takes_texts;
	struct leg_heartbeats leg[2];
};

static bool
has_trait(const struct heartbeats *b, enum codec_trait trait)
{
	return b->route->codec != NULL && (b->route->codec->traits & trait) != 0;
}

/* The first protocol that has it, to suggest in an error. */
static const char *
name_with(enum codec_trait trait)
{
	const struct codec *c;

	for (size_t i = 0; (c = codec_at(i)) != NULL; i++)
		if ((c->traits & trait) != 0)
			return c->name;
	return "";
}

/* The entry that decides a key for a leg; NULL: the default, or it is wrong, which was reported. */
static const struct entry *
decides(const struct parsed *d, const struct section *s, const char *key, enum side side)
{
	const struct entry *e = parsed_decides(d, s, key_find(key, SCOPE_ROUTE), side);

	return e != NULL && e->is_good ? e : NULL;
}

static void
heartbeats_gather(struct heartbeats *b, struct parsed *d, const struct section *s, struct route *r)
{
	*b = (struct heartbeats){ .route = r, .errors = &d->errors };
	b->may_be_any = has_trait(b, CODEC_MAY_BE_ANY);
	b->takes_texts = has_trait(b, CODEC_TAKES_TEXTS);
	for (int side = CLIENT; side <= BACKEND; side++) {
		struct leg_heartbeats *l = &b->leg[side];

		l->side = (enum side)side;
		l->heartbeat = decides(d, s, "heartbeat", l->side);
		l->kind = decides(d, s, "heartbeat_kind", l->side);
		l->send = parsed_decides(d, s, key_find("heartbeat_send", SCOPE_ROUTE), l->side);
		l->expect = parsed_decides(d, s, key_find("heartbeat_expect", SCOPE_ROUTE), l->side);
		l->own_heartbeat = section_owns(s, l->heartbeat);
		l->own_kind = section_owns(s, l->kind);
		if (b->may_be_any)
			l->kinds = ANY_KIND;
		else if (b->takes_texts)
			l->kinds = l->send == NULL ? 0 : l->expect == NULL ? HEARTBEAT_ONEWAY : HEARTBEAT_PING;
		else if (r->codec != NULL)
			l->kinds = r->codec->leg[side].kinds;
	}
}

/* "oneway or ping" */
static const char *
kinds_text(unsigned kinds, char buf[KINDS_TEXT_MAX])
{
	static const struct word names[] = { { "oneway", HEARTBEAT_ONEWAY }, { "ping", HEARTBEAT_PING }, { "early", HEARTBEAT_EARLY } };

	assert(kinds != 0 && (kinds & ~(unsigned)ANY_KIND) == 0);
	buf[0] = '\0';
	for (size_t i = 0; i < 3; i++) {
		if ((kinds & (unsigned)names[i].value) == 0)
			continue;
		if (buf[0] != '\0')
			strcat(buf, " or ");
		strcat(buf, names[i].name);
	}
	return buf;
}

/* Why a leg has no heartbeat although one was configured: "why; what to do". */
static void
report_no_heartbeats(const struct heartbeats *b, const struct leg_heartbeats *l, const struct entry *e)
{
	const char *protocol = b->route->protocol, *side = side_name(l->side);
	bool for_both = e->side < 0;

	if (b->route->codec == NULL)
		errors_add(b->errors, e->line, "%s: protocol = %s has no heartbeats; name the protocol, such as "
		    "protocol = websocket, or remove this: TCP probes do not need it", e->name, protocol);
	else if (b->takes_texts)
		errors_add(b->errors, e->line, "%s: protocol = %s has no heartbeat without a text; write %s.heartbeat_send",
		    e->name, protocol, for_both ? "client.heartbeat_send or backend" : side);
	else if (for_both)
		errors_add(b->errors, e->line, "%s: protocol = %s has no heartbeats; remove this", e->name, protocol);
	else
		errors_add(b->errors, e->line, "%s: protocol = %s has no heartbeats toward the %s; remove this",
		    e->name, protocol, side);
}

/* True when a leg whose protocol has no heartbeat toward it is an error. */
static bool
must_report(const struct heartbeats *b, const struct leg_heartbeats *l, const struct entry *e, bool is_own)
{
	const struct leg_heartbeats *other = &b->leg[side_other(l->side)];

	if (!is_own)
		return false;
	/* A key for both legs: wrong only when neither has heartbeats, and reported once. */
	return e->side >= 0 || (other->kinds == 0 && l->side == CLIENT);
}

/* The kind: limits what the protocol has to what the settings name. */
static void
resolve_kind(struct heartbeats *b, struct leg_heartbeats *l)
{
	struct leg_settings *leg = &b->route->leg[l->side];
	char kinds[KINDS_TEXT_MAX];

	if (leg->heartbeat_kind != 0 && l->kinds == 0) {
		if (must_report(b, l, l->kind, l->own_kind))
			report_no_heartbeats(b, l, l->kind);
		leg->heartbeat_kind = 0;
	} else if (leg->heartbeat_kind != 0 && (leg->heartbeat_kind & l->kinds) == 0) {
		if (l->own_kind && b->takes_texts)
			errors_add(b->errors, l->kind->line, "%s: protocol = %s has \"ping\" with %s.heartbeat_expect, and \"oneway\" "
			    "without; remove this", l->kind->name, b->route->protocol, side_name(l->side));
		else if (l->own_kind)
			errors_add(b->errors, l->kind->line, "%s: protocol = %s has no \"%s\" toward the %s; write "
			    "%s.heartbeat_kind = %s", l->kind->name, b->route->protocol, l->kind->text,
			    side_name(l->side), side_name(l->side), kinds_text(l->kinds, kinds));
		leg->heartbeat_kind = 0;
	}
	l->usable = l->kinds;
	if (leg->heartbeat_kind != 0)
		l->usable = leg->heartbeat_kind;
	else if (!b->may_be_any && !b->takes_texts && l->kinds != 0)
		l->usable = b->route->codec->leg[l->side].kind;	/* 0: opt-in */
}

/* An opt-in kind has no interval of its own: the other leg's suits the protocol. */
static int64_t
auto_interval(const struct heartbeats *b, enum side side)
{
	const struct codec *c = b->route->codec;

	return c->leg[side].interval_ms != 0 ? c->leg[side].interval_ms : c->leg[side_other(side)].interval_ms;
}

/* Details of a heartbeat that the leg's protocol does not have; "off" and "auto" are harmless. */
static void
check_details(const struct heartbeats *b, const struct leg_heartbeats *l, const struct parsed *d, const struct section *s)
{
	const bool sets_misses = b->route->leg[l->side].heartbeat_misses > 0;
	const char *const names[] = { "heartbeat_timeout", "heartbeat_limit", sets_misses ? "heartbeat_misses" : NULL };

	for (size_t i = 0; i < 3 && names[i] != NULL; i++) {
		const struct entry *e = decides(d, s, names[i], l->side);

		if (l->kinds == 0 && must_report(b, l, e, section_owns(s, e)))
			report_no_heartbeats(b, l, e);
	}
}

/* The interval, once it is known which kinds are left. */
static void
resolve_interval(struct heartbeats *b, struct leg_heartbeats *l)
{
	struct leg_settings *leg = &b->route->leg[l->side];
	bool is_wanted = leg->heartbeat_ms != 0, is_auto = leg->heartbeat_ms < 0;
	char kinds[KINDS_TEXT_MAX];

	if (is_auto) {
		leg->heartbeat_ms = l->usable != 0 ? auto_interval(b, l->side) : 0;
		leg->heartbeat_is_auto = b->may_be_any;
		if (leg->heartbeat_ms == 0 && leg->heartbeat_kind != 0 && l->own_kind && !b->may_be_any)
			errors_add(b->errors, l->kind->line, "%s: this kind has no default interval; write also "
			    "%s.heartbeat = 25s", l->kind->name, side_name(l->side));
	} else if (is_wanted && l->usable == 0) {
		if (l->kinds == 0 && must_report(b, l, l->heartbeat, l->own_heartbeat))
			report_no_heartbeats(b, l, l->heartbeat);
		else if (l->kinds != 0 && l->own_heartbeat && l->heartbeat->side >= 0)
			errors_add(b->errors, l->heartbeat->line, "%s: with protocol = %s heartbeats to the %s are opt-in; write "
			    "also %s.heartbeat_kind = %s", l->heartbeat->name, b->route->protocol,
			    side_name(l->side), side_name(l->side), kinds_text(l->kinds, kinds));
		leg->heartbeat_ms = 0;
	}
}

/* heartbeat_send and heartbeat_expect belong to protocol = line, and the second needs the first. */
static void
check_lines(struct heartbeats *b, const struct section *s)
{
	for (int side = CLIENT; side <= BACKEND; side++) {
		const struct leg_heartbeats *l = &b->leg[side];
		const struct entry *texts[] = { l->send, l->expect };

		for (size_t i = 0; i < 2; i++)
			if (!b->takes_texts && section_owns(s, texts[i]) && !texts[i]->is_guess && (texts[i]->side >= 0 || side == CLIENT))
				errors_add(b->errors, texts[i]->line, "%s: only protocol = %s takes such a text; "
				    "remove this", texts[i]->name,
				    name_with(CODEC_TAKES_TEXTS));
		if (b->takes_texts && l->expect != NULL && l->send == NULL && section_owns(s, l->expect))
			errors_add(b->errors, l->expect->line, "%s: no heartbeat is sent, so no reply can come; write %s.heartbeat_send",
			    l->expect->name, side_name(l->side));
	}
}

/* protocol = line needs a text, unless heartbeats are off. */
static void
check_line_route(struct heartbeats *b, const struct parsed *d, const struct section *s)
{
	const struct entry *e = parsed_decides(d, s, key_find("protocol", SCOPE_ROUTE), CLIENT);

	if (!b->takes_texts || b->leg[CLIENT].send != NULL || b->leg[BACKEND].send != NULL)
		return;
	if (b->route->leg[CLIENT].heartbeat_ms >= 0 && b->route->leg[BACKEND].heartbeat_ms >= 0)
		return;		/* both off, or resolve_interval() has the error */
	errors_add(b->errors, e->line, "%s: \"%s\" needs a text to send; write client.heartbeat_send or "
	    "backend.heartbeat_send, or heartbeat = off", e->name, b->route->protocol);
}

/* Whether heartbeats stay out of a transaction by default. */
static bool
has_transactions(const struct heartbeats *b)
{
	return b->may_be_any || has_trait(b, CODEC_HAS_TRANSACTIONS);
}

static void
check_transaction(struct heartbeats *b, const struct parsed *d, const struct section *s)
{
	const struct entry *e = decides(d, s, "heartbeat_in_transaction", BACKEND);

	if (!b->route->codec_settings.in_transaction || has_transactions(b) || !section_owns(s, e))
		return;
	if (b->route->codec == NULL)
		report_no_heartbeats(b, &b->leg[BACKEND], e);
	else
		errors_add(b->errors, e->line, "%s: with protocol = %s heartbeats do not depend on transactions; remove this",
		    e->name, b->route->protocol);
}

/* Packets per hour: one and its acknowledgement after each period. */
static int64_t
packets_an_hour(int64_t period_ms)
{
	return INT64_C(2) * 3600 * 1000 / period_ms;
}

/* Periods for tests, or with the wrong unit: they work, but cost many packets. */
static void
warn_of_haste(const struct heartbeats *b, const struct leg_heartbeats *l, const struct parsed *d, const struct section *s)
{
	const struct leg_settings *leg = &b->route->leg[l->side];
	const struct entry *timeout = decides(d, s, "heartbeat_timeout", l->side);
	const bool pings = (leg->heartbeat_kind != 0 ? leg->heartbeat_kind : l->kinds) & HEARTBEAT_PING;

	if (leg->heartbeat_ms > 0 && leg->heartbeat_ms < HASTY_MS && l->heartbeat != NULL)
		errors_warn(b->errors, l->heartbeat->line, "%s: with \"%s\" an idle flow costs at least %" PRId64 " packets per "
		    "hour on each such leg; write 1s or more, such as 25s", l->heartbeat->name, l->heartbeat->text,
		    packets_an_hour(leg->heartbeat_ms));
	if (leg->heartbeat_ms > 0 && pings && leg->heartbeat_timeout_ms < HASTY_MS && timeout != NULL)
		errors_warn(b->errors, timeout->line, "%s: with \"%s\" a peer that is slow or hangs is pinged again, which costs "
		    "up to %" PRId64 " packets per hour, and a busy one is considered dead; write 1s or more, such as 30s",
		    timeout->name, timeout->text, packets_an_hour(leg->heartbeat_timeout_ms));
}

/* True when there are event streams, or may be. */
static bool
has_events(const struct heartbeats *b)
{
	return b->may_be_any || has_trait(b, CODEC_HAS_COMMENTS);
}

/* heartbeat_text and heartbeat_at_start belong to event streams. */
static void
check_comments(struct heartbeats *b, const struct parsed *d, const struct section *s)
{
	const struct codec_settings *settings = &b->route->codec_settings;
	const char *const names[] = {
		settings->comment.len > 0 ? "heartbeat_text" : NULL, settings->comment_at_start ? "heartbeat_at_start" : NULL,
	};

	for (size_t i = 0; i < 2; i++) {
		const struct entry *e = names[i] != NULL ? decides(d, s, names[i], CLIENT) : NULL;

		if (e != NULL && !has_events(b) && section_owns(s, e))
			errors_add(b->errors, e->line, "%s: with protocol = %s there are no event streams; remove this, or write "
			    "protocol = %s", e->name, b->route->protocol, name_with(CODEC_HAS_COMMENTS));
	}
}

/* Drops what came from [defaults] and is not used here: in a printed file it would be an error. */
static void
drop_useless(struct heartbeats *b)
{
	struct codec_settings *settings = &b->route->codec_settings;

	if (!has_transactions(b))
		settings->in_transaction = false;
	if (!has_events(b)) {
		free(settings->comment.data);
		settings->comment = (struct codec_bytes){ 0 };
		settings->comment_at_start = false;
	}
	for (int side = CLIENT; side <= BACKEND; side++) {
		struct codec_bytes *texts[] = { &settings->heartbeat_send[side], &settings->heartbeat_expect[side] };

		for (size_t i = 0; i < 2; i++) {
			if (b->takes_texts && (i == 0 || settings->heartbeat_send[side].len > 0))
				continue;
			free(texts[i]->data);
			*texts[i] = (struct codec_bytes){ 0 };
		}
	}
}

void
resolve_heartbeats(struct route *r, struct parsed *d, const struct section *s)
{
	const struct entry *protocol = parsed_decides(d, s, key_find("protocol", SCOPE_ROUTE), CLIENT);
	struct heartbeats b;

	if (protocol != NULL && !protocol->is_good)
		return;		/* an error already */
	heartbeats_gather(&b, d, s, r);
	check_lines(&b, s);
	check_line_route(&b, d, s);
	check_transaction(&b, d, s);
	check_comments(&b, d, s);
	drop_useless(&b);
	for (int side = CLIENT; side <= BACKEND; side++) {
		struct leg_settings *leg = &r->leg[side];

		if (leg->heartbeat_ms != 0) {
			check_details(&b, &b.leg[side], d, s);
			resolve_kind(&b, &b.leg[side]);
			resolve_interval(&b, &b.leg[side]);
		}
		assert(leg->heartbeat_ms >= 0);	/* auto is resolved */
		assert((leg->heartbeat_kind & ~(unsigned)ANY_KIND) == 0);
		warn_of_haste(&b, &b.leg[side], d, s);
		r->codec_settings.heartbeats[side] = leg->heartbeat_ms > 0 || leg->heartbeat_is_auto;
		r->codec_settings.kind[side] = leg->heartbeat_kind;
	}
}
