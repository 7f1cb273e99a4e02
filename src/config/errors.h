/*
 * errors.h - every error of a settings file, collected and printed at once.
 */
#ifndef STENT_CONFIG_ERRORS_H
#define STENT_CONFIG_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct error {
	int line;
	size_t order;
	bool is_warning;		/* the settings can still be used */
	char *text;
};

/* A line is one of a file; or the index of a word, where the settings came from the command line. */
struct errors {
	const char *path;		/* of the file, or the command's name */
	const char *const *words;	/* NULL: lines of the file */
	struct error *list;
	size_t n;
	char **files;			/* that were read besides: their paths */
	size_t n_files;
	int failed;			/* -ENOMEM: an error could not be kept */
};

#define PLACE_MAX 64

/* Adds "what is wrong; what to do". Does not stop anything: returns -EINVAL for the caller's use. */
int errors_add(struct errors *e, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Adds a warning, "what costs or harms; what to do", unless that line has the same one already. */
void errors_warn(struct errors *e, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "line 12" or the word of the command line, to point at another place in an error. Returns buf. */
const char *errors_place(const struct errors *e, int line, char buf[PLACE_MAX]);

/*
 * Prints errors and warnings in the order of their lines and forgets them: -EINVAL or -ENOMEM. Where there are no errors
 * nothing is printed, and 0 is returned; then errors_take_warnings() has the warnings.
 */
int errors_print(struct errors *e, FILE *out);

/* The warnings as "FILE:LINE: what", *n of them; the caller frees each and the list. NULL: none, or out of memory. */
char **errors_take_warnings(struct errors *e, size_t *n);

/* Keeps the path of a file that a value was read from. */
void errors_note_file(struct errors *e, const char *path);
/* Those paths, *n of them; the caller frees each and the list. */
char **errors_take_files(struct errors *e, size_t *n);
void errors_clear_files(struct errors *e);

#endif
