/*
 * errors.h - every error of a settings file, gathered and told in one go.
 */
#ifndef STENT_CONFIG_ERRORS_H
#define STENT_CONFIG_ERRORS_H

#include <stddef.h>
#include <stdio.h>

struct error {
	int line;
	size_t order;
	char *text;
};

/* A line is one of a file; or the index of a word, where the settings came from the command line. */
struct errors {
	const char *path;		/* of the file, or the command's name */
	const char *const *words;	/* NULL: lines of the file */
	struct error *list;
	size_t n;
	int failed;			/* -ENOMEM: an error could not be kept */
};

#define PLACE_MAX 64

/* Adds "what is wrong; what to do". Does not stop anything: returns -EINVAL for the caller's use. */
int errors_add(struct errors *e, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "line 12" or the word of the command line, to point at another place in an error. Returns buf. */
const char *errors_place(const struct errors *e, int line, char buf[PLACE_MAX]);

/* Prints them in the order of their lines and forgets them. 0 when there were none, else -EINVAL or -ENOMEM. */
int errors_tell(struct errors *e, FILE *out);

#endif
