/* sandbox_child.h - an attempt in a process of its own, which the sandbox may end. Behind the headers of cmocka. */
#ifndef SANDBOX_CHILD_H
#define SANDBOX_CHILD_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define DIES (-1)	/* of SIGSYS */
#define BROKEN 255	/* the test could not be made */

/* What became of a child that calls fn: DIES, 0, or the errno that it ends with. */
static inline int
outcome(int (*fn)(const void *arg), const void *arg)
{
	const pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
			_exit(BROKEN);
		_exit(fn(arg));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return DIES;
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), BROKEN);
	return WEXITSTATUS(status);
}

#endif
