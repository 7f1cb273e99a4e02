/*
 * confined.c - tells a file that the sandbox does not allow from one that this user may not open.
 *
 * Landlock refuses with EACCES, as missing permissions do. But access(2) asks for permissions alone: a file that it grants and
 * that could not be opened is outside of the sandbox.
 */
#include "stent/confined.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static atomic_bool is_confined;

void
confined_begin(void)
{
	atomic_store(&is_confined, true);
}

static bool
may_create(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX] = ".";

	if (slash != NULL && (size_t)(slash - path) + 1 < sizeof(folder)) {
		memcpy(folder, path, (size_t)(slash - path) + 1);
		folder[slash - path + 1] = '\0';
	}
	return access(folder, W_OK | X_OK) == 0;
}

static bool
is_permitted(const char *path, int mode)
{
	if (access(path, mode) == 0)
		return true;
	return mode == W_OK && errno == ENOENT && may_create(path);
}

const char *
confined_error(int err, const char *path, int mode)
{
	if (err == EACCES && atomic_load(&is_confined) && is_permitted(path, mode))
		return "the sandbox allows only the folders that the settings named at the start; restart stent, or set sandbox = off";
	return strerror(err);
}
