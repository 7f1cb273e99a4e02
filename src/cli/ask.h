/* ask.h - what the commands that talk to a running stent have in common. */
#ifndef STENT_CLI_ASK_H
#define STENT_CLI_ASK_H

#include <jansson.h>
#include <stddef.h>

/* How the control socket is named on the command line; both NULL: the default. */
struct ask_where {
	const char *config;	/* -c FILE: its setting `control` */
	const char *control;	/* --control PATH */
};

#define ASK_OPTIONS(where) \
	{ "--config", "-c", &(where).config, NULL }, \
	{ "--control", NULL, &(where).control, NULL }

#define ASK_HELP \
	"  -c, --config FILE   find the control socket by this settings file\n" \
	"                      (default " CLI_CONFIG_PATH ")\n" \
	"  --control PATH      or name the socket itself\n"

#define ASK_WHY_MAX 256

/*
 * Finds the control socket's path; the caller's (free()). NULL: there is
 * none, and stderr tells why.
 */
char *ask_find(const char *command, const struct ask_where *where);

/*
 * Sends one request and reads the answer; waits a few seconds at most. The
 * caller's (json_decref()). NULL, with the reason in why, when nobody replies
 * or the answer is an error.
 */
json_t *ask_try(const char *path, const char *request, char why[ASK_WHY_MAX]);

/* Both in one; stderr tells what failed. *status: the exit status then. */
json_t *ask(const char *command, const struct ask_where *where, const char *request, int *status);

#endif
