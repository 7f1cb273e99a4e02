/*
 * folder.h - opens the folder of a file that root is to create, open, own or
 * remove, so that no other user can redirect it elsewhere.
 */
#ifndef STENT_FOLDER_H
#define STENT_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

enum folder_end {
	FOLDER_NO_LINK,		/* the last name of the path is not followed if it is a link */
	FOLDER_FOLLOW,		/* it is followed, as links before it are */
};

/*
 * Opens the folder of the file that path names (O_PATH), and writes the file's
 * name in it. A symbolic link is followed only where nobody but root and
 * ourselves could have created it. Descriptor or -errno; -ELOOP: a link that
 * another user could have created (or too many).
 */
int folder_open(const char *path, enum folder_end end, char name[NAME_MAX + 1]);

/*
 * True if nobody but root and ourselves can replace an entry of the folder; st:
 * of that entry (lstat).
 */
bool folder_keeps(int folder, const struct stat *st);

/* True for /proc, whose links lead to open files, with or without a name. */
bool folder_is_proc(int folder);

#endif
