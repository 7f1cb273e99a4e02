/*
 * text.c - the types of values that are texts: places, paths, users,
 * protocols, bytes. Their fields own memory, freed with the settings.
 */

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "config/keys.h"
#include "config/quote.h"
#include "stent/utf8.h"

#define TOKEN_MIN 16
#define TOKEN_MAX 128

static int
set_text(char **field, const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		return -ENOMEM;
	*field = copy;
	return 0;
}

static void
print_text(const struct key *k, const void *field, FILE *out)
{
	const char *text = *(char *const *)field;

	(void)k;
	utf8_print(text != NULL ? text : "off", out);
}

static char *
trim(char *text)
{
	size_t len;

	text += strspn(text, " \t");
	for (len = strlen(text); len > 0 && strchr(" \t", text[len - 1]) != NULL; len--)
		;
	text[len] = '\0';
	return text;
}

/* --- log --- */

static int
parse_log(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct log_settings *log = field;

	(void)k;
	if (strcmp(text, "stderr") == 0) {
		log->target = TARGET_STDERR;
	} else if (strcmp(text, "syslog") == 0) {
		log->target = TARGET_SYSLOG;
	} else if (strncmp(text, "file:", 5) == 0) {
		if (text[5] == '\0')
			return spot_error(spot, "\"file:\" has no path; write one such as file:/var/log/stent.log");
		log->target = TARGET_FILE;
		return quote_read(&log->path, text + 5, spot);
	} else {
		return spot_error(spot, "\"%s\" is not a log target; write stderr, syslog or file:PATH", text);
	}
	return 0;
}

static void
print_log(const struct key *k, const void *field, FILE *out)
{
	const struct log_settings *log = field;

	(void)k;
	fputs(log->target == TARGET_FILE ? "file:" : log->target == TARGET_SYSLOG ? "syslog" : "stderr", out);
	if (log->target == TARGET_FILE)
		quote_print_path(log->path, out);
}

const struct type type_log = { .form = "stderr | syslog | file:PATH", .parse = parse_log, .print = print_log };

/* --- control, admin, user --- */

static int
check_path(const char *path, const struct spot *spot)
{
	static const char prefix[] = "unix:";	/* as a listener has it; here it would be a folder of this name */
	struct sockaddr_un un;

	if (strncmp(path, prefix, strlen(prefix)) == 0)
		return spot_error(spot, "\"%s\" begins with %s; write the path alone: %s", path, prefix, path + strlen(prefix));
	if (strchr(path, '/') == NULL)
		return spot_error(spot, "\"%s\" is not a path; write one such as " CONFIG_CONTROL_PATH ", or off", path);
	if (strlen(path) >= sizeof(un.sun_path))
		return spot_error(spot, "\"%s\" is too long; a socket's path has at most %zu bytes", path,
		    sizeof(un.sun_path) - 1);
	return 0;
}

static int
parse_path(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	char *path = NULL;
	int r;

	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	r = quote_read(&path, text, spot);
	if (r == 0)
		r = check_path(path, spot);
	if (r == 0)
		*(char **)field = path;
	else
		free(path);
	return r;
}

static void
print_path_or_off(const struct key *k, const void *field, FILE *out)
{
	const char *path = *(char *const *)field;

	(void)k;
	if (path != NULL)
		quote_print_path(path, out);
	else
		fputs("off", out);
}

const struct type type_path = { .form = "PATH", .parse = parse_path, .print = print_path_or_off };

static int
parse_admin(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct endpoint ep;
	const char *why;
	bool is_inet;
	int r;

	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	r = endpoint_parse(&ep, text, ENDPOINT_LISTEN, &why);
	if (r < 0)
		return r == -ENOMEM ? r : spot_error(spot, "\"%s\" %s", text, why);
	is_inet = ep.kind == ENDPOINT_ADDRESS || ep.kind == ENDPOINT_ANY;
	endpoint_clear(&ep);
	if (!is_inet)
		return spot_error(spot, "\"%s\" is not a TCP address; write one such as 127.0.0.1:9464, or off", text);
	return set_text(field, text);
}

const struct type type_admin = { .form = "ADDRESS:PORT", .parse = parse_admin, .print = print_text };

static int
parse_token(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	const size_t len = strlen(text);

	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	if (len < TOKEN_MIN || len > TOKEN_MAX)
		return spot_error(spot, "has %zu characters; write %d to %d, such as the output of openssl rand -hex 16", len,
		    TOKEN_MIN, TOKEN_MAX);
	for (const char *c = text; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && strchr("-._~+/=", *c) == NULL)
			return spot_error(spot, "contains a character that a Bearer token must not have; use letters, digits and - . _ ~ + / =");
	return set_text(field, text);
}

/* What is printed may end up in a log. */
static void
print_secret(const struct key *k, const void *field, FILE *out)
{
	(void)k;
	fputs(*(char *const *)field != NULL ? "(set, not shown)" : "off", out);
}

const struct type type_token = { .form = "TOKEN | @FILE", .parse = parse_token, .print = print_secret, .is_secret = true };

static int
check_host(const char *name, const struct spot *spot)
{
	if (*name == '\0')
		return spot_error(spot, "an item of the list is empty; write a name between the commas, or remove "
		    "one");
	if (strchr(name, ':') != NULL)
		return spot_error(spot, "\"%s\" is more than a host name; write it without http:// and port, such as db1.example", name);
	if (!endpoint_is_name(name))
		return spot_error(spot, "\"%s\" is not a host name; write letters, digits, - and dots, such as db1.example", name);
	return 0;
}

/* Normalized to "a, b". */
static int
parse_hosts(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	char *copy, *more, *one, *list;
	int r = 0;

	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	more = copy = strdup(text);
	list = calloc(2, strlen(text) + 1);	/* a blank after each comma */
	if (copy == NULL || list == NULL)
		r = -ENOMEM;
	while (r != -ENOMEM && (one = strsep(&more, ",")) != NULL) {
		one = trim(one);
		if (check_host(one, spot) < 0)
			r = -EINVAL;
		else if (one[strlen(one) - 1] == '.')
			one[strlen(one) - 1] = '\0';
		strcat(strcat(list, *list != '\0' ? ", " : ""), one);
	}
	free(copy);
	if (r == 0)
		*(char **)field = list;
	else
		free(list);
	return r;
}

const struct type type_hosts = { .form = "NAME, ...", .parse = parse_hosts, .print = print_text };

static int
parse_user(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	(void)k;
	if (strcmp(text, "off") == 0)
		return 0;
	/* The default is not checked: a machine without it need not start stent as root. */
	if (spot->errors != NULL && getpwnam(text) == NULL)
		return spot_error(spot, "unknown user \"%s\"; write a user of this machine, or off to "
		    "stay as started", text);
	return set_text(field, text);
}

const struct type type_user = { .form = "NAME", .parse = parse_user, .print = print_text };

/* --- listen, backend --- */

/* The length of "unix:" or "fd:" before a path or name; 0: it is an address. */
static size_t
prefix_len(const char *text)
{
	return strncmp(text, "unix:", 5) == 0 ? 5 : strncmp(text, "fd:", 3) == 0 ? 3 : 0;
}

/* The next item of a list separated by commas, or NULL. A comma in quotes does not separate. */
static char *
next_item(char **more)
{
	char *item = *more, *p;

	if (item == NULL)
		return NULL;
	item += strspn(item, " \t");
	p = item + prefix_len(item);
	if (p > item && *p == '"') {
		for (p++; *p != '\0' && *p != '"'; p++)
			p += *p == '\\' && p[1] != '\0';
	}
	p += strcspn(p, ",");
	*more = *p == ',' ? p + 1 : NULL;
	*p = '\0';
	return trim(item);
}

/* Without quotes and escapes: unix:"/a" is unix:/a. *ret is the caller's. */
static int
plain_endpoint(char **ret, const char *text, const struct spot *spot)
{
	const size_t len = prefix_len(text);
	char *path, *plain;
	int r = quote_read(&path, text + len, spot);

	if (r < 0)
		return r;
	plain = malloc(len + strlen(path) + 1);
	if (plain != NULL)
		strcpy((char *)memcpy(plain, text, len) + len, path);
	free(path);
	*ret = plain;
	return plain != NULL ? 0 : -ENOMEM;
}

static int
add_endpoint(struct endpoint **list, size_t *n, const char *text, enum endpoint_use use,
    const struct spot *spot)
{
	struct endpoint *grown = realloc(*list, (*n + 1) * sizeof(**list));
	const char *why;
	char *plain;
	int r;

	if (grown == NULL)
		return -ENOMEM;
	*list = grown;
	r = plain_endpoint(&plain, text, spot);
	if (r < 0)
		return r;
	r = endpoint_parse(&grown[*n], plain, use, &why);
	if (r == 0)
		(*n)++;
	else if (r != -ENOMEM)
		r = spot_error(spot, "\"%s\" %s", plain, why);
	free(plain);
	return r;
}

/* Reports every endpoint that is wrong, not only the first. */
static int
parse_endpoints(struct endpoint **list, size_t *n, const char *text, enum endpoint_use use,
    const struct spot *spot)
{
	char *copy = strdup(text), *more = copy, *one;
	bool has_original = false;
	int r = 0, one_r;

	if (copy == NULL)
		return -ENOMEM;
	while ((one = next_item(&more)) != NULL && r != -ENOMEM) {
		if (*one == '\0')
			one_r = spot_error(spot, "an item of the list is empty; "
			    "write HOST:PORT between the commas, or remove one");
		else
			one_r = add_endpoint(list, n, one, use, spot);
		if (one_r < 0)
			r = one_r;
	}
	for (size_t i = 0; i < *n; i++)
		has_original |= (*list)[i].kind == ENDPOINT_ORIGINAL;
	if (has_original && *n > 1)
		r = spot_error(spot, "\"original\" cannot be combined; remove the other backends");
	free(copy);
	return r;
}

static void
print_endpoints(const struct endpoint *list, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const size_t len = prefix_len(list[i].text);

		fprintf(out, "%s%.*s", i > 0 ? ", " : "", (int)len, list[i].text);
		if (len > 0)
			quote_print_path(list[i].text + len, out);
		else
			utf8_print(list[i].text, out);
	}
}

static int
parse_listen(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct route *r = (struct route *)(void *)((char *)field - offsetof(struct route, listen));

	(void)k;
	return parse_endpoints(&r->listen, &r->n_listen, text, ENDPOINT_LISTEN, spot);
}

static int
parse_backend(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct route *r = (struct route *)(void *)((char *)field - offsetof(struct route, backend));

	(void)k;
	return parse_endpoints(&r->backend, &r->n_backend, text, ENDPOINT_BACKEND, spot);
}

static void
print_listen(const struct key *k, const void *field, FILE *out)
{
	const struct route *r = (const struct route *)(const void *)
	    ((const char *)field - offsetof(struct route, listen));

	(void)k;
	print_endpoints(r->listen, r->n_listen, out);
}

static void
print_backend(const struct key *k, const void *field, FILE *out)
{
	const struct route *r = (const struct route *)(const void *)
	    ((const char *)field - offsetof(struct route, backend));

	(void)k;
	print_endpoints(r->backend, r->n_backend, out);
}

const struct type type_listen = {
	.form = "ADDRESS:PORT | :PORT | unix:PATH | fd:NAME, ...", .parse = parse_listen, .print = print_listen,
};
const struct type type_backend = {
	.form = "HOST:PORT | unix:PATH, ... | original", .parse = parse_backend, .print = print_backend,
};

/* --- protocol --- */

static int
parse_protocol(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	char known[256] = "tcp";
	size_t len = strlen(known);
	struct nearest n;

	(void)k;
	if (strcmp(text, "tcp") == 0 || codec_find(text) != NULL)
		return set_text(field, text);
	nearest_start(&n, text);
	nearest_offer(&n, "tcp");
	for (size_t i = 0; codec_at(i) != NULL; i++) {
		nearest_offer(&n, codec_at(i)->name);
		if (len < sizeof(known))
			len += (size_t)snprintf(known + len, sizeof(known) - len, ", %s", codec_at(i)->name);
	}
	if (nearest_best(&n) != NULL)
		return spot_error(spot, "unknown protocol \"%s\"; did you mean \"%s\"?", text, nearest_best(&n));
	return spot_error(spot, "unknown protocol \"%s\"; use one of %s", text, known);
}

const struct type type_protocol = { .form = "NAME", .parse = parse_protocol, .print = print_text };

/* --- heartbeat_send, heartbeat_expect, heartbeat_text --- */

static int
check_heartbeat(const uint8_t *data, size_t len, const char *text, bool is_line, const struct spot *spot)
{
	if (len == 0)
		return spot_error(spot, "%s is empty; write some bytes or remove the line", text);
	if (len > CODEC_HEARTBEAT_MAX)
		return spot_error(spot, "%zu bytes is too long; the limit is %d", len, CODEC_HEARTBEAT_MAX);
	/* Otherwise what the application sends next would continue the line. */
	if (is_line && data[len - 1] != '\n')
		return spot_error(spot, "%s does not end with a newline; write \\n at its end", text);
	return 0;
}

static int
parse_heartbeat(struct codec_bytes *bytes, const char *text, bool is_line, const struct spot *spot)
{
	uint8_t *data = malloc(strlen(text) + 1);	/* no escape is longer than it is written */
	size_t len;
	int r;

	if (data == NULL)
		return -ENOMEM;
	r = quote_unescape(data, &len, text, spot);
	if (r == 0)
		r = check_heartbeat(data, len, text, is_line, spot);
	if (r < 0) {
		free(data);
		return r;
	}
	*bytes = (struct codec_bytes){ .data = data, .len = len };
	return 0;
}

static int
parse_bytes(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	(void)k;
	return parse_heartbeat(field, text, false, spot);
}

static int
parse_line(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	(void)k;
	return parse_heartbeat(field, text, true, spot);
}

/* A client must find a comment in it, and nothing that it could take for an event. */
static int
check_comment(const uint8_t *data, size_t len, const char *text, const struct spot *spot)
{
	const uint8_t *end = memchr(data, '\n', len);

	if (len == 0 || data[0] != ':')
		return spot_error(spot, "%s does not begin with a colon, as a comment in an event stream does; write one such as "
		    "\":stent\\n\\n\"", text);
	for (size_t i = 0; i < len; i++)
		if (data[i] != '\n' && data[i] != '\t' && (data[i] < 0x20 || data[i] > 0x7e))
			return spot_error(spot, "%s contains a character that is not printable ASCII; remove it (\\n becomes what "
			    "ends the stream's own lines)", text);
	if (end == NULL)
		return spot_error(spot, "%s does not end with a newline; write \\n at its end", text);
	if ((size_t)(end - data) + 1 < len && !(len - (size_t)(end - data) == 2 && end[1] == '\n'))
		return spot_error(spot, "%s is more than a comment and an empty line; write one line, then \\n or \\n\\n", text);
	if (len > CODEC_COMMENT_MAX)
		return spot_error(spot, "%zu bytes is too long; the limit is %d", len, CODEC_COMMENT_MAX);
	return 0;
}

static int
parse_comment(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct codec_bytes bytes = { 0 };
	int r;

	(void)k;
	if (strcmp(text, "auto") == 0)
		return 0;
	bytes.data = malloc(strlen(text) + 1);
	if (bytes.data == NULL)
		return -ENOMEM;
	r = quote_unescape(bytes.data, &bytes.len, text, spot);
	if (r == 0)
		r = check_comment(bytes.data, bytes.len, text, spot);
	if (r < 0)
		free(bytes.data);
	else
		*(struct codec_bytes *)field = bytes;
	return r;
}

static void
print_bytes(const struct key *k, const void *field, FILE *out)
{
	const struct codec_bytes *bytes = field;

	(void)k;
	quote_print(bytes->data, bytes->len, out);
}

static bool
is_no_bytes(const void *field)
{
	return ((const struct codec_bytes *)field)->len == 0;
}

static void
print_comment(const struct key *k, const void *field, FILE *out)
{
	if (is_no_bytes(field))
		fputs("auto", out);
	else
		print_bytes(k, field, out);
}

const struct type type_comment = { .form = "TEXT", .parse = parse_comment, .print = print_comment };
const struct type type_bytes = {
	.form = "TEXT", .parse = parse_bytes, .print = print_bytes, .is_unset = is_no_bytes,
};
const struct type type_line = {
	.form = "TEXT", .parse = parse_line, .print = print_bytes, .is_unset = is_no_bytes,
};
