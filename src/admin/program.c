/*
 * program.c - starts the program of on_event: with no descriptor but its standard input and /dev/null, a clean environment, no
 * signal ignored or blocked, and a process group of its own.
 */
#include "admin/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

/* What posix_spawn() is to do in the child. 0 or an errno. */
static int
prepare(posix_spawnattr_t *attr, posix_spawn_file_actions_t *files, int in)
{
	sigset_t all, none;
	int r = 0;

	sigfillset(&all);
	sigemptyset(&none);
	r |= posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	r |= posix_spawnattr_setpgroup(attr, 0);
	r |= posix_spawnattr_setsigdefault(attr, &all);
	r |= posix_spawnattr_setsigmask(attr, &none);
	r |= posix_spawn_file_actions_adddup2(files, in, STDIN_FILENO);
	r |= posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	r |= posix_spawn_file_actions_addopen(files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r |= posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
	r |= posix_spawn_file_actions_addchdir_np(files, "/");
	return r != 0 ? ENOMEM : 0;
}

int
program_start(pid_t *ret, const char *path, const char *kind, int in)
{
	char event[64], where[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", lang[] = "LANG=C.UTF-8";
	char *const env[] = { where, lang, event, NULL }, *const argv[] = { (char *)(uintptr_t)path, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int r;

	snprintf(event, sizeof(event), "STENT_EVENT=%s", kind);
	r = posix_spawnattr_init(&attr);
	if (r != 0)
		return r;
	r = posix_spawn_file_actions_init(&files);
	if (r == 0) {
		r = prepare(&attr, &files, in);
		if (r == 0)
			r = posix_spawn(ret, path, &files, &attr, argv, env);
		posix_spawn_file_actions_destroy(&files);
	}
	posix_spawnattr_destroy(&attr);
	if (r != 0)
		*ret = 0;
	return r;
}
