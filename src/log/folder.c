/*
 * folder.c - walks to the directory of a file, name by name.
 *
 * A user who can write to a directory can put a symbolic link into it at any
 * moment, also between a check and the next call. So each name is opened
 * without following links, and checked when it is open. A link is followed by
 * the same walk if it is in a directory that only root and ourselves can change:
 * such links are the administrator's (/var/run). The caller then works in the
 * open directory (openat() and the like), which a rename cannot replace.
 */
#include "stent/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LINKS_MAX 40	/* as in the kernel */

struct walk {
	int fd;			/* of the directory that was reached */
	int links;		/* followed */
	enum folder_end end;
	char rest[2 * PATH_MAX];	/* of the path, still to be walked */
};

static bool
is_trusted(uid_t user)
{
	return user == 0 || user == geteuid();
}

bool
folder_keeps(int folder, const struct stat *st)
{
	struct stat f;

	if (fstat(folder, &f) != 0 || !is_trusted(f.st_uid))
		return false;
	/* In a sticky directory, such as /tmp, others can only rename or remove their own files. */
	return (f.st_mode & (S_IWGRP | S_IWOTH)) == 0 || ((f.st_mode & S_ISVTX) != 0 && is_trusted(st->st_uid));
}

bool
folder_is_proc(int folder)
{
	struct statfs fs;

	return fstatfs(folder, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

static void
move_to(struct walk *w, int fd)
{
	close(w->fd);
	w->fd = fd;
}

/* Puts the target of a link before what is left of the path. 0 or -errno. */
static int
take_link(struct walk *w, int link, const struct stat *st)
{
	char target[PATH_MAX], rest[sizeof(w->rest)];
	ssize_t n;
	int root;

	if (!folder_keeps(w->fd, st) || ++w->links > LINKS_MAX)
		return -ELOOP;
	n = readlinkat(link, "", target, sizeof(target));
	if (n <= 0)
		return n < 0 ? -errno : -ENOENT;
	if ((size_t)n >= sizeof(target) || (size_t)n + 1 + strlen(w->rest) >= sizeof(rest))
		return -ENAMETOOLONG;
	snprintf(rest, sizeof(rest), "%.*s/%s", (int)n, target, w->rest);
	strcpy(w->rest, rest);
	if (target[0] != '/')
		return 0;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	move_to(w, root);
	return 0;
}

/* Walks one name of the path, a directory or a link. 0 or -errno. */
static int
step(struct walk *w, const char *name)
{
	const int fd = openat(w->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		r = -errno;
	else if (S_ISLNK(st.st_mode))
		r = take_link(w, fd, &st);
	else if (!S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r == 0 && !S_ISLNK(st.st_mode))
		move_to(w, fd);
	else
		close(fd);
	return r;
}

/* Takes the next name off the path. False: the path has ended. */
static bool
next_name(struct walk *w, char name[NAME_MAX + 1], bool *is_last)
{
	const char *begin = w->rest + strspn(w->rest, "/");
	const size_t len = strcspn(begin, "/");
	const char *more = begin + len + strspn(begin + len, "/");

	if (len == 0 || len > NAME_MAX)
		return false;
	memcpy(name, begin, len);
	name[len] = '\0';
	*is_last = *more == '\0';
	memmove(w->rest, more, strlen(more) + 1);
	return true;
}

/* The last name: true if it is a link to follow. */
static bool
is_link_to_follow(const struct walk *w, const char *name)
{
	struct stat st;

	/* Links in /proc cannot be walked: their target may have no name. */
	return w->end == FOLDER_FOLLOW && fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISLNK(st.st_mode) && !folder_is_proc(w->fd);
}

static int
walk(struct walk *w, char name[NAME_MAX + 1])
{
	bool is_last;
	int r;

	while (next_name(w, name, &is_last)) {
		if (is_last && !is_link_to_follow(w, name))
			return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ? -EISDIR : 0;
		r = step(w, name);
		if (r != 0)
			return r;
	}
	return *w->rest == '\0' ? -EISDIR : -ENAMETOOLONG;
}

int
folder_open(const char *path, enum folder_end end, char name[NAME_MAX + 1])
{
	struct walk w = { .end = end };
	int r;

	if (*path == '\0')
		return -ENOENT;
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(w.rest, path);
	w.fd = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w.fd < 0)
		return -errno;
	r = path[strlen(path) - 1] == '/' ? -EISDIR : walk(&w, name);
	if (r == 0)
		return w.fd;
	close(w.fd);
	return r;
}
