/*
 * folder.h - the folder of a file that root is to make, open, own or remove,
 * found so that no other user of the machine decides which folder that is.
 */
#ifndef STENT_FOLDER_H
#define STENT_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

enum folder_end {
	FOLDER_NO_LINK,		/* the path's last name is taken as it is, a link or not */
	FOLDER_FOLLOW,		/* a link there is followed as those on the way are */
};

/*
 * Opens the folder of the file that path names (O_PATH), and writes the file's
 * name in it. A symbolic link is followed only where nobody but root and
 * ourselves could have put it. Descriptor or -errno; -ELOOP: a link that
 * another user could have put there (or too many).
 */
int folder_open(const char *path, enum folder_end end, char name[NAME_MAX + 1]);

/*
 * True when nobody but root and ourselves can put something else in the place
 * of an entry of the folder; st: the entry's own (lstat).
 */
bool folder_keeps(int folder, const struct stat *st);

/* True for /proc, whose links lead to what is open, with or without a name. */
bool folder_is_proc(int folder);

#endif
