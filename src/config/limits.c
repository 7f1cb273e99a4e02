/*
 * limits.c - who may connect: the types of allow, deny and accept_rate, and the
 * files that the first two name.
 *
 * A line of the settings is checked by itself when it is read. The files are
 * read once, at the end, so that an error in one of them has its own place, and
 * a reload takes them anew.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/make.h"
#include "config/units.h"
#include "stent/confined.h"
#include "stent/user.h"
#include "stent/utf8.h"

#define FILE_PREFIX "file:"
#define FILE_ERRORS_MAX 10		/* of one file that are told */
#define RATE_MAX 1000000

/* --- allow, deny --- */

static char *
trim(char *text)
{
	size_t len;

	text += strspn(text, " \t");
	for (len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]); len--)
		;
	text[len] = '\0';
	return text;
}

/* The path of an item that names a file; NULL: it is a network. */
static const char *
path_of(const char *item)
{
	const size_t len = strlen(FILE_PREFIX);

	return strncmp(item, FILE_PREFIX, len) == 0 ? item + len : NULL;
}

int
network_parse(struct cidr_range *ret, const char *item, const struct spot *spot)
{
	const char *why;

	if (*item == '\0')
		return spot_error(spot, "an item of the list is empty; write a network between the commas, or remove one");
	return cidr_parse(ret, item, &why) == 0 ? 0 : spot_error(spot, "\"%s\" %s", item, why);
}

static int
check_item(const char *item, const struct spot *spot)
{
	const char *path = path_of(item);
	struct cidr_range range;

	if (path != NULL)
		return strchr(path, '/') != NULL ? 0 : spot_error(spot, "\"%s\" has no path; write one such as file:/etc/stent/clients.txt", item);
	return network_parse(&range, item, spot);
}

int
each_item(const char *text, int (*visit)(const char *item, void *arg), void *arg)
{
	char *copy = strdup(text), *more = copy, *item;
	int r = 0;

	if (copy == NULL)
		return -ENOMEM;
	while (r == 0 && (item = strsep(&more, ",")) != NULL)
		r = visit(trim(item), arg);
	free(copy);
	return r;
}

struct checking {
	const struct spot *spot;
	char *list;			/* the items, as they are printed */
	int failed;
};

static int
check_and_keep(const char *item, void *arg)
{
	struct checking *c = arg;

	c->failed |= check_item(item, c->spot);
	strcat(strcat(c->list, *c->list != '\0' ? ", " : ""), item);
	return 0;			/* the other items are checked, too */
}

static int
parse_networks(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct checking c = { .spot = spot };
	int r;

	if (strcmp(text, k->words[0].name) == 0)
		return 0;
	c.list = calloc(2, strlen(text) + 1);	/* a blank after each comma */
	r = c.list != NULL ? each_item(text, check_and_keep, &c) : -ENOMEM;
	if (r == 0 && c.failed != 0)
		r = -EINVAL;
	if (r == 0)
		((struct network_list *)field)->text = c.list;
	else
		free(c.list);
	return r;
}

static void
print_networks(const struct key *k, const void *field, FILE *out)
{
	const struct network_list *list = field;

	utf8_print(list->text != NULL ? list->text : k->words[0].name, out);
}

const struct type type_networks = { .form = "NETWORK | file:PATH, ...", .parse = parse_networks, .print = print_networks };

/* --- their files --- */

/* A list that is being made, and the entry that it was written in. */
struct making {
	struct parsed *parsed;
	const struct entry *entry;
	const char *user;		/* that reads its files at a reload; NULL: the same */
	struct network_list *list;
};

static int
wrong(const struct making *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int
wrong(const struct making *m, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	errors_add(&m->parsed->errors, m->entry->line, "%s: %s", m->entry->name, text);
	return -EINVAL;
}

/* A line without its comment. 0, -EINVAL (*why says it) or -ENOMEM. */
static int
add_line(struct cidr_set *set, char *line, const char **why)
{
	struct cidr_range range;
	int r;

	line[strcspn(line, "#;")] = '\0';
	line = trim(line);
	if (*line == '\0')
		return 0;
	r = cidr_parse(&range, line, why);
	return r == 0 ? cidr_set_add(set, &range) : r;
}

static int
read_lines(const struct making *m, const char *path, FILE *f)
{
	const char *why;
	char *line = NULL;
	size_t room = 0;
	int r = 0, n_errors = 0;

	for (int n = 1; r != -ENOMEM && n_errors < FILE_ERRORS_MAX && getline(&line, &room, f) >= 0; n++) {
		r = add_line(&m->list->set, line, &why);
		if (r == -EINVAL) {
			wrong(m, "%s:%d: \"%.60s\" %s", path, n, trim(line), why);
			n_errors++;
		}
	}
	if (r != -ENOMEM && ferror(f))
		wrong(m, "%s: cannot be read: %s", path, strerror(errno));
	free(line);
	return r == -ENOMEM ? r : 0;
}

/* What is read now by root has to be read again by its user when the settings are loaded anew. */
static void
warn_of_rights(const struct making *m, const char *path)
{
	uid_t uid;
	gid_t gid;
	int r;

	if (!user_is_to_change(m->user, &uid, &gid))
		return;
	r = user_access(uid, gid, path);
	if (r < 0)
		errors_warn(&m->parsed->errors, m->entry->line, "%s: \"%s\" cannot be read by user %s: %s; a reload would fail, so give "
		    "that user the right to read it", m->entry->name, path, m->user, strerror(-r));
}

static int
read_file(const struct making *m, const char *path)
{
	struct stat st;
	FILE *f;
	int r;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return wrong(m, "\"%s\" is not a regular file; write the path of a file with a network on each line", path);
	f = fopen(path, "re");
	if (f == NULL)
		return wrong(m, "\"%s\" cannot be read: %s; write the path of a file with a network on each line", path,
		    confined_error(errno, path, R_OK));
	errors_note_file(&m->parsed->errors, path);
	warn_of_rights(m, path);
	r = read_lines(m, path, f);
	fclose(f);
	return r;
}

static int
add_item(const char *item, void *arg)
{
	const struct making *m = arg;
	const char *path = path_of(item), *why;
	struct cidr_range range;
	int r;

	if (path == NULL)
		return cidr_parse(&range, item, &why) == 0 ? cidr_set_add(&m->list->set, &range) : 0;
	r = read_file(m, path);
	return r == -ENOMEM ? r : 0;	/* every file's errors are told */
}

void
resolve_networks(struct route *r, struct parsed *d, const struct section *s)
{
	static const char *const names[] = { "allow", "deny" };
	struct network_list *const lists[] = { &r->allow, &r->deny };

	for (size_t i = 0; i < 2; i++) {
		const struct making m = { d, parsed_decides(d, s, key_find(names[i], SCOPE_ROUTE), CLIENT), r->config->user, lists[i] };

		if (lists[i]->text == NULL)
			continue;
		if (each_item(lists[i]->text, add_item, (void *)(uintptr_t)&m) == -ENOMEM)
			d->errors.failed = -ENOMEM;
		cidr_set_close(&lists[i]->set);
	}
}

/* --- limits without an effect --- */

static bool
has_only_unix_clients(const struct route *r)
{
	for (size_t i = 0; i < r->n_listen; i++)
		if (r->listen[i].kind != ENDPOINT_UNIX)
			return false;
	return r->n_listen > 0 && r->accept_proxy == ACCEPT_PROXY_OFF;
}

void
warn_of_limits(const struct route *r, struct parsed *d, const struct section *s)
{
	static const char *const names[] = { "allow", "deny", "max_flows_per_client", "accept_rate" };
	const bool is_set[] = { r->allow.text != NULL, r->deny.text != NULL, r->max_flows_per_client > 0, r->accept_rate.flows > 0 };
	const struct entry *e;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && has_only_unix_clients(r); i++) {
		e = is_set[i] ? parsed_own(d, s, names[i]) : NULL;
		if (e != NULL)
			errors_warn(&d->errors, e->line, "%s: has no effect, as clients of UNIX sockets have no address; say by unix_mode who may "
			    "connect, or remove this", e->name);
	}
	e = r->max_flows == 0 && r->when_full == WHEN_FULL_EVICT ? parsed_own(d, s, "when_full") : NULL;
	if (e != NULL)
		errors_warn(&d->errors, e->line, "when_full: has no effect without a max_flows of this route; write one, or when_full in [stent] for "
		    "the max_flows of the whole process");
}

/* --- accept_rate --- */

static const struct unit {
	const char *name;
	int64_t ms;
} units[] = { { "s", 1000 }, { "m", 60 * 1000 }, { "h", 60 * 60 * 1000 }, { NULL, 0 } };

static int
parse_number(int *ret, const char *text, const char *what, const struct spot *spot)
{
	char why[UNITS_WHY_MAX];
	int64_t n;

	if (count_parse(text, &n, why) < 0)
		return spot_error(spot, "the %s \"%s\" %s", what, text, why);
	if (n < 1 || n > RATE_MAX)
		return spot_error(spot, "the %s \"%s\" is out of range; write 1 to %d", what, text, RATE_MAX);
	*ret = (int)n;
	return 0;
}

/* N/UNIT or N/UNIT/BURST, in pieces of its copy. */
static int
read_rate(struct accept_rate *ret, char *text, const char *whole, const struct spot *spot)
{
	const char *flows = strsep(&text, "/"), *unit_name = strsep(&text, "/"), *burst = strsep(&text, "/");
	const struct unit *unit = units;
	int r;

	while (unit->name != NULL && (unit_name == NULL || strcmp(unit_name, unit->name) != 0))
		unit++;
	if (unit->name == NULL || text != NULL)
		return spot_error(spot, "\"%s\" is not a rate; write one such as 100/s, 20/m or 100/h, 10/s/50 with a burst of 50, or off", whole);
	ret->per_ms = unit->ms;
	r = parse_number(&ret->flows, flows, "number of flows", spot);
	ret->burst = ret->flows;
	if (r == 0 && burst != NULL)
		r = parse_number(&ret->burst, burst, "burst", spot);
	return r;
}

static int
parse_rate(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct accept_rate rate = { 0 };
	char *copy;
	int r = 0;

	copy = strdup(text);
	if (copy == NULL)
		return -ENOMEM;
	if (strcmp(text, k->words[0].name) != 0)
		r = read_rate(&rate, copy, text, spot);
	free(copy);
	if (r == 0)
		*(struct accept_rate *)field = rate;
	return r;
}

static void
print_rate(const struct key *k, const void *field, FILE *out)
{
	const struct accept_rate *rate = field;
	const struct unit *unit = units;

	if (rate->flows == 0) {
		fputs(k->words[0].name, out);
		return;
	}
	while (unit->ms != rate->per_ms)
		unit++;
	fprintf(out, "%d/%s", rate->flows, unit->name);
	if (rate->burst != rate->flows)
		fprintf(out, "/%d", rate->burst);
}

const struct type type_rate = { .form = "N/s | N/m | N/h, /BURST", .parse = parse_rate, .print = print_rate };
