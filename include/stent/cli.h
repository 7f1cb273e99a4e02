/*
 * cli.h - the command line: a table of commands, each one function in a file
 * of its own (src/cli/NAME.c).
 */
#ifndef STENT_CLI_H
#define STENT_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "stent/redirect.h"

/* What a command returns: its exit status. */
enum cli_status {
	CLI_DONE = 0,
	CLI_FAILED = 1,		/* the command failed */
	CLI_WRONG = 2,		/* the call or the settings file is wrong */
};

/* The options of a call; its other words are in argv. */
struct cli_values {
	/* NULL: not given */
	const char *config, *control, *sort, *format, *route, *kind, *duration, *client, *backend, *protocol, *idle_over, *reason;
	const char *max, *send, *expect, *path, *listen;
	bool ready, json, now, once, web, dry_run, explain, quick;
	struct redirect_words redirect;
};

/* An option of a command: how it is read, and what help, man page and completion show. */
struct cli_option {
	const char *name;		/* "--config" */
	const char *alias;		/* "-c", or NULL */
	const char *value;		/* the name of its value, "FILE": "-c FILE", "--config=FILE"; NULL: it takes none */
	const char *const *words;	/* the allowed values, ended by NULL; NULL: any */
	size_t offset;			/* in struct cli_values: of a string, or of a bool when it takes no value */
	const char *help;
};

struct command {
	const char *name;
	const char *words;	/* its usage but for the options: "ID"; "" for none */
	const char *summary;	/* a few words for the list of commands */
	const char *help;	/* lines of at most 79 columns, each ended by a newline, two blanks before an example; or NULL */
	const struct cli_option *options;	/* ended by one without name; NULL: none listed */
	int (*run)(int argc, char **argv);	/* argv[0] is the command's name; returns the exit status */
};

/* The table ends with a command without name. */
extern const struct command commands[];

/* The orders of `stent top`, ended by NULL; the first is the default. */
extern const char *const top_orders[];

/* What `stent redirect --mode` takes, ended by NULL; the first is the default. */
extern const char *const redirect_modes[];

/* What `stent help --format` takes, ended by NULL; the first is the default. */
extern const char *const help_formats[];

/* Runs the command that argv[1] names. Returns the exit status. */
int cli_main(int argc, char **argv);

/*
 * Reads the options of the command argv[0] and moves the other words to
 * argv[1] and on. Returns how many these are, or -EINVAL when an option is
 * wrong or there are more than max_words (the error is on stderr): return CLI_WRONG then.
 */
int cli_options(int argc, char **argv, int max_words, struct cli_values *values);

/* The index of a word in a list that ends with NULL; that of the NULL when it is not there. */
size_t cli_word_at(const char *const *words, const char *word);

/* NULL: there is no such command. */
const struct command *cli_find(const char *name);

/* A line on stderr. Bytes that are not printable are escaped. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "stent COMMAND ARGS", and what it does. */
void cli_print_help(const struct command *c, FILE *out);

int cli_run(int argc, char **argv);
int cli_relay(int argc, char **argv);
int cli_demo(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_drain(int argc, char **argv);
int cli_events(int argc, char **argv);
int cli_flows(int argc, char **argv);
int cli_pause(int argc, char **argv);
int cli_redirect(int argc, char **argv);
int cli_reload(int argc, char **argv);
int cli_resume(int argc, char **argv);
int cli_healthcheck(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_kill(int argc, char **argv);
int cli_log(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_top(int argc, char **argv);

#endif
