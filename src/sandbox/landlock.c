/*
 * landlock.c - sets of rules for files and TCP ports.
 *
 * The calls are made by number, with the kernel's structures written down here: the C library has none of them, and the
 * headers of a distribution may be older than the kernel.
 */
#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYS_CREATE_RULESET 444	/* the same on all architectures */
#define SYS_ADD_RULE 445
#define SYS_RESTRICT_SELF 446
#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH 1
#define RULE_NET_PORT 2
#define NET_BIND_TCP 1

/* Accesses to files, and the version that has them. */
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_REG (UINT64_C(1) << 8)
#define FS_MAKE_SOCK (UINT64_C(1) << 9)
#define FS_VERSION_1 ((UINT64_C(1) << 13) - 1)
#define FS_REFER (UINT64_C(1) << 13)		/* 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)		/* 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15)	/* 5 */
#define VERSION_PORTS 4
#define FS_OF_A_FILE (FS_WRITE_FILE | FS_READ_FILE)	/* the others are for folders alone */

struct ruleset {
	uint64_t files, ports;
};

struct path_beneath {
	uint64_t accesses;
	int32_t fd;
} __attribute__((packed));

struct net_port {
	uint64_t accesses, port;
};

int
landlock_version(void)
{
	const long r = syscall(SYS_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);

	return r >= 0 ? (int)r : -errno;
}

int
landlock_new(int version, bool limits_ports)
{
	struct ruleset set = { .files = FS_VERSION_1 };
	long fd;

	set.files |= version >= 2 ? FS_REFER : 0;
	set.files |= version >= 3 ? FS_TRUNCATE : 0;
	set.files |= version >= 5 ? FS_IOCTL_DEV : 0;
	set.ports = version >= VERSION_PORTS && limits_ports ? NET_BIND_TCP : 0;
	fd = syscall(SYS_CREATE_RULESET, &set, version >= VERSION_PORTS ? sizeof(set) : sizeof(set.files), 0);
	return fd >= 0 ? (int)fd : -errno;
}

static uint64_t
accesses_of(unsigned rights)
{
	uint64_t a = 0;

	a |= (rights & LANDLOCK_READ) != 0 ? FS_READ_FILE : 0;
	a |= (rights & LANDLOCK_LIST) != 0 ? FS_READ_DIR : 0;
	a |= (rights & LANDLOCK_WRITE) != 0 ? FS_WRITE_FILE : 0;
	a |= (rights & LANDLOCK_CREATE) != 0 ? FS_MAKE_REG : 0;
	a |= (rights & LANDLOCK_SOCKET) != 0 ? FS_MAKE_SOCK | FS_REMOVE_FILE : 0;
	return a;
}

void
landlock_allow(int set, const char *path, unsigned rights)
{
	struct path_beneath rule = { .accesses = accesses_of(rights), .fd = open(path, O_PATH | O_CLOEXEC) };
	struct stat st;

	if (rule.fd < 0)
		return;
	if (fstat(rule.fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.accesses &= FS_OF_A_FILE;
	/* It fails for what has no path, such as a pipe at /dev/stdout: Landlock does not limit those. */
	if (rule.accesses != 0)
		(void)syscall(SYS_ADD_RULE, set, RULE_PATH_BENEATH, &rule, 0);
	close(rule.fd);
}

/* A rule for "/" would allow everything: there, it is for the file alone. */
static void
allow_folder_of(int set, const char *path, unsigned rights)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX] = ".";

	if (slash == path) {
		landlock_allow(set, path, rights);
		return;
	}
	if (slash != NULL && (size_t)(slash - path) < sizeof(folder)) {
		memcpy(folder, path, (size_t)(slash - path));
		folder[slash - path] = '\0';
	}
	landlock_allow(set, folder, rights);
}

void
landlock_allow_replaced(int set, const char *path, unsigned rights)
{
	char target[PATH_MAX];

	allow_folder_of(set, path, rights);
	if (realpath(path, target) == NULL)
		return;
	if (strncmp(target, "/dev/", 5) == 0 || strncmp(target, "/proc/", 6) == 0)
		landlock_allow(set, target, rights);	/* a device, or a descriptor */
	else
		allow_folder_of(set, target, rights);
}

void
landlock_allow_port(int set, uint16_t port)
{
	const struct net_port rule = { .accesses = NET_BIND_TCP, .port = port };

	(void)syscall(SYS_ADD_RULE, set, RULE_NET_PORT, &rule, 0);
}

int
landlock_enter(int set)
{
	return syscall(SYS_RESTRICT_SELF, set, 0) == 0 ? 0 : -errno;
}
