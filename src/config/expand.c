/*
 * expand.c - what a value is written with: environment variables, and @FILE
 * for a secret.
 *
 * It happens to the text of a value, before its key reads it: so a variable
 * cannot add a line, a key or a comment.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/expand.h"
#include "stent/confined.h"

#define SECRET_BYTES 4096

/* A reference: ${NAME} or ${NAME:-DEFAULT}. */
struct reference {
	const char *name, *fallback;	/* fallback NULL: none */
	size_t name_len, fallback_len;
};

static bool
is_name(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	return len > 0 && !isdigit((unsigned char)name[0]);
}

/* text is after "${". Returns what follows the }, or NULL: the spot has the error, which shows no part of a secret. */
static const char *
read_reference(struct reference *r, const char *text, bool is_secret, const struct spot *spot)
{
	const char *end = strchr(text, '}');
	size_t len;

	if (end == NULL) {
		(void)spot_error(spot, "\"${%.60s\" has no closing }; write ${NAME}, or $${ for the characters ${", is_secret ? "..." : text);
		return NULL;
	}
	len = strcspn(text, ":}");
	*r = (struct reference){ .name = text, .name_len = len };
	if (strncmp(text + len, ":-", 2) == 0) {
		r->fallback = text + len + 2;
		r->fallback_len = (size_t)(end - r->fallback);
	}
	if (!is_name(text, len) || (text[len] != '}' && r->fallback == NULL)) {
		(void)spot_error(spot, "\"${%.*s}\" is not a variable of the environment; write ${NAME} or ${NAME:-DEFAULT}, or $${ for the "
		    "characters ${", is_secret ? 3 : (int)(end - text), is_secret ? "..." : text);
		return NULL;
	}
	if (r->fallback != NULL && memmem(r->fallback, r->fallback_len, "${", 2) != NULL) {
		(void)spot_error(spot, "the default of ${%.*s} has a variable in it; write a text without one", (int)len, text);
		return NULL;
	}
	return end + 1;
}

/* Writes the value of a variable. As in a shell, :- also replaces one that is empty. */
static int
write_reference(const struct reference *r, FILE *out, const struct spot *spot)
{
	char name[128];
	const char *value;

	snprintf(name, sizeof(name), "%.*s", (int)r->name_len, r->name);
	value = r->name_len < sizeof(name) ? getenv(name) : NULL;
	if (r->fallback != NULL && (value == NULL || *value == '\0')) {
		fprintf(out, "%.*s", (int)r->fallback_len, r->fallback);
		return 0;
	}
	if (value == NULL)
		return spot_error(spot, "the environment variable %s is not set; set it, or write ${%s:-DEFAULT}", name, name);
	if (*value == '\0')
		return spot_error(spot, "the environment variable %s is empty; give it a value, or write ${%s:-DEFAULT}", name, name);
	for (const char *p = value; *p != '\0'; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return spot_error(spot, "the environment variable %s has a control byte 0x%02x in it; remove it (a line break: give the "
			    "variable one line)", name, (unsigned char)*p);
	fputs(value, out);
	return 0;
}

static int
write_expanded(const char *text, bool is_secret, FILE *out, const struct spot *spot)
{
	struct reference ref;
	const char *p;
	int r = 0;

	while (r == 0 && (p = strstr(text, "${")) != NULL) {
		if (p > text && p[-1] == '$') {		/* $${ */
			fprintf(out, "%.*s${", (int)(p - text) - 1, text);
			text = p + 2;
			continue;
		}
		fprintf(out, "%.*s", (int)(p - text), text);
		text = read_reference(&ref, p + 2, is_secret, spot);
		if (text == NULL)
			return -EINVAL;
		r = write_reference(&ref, out, spot);
	}
	if (r == 0)
		fputs(text, out);
	return r;
}

static int
cannot_read(const char *path, int err, const struct spot *spot)
{
	return spot_error(spot, "the file \"%s\" cannot be read: %s; write @ and the path of a file that holds the secret", path,
	    confined_error(err, path, R_OK));
}

/* Returns the number of bytes, at most size, or -EINVAL: the spot has the error. Opening or reading a pipe might never end. */
static ssize_t
read_file(const char *path, char *text, size_t size, const struct spot *spot)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t n, got = 0;
	int err;

	if (fd < 0)
		return cannot_read(path, errno, spot);
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		close(fd);
		return spot_error(spot, "\"%s\" is not a regular file; write @ and the path of a file that holds the secret", path);
	}
	while ((n = read(fd, text + got, size - (size_t)got)) > 0)
		got += n;
	err = errno;
	close(fd);
	return n < 0 ? cannot_read(path, err, spot) : got;
}

/* The first line of a file; it may have no other. */
static int
read_secret(char **ret, const char *path, const struct spot *spot)
{
	char text[SECRET_BYTES + 1];
	const ssize_t got = read_file(path, text, sizeof(text), spot);
	size_t n = got > 0 ? (size_t)got : 0;

	if (got < 0)
		return (int)got;
	if (spot->errors != NULL)
		errors_note_file(spot->errors, path);
	if (n > SECRET_BYTES)
		return spot_error(spot, "the file \"%s\" has more than %d bytes; it must hold the secret alone", path, SECRET_BYTES);
	n -= n > 0 && text[n - 1] == '\n';
	n -= n > 0 && text[n - 1] == '\r';
	if (n == 0)
		return spot_error(spot, "the file \"%s\" is empty; it must hold the secret", path);
	if (memchr(text, '\n', n) != NULL || memchr(text, '\0', n) != NULL)
		return spot_error(spot, "the file \"%s\" has several lines, or a NUL byte; it must hold the secret alone, on one line", path);
	*ret = strndup(text, n);
	return *ret != NULL ? 0 : -ENOMEM;
}

int
expand_value(char **ret, const struct key *k, const char *text, const struct spot *spot)
{
	char *expanded = NULL;
	size_t size;
	FILE *out = open_memstream(&expanded, &size);
	int r;

	if (out == NULL)
		return -ENOMEM;
	r = write_expanded(text, k->type->is_secret, out, spot);
	if (fclose(out) != 0 || expanded == NULL)	/* it may succeed without memory, and leave no text */
		r = -ENOMEM;
	if (r == 0 && k->type->is_secret && expanded[0] == '@')
		r = read_secret(ret, expanded + 1, spot);
	else if (r == 0) {
		*ret = expanded;
		return 0;
	}
	free(expanded);
	return r;
}
