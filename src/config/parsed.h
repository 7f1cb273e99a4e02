/*
 * parsed.h - the settings as they were written: sections, and in them entries
 * whose keys are known and whose values were checked, not yet interpreted.
 */
#ifndef STENT_CONFIG_PARSED_H
#define STENT_CONFIG_PARSED_H

#include <stdbool.h>
#include <stddef.h>

#include "config/errors.h"
#include "config/keys.h"

struct entry {
	const struct key *key;
	int side;		/* -1: written without a leg's name */
	char *name;		/* as written */
	char *text;
	int line;
	bool is_good;		/* its value can be read */
	bool is_guess;		/* its name was mistyped: the key is what was probably meant */
};

enum section_kind { SECTION_STENT, SECTION_DEFAULTS, SECTION_ROUTE };

struct section {
	enum section_kind kind;
	char *name;		/* of a route */
	int line;
	bool is_faulty;		/* its head has an error: its keys are checked, it is not */
	bool is_spoiled;	/* a line in it could not be read: keys may be missing */
	struct entry *entries;
	size_t n;
};

struct parsed {
	struct errors errors;
	struct section *sections;
	size_t n;
	size_t single[2];	/* index + 1 of [stent] and of [defaults]; 0: not there */
	int last_line;
	bool is_spoiled;	/* a line before any section could not be read */
	bool is_environment;	/* they are the text of CONFIG_ENV */
};

/*
 * Adds a section by the text between [ and ]. Errors go to d->errors; the section
 * is added anyway, so that its keys can be checked. 0 or -ENOMEM.
 */
int parsed_open(struct parsed *d, char *head, int line);
/* Adds a key and its value to the last section. Errors go to d->errors. 0 or -ENOMEM. */
int parsed_add(struct parsed *d, const char *name, const char *text, int line);
/* A line at this place cannot be read. */
void parsed_spoil(struct parsed *d);
/* As parsed_add() for a key that was found, in a certain section. */
int parsed_put(struct parsed *d, struct section *s, const struct key *k, int side, const char *name,
    const char *text, int line);

/* [stent] or [defaults]; NULL: not there. */
struct section *parsed_single(const struct parsed *d, enum section_kind kind);
/* The entry that decides a key of the process. NULL: the default does. */
const struct entry *parsed_decides_process(const struct parsed *d, const struct key *k);
/*
 * The entry that decides a key of a route for a side: the route's own section
 * before [defaults], and in each the leg's own key before the key for both. NULL: the default does.
 */
const struct entry *parsed_decides(const struct parsed *d, const struct section *route,
    const struct key *k, enum side side);
/* True when the entry stands in that section. */
bool section_owns(const struct section *s, const struct entry *e);
/*
 * The good entry of a key of a route in the route's own section, with the key for both sides or the client's. NULL: there is none,
 * or [defaults] decides, which is for all routes.
 */
const struct entry *parsed_own(const struct parsed *d, const struct section *route, const char *key);

void parsed_clear(struct parsed *d);

#endif
