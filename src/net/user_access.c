/*
 * user_access.c - may another user read a file?
 *
 * The kernel is asked, as modes alone do not tell (access lists, directories on
 * the way, mounts): this thread opens the file with that user's rights.
 * setfsuid() also takes the capabilities by which root may read everything. The
 * C library's setgroups() is for all threads, the system call for this one.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stent/user.h"

int
user_access(uid_t uid, gid_t gid, const char *path)
{
	gid_t groups[NGROUPS_MAX];
	const int n = getgroups(NGROUPS_MAX, groups);
	int fd, r = 0;

	if (n < 0 || syscall(SYS_setgroups, 0, NULL) != 0)
		return 0;	/* not root enough to know; then it cannot become that user either */
	setfsgid(gid);
	setfsuid(uid);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		r = -errno;
	else
		close(fd);
	setfsuid(geteuid());
	setfsgid(getegid());
	syscall(SYS_setgroups, (size_t)n, groups);
	return r;
}
