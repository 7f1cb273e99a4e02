/*
 * args.c - one route from the command line, without a file.
 *
 * The arguments become a [stent] and a [route relay] section, so all checks of
 * a file apply to them too. Where an error of a file names a line, an error
 * here names the argument: a "line" is its index.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/make.h"

enum { WORD_LISTEN, WORD_BACKEND, WORD_OPTIONS };

static int
add_unknown(struct parsed *d, const char *name, int word)
{
	static const char between[] = "\" or \"";	/* the two names that key_meant() may give */
	char meant[MEANT_MAX];
	const char *second;

	if (key_meant(name, true, true, meant) != NULL) {
		second = strstr(meant, between);
		errors_add(&d->errors, word, "unknown option \"--%s\"; did you mean \"--%.*s%s%s\"?", name,
		    second != NULL ? (int)(second - meant) : (int)strlen(meant), meant, second != NULL ? "\" or \"--" : "",
		    second != NULL ? second + strlen(between) : "");
	} else {
		errors_add(&d->errors, word, "unknown option \"--%s\"; `stent help keys` lists them all", name);
	}
	return 0;
}

/* option is "--key=value"; name is a buffer for "--key", which errors show. */
static int
add_option(struct parsed *d, char *name, const char *option, int word)
{
	const char *equals = strchr(option, '=');
	const struct key *k;
	int side;

	if (strncmp(option, "--", 2) != 0 || equals == NULL) {
		errors_add(&d->errors, word, "unexpected argument \"%s\"; write --KEY=VALUE", option);
		return 0;
	}
	memcpy(name, option, (size_t)(equals - option));
	name[equals - option] = '\0';
	k = key_read(name + 2, SCOPE_PROCESS, &side);	/* max_flows: with one route, that of the process says it all */
	if (k == NULL)
		k = key_read(name + 2, SCOPE_ROUTE, &side);
	if (k == NULL)
		return add_unknown(d, name + 2, word);
	return parsed_put(d, &d->sections[k->scope == SCOPE_PROCESS ? SECTION_STENT : 1], k, side, name,
	    equals + 1, word);
}

static int
add_words(struct parsed *d, char **names, const char *listen, const char *backend,
    char *const options[], size_t n)
{
	char stent[] = "stent", route[] = "route relay";
	int r = parsed_open(d, stent, 0);

	if (r == 0)
		r = parsed_open(d, route, 0);
	if (r == 0)
		r = parsed_put(d, &d->sections[1], key_find("listen", SCOPE_ROUTE), -1, "LISTEN", listen, WORD_LISTEN);
	if (r == 0)
		r = parsed_put(d, &d->sections[1], key_find("backend", SCOPE_ROUTE), -1, "BACKEND", backend, WORD_BACKEND);
	for (size_t i = 0; i < n && r == 0; i++) {
		names[WORD_OPTIONS + i] = strdup(options[i]);
		if (names[WORD_OPTIONS + i] == NULL)
			return -ENOMEM;
		r = add_option(d, names[WORD_OPTIONS + i], options[i], WORD_OPTIONS + (int)i);
	}
	return r;
}

int
config_from_args(struct config **ret, const char *listen, const char *backend, char *const options[],
    size_t n_options, FILE *errors)
{
	char **names = calloc(WORD_OPTIONS + n_options, sizeof(*names));
	struct parsed d = { .errors.path = "stent relay", .errors.words = (const char *const *)names };
	int r = -ENOMEM;

	if (names != NULL) {
		names[WORD_LISTEN] = strdup("LISTEN");
		names[WORD_BACKEND] = strdup("BACKEND");
	}
	if (names != NULL && names[WORD_LISTEN] != NULL && names[WORD_BACKEND] != NULL)
		r = add_words(&d, names, listen, backend, options, n_options);
	if (r == 0) {
		r = config_make(ret, &d, errors);
	} else {
		fprintf(errors, "stent relay: not enough memory to read the settings\n");
		parsed_clear(&d);
	}
	for (size_t i = 0; names != NULL && i < WORD_OPTIONS + n_options; i++)
		free(names[i]);
	free(names);
	return r;
}
