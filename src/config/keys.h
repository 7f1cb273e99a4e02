/*
 * keys.h - the table of keys: every setting, once. The reader, the printer, the
 * help, the reference in docs/settings.md and the man page are made from it.
 */
#ifndef STENT_CONFIG_KEYS_H
#define STENT_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/errors.h"
#include "stent/config.h"
#include "stent/nearest.h"
#include "stent/side.h"

enum scope {
	SCOPE_PROCESS,		/* [stent] */
	SCOPE_ROUTE,		/* [route NAME] and [defaults] */
	SCOPE_LEG,		/* there too, as KEY, client.KEY, backend.KEY */
};

enum { CLIENT_LEG = 1 << CLIENT, BACKEND_LEG = 1 << BACKEND, BOTH_LEGS = CLIENT_LEG | BACKEND_LEG };

/* Where a value stands, and where its errors go. */
struct spot {
	struct errors *errors;	/* NULL: it was checked before */
	int line;
	const char *name;	/* the key as written: "client.keepalive" */
};

/* Adds "NAME: what is wrong; what to do". Returns -EINVAL. In value.c. */
int spot_error(const struct spot *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct key;

/* A kind of value. Fields start zeroed; what they own is freed with the settings. */
struct type {
	const char *form;	/* for the help; NULL: made from the words */
	/* 0, -EINVAL (the spot has the error) or -ENOMEM; writes the field only on success. */
	int (*parse)(const struct key *k, void *field, const char *text, const struct spot *spot);
	void (*print)(const struct key *k, const void *field, FILE *out);
	bool (*is_unset)(const void *field);	/* NULL: it always has a value */
	bool is_secret;		/* a char *: never printed, and @FILE is read; see expand.h */
};

struct word {
	const char *name;
	int64_t value;
};

struct key {
	const char *name;
	enum scope scope;
	unsigned legs;			/* SCOPE_LEG: those that have it */
	const struct type *type;
	size_t offset, stride;		/* of the field in struct config or struct route; times the side */
	int64_t min, max;		/* of a number */
	const struct word *words;	/* words that stand for numbers, ended by one without name; or NULL */
	bool needs_restart;		/* a reload does not change it */
	const char *def;		/* as written; NULL: none */
	const char *help;		/* a sentence or two, without its full stop */
};

/* The table ends with a key without name. */
extern const struct key keys[];

static inline bool
key_is_in(const struct key *k, enum scope section)
{
	return section == SCOPE_PROCESS ? k->scope == SCOPE_PROCESS : k->scope != SCOPE_PROCESS;
}

static inline bool
key_has_leg(const struct key *k, enum side side)
{
	return k->scope != SCOPE_LEG ? side == CLIENT : (k->legs & 1U << side) != 0;
}

#define KEY_NAME_MAX 48
#define KEY_FORM_MAX 96

/* A name may stand for one key in [stent], and for another in a route. */
const struct key *key_find(const char *name, enum scope section);
/* The key of that leg. */
const struct key *key_find_leg(const char *name, enum side side);
/* True: it is always written with a leg's name before it, as the other leg's key of that name is another one. */
bool key_needs_leg(const struct key *k);

/*
 * Reads a name as it may stand in [stent] (SCOPE_PROCESS) or in a route: with a leg's name before it or
 * not. *side: that leg, -1 for both. NULL: not in such a section.
 */
const struct key *key_read(const char *written, enum scope section, int *side);
/* The name as it would be written for a side; -1: for both. Returns buf. */
const char *key_text(const struct key *k, int side, char buf[KEY_NAME_MAX]);
/* What may be written as its value: "auto | off | DURATION". Returns buf. */
const char *key_form(const struct key *k, char buf[KEY_FORM_MAX]);
/*
 * What was probably meant by a wrong name, among the keys of [stent], those of
 * a route, or all: a name, or two as `this" or "that`, to be put in quotes.
 * Returns buf, or NULL.
 */
#define MEANT_MAX (2 * KEY_NAME_MAX + 8)
const char *key_meant(const char *wrong, bool of_process, bool of_route, char buf[MEANT_MAX]);

/* The field of a key in a config (SCOPE_PROCESS) or a route. */
void *key_field(const struct key *k, void *base, enum side side);

/* The types, in value.c (numbers and words) and text.c (addresses, paths, bytes). */
extern const struct type type_duration, type_heartbeat, type_count, type_word, type_flag, type_keepalive, type_mode;
extern const struct type type_log, type_path, type_admin, type_token, type_hosts, type_user, type_listen, type_backend;
extern const struct type type_health;	/* health.c */
extern const struct type type_exec, type_events;	/* on_event.c */
extern const struct type type_protocol, type_bytes, type_line, type_comment;
extern const struct type type_networks, type_rate;	/* limits.c */
extern const struct type type_proxy_from;	/* proxy_rules.c */
void proxy_from_clear(struct proxy_from *from);
extern const struct type type_profile;	/* profiles.c */
/* In tls_values.c. */
extern const struct type type_file, type_server_name, type_choice;

#endif
