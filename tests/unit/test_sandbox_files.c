/* test_sandbox_files.c - what a thread in the sandbox can do with files, sockets and ports: each attempt in a process of its own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/landlock.h"
#include "sandbox_child.h"
#include "stent/confined.h"
#include "stent/sandbox.h"

static char folder[] = "/tmp/test_sandbox.XXXXXX";

static char *
at(char buf[256], const char *name)
{
	snprintf(buf, 256, "%s/%s", folder, name);
	return buf;
}

static void
make_file(const char *name)
{
	char path[256];
	const int fd = open(at(path, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0123456789abcdef", 16), 16);
	close(fd);
}

static int
make_folders(void **state)
{
	static const char *const names[] = { "in", "log", "out", "linked" };
	char path[256], target[256];

	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	for (size_t i = 0; i < COUNT(names); i++)
		assert_int_equal(mkdir(at(path, names[i]), 0700), 0);
	make_file("in/settings");
	make_file("in/secret");
	make_file("in/unused");
	make_file("out/file");
	make_file("linked/real");
	make_file("log/stent.log");
	return symlink(at(target, "linked/real"), at(path, "in/link"));
}

static int
remove_folders(void **state)
{
	char command[300];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static int
open_error(const char *name, int flags)
{
	char path[256];

	return open(name[0] == '/' ? name : at(path, name), flags, 0600) >= 0 ? 0 : errno;
}

struct file_attempt {
	const char *name;
	int flags, expected;
};

static int
try_files(const void *arg)
{
	const struct file_attempt *a = arg;
	const int version = landlock_version(), set = landlock_new(version, false);
	char path[256];

	landlock_allow_replaced(set, at(path, "in/settings"), LANDLOCK_READ);
	landlock_allow_replaced(set, at(path, "in/link"), LANDLOCK_READ);
	landlock_allow_replaced(set, at(path, "log/stent.log"), LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_CREATE);
	if (set < 0 || landlock_enter(set) != 0)
		return BROKEN;
	return open_error(a->name, a->flags);
}

static void
test_files_outside_cannot_be_opened(void **state)
{
	static const struct file_attempt all[] = {
		{ "in/settings", O_RDONLY, 0 },
		{ "in/secret", O_RDONLY, 0 },		/* its folder is allowed, for files that take the place of others */
		{ "in/link", O_RDONLY, 0 },
		{ "in/settings", O_WRONLY, EACCES },
		{ "in/new", O_WRONLY | O_CREAT, EACCES },
		{ "out/file", O_RDONLY, EACCES },
		{ "out/file", O_WRONLY, EACCES },
		{ "out/new", O_WRONLY | O_CREAT, EACCES },
		{ "/etc/hostname", O_RDONLY, EACCES },
		{ "log/stent.log", O_WRONLY | O_APPEND, 0 },
		{ "log/new.log", O_WRONLY | O_CREAT | O_EXCL, 0 },
	};

	(void)state;
	if (landlock_version() < 1) {	/* what is in force then: test_sandbox_kernels.c */
		assert_true(landlock_new(landlock_version(), false) < 0);
		return;
	}
	for (size_t i = 0; i < COUNT(all); i++)
		assert_int_equal(outcome(try_files, &all[i]), all[i].expected);
}

/* --- the whole --- */

static struct config *
settings(void)
{
	char listen_on[300], secret[300], log[300], control[300];
	char *options[] = { secret, log, control };
	struct config *c;

	snprintf(listen_on, sizeof(listen_on), "unix:%s/in/listener", folder);
	snprintf(secret, sizeof(secret), "--admin_token=@%s/in/secret", folder);
	snprintf(log, sizeof(log), "--log=file:%s/log/stent.log", folder);
	snprintf(control, sizeof(control), "--control=off");
	assert_int_equal(config_from_args(&c, listen_on, "127.0.0.1:1", options, 3, stderr), 0);
	return c;
}

#ifndef SANDBOX_NOT_HERE

/* 0, or the line of what went otherwise. */
#define EXPECT(what) do { if (!(what)) return 1 + __LINE__ % 200; } while (0)

static int
bind_error(int family, const void *address, socklen_t len)
{
	const int fd = socket(family, SOCK_STREAM, 0);

	return bind(fd, address, len) == 0 ? 0 : errno;
}

static int
bind_unix(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char path[256];

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s", at(path, name));
	return bind_error(AF_UNIX, &sun, sizeof(sun));
}

static int
bind_port(uint16_t port)
{
	const struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return bind_error(AF_INET, &sin, sizeof(sin));
}

static int
unlink_error(const char *name)
{
	char path[256];

	return unlinkat(AT_FDCWD, at(path, name), 0) == 0 ? 0 : errno;
}

static int
as_main(const void *arg)
{
	const struct config *c = arg;
	struct sandbox *s = sandbox_new(c);
	char path[256];

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_MAIN);
	EXPECT(open_error("in/secret", O_RDONLY) == 0);
	EXPECT(open_error("log/stent.log", O_WRONLY | O_APPEND) == 0);
	EXPECT(open_error("log/1.log", O_WRONLY | O_CREAT) == 0);
	EXPECT(open_error("/etc/passwd", O_RDONLY) == 0);
	EXPECT(open_error("/proc/self/stat", O_RDONLY) == 0);
	EXPECT(open_error("/dev/null", O_RDWR) == 0);
	EXPECT(open_error("out/file", O_RDONLY) == EACCES);
	EXPECT(strstr(confined_error(EACCES, at(path, "out/file"), R_OK), "sandbox") != NULL);
	EXPECT(strstr(confined_error(EACCES, at(path, "out/new"), W_OK), "sandbox") != NULL);
	EXPECT(strcmp(confined_error(ENOENT, at(path, "out/none"), R_OK), strerror(ENOENT)) == 0);
	EXPECT(bind_unix("in/listener") == 0);
	EXPECT(unlink(at(path, "in/listener")) == 0);
	EXPECT(bind_unix("out/listener") == EACCES);
	EXPECT(bind_port(0) == 0);
	return 0;
}

static int
as_worker(const void *arg)
{
	struct sandbox *s = sandbox_new(arg);

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_WORKER);
	EXPECT(open_error("/etc/hosts", O_RDONLY) == 0);
	EXPECT(open_error("in/secret", O_RDONLY) == EACCES);
	EXPECT(open_error("log/stent.log", O_RDONLY) == EACCES);
	EXPECT(open_error("/proc/self/environ", O_RDONLY) == EACCES);
	EXPECT(unlink_error("in/unused") == 0);
	EXPECT(unlink_error("out/file") == EACCES);
	EXPECT(bind_port(0) == 0);
	EXPECT(landlock_version() == -ENOSYS);
	return 0;
}

static int
as_worker_with_port(const void *arg)
{
	struct sandbox *s = sandbox_new(arg);

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_WORKER);
	return bind_port(61234);
}

static int
as_log(const void *arg)
{
	struct sandbox *s = sandbox_new(arg);

	if (s == NULL)
		return BROKEN;
	sandbox_enter(s, SANDBOX_LOG);
	EXPECT(open_error("log/2.log", O_WRONLY | O_CREAT) == 0);
	EXPECT(open_error("in/secret", O_RDONLY) == EACCES);
	EXPECT(open_error("/etc/hosts", O_RDONLY) == EACCES);
	return 0;
}

#endif

static void
test_each_thread_has_what_the_settings_need(void **state)
{
	struct config *c = settings();

	(void)state;
	assert_true(c->sandbox);
#ifdef SANDBOX_NOT_HERE
	assert_null(sandbox_new(c));
#else
	if (landlock_version() >= 1) {	/* else: test_sandbox_kernels.c */
		assert_int_equal(outcome(as_main, c), 0);
		assert_int_equal(outcome(as_worker, c), 0);
		assert_int_equal(outcome(as_log, c), 0);
	}
	if (landlock_version() >= 4)
		assert_int_equal(outcome(as_worker_with_port, c), EACCES);
	c->sandbox = false;
	assert_null(sandbox_new(c));
#endif
	config_release(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_outside_cannot_be_opened),
		cmocka_unit_test(test_each_thread_has_what_the_settings_need),
	};

	return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
