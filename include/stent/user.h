/*
 * user.h - from root to the user of the settings, for good.
 */
#ifndef STENT_USER_H
#define STENT_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* The user that root is given up to. False: nobody is to become another: user is NULL, root, or unknown, or we are not root. */
bool user_is_to_change(const char *user, uid_t *uid, gid_t *gid);

/*
 * What no thread may regain later: no program that is started gets more rights
 * than we have. With give_up_root the sets of capabilities that outlive a
 * change of the user (bounding, inheritable, ambient) are emptied, too. Each
 * thread has its own sets, so this comes before the first thread is started;
 * what root may do now it may do until user_become(). 0 or -errno.
 */
int user_confine(bool give_up_root);

/* Becomes the user, in all threads, without any supplementary group. 0 or -errno. */
int user_become(const char *user);

#endif
