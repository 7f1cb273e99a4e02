/*
 * options.c - from the words of the command line to which connections are redirected.
 */
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <mntent.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "redirect/rules.h"

#define WORD_MAX 128

__attribute__((format(printf, 2, 3)))
static int
wrong(char why[REDIRECT_WHY_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, REDIRECT_WHY_MAX, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* A number from 0 to most, and nothing behind it. */
static bool
read_number(const char *text, unsigned long most, unsigned long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoul(text, &end, 10);
	return isdigit((unsigned char)text[0]) && *end == '\0' && errno == 0 && *ret <= most;
}

static bool
read_port(const char *text, uint16_t *ret)
{
	unsigned long n;

	if (!read_number(text, UINT16_MAX, &n) || n == 0)
		return false;
	*ret = (uint16_t)n;
	return true;
}

/* Takes one word of a list. 0 or -EINVAL. */
typedef int take_fn(struct redirect *r, const char *word, char why[REDIRECT_WHY_MAX]);

static int
each_word(struct redirect *r, const char *list, const char *option, take_fn *take, char why[REDIRECT_WHY_MAX])
{
	int result = 0;

	while (list != NULL && result == 0) {
		const size_t len = strcspn(list, ",");
		char word[WORD_MAX];

		if (len == 0 || len >= sizeof(word))
			return wrong(why, "%s: an item of the list is %s", option, len == 0 ? "empty" : "too long");
		memcpy(word, list, len);
		word[len] = '\0';
		result = take(r, word, why);
		list = list[len] == ',' ? list + len + 1 : NULL;
	}
	return result;
}

static int
too_many(const char *option, char why[REDIRECT_WHY_MAX])
{
	return wrong(why, "%s: more than %d; write ranges or larger networks", option, REDIRECT_LIST_MAX);
}

static int
take_port(struct redirect *r, const char *word, char why[REDIRECT_WHY_MAX])
{
	struct redirect_ports p;
	char first[WORD_MAX];
	const char *dash = strchr(word, '-');

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(word, "-"), word);
	if (!read_port(first, &p.first) || !read_port(dash != NULL ? dash + 1 : first, &p.last) || p.last < p.first)
		return wrong(why, "--port: \"%s\" is not a port; write 1 to 65535, or a range such as 5432-5439", word);
	if (r->n_ports == REDIRECT_LIST_MAX)
		return too_many("--port", why);
	r->ports[r->n_ports++] = p;
	return 0;
}

static int
take_network(struct cidr_range list[REDIRECT_LIST_MAX], size_t *n, const char *option, const char *word, char why[REDIRECT_WHY_MAX])
{
	const char *problem;

	if (*n == REDIRECT_LIST_MAX)
		return too_many(option, why);
	if (cidr_parse(&list[*n], word, &problem) != 0)
		return wrong(why, "%s: \"%s\" %s", option, word, problem);
	(*n)++;
	return 0;
}

static int
take_cidr(struct redirect *r, const char *word, char why[REDIRECT_WHY_MAX])
{
	return take_network(r->cidrs, &r->n_cidrs, "--cidr", word, why);
}

static int
take_except(struct redirect *r, const char *word, char why[REDIRECT_WHY_MAX])
{
	return take_network(r->excepts, &r->n_excepts, "--except", word, why);
}

static int
take_uid(struct redirect *r, const char *word, char why[REDIRECT_WHY_MAX])
{
	const struct passwd *pw = isdigit((unsigned char)word[0]) ? NULL : getpwnam(word);
	unsigned long n;

	if (pw == NULL && !read_number(word, UINT32_MAX - 1UL, &n))
		return wrong(why, "--uid: no user \"%s\" here; write its number, or another name", word);
	if (r->n_uids == REDIRECT_LIST_MAX)
		return too_many("--uid", why);
	r->uids[r->n_uids++] = pw != NULL ? pw->pw_uid : (uint32_t)n;
	return 0;
}

static int
take_gid(struct redirect *r, const char *word, char why[REDIRECT_WHY_MAX])
{
	const struct group *gr = isdigit((unsigned char)word[0]) ? NULL : getgrnam(word);
	unsigned long n;

	if (gr == NULL && !read_number(word, UINT32_MAX - 1UL, &n))
		return wrong(why, "--gid: no group \"%s\" here; write its number, or another name", word);
	if (r->n_gids == REDIRECT_LIST_MAX)
		return too_many("--gid", why);
	r->gids[r->n_gids++] = gr != NULL ? gr->gr_gid : (uint32_t)n;
	return 0;
}

/* Where the unified hierarchy of cgroups is mounted. */
static bool
find_cgroups(char ret[PATH_MAX])
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	const struct mntent *m;
	bool is_found = false;

	while (mounts != NULL && !is_found && (m = getmntent(mounts)) != NULL)
		if (strcmp(m->mnt_type, "cgroup2") == 0) {
			snprintf(ret, PATH_MAX, "%s", m->mnt_dir);
			is_found = true;
		}
	if (mounts != NULL)
		endmntent(mounts);
	return is_found;
}

/* The kernel knows a cgroup by the inode number of its folder, and its depth. */
static int
read_cgroup(struct redirect *r, const char *text, char why[REDIRECT_WHY_MAX])
{
	char path[PATH_MAX], full[2 * PATH_MAX];
	struct stat st;

	text += strspn(text, "/");
	if (snprintf(r->cgroup_path, sizeof(r->cgroup_path), "%s", text) >= (int)sizeof(r->cgroup_path))
		return wrong(why, "--cgroup: the path is too long");
	if (!find_cgroups(path))
		return wrong(why, "--cgroup: no cgroup2 file system is mounted here; use --uid or --gid");
	snprintf(full, sizeof(full), "%s/%s", path, text);
	if (*text == '\0' || stat(full, &st) != 0)
		return wrong(why, "--cgroup: %s: %s; write a path below %s, such as system.slice/stent.service", full,
		    *text == '\0' ? "the root holds all programs" : strerror(errno), path);
	r->cgroup = st.st_ino;
	for (const char *part = text; *part != '\0'; part += strspn(part, "/")) {
		part += strcspn(part, "/");
		r->cgroup_level++;
	}
	return 0;
}

int
redirect_read_name(struct redirect *r, const char *name, char why[REDIRECT_WHY_MAX])
{
	if (name == NULL)
		name = REDIRECT_NAME;
	if (!isalpha((unsigned char)name[0]) || strlen(name) >= sizeof(r->name) ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != strlen(name))
		return wrong(why, "--name: \"%s\" is no name of a table; write at most %d letters, digits, - and _, a letter first", name,
		    REDIRECT_NAME_MAX - 1);
	snprintf(r->name, sizeof(r->name), "%s", name);
	return 0;
}

static void
add_option(struct redirect *r, const char *option, const char *value)
{
	const size_t len = strlen(r->text);
	int n = 0;

	if (value != NULL)
		n = snprintf(r->text + len, sizeof(r->text) - len, "%s%s%s%s", len > 0 ? " " : "", option, *value != '\0' ? " " : "", value);
	if (n >= (int)(sizeof(r->text) - len))
		redirect_mark_cut(r->text);
}

static void
write_text(struct redirect *r, const struct redirect_words *w)
{
	add_option(r, "--port", w->port);
	add_option(r, "--to", w->to);
	add_option(r, "--cidr", w->cidr);
	add_option(r, "--except", w->except);
	add_option(r, "--uid", w->uid);
	add_option(r, "--gid", w->gid);
	add_option(r, "--cgroup", w->cgroup);
	add_option(r, "--mode", w->mode);
	add_option(r, "--in", r->in ? "" : NULL);
	add_option(r, "--out", r->out ? "" : NULL);
}

static int
check_together(const struct redirect *r, char why[REDIRECT_WHY_MAX])
{
	const size_t rules = (r->n_ports > 0 ? r->n_ports : 1) * (r->n_cidrs > 0 ? r->n_cidrs : 1);

	if (r->to == 0)
		return wrong(why, "--to is missing: the port that stent listens on, as in --to 6432");
	if (r->n_ports == 0 && r->n_cidrs == 0)
		return wrong(why, "--port or --cidr is missing: the connections to redirect, as in --port 5432 (all: --port 1-65535)");
	if (r->out && r->n_uids == 0 && r->n_gids == 0 && r->cgroup == 0)
		return wrong(why, "--uid is missing: the user that stent runs as, as in --uid 65534, whose own connections must not be "
		    "redirected to it again; or --gid, --cgroup. Or --in, for connections of other machines only");
	if (!r->out && (r->n_uids > 0 || r->n_gids > 0 || r->cgroup != 0))
		return wrong(why, "--in alone: connections of other machines have no --uid, --gid or --cgroup here; remove them, or add --out");
	if (rules > REDIRECT_RULES_MAX)
		return wrong(why, "--port and --cidr make %zu rules, more than %d; write ranges or larger networks", rules, REDIRECT_RULES_MAX);
	return 0;
}

int
redirect_read(struct redirect *r, const struct redirect_words *w, char why[REDIRECT_WHY_MAX])
{
	int result;

	memset(r, 0, sizeof(*r));
	r->in = w->in;
	r->out = w->out || !w->in;
	r->is_tproxy = w->mode != NULL && strcmp(w->mode, "tproxy") == 0;
	write_text(r, w);
	result = redirect_read_name(r, w->name, why);
	if (result == 0 && w->to != NULL && !read_port(w->to, &r->to))
		result = wrong(why, "--to: \"%s\" is not a port; write 1 to 65535", w->to);
	if (result == 0)
		result = each_word(r, w->port, "--port", take_port, why);
	if (result == 0)
		result = each_word(r, w->cidr, "--cidr", take_cidr, why);
	if (result == 0)
		result = each_word(r, w->except, "--except", take_except, why);
	if (result == 0)
		result = each_word(r, w->uid, "--uid", take_uid, why);
	if (result == 0)
		result = each_word(r, w->gid, "--gid", take_gid, why);
	if (result == 0 && w->cgroup != NULL)
		result = read_cgroup(r, w->cgroup, why);
	return result == 0 ? check_together(r, why) : result;
}
