/*
 * cli.h - the command line: a table of commands, each one function in a file
 * of its own (src/cli/NAME.c).
 */
#ifndef STENT_CLI_H
#define STENT_CLI_H

#include <stdbool.h>
#include <stdio.h>

#define CLI_CONFIG_PATH "/etc/stent.ini"	/* where -c is not given */

/* What a command returns: the exit status. */
enum cli_status {
	CLI_DONE = 0,
	CLI_FAILED = 1,		/* at its work */
	CLI_WRONG = 2,		/* the call or the settings file is wrong */
};

struct command {
	const char *name;
	const char *args;	/* "[-c FILE]" */
	const char *summary;	/* a few words for the list of commands */
	const char *help;	/* whole lines of at most 79 columns, ended by a newline; NULL: the summary says all */
	int (*run)(int argc, char **argv);	/* argv[0] is the command's name; returns the exit status */
};

/* The table ends with a command without name. */
extern const struct command commands[];

/* Runs the command that argv[1] names. Returns the exit status. */
int cli_main(int argc, char **argv);

/* An option of a command. Exactly one of value and flag is set. */
struct cli_option {
	const char *name;	/* "--config" */
	const char *alias;	/* "-c", or NULL */
	const char **value;	/* it takes a value: "-c FILE", "--config FILE", "--config=FILE" */
	bool *flag;		/* it takes none */
};

/*
 * Reads the options, ended by one without name, and moves the other words to
 * argv[1] and on. Returns how many these are, or -EINVAL when an option is
 * wrong or there are more than max_words (told on stderr): return CLI_WRONG then.
 */
int cli_options(int argc, char **argv, const struct cli_option *options, int max_words);

/* A line on stderr, which may quote words and files: what in it is not fit to be shown is escaped. */
void cli_tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "stent COMMAND ARGS", and what it does. */
void cli_print_help(const struct command *c, FILE *out);

int cli_run(int argc, char **argv);
int cli_relay(int argc, char **argv);
int cli_demo(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_drain(int argc, char **argv);
int cli_healthcheck(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_kill(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_top(int argc, char **argv);

#endif
