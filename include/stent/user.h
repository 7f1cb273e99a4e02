/*
 * user.h - from root to the user of the settings, for good.
 */
#ifndef STENT_USER_H
#define STENT_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* The user to change to. False: stay as we are, since user is NULL, root or unknown, or we are not root. */
bool user_is_to_change(const char *user, uid_t *uid, gid_t *gid);

/* Whether that user, without supplementary groups, may read a file: 0 or -errno. Only for root; from any thread. */
int user_access(uid_t uid, gid_t gid, const char *path);

/*
 * Sets no_new_privs. With give_up_root, also empties the capability sets that
 * survive a change of the user (bounding, inheritable, ambient). Each thread has
 * its own, so this comes before the first thread is started. Root keeps its
 * effective capabilities until user_become(). keeps: permitted ones outlast the
 * change of the user, for user_keep_transparent(). 0 or -errno.
 */
int user_confine(bool give_up_root, bool keeps);

/* This thread has a capability that allows addresses of other machines (transparent.h). */
bool user_may_be_transparent(void);
/* Leaves such a capability to this thread, CAP_NET_RAW before CAP_NET_ADMIN, and no other. 0 or -errno. */
int user_keep_transparent(void);

/* Becomes the user, in all threads, without any supplementary group. 0 or -errno. */
int user_become(const char *user);

#endif
