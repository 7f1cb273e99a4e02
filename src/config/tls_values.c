/* tls_values.c - the types of values that TLS needs: files, a server's name, a choice of two words. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/quote.h"
#include "stent/utf8.h"

/* The only word that such a key takes besides a text; it means that there is none. */
static const char *
no_text(const struct key *k)
{
	return k->words[0].name;
}

/* --- a file --- */

/* A path has a slash, so that a mistyped word is not taken for a file. */
static int
check_file(const struct key *k, const char *path, const struct spot *spot)
{
	struct nearest n;

	if (strchr(path, '/') != NULL)
		return 0;
	nearest_start(&n, path);
	nearest_offer(&n, no_text(k));
	if (nearest_best(&n) != NULL)
		return spot_error(spot, "\"%s\" is neither %s nor a path; did you mean \"%s\"?", path, no_text(k), no_text(k));
	return spot_error(spot, "\"%s\" is not a path; write one such as /etc/stent/%s, or %s", path, path, no_text(k));
}

static int
parse_file(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	char *path = NULL;
	int r;

	if (strcmp(text, no_text(k)) == 0)
		return 0;
	r = quote_read(&path, text, spot);
	if (r == 0)
		r = check_file(k, path, spot);
	if (r == 0)
		*(char **)field = path;
	else
		free(path);
	return r;
}

static void
print_file(const struct key *k, const void *field, FILE *out)
{
	const char *path = *(char *const *)field;

	if (path != NULL)
		quote_print_path(path, out);
	else
		fputs(no_text(k), out);
}

const struct type type_file = { .form = "FILE", .parse = parse_file, .print = print_file };

/* --- the name of a server --- */

static int
parse_name(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct in6_addr ip;
	const bool is_ip = inet_pton(AF_INET, text, &ip) == 1 || inet_pton(AF_INET6, text, &ip) == 1;
	char *copy;

	if (strcmp(text, no_text(k)) == 0)
		return 0;
	if (!is_ip && !endpoint_is_name(text))
		return spot_error(spot, "\"%s\" is not a host name; write one of the names in the server's certificate, "
		    "such as db1.example, without a port", text);
	copy = strdup(text);
	if (copy == NULL)
		return -ENOMEM;
	*(char **)field = copy;
	return 0;
}

static void
print_name(const struct key *k, const void *field, FILE *out)
{
	const char *name = *(char *const *)field;

	utf8_print(name != NULL ? name : no_text(k), out);
}

const struct type type_server_name = { .form = "NAME", .parse = parse_name, .print = print_name };

/* --- one of two words --- */

static int
parse_choice(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	unsigned value = 0;
	const int r = type_word.parse(k, &value, text, spot);

	if (r == 0)
		*(bool *)field = value != 0;
	return r;
}

static void
print_choice(const struct key *k, const void *field, FILE *out)
{
	const unsigned value = *(const bool *)field;

	type_word.print(k, &value, out);
}

const struct type type_choice = { .parse = parse_choice, .print = print_choice };
