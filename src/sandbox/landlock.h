/* landlock.h - sets of rules for files and TCP ports, by the kernel's calls; headers of older systems do not have them all. */
#ifndef STENT_SANDBOX_LANDLOCK_H
#define STENT_SANDBOX_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Rights for a file, or a folder and all below it. */
enum landlock_rights {
	LANDLOCK_READ = 1,	/* open files for reading */
	LANDLOCK_LIST = 2,	/* read folders */
	LANDLOCK_WRITE = 4,	/* open files for writing */
	LANDLOCK_CREATE = 8,	/* make regular files */
	LANDLOCK_SOCKET = 16,	/* make UNIX sockets, and remove files */
};

/* The version of Landlock in this kernel, or -errno: it has none. */
int landlock_version(void);
/* A new set, which refuses everything with files and, if the kernel can, binding any TCP port (limits_ports). Descriptor or -errno. */
int landlock_new(int version, bool limits_ports);
/* Without effect if path is not there. */
void landlock_allow(int set, const char *path, unsigned rights);
/* For the file at path, also when another takes its place: for its folder, and for that of a file that it links to. */
void landlock_allow_replaced(int set, const char *path, unsigned rights);
/* Binding a TCP socket to that port; 0: one that the kernel chooses. */
void landlock_allow_port(int set, uint16_t port);
/* For the calling thread, for good. 0 or -errno. */
int landlock_enter(int set);

#endif
