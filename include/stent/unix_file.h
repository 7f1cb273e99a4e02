/*
 * unix_file.h - the file of a listening UNIX socket: created with its mode and
 * owner, distinguished from other users' files, and removed.
 */
#ifndef STENT_UNIX_FILE_H
#define STENT_UNIX_FILE_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

struct unix_access {
	mode_t mode;
	bool is_given;		/* to the user below; else the process keeps it */
	uid_t uid;
	gid_t gid;
};

/*
 * Binds fd to a path. A socket left over from a process that is gone is
 * replaced, unless another user may have created it. Changes the umask for a
 * moment: no other thread may create files then. 0, or -errno and *why says
 * what that means (a static string; NULL: what errno says).
 */
int unix_file_bind(int fd, const struct sockaddr_un *sun, socklen_t len, const struct unix_access *access,
    const char **why);

/*
 * While we drained, a new process may have created its own socket at the same
 * path, which must not be removed.
 */
struct unix_file {
	dev_t dev;
	ino_t ino;
};
void unix_file_remember(struct unix_file *f, const char *path);	/* right after it was bound */
/* Changes its mode, if it is still ours. 0 or -errno. */
int unix_file_set_mode(const struct unix_file *f, const char *path, mode_t mode);
void unix_file_remove(const struct unix_file *f, const char *path);

#endif
