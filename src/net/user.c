/*
 * user.c - gives up root, and everything by which it could be regained.
 *
 * setuid() empties a thread's permitted, effective and ambient capabilities,
 * and the C library calls it in every thread. It leaves the inheritable and
 * the bounding set, which only matter to a program that is started. stent
 * starts none; should an attacker run code in it, no_new_privs disables
 * set-user-id bits and file capabilities for programs started by it.
 *
 * With PR_SET_KEEPCAPS the permitted set outlasts setuid(), so that one
 * capability can be raised again and the others dropped (source = client).
 */
#include "stent/user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

bool
user_is_to_change(const char *user, uid_t *uid, gid_t *gid)
{
	const struct passwd *pw = user != NULL && geteuid() == 0 ? getpwnam(user) : NULL;

	if (pw == NULL || pw->pw_uid == 0)
		return false;
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return true;
}

static int
read_capabilities(struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3])
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capget, &head, data) == 0 ? 0 : -errno;
}

bool
user_may_be_transparent(void)
{
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return read_capabilities(data) == 0 && (data[0].effective & (1u << CAP_NET_RAW | 1u << CAP_NET_ADMIN)) != 0;
}

int
user_keep_transparent(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int r = read_capabilities(data);
	uint32_t kept;

	if (r != 0)
		return r;
	kept = data[0].permitted & 1u << CAP_NET_RAW;
	if (kept == 0)
		kept = data[0].permitted & 1u << CAP_NET_ADMIN;
	memset(data, 0, sizeof(data));
	data[0].permitted = data[0].effective = kept;
	return syscall(SYS_capset, &head, data) == 0 ? 0 : -errno;
}

static int
empty_inheritable(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (read_capabilities(data) != 0)
		return -errno;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i].inheritable = 0;
	return syscall(SYS_capset, &head, data) == 0 ? 0 : -errno;
}

/* EINVAL: past the kernel's last capability. */
static int
empty_bounding(void)
{
	int there;

	for (unsigned long cap = 0; (there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0)) >= 0; cap++)
		if (there > 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
			return -errno;
	return 0;
}

int
user_confine(bool give_up_root, bool keeps)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	if (!give_up_root)
		return 0;
	/* A thread's own, as all of this: those that are started later inherit it. */
	if (keeps && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
		return -errno;
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	r = empty_inheritable();
	return r == 0 ? empty_bounding() : r;
}

int
user_become(const char *user)
{
	const struct passwd *pw;

	if (user == NULL || geteuid() != 0)
		return 0;
	errno = 0;
	pw = getpwnam(user);
	if (pw == NULL)
		return errno != 0 ? -errno : -ENOENT;
	if (pw->pw_uid == 0)
		return 0;
	if (setgroups(0, NULL) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
		return -errno;
	return 0;
}
