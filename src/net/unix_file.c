/*
 * unix_file.c - the file of a listening UNIX socket.
 *
 * The directory may belong to another user, who can replace our file at any
 * moment. So mode and owner are not set by path: bind() creates the file with
 * the umask and the file system user id of this thread, and with that user's
 * permissions. Where only root may create files, in a directory that no other
 * user can change, the file is given to the user afterwards. Elsewhere it stays
 * root's, and a warning says so.
 */
#include "stent/unix_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stent/confined.h"
#include "stent/folder.h"
#include "stent/log.h"

static int
fail(int err, const char *text, const char **why)
{
	*why = text;
	return -err;
}

/* 0: nobody listens on it any more. */
static int
try_connect(const struct sockaddr_un *sun, socklen_t len, const char **why)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)sun, len) != 0)
		err = errno;
	close(fd);
	if (err == ECONNREFUSED || err == ENOENT)
		return 0;
	if (err == EACCES || err == EPERM)
		return fail(EACCES, "another user's socket is there, and permission to connect to it is denied: it is in use or "
		    "stale (see `ss -xl`); remove it if stale, or name another path", why);
	return fail(EADDRINUSE, "address already in use", why);
}

/* Removes a socket left over from a process that is gone; not one in use, nor another user's. */
static int
clear_stale(int folder, const char *name, const struct sockaddr_un *sun, socklen_t len, const struct unix_access *access,
    const char **why)
{
	struct stat st, again;
	int r;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return fail(EEXIST, "a file that is not a socket is in the way", why);
	r = try_connect(sun, len, why);
	if (r != 0)
		return r;
	if (st.st_uid != geteuid() && !(access->is_given && st.st_uid == access->uid) && !folder_keeps(folder, &st))
		return fail(EEXIST, "another user's socket is there, though nothing listens on it; remove it if it is stale, "
		    "or name another path", why);
	if (fstatat(folder, name, &again, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (again.st_dev != st.st_dev || again.st_ino != st.st_ino)
		return fail(EBUSY, "another process is changing the path at this moment; try again", why);
	if (unlinkat(folder, name, 0) != 0)
		return fail(errno, "a stale socket is there, and permission to remove it is denied", why);
	return 0;
}

/* bind() with the file system's ids of the user. False: without the right to change them. */
static bool
bind_as_user(int fd, const struct sockaddr_un *sun, socklen_t len, const struct unix_access *access, int *ret)
{
	const int uid = setfsuid(access->uid), gid = setfsgid(access->gid);
	const bool is_user = (uid_t)setfsuid((uid_t)-1) == access->uid && (gid_t)setfsgid((gid_t)-1) == access->gid;

	if (is_user)
		*ret = bind(fd, (const struct sockaddr *)sun, len) == 0 ? 0 : -errno;
	setfsgid((gid_t)gid);
	setfsuid((uid_t)uid);
	return is_user;
}

static int
bind_with_mode(int fd, const struct sockaddr_un *sun, socklen_t len, const struct unix_access *access,
    const char **why)
{
	const mode_t before = umask(0777 & ~access->mode);
	int r = -EACCES;

	if (access->is_given && !bind_as_user(fd, sun, len, access, &r))
		r = -EACCES;
	if (r == -EACCES)
		r = bind(fd, (const struct sockaddr *)sun, len) == 0 ? 0 : -errno;
	umask(before);
	if (r == -EACCES) {
		*why = confined_error(EACCES, sun->sun_path, W_OK);
		if (strcmp(*why, strerror(EACCES)) == 0)
			*why = NULL;
	}
	return r;
}

/* Gives the user a file that root created because the user was not permitted to. */
static void
give(int folder, const char *name, const struct stat *st, const struct unix_access *access, const char *path)
{
	if (folder_keeps(folder, st) && fchownat(folder, name, access->uid, access->gid, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	log_say(LEVEL_WARN, "unix:%s is owned by root: its directory belongs to neither root nor the user in the settings; "
	    "give it to that user", path);
}

int
unix_file_bind(int fd, const struct sockaddr_un *sun, socklen_t len, const struct unix_access *access, const char **why)
{
	char name[NAME_MAX + 1];
	int folder, r;
	struct stat st;

	*why = NULL;
	folder = folder_open(sun->sun_path, FOLDER_NO_LINK, name);
	if (folder == -ELOOP)
		return fail(ELOOP, "the path leads through a symbolic link that another user can change; write the path without it", why);
	if (folder < 0)
		return folder;
	r = clear_stale(folder, name, sun, len, access, why);
	if (r == 0)
		r = bind_with_mode(fd, sun, len, access, why);
	/* It was created by bind() just now, unless a directory of the path was replaced. */
	if (r == 0 && (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISSOCK(st.st_mode)))
		r = fail(EBUSY, "another process is changing the path at this moment; try again", why);
	else if (r == 0 && access->is_given && st.st_uid != access->uid)
		give(folder, name, &st, access, sun->sun_path);
	close(folder);
	return r;
}

void
unix_file_remember(struct unix_file *f, const char *path)
{
	struct stat st = { 0 };

	(void)lstat(path, &st);		/* on failure inode 0, which no file has: nothing is removed later */
	*f = (struct unix_file){ st.st_dev, st.st_ino };
}

void
unix_file_remove(const struct unix_file *f, const char *path)
{
	char name[NAME_MAX + 1];
	const int folder = folder_open(path, FOLDER_NO_LINK, name);
	struct stat st;

	if (folder < 0)
		return;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == f->dev && st.st_ino == f->ino)
		(void)unlinkat(folder, name, 0);
	close(folder);
}

int
unix_file_set_mode(const struct unix_file *f, const char *path, mode_t mode)
{
	char name[NAME_MAX + 1], link[64];
	const int folder = folder_open(path, FOLDER_NO_LINK, name);
	int fd, r = -ENOENT;
	struct stat st;

	if (folder < 0)
		return folder;
	fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);	/* fchmod() refuses O_PATH */
		r = chmod(link, mode) == 0 ? 0 : -errno;
	}
	if (fd >= 0)
		close(fd);
	close(folder);
	return r;
}
